"""From a Plan to what a user of the classic functions would have to say: dictionaries, weights to
unstack, layers to skip and to keep.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..errors import AlignmentError, TransferError
from ..plan.evaluation import Evaluation
from ..plan.expressions import Expression, tensors_of
from ..plan.plan import Plan
from ..spec.layer_groups import (DEFAULT_SKIP_WEIGHTS, LayerGroups, TorchLayer, group_by_layer,
                                 last_part)
from ..spec.source import Source
from ..spec.target import Target, TargetVariable
from ..util.text import join_names
from .by_order import PairingOptions, plan_by_order
from .propose import Moves, smallest_moves


@dataclass(frozen=True, slots=True)
class ClassicDictionaries:
    """Arguments of `keras_reload_from_torch_model` that give the alignment of a Plan.

    `names` are the Keras layers in PyTorch's order: what `specific_match_func` may return instead
    of the dictionaries. `moves` are the dictionaries; of three stages the first and the last turn
    the list round. `moved` is the least number of layers that have to be moved. `reason` is "" when
    the arguments were run and gave the Plan's alignment; otherwise it says what they cannot say.
    Printing it gives a call that is ready to paste.
    """

    names: tuple[str, ...] = ()
    moves: Moves = field(default_factory=Moves)
    unstack_weights: tuple[str, ...] = ()
    skip_weights: tuple[str, ...] = DEFAULT_SKIP_WEIGHTS
    skip_layers: tuple[str, ...] = ()
    keep_layers: tuple[str, ...] = ()
    expand_nested: bool = False
    reason: str = ""

    @property
    def moved(self) -> int:
        """The least number of layers that have to be moved."""
        return self.moves.moved

    @property
    def found(self) -> bool:
        """True when there are dictionaries and they are short: no more entries than a quarter of
        the moved layers, and three.
        """
        return not self.reason and self.moves.is_short

    @property
    def tail_align_dict(self) -> Any:
        """That of the only stage, or a list of one for each stage."""
        return self.moves.arguments()["tail_align_dict"]

    @property
    def full_name_align_dict(self) -> Any:
        """That of the only stage, or a list of one for each stage."""
        return self.moves.arguments()["full_name_align_dict"]

    @property
    def tail_split_position(self) -> Any:
        """That of the only stage, or a list of one for each stage."""
        return self.moves.arguments()["tail_split_position"]

    def arguments(self) -> dict[str, Any]:
        """What to give to `keras_reload_from_torch_model` by name, without what is its default."""
        arguments: dict[str, Any] = {"unstack_weights": list(self.unstack_weights)
                                    } if self.unstack_weights else {}
        if self.moved and not self.found and self.names:
            order = list(self.names)
            arguments["specific_match_func"] = lambda names: order
        elif self.moved:
            arguments |= self._arguments_of_moves()
        given = {"skip_layers": list(self.skip_layers), "keep_layers": list(self.keep_layers)}
        arguments |= {name: value for name, value in given.items() if value}
        if self.skip_weights != DEFAULT_SKIP_WEIGHTS:
            arguments["skip_weights"] = list(self.skip_weights)
        if self.expand_nested:
            arguments["expand_nested"] = True
        return arguments

    def _arguments_of_moves(self) -> dict[str, Any]:
        arguments = self.moves.arguments()
        if not any(stage.full_name_align_dict for stage in self.moves.stages):
            del arguments["full_name_align_dict"]
        if not any(stage.tail_align_dict for stage in self.moves.stages):
            del arguments["tail_align_dict"]
        if "tail_align_dict" not in arguments or arguments["tail_split_position"] == 2:
            del arguments["tail_split_position"]
        return arguments

    def __str__(self) -> str:
        """A call that is ready to paste, under a comment that says what it does."""
        arguments = self.arguments()
        if "specific_match_func" in arguments:
            arguments["specific_match_func"] = _Verbatim(f"lambda names: {list(self.names)!r}")
        lines = [f"    {name}={value!r}," for name, value in arguments.items()]
        call = "\n".join(
            ["keras_reload_from_torch_model(", "    torch_model,", "    keras_model,", *lines, ")"])
        return f"# {self.comment}\n{call}"

    @property
    def comment(self) -> str:
        """One sentence: how many layers are moved, or why dictionaries cannot say the alignment."""
        if self.reason:
            return f"not said by dictionaries alone: {self.reason}"
        if not self.moved:
            return "the layers stand in the same order"
        if self.found:
            turned = "; the list is turned round first and last" if len(
                self.moves.stages) > 1 else ""
            return (f"{self.moved} layers stand elsewhere in Keras; run and found to give the "
                    f"same alignment{turned}")
        return (f"{self.moved} layers stand elsewhere in Keras, in no order that repeats: the "
                "dictionaries would be as long as this list")


class _Verbatim(str):
    """Text that stands in a call as it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def dictionaries_of(plan: Plan, source: Source, target: Target,
                    expanded: Target) -> ClassicDictionaries:
    """The shortest arguments found that reproduce `plan`, or as much of them as there is, with the
    reason why it is not all.

    `expanded` is the same model with the leaves of its composite layers as places of their own,
    which is tried where whole layers cannot say it. When neither can, the reason is that of the
    leaves: which torch layer must be split, rather than how many there are for how few whole
    layers.
    """
    found = _for_places(plan, source, target)
    if found.found or len(expanded.layers) == len(target.layers):
        return found
    other = replace(_for_places(plan, source, expanded), expand_nested=True)
    return other if other.found or found.reason else found


