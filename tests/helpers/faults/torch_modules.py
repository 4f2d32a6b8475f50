"""Faults in the torch module: settings, hooks, modules replaced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .fault import Fault, Pair, Seeded, number


def torch_epsilon(name: str, *kinds: str) -> Fault:
    def put(pair: Pair, place: Any) -> Seeded:
        place[1].eps = place[1].eps * 20 + 2e-2
        return (), (place[0],)

    return Fault(f"epsilon of torch {name}", ("epsilon",), lambda pair: pair.modules(*kinds), put)


def torch_activation(old: str, new: str, *arguments: Any, **settings: Any) -> Fault:
    """Another module in the place of a torch activation."""
    def put(pair: Pair, place: Any) -> Seeded:
        from torch import nn

        pair.replace_module(place[0], getattr(nn, new)(*arguments, **settings))
        return (), (place[0],)

    said = ", ".join([*map(str, arguments), *map(str, settings.values())])
    return Fault(f"torch {old} is {new}({said})", ("activation",), lambda pair: pair.modules(old),
                 put)


def torch_setting(name: str, kinds: tuple[str, ...], classes: tuple[str, ...],
                  **values: Any) -> Fault:
    """Other settings of torch modules of one of these classes."""
    def put(pair: Pair, place: Any) -> Seeded:
        for key, value in values.items():
            setattr(place[1], key, value)
        return (), (place[0],)

    return Fault(name, kinds, lambda pair: pair.modules(*classes), put)


def hooked(name: str, kinds: tuple[str, ...], classes: tuple[str, ...],
           change: Callable[[Any], Any]) -> Fault:
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
        return [(path, module) for path, module in pair.modules("Conv2d")
                if not isinstance(module.padding, str) and number(module.padding) > 0]

    def put(pair: Pair, place: Any) -> Seeded:
        place[1].padding_mode = mode
        return (), (place[0],)

    return Fault(f"padding mode {mode} in torch", ("padding mode",), places, put)


def torch_padding() -> Fault:
    def places(pair: Pair) -> list[Any]:
        return [(path, module)
                for path, module in pair.modules("Conv2d") if not isinstance(module.padding, str)
                and number(module.padding) > 0 and number(module.stride) > 1]

    def put(pair: Pair, place: Any) -> Seeded:
        import torch

        module, width = place[1], number(place[1].padding)
        module.padding = (0, 0)
        edges = (width - 1, width + 1, width - 1, width + 1)
        module.register_forward_pre_hook(lambda module, args:
                                         (torch.nn.functional.pad(args[0], edges),))
        return (), (place[0],)

    return Fault("SAME padding in torch", ("padding",), places, put)


def torch_dilation() -> Fault:
    def places(pair: Pair) -> list[Any]:
        return [(path, module) for path, module in pair.modules("Conv2d")
                if number(module.kernel_size) > 1 and not isinstance(module.padding, str) and 2
                * number(module.padding) == number(module.kernel_size) - 1]

    def put(pair: Pair, place: Any) -> Seeded:
        module = place[1]
        module.dilation, module.padding = (2, 2), tuple(2 * pad for pad in module.padding)
        return (), (place[0],)

    return Fault("dilation of a torch convolution", ("dilation",), places, put)


def torch_pooling(name: str, kinds: tuple[str, ...], classes: tuple[str, ...],
                  make: Callable[[Any], Any]) -> Fault:
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
    return nn.AvgPool2d(module.kernel_size, module.stride, module.padding,
                        count_include_pad=counted)


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

    return Fault("dropout left on in torch", ("dropout",),
                 lambda pair: pair.modules("Dropout", "Dropout2d"), put)


def torch_batch_statistics() -> Fault:
    def put(pair: Pair, place: Any) -> Seeded:
        place[1].track_running_stats = False
        module = place[1]
        own = type(module).forward

        def forward(self: Any, x: Any) -> Any:
            mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), unbiased=False,
                                                                    keepdim=True)
            kept = self.running_mean.clone(), self.running_var.clone()
            shape = (1, -1, 1, 1)
            x = (x - mean) / (variance + self.eps).sqrt()
            x = x * (kept[1] + self.eps).sqrt().reshape(shape) + kept[0].reshape(shape)
            return own(self, x)

        module.track_running_stats = True
        module.__class__ = type(type(module).__name__, (type(module),), {"forward": forward})
        return (), (place[0],)

    return Fault("batch statistics in torch", ("batch statistics",),
                 lambda pair: pair.modules("BatchNorm2d", "BatchNormAct2d"), put)


def norm_behind_activation() -> Fault:
    """timm's norm with an activation computes the activation first."""
    def places(pair: Pair) -> list[Any]:
        return [(path, module) for path, module in pair.modules("BatchNormAct2d")
                if type(module.act).__name__ not in ("Identity", "Sequential")]

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

    return Fault("norm behind the activation in torch", ("order of steps",), places, put)


def attention_scale() -> Fault:
    def places(pair: Pair) -> list[Any]:
        return [(path, module) for path, module in pair.torch_module.named_modules()
                if isinstance(getattr(module, "scale", None), float) and hasattr(module, "qkv")]

    def put(pair: Pair, place: Any) -> Seeded:
        place[1].fused_attn = False
        place[1].scale = place[1].scale * 1.5
        return (), (place[0],)

    return Fault("scale of torch's attention", ("attention scale",), places, put)


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
