"""Rules that look at more than one tensor or at the layers around: fused, flattened, parametrized,
banks, tables and raw parameters, as data.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras_torch_convert as ktc
from tests.helpers.layer_cases import layer_case
from tests.helpers.rule_case import RuleCase, channels_last, one_layer


def functions(keras: Any) -> Any:
    """What has einsum, transpose, concatenate and reshape: keras.ops, or TensorFlow for Keras 2."""
    if hasattr(keras, "ops"):
        return keras.ops
    import tensorflow as tf

    return tf


def with_own_weight(keras: Any, name: str, shape: tuple[int, ...], call: Callable[[Any, Any, Any],
                                                                                  Any]) -> Any:
    """A Keras layer of one's own with one variable: `call(functions, weight, x)`."""
    class Own(keras.layers.Layer):  # type: ignore[misc, name-defined]
        def build(self, _: Any) -> None:
            self.own = self.add_weight(name=name, shape=shape)
            self.built = True

        def call(self, x: Any) -> Any:
            return call(functions(keras), self.own, x)

    return Own(name="layer")


def own_layer(name: str, shape: tuple[int, ...], call: Callable[[Any, Any, Any], Any],
              inputs: tuple[int, ...]) -> Any:
    def model(keras: Any) -> Any:
        given = keras.Input(inputs)
        return keras.Model(given, with_own_weight(keras, name, shape, call)(given))

    return model


def with_parameter(name: str, *shape: int) -> Callable[[Any], Any]:
    """A torch module with one parameter."""
    def module(nn: Any) -> Any:
        import torch

        made = nn.Module()
        made.register_parameter(name, nn.Parameter(torch.zeros(shape)))
        return made

    return module


# --- fused and split ---


def gated(keras: Any) -> Any:
    """Two dense layers, one through a sigmoid, multiplied."""
    layers, inputs = keras.layers, keras.Input((5,))
    gate, up = layers.Dense(7, activation="sigmoid", name="gate"), layers.Dense(7, name="up")
    return keras.Model(inputs, layers.Multiply()([gate(inputs), up(inputs)]))


def fused_gate(layer: Any, x: Any) -> Any:
    gate, up = layer(x).chunk(2, -1)
    return gate.sigmoid() * up


def packed_convolutions(keras: Any) -> Any:
    layers, inputs = keras.layers, keras.Input((6, 5, 3))
    first, second = layers.Conv2D(4, 3, activation="relu",
                                  name="first"), layers.Conv2D(4, 3, name="second")
    return keras.Model(inputs, layers.Add()([first(inputs), second(inputs)]))


def packed(layer: Any, x: Any) -> Any:
    first, second = channels_last(layer, x).chunk(2, -1)
    return first.relu() + second


def both_outputs(layer: Any, x: Any) -> Any:
    import torch

    return torch.cat([layer["a"](x), layer["b"](x)], -1)


FUSED = [
    RuleCase("fused and split layers", "gate and up in one", lambda nn: nn.Linear(5, 14), gated,
             ((5,),), fused_gate,
             {"gate": ktc.split("layer", 0, 2), "up": ktc.split("layer", 1, 2)}),
    RuleCase(
        "fused and split layers", "gate and up by groups of rows", lambda nn: nn.Linear(5, 14),
        gated, ((5,),), lambda layer, x: layer(x)[..., ::2].sigmoid() * layer(x)[..., 1::2],
        {"gate": ktc.split("layer", 0, 2, groups=7), "up": ktc.split("layer", 1, 2, groups=7)}),
    RuleCase("fused and split layers", "convolutions in one", lambda nn: nn.Conv2d(3, 8, 3),
             packed_convolutions, ((6, 5, 3),), packed,
             {"first": ktc.split("layer", 0, 2), "second": "layer[4:8]"}),
    RuleCase("fused and split layers", "two linear layers into one dense",
             lambda nn: nn.ModuleDict({"a": nn.Linear(5, 4), "b": nn.Linear(5, 3)}),
             one_layer(lambda L: L.Dense(7, name="layer"),
                       (5,)), ((5,),), both_outputs, {"layer": ktc.concat("layer.a", "layer.b")})
]

# --- banks of experts ---

EXPERTS, WIDTH, INNER = 3, 4, 5


