"""What other packages add, by entry points.

Format: https://packaging.python.org/specifications/entry-points
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from typing import Any, NamedTuple

from ..errors import PluginError

RULES = "keras_torch_convert.rules"
READERS = "keras_torch_convert.readers"


class Plugin(NamedTuple):
    """One entry point: its name, the package that it comes from, and the object."""

    name: str
    package: str
    value: Any


@cache
def plugins(group: str) -> tuple[Plugin, ...]:
    """Import what is registered in a group, once, in the order of packages and names.

    Raises PluginError for what cannot be imported.
    """
    found = []
    for point in entry_points(group=group):
        package = point.dist.name if point.dist is not None else "an unknown package"
        try:
            found.append(Plugin(point.name, package, point.load()))
        except Exception as error:
            raise PluginError(
                f"{package} registers {point.value} in {group}, which cannot be imported: "
                f"{type(error).__name__}: {error}; update or uninstall {package}") from error
    return tuple(sorted(found, key=lambda one: (one.package, one.name)))
