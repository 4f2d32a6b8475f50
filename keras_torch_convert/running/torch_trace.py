"""Trace a torch module: what goes into and comes out of every use of a weight.

A dispatch mode sees every operation, inside scripted modules and fused attention too. A value made
of weights and constants alone (a table and its index, joined biases, a standardized kernel) is
*tainted* with the names of the weights; an operation that brings tainted and other tensors together
is a *unit*. A module whose weights are used gives a unit as well, made of all it does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from .fingerprint import Fingerprint, fingerprint
from .isolation import twin_of
from .randomize import SEED, STATISTICS
from .run import inference

# Operations that give a tensor of the shape of another, without its values.
FACTORIES = ("zeros_like", "ones_like", "empty_like", "full_like", "new_zeros", "new_ones",
             "new_empty", "new_full", "rand_like")
# Views that show a part of a tensor; all others show the whole, with the same fingerprint.
PARTS = ("slice", "select", "split", "split_with_sizes", "unbind", "chunk", "narrow")
_NORMS = ("native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training",
          "batch_norm", "cudnn_batch_norm")


@dataclass(frozen=True, slots=True, eq=False)
class TracedOp:
    """One use of weights: `names` of them in the order in which they are met, fingerprints of the
    data that goes in and comes out.

    `display_name` is the module's path or, for a single operation, the path of the module around it
    and its name. `order` grows with time; a module has that of its first operation. `part` says
    which part of the weights' rows it uses, (number, of how many), () for all.
    """

    order: int
    display_name: str
    names: tuple[str, ...]
    inputs: tuple[Fingerprint, ...]
    outputs: tuple[Fingerprint, ...]
    is_module: bool
    part: tuple[int, ...] = ()

    @property
    def quoted(self) -> str:
        """The display name in quotes; the whole module has none."""
        return f"'{self.display_name}'" if self.display_name else "the whole module"


@dataclass(slots=True)
class Trace:
    """What one run of the torch module showed.

    `seen` are the fingerprints of all values, with the time at which they appeared; `values` the
    copies of the weights that were used, `reached` the names of weights that met data. `tainted`
    are values made of weights alone, `outputs` what the module gave. `arrays` are what goes into
    units and comes out of them, by fingerprint, empty when only fingerprints were asked for.
    """

    values: dict[str, Any]
    units: list[TracedOp] = field(default_factory=list)
    seen: list[tuple[Fingerprint, int]] = field(default_factory=list)
    tainted: list[tuple[Fingerprint, tuple[str, ...]]] = field(default_factory=list)
    reached: set[str] = field(default_factory=set)
    outputs: list[npt.NDArray[Any]] = field(default_factory=list)
    arrays: dict[Fingerprint, npt.NDArray[Any]] = field(default_factory=dict)


def trace_module(module: Any, values: dict[str, Any], call: Callable[[Any], Any], *,
                 keep_arrays: bool = False) -> Trace:
    """Run `call(module)` twice on `values`: once so that running statistics fit the data, once to
    note what happens.

    With `keep_arrays` the inputs and outputs of units themselves are kept beside their
    fingerprints. The module's own tensors, modes, hooks and the state of random generators are as
    before, whatever happens.
    """
    import torch

    fitted = dict(values)
    with traced_twin(module, fitted, torch.float32) as (twin, own), _fitting_mode(own):
        call(twin)
        fitted.update(
            (name, own[name].clone()) for name in own if name.rpartition(".")[2] in STATISTICS)
    with traced_twin(module, fitted, torch.float32) as (twin, own):
        recorder = Recorder(twin, own, keep_arrays)
        with recorder.recording():
            output = call(twin)
            with recorder.unobserved():
                recorder.trace.outputs = [
                    leaf.detach().cpu().float().numpy() for leaf in tensors_in(output)
                ]
    recorder.trace.units.sort(key=lambda unit: (unit.order, unit.is_module))
    return recorder.trace


@contextmanager
def traced_twin(module: Any, values: Mapping[str, Any],
                dtype: Any = None) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Give a twin of a module that computes with `values`, and its tensors of these names.

    Fused attention is off and the random generators start from a fixed seed, so that two runs do
    the same operations.
    """
    import torch

    twin = twin_of(module, values, dtype).module
    named = dict((*twin.named_parameters(remove_duplicate=False),
                  *twin.named_buffers(remove_duplicate=False)))
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with inference(twin):
            torch.manual_seed(SEED)
            yield twin, {name: named[name] for name in values}
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def tensors_in(value: Any) -> Iterator[Any]:
    """Yield the tensors of a structure, in order."""
    import torch

    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors_in(item)
    elif isinstance(value, dict) or hasattr(value, "items"):
        for _, item in value.items():
            yield from tensors_in(item)


