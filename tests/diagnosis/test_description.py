"""What a diagnosis says, and what it says when it fails itself."""

from __future__ import annotations

import keras
import pytest

import keras_torch_convert as ktc
from keras_torch_convert.api import verification
from keras_torch_convert.diagnosis.description import (RAISE_INTERNAL_ERRORS, InternalFault,
                                                       internal_error)
from keras_torch_convert.diagnosis.diagnosis import Diagnosis
from tests.helpers.fault_pairs import maps


def test_an_internal_error_is_raised_where_the_environment_asks() -> None:
    with pytest.raises(InternalFault, match="place"):
        internal_error(KeyError("place"))


def test_an_internal_error_is_one_note_for_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(RAISE_INTERNAL_ERRORS)
    said = internal_error(ValueError("operands could not be broadcast"))
    assert said == ("internal error in the diagnosis, please report it: ValueError: operands could "
                    "not be broadcast")


@pytest.mark.parametrize("raises", [True, False])
def test_a_failure_of_the_diagnosis_is_seen(monkeypatch: pytest.MonkeyPatch, raises: bool) -> None:
    def fail(self: Diagnosis, limit: object) -> None:
        raise IndexError("list index out of range")

    pair = maps(keras)
    pair.keras_model.get_layer("norm1").epsilon = 0.5
    monkeypatch.setattr(verification.Diagnosis, "result", fail)
    if raises:
        with pytest.raises(InternalFault, match="out of range"):
            ktc.verify(pair.torch_module, pair.keras_model, plan=pair.plan, sample=pair.sample)
        return
    monkeypatch.delenv(RAISE_INTERNAL_ERRORS)
    result = ktc.verify(pair.torch_module, pair.keras_model, plan=pair.plan, sample=pair.sample)
    assert result.equal is False
    assert [note for note in result.notes if "internal error in the diagnosis" in note]
