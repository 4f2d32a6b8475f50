"""The Plan: for every target variable the expression that gives its values, and a rule for
everything left out.

Every way of aligning ends in a Plan, and one executor (`executor.py`) applies it, whatever the
target is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

from ..errors import PlanError
from ..spec.file_layout import recorded_or_none
from ..spec.source import Source
from .difference import Difference, difference, without_layers
from .expressions import key_in_words, needs_callback
from .file import load_plan, save_plan
from .inverse import inverted, losses_of
from .recipe import Recipe


@dataclass(frozen=True, slots=True)
class Plan(Recipe):
    """A deterministic recipe: the same models give the same Plan.

    `assignments` are in the target's order. `dropped` maps source names to the rule that leaves
    them out, `kept` maps places of target variables to the rule that lets them keep their own
    values. Whatever neither assigns nor excuses is left over, which the executor refuses when
    strict. `pairs` are the aligned layers, (torch layer, Keras layer), for display. `constants`
    must hold for the Plan to be applied. `sources` and `targets` are the arrays of both sides, by
    name and by place; `reversed` is True for a Plan from Keras variables to torch tensors. `layout`
    is how files of the Keras model look, None when that is unknown; it is read off the model when
    `save` or `apply` first wants it, and has no part in comparisons.
    """
    @property
    def portable(self) -> bool:
        """True when no opaque callback is needed to apply the Plan."""
        return not any(needs_callback(assignment.expression) for assignment in self.assignments)

    @property
    def lossless(self) -> bool:
        """True when every value can be carried back bit for bit: nothing is computed, and every
        type holds all values of the other side's.
        """
        return not self.losses()

    def losses(self) -> tuple[str, ...]:
        """What cannot be carried back bit for bit, one sentence for each target variable concerned,
        () for a lossless Plan.
        """
        return losses_of(self)

    def invert(self) -> Plan:
        """The Plan for the other direction: a Keras model's variables into torch tensors, or back
        again.

        Data movement is inverted exactly. Where this Plan computes, the inverse gives an equal
        function: of two biases that were added the first gets the sum and the other zeros; a
        weight-normalized weight becomes direction, with its own norm as magnitude. Tensors that
        this Plan drops are kept by the other side, variables that it keeps are dropped. Raises
        TransferError, with all reasons in `.problems`, for what cannot be inverted: callbacks, and
        a Plan made by hand without `sources` and `targets`.
        """
        return inverted(self)

    def difference(self, source: Source) -> Difference:
        """How a checkpoint, as `ktc.read` gives it, differs from what this Plan was made from:
        missing, extra and renamed tensors, other shapes and types. Printed, it tells each in a
        line; it is False when nothing differs, and `.fits` tells whether the Plan can be applied.
        Reads no values.
        """
        if not isinstance(source, Source):
            raise PlanError(f"expected a Source, got {type(source).__name__}: give "
                            "plan.difference(ktc.read(source))")
        return difference(self, source)

    def without(self, *layers: str) -> Plan:
        """The Plan without some Keras layers, by name ("predictions", "predictions/kernel"; "*" for
        any text): they keep their values, which the report tells.

        Tensors that only they used are left out by the same rule. A head of another class count can
        be left out so. Raises AlignmentError for a name that hits nothing.
        """
        return without_layers(self, layers)

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the Plan to a file, by custom "x.plan.json": readable JSON, the same bytes for the
        same Plan. Returns the path.

        The layout of the Keras model's files is recorded now if it was not yet, which takes about
        as long as saving the model; its values are back, bit for bit, afterward. A warning tells
        when the model is gone, and the Plan is saved without the layout: `apply` wants a template
        then. A file cannot hold a user's functions: of a Plan that is not `portable` it keeps their
        keys, see `load`.
        """
        return save_plan(replace(self, layout=recorded_or_none(self.layout)), path)

    @staticmethod
    def load(
            path: str | PathLike[str], *,
            additional_transfer: Mapping[Any, Callable[[list[Any]], list[Any]]] | None = None
    ) -> Plan:
        """Read a Plan that `save` wrote.

        A Plan that is not `portable` needs the functions of `additional_transfer` again, under the
        same keys; without them it can be looked at, not applied. Raises PlanError for a file that
        is damaged, was changed, is no plan, or comes from a newer version.
        """
        return load_plan(
            path, Plan,
            {key_in_words(key): function for key, function in (additional_transfer or {}).items()})


def check_is_plan(plan: object) -> None:
    """Raise PlanError for anything that is no Plan, the path of one for instance."""
    if not isinstance(plan, Plan):
        raise PlanError(
            f"expected a Plan, got {type(plan).__name__}: Plan.load(path) reads one from its file")
