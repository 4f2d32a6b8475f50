"""Seeded faults: each a generic mutator that puts one mistake of a known kind at one place of any pair of models.

A fault knows where in a pair it can be put, puts it there, and says which kinds of cause and which Keras layers or torch modules name it
exactly. Both models are taken as converted; what a fault changes is not put back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

Seeded = tuple[tuple[str, ...], tuple[str, ...]]


@dataclass
class Pair:
    """A torch module, a Keras model that holds its weights, the Plan that put them there, and the sample."""

    torch_module: Any
    keras_model: Any
    plan: Any
    sample: Any
    calls: dict[str, Any] = field(default_factory=dict)

    @property
    def framework(self) -> Any:
        """keras or tf_keras, whichever the model is of."""
        import importlib

        of_keras2 = any(kind.__module__.startswith("tf_keras") for kind in type(self.keras_model).__mro__)
        return importlib.import_module("tf_keras" if of_keras2 else "keras")

    def leaves(self, *kinds: str) -> list[Any]:
        """Layers with variables, of one of these kinds, as they are read."""
        from keras_torch_convert.read.keras_model import read_target

        return [leaf for leaf in read_target(self.keras_model).leaves() if not kinds or set(kinds) & set(leaf.kinds)]

    def layers(self, *kinds: str) -> list[Any]:
        """All layers of one of these kinds, those inside others too."""
        found: dict[int, Any] = {}
        waiting = list(self.keras_model._flatten_layers())
        for layer in waiting:
            if any(kind.__name__ in kinds for kind in type(layer).__mro__):
                found[id(layer)] = layer
        return list(found.values())

    def modules(self, *kinds: str) -> list[tuple[str, Any]]:
        """torch modules of one of these classes, with their paths."""
        return [(path, module) for path, module in self.torch_module.named_modules() if type(module).__name__ in kinds]

    def replace_module(self, path: str, module: Any) -> None:
        """Put another torch module in the place of one without weights."""
        parent, _, name = path.rpartition(".")
        setattr(self.torch_module.get_submodule(parent), name, module)


@dataclass(frozen=True)
class Fault:
    """`places` lists where it can be put, `put` puts it there and gives (Keras layers, torch modules) that may be named; `kinds` are right causes."""

    name: str
    kinds: tuple[str, ...]
    places: Callable[[Pair], list[Any]]
    put: Callable[[Pair, Any], Seeded]


def number(value: Any) -> Any:
    """One number of an int or a tuple of equal ones."""
    return value[0] if isinstance(value, (tuple, list)) else value


# --- settings of Keras layers


def setting(layer: Any, **values: Any) -> None:
    """Change attributes of a layer past Keras's own bookkeeping."""
    for name, value in values.items():
        layer.__dict__[name] = value


def keras_epsilon(*kinds: str) -> Fault:
    def put(pair: Pair, leaf: Any) -> Seeded:
        setting(leaf.layer, epsilon=leaf.layer.epsilon * 20 + 2e-2)
        return (leaf.label,), ()

    return Fault(f"epsilon of Keras {kinds[0]}", ("epsilon",), lambda pair: pair.leaves(*kinds), put)


def torch_epsilon(name: str, *kinds: str) -> Fault:
    def put(pair: Pair, place: Any) -> Seeded:
        place[1].eps = place[1].eps * 20 + 2e-2
        return (), (place[0],)

    return Fault(f"epsilon of torch {name}", ("epsilon",), lambda pair: pair.modules(*kinds), put)


def activation_name(layer: Any) -> str:
    function = getattr(layer, "activation", None)
    return str(getattr(function, "__name__", "")) if callable(function) else ""


