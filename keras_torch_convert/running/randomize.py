"""Random values for copies of a torch module's weights, so that no two of them can be mistaken for
each other.

Trained values hide differences (biases of zero, layer scales of 1e-6, attention that is nearly
uniform), and which weight belongs where does not depend on them. The module itself is never written
to.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

SEED = 20240229
# What norms keep of the data that they met.
STATISTICS = ("running_mean", "running_var")


def draw_values(named: Iterable[tuple[str, Any]], draw: Callable[[str, Any],
                                                                 Any]) -> dict[str, Any]:
    """Return `draw(name, tensor)` by name; tied tensors share what the first of them got."""
    known: dict[int, Any] = {}
    values: dict[str, Any] = {}
    for name, tensor in named:
        if id(tensor) not in known:
            known[id(tensor)] = draw(name, tensor)
        values[name] = known[id(tensor)]
    return values


def randomized_values(module: Any, unit_gains: bool = False) -> dict[str, Any]:
    """Draw new tensors, by name, for floating-point parameters and the statistics of norms.

    Matrices and kernels have a standard deviation of 1.2 / sqrt(fan in), tables 0.5, gains lie
    around 1, other vectors carry a little noise. Running statistics start at 0 and 1; see
    `torch_trace` for how they come to fit the data. Other buffers hold constants of the computation
    and stay. Tied weights share one tensor. With `unit_gains` the gains of norms that keep
    statistics are 1, and vectors of ones stay as they are: the Keras model may have no place for
    them, and then the layers behind are found all the same.
    """
    import torch

    generator = torch.Generator().manual_seed(SEED)
    tables = {
        f"{path}.weight"
        for path, inner in module.named_modules() if isinstance(inner, torch.nn.Embedding)
    }
    banks = {
        f"{path}.{name}" if path else name for path, inner in module.named_modules()
        for name, tensor in inner.named_parameters(recurse=False)
        if tensor.ndim == 3 and "Conv" not in type(inner).__name__
    }
    gains = {
        f"{path}.weight" for path, inner in module.named_modules()
        if unit_gains and getattr(inner, "running_var", None) is not None
    }

    def draw(name: str, tensor: Any) -> Any:
        if not isinstance(tensor, torch.nn.Parameter):
            return torch.zeros_like(tensor) if name.endswith("mean") else torch.ones_like(tensor)
        if name in gains or (unit_gains and tensor.ndim == 1 and bool((tensor == 1).all())):
            return torch.ones_like(tensor)
        return _new_value(name, tensor, name in tables, name in banks, generator)

    named = [(name, tensor) for name, tensor in module.named_parameters(remove_duplicate=False)
             if tensor.is_floating_point()]
    named += [(name, tensor) for name, tensor in module.named_buffers(remove_duplicate=False)
              if name.rpartition(".")[2] in STATISTICS]
    return draw_values(named, draw)


def _new_value(name: str, tensor: Any, table: bool, bank: bool, generator: Any) -> Any:
    """Draw values of the tensor's shape; a bank holds one matrix for each expert or head."""
    import torch

    last = name.rsplit(".", maxsplit=1)[-1]
    noise = torch.randn(tensor.shape, generator=generator)
    if table:
        value = 0.5 * noise
    elif bank and tensor.shape[0] > 1:
        value = 1.2 / math.sqrt(max(tensor.shape[-1], 1)) * noise
    elif tensor.ndim >= 2 and tensor[0].numel() > 1:
        value = 1.2 / math.sqrt(tensor[0].numel()) * noise
    elif "bias" in last or "beta" in last or "mean" in last:
        value = 0.1 * noise
    else:
        value = 1 + 0.2 * noise
    return value.to(tensor.device)