def _for_places(plan: Plan, source: Source, target: Target) -> ClassicDictionaries:
    layers_of = _layers_by_tensor(plan, target)
    skip_weights = _skipped_last_parts(source, layers_of)
    unstack = _to_unstack(group_by_layer(source, skip_weights).layers, layers_of)
    collection = group_by_layer(source, skip_weights, unstack)
    used = {name for assignment in plan.assignments for name in tensors_of(assignment.expression)}
    used |= {name for constant in plan.constants for name in tensors_of(constant.expression)}
    skip_layers = tuple(torch_layer.name for torch_layer in collection.layers
                        if not any(tensor.name in used for tensor in torch_layer.tensors))
    filled = {layer for layers in layers_of.values() for layer in layers}
    keep_layers = tuple(layer.name for layer in target.layers if layer.name not in filled)
    common: dict[str, Any] = {
        "unstack_weights": tuple(unstack), "skip_weights": tuple(skip_weights),
        "skip_layers": skip_layers, "keep_layers": keep_layers
    }
    fused = _fused(collection, layers_of)
    if fused:
        return ClassicDictionaries(**common, reason=fused)
    names = tuple(layer.name for layer in target.layers)
    wanted = _wanted(names, collection, layers_of)
    return ClassicDictionaries(wanted, smallest_moves(names, wanted),
                               reason=_difference(plan, source, collection, target, wanted,
                                                  common), **common)


def _layers_by_tensor(plan: Plan, target: Target) -> dict[str, list[str]]:
    """Tensor to the names of the top-level layers that it fills, in order."""
    owner: dict[str, str] = {}
    for layer in target.layers:
        for variable in layer.variables:
            owner.setdefault(variable.key, layer.name)
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for assignment in plan.assignments:
        for name in tensors_of(assignment.expression):
            found[name][owner[assignment.key]] = None
    return {name: list(layers) for name, layers in found.items()}


def _skipped_last_parts(source: Source, layers_of: Mapping[str, Sequence[str]]) -> list[str]:
    """The default ones, and those of tensors without a place whose neighbors in the same torch
    layer have one, when no tensor of that name has one.
    """
    used = {last_part(name) for name in layers_of}
    skipped = list(DEFAULT_SKIP_WEIGHTS)
    for torch_layer in group_by_layer(source).layers:
        if any(tensor.name in layers_of for tensor in torch_layer.tensors):
            skipped += [
                last_part(tensor.name) for tensor in torch_layer.tensors
                if tensor.name not in layers_of and last_part(tensor.name) not in used
            ]
    return list(dict.fromkeys(skipped))


def _to_unstack(torch_layers: Sequence[TorchLayer], layers_of: Mapping[str,
                                                                       Sequence[str]]) -> list[str]:
    """Last parts of tensors that go to another layer than the rest of their torch layer."""
    found: dict[str, None] = {}
    for torch_layer in torch_layers:
        by_layer: dict[str, list[str]] = defaultdict(list)
        for tensor in torch_layer.tensors:
            for layer in layers_of.get(tensor.name, ()):
                by_layer[layer].append(last_part(tensor.name))
        if len(by_layer) > 1:
            found |= dict.fromkeys(parts[0] for parts in by_layer.values() if len(parts) == 1)
    return list(found)


def _fused(collection: LayerGroups, layers_of: Mapping[str, Sequence[str]]) -> str:
    """What no order of layers can say: a torch layer that fills several Keras layers."""
    split = [
        (torch_layer.name, layers)
        for torch_layer in collection.layers if len(layers := dict.fromkeys(
            name for tensor in torch_layer.tensors for name in layers_of.get(tensor.name, ()))) > 1
    ]
    if not split:
        return ""
    named = join_names((f"'{layer}' into {', '.join(layers)}" for layer, layers in split),
                       separator="; ")
    return ("torch layers must be split, which ktc.align(..., mapping=...) says with split(...): "
            f"{named}")


def _wanted(names: Sequence[str], collection: LayerGroups,
            layers_of: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """The Keras names in PyTorch's order; a layer that gets nothing stays behind the one that it
    follows.
    """
    order: dict[str, int] = {}
    for place, torch_layer in enumerate(collection.layers):
        for tensor in torch_layer.tensors:
            for layer in layers_of.get(tensor.name, ()):
                order.setdefault(layer, place)
    followed: list[tuple[int, int, str]] = []
    before = -1
    for index, name in enumerate(names):
        before = order.get(name, before)
        followed.append((before, index if name not in order else -1, name))
    return tuple(name for _, _, name in sorted(followed))


def _difference(plan: Plan, source: Source, collection: LayerGroups, target: Target,
                wanted: Sequence[str], common: Mapping[str, Any]) -> str:
    """What pairing in the wanted order does otherwise than the Plan, "" when it gives the same
    values.
    """
    try:
        options = PairingOptions(common["skip_layers"], common["keep_layers"], aligned=True)
        ordered = plan_by_order(collection, target, wanted, options)
    except (AlignmentError, TransferError) as error:
        return f"with the layers in order, {error}"
    got = {assignment.key: assignment for assignment in ordered.assignments}
    evaluation = Evaluation(source)
    other = [
        target.variables[assignment.key].display_name
        for assignment in plan.assignments if assignment.key not in got
        or not _same(got[assignment.key].expression, assignment.expression, target.variables[
            assignment.key], evaluation)
    ]
    if other:
        return (f"these take other tensors or other values: {join_names(other)}; "
                "give their values with additional_transfer")
    return ""


def _same(first: Expression, second: Expression, variable: TargetVariable,
          evaluation: Evaluation) -> bool:
    """True when two expressions give the same values, bit for bit."""
    if first == second:
        return True
    if set(tensors_of(first)) != set(tensors_of(second)):
        return False
    one, two = (evaluation.values(expression, variable.dtype, variable.display_name)
                for expression in (first, second))
    return one.shape == two.shape and one.tobytes() == two.tobytes()
