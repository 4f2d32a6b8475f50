"""The layer holds other values than torch's: swapped, turned, scaled, in another order, or never
loaded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise, permutations

import numpy as np

from ...errors import TransferError
from ...keras_io.values import read_values
from ...plan.evaluation import Evaluation
from ...plan.expressions import Add, Expression, Tensor
from ...plan.plan import Plan
from ...plan.recipe import Assignment
from ...rules.layer import assign_layer
from ...running.keras_calls import LayerCall
from ...running.outputs import as_array
from ...spec.layer_groups import TorchLayer
from ...spec.roles import role_of
from ...spec.source import Source
from ...spec.target import Target, TargetLayer, TargetVariable
from ...util.text import join_names
from ..context import Array, Cause, DivergenceContext, Hypothesis
from ..scopes import TorchScope
from .common import linear

# Values that were only carried over are equal bit for bit; a computed one (two biases added) may be
# rounded.
EQUAL_BELOW = 1e-6
# What a new layer has for a gain or an offset.
FRESH = (0.0, 1.0)
MAX_TURNED_NDIM = 5


@dataclass(frozen=True, slots=True, eq=False)
class WrongWeights:
    """A layer that holds other values than torch's: one of its calls, what is wrong with them, and
    the values that it should hold.
    """

    call: LayerCall
    causes: tuple[Cause, ...]
    planned: Mapping[str, Array]


class LayerWeights:
    """What the variables of Keras layers hold, and what torch's values make of them: by the plan,
    else by the rule for the layer. Read when asked for.
    """
    def __init__(self, source: Source, target: Target, plan: Plan | None) -> None:
        self.source, self.target, self.plan = source, target, plan
        self.checked: dict[str, bool | None] = {}

    def held(self, leaf: TargetLayer) -> dict[str, Array]:
        """Return what the layer's variables hold, by name."""
        return {
            v.name: np.array(as_array(read_values(self.target, v.variable))) for v in leaf.variables
        }

    def planned(self, leaf: TargetLayer, scope: TorchScope | None) -> dict[str, Array]:
        """Return what torch's values make of them, where that is known."""
        evaluation = Evaluation(self.source)
        assignments = {one.key: one for one in self._assignments(leaf, scope)}
        planned = {}
        for variable in leaf.variables:
            assignment = assignments.get(variable.key)
            values = None if assignment is None else _evaluated(evaluation, assignment.expression,
                                                                variable)
            if values is not None and values.shape == variable.shape:
                planned[variable.name] = np.asarray(values, np.float32)
        return planned

    def by_role(self, scope: TorchScope | None) -> dict[str, Array]:
        """Return the values of torch's weights in a scope, by their role."""
        evaluation = Evaluation(self.source)
        found: dict[str, Array] = {}
        for name in scope.names if scope is not None else ():
            role = role_of(name)
            if role is not None and name in self.source and len(self.source[name].shape) == 1:
                found[role] = evaluation.values(Tensor(name), "float32", name)
        return found

    def owners(self, held: Mapping[str, Array], names: Iterable[str],
               leaf: TargetLayer) -> dict[str, str]:
        """Return those of the variables `names` that hold what belongs to another layer's, with
        that one's display name.
        """
        return {name: owner for name in names if (owner := self._owner(held[name], leaf))}

    def _owner(self, held: Array, leaf: TargetLayer) -> str:
        if self.plan is None or held.size < 2 or np.ptp(held) == 0:
            return ""
        evaluation = Evaluation(self.source)
        own = {variable.key for variable in leaf.variables}
        for assignment in self.plan.assignments:
            variable = self.target.variables.get(assignment.key)
            if variable is None or variable.key in own or variable.shape != held.shape:
                continue
            values = _evaluated(evaluation, assignment.expression, variable)
            if values is not None and np.array_equal(values, held):
                return variable.display_name
        return ""

    def wrong(self, calls: Iterable[LayerCall], scopes: Mapping[int,
                                                                TorchScope]) -> list[WrongWeights]:
        """Return the layers that hold other values than torch's, in the order of their calls."""
        found: dict[str, WrongWeights] = {}
        for call in calls:
            leaf, scope = call.leaf, scopes.get(call.number)
            if leaf is None or leaf.display_name in found:
                continue
            held, planned = self.held(leaf), self.planned(leaf, scope)
            wrong = {name: held[name] for name in planned if not equal(held[name], planned[name])}
            if wrong:
                owners = self.owners(held, wrong, leaf)
                causes = _causes(leaf.display_name, wrong, planned, owners, scope)
                found[leaf.display_name] = WrongWeights(call, tuple(causes), planned)
        return list(found.values())

    def as_planned(self, call: LayerCall, scope: TorchScope | None) -> bool | None:
        """Whether a layer holds what the plan says, for one whose output torch has nowhere by
        itself: a sum of tensors went into it, or it depends on no data.

        None where the output can be compared, or no plan says anything.
        """
        leaf = call.leaf
        if leaf is None or self.plan is None or call.children:
            return None
        if leaf.display_name not in self.checked:
            self.checked[leaf.display_name] = self._as_planned(self.plan, leaf, call, scope)
        return self.checked[leaf.display_name]

    def _as_planned(self, plan: Plan, leaf: TargetLayer, call: LayerCall,
                    scope: TorchScope | None) -> bool | None:
        own = {variable.key for variable in leaf.variables}
        # The rows that a table gives follow from its values and the numbers that go in, which both
        # models share.
        is_table = any("Embedding" in name for name in call.class_names)
        is_sum = all(isinstance(one.expression, Add) for one in plan.assignments if one.key in own)
        planned = self.planned(leaf, scope) if is_table or scope is None or is_sum else {}
        if not planned:
            return None
        held = self.held(leaf)
        return all(equal(held[name], value) for name, value in planned.items())

    def _assignments(self, leaf: TargetLayer, scope: TorchScope | None) -> tuple[Assignment, ...]:
        if self.plan is not None:
            return self.plan.assignments
        if scope is None:
            return ()
        named = (self.source[name] for name in scope.names if name in self.source)
        # A count of batches goes nowhere.
        tensors = tuple(tensor for tensor in named if "int" not in tensor.dtype)
        try:
            return assign_layer(TorchLayer(scope.path, tensors), leaf)
        except TransferError:
            # Without a rule for the pair nothing is known of what its weights should be.
            return ()