def expert_outputs(ops: Any, weight: Any, x: Any) -> Any:
    return ops.einsum("bi,eio->beo", x, weight)


def linear_experts(nn: Any) -> Any:
    return nn.ModuleDict(
        {"experts": nn.ModuleList(nn.Linear(WIDTH, INNER, bias=False) for _ in range(EXPERTS))})


def by_expert(layer: Any, x: Any) -> Any:
    import torch

    return torch.stack([expert(x) for expert in layer["experts"]], 1)


BANK = own_layer("gate", (EXPERTS, WIDTH, INNER), expert_outputs, (WIDTH,))


def expert_dense_layers(keras: Any) -> Any:
    layers, inputs = keras.layers, keras.Input((WIDTH,))
    outputs = [
        layers.Dense(INNER, use_bias=False, name=f"expert_{index}")(inputs)
        for index in range(EXPERTS)
    ]
    return keras.Model(inputs, layers.Concatenate()(outputs))


BANKS = [
    RuleCase("bank of experts", "linear layers, stacked", linear_experts, BANK, ((WIDTH,),),
             by_expert,
             {"layer": ktc.stack(*(f"layer.experts.{index}" for index in range(EXPERTS)))}),
    RuleCase("bank of experts", "one tensor, outputs before inputs",
             with_parameter("experts_gate", EXPERTS, INNER, WIDTH), BANK, ((WIDTH,),),
             lambda layer, x: (layer.experts_gate @ x.mT).permute(2, 0, 1), {"layer": "layer"}),
    RuleCase("bank of experts", "one tensor, inputs before outputs",
             with_parameter("experts_gate", EXPERTS, WIDTH, INNER), BANK, ((WIDTH,),),
             lambda layer, x: (x @ layer.experts_gate).transpose(0, 1), {"layer": "layer"}),
    RuleCase("bank of experts", "one tensor into dense layers",
             with_parameter("experts_gate", EXPERTS, INNER, WIDTH), expert_dense_layers,
             ((WIDTH,),), lambda layer, x: (layer.experts_gate @ x.mT).permute(2, 0, 1).flatten(1),
             {f"expert_{index}": f"layer.experts_gate[{index}]" for index in range(EXPERTS)})
]

# --- a flattened map ---

MAP = (2, 3, 4)


