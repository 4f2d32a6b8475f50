"""What a Plan holds: plain data. `plan.py` adds what can be done with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from ..spec.file_layout import LazyLayout, TargetLayout
from ..spec.tensor_spec import TensorSpec
from .expressions import Expression, tensors_of


@dataclass(frozen=True, slots=True)
class Assignment:
    """Where the values of one target variable come from.

    `rule` says in words which convention applied, `doubt` what names and shapes cannot prove
    about it ("" when nothing is open), `note` what the report should say besides ("" for nothing),
    `constants` what of the same torch layer has no counterpart.
    """

    key: str
    expression: Expression
    rule: str
    doubt: str = ""
    note: str = ""
    constants: tuple[Constant, ...] = ()


@dataclass(frozen=True, slots=True)
class Constant:
    """What has no counterpart on the other side, and may be left out only because all of it is
    `value`.
    """

    expression: Expression
    value: float
    rule: str


@dataclass(frozen=True, slots=True)
class Stored:
    """How files hold the tensors of a module that its library renames, fuses or splits in loading.

    Attributes:
        expressions: For each tensor of the module, over tensors of the file.
        sources: The tensors of the file.
    """

    expressions: Mapping[str, Expression] = field(default_factory=dict)
    sources: Mapping[str, TensorSpec] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Recipe:
    """Assignments, and a rule for everything left out. See `Plan` for what each field means."""

    assignments: tuple[Assignment, ...]
    dropped: Mapping[str, str] = field(default_factory=dict)
    kept: Mapping[str, str] = field(default_factory=dict)
    pairs: tuple[tuple[str, str], ...] = ()
    constants: tuple[Constant, ...] = ()
    sources: Mapping[str, TensorSpec] = field(default_factory=dict)
    targets: Mapping[str, TensorSpec] = field(default_factory=dict)
    reversed: bool = False
    layout: TargetLayout | LazyLayout | None = field(default=None, repr=False, compare=False)
    stored: Stored | None = field(default=None, repr=False)


def expressions_of(plan: Recipe) -> list[Expression]:
    """Return the expressions of all assignments, then those of the constants."""
    return [
        *(one.expression for one in plan.assignments), *(one.expression for one in plan.constants)
    ]


def tensors_read(plan: Recipe) -> dict[str, None]:
    """Return the names of the source's tensors that a Plan reads, each once, in order."""
    return dict.fromkeys(name for one in expressions_of(plan) for name in tensors_of(one))


AnyRecipe = TypeVar("AnyRecipe", bound=Recipe)
"""What is given a Plan gives a Plan back."""