def _evaluated(evaluation: Evaluation, expression: Expression,
               variable: TargetVariable) -> Array | None:
    """Return what an expression gives; None for a callback's result, which only the conversion that
    called it knows.
    """
    try:
        return evaluation.values(expression, variable.dtype, variable.display_name)
    except (ValueError, KeyError):
        return None


MISSING_WEIGHTS = "missing weights"
# What a weight is that does nothing, and the argument of a Keras layer that makes one of the role.
NEUTRAL = {"main": 1.0, "offset": 0.0}
ARGUMENTS = {"offset": "use_bias=True"}
ARGUMENTS_OF_NORMS = {"main": "scale=True", "offset": "center=True"}

WORDS = {"main": "a gain", "offset": "an offset"}


def on_one_side(context: DivergenceContext) -> Iterator[Hypothesis]:
    """Add a gain or an offset that only torch has, and take out one that only Keras has."""
    leaf, output = context.call.leaf, next(iter(context.keras.outputs), None)
    if leaf is None or output is None or context.point.kind == "before":
        return
    ours = {role_of(variable.name): variable.name for variable in leaf.variables}
    is_norm = any("Normalization" in name for name in context.call.class_names)
    arguments = ARGUMENTS_OF_NORMS if is_norm else ARGUMENTS
    theirs = {role: values for role, values in context.torch_weights.items() if role in arguments}
    missing = {role: values for role, values in theirs.items() if role not in ours}
    extra = {
        ours[role]: np.full_like(context.held[ours[role]], neutral)
        for role, neutral in NEUTRAL.items()
        if role in arguments and role in ours and role not in theirs and ours[role] in context.held
        and ours[role] not in context.planned and context.scope is not None
    }
    if missing:
        names = " and ".join(arguments[role] for role in missing)
        before = context.run(activation=linear) if hasattr(context.layer, "activation") else output
        trial = None if before is None else _with_missing(context, before, ours, missing)
        if trial is not None:
            cause = (
                f"torch has {join_names(WORDS[role] for role in missing)} that the Keras layer "
                "has no variable for")
            yield Hypothesis(MISSING_WEIGHTS, cause, f"build the Keras layer with {names}", trial)
    if extra:
        with context.weights({**context.held, **context.planned, **extra}):
            trial = context.run()
        if trial is not None:
            names = ", ".join(f"{context.name}/{name}" for name in extra)
            wanted = " and ".join(f"{float(values.flat[0]):g}" for values in extra.values())
            yield Hypothesis("extra weights", f"{names}: torch has no such weight",
                             f"set {names} to {wanted}, or build the Keras layer without", trial)


def _with_missing(context: DivergenceContext, output: Array, ours: Mapping[str | None, str],
                  missing: Mapping[str, Array]) -> Array | None:
    """Return an output with a gain and an offset of torch's on its last axis."""
    offset = context.held.get(ours.get("offset", ""), np.zeros(1, np.float32))
    if any(values.size != output.shape[-1] for values in missing.values()):
        return None
    scaled = (output - offset) * missing.get("main", np.ones(1, np.float32)) + offset
    trial = np.asarray(scaled + missing.get("offset", np.zeros(1, np.float32)), np.float32)
    activation = getattr(context.layer, "activation", None)
    return trial if activation is None else context.applied(activation, trial)


def _causes(layer: str, wrong: Mapping[str, Array], planned: Mapping[str, Array],
            owners: Mapping[str, str], scope: TorchScope | None) -> Iterator[Cause]:
    """Yield what is wrong with the values that a layer holds: those of one kind as one."""
    owner = f" of torch's '{scope.path}'" if scope is not None else ""
    found: dict[tuple[str, str], list[str]] = {}
    for name, held in wrong.items():
        said = relation(name, held, planned, owners.get(name, ""))
        found.setdefault(said, []).append(f"{layer}/{name}")
    if len(found) > 1:
        # What was explained tells what happened to the others.
        found = {said: names for said, names in found.items() if said[0] != "weights"} or found
    for (kind, words), names in found.items():
        yield Cause(
            kind, f"{', '.join(names)}: {words}",
            f"carry the weights{owner} over again (ktc.convert with this plan), and change "
            f"{', '.join(names)} nowhere else")


