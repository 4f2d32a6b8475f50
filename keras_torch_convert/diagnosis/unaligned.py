"""Two models whose layers could not all be aligned: what has no counterpart on the other side, and
where the models part when the weights that have a place are tried.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING

from ..alignment.static.proposal import align_statically
from ..comparison.divergence import FirstDivergence
from ..errors import AlignmentError
from ..plan.executor import check_plan
from ..plan.expressions import tensors_of
from ..plan.plan import Plan
from ..plan.recipe import tensors_read
from ..running.keras_values import trial_values
from ..spec.roles import role_of
from ..spec.source import Source
from ..spec.target import Target, TargetLayer
from ..util.text import bullets, join_names, plural
from ..util.time_limit import TimeLimit
from .causes.weights import ARGUMENTS, ARGUMENTS_OF_NORMS, MISSING_WEIGHTS
from .description import internal_error
from .diagnosis import Diagnosis
from .settings import settings_to_blame

if TYPE_CHECKING:
    from ..alignment.activations.outcome import Alignment
    from ..running.input_pair import InputPair

MAX_SHOWN = 4
_LOG = logging.getLogger(__name__)
# In the reason why a layer is open: no value of torch's goes into it.
OFF_THE_TRACK = "from the nearest value in torch"


def refusal(source: Source, target: Target, inputs: InputPair, plan: Plan, alignment: Alignment,
            hints: Mapping[str, str], limit: TimeLimit) -> AlignmentError:
    """Return the error about layers that stayed open: the causes that are proven first, then what
    has no counterpart, then what is open. The search for causes ends at the limit.
    """
    causes, blamed = settings_to_blame(source, target)
    try:
        causes = causes or why_open(source, target, inputs, plan, alignment, hints, limit)
    except Exception as failure:
        # What is open is what the user needs; tests raise the failure itself.
        _LOG.debug("%s", internal_error(failure))
    open_layers = what_is_open(source, target, alignment, bool(causes), blamed)
    more_time = ["a larger time_limit= lets the search go on, time_limit=None to its end"
                ] if alignment.is_out_of_time else []
    return AlignmentError("\n".join([*causes, open_layers, *more_time]))


def what_is_open(source: Source, target: Target, alignment: Alignment, causes: bool,
                 blamed: Collection[str] = ()) -> str:
    """Return what is aligned and what is open: layers that are open because of others are counted.

    `causes` says whether some are known, `blamed` are the layers that are said to be one.
    """
    names = join_names(alignment.left_over, 8)
    count = plural(len(alignment.left_over), "torch tensor")
    if not alignment.open:
        return (f"{target.name!r} has no counterpart of {count} ({names}), so it differs from the "
                "torch module; nothing was written")
    tentative = [
        display_name for display_name, one in alignment.matches.items() if one.is_tentative
    ]
    doubted = (f" ({len(tentative)} by the input alone, such as '{tentative[0]}')"
               if tentative else "")
    aligned, open_layers = len(alignment.matches), list(alignment.open)
    counts = (f"{plural(aligned, 'layer')} of {target.name!r} {_are(aligned)} aligned{doubted}, "
              f"{len(open_layers)} {_are(len(open_layers))} open, nothing was written")
    # A layer whose input torch does not have is open because of one before it.
    alone = [
        name for number, name in enumerate(open_layers)
        if name not in blamed and not (number and OFF_THE_TRACK in alignment.open[name])
    ]
    alike: dict[str, list[str]] = {}
    for name in alone:
        alike.setdefault(alignment.open[name], []).append(name)
    lines = (f"{join_names(names, 3)}: {reason}" for reason, names in alike.items())
    shown = f":{bullets(lines)}" if alone else ""
    if alone and (behind := len(open_layers) - len(alone)):
        shown += f"\n  and {behind} that may be open because of that"
    if causes or not alignment.left_over:
        return f"{counts}{shown}"
    return (f"{counts}{shown}\n{count} without a counterpart: {names}"
            f"{_hints_advice(source, target, alignment)}")


def _hints_advice(source: Source, target: Target, alignment: Alignment) -> str:
    """Return what to do where the tensors that are left of a torch layer could fill an open layer,
    else "".
    """
    sizes: dict[str, list[int]] = {}
    for name in alignment.left_over:
        sizes.setdefault(name.rpartition(".")[0] or name, []).append(prod(source[name].shape))
    for leaf in target.leaves():
        wanted = sorted(variable.size for variable in leaf.variables)
        for layer, found in sizes.items() if leaf.display_name in alignment.open else ():
            if sorted(found) == wanted:
                return f"; settle a pair with hints={{'{leaf.display_name}': '{layer}'}}"
    return ""


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def why_open(source: Source, target: Target, inputs: InputPair, plan: Plan, alignment: Alignment,
             hints: Mapping[str, str], limit: TimeLimit) -> list[str]:
    """Return sentences about why layers stayed open: the divergence whose cause is proven, and what
    has no counterpart.

    What `plan` settles and, for the rest, what names and order say is computed with values that
    never reach the model. Layers that nothing confirmed may be settled wrongly: where no cause is
    found they too go by names and order.
    """
    proposal, _ = align_statically(source, target, hints)
    trusting = _completed(plan, proposal, ())
    cautious = _completed(plan, proposal, alignment.doubted_places())
    found = _cause(source, target, inputs, trusting, limit)
    if found is None and cautious != trusting:
        found = _cause(source, target, inputs, cautious, limit)
    kinds = set() if found is None else {one.kind for one in found.differences}
    is_said = len(kinds) > 1 and MISSING_WEIGHTS in kinds
    # A layer that the search did not come to may have one.
    sentences = [] if alignment.is_out_of_time else without_counterpart(
        source, target, cautious, alignment.open, is_said)
    if found is None or (sentences and kinds == {MISSING_WEIGHTS}):
        return sentences
    return [str(found), *sentences]


def _completed(plan: Plan, proposal: Plan, doubted: Collection[str]) -> Plan:
    """Return the plan, with the proposal's assignments for what it leaves open and for the
    `doubted` keys.
    """
    # A layer that was left neutral, since nothing in torch seemed to be its, may be the one that
    # differs.
    settled = {
        one.key: one
        for one in plan.assignments if tensors_of(one.expression) and one.key not in doubted
    }
    others = {one.key: one for one in proposal.assignments if one.key not in settled}
    rest = [one for one in plan.assignments if one.key not in settled and one.key not in others]
    kept = {key: why for key, why in plan.kept.items() if key not in others}
    return replace(plan, assignments=(*settled.values(), *others.values(), *rest), kept=kept)


def _cause(source: Source, target: Target, inputs: InputPair, whole: Plan,
           limit: TimeLimit) -> FirstDivergence | None:
    prepared = check_plan(whole, source, target, strict=False)
    with trial_values(target) as set_value:
        for variable, array in prepared.arrays():
            set_value(variable, array)
        found = Diagnosis(source, target, inputs, whole).result(limit)
    return found if found is not None and found.causes() else None


def without_counterpart(source: Source, target: Target, whole: Plan, open_layers: Collection[str],
                        is_said: bool = False) -> list[str]:
    """Return sentences about what `whole`, which has all that fits by running, names, shapes and
    order, gives no place to.

    `open_layers` are display names of Keras layers. Where both sides have several whole layers left
    over, only the reasons of the open layers tell which may belong together: nothing is said then.
    Nor of layers that lack a variable, when that `is_said` already.
    """
    left: dict[str, list[str]] = {}
    for name in _unused(source, whole):
        left.setdefault(name.rpartition(".")[0], []).append(name)
    filled = {one.key for one in whole.assignments}
    extra = [
        leaf
        for leaf in target.leaves() if leaf.display_name in open_layers and not _keys(leaf) & filled
    ]
    partners = _partners(target, whole)
    parts = {
        layer: _without_role(partners[layer], names)
        for layer, names in left.items() if layer in partners
    }
    layers = {layer: names for layer, names in left.items() if layer not in partners}
    found = [
        _without_variable(source, partners[layer], layer, names)
        for layer, names in parts.items() if names and not is_said
    ]
    if not extra:
        found += [
            f"torch layer {_torch_layer(source, layer)} with {', '.join(names)} has no counterpart "
            "in the Keras model" for layer, names in layers.items()
        ]
    if len(layers) == len(extra) == 1:
        layer, leaf = next(iter(layers)), extra[0]
        found.append(f"torch layer {_torch_layer(source, layer)} and Keras layer "
                     f"'{leaf.display_name}' ({leaf.class_name}) are left: they differ in kind or "
                     "size")
    if not layers:
        found += [
            f"Keras layer '{leaf.display_name}' ({leaf.class_name}) has no counterpart in torch"
            for leaf in extra
        ]
    more = len(found) - MAX_SHOWN
    return [
        *found[:MAX_SHOWN], *([f"and {more} more without a counterpart"] if more > 0 else []),
        *_folded_norms(source, target, layers)
    ]


def _folded_norms(source: Source, target: Target, left: Collection[str]) -> Iterator[str]:
    """Yield what to do about batch norms of torch in a Keras model that has none."""
    norms = [name for name in left if "BatchNorm" in _torch_layer(source, name)]
    if norms and not any("BatchNormalization" in leaf.class_names for leaf in target.leaves()):
        yield (
            "the Keras model has no batch norms, so they are folded into the layers before them, "
            f"as it seems: fold {join_names(norms, 3)} as well with fold_norms=True")


def _unused(source: Source, whole: Plan) -> list[str]:
    """Return torch tensors that nothing takes and nothing excuses, those tied to one that is taken
    left out.
    """
    taken = set(tensors_read(whole))
    taken |= {name for group in source.tied if taken & set(group) for name in group}
    return [name for name in source if name not in taken and name not in whole.dropped]


def _partners(target: Target, whole: Plan) -> dict[str, TargetLayer]:
    """Return for each torch layer the first Keras layer that takes one of its tensors."""
    leaf_of = {key: leaf for leaf in target.leaves() for key in _keys(leaf)}
    found: dict[str, TargetLayer] = {}
    for one in whole.assignments:
        for name in tensors_of(one.expression) if one.key in leaf_of else ():
            found.setdefault(name.rpartition(".")[0], leaf_of[one.key])
    return found


def _without_role(leaf: TargetLayer, names: Sequence[str]) -> list[str]:
    """Return those of `names` for whose role the Keras layer has no variable; one that has it was
    filled from elsewhere.
    """
    roles = {role_of(variable.name) for variable in leaf.variables}
    return [name for name in names if role_of(name) not in roles]


def _without_variable(source: Source, leaf: TargetLayer, layer: str, names: Sequence[str]) -> str:
    roles = {role_of(name) for name in names}
    is_norm = "Normalization" in leaf.class_name and "BatchNormalization" not in leaf.class_names
    if is_norm and roles == {"mean", "variance"}:
        ours, theirs = (", ".join(f"{name} {shape}" for name, shape in side)
                        for side in ([(one.name, one.shape) for one in leaf.variables],
                                     [(name, source[name].shape) for name in source
                                      if name.rpartition(".")[0] == layer and source[name].shape]))
        return (f"Keras layer '{leaf.display_name}' ({leaf.class_name}: {ours}) normalizes with "
                f"the statistics of each input, torch layer {_torch_layer(source, layer)} "
                f"({theirs}) with a running mean and variance: put a BatchNormalization in the "
                "place of the Keras layer")
    arguments = list(_arguments(leaf, names))
    advice = f": build it with {', '.join(arguments)}" if len(arguments) == len(names) else ""
    return (f"Keras layer '{leaf.display_name}' ({leaf.class_name}) has no variable for "
            f"{', '.join(names)} of torch layer {_torch_layer(source, layer)}{advice}")


def _arguments(leaf: TargetLayer, names: Sequence[str]) -> Iterator[str]:
    arguments = ARGUMENTS_OF_NORMS if "Normalization" in leaf.class_name else ARGUMENTS
    for name in names:
        argument = arguments.get(role_of(name) or "")
        if argument is not None:
            yield argument


def _torch_layer(source: Source, layer: str) -> str:
    return f"'{layer}' ({type(source.module.get_submodule(layer)).__name__})"


def _keys(leaf: TargetLayer) -> set[str]:
    return {variable.key for variable in leaf.variables}
