"""Module objects in wrappers, scripted, traced and exported: converted as the module inside is, and
the Plan has the names of its checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from torch import nn

import keras_torch_convert as ktc
from tests.helpers.small_models import randomized

L = keras.layers


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c, self.n, self.l = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.l(self.n(self.c(x)).relu().mean((2, 3)))


class Around(nn.Module):
    """A wrapper of one's own."""
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: torch.Tensor) -> Any:
        return self.module(x)


def distributed(module: nn.Module) -> nn.Module:
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0,
                                             world_size=1)
    return nn.parallel.DistributedDataParallel(module)


def exported(module: nn.Module) -> Any:
    return torch.export.export(module, (torch.randn(2, 3, 10, 10),))


WRAPPERS: dict[str, Callable[[nn.Module], Any]] = {
    "DataParallel": nn.DataParallel,
    "DistributedDataParallel": distributed,
    "compiled": lambda module: torch.compile(module, backend="eager"),
    "compiled in DataParallel": lambda module: nn.DataParallel(torch.compile(module)),
    "AveragedModel": torch.optim.swa_utils.AveragedModel,
    "module in module": Around,
    "twice": lambda module: Around(Around(module)),
    "fx": torch.fx.symbolic_trace,
    "scripted": torch.jit.script,
    "traced": lambda module: torch.jit.trace(module, torch.randn(1, 3, 10, 10)),
    "exported": exported,
    "exported module": lambda module: exported(module).module(),
}  # yapf: disable


def keras_net() -> Any:
    return keras.Sequential([
        keras.Input((10, 10, 3)),
        L.Conv2D(6, 3),
        L.BatchNormalization(epsilon=1e-5),
        L.ReLU(),
        L.GlobalAveragePooling2D(),
        L.Dense(4)
    ])


@pytest.mark.parametrize("kind", WRAPPERS)
@pytest.mark.filterwarnings("ignore")
def test_a_wrapped_module_is_converted_and_its_plan_takes_its_checkpoint(kind: str,
                                                                         tmp_path: Path) -> None:
    inner = randomized(Net())
    module, model = WRAPPERS[kind](inner), keras_net()
    state = getattr(module, "state_dict", dict)
    state = module.state_dict if isinstance(state, dict) else state()
    before = {name: value.clone() for name, value in state.items()}
    report = ktc.convert(module, model)
    assert report.equal is True
    x = np.random.default_rng(0).normal(size=(2, 10, 10, 3)).astype("float32")
    with torch.no_grad():
        wanted = inner(torch.tensor(x).permute(0, 3, 1, 2)).numpy()
    assert np.abs(keras.ops.convert_to_numpy(model(x)) - wanted).max() < 1e-5
    assert all(torch.equal(value, before[name]) for name, value in state.items())
    torch.save({"model": state}, tmp_path / "saved.pth")
    for source, name in ((module, "module"), (dict(state), "dict"), (tmp_path / "saved.pth",
                                                                     "file")):
        again = ktc.apply(report.plan, source, tmp_path / f"{name}.weights.h5")
        assert again.ok
    second = keras_net()
    assert ktc.convert(module, second, plan=report.plan).equal is True
