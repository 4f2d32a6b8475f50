"""Layers and weights of one side that have no counterpart on the other, told by what is left once
everything that fits has its place.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from ..plan.expressions import tensors_of
from ..plan.plan import Plan
from ..spec.roles import role_of
from ..spec.source import Source
from ..spec.target import Target, TargetLayer

MOST_SHOWN = 4
# Which argument of a Keras layer makes the variable of a role.
_ARGUMENTS = {"offset": "use_bias=True"}
_ARGUMENTS_OF_NORMS = {"offset": "center=True", "gain": "scale=True"}


def without_counterpart(source: Source, target: Target, whole: Plan,
                        open_layers: Collection[str]) -> list[str]:
    """Sentences about what `whole`, which has all that fits by running, names, shapes and order,
    gives no place to.

    `open_layers` are labels of Keras layers. Where both sides have several whole layers left over,
    only the reasons of the open layers tell which may belong together: nothing is said then.
    """
    left: dict[str, list[str]] = {}
    for name in _without_place(source, whole):
        left.setdefault(name.rpartition(".")[0], []).append(name)
    filled = {one.key for one in whole.assignments}
    extra = [
        leaf for leaf in target.leaves()
        if leaf.display_name in open_layers and not _places(leaf) & filled
    ]
    partners = _partners(target, whole)
    parts = {
        layer: _without_role(partners[layer], names)
        for layer, names in left.items() if layer in partners
    }
    layers = {layer: names for layer, names in left.items() if layer not in partners}
    found = [
        _without_variable(source, partners[layer], layer, names)
        for layer, names in parts.items() if names
    ]
    if not extra:
        found += [
            f"torch layer {_torch_in_words(source, layer)} with {', '.join(names)} has no "
            "counterpart in the Keras model" for layer, names in layers.items()
        ]
    if len(layers) == len(extra) == 1:
        layer, leaf = next(iter(layers)), extra[0]
        found.append(
            f"torch layer {_torch_in_words(source, layer)} and Keras layer '{leaf.display_name}' "
            f"({leaf.class_name}) are left: they differ in kind or size")
    if not layers:
        found += [
            f"Keras layer '{leaf.display_name}' ({leaf.class_name}) has no counterpart in torch"
            for leaf in extra
        ]
    more = len(found) - MOST_SHOWN
    return [*found[:MOST_SHOWN], *([f"and {more} more without a counterpart"] if more > 0 else [])]


def _without_place(source: Source, whole: Plan) -> list[str]:
    """Torch tensors that nothing takes and nothing excuses, those tied to one that is taken left
    out.
    """
    expressions = [one.expression for one in whole.assignments
                  ] + [one.expression for one in whole.constants]
    taken = {name for expression in expressions for name in tensors_of(expression)}
    taken |= {name for group in source.tied if taken & set(group) for name in group}
    return [name for name in source if name not in taken and name not in whole.dropped]


def _partners(target: Target, whole: Plan) -> dict[str, TargetLayer]:
    """For each torch layer the first Keras layer that takes one of its tensors."""
    leaf_of = {place: leaf for leaf in target.leaves() for place in _places(leaf)}
    found: dict[str, TargetLayer] = {}
    for one in whole.assignments:
        for name in tensors_of(one.expression):
            if one.key in leaf_of:
                found.setdefault(name.rpartition(".")[0], leaf_of[one.key])
    return found


def _without_role(leaf: TargetLayer, names: Sequence[str]) -> list[str]:
    """Those of `names` for whose role the Keras layer has no variable; one that has it was filled
    from elsewhere.
    """
    roles = {role_of(variable.name) for variable in leaf.variables}
    return [name for name in names if role_of(name) not in roles]


def _without_variable(source: Source, leaf: TargetLayer, layer: str, names: Sequence[str]) -> str:
    arguments = _ARGUMENTS_OF_NORMS if "Normalization" in leaf.class_name else _ARGUMENTS
    wanted = list(_wanted(arguments, names))
    todo = f": build it with {', '.join(wanted)}" if len(wanted) == len(names) else ""
    return (f"Keras layer '{leaf.display_name}' ({leaf.class_name}) has no variable for "
            f"{', '.join(names)} of torch layer {_torch_in_words(source, layer)}{todo}")


def _wanted(arguments: dict[str, str], names: Sequence[str]) -> Iterator[str]:
    for name in names:
        argument = arguments.get(role_of(name) or "")
        if argument is not None:
            yield argument


def _torch_in_words(source: Source, layer: str) -> str:
    return f"'{layer}' ({type(source.module.get_submodule(layer)).__name__})"


def _places(leaf: TargetLayer) -> set[str]:
    return {variable.key for variable in leaf.variables}
