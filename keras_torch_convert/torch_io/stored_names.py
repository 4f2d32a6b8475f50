"""How files hold the tensors of a module, where its library renames, fuses or splits them in
loading.

transformers declares what it does (from version 5 on) and can undo it, for saving. That is run on
numbered elements, read off as steps of a Plan, and turned round. Where it is not declared, the
tensors of module and file that have the same values are the same.
"""

from __future__ import annotations

import logging
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from itertools import permutations
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import TransferError
from ..plan.callback_tracing import trace_callbacks
from ..plan.expressions import Concat, Expression, Permute, Reshape, Slice, Tensor
from ..plan.inverse import inverted
from ..plan.recipe import AnyRecipe, Assignment, Recipe, Stored
from ..spec.layer_order import split_layer
from ..spec.source import Source, SourceTensor, expect
from ..spec.tensor_spec import Shape, TensorSpec

Array = npt.NDArray[Any]
_LOG = logging.getLogger(__name__)
_NUMBERS = re.compile(r"\d+")
_LAYER = re.compile(r".*?\.\d+\.|")
_MOST_AXES = 3
# Banks of experts are found in parts, each of which may be joined or alternate.
_DEEPEST = 2


def with_stored_names(plan: AnyRecipe, source: Source) -> AnyRecipe:
    """Return the Plan with what the library of its module declares about files."""
    if plan.stored is not None or source.module is None:
        return plan
    return replace(plan, stored=declared_names(source))


def declared_names(source: Source) -> Stored | None:
    """Return how files hold the tensors of a transformers model, None where they hold them as it
    does, or it declares nothing.
    """
    loading = sys.modules.get("transformers.core_model_loading")
    models = sys.modules.get("transformers.modeling_utils")
    module = source.module
    if (loading is None or models is None or not hasattr(loading, "revert_weight_conversion")
            or not isinstance(module, models.PreTrainedModel)):
        return None
    again = {name for group in source.tied for name in group[1:]}
    state = {name: tensor.detach() for name, tensor in module.state_dict().items()
             if name not in again}  # yapf: disable

    def saved(tensors: Mapping[str, Any]) -> Mapping[str, Any]:
        found: Mapping[str, Any] = loading.revert_weight_conversion(module, dict(tensors))
        return found

    try:
        stored = saved(state)
        if stored.keys() == state.keys() and not again:
            return None
        names = {_identity(tensor): name for name, tensor in state.items()}
        whole = {name: names[_identity(tensor)] for name, tensor in stored.items()
                 if _identity(tensor) in names}  # yapf: disable
        parts: dict[str, Expression] = {}
        for group in _by_layer(name for name in state if name not in whole.values()):
            parts |= _traced(saved, {name: state[name] for name in group})
    except Exception as error:  # of another library: it declares nothing that can be used
        _LOG.debug("transformers declares no names of files for %s: %r", source.origin, error)
        return None
    if parts.keys() | whole.keys() != stored.keys():
        return None
    back = Recipe(tuple(Assignment(name, one, "") for name, one in parts.items()),
                  sources={name: source[name].spec for name in state if name not in whole.values()},
                  targets={name: _spec(name, stored[name]) for name in parts})
    try:
        turned = inverted(back)
    except (TransferError, ValueError):
        return None
    expressions: dict[str, Expression] = {own: Tensor(name) for name, own in whole.items()}
    expressions |= {one.key: one.expression for one in turned.assignments}
    for first, *others in source.tied:
        if first in expressions:
            expressions |= dict.fromkeys(others, expressions[first])
        else:
            expressions |= dict.fromkeys(others, Tensor(first))
    expressions = {name: one for name, one in expressions.items() if one != Tensor(name)}
    return Stored(expressions, {name: _spec(name, tensor) for name, tensor in stored.items()})


def _identity(tensor: Any) -> tuple[Any, ...]:
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype


