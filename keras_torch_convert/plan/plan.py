"""The Plan: for every target variable the expression that gives its values, and a rule for
everything left out.

Every way of aligning ends in a Plan, and one executor (`executor.py`) applies it, whatever the
target is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from os import PathLike
from pathlib import Path
from typing import Any

from ..errors import PlanError
from ..spec.file_layout import recorded_or_none
from ..spec.source import Source
from ..spec.target import Target
from .difference import Difference, difference, for_files, without_layers
from .expressions import describe_key, needs_callback
from .file import load_plan, save_plan
from .generalization.family_file import load_family, save_family
from .generalization.learning import learn
from .generalization.matching import Strict, plan_of_member
from .generalization.patterns import Family
from .generalization.python_module import module_of
from .generalization.readers import READERS
from .generalization.table import table
from .inverse import inverted, losses_of
from .recipe import Recipe


@dataclass(frozen=True, slots=True)
class Plan(Recipe):
    """A deterministic recipe: the same models give the same Plan.

    Whatever a Plan neither assigns nor excuses is left over, which the executor refuses when
    strict.

    Attributes:
        assignments: Where each variable gets its values, in the target's order.
        dropped: Names of source tensors that are left out, with the rule.
        kept: Keys of target variables that keep their own values, with the rule.
        pairs: The aligned layers, (torch layer, Keras layer), for display.
        constants: What must hold for the Plan to be applied.
        sources: The tensors of the source by name.
        targets: The variables of the target by key.
        reversed: True for a Plan from Keras variables to torch tensors.
        layout: What files of the Keras model look like, None when that is unknown. It is read off
            the model when `save` or `apply` first wants it, and has no part in comparisons.
        stored: How files hold what the module's library renames, fuses or splits while it loads
            them, None when they have the module's own tensors.
    """
    @property
    def portable(self) -> bool:
        """True when no opaque callback is needed to apply the Plan."""
        return not any(needs_callback(assignment.expression) for assignment in self.assignments)

    @property
    def lossless(self) -> bool:
        """True when every value can be carried back bit for bit: nothing is computed, and every
        dtype holds all values of the other side's.
        """
        return not self.losses()

    def losses(self) -> tuple[str, ...]:
        """Name what cannot be carried back bit for bit.

        Returns:
            One sentence for each target variable concerned, () for a lossless Plan.
        """
        return losses_of(self)

    def invert(self) -> Plan:
        """Turn the Plan round: a Keras model's variables into torch tensors, or back again.

        Data movement is inverted exactly. Where this Plan computes, the inverse gives an equal
        function: of two biases that were added the first gets the sum and the other zeros; a
        weight-normalized weight becomes direction, with its own norm as magnitude. Tensors that
        this Plan drops are kept by the other side, variables that it keeps are dropped.

        Returns:
            The Plan for the other direction.

        Raises:
            TransferError: Something cannot be inverted, such as a callback or a Plan made by hand
                without `sources` and `targets`; `.problems` has all reasons.
        """
        return inverted(self)

    def difference(self, source: Source) -> Difference:
        """Compare a checkpoint with what this Plan was made from. Reads no values.

        Args:
            source: The checkpoint, as `ktc.read` gives it.

        Returns:
            Missing, extra and renamed tensors, other shapes and dtypes. Printed, it has a line for
            each; it is False when nothing differs, and `.fits` is True when the Plan can be
            applied.

        Raises:
            PlanError: `source` is not a Source.
        """
        if not isinstance(source, Source):
            raise PlanError(f"expected a Source, got {type(source).__name__}: give "
                            "plan.difference(ktc.read(source))")
        return difference(self, source)

    def without(self, *layers: str) -> Plan:
        """Leave out some Keras layers, such as a head for another number of classes.

        They keep their values, and the report says so. Tensors that only they used are left out by
        the same rule.

        Args:
            *layers: Names of layers or variables ("predictions", "predictions/kernel"; "*" stands
                for any text).

        Returns:
            The Plan without them.

        Raises:
            AlignmentError: A name hits nothing.
        """
        return without_layers(self, layers)

    def generalize(self, *others: Plan) -> FamilyPlan:
        """Learn what holds for every depth and width of the architecture.

        Args:
            *others: Plans of other members, for what this one does not have: other depths, other
                widths, other kinds of blocks.

        Returns:
            The family, which makes the Plan of another member from its names and shapes alone.

        Raises:
            PlanError: The Plan has no pattern, such as one with callbacks; two Plans contradict
                each other; or one block of a model differs from its twins.

        Example:
            >>> family = plan.generalize()
            >>> ktc.convert("model.pth", keras_model, plan=family).ok
            True
        """
        for other in others:
            check_is_plan(other)
        family = learn((self, *others))
        return FamilyPlan(*(getattr(family, field.name) for field in fields(family)))

    def to_python(self, name: str = "the architecture", style: str = "numpy") -> str:
        """Write the Plan as a Python module; see `FamilyPlan.to_python`.

        Args:
            name: What the module says it is for.
            style: "numpy", or "keras-hub" for a converter over the tensors' names on the Hub.

        Returns:
            The text of the module.

        Raises:
            PlanError: The Plan has no pattern, or one that is no line of Python.

        Example:
            >>> "def convert(source, shapes):" in plan.to_python()
            True
        """
        plan = for_files(self) if style == "keras-hub" else self
        return plan.generalize().to_python(name, style)

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the Plan to a file: readable JSON, the same bytes for the same Plan.

        The layout of the Keras model's files is recorded now if it was not yet, which takes about
        as long as saving the model; its values are back, bit for bit, afterward. If the model is
        gone, a warning says so, and the Plan is saved without the layout: `apply` wants a template
        then. A file cannot hold a user's functions: of a Plan that is not `portable` it keeps their
        keys, see `load`.

        Args:
            path: The file to write, by custom "x.plan.json".

        Returns:
            The path.

        Raises:
            PlanError: The Plan holds what a file cannot, such as an infinite number.
            SaveError: The file cannot be written.
        """
        return save_plan(replace(self, layout=recorded_or_none(self.layout)), path)

    @staticmethod
    def load(
            path: str | PathLike[str], *,
            additional_transfer: Mapping[Any, Callable[[list[Any]], list[Any]]] | None = None
    ) -> Plan:
        """Read a Plan that `save` wrote.

        Args:
            path: The file.
            additional_transfer: The functions that a Plan needs which is not `portable`, under the
                same keys. Without them it can be looked at, not applied.

        Returns:
            The Plan.

        Raises:
            PlanError: The file is damaged, was changed, is no plan or no regular file, costs more
                than a plan may, or comes from a newer version.
        """
        calls = {describe_key(key): call for key, call in (additional_transfer or {}).items()}
        return load_plan(path, Plan, calls)


