"""For every rule that no table of movements tells: layers on paper of any size, in PyTorch and in
Keras.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from types import SimpleNamespace
from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

import keras_torch_convert as ktc
from keras_torch_convert.spec.target import TargetLayer
from tests.helpers.transfer import composite, layer

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Pair:
    """Shapes of torch tensors by name (a number: the one value of all), the Keras layer, and which
    torch layers go into it.
    """

    tensors: Mapping[str, Shape | tuple[Shape, float]]
    layer: TargetLayer
    mapping: Any = "t"
    options: Mapping[str, Any] = field(default_factory=dict)
    modules: Mapping[str, Any] = field(default_factory=dict)


def size(draw: Any, most: int = 5) -> int:
    return int(draw(st.integers(1, most)))


def batch_normalization(draw: Any) -> Pair:
    channels = (size(draw),)
    torch = {
        "t.weight": channels, "t.bias": channels, "t.running_mean": channels,
        "t.running_var": channels
    }
    keras = dict(
        zip(("gamma", "beta", "moving_mean", "moving_variance"), [channels] * 4, strict=True))
    for name, value, variable in (("t.weight", 1.0, "gamma"), ("t.bias", 0.0, "beta")):
        lacking = draw(st.sampled_from(["neither", "torch", "keras", "both"]))
        if lacking in ("keras", "both"):
            torch[name] = (channels, value)  # type: ignore[assignment]
            del keras[variable]
        if lacking in ("torch", "both"):
            del torch[name]
    return Pair(torch, layer("k", "BatchNormalization", keras))


def layer_normalization(draw: Any) -> Pair:
    ndim = draw(st.integers(1, 4))
    shape = tuple(size(draw) for _ in range(ndim))
    channels_first = (shape[-1], *shape[:-1])
    assume(ndim == 1 or channels_first != shape or max(shape) == 1)
    settings = {"axis": tuple(range(-ndim, 0)) if ndim > 1 else -1, "input_rank": ndim + 1}
    keras = layer("k", "LayerNormalization", {"gamma": shape, "beta": shape}, **settings)
    return Pair({"t.weight": channels_first, "t.bias": channels_first}, keras)


def of_vectors(kind: str, **names: str) -> Callable[[Any], Pair]:
    def drawn(draw: Any) -> Pair:
        channels = (size(draw),)
        return Pair({f"t.{name}": channels for name in names},
                    layer("k", kind, dict.fromkeys(names.values(), channels)))

    return drawn


def parametric_relu(draw: Any) -> Pair:
    sizes = tuple(size(draw) for _ in range(draw(st.integers(1, 3))))
    channels = sizes[-1]
    slopes = draw(st.sampled_from([1, channels]))
    shared = draw(st.sampled_from([True, False]))
    alpha = (*(1 if shared else extent for extent in sizes[:-1]), channels)
    assume(slopes == 1 or channels not in alpha[:-1])
    return Pair({"t.weight": (slopes,)}, layer("k", "PReLU", {"alpha": alpha}))


def cell(draw: Any, kind: str, gates: int, name: str = "k", suffix: str = "_l0",
         units: int = 0) -> Pair:
    units, features = units or size(draw), size(draw)
    bias = draw(st.booleans())
    keras = {"kernel": (features, gates * units), "recurrent_kernel": (units, gates * units)}
    torch: dict[str, Any] = {
        f"weight_ih{suffix}": (gates * units, features),
        f"weight_hh{suffix}": (gates * units, units)
    }
    if bias:
        keras["bias"] = (2, 3 * units) if gates == 3 else (gates * units,)
        torch |= {f"bias_{part}{suffix}": (gates * units,) for part in ("ih", "hh")}
    return Pair({f"t.{key}": shape for key, shape in torch.items()},
                layer(name, kind, keras, reset_after=True))


def recurrent_wrapper(draw: Any) -> Pair:
    units, gates = size(draw), draw(
        st.sampled_from([("LSTMCell", 4), ("GRUCell", 3), ("SimpleRNNCell", 1)]))
    there = cell(draw, *gates, name="k/forward", units=units)
    back = cell(draw, *gates, name="k/backward", suffix="_l0_reverse", units=units)
    return Pair({**there.tensors, **back.tensors},
                composite("k", "Bidirectional", there.layer, back.layer))


def relative_position_table(draw: Any) -> Pair:
    heads, rows = size(draw, 4), draw(st.sampled_from([3, 5, 7]))
    keras = draw(
        st.sampled_from([(rows * rows, heads), (heads, rows * rows), (rows, rows, heads),
                         (heads, rows, rows)]))
    assume(heads != rows)
    return Pair({"t.relative_position_bias_table": (rows * rows, heads)},
                layer("k", "Bias", {"table": keras}))


def attention(draw: Any) -> Pair:
    heads, head, width = size(draw, 4), size(draw, 4), size(draw)
    inner, bias = heads * head, draw(st.booleans())
    children = [
        layer(f"k/{part}", "EinsumDense",
              {"kernel": (width, heads, head)} | ({"bias": (heads, head)} if bias else {}),
              equation="abc,cde->abde") for part in ("query", "key", "value")
    ]
    output = {"kernel": (heads, head, width)} | ({"bias": (width,)} if bias else {})
    children.append(layer("k/attention_output", "EinsumDense", output, equation="abcd,cde->abe"))
    children = [_renamed(child) for child in children]
    kind = draw(st.sampled_from(["in_proj", "apart", "qkv", "query_key_value"]))
    rows = {
        "in_proj": ("in_proj_weight", "in_proj_bias"), "qkv": ("qkv.weight", "qkv.bias"),
        "query_key_value": ("query_key_value.weight", "query_key_value.bias")
    }
    if kind == "apart":
        torch = {f"t.{name}.weight": (inner, width) for name in ("q_proj", "k_proj", "v_proj")}
        torch |= {f"t.{name}.bias": (inner,) for name in ("q_proj", "k_proj", "v_proj") if bias}
        names = ["t.q_proj", "t.k_proj", "t.v_proj", "t.out_proj"]
    else:
        torch = {f"t.{rows[kind][0]}": (3 * inner, width)} | ({f"t.{rows[kind][1]}":
            (3 * inner,)} if bias else {})  # type: ignore[dict-item]
        names = ["t" if kind == "in_proj" else f"t.{kind}", "t.out_proj"]
    torch |= {"t.out_proj.weight": (width, inner)} | ({"t.out_proj.bias":
        (width,)} if bias else {})  # type: ignore[dict-item]
    return Pair(torch, composite("k", "MultiHeadAttention", *children), names)


def _renamed(child: TargetLayer) -> TargetLayer:
    """The child under the last part of its name, as Keras gives it."""
    from dataclasses import replace

    return replace(child, name=child.name.rsplit("/", 1)[-1])


def einsum_dense(draw: Any) -> Pair:
    equation = draw(
        st.sampled_from([
            "abc,cde->abde", "abcd,cde->abe", "btd,ndh->btnh", "btd,kdh->bskh".replace("s", "t"),
            "abc,cdef->abdef", "ab,bc->ac"
        ]))
    data, _, rest = equation.partition(",")
    kernel, _, output = rest.partition("->")
    sizes = {letter: size(draw) for letter in kernel}
    made, summed = (
        [sizes[letter] for letter in side if letter in kernel] for side in (output, data))
    keras = {"kernel": tuple(sizes[letter] for letter in kernel), "bias": tuple(made)}
    return Pair({"t.weight": (prod(made), prod(summed)), "t.bias": (prod(made),)},
                layer("k", "EinsumDense", keras, equation=equation))


def fused(draw: Any) -> Pair:
    count, rows, groups, inputs = size(draw), size(draw), size(draw, 3), size(draw)
    names = [f"t.part{index}" for index in range(count + 1)]
    torch = {f"{name}.weight": (groups * rows, inputs) for name in names}
    keras = layer("k", "Dense", {"kernel": (inputs, (count + 1) * groups * rows)})
    return Pair(torch, keras, ktc.concat(*names, groups=groups))


def bank_of_experts(draw: Any) -> Pair:
    experts, inputs, outputs = size(draw), size(draw), size(draw)
    keras = layer("k", "Experts", {"gate": (experts, inputs, outputs)})
    if draw(st.booleans()):
        names = [f"t.experts.{index}" for index in range(experts)]
        return Pair({f"{name}.weight": (outputs, inputs) for name in names}, keras,
                    ktc.stack(*names))
    shape = draw(st.sampled_from([(experts, inputs, outputs), (experts, outputs, inputs)]))
    return Pair({"t.experts_gate": shape}, keras)


def flattened(draw: Any) -> Pair:
    names = draw(
        st.sampled_from([("height", "width", "channel"), ("width", "height", "channel"),
                         ("width", "channel")]))
    run = tuple((name, draw(st.integers(2, 4))) for name in names)
    inputs, outputs = prod(extent for _, extent in run), size(draw)
    runs = (run, (("channel", 3),)) if draw(st.booleans()) else (run,)
    inputs += 3 * (len(runs) - 1)
    keras = layer("k", "Dense", {"kernel": (inputs, outputs), "bias": (outputs,)}, flattened=runs)
    return Pair({"t.weight": (outputs, inputs), "t.bias": (outputs,)}, keras)


def made_map(draw: Any) -> Pair:
    made = tuple((name, draw(st.integers(2, 4))) for name in ("height", "width", "channel"))
    inputs, outputs = size(draw), prod(extent for _, extent in made)
    keras = layer("k", "Dense", {"kernel": (inputs, outputs), "bias": (outputs,)}, gives_map=made)
    return Pair({"t.weight": (outputs, inputs), "t.bias": (outputs,)}, keras)


def parametrized(draw: Any) -> Pair:
    outputs, inputs, spatial = size(draw), size(draw), size(draw, 3)
    weight = (outputs, inputs, spatial, spatial)
    keras = layer("k", "Conv2D",
                  {"kernel": (spatial, spatial, inputs, outputs), "bias": (outputs,)})
    style = draw(st.sampled_from(["old weight", "new weight", "old spectral", "new spectral"]))
    vectors = ((outputs,), (inputs * spatial * spatial,))
    names: dict[str, dict[str, Shape]] = {
        "old weight": {"weight_g": (outputs, 1, 1, 1), "weight_v": weight}, "new weight": {
            "parametrizations.weight.original0": (outputs, 1, 1, 1),
            "parametrizations.weight.original1": weight
        }, "old spectral": {"weight_orig": weight, "weight_u": vectors[0], "weight_v": vectors[1]},
        "new spectral": {
            "parametrizations.weight.original": weight, "parametrizations.weight.0._u": vectors[0],
            "parametrizations.weight.0._v": vectors[1]
        }
    }
    return Pair(
        {"t.bias": (outputs,), **{f"t.{name}": shape for name, shape in names[style].items()}},
        keras)


class StdConv2d(SimpleNamespace):
    """As far as the rule looks at timm's."""


