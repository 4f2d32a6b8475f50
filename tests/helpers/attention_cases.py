"""Attention and EinsumDense in PyTorch and in Keras, as data."""

from __future__ import annotations

from math import prod
from typing import Any

from keras_torch_convert import concat
from tests.helpers.composed_cases import functions
from tests.helpers.layer_cases import einsum_dense
from tests.helpers.rule_case import RuleCase, directly

WIDTH, HEADS, HEAD = 12, 3, 4
QUERY, VALUE = (5, WIDTH), (7, WIDTH)
# Softmax takes away what is added to the scores of one query alike.
KEY_BIAS = ("key/bias",)


def mixed(queries: Any, keys: Any, values: Any, groups: int = 1) -> Any:
    """Attention of projected (batch, time, heads * HEAD), `groups` query heads to a key head,
    without the output layer.
    """
    import torch

    q, k, v = (x.unflatten(-1, (-1, HEAD)).transpose(1, 2) for x in (queries, keys, values))
    k, v = (x.repeat_interleave(groups, 1) for x in (k, v))
    return torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def torch_attention(layer: Any, query: Any, value: Any) -> Any:
    return layer(query, value, value, need_weights=False)[0]


def keras_attention(bias: bool = True) -> Any:
    def model(keras: Any) -> Any:
        query, value = keras.Input(QUERY), keras.Input(VALUE)
        return keras.Model([query, value],
                           keras.layers.MultiHeadAttention(HEADS, HEAD, use_bias=bias,
                                                           name="layer")(query, value))

    return model


def keras_attention_of_three(keras: Any) -> Any:
    query, value, key = keras.Input(QUERY), keras.Input((7, 6)), keras.Input((7, 8))
    attention = keras.layers.MultiHeadAttention(HEADS, HEAD, name="layer")
    return keras.Model([query, value, key], attention(query, value, key))


def linear_layers(nn: Any, *names: str, keys: int = WIDTH, bias: bool = True) -> Any:
    """Linear layers by name, the second and third with `keys` outputs."""
    sizes = (WIDTH, keys, keys, WIDTH)
    return nn.ModuleDict(
        {name: nn.Linear(WIDTH, size, bias=bias) for name, size in zip(names, sizes, strict=True)})


NAMES = ("q_proj", "k_proj", "v_proj", "o_proj")


def by_linear_layers(layer: Any, query: Any, value: Any, groups: int = 1) -> Any:
    q, k, v, output = (layer[name] for name in NAMES)
    return output(mixed(q(query), k(value), v(value), groups))


def grouped_linear_layers(nn: Any) -> Any:
    sizes = (4 * HEAD, 2 * HEAD, 2 * HEAD)
    layers = {name: nn.Linear(WIDTH, size) for name, size in zip(NAMES[:3], sizes, strict=True)}
    return nn.ModuleDict({**layers, "o_proj": nn.Linear(4 * HEAD, WIDTH)})


def keras_grouped(keras: Any) -> Any:
    query, value = keras.Input(QUERY), keras.Input(VALUE)
    return keras.Model([query, value],
                       keras.layers.GroupQueryAttention(HEAD, 4, 2, name="layer")(query, value))


def fused_by_blocks(layer: Any, x: Any) -> Any:
    return layer["proj"](mixed(*layer["qkv"](x).chunk(3, -1)))


def fused_by_heads(layer: Any, x: Any) -> Any:
    parts = layer["query_key_value"](x).unflatten(-1, (HEADS, 3, HEAD)).unbind(-2)
    return layer["proj"](mixed(*(part.flatten(-2) for part in parts)))


def fused(nn: Any, name: str) -> Any:
    return nn.ModuleDict({name: nn.Linear(WIDTH, 3 * WIDTH), "proj": nn.Linear(WIDTH, WIDTH)})


def keras_self_attention(keras: Any) -> Any:
    x = keras.Input(QUERY)
    return keras.Model(x, keras.layers.MultiHeadAttention(HEADS, HEAD, name="layer")(x, x))


def query_and_value_bias(nn: Any) -> Any:
    """BEiT's: no bias for keys."""
    import torch

    class Attention(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH)
            self.q_bias, self.v_bias = (nn.Parameter(torch.zeros(WIDTH)) for _ in range(2))

        def forward(self, x: Any) -> Any:
            q, k, v = self.qkv(x).chunk(3, -1)
            return self.proj(mixed(q + self.q_bias, k, v + self.v_bias))

    return Attention()


