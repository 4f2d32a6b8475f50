"""Which layers of a Keras graph take a flattened feature map, or give a vector that becomes one,
and in which order its axes are counted.

PyTorch keeps a map as (channel, height, width) and Keras as (height, width, channel), so that
flattening numbers the same values differently: the rows of the next kernel must be reordered. What
lies between the map and the layer (Flatten, Reshape, Permute, Dropout, activations, norms, pooling,
nested models) is followed tensor by tensor; each axis is described by the axes of the map that it
is made of.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from math import prod
from typing import Any, NamedTuple

from .keras_private import attributes_of, calls_of, inputs_of, origin_of


class Atom(NamedTuple):
    """A piece of one axis of a map: `size` positions, `step` apart, of an axis of `whole`
    positions.
    """

    axis: str
    size: int
    step: int
    whole: int


# A run of atoms, the first varying slowest; an axis is one run, or several one after the other; a
# tensor all its axes but the batch's.
Run = tuple[Atom, ...]
Axis = tuple[Run, ...]
Axes = tuple[Axis, ...]

_SPATIAL = {1: ("width",), 2: ("height", "width"), 3: ("depth", "height", "width")}
_TORCH_ORDER = ("time", "channel", "depth", "height", "width")
_MAPS = ("conv", "depthwiseconv", "separableconv", "maxpool", "averagepool", "upsampling",
         "zeropadding", "cropping")
# Layers with weights that keep the order of what they get.
_IN_PLACE = ("batchnormalization", "groupnormalization", "prelu", "normalization", "dropout")
# On tokens (batch, time, features) these work on the last axis, which PyTorch keeps last as well.
_ON_LAST_AXIS = ("layernormalization", "rmsnormalization", "dense", "einsumdense", "rnn",
                 "multiheadattention", "embedding")

# Attention multiplies tokens by tokens: what comes out has heads among its axes, and is no map
# whatever its rank.
_PRODUCTS = frozenset({"matmul", "einsum", "dot", "tensordot"})


def flattened_settings(model: Any) -> dict[int, dict[str, Any]]:
    """By id of the layer "input_shape" (without the batch axis, None for an open extent), and where
    PyTorch would have another order, what the input's last axis is made of.

    "flattened" has one entry for each concatenated part of the axis: ((axis, extent), ...) in
    Keras's order, (("height", 7), ("width", 7), ("channel", 64)); () with its extent for a part
    that is no map. "patches" is such an entry for patches cut out of a map, "gives_map" one for a
    vector of outputs that is reshaped into a map of two spatial axes or more. "hidden_by" is the
    name of a layer whose code the graph does not show, and which may flatten a map before this one.
    Layers outside a graph (of subclassed models) have none of these, layers called twice only what
    is the same in all calls.
    """
    calls: dict[int, list[dict[str, Any]]] = {}
    walk = _Walk()
    for layer, tensor in walk.inputs(model):
        settings = {"input_shape": tuple(tensor.shape)[1:], **_settings(walk.axes(tensor))}
        if opaque := walk.hidden_by(tensor):
            settings["hidden_by"] = opaque
        for each in _with_inner(layer):
            calls.setdefault(id(each), []).append(settings)
    found = {
        key: {
            name: value for name, value in settings[0].items() if all(
                one.get(name) == value for one in settings)
        } for key, settings in calls.items()
    }
    for layer, made in _makers_of_maps(model):
        found.setdefault(id(layer), {})["gives_map"] = made
    return found


def _makers_of_maps(model: Any) -> Iterator[tuple[Any, tuple[tuple[str, int], ...]]]:
    """Dense layers whose outputs are reshaped into a map, and the norms in between, each with the
    axes of the map as Keras counts them.
    """
    for layer in getattr(model, "layers", ()):
        if _is_functional(layer):
            yield from _makers_of_maps(layer)
        for node in calls_of(layer) if "reshape" in _class_names_of(layer) else ():
            tensors, outputs = inputs_of(node), node.outputs
            after = _shape(outputs[0] if isinstance(outputs, (list, tuple)) else outputs)
            if not tensors or after is None or len(after) < 3 or len(_shape(tensors[0]) or ()) != 1:
                continue
            made = tuple(atom for axis in _default(after) or () for run in axis
                         for atom in run if atom.size != 1)
            if not _in_torch_order(made):
                axes = tuple((atom.axis, atom.size) for atom in made)
                yield from ((maker, axes) for maker in _makers(tensors[0]))


def _makers(tensor: Any) -> list[Any]:
    """The Dense layer that gave a vector, and the layers behind it that work feature by feature; []
    when there is no such layer.
    """
    found: list[Any] = []
    while (origin := origin_of(tensor)) is not None:
        layer, node, _ = origin
        class_names = _class_names_of(layer)
        tensors = inputs_of(node)
        if getattr(layer, "weights", ()):
            found.append(layer)
            if "dense" in class_names:
                return found
            if not any(name.endswith(_IN_PLACE) for name in class_names):
                return []
        if len(tensors) != 1 or _shape(tensors[0]) != _shape(tensor):
            return []
        tensor = tensors[0]
    return []


def _with_inner(layer: Any) -> Iterator[Any]:
    """The layer and those inside of it that get its input: a wrapper's layer, the cell of a
    recurrent one.
    """
    yield layer
    for name in attributes_of(layer, ("layer", "cell", "forward_layer", "backward_layer")):
        yield from _with_inner(getattr(layer, name))


def torch_order(axes: Sequence[tuple[str, int]]) -> tuple[int, ...]:
    """Where the axes of a flattened map stand in PyTorch: positions in `axes`, slowest first."""
    return tuple(sorted(range(len(axes)), key=lambda index: _TORCH_ORDER.index(axes[index][0])))


def _settings(axes: Axes | None) -> dict[str, Any]:
    if not axes:
        return {}
    runs = [tuple(atom for atom in run if atom.size != 1) for run in axes[-1]]
    named = tuple(tuple((atom.axis, atom.size) for atom in run) for run in runs)
    if all(_is_whole(run) for run in runs):
        return {"flattened": named} if any(not _in_torch_order(run) for run in runs) else {}
    if len(runs) == 1 and _is_patch(runs[0]):
        return {"patches": named[0]}
    return {}


def _is_whole(run: Run) -> bool:
    return all(atom.size == atom.whole for atom in run) and len({atom.axis for atom in run
                                                                }) == len(run)


def _is_patch(run: Run) -> bool:
    inner = all(atom.step == 1 for atom in run)
    return inner and len({atom.axis for atom in run}) == len(run) and any(
        atom.axis == "channel" for atom in run)


def _in_torch_order(run: Run) -> bool:
    return all(
        _TORCH_ORDER.index(first.axis) < _TORCH_ORDER.index(second.axis)
        for first, second in pairwise(run))


def _map(shape: tuple[int, ...], channels_first: bool) -> Axes | None:
    """A map of `shape` without its batch axis; None for a rank that no map has."""
    if len(shape) - 1 not in _SPATIAL:
        return None
    spatial = _SPATIAL[len(shape) - 1]
    names = ("channel", *spatial) if channels_first else (*spatial, "channel")
    return tuple(((Atom(name, size, 1, size),),) for name, size in zip(names, shape, strict=True))


def _features(size: int) -> Axis:
    """An axis that is no part of a map; it keeps its order."""
    return ((Atom("channel", size, 1, size),),)


@dataclass(slots=True)
class _Walk:
    """Follows tensors back to the maps that they are made of; `known` are the axes of tensors met
    so far, by id.
    """

    known: dict[int, Axes | None] = field(default_factory=dict)
    outer: dict[int, Any] = field(default_factory=dict)
    alive: list[Any] = field(default_factory=list)

    def inputs(self, model: Any) -> Iterator[tuple[Any, Any]]:
        """Yield every layer of the graph, nested models included, with its first input, once for
        each call.
        """
        for layer in getattr(model, "layers", ()):
            for node in calls_of(layer):
                tensors = inputs_of(node)
                if not tensors or origin_of(tensors[0]) is None:
                    continue
                inner = _of_steps(layer)
                if _is_functional(inner):
                    self._bind_step(inner, tensors[0])
                    yield from self.inputs(inner)
                elif _is_functional(layer):
                    self._bind(layer, tensors)
                    yield from self.inputs(layer)
                else:
                    yield layer, tensors[0]

    def axes(self, tensor: Any) -> Axes | None:
        """The axes of a tensor, None when it is nothing that comes of a map."""
        if id(tensor) not in self.known:
            self.alive.append(tensor)
            self.known[id(tensor)] = self._traced(tensor)
        return self.known[id(tensor)]

    def _bind(self, model: Any, tensors: Sequence[Any]) -> None:
        for inner, outer in zip(model.inputs, tensors,
                                strict=False):  # optional inputs may be left out
            self.alive.append(inner)
            self.known[id(inner)] = self.axes(outer)
            self.outer[id(inner)] = outer

    def _bind_step(self, model: Any, before: Any) -> None:
        """The same for a model that runs on each step of a sequence."""
        self.alive.append(model.inputs[0])
        self.known[id(model.inputs[0])] = self._of_step(model, before)

    def _of_step(self, inner: Any, before: Any) -> Axes | None:
        axes = self.axes(before)
        return axes[1:] if axes else _map(tuple(before.shape)[2:], _is_channels_first(inner))

    def hidden_by(self, tensor: Any) -> str:
        """Return the name of a layer behind which a map may be flattened unseen, "" for none."""
        if id(tensor) in self.outer:
            return self.hidden_by(self.outer[id(tensor)])
        origin = origin_of(tensor)
        if origin is None or self.axes(tensor) is not None:
            return ""
        layer, node, tensor_index = origin
        tensors = [one for one in inputs_of(node) if origin_of(one) is not None]
        if not tensors:
            return ""
        if _is_functional(layer):
            self._bind(layer, tensors)
            return self.hidden_by(layer.outputs[tensor_index])
        made = {tuple(weight.shape)[-1:] for weight in getattr(layer, "weights", ())}
        if _is_opaque(layer) and (tensor.shape[-1],) not in made and any(
                _may_be_flattened(one, tensor) for one in tensors):
            return str(layer.name)
        if _mixes_features(layer):
            return ""
        return next(filter(None, map(self.hidden_by, tensors)), "")

    def _traced(self, tensor: Any) -> Axes | None:
        shape = _shape(tensor)
        origin = origin_of(tensor)
        if origin is None:
            return None
        layer, node, tensor_index = origin
        class_names = _class_names_of(layer)
        tensors = [one for one in inputs_of(node) if origin_of(one) is not None]
        if (inner := _of_steps(layer)) is not None and tensors:
            return self._of_each_step(inner, tensors[0], tensor)
        if shape is None:
            return None
        if _is_functional(layer) and tensors:
            self._bind(layer, tensors)
            return self.axes(layer.outputs[tensor_index])
        if any(name.startswith(_MAPS) for name in class_names):
            return _map(shape, _is_channels_first(layer))
        if class_names & _PRODUCTS:
            return None
        if not tensors or "inputlayer" in class_names:
            return _default(shape)
        return self._moved(layer, class_names, node, tensors, shape)

    def _of_each_step(self, inner: Any, before: Any, after: Any) -> Axes | None:
        """Behind a TimeDistributed layer: the first axis stays, the others go through `inner`."""
        steps = before.shape[1]
        extents, inputs = tuple(after.shape)[2:], tuple(before.shape)[2:]
        if None in (*extents, *inputs):
            return None
        class_names = _class_names_of(inner)
        axes = self._of_step(inner, before)
        if _is_functional(inner):
            self._bind_step(inner, before)
            axes = self.axes(inner.outputs[0])
        elif any(name.startswith(_MAPS) for name in class_names):
            axes = _map(extents, _is_channels_first(inner))
        elif axes and class_names & {"flatten", "reshape"}:
            axes = _regrouped(_before_flatten(axes, inner), extents)
        elif inputs != extents or (inner.weights
                                   and not any(name.endswith(_IN_PLACE) for name in class_names)):
            axes = None
        # An open number of steps is only ever kept as it is.
        return ((((Atom("time", steps or 1, 1, steps or 1),),), *axes) if axes else None)

    def _moved(self, layer: Any, class_names: frozenset[str], node: Any, tensors: list[Any],
               shape: tuple[int, ...]) -> Axes | None:
        """Behind a layer or operation that is no convolution or pooling."""
        before = _shape(tensors[0])
        if class_names & {"concatenate", "concat"}:
            return self._concatenated(tensors, shape)
        if before is not None and class_names & {"flatten", "reshape"}:
            axes = self.axes(tensors[0])
            return _regrouped(_before_flatten(axes, layer), shape) if axes else _default(shape)
        if class_names & {"permute", "transpose"}:
            axes, perm = self.axes(tensors[0]), _perm(layer, node, len(shape))
            return tuple(axes[axis] for axis in perm) if axes and perm else None
        if "extractpatches" in class_names:
            return _patches(self.axes(tensors[0]), layer, shape)
        keeps = not getattr(layer, "weights",
                            ()) or any(name.endswith(_IN_PLACE) for name in class_names)
        if len(shape) < 3 and not keeps:
            keeps = any(name.endswith("layernormalization") for name in class_names)
        if len(shape) == 2 and any(name.endswith(_ON_LAST_AXIS) for name in class_names):
            keeps = False
        if keeps or len(shape) > 2:
            same = [axes for one in tensors if _shape(one) == shape and (axes := self.axes(one))]
            if same:
                return same[0]
        return _default(shape)

    def _concatenated(self, tensors: list[Any], shape: tuple[int, ...]) -> Axes | None:
        """Flat parts one after the other; maps side by side are a map again."""
        if len(shape) > 1:
            return _default(shape) or (_map(shape, False) if any(
                self.axes(one) for one in tensors) else None)
        parts = [(self.axes(one), _shape(one)) for one in tensors]
        if not any(axes for axes, _ in parts) or any(size is None for _, size in parts):
            return None
        runs = [
            run for axes, size in parts
            for run in (axes[-1] if axes else _features(prod(size or ())))
        ]
        return (tuple(runs),)


def _of_steps(layer: Any) -> Any:
    """Return what a TimeDistributed layer runs on each step, None for any other layer."""
    return layer.layer if "timedistributed" in _class_names_of(layer) else None


def _is_channels_first(layer: Any) -> bool:
    return getattr(layer, "data_format", "") == "channels_first"


def _before_flatten(axes: Axes, layer: Any) -> Axes:
    """Return the axes as a layer regroups them: Keras moves channels last before it flattens."""
    moves = "flatten" in _class_names_of(layer) and _is_channels_first(layer)
    return (*axes[1:], axes[0]) if moves else axes


def _is_opaque(layer: Any) -> bool:
    """Return True for a layer whose code the graph does not show: what it does is unknown."""
    if _class_names_of(layer) & {"lambda", "timedistributed"} or hasattr(layer, "layers"):
        return True
    return type(layer).__module__.partition(".")[0] not in ("keras", "tf_keras", "tensorflow")


def _may_be_flattened(before: Any, after: Any) -> bool:
    """Return True when the last axis of a tensor may be made of a whole map."""
    extents, features = tuple(before.shape)[1:], after.shape[-1]
    if len(extents) < 3 or len(after.shape) >= len(before.shape):
        return False
    channels = extents[0 if _image_data_format() == "channels_first" else -1]
    return bool(features is None or channels is None or features != channels)


def _mixes_features(layer: Any) -> bool:
    """Return True for a layer that computes its outputs from all features of its input."""
    class_names = _class_names_of(layer)
    return bool(getattr(layer, "weights", ())) and not any(
        name.endswith((*_IN_PLACE, "layernormalization", "rmsnormalization"))
        for name in class_names)


def _default(shape: tuple[int, ...]) -> Axes | None:
    """What nothing else is known of: with two spatial axes or more it is a map."""
    return _map(shape, _image_data_format() == "channels_first") if len(shape) > 2 else None


def _image_data_format() -> str:
    import sys

    for name in ("keras", "tf_keras"):
        if name in sys.modules:
            return str(sys.modules[name].backend.image_data_format())
    return "channels_last"


def _regrouped(axes: Axes, shape: tuple[int, ...]) -> Axes | None:
    """The axes in another shape, None when it is no exact split or merge, or when positions of the
    batch take part.
    """
    if any(len(axis) != 1 for axis in axes):
        return axes if len(axes) == len(shape) else None
    waiting = [atom for axis in axes for atom in axis[0] if atom.size != 1]
    if prod(atom.size for atom in waiting) != prod(shape):
        return None
    result = []
    for extent in shape:
        run: list[Atom] = []
        missing = extent
        while missing > 1:
            atom = waiting.pop(0)
            if missing % atom.size == 0:
                run.append(atom)
                missing //= atom.size
            elif atom.size % missing == 0:
                inner = atom.size // missing
                run.append(atom._replace(size=missing, step=atom.step * inner))
                waiting.insert(0, atom._replace(size=inner))
                missing = 1
            else:
                return None
        result.append((tuple(run),))
    return tuple(result)


def _patches(axes: Axes | None, layer: Any, shape: tuple[int, ...]) -> Axes | None:
    """keras.ops.image.extract_patches: each position's last axis is its patch, rows first and
    channels last.
    """
    sizes = layer.size
    if axes is None or tuple(layer.strides
                             or sizes) != tuple(sizes) or layer.dilation_rate not in (1, (1, 1)):
        return None
    outer = tuple(((Atom(axis[0][0].axis, extent, size, axis[0][0].whole),),)
                  for axis, extent, size in zip(axes[:-1], shape[:-1], sizes, strict=True))
    inner = tuple(axis[0][0]._replace(size=size, step=1)
                  for axis, size in zip(axes[:-1], sizes, strict=True) if axis[0])
    return (*outer, ((*inner, *axes[-1][0]),))


def _perm(layer: Any, node: Any, ndim: int) -> tuple[int, ...] | None:
    """The permutation of the axes without the batch's, None when the batch axis moves or nothing
    says it.
    """
    if hasattr(layer, "dims"):
        return tuple(int(axis) - 1 for axis in layer.dims)
    arguments: Mapping[str, Any] = getattr(node, "call_kwargs", {}) or {}
    perm = getattr(layer, "axes", None) or arguments.get("perm")
    if perm is None or len(perm) != ndim + 1 or int(perm[0]) != 0:
        return None
    return tuple(int(axis) - 1 for axis in perm[1:])


def _is_functional(layer: Any) -> bool:
    """True for a model inside another that has symbolic inputs and outputs to follow; a subclassed
    one has layers alone.
    """
    return bool(
        hasattr(type(layer), "layers") and getattr(layer, "inputs", None)
        and getattr(layer, "outputs", None))


def _shape(tensor: Any) -> tuple[int, ...] | None:
    """Extents without the batch axis, None when one is open or there is no batch axis."""
    extents = tuple(getattr(tensor, "shape", ()))
    if not extents or any(extent is None for extent in extents[1:]):
        return None
    return tuple(int(extent) for extent in extents[1:])


def _class_names_of(layer: Any) -> frozenset[str]:
    """Class names along the method resolution order in lower case; for a TensorFlow operation of
    Keras 2 its name.
    """
    names = _class_names(layer.__class__)
    if "symbol" in layer.__dict__:
        return names | {str(layer.symbol).rpartition(".")[2].lower()}
    return names


@cache
def _class_names(layer_class: Any) -> frozenset[str]:
    return frozenset(base.__name__.lower() for base in layer_class.__mro__)