def standardized(draw: Any) -> Pair:
    outputs, inputs, spatial = size(draw), size(draw), draw(st.integers(2, 4))
    keras = layer("k", "Conv2D", {"kernel": (spatial, spatial, inputs, outputs)})
    torch: dict[str, Shape] = {"t.weight": (outputs, inputs, spatial, spatial)}
    if draw(st.booleans()):
        torch["t.gain"] = (outputs, 1, 1, 1)
    return Pair(torch, keras, modules={"t": StdConv2d(eps=1e-6, scale=1.7)})


def grouped_transposed(draw: Any) -> Pair:
    groups, inputs, outputs, width = draw(st.integers(2, 4)), size(draw, 3), size(draw,
                                                                                  3), size(draw, 3)
    keras = layer("k", "Conv1DTranspose", {"kernel": (width, groups * outputs, groups * inputs)})
    return Pair({"t.weight": (groups * inputs, outputs, width)}, keras)


def linear_as_convolution(draw: Any) -> Pair:
    outputs, inputs, ndim = size(draw), size(draw), draw(st.integers(1, 3))
    if draw(st.booleans()):
        return Pair({"t.weight": (outputs, inputs, *(1,) * ndim)},
                    layer("k", "Dense", {"kernel": (inputs, outputs)}))
    keras = layer("k", f"Conv{ndim}D", {"kernel": (*(1,) * ndim, inputs, outputs)})
    return Pair({"t.weight": (outputs, inputs)}, keras)


