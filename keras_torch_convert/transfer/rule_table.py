"""All conventions as one table: the rules by kind of layer, and those that look at more than one tensor or at the model's graph."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from . import attention, einsum, parametrised
from .rule import Rule
from .rules import RULES

_EQUAL_FUNCTION = "an equal function"

# Rules that no table of movements can say, because they depend on an equation, a module, or the layers around.
BY_CIRCUMSTANCE = (
    Rule("attention", attention.KINDS, attention.SOURCE),
    Rule("einsum dense", ("EinsumDense",), einsum.SOURCE),
    Rule(
        "dense behind a flattened map",
        ("Dense", "BatchNormalization", "LayerNormalization"),
        "torch.nn.Flatten numbers an NCHW map channel, height, width; keras.layers.Flatten height, width, channel: rows are reordered with the sizes "
        "that the Keras graph tells",
    ),
    Rule(
        "parametrised weight",
        (),
        parametrised.SOURCE,
        back=f"{_EQUAL_FUNCTION}: the weight as direction, its norm as magnitude",
    ),
    Rule(
        "linear layer as convolution of size 1, or the reverse",
        ("Dense", "Conv1D", "Conv2D", "Conv3D"),
        "torch.nn.Linear (out, in) and a Conv*d of size 1 (out, in, 1, ...) multiply channels by one matrix; a convolution whose stride is its "
        "size multiplies unfolded patches (patch embedding)",
    ),
    Rule(
        "raw parameter",
        (),
        "a parameter that no rule names moves as it stands; axes of size 1 may differ around a vector, leading ones around anything: (C,), "
        "(1, 1, C), (C, 1, 1) of a layer scale, (1, 1, C) of a class token, (1, N, C) of a position table",
    ),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table, in words. `layouts` has one entry for each variable that is laid out otherwise, "weight layout -> kernel layout"."""

    name: str
    kinds: tuple[str, ...]
    layouts: tuple[str, ...]
    source: str
    back: str


def rule_table() -> tuple[Row, ...]:
    """Every rule, the families in the order in which they are looked up."""
    return tuple(_row(rule) for rule in (*RULES, *BY_CIRCUMSTANCE))


def markdown() -> str:
    """The table for the documentation."""
    return "\n".join(_lines()) + "\n"


def _row(rule: Rule) -> Row:
    layouts = tuple(f"{name}: {movement.torch} -> {movement.keras}" for name, movement in rule.movements.items())
    return Row(rule.name, rule.kinds, layouts, rule.source, rule.back)


def _lines() -> Iterator[str]:
    yield "| rule | Keras layers | PyTorch layout → Keras layout | convention and where it is written | back to PyTorch |"
    yield "| --- | --- | --- | --- | --- |"
    for row in rule_table():
        kinds = ", ".join(f"`{kind}`" for kind in row.kinds) or "any"
        layouts = "<br>".join(f"`{layout.replace(' -> ', ' → ')}`" for layout in row.layouts) or "as named at the right"
        cells = [cell.replace("|", r"\|") for cell in (row.name, kinds, layouts, row.source, row.back)]
        yield "| " + " | ".join(cells) + " |"