def every_operation(operation: Callable[[Any, Any, Any], Any]) -> Any:
    """Return a context that sends each operation of torch through `operation(func, args, kwargs)`.
    """
    from torch.utils._python_dispatch import TorchDispatchMode

    class Mode(TorchDispatchMode):  # type: ignore[no-untyped-call]
        pass

    def dispatch(_: Any, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return operation(func, args, kwargs or {})

    # Given when the class is there: torch wraps what stands in its body, and imports its compiler
    # at the first call, which ends the process where TensorFlow was imported before.
    Mode.__torch_dispatch__ = dispatch  # type: ignore[method-assign]
    return Mode()  # type: ignore[no-untyped-call]


@contextmanager
def every_module(enter: Callable[[Any, Any], None], leave: Callable[[Any, Any, Any, Any],
                                                                    None]) -> Iterator[None]:
    """Call `enter(module, args)` before each module's forward, and `leave(module, args, kwargs,
    output)` behind it.
    """
    from torch.nn.modules.module import (register_module_forward_hook,
                                         register_module_forward_pre_hook)

    with (register_module_forward_pre_hook(enter),
          register_module_forward_hook(leave, with_kwargs=True)):
        yield


def _fitting_mode(values: dict[str, Any]) -> Any:
    """Return a mode that gives every batch normalization the statistics of the data that it meets,
    disturbed a little.
    """
    import torch

    generator = torch.Generator().manual_seed(SEED + 1)
    ours = {id(value) for value in values.values()}

    def operation(func: Any, args: Any, kwargs: Any) -> Any:
        if func.overloadpacket.__name__ in _NORMS and len(args) > 4 and id(args[3]) in ours and id(
                args[4]) in ours:
            _fit_statistics(args[0], args[3], args[4], generator)
        return func(*args, **kwargs)

    return every_operation(operation)


def _fit_statistics(data: Any, mean: Any, variance: Any, generator: Any) -> None:
    import torch

    by_channel = data.detach().float().transpose(0, 1).flatten(1)
    overall = by_channel.square().mean() + 1e-6
    if by_channel.shape[1] >= 8:
        new_mean, new_variance = by_channel.mean(1), by_channel.var(1,
                                                                    unbiased=False) + 0.05 * overall
    else:
        new_mean, new_variance = torch.zeros_like(mean), overall.expand_as(variance)
    noise = torch.randn(mean.shape, generator=generator).to(mean.device)
    mean.copy_(new_mean + 0.1 * overall.sqrt() * noise)
    variance.copy_(new_variance *
                   (0.7 + 0.6 * torch.rand(mean.shape, generator=generator).to(mean.device)))


class Recorder:
    """Keeps track of what each tensor is made of (weights, constants, data) and notes the units."""
    def __init__(self, module: Any, values: dict[str, Any], keep_arrays: bool) -> None:
        """Record runs of `module` on `values`, its own tensors by name."""
        self.trace = Trace(values)
        self.keep_arrays = keep_arrays
        self.paused = False
        self.clock = 0
        self.paths = {id(inner): path for path, inner in module.named_modules()}
        self.names_below = _names_below(module, values)
        self.stack: list[_Call] = []
        self.known: dict[int, tuple[Any, int, Fingerprint]] = {}
        # Tainted and constant tensors are held, so that their identities are not given to others.
        self.taint: dict[int, tuple[Any, tuple[str, ...]]] = {}
        self.constant: dict[int, Any] = {}
        self.weights = {id(value) for value in values.values()}
        for name, value in values.items():
            held, names = self.taint.get(id(value), (value, ()))
            self.taint[id(value)] = (held, (*names, name))
            self.trace.tainted.append((self.fingerprint_of(value), (name,)))
        for _, buffer in module.named_buffers(remove_duplicate=False):
            self.constant[id(buffer)] = buffer

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Note what happens inside the `with` block."""
        with every_module(self.enter, self.leave), every_operation(self.operation):
            yield

    @contextmanager
    def unobserved(self) -> Iterator[None]:
        """Note nothing of what is computed inside."""
        before, self.paused = self.paused, True
        try:
            yield
        finally:
            self.paused = before

    @property
    def path(self) -> str:
        """The path of the module that is running."""
        return self.stack[-1].path if self.stack else ""

    def is_data(self, tensor: Any) -> bool:
        """Return False for what is made of weights and constants alone."""
        return id(tensor) not in self.taint and id(tensor) not in self.constant

    def names_of(self, *tensors: Any) -> tuple[str, ...]:
        """Return the weights that values are made of, () for data and constants."""
        known = (self.taint[id(tensor)][1] for tensor in tensors if id(tensor) in self.taint)
        return tuple(dict.fromkeys(name for names in known for name in names))

    def operation(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Run one operation, and note what it brought together."""
        if self.paused:
            return func(*args, **kwargs)
        given = [*tensors_in(args), *tensors_in(kwargs)]
        names, data = self.names_of(*given), [one for one in given if self.is_data(one)]
        self.clock += 1
        inputs = tuple(self.fingerprint_of(one, True) for one in data) if names else ()
        result = func(*args, **kwargs)
        results = list(tensors_in(result))
        for tensor in results:
            # The version of a tensor changed in place is raised only after this; what was known of
            # it is outdated now.
            self.known.pop(id(tensor), None)
        name = func.overloadpacket.__name__
        if name in FACTORIES or not (names or data):
            self.constant.update((id(tensor), tensor) for tensor in results)
        elif not data:
            self._note_tainted(name, given, results, names)
        else:
            rearranged = bool(getattr(func, "is_view", False)) and name not in PARTS
            self._note_data(name, results, names, inputs, rearranged)
            if name == "addmm" and id(args[0]) in self.taint and id(args[1]) not in self.taint:
                self._note_product(args, result, inputs)
            # A depthwise convolution has a layer of its own kind everywhere.
            if name == "convolution" and names and not args[6] and 1 < args[8] < args[0].shape[1]:
                self._note_groups(args, result, names)
            if name.startswith("_scaled_dot_product"):
                self._note_attention(args, kwargs)
        if any(one is tensor for tensor in results for one in given):
            for tensor in results:
                self.known.pop(id(tensor), None)
        return result

    def _add_unit(self, name: str, names: tuple[str, ...], inputs: tuple[Fingerprint, ...],
                  outputs: tuple[Fingerprint, ...], part: tuple[int, ...] = ()) -> None:
        """Note one use of weights in the operation that runs."""
        self.trace.units.append(
            TracedOp(self.clock, f"{self.path}:{name}", names, inputs, outputs, False, part))

    def _see(self, *keys: Fingerprint) -> None:
        self.trace.seen += [(key, self.clock) for key in keys]

    def _note_tainted(self, name: str, given: list[Any], results: list[Any],
                      names: tuple[str, ...]) -> None:
        """Note what is made of weights and constants alone; it is a unit too when there is more
        than the weights themselves (a table of offsets).
        """
        inputs = tuple(
            self.fingerprint_of(tensor)
            for tensor in given if id(tensor) not in self.weights and tensor.numel() > 1)
        self.taint.update((id(tensor), (tensor, names)) for tensor in results)
        outputs = tuple(
            self.fingerprint_of(tensor, bool(inputs))
            for tensor in results if tensor.is_floating_point())
        self.trace.tainted += [(output, names) for output in outputs]
        if inputs and outputs:
            self._see(*inputs, *outputs)
            self._add_unit(name, names, inputs, outputs[:1])

    def _note_data(self, name: str, results: list[Any], names: tuple[str, ...],
                   inputs: tuple[Fingerprint, ...], rearranged: bool) -> None:
        for tensor in results:
            was_constant = self.constant.pop(id(tensor), None) is not None
            self.taint.pop(id(tensor), None)
            if was_constant and name.endswith("_"):
                # Data written into a part of a tensor makes data of the whole.
                storage = tensor.untyped_storage().data_ptr()
                self.constant = {
                    key: other for key, other in self.constant.items()
                    if other.untyped_storage().data_ptr() != storage
                }
        for call in self.stack:
            call.first = call.first or self.clock
        if rearranged and not names:
            return
        outputs = tuple(
            self.fingerprint_of(tensor, bool(names))
            for tensor in results if tensor.is_floating_point() and tensor.numel())
        self._see(*outputs)
        if names:
            self._see(*inputs)
            self.trace.reached.update(names)
            self._add_unit(name, names, inputs, outputs[:1])

    def _note_product(self, args: Any, result: Any, inputs: tuple[Fingerprint, ...]) -> None:
        """Note a matrix product that adds a bias at once as two units too: some models keep the
        bias in a layer of its own.
        """
        bias, _, matrix = args[:3]
        with self.unobserved():
            product = self.fingerprint_of(result - bias)
        self._see(product)
        self._add_unit("product", self.names_of(matrix), inputs, (product,))
        self._add_unit("bias", self.names_of(bias), (product,), (self.fingerprint_of(result),))

    def _note_groups(self, args: Any, result: Any, names: tuple[str, ...]) -> None:
        """Note a convolution in groups as one unit for each of them too: some models keep a layer
        for each.
        """
        groups = args[8]
        with self.unobserved():
            parts = [
                tuple(self.fingerprint_of(one, True) for one in pair)
                for pair in zip(args[0].chunk(groups, 1), result.chunk(groups, 1), strict=True)
            ]
        for number, (given, made) in enumerate(parts):
            self._see(given, made)
            self._add_unit(f"group {number + 1} of {groups}", names, (given,), (made,),
                           (number, groups))

    def _note_attention(self, args: Any, kwargs: Any) -> None:
        """Note the steps of fused attention: scores, scores with a bias (a unit when that comes
        from weights), their softmax.
        """
        query, key = args[0], args[1]
        mask = kwargs.get("attn_mask",
                          next((item for item in args[3:] if hasattr(item, "shape")), None))
        scale = kwargs.get("scale")
        if query.ndim < 3 or query.shape[:-2] != key.shape[:-2]:
            return
        with self.unobserved():
            plain = query @ key.transpose(-1, -2)
            scores = plain * (query.shape[-1]**-0.5 if scale is None else scale)
            biased = scores if mask is None or not mask.is_floating_point() else scores + mask
            before, after = self.fingerprint_of(scores), self.fingerprint_of(biased)
            self._see(self.fingerprint_of(plain), before, after,
                      self.fingerprint_of(biased.softmax(-1)))
        if names := self.names_of(mask):
            self._add_unit("attention bias", names, (before,), (after,))

    def fingerprint_of(self, tensor: Any, of_unit: bool = False) -> Fingerprint:
        """Return the fingerprint of a tensor as it is now, computed once for each version of it;
        what goes in or comes out `of_unit` may be kept.
        """
        import weakref

        keep = of_unit and self.keep_arrays
        known = self.known.get(id(tensor))
        is_known = known is not None and known[0]() is tensor and known[1] == tensor._version
        if known is not None and is_known and (not keep or known[2] in self.trace.arrays):
            return known[2]
        with self.unobserved():
            plain = tensor.detach().cpu()
            if plain.dtype.is_floating_point and plain.element_size() < 4:
                plain = plain.float()
            array = np.asarray(plain.numpy())
            found = fingerprint(array)
            if keep:
                self.trace.arrays[found] = array.copy()
        self.known[id(tensor)] = (weakref.ref(tensor), tensor._version, found)
        return found

    def enter(self, module: Any, args: Any) -> None:
        """Note the beginning of a module's forward."""
        if self.paused or id(module) not in self.paths:
            return
        inputs = self._data_of(args, of_unit=True) if self.names_below.get(id(module)) else ()
        self.stack.append(_Call(id(module), self.paths[id(module)], inputs))

    def leave(self, module: Any, args: Any, kwargs: Any, output: Any) -> None:
        """Note the end of a module's forward: the module as one unit."""
        if self.paused or not self.stack or self.stack[-1].module != id(module):
            return
        call = self.stack.pop()
        names = self.names_below.get(id(module), ())
        inputs = (*call.inputs, *self._data_of(kwargs)) if names else ()
        if inputs and call.first:
            outputs = self._data_of(output, of_unit=True)
            self.trace.seen += [(key, call.first) for key in inputs]
            self.trace.units.append(TracedOp(call.first, call.path, names, inputs, outputs, True))

    def _data_of(self, value: Any, *, of_unit: bool = False) -> tuple[Fingerprint, ...]:
        return tuple(
            self.fingerprint_of(tensor, of_unit)
            for tensor in tensors_in(value) if self.is_data(tensor) and tensor.numel())


@dataclass(slots=True)
class _Call:
    """A module that is running: `first` is the time of its first operation on data, 0 before it."""

    module: int
    path: str
    inputs: tuple[Fingerprint, ...]
    first: int = 0


def _names_below(module: Any, values: dict[str, Any]) -> dict[int, tuple[str, ...]]:
    """Return for every inner module the names of the weights at or below it, in their order."""
    below: dict[int, list[str]] = {}
    modules = dict(module.named_modules(remove_duplicate=False))
    for name in values:
        parts = name.split(".")
        for length in range(len(parts)):
            inner = modules.get(".".join(parts[:length]))
            if inner is not None:
                below.setdefault(id(inner), []).append(name)
    return {key: tuple(dict.fromkeys(names)) for key, names in below.items()}
