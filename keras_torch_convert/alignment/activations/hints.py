"""What the caller said about a layer or a variable: which torch weights belong there."""

from __future__ import annotations

from collections.abc import Mapping

from ...plan.expressions import tensors_of
from ...spec.target import TargetLayer
from .candidates import LayerMapping


def hinted(hints: Mapping[str, str], leaf: TargetLayer, names: tuple[str, ...]) -> list[str]:
    """Those of `names` that the caller named for this layer or one of its variables; () when
    nothing was said.
    """
    said = [
        hints[key]
        for key in (leaf.display_name, leaf.name,
                    *(variable.display_name for variable in leaf.variables)) if key in hints
    ]
    return [name for name in names if any(_is_or_belongs(name, one) for one in said)]


def honors(hints: Mapping[str, str], leaf: TargetLayer, filling: LayerMapping) -> bool:
    """False when the caller said something else about this layer or one of its variables."""
    for variable, way in filling.ways:
        said = next(
            (hints[key]
             for key in (variable.display_name, leaf.display_name, leaf.name) if key in hints),
            None)
        if said is not None and not all(
                _is_or_belongs(name, said) for name in tensors_of(way.expression)):
            return False
    return True


def _is_or_belongs(name: str, said: str) -> bool:
    return name == said or name.startswith(f"{said}.")