@dataclass(frozen=True, slots=True)
class FamilyPlan(Family):
    """One Plan for all sizes of an architecture, learned from Plans of small members.

    `Plan.generalize` makes it. Printed, it is a table of its layers.
    """
    def __str__(self) -> str:
        return "\n".join(table(self))

    def plan_for(self, source: Any, target: Any = None, *, strict: Strict = True,
                 shapes: Mapping[str, Sequence[int]] | None = None) -> Plan:
        """Make the Plan of a member from its names and shapes. No model is run.

        Args:
            source: A checkpoint, a torch module, or anything else that `ktc.read` takes.
            target: The Keras model. Without one the Plan is for `ktc.apply`, into a .weights.h5 or
                .weights.json file of a model that was never built.
            strict: True refuses tensors that are left over, "target" only those that the family
                knows, False none.
            shapes: Without a target: shapes of variables that do not follow from the tensors, such
                as the number of heads, by what an error calls them.

        Returns:
            The same Plan as alignment finds.

        Raises:
            TransferError: Something does not follow from the patterns; `.problems` has everything.

        Example:
            >>> family = plan.generalize()
            >>> len(family.plan_for("model.pth", keras_model).assignments)
            8
        """
        source = source if isinstance(source, Source) else READERS.source(source)
        if target is None:
            given = {form: tuple(shape) for form, shape in (shapes or {}).items()}
            return plan_of_member(self, source, None, Plan, strict, given)
        target = target if isinstance(target, Target) else READERS.target(target)
        plan = plan_of_member(self, source, target, Plan, strict)
        made: Plan = READERS.complete(plan, source, target) if target.model is not None else plan
        return made

    def to_python(self, name: str = "the architecture", style: str = "numpy") -> str:
        """Write the family as a Python module, with loops over the blocks.

        In the style "numpy" it needs NumPy alone. Its `convert(source, shapes)` takes the
        checkpoint's arrays by name and the shapes of the Keras variables by path (without the
        model's name), and refuses whatever is left over, of another shape, or taken twice.

        In the style "keras-hub" it is a converter of keras-hub: its `convert_weights(backbone,
        loader, transformers_config)` calls `loader.port_weight` for each variable, and refuses
        variables that nothing is ported to. As with keras-hub's own converters, tensors may be left
        over in the checkpoint.

        Args:
            name: What the module says it is for.
            style: "numpy" or "keras-hub".

        Returns:
            The text of the module.

        Raises:
            PlanError: A pattern follows from its neighbors, or has a step that is no line of NumPy.

        Example:
            >>> "def convert(source, shapes):" in plan.generalize().to_python()
            True
        """
        return module_of(self, name, style)

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the family to a file: readable JSON, a line for each pattern.

        The same family gives the same bytes.

        Args:
            path: The file to write, by custom "x.family.json".

        Returns:
            The path.

        Raises:
            SaveError: The file cannot be written.
        """
        return save_family(self, Path(path))

    @staticmethod
    def load(path: str | PathLike[str]) -> FamilyPlan:
        """Read a family that `save` wrote.

        Args:
            path: The file.

        Returns:
            The family.

        Raises:
            PlanError: The file is damaged, was changed, is no family, or comes from a newer
                version.
        """
        return load_family(Path(path), FamilyPlan)


def check_is_plan(plan: object) -> None:
    """Raise PlanError for anything that is no Plan, the path of one for instance."""
    if isinstance(plan, FamilyPlan):
        raise PlanError("expected the Plan of one member, got a family: make it with "
                        "family.plan_for(source, keras_model)")
    if not isinstance(plan, Plan):
        raise PlanError(
            f"expected a Plan, got {type(plan).__name__}: Plan.load(path) reads one from its file")
