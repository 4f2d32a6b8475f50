"""How a family reads what users give it: models and files are read in rooms above this one, which
enter their functions here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...spec.source import Source
from ...spec.target import Target


def _not_entered(*_: Any) -> Any:
    raise NotImplementedError("import keras_torch_convert, whose rooms enter how models are read")


@dataclass(slots=True)
class Readers:
    """The functions, which `api/family_plans.py` enters.

    Attributes:
        source: Reads a checkpoint or module.
        target: Reads a Keras model.
        complete: Adds the layout of the target's files to a Plan.
    """

    source: Callable[[Any], Source] = _not_entered
    target: Callable[[Any], Target] = _not_entered
    complete: Callable[[Any, Source, Target], Any] = _not_entered


READERS = Readers()
