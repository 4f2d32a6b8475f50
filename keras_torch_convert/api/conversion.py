"""`convert`, one line a stage: read, align, transfer, compare, save."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, Union

from ..alignment.assemble import with_both_sides
from ..comparison.tolerances import TOLERANCES
from ..errors import NotEqualError, SaveError, TransferError
from ..keras_io.keras_save import check_path
from ..keras_io.model import is_keras_model, read_target
from ..plan.difference import expected_of
from ..plan.executor import Strict, check_plan
from ..plan.plan import FamilyPlan, Plan, check_is_plan
from ..report.report import Report
from ..rules.families.position_tables import Resize
from ..running.inputs import InputRequest, input_pair
from ..spec.source import Source
from ..spec.target import Target
from ..torch_io.live_tensor import is_torch_module
from ..torch_io.reader import read as read_source
from ..torch_io.renaming import fit_to_plan
from ..torch_io.stored_names import matched_by_value, with_stored_names
from ..util.progress import counting_bar
from ..util.time_limit import DEFAULT_TIME_LIMIT, TimeLimit
from .aligning import aligned_by_running, aligned_statically, aligned_with_folded_norms
from .family_plans import AnyPlan, member_plan
from .reporting import Stages, timed
from .state_dicts import sides_of
from .transfer import TransferOptions, compare_outputs, inputs_for, transferred
from .verification import VerifyOptions

if TYPE_CHECKING:
    from ..running.input_pair import Call, InputPair

IfDifferent = Literal["raise", "keep"]
Accept = Literal["close", "equal"]
Direction = Literal["to_keras", "to_torch"]
Path = Union[str, "PathLike[str]"]


# The parameters are public, and most of the lines say what they mean.
def convert(source: Any, target: Any, *, plan: AnyPlan | None = None,
            direction: Direction = "to_keras", sample: Any = None, torch_call: Call | None = None,
            keras_call: Call | None = None, hints: Mapping[str, str] | None = None,
            accept_unproven: bool = False, strict: Strict = True, verify: bool = True,
            if_different: IfDifferent = "raise", accept: Accept = "close",
            tolerance: float = TOLERANCES.accepted, save: Path | None = None,
            progress: bool = False, resize: Resize = None, rename: Mapping[str, str] | None = None,
            module: Any = None, time_limit: float | None = DEFAULT_TIME_LIMIT,
            fold_norms: bool = False) -> Report:
    """Carry the weights of a PyTorch model into a Keras model, or the reverse, and prove it.

    A Plan says where each weight goes; without one, `align` finds it. Everything is checked before
    the first value is written, and after an error both models and the file are as they were. With
    `verify` and a torch module at hand both models are run on several inputs. The verdict is
    "equal" if rounding explains the difference, "close" up to `tolerance`, else "different", or
    "undecided" if the inputs prove nothing.

    Args:
        source: A torch module, a state dict, or the path of a checkpoint. Or a Keras model, if
            `target` is a torch module.
        target: A Keras 3 or tf_keras model. Or a torch module, if `direction` or a Plan says so.
        plan: The Plan to apply, of an earlier conversion or of `align`, or the family of the
            models (`Plan.generalize`). One from torch to Keras is inverted to fill a torch module.
        direction: "to_torch" fills the torch module `target` from the Keras model `source`; without
            a Plan their layers are paired in their order.
        sample: That of `align`: one array in the Keras layout, or (torch inputs, Keras inputs).
        torch_call: That of `align`.
        keras_call: That of `align`.
        hints: That of `align`.
        accept_unproven: That of `align`. A checkpoint alone needs it, unless a Plan is given; the
            report then has a confidence for each weight.
        strict: True wants every variable set and every tensor used, "target" only the first, False
            neither: it also leaves a head for another number of classes as it is. What is left
            over stands in the ledger of the report.
        verify: Run both models and compare their outputs.
        if_different: "raise" undoes the conversion if more differs than is accepted, "keep" keeps
            the weights and saves.
        accept: The worst verdict that is accepted, "close" or "equal".
        tolerance: The largest difference that counts as close, as a fraction of torch's largest
            output.
        save: The file to write (.h5, .weights.h5 or .keras), of the Keras model that was filled.
        progress: Show a bar.
        resize: "bicubic" or "bilinear" aligns by shapes, names and order, and resizes position
            tables that were made for another image size. None refuses them.
        rename: That of `read`, for a state dict or a checkpoint.
        module: For a checkpoint or a folder as the source: the torch module that it belongs to. It
            says how the layers are aligned, and how the file holds what the module's library
            renames, fuses or splits while it loads it. The values are those of the file; the
            outputs are compared if the module has the same.
        time_limit: That of `align`, and again for the causes where the outputs differ.
        fold_norms: That of `align`.

    Returns:
        The report.

    Raises:
        AlignmentError: No Plan was found; the message has what is open.
        TransferError: The Plan does not fit; `.problems` lists all bad pairs.
        NotEqualError: The outputs differ by more than is accepted; it has `.report` and
            `.comparison`.
        PredictionError: A model cannot be run.
        SaveError: The file cannot be written.

    Example:
        >>> report = ktc.convert(torch_model, keras_model, save="model.h5")
        >>> report.verdict
        'equal'
    """
    if plan is not None and not isinstance(plan, FamilyPlan):
        check_is_plan(plan)
    options = ConvertOptions(InputRequest(sample, torch_call, keras_call),
                             TransferOptions(strict, save, progress), verify, if_different, accept,
                             tolerance, time_limit)
    into_torch = is_torch_module(target) and not is_keras_model(target)
    _check_direction(source, into_torch, direction, plan)
    if resize is not None and (plan is not None or into_torch):
        raise TransferError(
            "resize is for aligning without a plan, into a Keras model; a Plan says itself how "
            "tables are resized: give it to ktc.align(..., mapping=...)")
    if fold_norms and (plan is not None or resize is not None or into_torch):
        raise TransferError("fold_norms is for finding a Plan by running a torch module; a Plan "
                            "that was found with it folds by itself")
    if into_torch:
        return _into_torch(source, target, plan, options)
    seconds: dict[str, float] = {}
    with timed(seconds, "read"):
        source = read_source(source, rename=rename)
        owner = source if module is None else read_source(module)
        target = target if isinstance(target, Target) else read_target(target, sample=sample)
    stages = Stages(source, target, seconds)
    if save is not None:
        # Alignment may take minutes.
        check_path(save, target)
    inputs: InputPair | None = None
    if plan is None:
        with timed(seconds, "align"):
            if resize is None and owner.module is not None:
                inputs = input_pair(owner.module, target, options.request)
                layers = sum(1 for _ in target.leaves())
                with counting_bar(layers, title="align", unit="layer", shown=progress) as done:
                    aligned = aligned_with_folded_norms if fold_norms else aligned_by_running
                    plan, stages.alignment = aligned(owner, target, inputs, hints or {},
                                                     accept_unproven, strict,
                                                     TimeLimit(time_limit, done))
            else:
                if fold_norms:
                    raise TransferError("fold_norms needs the torch module, whose norms are found "
                                        "by running it: give the checkpoint with module=")
                accepted = accept_unproven or owner.module is not None
                plan, stages.alignment = aligned_statically(owner, target, hints or {}, accepted,
                                                            resize, strict)
        plan = with_both_sides(with_stored_names(plan, owner), owner, target)
    else:
        plan = member_plan(plan, owner, target, strict)
    if owner is not source:
        return _from_file(stages, plan, owner, inputs, options)
    plan, stages.source = fit_to_plan(plan, source)
    with transferred(stages, with_both_sides(plan, stages.source, target), options.transfer,
                     last=not options.verify):
        options.compare(stages, stages.source, target, inputs)
    return stages.report()


def _from_file(stages: Stages, plan: Plan, owner: Source, inputs: InputPair | None,
               options: ConvertOptions) -> Report:
    """Fill a Keras model from a file by a Plan for the module that the file belongs to."""
    file, target = stages.source, stages.target
    assert target is not None
    if owner.module is None or file.module is not None:
        raise TransferError("module= is the torch module that a checkpoint belongs to: give the "
                            "checkpoint first, and an instance of the module as module=")
    plan, owner = fit_to_plan(plan, owner)
    in_file, stages.source = fit_to_plan(plan, file)
    if not expected_of(in_file, stages.source).keys() <= stages.source.keys():
        plan = replace(plan, stored=matched_by_value(owner, file))
        in_file, stages.source = fit_to_plan(plan, file)
    with transferred(stages, with_both_sides(in_file, stages.source, target), options.transfer):
        # The Plan for the module knows both name spaces.
        stages.plan = plan
        assert stages.checked is not None
        own = check_plan(plan, owner, target, strict="target")
        if all(one.tobytes() == other.tobytes()
               for (_, one), (_, other) in zip(own.arrays(), stages.checked.arrays(), strict=True)):
            options.compare(stages, owner, target, inputs)
        else:
            stages.notes += ("the module holds other weights than the file: the outputs were not "
                             "compared; load the file into the module to have them compared",)
    return stages.report()


def _check_direction(source: Any, into_torch: bool, direction: Direction,
                     plan: AnyPlan | None) -> None:
    """Refuse models in the wrong order: the weights of one of them would be lost."""
    if direction not in ("to_keras", "to_torch"):
        raise ValueError(f'direction must be "to_keras" or "to_torch", got {direction!r}')
    if into_torch and direction == "to_keras" and plan is None:
        first = "a Keras model" if is_keras_model(source) else f"a {type(source).__name__}"
        raise TransferError(
            f"the first model is {first} and the second a torch module, whose weights would be "
            "overwritten: give the torch module first, or say direction=\"to_torch\"; nothing was "
            "changed")
    if direction == "to_torch" and not into_torch:
        raise TransferError(
            'direction="to_torch" fills a torch module: give the Keras model first and the torch '
            "module second; nothing was changed")


def _into_torch(model: Any, module: Any, plan: AnyPlan | None, options: ConvertOptions) -> Report:
    """Fill a torch module from a Keras model."""
    if options.transfer.save is not None:
        raise SaveError("save= writes Keras files; keep the weights of a torch module with "
                        "torch.save(module.state_dict(), path)")
    seconds: dict[str, float] = {}
    with timed(seconds, "read"):
        if isinstance(plan, FamilyPlan):
            plan = plan.plan_for(module, model, strict=options.transfer.strict)
        plan, source, target, keras = sides_of(model, module, plan, options.request.sample)
    stages = Stages(source, target, seconds, warnings=plan.losses())
    with transferred(stages, plan, options.transfer, last=not options.verify):
        options.compare(stages, read_source(module), keras)
    return stages.report()


@dataclass(frozen=True, slots=True)
class ConvertOptions:
    """How `convert` writes and compares, and what it accepts; its parameters of these names."""

    request: InputRequest
    transfer: TransferOptions
    verify: bool
    if_different: IfDifferent
    accept: Accept
    tolerance: float
    time_limit: float | None

    def __post_init__(self) -> None:
        if self.if_different not in ("raise", "keep"):
            raise ValueError(f'if_different must be "raise" or "keep", got {self.if_different!r}')
        if self.accept not in ("close", "equal"):
            raise ValueError(f'accept must be "close" or "equal", got {self.accept!r}')

    def compare(self, stages: Stages, source: Source, keras: Target,
                inputs: InputPair | None = None) -> None:
        """Run both models, when there is a torch module and `verify`.

        `inputs` are those that the layers were aligned on, if they were. Raises NotEqualError for
        models that are not accepted, PredictionError when one of them cannot be run.
        """
        options = VerifyOptions(randomized=False, tolerance=self.tolerance,
                                time_limit=self.time_limit)
        if source.module is None or not self.verify:
            return
        inputs = inputs or inputs_for(stages, source, keras, self.request)
        if inputs is None:
            return
        compare_outputs(stages, source, keras, inputs, options, weights_stay=False)
        found = stages.comparison
        if found is None or self.if_different == "keep" or found.verdict in ("equal", "undecided"):
            return
        if found.verdict == "different" or self.accept == "equal":
            where = "" if found.first_divergence is None else f"\n{found.first_divergence}"
            accept = "" if found.verdict == "different" else ', and so does accept="close"'
            report = stages.report()
            raise NotEqualError(
                f"the models are aligned but their outputs differ: {found.summary()}"
                f"{report.kept_text()}; model and files are as they were; "
                f'if_different="keep" keeps the weights{accept}{where}', report, found)