def resized_table(draw: Any) -> Pair:
    tokens, old, new, width = draw(st.integers(0, 2)), size(draw), size(draw), size(draw)
    assume(old != new and tokens + new**2 != tokens + old**2)
    keras = layer("k", "Positions", {"table": (1, tokens + new**2, width)})
    return Pair({"t.pos_embed": (1, tokens + old**2, width)}, keras, options={"resize": "bilinear"})


def raw_parameter(draw: Any) -> Pair:
    shape = tuple(draw(st.lists(st.integers(2, 5), min_size=1, max_size=3)))
    before = (1,) * draw(st.integers(0, 2))
    after: Sequence[int] = (1,) * draw(st.integers(0, 2)) if len(shape) == 1 else ()
    return Pair({"t.scale": (*before, *shape, *after)}, layer("k", "Own", {"scale": shape}))


DRAWN: Mapping[str, Callable[[Any], Pair]] = {
    "batch normalization": batch_normalization, "layer normalization": layer_normalization,
    "group normalization": of_vectors("GroupNormalization", weight="gamma",
                                      bias="beta"), "root mean square normalization": of_vectors(
                                          "RMSNormalization",
                                          weight="scale"), "parametric relu": parametric_relu,
    "lstm": lambda draw: cell(draw, "LSTMCell", 4), "gru": lambda draw: cell(draw, "GRUCell", 3),
    "simple rnn": lambda draw: cell(draw, "SimpleRNNCell", 1),
    "recurrent wrappers": recurrent_wrapper, "relative position table": relative_position_table,
    "attention": attention, "einsum dense": einsum_dense, "fused and split layers":
        fused, "bank of experts": bank_of_experts, "dense behind a flattened map":
            flattened, "dense before a map": made_map, "parametrized weight": parametrized,
    "weight-standardized convolution": standardized, "grouped transposed convolution":
        grouped_transposed, "linear layer as convolution, or the reverse": linear_as_convolution,
    "position table at another resolution": resized_table, "raw parameter": raw_parameter
}