def keras_dense_layers(keras: Any) -> Any:
    """Attention of one head as separate Dense layers."""
    layers, inputs = keras.layers, keras.Input(QUERY)
    q, k, v = (layers.Dense(WIDTH, name=name)(inputs) for name in ("query", "key", "value"))
    x = layers.Attention()([layers.Rescaling(WIDTH**-0.5)(q), v, k])
    return keras.Model(inputs, layers.Dense(WIDTH, name="output")(x))


def keras_fused(keras: Any) -> Any:
    """Attention of one head with query, key and value in one Dense layer."""
    layers, inputs = keras.layers, keras.Input(QUERY)
    q, k, v = functions(keras).split(layers.Dense(3 * WIDTH, name="qkv")(inputs), 3, axis=-1)
    x = layers.Attention()([layers.Rescaling(WIDTH**-0.5)(q), v, k])
    return keras.Model(inputs, layers.Dense(WIDTH, name="output")(x))


def by_one_head(layer: Any, x: Any) -> Any:
    import torch

    q, k, v = (layer[name](x) for name in NAMES[:3])
    return layer["o_proj"](torch.softmax(q @ k.mT * WIDTH**-0.5, -1) @ v)


def keras_encoder(norm_first: bool) -> Any:
    def model(keras: Any) -> Any:
        layers, x = keras.layers, keras.Input(QUERY)
        inputs = x
        attention = layers.MultiHeadAttention(HEADS, HEAD, name="attn")
        norms = [layers.LayerNormalization(epsilon=1e-5, name=name) for name in ("norm1", "norm2")]
        wide, narrow = layers.Dense(20, activation="gelu",
                                    name="linear1"), layers.Dense(WIDTH, name="linear2")
        if norm_first:
            seen = norms[0](x)
            x = layers.Add()([x, attention(seen, seen)])
            return keras.Model(inputs, layers.Add()([x, narrow(wide(norms[1](x)))]))
        x = norms[0](layers.Add()([x, attention(x, x)]))
        return keras.Model(inputs, norms[1](layers.Add()([x, narrow(wide(x))])))

    return model


ENCODER = {name: f"layer.{name}" for name in ("norm1", "norm2", "linear1", "linear2")
          } | {"attn": ["layer.self_attn", "layer.self_attn.out_proj"]}


def keras_composite(keras: Any) -> Any:
    """Attention and its norm inside a layer of one's own."""
    class Block(keras.layers.Layer):  # type: ignore[misc, name-defined]
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.norm = keras.layers.LayerNormalization(epsilon=1e-5, name="norm")
            self.attention = keras.layers.MultiHeadAttention(HEADS, HEAD, name="attn")

        def call(self, x: Any) -> Any:
            seen = self.norm(x)
            return self.attention(seen, seen)

    inputs = keras.Input(QUERY)
    return keras.Model(inputs, Block(name="block")(inputs))


def composite(nn: Any) -> Any:
    return nn.ModuleDict({
        "norm": nn.LayerNorm(WIDTH), "attn": nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
    })


def attention(name: str, torch_layer: Any, keras_model: Any, shapes: Any, forward: Any,
              mapping: Any, **more: Any) -> RuleCase:
    return RuleCase("attention", name, torch_layer, keras_model, shapes, forward, mapping,
                    unseen=KEY_BIAS, **more)


WHOLE = {"layer": ["layer", "layer.out_proj"]}
BOTH = (QUERY, VALUE)

