"""What is read on the PyTorch side: named tensors in order, each loaded only when asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any, Literal

import numpy.typing as npt

from ..util.mapped_memory import in_memory
from .tensor_spec import TensorSpec

Order = Literal["registered", "sorted by name"]


@dataclass(frozen=True, slots=True, eq=False)
class SourceTensor:
    """One tensor of a source.

    `dtype` is PyTorch's name without its prefix ("float32", "bfloat16", "int64", ...). `view()`
    returns the values as a NumPy array of `shape`, which may lie in a mapped file: only kernels of
    `_core` may touch it. `read()` is for all others. `storage` is equal for tensors that share
    memory, start at the same element and step through it alike (tied weights), None when unknown;
    the address is a part of it when they lie in memory. `from_array` is True when the tensor was
    given as a NumPy array and not as a torch tensor: a user's callback then gets the array's own
    type, float32 otherwise. `display_name` is the name for people where `name` is none ("" when it
    is). `expect()` tells a file that the values will be read soon, None where that helps nothing.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    view: Callable[[], npt.NDArray[Any]] = field(repr=False)
    storage: tuple[object, ...] | None = None
    kind: Literal["parameter", "buffer", "unknown"] = "unknown"
    from_array: bool = False
    display_name: str = ""
    expect: Callable[[], None] | None = field(default=None, repr=False)

    def read(self) -> npt.NDArray[Any]:
        """Return the values as a NumPy array of `shape`; treat it as read-only.

        A type that NumPy lacks comes as its bits: bfloat16 as uint16, the float8 types as uint8.
        """
        return in_memory(self.view())

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def spec(self) -> TensorSpec:
        """What a Plan remembers of it."""
        return TensorSpec(self.shape, self.dtype, self.display_name or self.name)


@dataclass(frozen=True, eq=False)
class Source(Mapping[str, SourceTensor]):
    """Ordered names to tensors, with what is known of where they came from.

    `origin` says it in words ("module ResNet", "state dict", or the path). `order` is "registered"
    when the order is that of a module's own state dict, "sorted by name" when layers were put in
    natural order because the file had lost theirs. `wrapper` is the key under which the weights
    were found (None: none), `wrappers` all that were there to choose from, `prefix` what was cut
    from every name. `placeholders` lists the names of foreign objects beside the weights that were
    read as inert placeholders. `notes` are sentences for the report.
    """

    tensors: Mapping[str, SourceTensor]
    origin: str
    order: Order = "registered"
    wrapper: str | None = None
    wrappers: tuple[str, ...] = ()
    prefix: str = ""
    placeholders: tuple[str, ...] = ()
    module: Any = None
    notes: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> SourceTensor:
        return self.tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)

    @cached_property
    def tied(self) -> tuple[tuple[str, ...], ...]:
        """Groups of names that are one tensor: same storage, same start, same shape."""
        groups: dict[tuple[object, ...], list[str]] = {}
        for tensor in self.tensors.values():
            if tensor.storage is not None and tensor.size:
                groups.setdefault((*tensor.storage, tensor.shape), []).append(tensor.name)
        return tuple(tuple(names) for names in groups.values() if len(names) > 1)


def expect(source: Mapping[str, SourceTensor], names: Iterable[str]) -> None:
    """Tell files behind an address which tensors will be read, in this order."""
    for name in names:
        if (tensor := source.get(name)) is not None and tensor.expect is not None:
            tensor.expect()
