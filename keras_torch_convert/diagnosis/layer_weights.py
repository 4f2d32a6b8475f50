"""What the variables of Keras layers hold, and what torch's values make of them: by the plan, else
by the rule of the pair.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from ..errors import TransferError
from ..keras_io.values import read_values
from ..plan.evaluation import Evaluation
from ..plan.expressions import Add, Expression
from ..plan.plan import Plan
from ..plan.recipe import Assignment
from ..rules.layer import assign_layer
from ..running.keras_calls import LayerCall
from ..running.outputs import as_array
from ..spec.layer_groups import TorchLayer
from ..spec.source import Source
from ..spec.target import Target, TargetLayer, TargetVariable
from .causes import weights
from .context import Array, WrongWeights
from .layer_pairs import TorchPlace


class LayerWeights:
    """The values of two models' layers, read when they are asked for."""
    def __init__(self, source: Source, target: Target, plan: Plan | None) -> None:
        """Without a plan a layer's place in torch and the rule of its kind say what it should hold.
        """
        self.source, self.target, self.plan = source, target, plan
        self.holding: dict[str, bool | None] = {}

    def held(self, leaf: TargetLayer) -> dict[str, Array]:
        """What the layer's variables hold, by name."""
        return {
            v.name: np.array(as_array(read_values(self.target, v.variable))) for v in leaf.variables
        }

    def wanted(self, leaf: TargetLayer, place: TorchPlace | None) -> dict[str, Array]:
        """What torch's values make of them, for the variables of which it is known."""
        evaluation = Evaluation(self.source)
        by_place = {assignment.key: assignment for assignment in self._assignments(leaf, place)}
        wanted = {}
        for variable in leaf.variables:
            assignment = by_place.get(variable.key)
            values = None if assignment is None else _evaluated(evaluation, assignment.expression,
                                                                variable)
            if values is not None and values.shape == variable.shape:
                wanted[variable.name] = values
        return wanted

    def owner(self, held: Array, leaf: TargetLayer) -> str:
        """The variable of another layer that the plan gives just these values, "" when there is
        none.
        """
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

    def owners(self, held: Mapping[str, Array], names: Iterable[str],
               leaf: TargetLayer) -> dict[str, str]:
        """Of the variables called `names` those that hold what belongs to another one, with its
        label.
        """
        return {name: owner for name in names if (owner := self.owner(held[name], leaf))}

    def wrong(self, calls: Iterable[LayerCall], places: Mapping[int,
                                                                TorchPlace]) -> list[WrongWeights]:
        """The calls of layers that hold other values than torch's, in the order given."""
        found = []
        for call in calls:
            if call.leaf is None:
                continue
            held, wanted = self.held(call.leaf), self.wanted(call.leaf, places.get(call.number))
            wrong = {
                name: held[name] for name in wanted if not weights.equal(held[name], wanted[name])
            }
            if wrong:
                kind, said = weights.in_words(wrong, wanted, self.owners(held, wrong, call.leaf))
                names = ", ".join(f"{call.display_name}/{name}" for name in wrong)
                found.append(WrongWeights(call, kind, f"{names}: {said}", wanted))
        return found

    def as_planned(self, call: LayerCall, place: TorchPlace | None) -> bool | None:
        """For a layer whose output torch has nowhere by itself, because a sum of tensors went into
        it or it depends on no data: whether it holds what the plan says.

        None where the output can be compared, or no plan says anything.
        """
        leaf = call.leaf
        if leaf is None or self.plan is None or call.children:
            return None
        if leaf.display_name not in self.holding:
            self.holding[leaf.display_name] = self._as_planned(self.plan, leaf, call, place)
        return self.holding[leaf.display_name]

    def _as_planned(self, plan: Plan, leaf: TargetLayer, call: LayerCall,
                    place: TorchPlace | None) -> bool | None:
        own = {variable.key for variable in leaf.variables}
        # The rows that a table gives are settled by its values and the numbers that go in, which
        # both models share.
        table = any("Embedding" in kind for kind in call.class_names)
        sums = any(isinstance(one.expression, Add) for one in plan.assignments if one.key in own)
        wanted = self.wanted(leaf, place) if table or place is None or sums else {}
        if not wanted:
            return None
        held = self.held(leaf)
        return all(weights.equal(held[name], value) for name, value in wanted.items())

    def _assignments(self, leaf: TargetLayer, place: TorchPlace | None) -> tuple[Assignment, ...]:
        if self.plan is not None:
            return self.plan.assignments
        if place is None:
            return ()
        tensors = tuple(self.source[name] for name in place.names if name in self.source)
        try:
            return assign_layer(TorchLayer(place.path, tensors), leaf)
        except TransferError:
            # Without a rule for the pair nothing is known of what its weights should be.
            return ()


def _evaluated(evaluation: Evaluation, expression: Expression,
               variable: TargetVariable) -> Array | None:
    """What an expression gives; None for a callback's result, which is known to the one conversion
    that called it.
    """
    try:
        return evaluation.values(expression, "float32", variable.display_name)
    except (ValueError, KeyError):
        return None
