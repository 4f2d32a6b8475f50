"""Weights that hide nothing: no two alike, no zero biases, gains of either size, and norm
statistics that fit the data a little.
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import Any

SEED = 41


def randomized(module: Any, run: Callable[[], Any]) -> Any:
    """The module with random values in all of its floating-point parameters and statistics; `run`
    runs it, for the statistics.

    Batch norms get the mean and variance of what reaches them, disturbed: with statistics out of
    the air, many of the deeper nets are at chaos, where rounding alone makes another output and
    nothing can be decided.
    """
    import torch

    generator = torch.Generator().manual_seed(SEED)
    norms = [inner for inner in module.modules() if isinstance(inner, torch.nn.BatchNorm2d)]
    tables = {
        id(inner.weight) for inner in module.modules() if isinstance(inner, torch.nn.Embedding)
    }
    fixed = {id(norm.weight) for norm in norms if getattr(norm, "keeps_gain", False)}
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.is_floating_point() and id(parameter) not in fixed:
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(_value(name, noise, id(parameter) in tables, generator))
        handles = [norm.register_forward_pre_hook(_fitting(generator)) for norm in norms]
        try:
            run()
        finally:
            for handle in handles:
                handle.remove()
    return module


def _value(name: str, noise: Any, table: bool, generator: Any) -> Any:
    import torch

    if table:
        return 0.5 * noise
    if noise.ndim >= 2 and noise[0].numel() > 1:
        return noise * (1.2 / sqrt(noise[0].numel()))
    if "bias" in name.rsplit(".", 1)[-1]:
        return 0.1 * noise
    return 0.6 + 0.8 * torch.rand(noise.shape, generator=generator)


def _fitting(generator: Any) -> Callable[[Any, Any], None]:
    import torch

    def fit(norm: Any, inputs: Any) -> None:
        channels = inputs[0].transpose(0, 1).flatten(1)
        power = channels.square().mean() + 1e-6
        norm.running_mean.copy_(
            0.2 * power.sqrt() * torch.randn(len(channels), generator=generator))
        norm.running_var.copy_(power * (0.6 + 0.8 * torch.rand(len(channels), generator=generator)))

    return fit