def keras_activation(old: str, new: str, kinds: tuple[str, ...] = ("activation",)) -> Fault:
    """Another function in a Keras layer that has an activation."""

    def function(pair: Pair) -> Callable[[Any], Any]:
        activations = pair.framework.activations
        special = {
            "gelu tanh": lambda x: activations.gelu(x, approximate=True),
            "leaky relu": lambda x: (
                activations.relu(x, negative_slope=0.1)
                if hasattr(activations, "relu6")
                else activations.relu(x, alpha=0.1)
            ),
        }
        return special.get(new) or getattr(activations, new)

    def places(pair: Pair) -> list[Any]:
        return [layer for layer in pair.layers("Layer") if activation_name(layer) == old]

    def put(pair: Pair, layer: Any) -> Seeded:
        setting(layer, activation=function(pair))
        return (layer.name,), ()

    return Fault(f"Keras {old} is {new}", kinds, places, put)


def torch_activation(old: str, new: str, *arguments: Any, **settings: Any) -> Fault:
    """Another module in the place of a torch activation."""

    def put(pair: Pair, place: Any) -> Seeded:
        from torch import nn

        pair.replace_module(place[0], getattr(nn, new)(*arguments, **settings))
        return (), (place[0],)

    said = ", ".join([*map(str, arguments), *map(str, settings.values())])
    return Fault(f"torch {old} is {new}({said})", ("activation",), lambda pair: pair.modules(old), put)


def extra_activation() -> Fault:
    def places(pair: Pair) -> list[Any]:
        return [leaf for leaf in pair.leaves("Conv2D", "Dense") if activation_name(leaf.layer) == "linear"]

    def put(pair: Pair, leaf: Any) -> Seeded:
        setting(leaf.layer, activation=pair.framework.activations.relu)
        return (leaf.label,), ()

    return Fault("activation that only Keras has", ("extra activation", "activation"), places, put)


def convolutions(pair: Pair) -> list[Any]:
    return [leaf for leaf in pair.leaves("Conv2D", "DepthwiseConv2D") if number(leaf.layer.kernel_size) > 1]


def keras_dilation() -> Fault:
    def places(pair: Pair) -> list[Any]:
        return [leaf for leaf in convolutions(pair) if leaf.layer.padding == "same" and number(leaf.layer.strides) == 1]

    def put(pair: Pair, leaf: Any) -> Seeded:
        setting(leaf.layer, dilation_rate=(2, 2))
        return (leaf.label,), ()

    return Fault("dilation of a Keras convolution", ("dilation",), places, put)


def users_of(layer: Any) -> list[Any]:
    """Layers that take a layer's output in a functional model."""
    nodes = getattr(layer, "_outbound_nodes", None) or getattr(layer, "outbound_nodes", [])
    return [getattr(node, "operation", None) or getattr(node, "layer", None) for node in nodes]


def zero_paddings(pair: Pair, *, pooling: bool) -> list[Any]:
    """Padding layers of equal width on all sides, those before pooling or those before convolutions."""
    found = []
    for one, other in ((pad, user) for pad in pair.layers("ZeroPadding2D") for user in users_of(pad)):
        pads = getattr(one, "padding", None)
        square = isinstance(pads, tuple) and len({edge for pair_ in pads for edge in pair_}) == 1 and pads[0][0] > 0
        if type(one).__name__ == "ZeroPadding2D" and square and ("Pooling" in type(other).__name__) == pooling:
            found.append((one, other))
    return found


def shifted_padding(*, pooling: bool) -> Fault:
    """Padding as SAME puts it: more at the end than at the beginning."""

    def put(pair: Pair, place: Any) -> Seeded:
        layer, user = place
        width = layer.padding[0][0]
        setting(layer, padding=((width - 1, width + 1), (width - 1, width + 1)))
        return (user.name, layer.name), ()

    kinds = ("pooling padding",) if pooling else ("padding",)
    return Fault(
        f"asymmetric padding of a Keras {'pooling' if pooling else 'convolution'}",
        kinds,
        lambda pair: zero_paddings(pair, pooling=pooling),
        put,
    )


def keras_setting(name: str, kinds: tuple[str, ...], layers: tuple[str, ...], **values: Any) -> Fault:
    """Other settings of Keras layers of one of these classes."""

    def put(pair: Pair, layer: Any) -> Seeded:
        setting(layer, **values)
        return (layer.name,), ()

    return Fault(name, kinds, lambda pair: pair.layers(*layers), put)


