"""From a Plan to the arguments of the classic functions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..errors import AlignmentError, TransferError
from ..plan.evaluation import Evaluation
from ..plan.expressions import Expression, tensors_of
from ..plan.plan import Plan
from ..plan.recipe import tensors_read
from ..spec.layer_groups import DEFAULT_SKIP_WEIGHTS, LayerGroups, group_by_layer, last_part
from ..spec.source import Source
from ..spec.target import Target, TargetVariable
from ..util.text import join_names
from .by_order import PairingOptions, plan_by_order
from .propose import Moves, smallest_moves


@dataclass(frozen=True, slots=True)
class ClassicDictionaries:
    """Arguments of `keras_reload_from_torch_model` that give the alignment of a Plan.

    Printing it gives a call that is ready to paste.

    Args:
        names: The Keras layers in PyTorch's order: what `specific_match_func` may return instead of
            the dictionaries.
        moves: The dictionaries; of three stages the first and the last reverse the list.
        unstack_weights: Last parts of tensors that are layers of their own.
        skip_weights: Last parts of tensors to leave out.
        skip_layers: Torch layers to leave out.
        keep_layers: Keras layers that keep their own values.
        expand_nested: The leaves of composite layers count one by one.
        reason: What the arguments cannot say, "" when they were run and gave the Plan's alignment.
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
        """True when there are dictionaries and they are short."""
        return not self.reason and self.moves.is_short

    @property
    def tail_align_dict(self) -> Any:
        """The dictionary of the only stage, or a list with one for each stage."""
        return self.moves.arguments()["tail_align_dict"]

    @property
    def full_name_align_dict(self) -> Any:
        """The dictionary of the only stage, or a list with one for each stage."""
        return self.moves.arguments()["full_name_align_dict"]

    @property
    def tail_split_position(self) -> Any:
        """The split of the only stage, or a list with one for each stage."""
        return self.moves.arguments()["tail_split_position"]

    def arguments(self) -> dict[str, Any]:
        """Return the arguments by name, without those that have their default."""
        arguments: dict[str, Any] = {}
        if self.unstack_weights:
            arguments["unstack_weights"] = list(self.unstack_weights)
        if self.moved and not self.found and self.names:
            order = list(self.names)
            arguments["specific_match_func"] = lambda names: order
        elif self.moved:
            arguments |= self._arguments_of_moves()
        for name in ("skip_layers", "keep_layers"):
            if value := getattr(self, name):
                arguments[name] = list(value)
        if self.skip_weights != DEFAULT_SKIP_WEIGHTS:
            arguments["skip_weights"] = list(self.skip_weights)
        if self.expand_nested:
            arguments["expand_nested"] = True
        return arguments

    def _arguments_of_moves(self) -> dict[str, Any]:
        arguments = self.moves.arguments()
        for name in ("full_name_align_dict", "tail_align_dict"):
            if not any(getattr(stage, name) for stage in self.moves.stages):
                del arguments[name]
        if "tail_align_dict" not in arguments or arguments["tail_split_position"] == 2:
            del arguments["tail_split_position"]
        return arguments

    def __str__(self) -> str:
        """Return a call that is ready to paste, under a comment that says what it does."""
        arguments = self.arguments()
        if "specific_match_func" in arguments:
            arguments["specific_match_func"] = _Verbatim(f"lambda names: {list(self.names)!r}")
        lines = [f"    {name}={value!r}," for name, value in arguments.items()]
        call = "\n".join(
            ["keras_reload_from_torch_model(", "    torch_model,", "    keras_model,", *lines, ")"])
        return f"# {self.comment}\n{call}"

    @property
    def comment(self) -> str:
        """How many layers are moved, or why dictionaries cannot say the alignment."""
        if self.reason:
            return f"not said by dictionaries alone: {self.reason}"
        if not self.moved:
            return "the layers stand in the same order"
        if self.found:
            reverses = "; the list is reversed first and last" if len(self.moves.stages) > 1 else ""
            return (f"{self.moved} layers stand elsewhere in Keras; run and found to give the same "
                    f"alignment{reverses}")
        return (f"{self.moved} layers stand elsewhere in Keras, in no order that repeats: the "
                "dictionaries would be as long as this list")