def dense_behind(*between: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Input, the layers `between`, a Dense layer of 5."""
    def model(keras: Any) -> Any:
        inputs = x = keras.Input(MAP)
        for make in between:
            x = make(keras.layers)(x)
        return keras.Model(inputs, keras.layers.Dense(5, name="layer")(x))

    return model


def on_flattened(layer: Any, x: Any) -> Any:
    return layer(x.movedim(-1, 1).flatten(1))


def flattened_case(name: str, *between: Callable[[Any], Any], forward: Any = on_flattened,
                   width: int = 24) -> RuleCase:
    model = dense_behind(*between)
    return RuleCase(FLATTENED, name, lambda nn: nn.Linear(width, 5), model, (MAP,), forward,
                    {"layer": "layer"})


FLATTENED = "dense behind a flattened map"


def reshaped_by_an_operation(keras: Any) -> Any:
    inputs = keras.Input(MAP)
    flat = functions(keras).reshape(inputs, (-1, 24))
    return keras.Model(inputs, keras.layers.Dense(5, name="layer")(flat))


def norm_behind_flatten(keras: Any) -> Any:
    layers, inputs = keras.layers, keras.Input(MAP)
    norm, dense = layers.BatchNormalization(epsilon=1e-5, name="norm"), layers.Dense(5, name="fc")
    return keras.Model(inputs, dense(norm(layers.Flatten()(inputs))))


def lstm_on_columns(keras: Any) -> Any:
    layers, inputs = keras.layers, keras.Input((3, 6, 4))
    columns = layers.Reshape((6, 12))(layers.Permute((2, 1, 3))(inputs))
    return keras.Model(inputs, layers.GRU(5, return_sequences=True, name="layer")(columns))


def map_and_pooled(keras: Any) -> Any:
    layers, inputs = keras.layers, keras.Input(MAP)
    both = layers.Concatenate()([layers.GlobalAveragePooling2D()(inputs), layers.Flatten()(inputs)])
    return keras.Model(inputs, layers.Dense(5, name="layer")(both))


def on_map_and_pooled(layer: Any, x: Any) -> Any:
    import torch

    return layer(torch.cat([x.mean((1, 2)), x.movedim(-1, 1).flatten(1)], 1))


def dense_on_patches(keras: Any) -> Any:
    """Pictures (4, 6, 3) as six patches of 2 by 2, each (row, column, channel)."""
    layers, inputs = keras.layers, keras.Input((4, 6, 3))
    apart = layers.Permute((1, 3, 2, 4, 5))(layers.Reshape((2, 2, 3, 2, 3))(inputs))
    return keras.Model(inputs, layers.Dense(5, name="layer")(layers.Reshape((6, 12))(apart)))


FLATTENED_MAPS = [
    flattened_case("Flatten behind the Input", lambda L: L.Flatten()),
    flattened_case("Dropout and Activation", lambda L: L.Dropout(0.5), lambda L: L.Flatten(),
                   lambda L: L.Activation("linear")),
    flattened_case("Reshape", lambda L: L.Reshape((24,))),
    RuleCase(FLATTENED, "an operation instead of a layer", lambda nn: nn.Linear(24, 5),
             reshaped_by_an_operation, (MAP,), on_flattened, {"layer": "layer"}),
    flattened_case("Reshape to tokens, then Flatten", lambda L: L.Reshape((6, 4)),
                   lambda L: L.Flatten()),
    flattened_case("Permute to channels first: nothing moves", lambda L: L.Permute((3, 1, 2)),
                   lambda L: L.Flatten()),
    flattened_case("pooling", lambda L: L.MaxPooling2D((1, 3)), lambda L: L.Flatten(),
                   forward=lambda layer, x: layer(x.amax(2).movedim(-1, 1).flatten(1)), width=8),
    flattened_case("global pooling: nothing moves", lambda L: L.GlobalAveragePooling2D(),
                   forward=lambda layer, x: layer(x.mean((1, 2))), width=4),
    RuleCase(FLATTENED, "norm in between",
             lambda nn: nn.Sequential(nn.BatchNorm1d(24), nn.Linear(24, 5)), norm_behind_flatten,
             (MAP,), on_flattened, {"norm": "layer.0", "fc": "layer.1"}),
    RuleCase(FLATTENED, "recurrent layer on columns", lambda nn: nn.GRU(12, 5, batch_first=True),
             lstm_on_columns, ((3, 6, 4),),
             lambda layer, x: layer(x.permute(0, 2, 3, 1).flatten(2))[0], {"layer": "layer"}),
    RuleCase(FLATTENED, "pooled and flattened side by side", lambda nn: nn.Linear(28, 5),
             map_and_pooled, (MAP,), on_map_and_pooled, {"layer": "layer"}),
    RuleCase("linear layer as convolution, or the reverse",
             "convolution over its whole input into dense", lambda nn: nn.Conv2d(4, 5, (2, 3)),
             dense_behind(lambda L: L.Flatten()), (MAP,),
             lambda layer, x: layer(x.movedim(-1, 1)).flatten(1), {"layer": "layer"}),
    RuleCase("linear layer as convolution, or the reverse",
             "dense on a flattened map into a convolution over it", lambda nn: nn.Linear(24, 5),
             one_layer(lambda L: L.Conv2D(5, (2, 3), name="layer"), MAP), (MAP,),
             lambda layer, x: on_flattened(layer, x)[:, None, None], {"layer": "layer"}),
    RuleCase("linear layer as convolution, or the reverse", "patch embedding",
             lambda nn: nn.Conv2d(3, 5, 2, stride=2), dense_on_patches, ((4, 6, 3),),
             lambda layer, x: channels_last(layer, x).flatten(1, 2), {"layer": "layer"})
]

# --- a map made of a vector ---

MADE = "dense before a map"


def dense_before_map(keras: Any) -> Any:
    inputs = keras.Input((5,))
    return keras.Model(inputs,
                       keras.layers.Reshape(MAP)(keras.layers.Dense(24, name="layer")(inputs)))


def norm_before_map(keras: Any) -> Any:
    layers, inputs = keras.layers, keras.Input((5,))
    norm, dense = layers.BatchNormalization(epsilon=1e-5, name="norm"), layers.Dense(24, name="fc")
    return keras.Model(inputs, layers.Reshape(MAP)(layers.ReLU()(norm(dense(inputs)))))


def as_map(layer: Any, x: Any) -> Any:
    return layer(x).unflatten(1, (MAP[2], *MAP[:2])).movedim(1, -1)


MADE_MAPS = [
    RuleCase(MADE, "Reshape behind it", lambda nn: nn.Linear(5, 24), dense_before_map, ((5,),),
             as_map, {"layer": "layer"}),
    RuleCase(MADE, "norm and activation in between",
             lambda nn: nn.Sequential(nn.Linear(5, 24), nn.BatchNorm1d(24), nn.ReLU()),
             norm_before_map, ((5,),), as_map, {"fc": "layer.0", "norm": "layer.1"})
]

# --- parametrized ---


def normalized(style: str, norm: str, make: Callable[[Any], Any],
               **options: Any) -> Callable[[Any], Any]:
    """A layer under torch's old or new weight_norm or spectral_norm."""
    def layer(nn: Any) -> Any:
        functions = nn.utils if style == "old" else nn.utils.parametrizations
        return getattr(functions, norm)(make(nn), **options)

    return layer


PARAMETRIZED = [
    layer_case("parametrized weight", f"{style} {norm} of {name}",
               normalized(style, norm, torch_layer), keras_layer, shape, loss=norm.replace(
                   "_", " ")) for style in ("old", "new")
    for norm in ("weight_norm", "spectral_norm") for name, torch_layer, keras_layer, shape in (
        ("a convolution", lambda nn: nn.Conv2d(3, 5, 3), lambda L: L.Conv2D(5, 3),
         (6, 5, 3)), ("a transposed convolution", lambda nn: nn.ConvTranspose2d(4, 4, 2),
                      lambda L: L.Conv2DTranspose(4, 2), (6, 5, 4)),
        ("a linear layer", lambda nn: nn.Linear(4, 6), lambda L: L.Dense(6), (4,)))
] + [
    layer_case("parametrized weight", f"weight_norm over dim {dim}",
               normalized("new", "weight_norm", lambda nn: nn.Linear(4, 6), dim=dim),
               lambda L: L.Dense(6), (4,), loss="weight norm") for dim in (1, None)
]


def doubled_and_symmetric(nn: Any) -> Any:
    """A linear layer whose weight two parametrizations compute."""
    import torch

    class Symmetric(torch.nn.Module):
        def forward(self, weight: Any) -> Any:
            return weight.triu() + weight.triu(1).mT

    class Doubled(torch.nn.Module):
        def forward(self, weight: Any) -> Any:
            return 2 * weight

    layer = nn.Linear(4, 4)
    nn.utils.parametrize.register_parametrization(layer, "weight", Symmetric())
    nn.utils.parametrize.register_parametrization(layer, "weight", Doubled())
    return layer


def standardized_convolution(nn: Any, scaled: bool) -> Any:
    """timm's StdConv2d and ScaledStdConv2d, under their names."""
    import torch

    class StdConv2d(torch.nn.Conv2d):
        eps = 1e-6

        def forward(self, x: Any) -> Any:
            flat = self.weight.flatten(1)
            weight = (flat - flat.mean(
                1, keepdim=True)) / torch.sqrt(flat.var(1, correction=0, keepdim=True) + self.eps)
            return torch.nn.functional.conv2d(x,
                                              weight.view_as(self.weight) * self.factor(),
                                              self.bias)

        def factor(self) -> Any:
            return 1

    class ScaledStdConv2d(StdConv2d):
        scale = 1.7 * 27**-0.5

        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.gain = torch.nn.Parameter(torch.ones(self.out_channels, 1, 1, 1))

        def factor(self) -> Any:
            return self.gain * self.scale

    return (ScaledStdConv2d if scaled else StdConv2d)(3, 5, 3)


PARAMETRIZED += [
    layer_case("parametrized weight", "parametrize in general", doubled_and_symmetric,
               lambda L: L.Dense(4), (4,), loss="callback",
               refused_back="callback cannot be inverted"),
    layer_case("weight-standardized convolution", "without gain",
               lambda nn: standardized_convolution(nn, False), lambda L: L.Conv2D(5, 3), (6, 5, 3),
               loss="weight standardization", constrained=True),
    layer_case("weight-standardized convolution", "with gain",
               lambda nn: standardized_convolution(nn, True), lambda L: L.Conv2D(5, 3), (6, 5, 3),
               loss="weight standardization", constrained=True)
]

# --- parameters of their own ---


def scaled(ops: Any, weight: Any, x: Any) -> Any:
    return x * ops.reshape(weight, (1, 1, 1, 4))


def biased(heads_first: bool) -> Callable[[Any, Any, Any], Any]:
    """Adds the table of 9 offsets and 4 heads to (9, 4)."""
    return lambda ops, weight, x: x + (ops.transpose(weight)
                                       if heads_first else ops.reshape(weight, (9, 4)))


def resized_positions(table: Any, x: Any) -> Any:
    """(1, 1 + 4 * 4, 6) with its grid as 8 by 8, added."""
    import torch

    grid = table[:, 1:].reshape(1, 4, 4, 6).permute(0, 3, 1, 2)
    grid = torch.nn.functional.interpolate(grid, (8, 8), mode="bicubic", antialias=True)
    return x + torch.cat([table[:, :1], grid.flatten(2).mT], 1)


PARAMETERS = [
    *(RuleCase("raw parameter", f"layer scale {shape} into {keras_shape}",
               with_parameter("gamma", *shape), own_layer("lambda", keras_shape, scaled, (3, 2, 4)),
               ((3, 2, 4),), lambda layer, x: x * layer.gamma.flatten(), {"layer": "layer"})
      for shape, keras_shape in (((4,), (1, 1, 4)), ((4, 1, 1), (4,)), ((1, 4, 1, 1),
                                                                        (1, 1, 1, 4)))),
    RuleCase("raw parameter", "class token", with_parameter("cls_token", 1, 1, 6),
             own_layer("token", (1, 6), lambda ops, weight, x: x + weight, (5, 6)), ((5, 6),),
             lambda layer, x: x + layer.cls_token, {"layer": "layer"}),
    RuleCase("raw parameter", "position table", with_parameter("pos_embed", 1, 5, 6),
             own_layer("positions", (5, 6), lambda ops, weight, x: x + weight, (5, 6)), ((5, 6),),
             lambda layer, x: x + layer.pos_embed, {"layer": "layer"}),
    RuleCase("relative position table", "as it stands",
             with_parameter("relative_position_bias_table", 9, 4),
             own_layer("table", (9, 4), biased(False), (9, 4)), ((9, 4),),
             lambda layer, x: x + layer.relative_position_bias_table, {"layer": "layer"}),
    RuleCase("relative position table", "heads first",
             with_parameter("relative_position_bias_table", 9, 4),
             own_layer("table", (4, 9), biased(True), (9, 4)), ((9, 4),),
             lambda layer, x: x + layer.relative_position_bias_table, {"layer": "layer"}),
    RuleCase("relative position table", "rows and columns apart",
             with_parameter("relative_position_bias_table", 9, 4),
             own_layer("table", (3, 3, 4), biased(False), (9, 4)), ((9, 4),),
             lambda layer, x: x + layer.relative_position_bias_table, {"layer": "layer"}),
    RuleCase("relative position table", "heads last", with_parameter("attention_biases", 4, 9),
             own_layer("table", (9, 4), biased(False), (9, 4)), ((9, 4),),
             lambda layer, x: x + layer.attention_biases.mT, {"layer": "layer"}),
    RuleCase("position table at another resolution", "4 by 4 to 8 by 8",
             with_parameter("pos_embed", 1, 17, 6),
             own_layer("positions", (1, 65, 6), lambda ops, weight, x: x + weight, (65, 6)),
             ((65, 6),), lambda layer, x: resized_positions(layer.pos_embed, x), {"layer": "layer"},
             {"resize": "bicubic"}, loss="resized", refused_back="resized from (4, 4) to (8, 8)")
]

CASES = [*FUSED, *BANKS, *FLATTENED_MAPS, *MADE_MAPS, *PARAMETRIZED, *PARAMETERS]