def torch_setting(name: str, kinds: tuple[str, ...], classes: tuple[str, ...], **values: Any) -> Fault:
    """Other settings of torch modules of one of these classes."""

    def put(pair: Pair, place: Any) -> Seeded:
        for key, value in values.items():
            setattr(place[1], key, value)
        return (), (place[0],)

    return Fault(name, kinds, lambda pair: pair.modules(*classes), put)


# --- weights of Keras layers


def variable_of(leaf: Any, *names: str) -> Any:
    return next((variable for variable in leaf.variables if variable.name in names), None)


def values_of(variable: Any) -> np.ndarray:
    value = variable.variable
    value = value.value.detach().cpu().numpy() if hasattr(value.value, "detach") else value.numpy()
    return np.array(value)


def changed_weights(
    name: str,
    kinds: tuple[str, ...],
    wanted: Callable[[Any, Any], bool],
    change: Callable[[np.ndarray], np.ndarray],
    variables: tuple[str, ...] = ("kernel", "depthwise_kernel"),
    layers: tuple[str, ...] = (),
) -> Fault:
    """A variable of a Keras layer with its values changed."""

    def places(pair: Pair) -> list[Any]:
        found = ((leaf, variable_of(leaf, *variables)) for leaf in pair.leaves(*layers))
        return [(leaf, one) for leaf, one in found if one is not None and wanted(leaf, one)]

    def put(pair: Pair, place: Any) -> Seeded:
        leaf, variable = place
        before = values_of(variable)
        after = change(before)
        assert after.shape == before.shape
        variable.variable.assign(np.array(after, order="C"))
        return (leaf.label,), ()

    return Fault(name, kinds, places, put)


def exchanged(name: str, first: tuple[str, ...], second: tuple[str, ...]) -> Fault:
    """Two variables of one layer hold each other's values."""

    def places(pair: Pair) -> list[Any]:
        found = ((leaf, variable_of(leaf, *first), variable_of(leaf, *second)) for leaf in pair.leaves())
        return [place for place in found if place[1] is not None and place[2] is not None]

    def put(pair: Pair, place: Any) -> Seeded:
        leaf, one, other = place
        values = values_of(one), values_of(other)
        one.variable.assign(np.abs(values[1]) if "variance" in one.name else values[1])
        other.variable.assign(np.abs(values[0]) + 0.05 if "variance" in other.name else values[0])
        return (leaf.label,), ()

    return Fault(name, ("swapped weights", "weights"), places, put)


def swapped_layers(name: str, *kinds: str) -> Fault:
    """Two layers of one kind and shape hold each other's weights."""

    def places(pair: Pair) -> list[Any]:
        groups: dict[Any, list[Any]] = {}
        for leaf in pair.leaves(*kinds):
            groups.setdefault((leaf.kind, tuple(variable.shape for variable in leaf.variables)), []).append(leaf)
        return [pair_ for leaves in groups.values() for pair_ in pairwise(leaves)]

    def put(pair: Pair, place: Any) -> Seeded:
        for one, other in zip(place[0].variables, place[1].variables, strict=True):
            values = values_of(one), values_of(other)
            one.variable.assign(values[1])
            other.variable.assign(values[0])
        return (place[0].label, place[1].label), ()

    return Fault(name, ("swapped weights",), places, put)


def rolled_blocks(array: np.ndarray, blocks: int) -> np.ndarray:
    width = array.shape[-1] // blocks
    return np.roll(array, width, axis=-1)


def unflattened(array: np.ndarray, channels: int) -> np.ndarray:
    """Rows of a Dense kernel behind a flattened map, in the order channels first."""
    rows = array.shape[0] // channels
    return array.reshape(rows, channels, -1).transpose(1, 0, 2).reshape(array.shape)


