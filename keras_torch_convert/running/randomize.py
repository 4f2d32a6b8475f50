"""Random values for copies of a torch module's weights, so that no two of them can be mistaken for
each other.

Trained values hide differences (biases of zero, layer scales of 1e-6, attention that is nearly
uniform), and which weight belongs where does not depend on them. The module itself is never written
to.
"""

from __future__ import annotations

import math
from typing import Any

SEED = 20240229


def randomized_values(module: Any, keep_ones: bool = False) -> dict[str, Any]:
    """Draw new tensors, by name, for floating-point parameters and the statistics of norms.

    Matrices and kernels have a standard deviation of 1.2 / sqrt(fan in), tables 0.5, gains lie
    around 1, other vectors carry a little noise. Running statistics start at 0 and 1; see
    `torch_trace` for how they come to fit the data. Other buffers hold constants of the computation
    and stay. Tied weights share one tensor. With `keep_ones` a vector of ones stays as it is: the
    Keras model may have no place for it.
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
    values: dict[str, Any] = {}
    known: dict[int, Any] = {}
    for name, tensor in module.named_parameters(remove_duplicate=False):
        if not tensor.is_floating_point():
            continue
        if id(tensor) not in known:
            if keep_ones and tensor.ndim == 1 and bool((tensor == 1).all()):
                known[id(tensor)] = tensor.detach().clone()
            else:
                known[id(tensor)] = _new_value(name, tensor, name in tables, name in banks,
                                               generator)
        values[name] = known[id(tensor)]
    for name, tensor in module.named_buffers(remove_duplicate=False):
        last = name.rsplit(".", maxsplit=1)[-1]
        if last in ("running_mean", "running_var"):
            made = torch.zeros_like if last == "running_mean" else torch.ones_like
            values[name] = known.setdefault(id(tensor), made(tensor))
    return values


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
