"""The outcome of a diagnosis: where two models part, and the cause when one is proven."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

# The kind of a cause that changes no prediction: one model ends in a softmax, the other in logits.
SOFTMAX_AT_THE_END = "softmax at the end"

# So many layers of one difference, and so many differences, are named in a text.
MAX_NAMED = 4
MAX_LISTED = 20


@dataclass(frozen=True, slots=True)
class Difference:
    """One way in which two models differ, at one layer or at several alike.

    Attributes:
        kind: Short name of the cause ("epsilon", "activation", "padding", ...), "" when unknown.
        cause: What was found, in a sentence.
        advice: What to change on which side.
        keras_layers: Display names of the Keras layers, in order of execution.
        torch_modules: Paths of the torch modules that belong to them.
        effect: How far the outputs move when this is fixed, as a fraction of the largest one; None
            when it is not known.
    """

    kind: str
    cause: str
    advice: str = ""
    keras_layers: tuple[str, ...] = ()
    torch_modules: tuple[str, ...] = ()
    effect: float | None = None

    def summary(self) -> str:
        """Return the layers and the cause in one line."""
        if len(self.keras_layers) == 1:
            return f"{self.keras_layers[0] or 'inputs'}: {self.cause}"
        return f"{self.cause}: {len(self.keras_layers)} layers ({_names(self.keras_layers)})"

    def lines(self) -> list[str]:
        """Return layers, cause, effect and advice as lines for a terminal."""
        effect = "" if self.effect is None else f"; it moves the outputs by {self.effect:.1e}"
        modules = [name for name in self.torch_modules if name]
        where = f"; in torch: {_names(modules)}" if modules else ""
        return [
            f"{self.summary()}{where}{effect}",
            *([f"  to do: {self.advice}"] if self.advice else [])
        ]


def _names(names: Sequence[str]) -> str:
    more = len(names) - MAX_NAMED
    shown = ", ".join(f"'{name}'" for name in names[:MAX_NAMED])
    return f"{shown} and {more} more" if more > 0 else shown


@dataclass(frozen=True, slots=True)
class FirstDivergence:
    """The call that makes most of the outputs' difference: its inputs agree, its output does not.

    Attributes:
        keras_layer: Display name of the Keras layer, "" for the inputs.
        torch_module: Path of the torch module that belongs to it, "" when there is none.
        torch_class, torch_source: Its class, and file:line of its `forward`.
        operation: What the layer computes there when no weights are to blame ("pooling",
            "activation"), "" for a layer with weights.
        keras_shape, torch_shape: Shapes of the two outputs, () when unknown.
        difference: Largest difference there as a fraction of torch's largest value, None when the
            shapes differ.
        kind: Short name of the cause ("epsilon", "activation", "padding", ...), "" when unknown.
        cause: What was found, in a sentence.
        advice: What to change on which side.
        distance: The relative difference that is left with the cause fixed.
        differences: All that differs, alike ones as one, the largest effect on the outputs first.
    """

    keras_layer: str
    torch_module: str = ""
    torch_class: str = ""
    torch_source: str = ""
    operation: str = ""
    keras_shape: tuple[int, ...] = ()
    torch_shape: tuple[int, ...] = ()
    difference: float | None = None
    kind: str = ""
    cause: str = "unknown"
    advice: str = ""
    distance: float | None = None
    differences: tuple[Difference, ...] = ()

    @property
    def also(self) -> tuple[str, ...]:
        """The other differences, a line each, the one with the largest effect first."""
        return tuple(one.summary() for one in self.differences[1:])

    @property
    def explains_difference(self) -> bool:
        """True when a cause is proven that changes what the models predict."""
        kinds = [self.kind, *(one.kind for one in self.differences)]
        return any(kind not in ("", SOFTMAX_AT_THE_END) for kind in kinds)

    def causes(self) -> tuple[str, ...]:
        """Return every proven cause with its layers, the main one first."""
        if not self.differences:
            return (f"{self.keras_layer or 'inputs'}: {self.cause}",) if self.kind else ()
        return tuple(one.summary() for one in self.differences if one.kind)

    def __str__(self) -> str:
        """Return the layer, the cause and the advice, a line each."""
        keras = f"Keras layer '{self.keras_layer}'" if self.keras_layer else "the inputs"
        lines = [f"first divergence: {keras}{f' ({self.operation})' if self.operation else ''}"]
        if self.torch_class or self.torch_module:
            where = f", {self.torch_source}" if self.torch_source else ""
            lines.append(f"  in torch: '{self.torch_module}' ({self.torch_class}{where})")
        if self.keras_shape or self.torch_shape:
            lines.append(f"  output: Keras {self.keras_shape}, torch "
                         f"{self.torch_shape}{self.difference_text()}")
        lines.append(f"  cause: {self.cause}")
        lines += [f"  to do: {self.advice}"] if self.advice else []
        if self.differences[1:] or any(len(one.keras_layers) > 1 for one in self.differences):
            lines.append("all differences, the largest effect first:")
            for number, one in enumerate(self.differences[:MAX_LISTED], 1):
                first, *rest = one.lines()
                lines += [f"  {number}. {first}", *(f"   {line}" for line in rest)]
            more = len(self.differences) - MAX_LISTED
            lines += [f"  and {more} more, all in .differences"] if more > 0 else []
        return "\n".join(lines)

    def difference_text(self) -> str:
        """Return the size of the difference, "" when it could not be measured."""
        if self.difference is None:
            return ""
        return f", difference {self.difference:.1e} of torch's largest value"

    def to_dict(self) -> dict[str, Any]:
        """Return the divergence as plain data."""
        data = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return data | {"differences": [asdict(one) for one in self.differences]}
