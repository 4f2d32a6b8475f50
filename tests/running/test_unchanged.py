"""A module that copies of it could change is found out, and any other is not."""

from __future__ import annotations

from typing import Any, ClassVar

import keras
import pytest
import torch
from torch import nn

import keras_torch_convert as ktc
from keras_torch_convert.running.isolation import twin_of
from keras_torch_convert.running.unchanged import watched


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.line, self.kept = nn.Linear(4, 3), {"calls": 0}

    def forward(self, x: torch.Tensor) -> Any:
        self.kept["calls"] += 1
        return self.line(x)


class Counted(Plain):
    """Keeps its count where copies have it too."""
    calls: ClassVar[dict[str, int]] = {"all": 0}

    def forward(self, x: torch.Tensor) -> Any:
        self.calls["all"] += 1
        return super().forward(x)


def keras_net() -> Any:
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])


def test_a_class_attribute_that_copies_change_is_named() -> None:
    report = ktc.convert(Counted(), keras_net())
    assert report.equal is True
    assert any("Counted.calls['all']" in note for note in report.notes)
    with pytest.warns(UserWarning, match=r"Counted\.calls"):
        ktc.align(Counted(), keras_net())
    found = ktc.verify(Counted(), keras_net(), diagnose=False)
    assert any("Counted.calls" in note for note in found.notes)


def test_a_list_in_which_a_hook_collects_is_named() -> None:
    module, seen = Plain(), []
    module.line.register_forward_hook(lambda *_: seen.append(1))
    report = ktc.convert(module, keras_net())
    assert any("seen" in note for note in report.notes)


def test_nothing_is_said_of_a_module_that_stays_as_it_is() -> None:
    module = Plain()
    report = ktc.convert(module, keras_net())
    assert module.kept == {"calls": 0}
    assert not any("changed while copies" in note for note in report.notes)


@pytest.mark.parametrize("change", [
    lambda module: module.line.weight.add_(1),
    lambda module: module.kept.update(calls=1), lambda module: setattr(module, "new", 1),
    lambda module: setattr(module.line, "weight", nn.Parameter(module.line.weight.detach())),
    lambda module: module.eval()
])  # yapf: disable
def test_every_kind_of_change_is_seen(change: Any) -> None:
    module = Plain()
    with torch.no_grad(), watched(module) as notes:
        change(module)
    assert len(notes) == 1


def test_settings_and_random_generators_are_put_back() -> None:
    module = Plain()
    before = torch.get_rng_state()
    with watched(module):
        torch.set_grad_enabled(False)
        torch.backends.mha.set_fastpath_enabled(False)
        torch.rand(3)
    assert torch.is_grad_enabled()
    assert torch.backends.mha.get_fastpath_enabled()
    assert torch.equal(torch.get_rng_state(), before)


class Referring(nn.Module):
    """Reaches its own parts by a method, a function and an object, set before the parts' copies."""
    class Holder:
        def __init__(self, tensor: torch.Tensor) -> None:
            self.tensor, self.computed = tensor, tensor * 1.0

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 3), nn.Linear(3, 3)
        self.method, self.function = self.apply_last, lambda x: x @ self.first.weight.T
        self.holder = self.Holder(self.first.bias)

    def apply_last(self, x: torch.Tensor) -> Any:
        return self.last(x)

    def forward(self, x: torch.Tensor) -> Any:
        return self.method(self.function(x) + self.holder.tensor)


def test_methods_functions_and_objects_reach_the_copies() -> None:
    module, x = Referring(), torch.randn(2, 3)
    values = {name: torch.zeros_like(value) for name, value in module.named_parameters()}
    twin = twin_of(module, {**values, "last.bias": torch.ones(3)})
    assert twin.shared == ()
    assert bool((twin.module(x) == 1).all())
    assert torch.allclose(twin_of(module).module(x), module(x))
