"""A twin shares nothing writable with its module, and computes the same."""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import nn

from keras_torch_convert.running.isolation import twin_of


class Caching(nn.Module):
    """Keeps, in eval mode, what it derives from its weights."""
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(4, 9))
        self.register_buffer("index", torch.arange(9))
        self.cache: dict[str, torch.Tensor] = {}
        self.calls = [0]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls[0] += 1
        if "bias" not in self.cache:
            self.cache["bias"] = self.table[:, self.index]
        return x + self.cache["bias"]


class Aliased(nn.Module):
    """Refers to one parameter twice, once outside Module's own bookkeeping."""
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.weights = [self.linear.weight]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weights[0].T + self.linear.bias


def state(module: nn.Module) -> dict[str, Any]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def test_a_cache_is_that_of_the_twin() -> None:
    module, x = Caching().eval(), torch.randn(4, 9)
    twin = twin_of(module, {"table": torch.zeros(4, 9)})
    assert torch.equal(twin.module(x), x)
    assert module.cache == {}
    assert module.calls == [0]
    assert not torch.equal(module(x), x)


def test_a_second_reference_sees_the_value() -> None:
    module, x = Aliased().eval(), torch.randn(2, 3)
    twin = twin_of(module, {"linear.weight": torch.eye(3), "linear.bias": torch.zeros(3)})
    assert torch.equal(twin.module(x), x)
    assert torch.equal(twin_of(module).module(x), module(x))


def test_views_of_one_storage_stay_views_of_one() -> None:
    module = nn.Module()
    flat = torch.arange(6.0)
    module.register_buffer("first", flat[:3])
    module.register_buffer("last", flat[2:])
    twin = twin_of(module).module
    twin.first[2] = 9
    assert twin.last[0] == 9
    assert flat[2] == 2


def test_tied_parameters_stay_tied() -> None:
    module = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 5, bias=False))
    module[1].weight = module[0].weight
    twin = twin_of(module).module
    assert twin[1].weight is twin[0].weight
    assert twin[0].weight is not module[0].weight


def test_a_twin_of_another_type() -> None:
    module, x = nn.Linear(3, 2).to(torch.bfloat16), torch.randn(1, 3)
    twin = twin_of(module, dtype=torch.float32).module
    assert torch.equal(twin.weight, module.weight.float())
    assert twin(x).dtype == torch.float32
    wide = twin_of(module, {"bias": torch.zeros(2)}, torch.float64).module
    assert wide(x.double()).dtype == torch.float64
    assert not wide.bias.any()
    assert module(x.to(torch.bfloat16)).dtype == torch.bfloat16


def test_a_tied_tensor_takes_the_value_of_its_first_name() -> None:
    module = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 5, bias=False))
    module[1].weight = module[0].weight
    twin = twin_of(module, {"0.weight": torch.ones(5, 4), "1.weight": torch.zeros(5, 4)}).module
    assert twin[1].weight is twin[0].weight
    assert bool((twin[0].weight == 1).all())


def test_a_scripted_module_has_a_twin() -> None:
    module, x = torch.jit.script(nn.Sequential(nn.Linear(3, 3), nn.ReLU())), torch.randn(2, 3)
    twin = twin_of(module, {"0.weight": torch.zeros(3, 3), "0.bias": torch.ones(3)})
    assert bool((twin.module(x) == 1).all())
    assert not bool((module(x) == 1).all())


def test_what_cannot_be_copied_is_shared_and_said() -> None:
    module = nn.Linear(3, 2)
    module.lock = threading.Lock()
    twin = twin_of(module)
    assert twin.module.lock is module.lock
    assert twin.shared == ("lock (lock: TypeError)",)


def test_hooks_and_computed_attributes() -> None:
    module, x, seen = nn.utils.weight_norm(nn.Linear(3, 2)), torch.randn(1, 3), []
    module.register_forward_hook(lambda module, args, output: seen.append(module))
    module(x)  # the weight is a computed tensor now, which copy.deepcopy refuses
    before = state(module)
    twin = twin_of(module)
    assert torch.allclose(twin.module(x), module(x))
    assert seen[1] is twin.module
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_a_forward_that_wraps_the_own_one_runs_that_of_the_twin() -> None:
    module, x = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2)), torch.randn(1, 3)

    def wrapped(own: Any, times: int) -> Any:
        def again(y: torch.Tensor) -> torch.Tensor:
            return again(y) if times < 0 else times * own(y)

        return lambda y: again(y) + 1

    module[0].forward = wrapped(module[0].forward, 2)
    module.forward = wrapped(module.forward, 3)
    zeros = {name: torch.zeros_like(value) for name, value in module.state_dict().items()}
    assert torch.equal(twin_of(module).module(x), module(x))
    assert twin_of(module, zeros).module(x).tolist() == [[1.0, 1.0]]
    assert module(x).abs().sum() != 2


def test_recurrent_and_parametrized_modules() -> None:
    for module, x in ((nn.LSTM(3, 4, 2, bidirectional=True), torch.randn(
            5, 2, 3)), (nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)), torch.randn(1, 3)),
                      (nn.MultiheadAttention(4, 2), torch.randn(3, 1, 4))):
        twin = twin_of(module.eval())
        arguments = (x, x, x) if isinstance(module, nn.MultiheadAttention) else (x,)
        ours, theirs = twin.module(*arguments), module(*arguments)
        ours, theirs = (one[0] if isinstance(one, tuple) else one for one in (ours, theirs))
        assert torch.allclose(ours, theirs)
