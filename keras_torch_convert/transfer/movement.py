"""Permutations and reshapes of one array, as one strided copy.

Every axis is cut into atoms, the pieces that no step takes apart. Both the source and the target can be viewed by atoms
without moving anything, so that any chain of steps is a permutation of atoms: one call of the copy kernel.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _core
from ..plan import Expression, Permute, Reshape
from .rule import Shape


@dataclass(slots=True)
class _Atoms:
    """Sizes of all atoms so far; one that was cut later is looked up in `parts`."""

    sizes: list[int] = field(default_factory=list)
    parts: dict[int, tuple[int, int]] = field(default_factory=dict)

    def add(self, size: int) -> int:
        self.sizes.append(size)
        return len(self.sizes) - 1

    def cut(self, atom: int, first: int) -> tuple[int, int]:
        self.parts[atom] = (self.add(first), self.add(self.sizes[atom] // first))
        return self.parts[atom]

    def whole(self, atoms: list[int]) -> list[int]:
        """The atoms with those that were cut replaced by their parts."""
        return [
            part for atom in atoms for part in (self.whole(list(self.parts[atom])) if atom in self.parts else [atom])
        ]


@dataclass(frozen=True, slots=True)
class Layout:
    """An expression compiled for a base of known shape: `cut` is the base's shape by atoms, `perm` their order in the result."""

    shape: Shape
    cut: Shape
    perm: tuple[int, ...]


def compile_layout(expression: Expression, base_shape: Shape) -> Layout:
    """Follow the steps of `expression` on a base of `base_shape`.

    Raises ValueError when a permutation does not name every axis once, or a reshape is no exact split or merge of axes.
    """
    steps: list[Permute | Reshape] = []
    while isinstance(expression, (Permute, Reshape)):
        steps.append(expression)
        expression = expression.operand
    if not steps:
        return Layout(base_shape, base_shape, tuple(range(len(base_shape))))
    if 0 in base_shape:
        return _layout_of_nothing(steps, base_shape)
    atoms = _Atoms()
    source = [[atoms.add(extent)] if extent != 1 else [] for extent in base_shape]
    axes, shape = source, base_shape
    for step in reversed(steps):
        if isinstance(step, Permute):
            shape = _permuted(shape, step.perm)
            axes = [axes[axis] for axis in step.perm]
        else:
            axes = _regrouped(axes, shape, step.shape, atoms)
            shape = step.shape
    order = [atom for axis in source for atom in atoms.whole(axis)]
    result = [atom for axis in axes for atom in atoms.whole(axis)]
    return Layout(shape, tuple(atoms.sizes[atom] for atom in order), tuple(order.index(atom) for atom in result))


def _layout_of_nothing(steps: list[Permute | Reshape], shape: Shape) -> Layout:
    for step in reversed(steps):
        if isinstance(step, Permute):
            shape = _permuted(shape, step.perm)
        elif 0 not in step.shape:
            raise ValueError(f"an array of shape {shape} cannot be reshaped to {step.shape}")
        else:
            shape = step.shape
    return Layout(shape, (0,), (0,))


def _permuted(shape: Shape, perm: tuple[int, ...]) -> Shape:
    if sorted(perm) != list(range(len(shape))):
        raise ValueError(f"the permutation {perm} does not name each axis of shape {shape} once")
    return tuple(shape[axis] for axis in perm)


def _regrouped(axes: list[list[int]], old: Shape, new: Shape, atoms: _Atoms) -> list[list[int]]:
    waiting = deque(atom for axis in axes for atom in atoms.whole(axis))
    result: list[list[int]] = []
    for extent in new:
        group: list[int] = []
        missing = extent
        while missing > 1:
            atom = waiting.popleft() if waiting else None
            size = atoms.sizes[atom] if atom is not None else 0
            if atom is not None and missing % size == 0:
                group.append(atom)
                missing //= size
            elif atom is not None and size % missing == 0:
                first, rest = atoms.cut(atom, missing)
                group.append(first)
                waiting.appendleft(rest)
                missing = 1
            else:
                raise ValueError(f"a reshape from {old} to {new} is no exact split or merge of axes")
        if missing != 1:
            raise ValueError(f"a reshape from {old} to {new} changes the number of elements")
        result.append(group)
    if waiting:
        raise ValueError(f"a reshape from {old} to {new} changes the number of elements")
    return result


def move(layout: Layout, base: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The values of `base` in the layout: a new array in C order that shares no memory with it, made by one strided copy."""
    result = np.empty(layout.shape, base.dtype)
    if prod(layout.shape):
        by_atoms = base.reshape(layout.cut).transpose(layout.perm)
        _core.copy_strided(by_atoms, result.reshape(by_atoms.shape))
    return result
