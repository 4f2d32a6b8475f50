"""A torch module into a Keras model by hand, run on both sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tests.helpers.small_models import randomized

EQUAL = 1e-5


def as_keras(values: Any, channels_last: bool = True) -> np.ndarray[Any, Any]:
    """A torch tensor in the Keras layout."""
    array = values.detach().cpu().numpy()
    return np.ascontiguousarray(np.moveaxis(array, 1,
                                            -1)) if channels_last and array.ndim > 2 else array


def random_input(*shape: int, seed: int = 3) -> Any:
    """Random input of a torch module."""
    import torch

    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def named(**modules: Any) -> Any:
    """A torch module that holds the given ones by name, with random weights and statistics."""
    from torch import nn

    return randomized(nn.ModuleDict(modules))


def convert_by_hand(source: Any, model: Any, mapping: Mapping[str, str | Sequence[str]],
                    **options: Any) -> Any:
    """The report of a conversion by `ktc.align(..., mapping=...)`."""
    import keras_torch_convert as ktc

    return ktc.convert(source, model, plan=ktc.align(source, model, mapping=mapping, **options),
                       verify=False)


def relative(got: Any, expected: Any) -> float:
    """Largest difference as a fraction of the largest expected value."""
    got, expected = (one.detach().cpu().numpy() if hasattr(one, "detach") else np.asarray(one)
                     for one in (got, expected))
    assert got.shape == expected.shape, (got.shape, expected.shape)
    return float(np.abs(got - expected).max() / np.abs(expected).max())
