"""Adapters of PEFT in the layers of Keras that have adapters of their own (enable_lora).

Such a layer computes with kernel + alpha / rank * a b. Where its rank is that of the adapter, it
gets the weight of the base as its kernel and both matrices as a and b, so that training goes on
where it ended. Everywhere else the kernel gets the merged weight.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod

from ..keras_io.model import adapter_of
from ..plan.expressions import Expression, Permute, Reshape, Scale, Tensor, tensors_of
from ..plan.plan import Plan
from ..plan.recipe import Assignment, expressions_of
from ..spec.source import Source, SourceTensor
from ..spec.target import Target, TargetLayer, TargetVariable
from ..torch_io.adapters import Matrices, Merged
from ..util.text import plural


@dataclass(frozen=True, slots=True)
class _Factored:
    """What one layer gets in the place of a merged weight."""

    weight: str
    assignments: tuple[Assignment, Assignment, Assignment]
    tensors: tuple[SourceTensor, SourceTensor, SourceTensor]
    variables: tuple[TargetVariable, TargetVariable]


def with_adapter_factors(plan: Plan, source: Source,
                         target: Target) -> tuple[Plan, Source, Target, list[str]]:
    """Return the three with the matrices of an adapter beside the weights of its base, wherever a
    layer of the target takes them, and notes about it.
    """
    found = {one.assignments[0].key: one for one in _factored(plan, source, target)}
    if not found:
        return plan, source, target, []
    assignments = [
        part for one in plan.assignments
        for part in (found[one.key].assignments if one.key in found else (one,))
    ]
    plan = replace(plan, assignments=tuple(assignments))
    read = {name for one in expressions_of(plan) for name in tensors_of(one)}
    weights = {one.weight for one in found.values()}
    tensors = {
        name: tensor for name, tensor in source.items() if name in read or name not in weights
    }
    tensors |= {tensor.name: tensor for one in found.values() for tensor in one.tensors}
    filled = [variable for one in found.values() for variable in one.variables]
    rest = tuple(one for one in target.adapters if one not in filled)
    own = TargetLayer("adapters", "adapters", ("Layer",), tuple(filled), (), 0, {}, None)
    plan = replace(plan, sources={name: one.spec for name, one in tensors.items()},
                   targets={**plan.targets, **{one.key: one.spec for one in filled}})
    note = (f"{plural(len(found), 'layer')} took the adapter into matrices of their own "
            "(enable_lora), and the weight of the base as kernel")
    return (plan, replace(source, tensors=tensors),
            replace(target, layers=(*target.layers, own), adapters=rest), [note])


def _factored(plan: Plan, source: Source, target: Target) -> Iterator[_Factored]:
    adapters = {id(one.variable): one for one in target.adapters}
    by_key = {one.key: one for one in plan.assignments}
    for leaf in target.leaves() if adapters else ():
        first, second, scale = adapter_of(leaf.layer)
        both = [adapters[id(one)] for one in (first, second) if id(one) in adapters]
        for variable in leaf.variables if len(both) == 2 else ():
            assignment = by_key.get(variable.key)
            names = tensors_of(assignment.expression) if assignment is not None else []
            view = source[names[0]].view if len(names) == 1 and names[0] in source else None
            if assignment is not None and isinstance(view, Merged):
                one = _of_layer(assignment, names[0], view, (both[0], both[1]), scale)
                if one is not None:
                    yield one


def _of_layer(assignment: Assignment, name: str, merged: Merged,
              variables: tuple[TargetVariable, TargetVariable], scale: float) -> _Factored | None:
    """Return what a layer gets, None where its matrices have other shapes."""
    matrices, module = merged.matrices, name.removesuffix(".weight")
    tensors = tuple(
        replace(tensor, name=f"{module}.{end}", display_name="")
        for tensor, end in ((merged.weight, "base_layer.weight"), (matrices.first, "lora_A.weight"),
                            (matrices.second, "lora_B.weight")))
    base, first, second = tensors
    inputs = _inputs(assignment.expression, matrices, Tensor(first.name))
    outputs, rank = second.shape[:2]
    if inputs is None or (rank, outputs) != variables[1].shape or variables[0].shape != (*inputs[1],
                                                                                         rank):
        return None
    expression = Tensor(second.name) if len(second.shape) == 2 else Reshape(
        Tensor(second.name), (outputs, rank))
    product: Expression = Permute(expression, (1, 0))
    if matrices.scale != scale:
        product = Scale(product, matrices.scale / scale)
    rule = "a matrix of the adapter, for that of enable_lora"
    kernel = replace(assignment, expression=_of_base(assignment.expression, base.name))
    return _Factored(name, (kernel, Assignment(variables[0].key, inputs[0],
                                               rule), Assignment(variables[1].key, product, rule)),
                     (base, first, second), variables)


def _of_base(expression: Expression, name: str) -> Expression:
    """Return the same movement of another tensor."""
    if isinstance(expression, (Permute, Reshape)):
        return replace(expression, operand=_of_base(expression.operand, name))
    return Tensor(name)


def _inputs(expression: Expression, matrices: Matrices,
            first: Tensor) -> tuple[Expression, tuple[int, ...]] | None:
    """Return the first matrix moved as the weight is, with the axis of the rank at the end, and its
    shape without that; None where the weight's outputs are not the last axis as they are.
    """
    rank, *rest = matrices.first.shape
    moved: Expression = first
    shape: tuple[int, ...] = (matrices.second.shape[0], *rest)
    outputs = 0
    if matrices.transposed:
        moved, shape, outputs = Permute(first, (1, 0)), shape[::-1], 1
    steps = []
    while not isinstance(expression, Tensor):
        if not isinstance(expression, (Permute, Reshape)):
            return None
        steps.append(expression)
        expression = expression.operand
    for step in reversed(steps):
        if isinstance(step, Permute):
            moved = Permute(moved, step.perm)
            shape, outputs = tuple(shape[axis] for axis in step.perm), step.perm.index(outputs)
        else:
            whole = [
                axis for axis, extent in enumerate(step.shape)
                if extent == shape[outputs] and prod(step.shape[:axis]) == prod(shape[:outputs])
            ]
            if not whole:
                return None
            shape, outputs = step.shape, whole[0]
            moved = Reshape(moved, (*shape[:outputs], rank, *shape[outputs + 1:]))
    return (moved, shape[:-1]) if outputs == len(shape) - 1 else None
