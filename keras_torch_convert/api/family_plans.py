"""Families where a Plan is wanted: the Plan of the member at hand takes their place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, Union

from ..alignment.assemble import with_both_sides
from ..errors import AlignmentError, PlanError
from ..keras_io.model import read_target
from ..keras_io.model_writer import transaction
from ..plan.executor import Strict, check_plan
from ..plan.generalization.equality import differing
from ..plan.generalization.family_file import FORMAT
from ..plan.generalization.readers import READERS
from ..plan.plan import FamilyPlan, Plan, check_is_plan
from ..spec.source import Source
from ..spec.target import Target
from ..torch_io.reader import read
from ..torch_io.renaming import fit_to_plan
from ..util.text import join_names
from .aligning import align

if TYPE_CHECKING:
    from ..running.input_pair import Call

AnyPlan = Union[Plan, FamilyPlan]
READERS.source, READERS.target, READERS.complete = read, read_target, with_both_sides


def member_plan(plan: AnyPlan, source: Any, target: Any, strict: Strict = True) -> Plan:
    """Return a Plan as it is, and of a family the Plan for this source and this target.

    Raises PlanError for anything else, TransferError for a member that the family does not fit.
    """
    if isinstance(plan, FamilyPlan):
        return plan.plan_for(source, target, strict=strict)
    check_is_plan(plan)
    return plan


# The parameters are public, and most of the lines say what they mean.
def learn_family(make_torch: Callable[..., Any], make_keras: Callable[...,
                                                                      Any], sizes: Sequence[Any], *,
                 sample: Any = None, torch_call: Call | None = None, keras_call: Call | None = None,
                 hints: Mapping[str, str] | None = None, strict: Strict = True) -> FamilyPlan:
    """Make small members of an architecture, align them, and learn the family of all.

    Each member is checked against the family: it must make the very Plan that alignment found.

    Args:
        make_torch: Makes the torch module of a size.
        make_keras: Makes the Keras model of a size.
        sizes: Two or three small sizes: keyword arguments as a dict, positional ones as a tuple, or
            one argument. Choose widths, head sizes and vocabularies of which no two are equal, and
            not twice as many query heads as key heads.
        sample: That of `align`, or a function that makes it for a size.
        torch_call: That of `align`.
        keras_call: That of `align`.
        hints: That of `align`.
        strict: That of `FamilyPlan.plan_for`.

    Returns:
        The family.

    Raises:
        AlignmentError: A member is not aligned.
        PlanError: The members contradict each other, or one block differs from its twins.
        TransferError: The family does not fit one of its members.
        ValueError: There are no sizes.

    Example:
        >>> family = ktc.learn_family(lambda: torch_model, lambda: keras_model, [()])
        >>> family.plan_for(torch_model, keras_model) == plan
        True
    """
    if not sizes:
        raise ValueError("sizes= must have at least one size, two are better")
    found: list[tuple[Plan, Source, Target]] = []
    for size in sizes:
        module, model = _made(make_torch, size), _made(make_keras, size)
        drawn = sample(size) if callable(sample) else sample
        source, target = read(module), read_target(model, sample=drawn)
        try:
            plan = align(source, target, sample=drawn, torch_call=torch_call, keras_call=keras_call,
                         hints=hints)
        except AlignmentError as error:
            raise AlignmentError(f"the member of size {size!r}: {error}") from error
        found.append((plan, source, target))
    first, *others = [plan for plan, _, _ in found]
    family = first.generalize(*others)
    for size, (plan, source, target) in zip(sizes, found, strict=True):
        display_names = differing(plan, family.plan_for(source, target, strict=strict))
        if display_names:
            raise PlanError(
                f"the family says otherwise about its own member of size {size!r} than alignment: "
                f"{join_names(display_names, quoted=True)}; one of the plans is wrong, compare the "
                "outputs with ktc.convert(..., plan=family)")
    return family


def _made(make: Callable[..., Any], size: Any) -> Any:
    if isinstance(size, Mapping):
        return make(**size)
    return make(*size) if isinstance(size, (tuple, list)) else make(size)


def load_weights(keras_model: Any, source: Any, plan: AnyPlan | str | PathLike[str], *,
                 strict: Strict = True) -> None:
    """Fill a Keras model from a checkpoint by a family or Plan, without a word.

    What a zoo calls to load pretrained weights. Neither PyTorch nor a run of the model is needed.
    Everything is checked first, and on any error the model is as it was.

    Args:
        keras_model: The model to fill.
        source: The path of a checkpoint, or anything else that `read` takes.
        plan: The family or Plan, or the path of its file.
        strict: That of `convert`.

    Raises:
        PlanError: `plan` is neither, or its file is damaged.
        SourceError: The source cannot be read.
        TransferError: The checkpoint or the model does not fit; `.problems` has everything.

    Example:
        >>> ktc.load_weights(keras_model, "model.pth", "model.plan.json")
    """
    if isinstance(plan, (str, PathLike)):
        plan = load_plan(plan)
    source, target = read(source), read_target(keras_model)
    fitting, source = fit_to_plan(member_plan(plan, source, target, strict), source)
    checked = check_plan(fitting, source, target, strict=strict)
    with transaction(target) as writer:
        for variable, array in checked.arrays():
            writer.write(variable, array)
        writer.finalize_layers()


def load_plan(path: str | PathLike[str]) -> AnyPlan:
    """Read the file of a Plan or of a family. Raises PlanError."""
    try:
        return FamilyPlan.load(path)
    except PlanError as error:
        # What is not even JSON is a damaged Plan: most files are.
        if not any(text in str(error) for text in (FORMAT.name, "is not valid JSON")):
            raise
    return Plan.load(path)
