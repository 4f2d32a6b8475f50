"""The outcome of a diagnosis: where two models part, and the cause when one is proven."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# The kind of a cause that changes no prediction: one model ends in a softmax, the other in logits.
SOFTMAX_AT_THE_END = "softmax at the end"


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
        also: Other causes that were found, each with its layer, the one with the largest effect on
            the outputs first.
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
    also: tuple[str, ...] = ()

    @property
    def explains_difference(self) -> bool:
        """True when the cause is proven and changes what the models predict."""
        return self.kind not in ("", SOFTMAX_AT_THE_END)

    def causes(self) -> tuple[str, ...]:
        """Return every proven cause with its layer, the main one first."""
        return (f"{self.keras_layer or 'inputs'}: {self.cause}", *self.also) if self.kind else ()

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
        lines += [f"  also different, with less effect: {one}" for one in self.also]
        return "\n".join(lines)

    def difference_text(self) -> str:
        """Return the size of the difference, "" when it could not be measured."""
        if self.difference is None:
            return ""
        return f", difference {self.difference:.1e} of torch's largest value"

    def to_dict(self) -> dict[str, Any]:
        """Return the divergence as plain data."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}
