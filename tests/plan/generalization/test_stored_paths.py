"""Paths in files of sizes that were never built."""

from __future__ import annotations

from dataclasses import replace

import pytest

import keras_torch_convert as ktc
from keras_torch_convert.keras_io.model import read_target
from keras_torch_convert.keras_io.record_layout import record_layout
from keras_torch_convert.plan.generalization.names import Name, target_names
from keras_torch_convert.plan.generalization.stored_paths import StoredForm, stored_paths
from tests.helpers.mixers import keras_mixer, torch_mixer

torch = pytest.importorskip("torch")
keras = pytest.importorskip("keras")


def test_paths_are_those_that_keras_writes_in_every_depth() -> None:
    model = keras_mixer(2, 6)
    plan = ktc.align(torch_mixer(2, 6).state_dict(), model, accept_unproven=True)
    family = plan.generalize()
    assert family.files[:1] == (StoredForm("stem/kernel", "layers/dense:1/vars/0", "float32", 0),)
    for layers in (1, 2, 12):
        target = read_target(keras_mixer(layers, 6))
        layout = record_layout(target).weights
        assert layout is not None
        expected = {array.key: array.path.strip("/") for array in layout.arrays}
        names = target_names({key: one.spec for key, one in target.variables.items()})
        found = stored_paths(family.files, names.values())
        assert {key: found[name] for key, name in names.items()} == expected
    assert replace(plan, layout=None).generalize().files == ()


def test_layers_of_one_class_are_counted_within_their_parent() -> None:
    forms = tuple(
        StoredForm(target, path, "float32", run)
        for target, path, run in (("stem/kernel", "layers/dense:1/vars/0", 0),
                                  ("stage_{}/first/kernel", "stages/stage:1/layers/dense:2/vars/0",
                                   1), ("stage_{}/block_{}/kernel",
                                        "stages/stage:1/layers/dense:2/vars/0", 1),
                                  ("head/kernel", "layers/dense:1/vars/0", 2)))
    names = [
        Name("head/kernel", ()),
        Name("stage_{}/block_{}/kernel", (1, 0)),
        Name("stage_{}/block_{}/kernel", (0, 10)),
        Name("stage_{}/block_{}/kernel", (0, 9)),
        Name("stage_{}/first/kernel", (0,)),
        Name("stem/kernel", ())
    ]
    assert [stored_paths(forms, names)[name] for name in names] == [
        "layers/dense_1/vars/0", "stages/stage_1/layers/dense/vars/0",
        "stages/stage/layers/dense_2/vars/0", "stages/stage/layers/dense_1/vars/0",
        "stages/stage/layers/dense/vars/0", "layers/dense/vars/0"
    ]
