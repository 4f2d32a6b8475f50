"""One Plan on many checkpoints: the first is checked, the others only compared with it, and nothing
of one gets into another's file.
"""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from keras_torch_convert import PlanCache, apply
from keras_torch_convert.errors import TransferError
from keras_torch_convert.plan.expressions import Add, Permute, Tensor, tensors_of
from keras_torch_convert.plan.plan import Plan
from keras_torch_convert.plan.recipe import Assignment
from keras_torch_convert.spec.file_layout import (FileLayout, StoredArray, StoredAttribute,
                                                  StoredGroup, TargetLayout)
from keras_torch_convert.spec.tensor_spec import TensorSpec
from keras_torch_convert.torch_io.reader import read


def plan_of(expression: Permute | Add) -> Plan:
    names = StoredAttribute("weight_names", "|S12", ("dense/kernel",))
    array = StoredArray("/model_weights/dense/dense/kernel", (3, 2), "<f4", "dense")
    groups = (StoredGroup("/", (StoredAttribute("model_config", "text", "{}"),)),
              StoredGroup("/model_weights/dense", (names,)))
    return Plan((Assignment("dense", expression, "kernel"),), sources={
        name: TensorSpec((2, 3), "float32", name) for name in tensors_of(expression)
    }, targets={"dense": TensorSpec((3, 2), "float32", "dense/kernel")},
                layout=TargetLayout("keras", "3", legacy=FileLayout(groups, (array,))))


def checkpoint(path: Path, **tensors: np.ndarray) -> Path:
    np.savez(path, **tensors)
    return path


def written(plan: Plan, source: Path, path: Path, cache: PlanCache) -> np.ndarray:
    apply(plan, source, path, cache=cache)
    with h5py.File(path) as file:
        return np.asarray(file["model_weights/dense/dense/kernel"])


def test_the_second_checkpoint_is_not_checked_again_and_its_own_values_are_written(
        tmp_path: Path) -> None:
    plan = plan_of(Permute(Tensor("w"), (1, 0)))
    cache = PlanCache()
    first, second = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones((2, 3), np.float32)
    assert cache.find(plan, read(checkpoint(tmp_path / "1.npz", w=first)), True) is None
    np.testing.assert_array_equal(written(plan, tmp_path / "1.npz", tmp_path / "1.h5", cache),
                                  first.T)
    assert cache.find(plan, read(checkpoint(tmp_path / "2.npz", w=second)), True) is not None
    np.testing.assert_array_equal(written(plan, tmp_path / "2.npz", tmp_path / "2.h5", cache),
                                  second.T)
    np.testing.assert_array_equal(written(plan, tmp_path / "1.npz", tmp_path / "1.h5", cache),
                                  first.T)


@pytest.mark.parametrize("tensors", [{"w": np.ones(
    (3, 2), np.float32)}, {"v": np.ones(
        (2, 3), np.float32)}, {"w": np.ones((2, 3), np.float32), "v": np.ones((5, 5), np.float32)}],
                         ids=["shape", "name", "more"])
def test_a_checkpoint_of_other_tensors_is_checked_anew(tmp_path: Path,
                                                       tensors: dict[str, np.ndarray]) -> None:
    plan = plan_of(Permute(Tensor("w"), (1, 0)))
    cache = PlanCache()
    written(plan, checkpoint(tmp_path / "1.npz", w=np.zeros((2, 3), np.float32)), tmp_path / "1.h5",
            cache)
    other = checkpoint(tmp_path / "2.npz", **tensors)
    assert cache.find(plan, read(other), True) is None
    with pytest.raises(TransferError):
        apply(plan, other, tmp_path / "2.h5", cache=cache)


def test_a_plan_whose_checks_look_at_values_is_always_checked(tmp_path: Path) -> None:
    plan = plan_of(Add((Permute(Tensor("a"), (1, 0)), Permute(Tensor("b"), (1, 0)))))
    cache = PlanCache()
    large = np.full((2, 3), 3e38, np.float32)
    small = np.ones((2, 3), np.float32)
    written(plan, checkpoint(tmp_path / "1.npz", a=small, b=small), tmp_path / "1.h5", cache)
    assert cache.find(plan, read(tmp_path / "1.npz"), True) is None
    with pytest.raises(TransferError, match="infinite"):
        apply(plan, checkpoint(tmp_path / "2.npz", a=large, b=large), tmp_path / "2.h5",
              cache=cache)
    assert not (tmp_path / "2.h5").exists()


def test_another_type_is_cast_and_told(tmp_path: Path) -> None:
    plan = plan_of(Permute(Tensor("w"), (1, 0)))
    cache = PlanCache()
    written(plan, checkpoint(tmp_path / "1.npz", w=np.ones((2, 3), np.float32)), tmp_path / "1.h5",
            cache)
    wide = checkpoint(tmp_path / "2.npz", w=np.full((2, 3), 1 / 3))
    assert cache.find(plan, read(wide), True) is None
    assert any("float64" in warning
               for warning in apply(plan, wide, tmp_path / "2.h5", cache=cache).warnings)


def test_a_cache_is_its_owners_alone(tmp_path: Path) -> None:
    plan = plan_of(Permute(Tensor("w"), (1, 0)))
    cache = PlanCache()
    first = checkpoint(tmp_path / "1.npz", w=np.ones((2, 3), np.float32))
    written(plan, first, tmp_path / "1.h5", cache)
    source = read(first)
    assert cache.find(plan, source, True) is not None
    assert PlanCache().find(plan, source, True) is None
    assert pickle.loads(pickle.dumps(cache)).find(plan, source, True) is None
    assert cache.find(replace(plan), source, True) is None
    assert cache.find(plan, source, "target") is None
