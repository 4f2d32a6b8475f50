"""The layout of a live model's files, recorded when it is first wanted: most conversions never need
it.
"""

from __future__ import annotations

import weakref
from collections.abc import Collection

from ..errors import SaveError
from ..spec.file_layout import LazyLayout, TargetLayout
from ..spec.target import Target
from .record_layout import record_layout

REMEDY = ("convert once more and save report.plan while the Keras model is alive, "
          "or give apply a Keras file of the model as template=")


def lazy_layout(target: Target, assigned: Collection[str]) -> LazyLayout | None:
    """The layout of a Keras target's files, to be recorded when it is wanted; None for a torch
    module.

    `assigned` are the keys that the Plan gives values to. The model lives no longer for it.
    """
    if target.model is None or target.framework == "torch":
        return None
    model_of, keys = weakref.ref(target.model), frozenset(assigned)

    def record() -> TargetLayout:
        model = model_of()
        if model is None:
            raise SaveError(
                f"the Keras model whose files the plan would describe is gone: {REMEDY}")
        return record_layout(model, keys)

    return LazyLayout(record)