def flatten_order() -> Fault:
    def places(pair: Pair) -> list[Any]:
        layers = list(pair.keras_model._flatten_layers())
        found = []
        for one, other in pairwise(layers):
            if type(one).__name__ == "Flatten" and type(other).__name__ == "Dense":
                shape = one.input.shape if hasattr(one.input, "shape") else ()
                if len(shape) == 4 and shape[1] > 1:
                    leaf = next(leaf for leaf in pair.leaves() if leaf.layer is other)
                    found.append((leaf, int(shape[-1])))
        return found

    def put(pair: Pair, place: Any) -> Seeded:
        leaf, channels = place
        variable = variable_of(leaf, "kernel")
        variable.variable.assign(np.ascontiguousarray(unflattened(values_of(variable), channels)))
        return (leaf.label, "flatten"), ()

    return Fault("missing permutation behind Flatten", ("flatten order",), places, put)


# --- classes of Keras layers


def turned_into(layer: Any, call: Callable[..., Any]) -> None:
    """The layer computes something else from now on."""
    layer.__class__ = type(type(layer).__name__, (type(layer),), {"call": call})


def keras_dropout() -> Fault:
    def put(pair: Pair, layer: Any) -> Seeded:
        def call(self: Any, inputs: Any, training: Any = None) -> Any:
            shape = tuple(inputs.shape)
            mask = np.random.default_rng(0).random(shape) > 0.3
            return inputs * (mask / 0.7).astype("float32")

        turned_into(layer, call)
        return (layer.name,), ()

    return Fault("dropout left on in Keras", ("dropout",), lambda pair: pair.layers("Dropout"), put)


def keras_merge(name: str, compute: Callable[[list[Any]], Any]) -> Fault:
    def put(pair: Pair, layer: Any) -> Seeded:
        turned_into(layer, lambda self, inputs: compute(inputs))
        return (layer.name,), ()

    return Fault(name, ("merge", "branch scale", "missing operation"), lambda pair: pair.layers("Add"), put)


def concat_order() -> Fault:
    def put(pair: Pair, layer: Any) -> Seeded:
        own = type(layer).call
        turned_into(layer, lambda self, inputs: own(self, list(inputs)[::-1]))
        return (layer.name,), ()

    return Fault("branches joined in another order", ("concat order",), lambda pair: pair.layers("Concatenate"), put)


def keras_batch_statistics() -> Fault:
    def put(pair: Pair, leaf: Any) -> Seeded:
        own = type(leaf.layer).call

        def call(self: Any, inputs: Any, training: Any = None, mask: Any = None) -> Any:
            axes = tuple(range(len(inputs.shape) - 1))
            ops = getattr(pair.framework, "ops", None)
            if ops is None:
                import tensorflow as tf

                mean, variance = tf.nn.moments(inputs, axes)
            else:
                mean, variance = ops.mean(inputs, axes), ops.var(inputs, axes)
            normal = (inputs - mean) / (variance + self.epsilon) ** 0.5
            normal = normal if self.gamma is None else normal * self.gamma
            return normal if self.beta is None else normal + self.beta

        assert own is not None
        turned_into(leaf.layer, call)
        return (leaf.label,), ()

    return Fault(
        "batch statistics in Keras", ("batch statistics",), lambda pair: pair.leaves("BatchNormalization"), put
    )


# --- torch modules


def hooked(name: str, kinds: tuple[str, ...], classes: tuple[str, ...], change: Callable[[Any], Any]) -> Fault:
    """torch computes something more behind a layer."""

    def put(pair: Pair, place: Any) -> Seeded:
        place[1].register_forward_hook(lambda module, args, output: change(output))
        return (), (place[0], place[0].rpartition(".")[0])

    return Fault(name, kinds, lambda pair: pair.modules(*classes), put)


CONVOLUTIONS = ("Conv2d", "Conv2dSame")
LAYERS = (*CONVOLUTIONS, "Linear")
NORMS = ("BatchNorm2d", "BatchNormAct2d", "LayerNorm", "LayerNorm2d")