CASES = [
    attention("fused projections", lambda nn: nn.MultiheadAttention(WIDTH, HEADS, batch_first=True),
              keras_attention(), BOTH, torch_attention, WHOLE),
    attention("fused projections without bias",
              lambda nn: nn.MultiheadAttention(WIDTH, HEADS, bias=False, batch_first=True),
              keras_attention(bias=False), BOTH, torch_attention, WHOLE),
    attention("kdim and vdim",
              lambda nn: nn.MultiheadAttention(WIDTH, HEADS, kdim=8, vdim=6, batch_first=True),
              keras_attention_of_three, (QUERY, (7, 6), (7, 8)),
              lambda layer, q, v, k: layer(q, k, v, need_weights=False)[0], WHOLE),
    attention("four linear layers", lambda nn: linear_layers(nn, *NAMES), keras_attention(), BOTH,
              by_linear_layers, {"layer": [f"layer.{name}" for name in NAMES]}),
    attention("four linear layers without bias, out of order",
              lambda nn: linear_layers(nn, *NAMES, bias=False), keras_attention(bias=False), BOTH,
              by_linear_layers, {"layer": [f"layer.{name}" for name in reversed(NAMES)]}),
    attention("one linear layer by blocks", lambda nn: fused(nn, "qkv"), keras_self_attention,
              (QUERY,), fused_by_blocks, {"layer": ["layer.qkv", "layer.proj"]}),
    attention("one linear layer by heads", lambda nn: fused(nn, "query_key_value"),
              keras_self_attention, (QUERY,), fused_by_heads,
              {"layer": ["layer.query_key_value", "layer.proj"]}),
    attention("no bias for keys", query_and_value_bias, keras_self_attention, (QUERY,), directly,
              {"layer": ["layer", "layer.qkv", "layer.proj"]}, constrained=True),
    attention("grouped heads", grouped_linear_layers, keras_grouped, BOTH,
              lambda layer, q, v: by_linear_layers(layer, q, v, 2),
              {"layer": [f"layer.{name}" for name in NAMES]}, keras3_only=True),
    attention(
        "transformer encoder layer", lambda nn: nn.TransformerEncoderLayer(
            WIDTH, HEADS, 20, activation="gelu", batch_first=True), keras_encoder(norm_first=False),
        (QUERY,), directly, ENCODER),
    attention(
        "transformer encoder layer, norm first", lambda nn: nn.TransformerEncoderLayer(
            WIDTH, HEADS, 20, activation="gelu", batch_first=True, norm_first=True),
        keras_encoder(norm_first=True), (QUERY,), directly, ENCODER),
    attention("inside a composite layer", composite, keras_composite, (QUERY,),
              lambda layer, x: torch_attention(layer["attn"], *[layer["norm"](x)] * 2),
              {"block/norm": "layer.norm", "block/attn": ["layer.attn", "layer.attn.out_proj"]}),
    RuleCase("fused and split layers", "attention as separate dense layers",
             lambda nn: nn.MultiheadAttention(WIDTH, 1, batch_first=True), keras_dense_layers,
             (QUERY,), lambda layer, x: torch_attention(layer, x, x), lambda model: separate(),
             unseen=KEY_BIAS),
    RuleCase("fused and split layers", "three linear layers into one dense",
             lambda nn: linear_layers(nn, *NAMES), keras_fused, (QUERY,), by_one_head,
             {"qkv": concat(*(f"layer.{name}" for name in NAMES[:3])), "output": "layer.o_proj"},
             unseen=("qkv/bias",))
]


def separate() -> Any:
    from keras_torch_convert import split

    parts = {name: split("layer", part, 3) for part, name in enumerate(("query", "key", "value"))}
    return {**parts, "output": "layer.out_proj"}


# Each with the shapes of the kernel's letters; all of keras-hub's, and the two of
# keras.layers.MultiHeadAttention.
EQUATIONS = [
    "bkm,mvh->bkvh", "bquh,uhm->bqm", "btd,df->btf", "bqm,muh->bquh", "btnh,nhd->btd",
    "bsd,kdh->bskh", "btd,dnh->btnh", "bsd,dkh->bskh", "abc,cde->abde", "btf,fd->btd",
    "btd,ndh->btnh", "abc,cd->abd", "bsm,mnh->bsnh", "bkm,mnh->bknh", "btm,mnh->btnh",
    "bsd,qdh->bsqh", "bqm,mnh->bqnh", "abc,cdef->abdef", "abcd,cde->abe", "...x,xy->...y"
]


def einsum_case(equation: str) -> RuleCase:
    data, _, rest = equation.partition(",")
    kernel, _, output = rest.partition("->")
    if data.startswith("..."):
        data, output = data.replace("...", "bt"), output.replace("...", "bt")
    sizes = ({letter: 2 + number for number, letter in enumerate(sorted(set(kernel)))}
             | {data[1]: 5} if data[1] not in kernel else {})
    summed = [sizes[letter] for letter in data if letter in kernel]
    made = [sizes[letter] for letter in output if letter in kernel]
    shape = tuple(sizes[letter] for letter in data[1:])
    output_shape = (*(None if letter == data[1] else sizes[letter] for letter in output[1:]),)
    bias = "".join(letter for letter in output if letter in kernel)

    def model(keras: Any) -> Any:
        layer = einsum_dense(
            keras.layers)(equation, output_shape if "..." not in equation else output_shape[-1],
                          bias_axes=bias, name="layer")
        inputs = keras.Input(shape)
        return keras.Model(inputs, layer(inputs))

    def forward(layer: Any, x: Any) -> Any:
        return layer(x.flatten(-len(summed))).unflatten(-1, made)

    return RuleCase("einsum dense", equation, lambda nn: nn.Linear(prod(summed), prod(made)), model,
                    (shape,), forward, {"layer": "layer"})


CASES += [einsum_case(equation) for equation in EQUATIONS]
