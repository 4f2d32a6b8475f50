"""Faults of ports of language models: settings of the layers in tests/helpers/language_pairs.py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .fault import Fault
from .keras_settings import keras_setting


def language_faults() -> Iterator[Fault]:
    """Rotary positions, scores of attention, masks, heads, gates, soft caps, norms."""
    from tests.helpers.language_pairs import HEAD, Rope

    def rope(name: str, **settings: Any) -> Fault:
        return keras_setting(name, ("rope",), ("KerasRope",), settings=Rope(**settings))

    def attention(name: str, kind: str, **settings: Any) -> Fault:
        return keras_setting(name, (kind,), ("KerasAttention",), **settings)

    yield rope("linear scaling of positions", scaling="linear")
    yield rope("scaling of llama3", scaling="llama3")
    yield rope("scaling of YaRN", scaling="yarn")
    yield rope("base of rotary positions", base=500000.0)
    yield rope("exponents of rotary positions", exponent=1.0)
    yield rope("rotary positions of neighbors", interleaved=True)
    yield rope("rotary positions in half precision", dtype="bfloat16")
    yield rope("rotary positions of half a head", width=HEAD // 2)
    yield attention("soft cap of scores", "soft cap", cap=2.0)
    yield attention("scale of scores", "attention scale", factor=1.5 * HEAD**-0.5)
    yield attention("no causal mask", "mask", causal=False)
    yield attention("window of a causal mask", "window", window=4)
    yield attention("heads tiled instead of repeated", "head order", tiled=True)
    yield keras_setting("gelu in code approximated", ("activation",), ("KerasBlock",),
                        approximate=True)
    yield keras_setting("activation behind a gate", ("gate",), ("KerasBlock",), behind=True)
    yield keras_setting("no soft cap at the end", ("soft cap",), ("SoftCap",), cap=None)
    yield keras_setting("another soft cap at the end", ("soft cap",), ("SoftCap",), cap=5.0)
    yield keras_setting("mean subtracted by a norm", ("normalization",), ("KerasNorm",),
                        centered=True)