# How the held values come from torch's.


def equal(first: Array, second: Array) -> bool:
    """Whether two arrays hold the same values."""
    if first.shape != second.shape:
        return False
    scale = max(float(np.abs(second).max(initial=0.0)), 1e-30)
    difference = np.abs(first.astype(np.float64) - second).max(initial=0.0)
    return bool(difference <= EQUAL_BELOW * scale)


def relation(name: str, held: Array, planned: Mapping[str, Array], owner: str) -> tuple[str, str]:
    """Return how one variable's values come from torch's; `planned` are those that the layer's
    variables should have.
    """
    wanted = planned[name]
    others = (other for other, values in planned.items() if other != name and equal(held, values))
    owner = next(others, owner)
    if owner:
        return "swapped weights", f"it holds the values that belong to '{owner}'"
    if held.size == 1:
        # One number is always a constant, and always a multiple of another.
        ours, theirs = float(held.flat[0]), float(wanted.flat[0])
        kind = "weights not loaded" if ours in FRESH else "weights"
        return kind, f"it holds {ours:.7g}, torch {theirs:.7g}"
    if np.ptp(held) == 0:
        return ("weights not loaded",
                f"all its values are {float(held.flat[0]):g}: it was never loaded")
    if (factor := _factor(held, wanted)) is not None:
        return "scaled weights", f"all its values are {factor:.6g} times torch's"
    largest = float(np.abs(held - wanted).max())
    return _moved(
        held,
        wanted) or ("weights", f"its values are not torch's (largest difference {largest:.1e})")


def _factor(held: Array, wanted: Array) -> float | None:
    flat = wanted.astype(np.float64).ravel()
    norm = float(flat @ flat)
    factor = float(flat @ held.astype(np.float64).ravel()) / norm if norm else 0.0
    is_close = np.abs(held - factor * wanted).max() <= 1e-5 * np.abs(held).max()
    return factor if factor and is_close else None


def _moved(held: Array, wanted: Array) -> tuple[str, str] | None:
    """Return how torch's values were moved, None when these are others."""
    if (axes := _turned(held, wanted)) is not None:
        return "transposed weights", (f"its axes stand in the order {axes} of those that it should "
                                      "have")
    if (axes := _mirrored(held, wanted)) is not None:
        return "flipped weights", f"it is mirrored along axes {axes}"
    for axis in range(held.ndim):
        order = _order_along(held, wanted, axis)
        if order is not None:
            return _describe_order(order,
                                   f"axis {axis}" if axis < held.ndim - 1 else "the last axis")
    return None


def _turned(held: Array, wanted: Array) -> tuple[int, ...] | None:
    """Return the order of axes that makes the held values torch's, None when there is none."""
    for perm in permutations(range(held.ndim)) if held.ndim <= MAX_TURNED_NDIM else ():
        if perm != tuple(range(held.ndim)) and equal(held.transpose(perm), wanted):
            return perm
    return None


def _mirrored(held: Array, wanted: Array) -> tuple[int, ...] | None:
    """Return the axes along which the held values run backward."""
    for mask in range(1, 2**held.ndim):
        axes = tuple(axis for axis in range(held.ndim) if mask >> axis & 1)
        if all(held.shape[axis] > 1 for axis in axes) and equal(np.flip(held, axes), wanted):
            return axes
    return None


def _order_along(held: Array, wanted: Array, axis: int) -> list[int] | None:
    """Return for each entry of an axis the one of torch's that it holds, None when some are not
    torch's.
    """
    theirs, ours = (np.ascontiguousarray(np.moveaxis(array, axis,
                                                     0)).reshape(array.shape[axis], -1)
                    for array in (wanted, held))
    positions: dict[bytes, int] = {}
    for number, row in enumerate(theirs):
        positions.setdefault(row.tobytes(), number)
    order = [positions.get(row.tobytes(), -1) for row in ours]
    return order if sorted(order) == list(range(len(order))) and order != sorted(order) else None


def _describe_order(order: list[int], axis: str) -> tuple[str, str]:
    """Say whether an axis is in another order by rows, by blocks, or like a flattened map."""
    count = len(order)
    for channels in range(2, count // 2 + 1):
        if count % channels == 0:
            flattened = np.arange(count).reshape(channels, -1).T.ravel()
            if order in (flattened.tolist(), np.argsort(flattened).tolist()):
                return ("flatten order",
                        f"its rows along {axis} are in the order of a map flattened in the "
                        f"other layout ({channels} by {count // channels})")
    blocks = 1 + sum(two - one != 1 for one, two in pairwise(order))
    if blocks <= count // 2:
        return ("block order",
                f"its entries along {axis} come in {blocks} blocks (heads, gates, groups) in "
                "another order")
    return ("weights order", f"its entries along {axis} (of {count}) are torch's in another "
            "order")