def _spec(name: str, tensor: Any) -> TensorSpec:
    return TensorSpec(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."), name)


def _by_layer(names: Iterator[str]) -> list[list[str]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        match = _LAYER.match(name)
        groups[match[0] if match else ""].append(name)
    return list(groups.values())


def _traced(saved: Any, tensors: Mapping[str, Any]) -> dict[str, Expression]:
    """Return what the library makes of some tensors, by the name in the file."""
    import torch

    names: list[str] = []

    def call(arrays: Sequence[Array]) -> list[Array]:
        found = saved({name: torch.from_numpy(array) for name, array in
                       zip(tensors, arrays, strict=True)})  # yapf: disable
        names[:] = found
        return [tensor.numpy() for tensor in found.values()]

    kinds = [(tuple(tensor.shape), np.dtype(np.float64)) for tensor in tensors.values()]
    traced = trace_callbacks(call, [Tensor(name) for name in tensors], kinds)
    return {name: one for name, one in zip(names, traced, strict=True) if one is not None}


def matched_by_value(module: Source, file: Source) -> Stored | None:
    """Return how a file holds the tensors of a module that has the same values.

    A tensor may stand there whole under another name, turned, in parts that make it up, or as a
    part of another. None where something has no counterpart.
    """
    expect(file, file)
    same = {
        name for name, tensor in module.items() if name in file and file[name].shape == tensor.shape
        and np.array_equal(_values(tensor), _values(file[name]))
    }
    free = _Free({name: tensor for name, tensor in file.items() if name not in same})
    expressions: dict[str, Expression] = {}
    groups = [*module.tied, *((name,) for name in module if name not in _tied(module))]
    # Constants say least.
    for names in sorted(groups, key=lambda names: _is_constant(_values(module[names[0]]))):
        found: Expression | None = next((Tensor(name) for name in names if name in same), None)
        if found is None:
            found = free.find(names[0], _values(module[names[0]]), _DEEPEST)
        if found is not None:
            expressions |= {name: found for name in names if name not in same}
        elif module[names[0]].kind != "buffer":
            return None
    return Stored(expressions, {name: one.spec for name, one in file.items()})


def _is_constant(array: Array) -> bool:
    return not array.size or bool((array == array.flat[0]).all())


def _tied(source: Source) -> set[str]:
    return {name for group in source.tied for name in group}


class _Free:
    """The tensors of a file among which counterparts are looked for."""
    def __init__(self, tensors: Mapping[str, SourceTensor]) -> None:
        self.arrays = {name: _values(tensor) for name, tensor in tensors.items()}
        self.by_values: dict[tuple[Shape, int], list[tuple[str, Shape]]] = defaultdict(list)
        for name, array in self.arrays.items():
            for perm in _perms(array.ndim):
                turned = array.transpose(perm)
                self.by_values[turned.shape, hash(turned.tobytes())].append((name, perm))

        self.owners: dict[str, str] = {}
        self.used: set[str] = set()

    def _best(self, name: str, equal: Sequence[tuple[str, Shape]]) -> Expression:
        """Return one of several tensors with the same values.

        Constants are equal by chance: the layer decides, whose other tensors are known, then the
        name. Each is taken once.
        """
        owner = split_layer(name)[0]

        def rank(one: tuple[str, Shape]) -> tuple[Any, ...]:
            other, perm = one
            return (self.owners.get(owner) == split_layer(other)[0], other
                    not in self.used, _NUMBERS.findall(name) == _NUMBERS.findall(other),
                    _likeness(name, other), perm == tuple(range(len(perm))))

        best, perm = max(equal, key=rank)
        if len({one for one, _ in equal}) == 1:
            self.owners.setdefault(owner, split_layer(best)[0])
        self.used.add(best)
        return _turned(Tensor(best), perm)

    def find(self, name: str, array: Array, levels: int) -> Expression | None:
        """Return an expression with the values of an array, which `name` is the name of."""
        equal = self.by_values.get((array.shape, hash(array.tobytes())))
        if equal:
            return self._best(name, equal)
        found = self._joined(name, array) or self._cut_out(array)
        if found is not None or levels == 0 or array.ndim < 2:
            return found
        if array.ndim > 2:
            parts = [
                self.find(f"{name}.{index}", array[index], levels - 1)
                for index in range(len(array))
            ]
            if None not in parts:
                shape = (1, *array.shape[1:])
                return Concat(tuple(Reshape(part, shape) for part in parts if part), 0)
        for axis in range(array.ndim):
            # Gate and projection alternate in some banks of experts.
            if array.shape[axis] % 2 == 0:
                halves = [array.take(range(first, array.shape[axis], 2), axis) for first in (0, 1)]
                one, other = (self.find(name, half, 0) for half in halves)
                if one is not None and other is not None:
                    return _alternating(one, other, axis, halves[0].shape)
        return None

    def _joined(self, name: str, array: Array) -> Expression | None:
        """Return tensors that follow each other along an axis."""
        for axis in range(array.ndim if array.ndim > 1 else 0):
            parts: list[Expression] = []
            start = 0
            while start < array.shape[axis]:
                stop, part = self._longest(name, array, axis, start)
                if part is None:
                    break
                parts.append(part)
                start = stop
            if start == array.shape[axis] and len(parts) > 1:
                return Concat(tuple(parts), axis)
        return None

    def _longest(self, name: str, array: Array, axis: int,
                 start: int) -> tuple[int, Expression | None]:
        rest = array.shape[:axis] + array.shape[axis + 1:]
        lengths = {
            shape[axis] for shape, _ in self.by_values
            if len(shape) == array.ndim and shape[:axis] + shape[axis + 1:] == rest
        }
        for length in sorted(lengths, reverse=True):
            if start + length <= array.shape[axis] and length < array.shape[axis]:
                part = array.take(range(start, start + length), axis)
                found = self.by_values.get((part.shape, hash(part.tobytes())))
                if found:
                    return start + length, self._best(name, found)
        return start, None

    def _cut_out(self, array: Array) -> Expression | None:
        """Return a part of a larger tensor along one axis."""
        for name, whole in self.arrays.items():
            for perm in _perms(whole.ndim) if whole.ndim == array.ndim else ():
                turned = whole.transpose(perm)
                larger = [
                    axis for axis in range(array.ndim) if turned.shape[axis] != array.shape[axis]
                ]
                if len(larger) != 1 or turned.shape[larger[0]] < array.shape[larger[0]]:
                    continue
                axis, length = larger[0], array.shape[larger[0]]
                for start in range(0, turned.shape[axis] - length + 1):
                    if np.array_equal(turned.take(start, axis), array.take(
                            0, axis)) and np.array_equal(
                                turned.take(range(start, start + length), axis), array):
                        return Slice(_turned(Tensor(name), perm), axis, start, start + length)
        return None


def _perms(ndim: int) -> Iterator[Shape]:
    return permutations(range(ndim)) if ndim <= _MOST_AXES else iter((tuple(range(ndim)),))


def _turned(expression: Expression, perm: Shape) -> Expression:
    return expression if perm == tuple(range(len(perm))) else Permute(expression, perm)


def _alternating(first: Expression, second: Expression, axis: int, half: Shape) -> Expression:
    split = (*half[:axis + 1], 1, *half[axis + 1:])
    pair = Concat((Reshape(first, split), Reshape(second, split)), axis + 1)
    return Reshape(pair, (*half[:axis], 2 * half[axis], *half[axis + 1:]))


def _likeness(first: str, second: str) -> float:
    return SequenceMatcher(None, first, second, autojunk=False).ratio()


def _values(tensor: SourceTensor) -> Array:
    values = tensor.read()
    if tensor.dtype == "bfloat16":
        values = (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float32) if values.dtype.kind == "f" else values
