"""Batch norms of a torch module, folded into the layers before them, for Keras models without."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import AlignmentError
from ..plan.expressions import (Add, Expression, Fill, InverseStdDev, Multiply, Reshape, Scale,
                                Tensor)
from ..plan.recipe import Stored
from ..spec.source import Source
from ..torch_io.module import read_module
from ..util.text import join_names
from .input_pair import InputPair
from .isolation import twin_of
from .run import run_torch

# Of the outputs before and after, as a fraction of the largest; rounding stays far below.
_SAME_BELOW = 1e-3


@dataclass(frozen=True, slots=True)
class _Pair:
    """A layer and the norm behind it, in the copy of the module, with their paths."""

    layer_path: str
    layer: Any
    norm_path: str
    norm: Any

    def fold(self) -> dict[str, Expression]:
        """Put the norm into the layer; return the layer's tensors as expressions over the old."""
        from torch.nn.utils.fusion import fuse_conv_bn_weights

        layer, norm = self.layer, self.norm
        transposed = getattr(layer, "transposed", False)
        shape = [1] * layer.weight.ndim
        shape[transposed] = channels = norm.num_features

        def old(path: str, module: Any, role: str, value: float = 0.0) -> Expression:
            """A tensor of the module, or what the lack of it means."""
            if getattr(module, role) is None:
                return Fill(value, (channels,))
            return Tensor(f"{path}.{role}" if path else role)

        deviation = InverseStdDev(old(self.norm_path, norm, "running_var"), float(norm.eps))
        gain = Multiply((old(self.norm_path, norm, "weight", 1.0), deviation))
        mean = Scale(old(self.norm_path, norm, "running_mean"), -1.0)
        centered = Add((old(self.layer_path, layer, "bias"), mean))
        prefix = f"{self.layer_path}." if self.layer_path else ""
        folded: dict[str, Expression] = {
            f"{prefix}weight": Multiply((Tensor(f"{prefix}weight"), Reshape(gain, tuple(shape)))),
            f"{prefix}bias": Add((Multiply((gain, centered)), old(self.norm_path, norm, "bias")))
        }
        layer.weight, layer.bias = fuse_conv_bn_weights(layer.weight, layer.bias, norm.running_mean,
                                                        norm.running_var, norm.eps, norm.weight,
                                                        norm.bias, transpose=transposed)
        self._neutral()
        return folded

    def _neutral(self) -> None:
        """Leave the norm where it is, with constants that are no weights and change nothing: a
        subclass may do more, such as an activation.
        """
        import torch

        norm = self.norm
        ones = torch.ones_like(norm.running_var)
        values = {
            "weight": None, "bias": None, "running_mean": torch.zeros_like(ones),
            "running_var": ones - norm.eps, "num_batches_tracked": None
        }
        for name, value in values.items():
            delattr(norm, name)
            setattr(norm, name, value)


def with_folded_norms(source: Source, inputs: InputPair) -> tuple[Source, Stored]:
    """Fold each batch norm that directly follows a convolution or a dense layer.

    Args:
        source: A torch module; it is not changed.
        inputs: What the module is run on, to see which norm follows which layer.

    Returns:
        A copy of the module in which these norms have no weights and do nothing, and its tensors as
        expressions over those of `source`.

    Raises:
        AlignmentError: No norm can be folded, or the outputs change by it.
    """
    import torch

    paths, before = _observed(source.module, inputs)
    if not paths:
        raise AlignmentError("fold_norms=True, but the module has no batch norm directly behind a "
                             "convolution or a dense layer; leave fold_norms out")
    # Never run itself: what a module caches would be copied with it, for other weights.
    module = twin_of(source.module).module
    folded: dict[str, Expression] = {}
    with torch.no_grad():
        for layer, norm in paths:
            pair = _Pair(layer, module.get_submodule(layer), norm, module.get_submodule(norm))
            folded |= pair.fold()
    after, _ = run_torch(module, inputs)
    for name, values in before.items():
        limit = _SAME_BELOW * float(np.abs(values).max(initial=0))
        if not bool((np.abs(values - after[name]) <= limit).all()):
            raise AlignmentError(
                "fold_norms=True, but folding changes the outputs of the module: one of the norms "
                f"({join_names([norm for _, norm in paths], 3)}) follows a layer whose "
                "output is used elsewhere too, or whose weight is changed before it is used; fold "
                "them by hand and convert that module")
    return (replace(read_module(module), origin=source.origin),
            Stored(folded, {name: tensor.spec for name, tensor in source.items()}))


def _observed(module: Any, inputs: InputPair) -> tuple[list[tuple[str, str]], dict[str, Any]]:
    """Return the paths of layers whose output is the input of a norm, both called once, with those
    of the norms, and the outputs of the module.
    """
    from torch import nn

    twin = twin_of(module)
    layers = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d,
              nn.ConvTranspose3d)
    norms = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
    calls: list[tuple[str, Any, Any, Any]] = []

    def observed(path: str) -> Callable[[Any, Any, Any], None]:
        return lambda module, given, output: calls.append((path, module, given[0], output))

    hooks = [
        module.register_forward_hook(observed(path))
        for path, module in twin.module.named_modules() if isinstance(module, (*layers, *norms))
    ]
    try:
        outputs, _ = run_torch(twin, inputs)
    finally:
        for hook in hooks:
            hook.remove()
    times = Counter(id(module) for _, module, *_ in calls)
    once = [call for call in calls if times[id(call[1])] == 1]
    made = {
        id(output): (path, layer) for path, layer, _, output in once if isinstance(layer, layers)
    }
    found = [(path, norm, made[id(given)])
             for path, norm, given, _ in once if isinstance(norm, norms) and id(given) in made]
    return [(layer_path, path)
            for path, norm, (layer_path, layer) in found if _can_be_folded(layer, norm)], outputs


def _can_be_folded(layer: Any, norm: Any) -> bool:
    """Return whether a norm has statistics of its own, and the layer before it a plain weight."""
    import torch

    transposed_in_groups = getattr(layer, "transposed", False) and layer.groups > 1
    return (norm.running_var is not None and isinstance(layer.weight, torch.nn.Parameter)
            and not transposed_in_groups)
