"""Diagnosis on Keras 2 and on TensorFlow, each in a process of its own."""

from __future__ import annotations

import pytest

from tests.helpers.fresh_process import answer_of


@pytest.mark.slow
@pytest.mark.keras2
@pytest.mark.parametrize(("module", "backend"), [("keras", "tensorflow"),
                                                 ("tf_keras", "tensorflow")])
def test_seeded_faults_are_named_on_other_backends(module: str, backend: str) -> None:
    answers = answer_of("diagnose_seeded.py", module, KERAS_BACKEND=backend,
                        TF_USE_LEGACY_KERAS="1")
    assert len(answers) > 10
    for pair, fault, said in answers:
        assert said == ("equal" if fault == "none" else "exact"), f"{pair}, {fault}: {said}"
