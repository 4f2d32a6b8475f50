"""What the user says about a layer or a variable: which torch weights belong there.

`hints` are {"keras layer or variable": "torch layer or tensor"}.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from ..errors import AlignmentError
from ..plan.expressions import Expression, tensors_of
from ..spec.target import TargetLayer, TargetVariable
from ..util.text import did_you_mean

Hints = Mapping[str, str]


def check_hints(hints: Hints, layers: Iterable[TargetLayer], torch_names: Collection[str]) -> None:
    """Raise AlignmentError for a hint whose Keras or torch name does not exist."""
    known = {name for layer in layers for name in names_for_hints(layer)}
    for key, value in hints.items():
        if key not in known:
            raise AlignmentError(f"hints: the Keras model has no layer or variable '{key}'"
                                 f"{did_you_mean(key, known)}")
        if not any(belongs(name, value) for name in torch_names):
            raise AlignmentError(f"hints: PyTorch has no layer or tensor '{value}'"
                                 f"{did_you_mean(value, torch_names)}")


def names_for_hints(layer: TargetLayer) -> tuple[str, ...]:
    """Return the names by which a hint may call a Keras layer or one of its variables."""
    return (layer.display_name, layer.name,
            *(variable.display_name for variable in layer.variables))


def hinted(hints: Hints, layer: TargetLayer, names: Iterable[str]) -> list[str]:
    """Return those of `names` that the user named for the layer or one of its variables."""
    said = [hints[key] for key in names_for_hints(layer) if key in hints]
    return [name for name in names if any(belongs(name, one) for one in said)]


def honors(hints: Hints, layer: TargetLayer, filled: Iterable[tuple[TargetVariable,
                                                                    Expression]]) -> bool:
    """Return False when the user said something else about the layer or one of its variables."""
    for variable, expression in filled:
        keys = (variable.display_name, layer.display_name, layer.name)
        said = next((hints[key] for key in keys if key in hints), None)
        if said is not None and not all(belongs(name, said) for name in tensors_of(expression)):
            return False
    return True


def belongs(name: str, owner: str) -> bool:
    """Return True for a torch layer or tensor of that name, and for all inside of it."""
    return name == owner or name.startswith(f"{owner}.")
