"""Which tensor of a layer is the weight, which the bias, which a statistic: told by the last part
of its name.
"""

from __future__ import annotations

from collections.abc import Sequence

from .layer_groups import last_part
from .source import SourceTensor
from .target import TargetVariable

# In the order in which torch's own modules register them.
_ROLES = {
    "main": ("weight", "kernel", "depthwise_kernel", "pointwise_kernel", "gamma", "scale",
             "embeddings", "alpha"), "offset": ("bias", "beta"), "gain": ("gain",),
    "mean": ("running_mean", "moving_mean", "mean"),
    "variance": ("running_var", "moving_var", "moving_variance", "variance", "var"), "height":
        ("height_rel", "r_height"), "width": ("width_rel", "r_width")
}
_ROLE_OF_NAME = {name: role for role, names in _ROLES.items() for name in names}
_RANK_OF_ROLE = {role: rank for rank, role in enumerate(_ROLES)}

# Parts of the names of tables over the positions of a picture.
_POSITION_TABLES = ("pos_embed", "position_embed", "positional_embed", "pos_emb", "position_emb")


def role_of(name: str) -> str | None:
    """Return the role that the last part of a name says, None when it is not a known one."""
    return _ROLE_OF_NAME.get(last_part(name))


def as_registered(tensors: Sequence[SourceTensor]) -> tuple[SourceTensor, ...]:
    """Return tensors in the order in which a torch module registers them: weight, bias, mean, ...

    Only a layer that stands in alphabetical order can have lost its own order (a file sorted by
    name); any other order is the module's and is kept. Unknown names keep their places, and so does
    everything when two tensors have one role.
    """
    parts = [last_part(tensor.name) for tensor in tensors]
    roles = [role_of(part) for part in parts]
    known = [index for index, role in enumerate(roles) if role is not None]
    if parts != sorted(parts) or len({roles[index] for index in known}) < len(known):
        return tuple(tensors)
    result = list(tensors)
    for position, index in zip(known,
                               sorted(known, key=lambda index: _RANK_OF_ROLE[str(roles[index])]),
                               strict=True):
        result[position] = tensors[index]
    return tuple(result)


def in_layer_order(
        tensors: Sequence[SourceTensor], variables: Sequence[TargetVariable]
) -> tuple[list[SourceTensor | None], list[SourceTensor]]:
    """One tensor for each variable: equal names first, then equal roles; what remains fills the
    free places in file order.

    A name or role counts only where it occurs once among the tensors and once among the variables
    still free. Returns the tensors by variable (None: none is left for it) and those that found no
    place.
    """
    placed: list[SourceTensor | None] = [None] * len(variables)
    waiting = list(range(len(tensors)))
    names = [last_part(tensor.name) for tensor in tensors
            ], [last_part(variable.name) for variable in variables]
    roles = [_ROLE_OF_NAME.get(name) for name in names[0]
            ], [_ROLE_OF_NAME.get(name) for name in names[1]]
    for of_tensors, of_variables in (names, roles):
        free = [index for index, tensor in enumerate(placed) if tensor is None]
        said_by_tensors = [of_tensors[index] for index in waiting]
        said_by_variables = [of_variables[index] for index in free]
        for index, said in zip(free, said_by_variables, strict=True):
            if said is not None and said_by_tensors.count(said) == said_by_variables.count(
                    said) == 1:
                found = next(number for number in waiting if of_tensors[number] == said)
                placed[index] = tensors[found]
                waiting.remove(found)
    for index, taken in enumerate(placed):
        if taken is None and waiting:
            placed[index] = tensors[waiting.pop(0)]
    return placed, [tensors[number] for number in waiting]


def is_position_table(name: str) -> bool:
    """Return whether the last parts of a tensor's name say that it is a table of positions."""
    last = name.replace("/", ".").split(".")[-2:]
    return any(known in part for part in last for known in _POSITION_TABLES)