class _Verbatim(str):
    """Text that stands in a call as it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def dictionaries_of(plan: Plan, source: Source, target: Target,
                    expanded: Target) -> ClassicDictionaries:
    """Find the shortest arguments that reproduce a Plan, or as much of them as there is.

    Args:
        plan: From torch to Keras.
        source: The torch side.
        target: The Keras model.
        expanded: The same model with the leaves of its composite layers one by one, which is tried
            where whole layers cannot say it. When neither can, the reason is that of the leaves:
            which torch layer must be split, rather than how many there are for how few layers.
    """
    found = _arguments_for(plan, source, target)
    if found.found or len(expanded.layers) == len(target.layers):
        return found
    other = replace(_arguments_for(plan, source, expanded), expand_nested=True)
    return other if other.found or found.reason else found


def _arguments_for(plan: Plan, source: Source, target: Target) -> ClassicDictionaries:
    layers_of = _layers_by_tensor(plan, target)
    skip_weights = tuple(_skipped_last_parts(source, layers_of))
    unstack = tuple(_to_unstack(group_by_layer(source, skip_weights), layers_of))
    groups = group_by_layer(source, skip_weights, unstack)
    used = tensors_read(plan)
    filled = {layer for layers in layers_of.values() for layer in layers}
    arguments = ClassicDictionaries(
        unstack_weights=unstack, skip_weights=skip_weights,
        skip_layers=tuple(one.name for one in groups.layers if not any(tensor.name in used
                                                                       for tensor in one.tensors)),
        keep_layers=tuple(layer.name for layer in target.layers if layer.name not in filled))
    if fused := _fused(groups, layers_of):
        return replace(arguments, reason=fused)
    names = tuple(layer.name for layer in target.layers)
    wanted = _wanted(names, groups, layers_of)
    arguments = replace(arguments, names=wanted, moves=smallest_moves(names, wanted))
    return replace(arguments, reason=_difference(plan, source, groups, target, arguments))


def _layers_by_tensor(plan: Plan, target: Target) -> dict[str, list[str]]:
    """Return for each tensor the names of the top-level layers that it fills, in order."""
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
    """Return the default parts, and those of tensors that are used in no layer, unlike the rest of
    their torch layer.
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


def _to_unstack(groups: LayerGroups, layers_of: Mapping[str, Sequence[str]]) -> list[str]:
    """Return last parts of tensors that go to another layer than the rest of their torch layer."""
    found: dict[str, None] = {}
    for torch_layer in groups.layers:
        by_layer: dict[str, list[str]] = defaultdict(list)
        for tensor in torch_layer.tensors:
            for layer in layers_of.get(tensor.name, ()):
                by_layer[layer].append(last_part(tensor.name))
        if len(by_layer) > 1:
            found |= dict.fromkeys(parts[0] for parts in by_layer.values() if len(parts) == 1)
    return list(found)


def _fused(groups: LayerGroups, layers_of: Mapping[str, Sequence[str]]) -> str:
    """Say which torch layers fill several Keras layers, which no order of layers can say."""
    fused = []
    for torch_layer in groups.layers:
        layers = dict.fromkeys(
            name for tensor in torch_layer.tensors for name in layers_of.get(tensor.name, ()))
        if len(layers) > 1:
            fused.append(f"'{torch_layer.name}' into {', '.join(layers)}")
    return ("torch layers must be split, which ktc.align(..., mapping=...) says with split(...): "
            f"{join_names(fused, separator='; ')}") if fused else ""


def _wanted(names: Sequence[str], groups: LayerGroups,
            layers_of: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Return the Keras names in PyTorch's order; a layer that gets nothing follows as before."""
    order: dict[str, int] = {}
    for position, torch_layer in enumerate(groups.layers):
        for tensor in torch_layer.tensors:
            for layer in layers_of.get(tensor.name, ()):
                order.setdefault(layer, position)
    followed: list[tuple[int, int, str]] = []
    before = -1
    for index, name in enumerate(names):
        before = order.get(name, before)
        followed.append((before, index if name not in order else -1, name))
    return tuple(name for _, _, name in sorted(followed))


def _difference(plan: Plan, source: Source, groups: LayerGroups, target: Target,
                arguments: ClassicDictionaries) -> str:
    """Say what pairing in the wanted order does otherwise than the Plan, "" when nothing."""
    options = PairingOptions(arguments.skip_layers, arguments.keep_layers, aligned=True)
    try:
        ordered = plan_by_order(groups, target, arguments.names, options)
    except (AlignmentError, TransferError) as error:
        return f"with the layers in order, {error}"
    got = {assignment.key: assignment.expression for assignment in ordered.assignments}
    evaluation = Evaluation(source)
    variables = target.variables
    other = [
        variables[one.key].display_name for one in plan.assignments if one.key not in got
        or not _same(got[one.key], one.expression, variables[one.key], evaluation)
    ]
    return (f"these take other tensors or other values: {join_names(other)}; give their values "
            "with additional_transfer") if other else ""


def _same(first: Expression, second: Expression, variable: TargetVariable,
          evaluation: Evaluation) -> bool:
    """Return True when two expressions give the same values, bit for bit."""
    if first == second:
        return True
    if set(tensors_of(first)) != set(tensors_of(second)):
        return False
    one, two = (evaluation.values(expression, variable.dtype, variable.display_name)
                for expression in (first, second))
    return one.shape == two.shape and one.tobytes() == two.tobytes()
