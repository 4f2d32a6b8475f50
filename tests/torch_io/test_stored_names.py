"""A file that holds a module's tensors under other names, fused, split or turned is found by its
values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch

from keras_torch_convert.plan.evaluation import Evaluation
from keras_torch_convert.torch_io.reader import read
from keras_torch_convert.torch_io.stored_names import declared_names, matched_by_value

STATE = {
    "embed.weight": (16, 8), "experts.gate_up": (3, 12, 8), "experts.down": (3, 8, 6),
    "q.weight": (8, 8), "k.weight": (4, 8), "norm.weight": (8,), "qkv.weight": (24, 8)
}
Change = Callable[[dict[str, Any]], Mapping[str, Any]]


def module_state() -> dict[str, Any]:
    torch.manual_seed(0)
    state = {name: torch.randn(shape) for name, shape in STATE.items()}
    return {**state, "norm.weight": torch.ones(8), "norm2.weight": torch.ones(8)}


def split_experts(state: dict[str, Any]) -> Mapping[str, Any]:
    fused, down = state.pop("experts.gate_up"), state.pop("experts.down")
    for expert in range(3):
        state[f"moe.{expert}.w1.weight"] = fused[expert, :6].clone()
        state[f"moe.{expert}.w3.weight"] = fused[expert, 6:].clone()
        state[f"moe.{expert}.w2.weight"] = down[expert].clone()
    return state


def alternating(state: dict[str, Any]) -> Mapping[str, Any]:
    fused = state.pop("experts.gate_up")
    return {**state, "gate": fused[:, ::2].clone(), "up": fused[:, 1::2].clone()}


def fused_and_turned(state: dict[str, Any]) -> Mapping[str, Any]:
    q, k = state.pop("q.weight"), state.pop("k.weight")
    return {**state, "qk.weight": torch.cat([q, k]).T.contiguous()}


def three_parts(state: dict[str, Any]) -> Mapping[str, Any]:
    parts = state.pop("qkv.weight").split([12, 4, 8])
    return {
        **state, **{f"{name}_proj": part.clone() for name, part in zip("qkv", parts, strict=True)}
    }


def renamed(state: dict[str, Any]) -> Mapping[str, Any]:
    return {
        name.replace("weight", "gamma").replace("norm", "ln"): one for name, one in state.items()
    }


@pytest.mark.parametrize("change", [split_experts, alternating, fused_and_turned, three_parts,
                                    renamed])  # yapf: disable
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tensors_are_found_by_their_values(change: Change, dtype: Any) -> None:
    state = {name: one.to(dtype) for name, one in module_state().items()}
    file = read(change(dict(state)))
    own = read(state)
    stored = matched_by_value(own, file)
    assert stored is not None
    missing = own.keys() - file.keys()
    assert missing
    assert missing <= stored.expressions.keys()
    evaluation = Evaluation(file)
    for name in missing:
        found = evaluation.values(stored.expressions[name], str(dtype).removeprefix("torch."), name)
        np.testing.assert_array_equal(found.view("u1"), own[name].read().view("u1"))
    # What is equal by chance goes by its name.
    if change is renamed:
        assert str(stored.expressions["norm2.weight"]) == "Tensor(name='ln2.gamma')"


def test_a_tensor_without_a_counterpart_is_not_made_up() -> None:
    state = module_state()
    other = {**state, "q.weight": torch.zeros(8, 8)}
    assert matched_by_value(read(state), read(other)) is None


def test_a_module_that_declares_nothing_has_its_own_names() -> None:
    assert declared_names(read(torch.nn.Linear(2, 2))) is None