def torch_padding_mode(mode: str) -> Fault:
    def places(pair: Pair) -> list[Any]:
        return [
            (path, module)
            for path, module in pair.modules("Conv2d")
            if not isinstance(module.padding, str) and number(module.padding) > 0
        ]

    def put(pair: Pair, place: Any) -> Seeded:
        place[1].padding_mode = mode
        return (), (place[0],)

    return Fault(f"padding mode {mode} in torch", ("padding mode",), places, put)


def torch_padding() -> Fault:
    def places(pair: Pair) -> list[Any]:
        return [
            (path, module)
            for path, module in pair.modules("Conv2d")
            if not isinstance(module.padding, str) and number(module.padding) > 0 and number(module.stride) > 1
        ]

    def put(pair: Pair, place: Any) -> Seeded:
        import torch

        module, width = place[1], number(place[1].padding)
        module.padding = (0, 0)
        edges = (width - 1, width + 1, width - 1, width + 1)
        module.register_forward_pre_hook(lambda module, args: (torch.nn.functional.pad(args[0], edges),))
        return (), (place[0],)

    return Fault("SAME padding in torch", ("padding",), places, put)


def torch_dilation() -> Fault:
    def places(pair: Pair) -> list[Any]:
        return [
            (path, module)
            for path, module in pair.modules("Conv2d")
            if number(module.kernel_size) > 1
            and not isinstance(module.padding, str)
            and 2 * number(module.padding) == number(module.kernel_size) - 1
        ]

    def put(pair: Pair, place: Any) -> Seeded:
        module = place[1]
        module.dilation, module.padding = (2, 2), tuple(2 * pad for pad in module.padding)
        return (), (place[0],)

    return Fault("dilation of a torch convolution", ("dilation",), places, put)


def torch_pooling(name: str, kinds: tuple[str, ...], classes: tuple[str, ...], make: Callable[[Any], Any]) -> Fault:
    def put(pair: Pair, place: Any) -> Seeded:
        pair.replace_module(place[0], make(place[1]))
        return (), (place[0],)

    return Fault(name, kinds, lambda pair: pair.modules(*classes), put)


def average_of(module: Any) -> Any:
    from torch import nn

    return nn.AvgPool2d(module.kernel_size, module.stride, module.padding)


def uncounted(module: Any) -> Any:
    from torch import nn

    counted = not module.count_include_pad
    return nn.AvgPool2d(module.kernel_size, module.stride, module.padding, count_include_pad=counted)


def rounded_up(module: Any) -> Any:
    import copy

    other = copy.copy(module)
    other.ceil_mode = not module.ceil_mode
    return other


def torch_dropout() -> Fault:
    def put(pair: Pair, place: Any) -> Seeded:
        from torch import nn

        class LeftOn(nn.Module):
            def forward(self, x: Any) -> Any:
                return nn.functional.dropout(x, 0.3, training=True)

        pair.replace_module(place[0], LeftOn())
        return (), (place[0],)

    return Fault("dropout left on in torch", ("dropout",), lambda pair: pair.modules("Dropout", "Dropout2d"), put)


def torch_batch_statistics() -> Fault:
    def put(pair: Pair, place: Any) -> Seeded:
        place[1].track_running_stats = False
        module = place[1]
        own = type(module).forward

        def forward(self: Any, x: Any) -> Any:
            mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), unbiased=False, keepdim=True)
            kept = self.running_mean.clone(), self.running_var.clone()
            shape = (1, -1, 1, 1)
            x = (x - mean) / (variance + self.eps).sqrt()
            x = x * (kept[1] + self.eps).sqrt().reshape(shape) + kept[0].reshape(shape)
            return own(self, x)

        module.track_running_stats = True
        module.__class__ = type(type(module).__name__, (type(module),), {"forward": forward})
        return (), (place[0],)

    return Fault(
        "batch statistics in torch",
        ("batch statistics",),
        lambda pair: pair.modules("BatchNorm2d", "BatchNormAct2d"),
        put,
    )


