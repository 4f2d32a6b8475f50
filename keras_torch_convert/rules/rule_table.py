"""All conventions as one table: the rules by kind of layer, and those that look at more than one
tensor or at the model's graph.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from . import attention, einsum, experts, other_kind, parametrized, position_table
from .registry import RULES
from .rule import Rule

# Rules that no table of movements can say, because they depend on an equation, a module, or the
# layers around.
BY_CIRCUMSTANCE = (
    Rule("attention", attention.KINDS,
         attention.SOURCE), Rule("einsum dense", ("EinsumDense",), einsum.SOURCE),
    Rule(
        "fused and split layers", (),
        "rows of one tensor for several Keras layers, or several tensors one after the other for "
        "one: torch stacks outputs along the first axis; which "
        "part is which is said by hand (rows, joined, stacked) or found by running both models"),
    Rule("bank of experts", (), experts.SOURCE),
    Rule(
        "dense behind a flattened map", ("Dense", "BatchNormalization", "LayerNormalization",
                                         "RMSNormalization", "PReLU", "LSTM", "GRU", "SimpleRNN"),
        "torch.nn.Flatten numbers an NCHW map channel, height, width; keras.layers.Flatten "
        "height, width, channel: rows are reordered with the sizes "
        "that the Keras graph tells"),
    Rule(
        "dense before a map", ("Dense", "BatchNormalization", "PReLU"),
        "a vector viewed as an NCHW map counts channel, height, width, keras.layers.Reshape "
        "height, width, channel: outputs are reordered where the Keras "
        "graph reshapes them into a map of two spatial axes or more; that PyTorch's module does "
        "so can only be proven by running both"),
    Rule(
        "parametrized weight", (), parametrized.SOURCE, lossless=False,
        back="an equal function: the weight as direction, its norm as magnitude; singular vectors "
        "whose product with the weight is 1; other parametrizations are refused"),
    Rule(
        "weight-standardized convolution", ("Conv2D",), other_kind.STANDARDIZED_SOURCE,
        lossless=False,
        back="an equal function: the kernel as weight, its deviation as gain; refused for kernels "
        "that no standardized weight can be"),
    Rule("grouped transposed convolution",
         ("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"), other_kind.GROUPED_SOURCE,
         back="bit for bit; refused unless all values between the groups are zeros"),
    Rule("linear layer as convolution, or the reverse",
         ("Dense", "EinsumDense", "Conv1D", "Conv2D", "Conv3D"), other_kind.LINEAR_SOURCE),
    Rule("position table at another resolution", (), position_table.SOURCE, lossless=False,
         back="none: the table before cannot be had back"),
    Rule(
        "raw parameter", (),
        "a parameter that no rule names moves as it stands; axes of size 1 may differ around a "
        "vector, leading ones around anything: (C,), "
        "(1, 1, C), (C, 1, 1) of a layer scale, (1, 1, C) of a class token, (1, N, C) of a "
        "position table"))


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table, in words. `layouts` has one entry for each variable that is laid out
    otherwise, "weight layout -> kernel layout".
    """

    name: str
    class_names: tuple[str, ...]
    layouts: tuple[str, ...]
    source: str
    lossless: bool
    back: str


def rule_table() -> tuple[Row, ...]:
    """Every rule, the families in the order in which they are looked up."""
    return tuple(_row(rule) for rule in (*RULES, *BY_CIRCUMSTANCE))


def markdown() -> str:
    """The table for the documentation."""
    return "\n".join(_lines()) + "\n"


def _row(rule: Rule) -> Row:
    layouts = tuple(f"{name}: {movement.torch} -> {movement.keras}"
                    for name, movement in rule.movements.items())
    return Row(rule.name, rule.class_names, layouts, rule.source, rule.lossless, rule.back)


def _lines() -> Iterator[str]:
    yield ("| rule | Keras layers | PyTorch layout → Keras layout | convention and where it is "
           "written | back to PyTorch |")
    yield "| --- | --- | --- | --- | --- |"
    for row in rule_table():
        kinds = ", ".join(f"`{kind}`" for kind in row.class_names) or "any"
        layouts = "<br>".join(f"`{layout.replace(' -> ', ' → ')}`"
                              for layout in row.layouts) or "as named at the right"
        cells = [
            cell.replace("|", r"\|") for cell in (row.name, kinds, layouts, row.source, row.back)
        ]
        yield "| " + " | ".join(cells) + " |"
