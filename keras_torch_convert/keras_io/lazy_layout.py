"""The layout of a live model's files, read off when it is first wanted: recording costs a save, which most conversions need not pay."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Collection
from typing import Any

from ..errors import SaveError
from ..spec.file_layout import TargetLayout
from ..spec.target import Target

REMEDY = "convert once more and save report.plan while the Keras model is alive, or give apply a Keras file of the model as template="


class LiveLayout:
    """Records the layout of a Keras model that is still alive, once. Keeps the model alive no longer than others do.

    Pickled it becomes the layout itself, or None when there is none to be had.
    """

    __slots__ = ("_assigned", "_model", "_recorded")

    def __init__(self, model: Any, assigned: Collection[str]) -> None:
        """`model` is a Keras 3 or tf_keras model, `assigned` are the places that the Plan gives values to."""
        self._model = weakref.ref(model)
        self._assigned = frozenset(assigned)
        self._recorded: TargetLayout | None = None

    def record(self) -> TargetLayout:
        """The layout. Raises SaveError when the model is gone, or when Keras can save it in no format."""
        from .record_layout import record_layout

        if self._recorded is None:
            model = self._model()
            if model is None:
                raise SaveError(f"the Keras model whose files the plan would describe is gone: {REMEDY}")
            self._recorded = record_layout(model, self._assigned)
        return self._recorded

    def __reduce__(self) -> tuple[Any, ...]:
        return _itself, (recorded_or_none(self),)

    def __copy__(self) -> LiveLayout:
        return self

    def __deepcopy__(self, _: Any) -> LiveLayout:
        return self


def live_layout(target: Target, assigned: Collection[str]) -> LiveLayout | None:
    """The layout of a Keras target's files, to be recorded when it is wanted; None for a torch module."""
    return None if target.model is None or target.framework == "torch" else LiveLayout(target.model, assigned)


def recorded(layout: TargetLayout | LiveLayout | None) -> TargetLayout | None:
    """The layout, recorded now if it was not yet. Raises SaveError as `LiveLayout.record` does."""
    return layout.record() if isinstance(layout, LiveLayout) else layout


def recorded_or_none(layout: TargetLayout | LiveLayout | None) -> TargetLayout | None:
    """The same; what cannot be recorded is None, and a warning says why."""
    try:
        return recorded(layout)
    except SaveError as error:
        warnings.warn(f"the plan is kept without the layout of Keras files: {error}", stacklevel=3)
        return None


def _itself(layout: TargetLayout | None) -> TargetLayout | None:
    return layout