def norm_behind_activation() -> Fault:
    """timm's norm with an activation computes the activation first."""

    def places(pair: Pair) -> list[Any]:
        return [
            (path, module)
            for path, module in pair.modules("BatchNormAct2d")
            if type(module.act).__name__ not in ("Identity", "Sequential")
        ]

    def put(pair: Pair, place: Any) -> Seeded:
        module = place[1]
        own, act = type(module).forward, module.act

        def forward(self: Any, x: Any) -> Any:
            import torch

            x = act(x)
            self.act = torch.nn.Identity()
            try:
                return own(self, x)
            finally:
                self.act = act

        module.__class__ = type(type(module).__name__, (type(module),), {"forward": forward})
        return (), (place[0],)

    return Fault("norm behind the activation in torch", ("order of norm and activation",), places, put)


def attention_scale() -> Fault:
    def places(pair: Pair) -> list[Any]:
        return [
            (path, module)
            for path, module in pair.torch_module.named_modules()
            if isinstance(getattr(module, "scale", None), float) and hasattr(module, "qkv")
        ]

    def put(pair: Pair, place: Any) -> Seeded:
        place[1].fused_attn = False
        place[1].scale = place[1].scale * 1.5
        return (), (place[0],)

    return Fault("scale of torch's attention", ("attention scale",), places, put)


def keras_attention_scale() -> Fault:
    def attribute(layer: Any) -> str:
        names = [name for name in ("_inverse_sqrt_key_dim", "scale") if isinstance(getattr(layer, name, None), float)]
        attends = any(word in type(layer).__name__.lower() for word in ("attention", "msa"))
        return names[0] if names and attends else ""

    def put(pair: Pair, layer: Any) -> Seeded:
        name = attribute(layer)
        setting(layer, **{name: getattr(layer, name) * 2})
        return (layer.name,), ()

    def places(pair: Pair) -> list[Any]:
        return [layer for layer in pair.layers("Layer") if attribute(layer)]

    return Fault("scale of Keras's attention", ("attention scale",), places, put)


def dropped_branch() -> Fault:
    """A branch that torch adds counts only in part."""

    def put(pair: Pair, place: Any) -> Seeded:
        from torch import nn

        class Scaled(nn.Module):
            def forward(self, x: Any) -> Any:
                return 0.7 * x

        pair.replace_module(place[0], Scaled())
        return (), (place[0], place[0].rpartition(".")[0])

    def places(pair: Pair) -> list[Any]:
        return [one for one in pair.modules("Identity") if "drop_path" in one[0]]

    return Fault("scale of a branch in torch", ("branch scale", "scale"), places, put)


# --- inputs and ends


def other_preprocessing() -> Fault:
    def put(pair: Pair, place: Any) -> Seeded:
        torch_input, keras_input = pair.sample
        pair.sample = (torch_input * np.float32(0.5) + np.float32(0.25), keras_input)
        return ("",), ("",)

    return Fault("inputs prepared in another way", ("preprocessing",), pictures, put)


def other_channel_order() -> Fault:
    def put(pair: Pair, place: Any) -> Seeded:
        torch_input, keras_input = pair.sample
        pair.sample = (np.ascontiguousarray(torch_input[:, ::-1]), keras_input)
        return ("", *(leaf.label for leaf in pair.leaves("Conv2D")[:1])), ("",)

    return Fault(
        "channels of the picture in the other order",
        ("preprocessing", "channel order", "order of values"),
        pictures,
        put,
    )


def pictures(pair: Pair) -> list[Any]:
    both = pair.sample
    right = isinstance(both, tuple) and all(isinstance(one, np.ndarray) and one.ndim == 4 for one in both)
    return [None] if right else []


def softmax_in_keras() -> Fault:
    def places(pair: Pair) -> list[Any]:
        last = [layer for layer in pair.keras_model._flatten_layers() if type(layer).__name__ == "Dense"]
        return last[-1:] if last and activation_name(last[-1]) == "linear" else []

    def put(pair: Pair, layer: Any) -> Seeded:
        setting(layer, activation=pair.framework.activations.softmax)
        return (layer.name,), ()

    # The last Dense of a model without a head is one inside.
    return Fault("softmax at the end of Keras", ("softmax at the end", "extra activation"), places, put)


