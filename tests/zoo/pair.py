"""One pair of the zoo, and what several of its lists build models and inputs by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from random_weights import randomized

KERAS_3 = {"KERAS_BACKEND": "torch"}
KERAS_2 = {"TF_USE_LEGACY_KERAS": "1", "TF_ENABLE_ONEDNN_OPTS": "0"}
# Outputs with names that both sides have.
NAMES = ("last_hidden_state", "pooler_output", "logits", "start_logits", "end_logits", "cls_logits",
         "distillation_logits", "logits_per_image", "text_embeds", "image_embeds")
KERAS_2_FAMILIES = ("kecam", "transformers-tf", "tfimm")


@dataclass(frozen=True)
class Pair:
    """One pair; `inputs(seed)` gives (torch inputs, Keras inputs) of one content, the calls say how
    a model is run that takes more than those, `more_environment` what its packages need.
    """

    name: str
    family: str
    words: str
    torch_model: Callable[[], Any]
    keras_model: Callable[[], Any]
    inputs: Callable[[int], tuple[Any, Any]]
    torch_call: Callable[[Any, Any], Any] | None = None
    keras_call: Callable[[Any, Any], Any] | None = None
    more_environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """Variables that must be set before Keras is imported."""
        return {
            **(KERAS_2 if self.family in KERAS_2_FAMILIES else KERAS_3), **self.more_environment
        }

    @property
    def strict(self) -> Any:
        """keras-hub's backbones have no place for the heads and poolers of the torch models."""
        return "target" if self.family == "keras-hub" else True

    def build(self) -> tuple[Any, Any]:
        """Both models, the torch one with random weights."""
        module = self.torch_model().eval()
        return randomized(module, lambda: self.call_torch(module,
                                                          self.inputs(0)[0])), self.keras_model()

    def call_torch(self, module: Any, inputs: Any) -> Any:
        """Whatever the torch module returns."""
        if self.torch_call:
            return self.torch_call(module, inputs)
        if isinstance(inputs, dict):
            return module(**{name: tensors(one) for name, one in inputs.items()})
        return module(tensors(inputs))

    def run_torch(self, module: Any, inputs: Any) -> np.ndarray:
        """The torch module's output."""
        import torch

        with torch.no_grad():
            return as_array(self.call_torch(module, inputs))

    def run_keras(self, model: Any, inputs: Any) -> np.ndarray:
        """The Keras model's output."""
        return as_array(
            self.keras_call(model, inputs) if self.keras_call else model(inputs, training=False))


def as_array(output: Any) -> np.ndarray:
    """An output of either side; of one with names all that are compared, one after another."""
    if hasattr(output, "items"):
        return np.concatenate([as_array(output[name]).ravel() for name in NAMES if name in output])
    return np.asarray(output.detach().float().numpy() if hasattr(output, "detach") else output)


def tensors(array: np.ndarray) -> Any:
    """The array as a tensor."""
    import torch

    return torch.from_numpy(array)


def pictures(side: int, keras_scale: float = 1.0) -> Callable[[int], tuple[Any, Any]]:
    """Noise between -1 and 1, channels first for torch and last for Keras, there times
    `keras_scale` (models that rescale themselves).
    """
    def draw(seed: int) -> tuple[Any, Any]:
        picture = np.random.default_rng(seed).uniform(-1, 1, (1, side, side, 3)).astype("float32")
        return np.ascontiguousarray(picture.transpose(0, 3, 1,
                                                      2)), picture * np.float32(keras_scale)

    return draw


def from_timm(name: str, epsilon: float | None = None, unit_gains: bool = False,
              **options: Any) -> Callable[[], Any]:
    """A timm model; `epsilon` for all its batch norms, and their gains fixed at one where the Keras
    twin has none.
    """
    def build() -> Any:
        import timm
        import torch

        module = timm.create_model(name, pretrained=False, **options)
        for norm in module.modules():
            if isinstance(norm, torch.nn.BatchNorm2d):
                norm.eps = epsilon or norm.eps
                norm.keeps_gain = unit_gains
        return module

    return build
