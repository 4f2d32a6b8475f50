"""Whether two Plans of one model do the same."""

from __future__ import annotations

from functools import partial

from ..evaluation import shape_of
from ..expressions import Expression, needs_callback
from ..recipe import Recipe
from .sizes import simplified


def differing(one: Recipe, other: Recipe) -> list[str]:
    """Return what two Plans do otherwise: names of variables, names of tensors that one drops.

    Steps that move nothing do not count.
    """
    shapes = {name: spec.shape for plan in (one, other) for name, spec in plan.sources.items()}
    first, second = ({
        assignment.key: _plain(assignment.expression, shapes)
        for assignment in reversed(plan.assignments)
    } for plan in (one, other))
    specs = {**one.targets, **other.targets}
    keys = [key for key in specs if first.get(key) != second.get(key)]
    return [
        *(specs[key].display_name for key in keys), *sorted(set(one.dropped) ^ set(other.dropped)),
        *sorted(set(one.kept) ^ set(other.kept))
    ]


def _plain(expression: Expression, shapes: dict[str, tuple[int, ...]]) -> Expression:
    if needs_callback(expression):
        return expression
    return simplified(expression, partial(shape_of, shapes=shapes))
