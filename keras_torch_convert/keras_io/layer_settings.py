"""Hyperparameters of a Keras layer that decide how its weights are laid out or used, as plain
values.
"""

from __future__ import annotations

from typing import Any

from .keras_private import built_ndim

SETTINGS = ("rank", "filters", "units", "kernel_size", "strides", "padding", "output_padding",
            "dilation_rate", "groups", "depth_multiplier", "data_format", "use_bias", "input_dim",
            "output_dim", "axis", "epsilon", "momentum", "scale", "center", "shared_axes",
            "equation", "num_heads", "key_dim", "value_dim", "reset_after", "go_backwards",
            "return_sequences", "merge_mode", "mask_zero")


def settings_of(layer: Any) -> dict[str, Any]:
    """The settings that the layer has under their Keras names, `activation` and
    `recurrent_activation` by their names, and the `input_rank` that it was built for, batch axis
    included.

    Only plain values (numbers, strings, None, tuples of these) are kept. A list becomes a tuple.
    """
    settings: dict[str, Any] = {}
    for name in SETTINGS:
        if hasattr(layer, name):
            plain, value = _plain(getattr(layer, name))
            if plain:
                settings[name] = value
    for kind in ("activation", "recurrent_activation"):
        activation = getattr(layer, kind, None)
        if activation is not None:
            known_as = getattr(activation, "__name__", None) or getattr(activation, "name", None)
            settings[kind] = str(known_as or type(activation).__name__)
    rank = built_ndim(layer)
    if rank is not None:
        settings["input_rank"] = rank
    return settings


def _plain(value: Any) -> tuple[bool, Any]:
    if value is None or isinstance(value, bool | int | float | str):
        return True, value
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        return _plain(value.item())
    if isinstance(value, list | tuple):
        parts = [_plain(part) for part in value]
        return all(plain for plain, _ in parts), tuple(part for _, part in parts)
    return False, None