def softmax_in_torch() -> Fault:
    def put(pair: Pair, place: Any) -> Seeded:
        pair.torch_module.register_forward_hook(lambda module, args, output: output.softmax(-1))
        return (pair.keras_model.layers[-1].name,), ("",)

    return Fault("softmax at the end of torch", ("softmax at the end",), lambda pair: [None], put)


def square(leaf: Any, variable: Any) -> bool:
    shape = variable.shape
    return (len(shape) == 2 and shape[0] == shape[1]) or (len(shape) == 4 and shape[0] == shape[1] > 1)


def every_fault() -> Iterator[Fault]:
    """All kinds."""
    yield keras_epsilon("BatchNormalization")
    yield keras_epsilon("LayerNormalization")
    yield keras_epsilon("GroupNormalization")
    yield torch_epsilon("batch norm", "BatchNorm2d", "BatchNormAct2d", "FrozenBatchNorm2d")
    yield torch_epsilon("layer norm", "LayerNorm", "LayerNorm2d")
    for old, new in (
        ("relu", "relu6"),
        ("relu", "leaky relu"),
        ("relu6", "relu"),
        ("silu", "hard_silu"),
        ("hard_silu", "silu"),
        ("gelu", "gelu tanh"),
        ("gelu", "silu"),
        ("sigmoid", "hard_sigmoid"),
        ("hard_sigmoid", "sigmoid"),
    ):
        yield keras_activation(old, new)
    for old in ("relu", "relu6", "silu", "gelu", "hard_silu"):
        yield keras_activation(old, "linear", ("missing activation",))
    yield torch_activation("ReLU", "ReLU6")
    yield torch_activation("ReLU", "LeakyReLU", 0.2)
    yield torch_activation("GELU", "GELU", approximate="tanh")
    yield torch_activation("SiLU", "Hardswish")
    yield torch_activation("Hardswish", "SiLU")
    yield torch_activation("Hardsigmoid", "Sigmoid")
    yield torch_activation("Sigmoid", "Hardsigmoid")
    yield extra_activation()
    yield keras_dilation()
    yield shifted_padding(pooling=False)
    yield shifted_padding(pooling=True)
    yield changed_weights(
        "square kernel transposed",
        ("transposed weights",),
        square,
        lambda a: a.T if a.ndim == 2 else a.transpose(1, 0, 2, 3),
    )
    yield changed_weights(
        "kernel mirrored",
        ("flipped weights",),
        lambda leaf, one: len(one.shape) == 4 and one.shape[0] > 1,
        lambda a: a[::-1, ::-1],
    )
    yield changed_weights("wrong scale of a kernel", ("scaled weights",), lambda leaf, one: True, lambda a: 1.2 * a)
    yield changed_weights(
        "kernel never loaded", ("weights not loaded", "weights"), lambda leaf, one: True, lambda a: 0 * a
    )
    yield changed_weights(
        "bias never loaded", ("weights not loaded",), lambda leaf, one: True, lambda a: 0 * a, ("bias",)
    )
    yield changed_weights(
        "gain never loaded", ("weights not loaded",), lambda leaf, one: True, lambda a: 0 * a + 1, ("gamma", "scale")
    )
    yield changed_weights(
        "output channels in another order",
        ("weights order", "block order"),
        lambda leaf, one: one.shape[-1] > 8 and len(one.shape) > 1,
        lambda a: a[..., np.random.default_rng(0).permutation(a.shape[-1])],
    )
    yield changed_weights(
        "query and key exchanged",
        ("block order", "swapped weights"),
        lambda leaf, one: "qkv" in leaf.label and one.shape[-1] % 3 == 0,
        lambda a: np.concatenate([*np.split(a, 3, -1)[1::-1], np.split(a, 3, -1)[2]], -1),
    )
    yield changed_weights(
        "heads in another order",
        ("block order",),
        lambda leaf, one: leaf.label.endswith(("qkv", "proj")) and one.shape[0] % 4 == 0 and len(one.shape) == 2,
        lambda a: np.roll(a, a.shape[0] // 4, axis=0),
    )
    yield changed_weights(
        "colours of the first kernel in the other order",
        ("flipped weights",),
        lambda leaf, one: len(one.shape) == 4 and one.shape[2] == 3,
        lambda a: a[:, :, ::-1],
    )
    yield exchanged("mean and variance exchanged", ("moving_mean",), ("moving_variance",))
    yield exchanged("gain and offset exchanged", ("gamma",), ("beta",))
    yield swapped_layers("two norms swapped", "BatchNormalization", "LayerNormalization")
    yield swapped_layers("two layers swapped", "Conv2D", "DepthwiseConv2D", "Dense")
    yield flatten_order()
    yield keras_dropout()
    yield torch_dropout()
    yield keras_merge("residual missing in Keras", lambda inputs: inputs[0])
    yield keras_merge("mean in the place of a sum", lambda inputs: (inputs[0] + inputs[1]) / 2)
    yield concat_order()
    yield keras_batch_statistics()
    yield torch_batch_statistics()
    # A factor of the query or key is one of the scores of attention.
    scale = ("scale", "branch scale", "attention scale")
    yield hooked("output of a layer scaled in torch", scale, LAYERS, partial(_times, 1.3))
    yield hooked("activation that only torch has", ("missing activation", "activation"), NORMS, _relu)
    yield torch_padding_mode("reflect")
    yield torch_padding_mode("circular")
    yield torch_padding()
    yield torch_dilation()
    yield torch_pooling("average in the place of the largest", ("pooling kind",), ("MaxPool2d",), average_of)
    yield torch_pooling("count_include_pad", ("count_include_pad",), ("AvgPool2d",), uncounted)
    yield torch_pooling("ceil mode of pooling", ("ceil mode",), ("MaxPool2d", "AvgPool2d"), rounded_up)
    yield keras_setting("groups of a Keras norm", ("groups",), ("GroupNormalization",), groups=2)
    yield keras_setting("interpolation in Keras", ("interpolation",), ("UpSampling2D",), interpolation="nearest")
    yield keras_setting("axis of a softmax in Keras", ("softmax axis",), ("Softmax",), axis=1)
    yield keras_setting(
        "slope of a leaky relu in Keras", ("activation",), ("LeakyReLU",), negative_slope=0.01, alpha=0.01
    )
    yield torch_setting("corners aligned in torch", ("align_corners",), ("Upsample",), align_corners=True)
    yield torch_setting("interpolation in torch", ("interpolation",), ("Upsample",), mode="bicubic")
    yield torch_setting("axis of a softmax in torch", ("softmax axis",), ("Softmax",), dim=2)
    yield torch_activation("Tanh", "Softsign")
    yield torch_activation("ELU", "SELU")
    yield norm_behind_activation()
    yield attention_scale()
    yield keras_attention_scale()
    yield dropped_branch()
    yield other_preprocessing()
    yield other_channel_order()
    yield softmax_in_keras()
    yield softmax_in_torch()


def _times(factor: float, output: Any) -> Any:
    return factor * output


def _relu(output: Any) -> Any:
    return output.relu()


def verdict(divergence: Any, fault: Fault, seeded: Seeded) -> str:
    """ "exact", "unknown" (no cause named), or "wrong", for what a diagnosis says about a seeded fault."""
    labels, paths = seeded
    if divergence is None or not divergence.kind:
        return "unknown"
    # A label may be that of a layer inside others, or of one that has layers inside.
    named = f"/{divergence.keras_layer}/"
    here = any(f"/{label}/" in named for label in labels if label) or (named == "//" and "" in labels)
    there = any(divergence.torch_module == path for path in paths)
    return "exact" if divergence.kind in fault.kinds and (here or there) else "wrong"
