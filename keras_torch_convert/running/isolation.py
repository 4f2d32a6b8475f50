"""A twin of a torch module that shares nothing writable with it.

Models are run on twins, so that the user's module is never entered: a module may cache what it
derives from its weights, count its calls, or keep a second reference to a parameter. The twin has
the same classes and the same aliases: what is one tensor in the module is one tensor in the twin,
and views of one storage are views of one new storage. Values go into its tensors in place.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any

CONTAINERS = (Mapping, list, tuple, set, frozenset)
# Most of what a module holds: settings, and a dozen empty dictionaries of hooks.
SETTINGS = frozenset((type(None), bool, int, float, complex, str, bytes))
_BUILTIN = frozenset((dict, OrderedDict, list, tuple, set))
_PLAIN = (type(None), bool, int, float, complex, str, bytes, type, ModuleType)


@dataclass(frozen=True, slots=True)
class TorchTwin:
    """A copy of a module tree, which may be run and changed.

    `shared` names the attributes that cannot be copied (locks, open files): twin and module have
    them in common.
    """

    module: Any
    shared: tuple[str, ...] = ()


def twin_of(module: Any, values: Mapping[str, Any] | None = None, dtype: Any = None) -> TorchTwin:
    """Copy a module with the values that it holds, or with `values` in the place of some.

    Other values want another twin: a cache that one run leaves in it would be wrong for them.

    Args:
        module: A torch.nn.Module. Nothing of it is changed.
        values: Tensors by name. A tied tensor takes the value of its first name.
        dtype: The torch type of all its floating-point tensors, None for the types that they have.
    """
    import torch

    if isinstance(module, torch.jit.ScriptModule):
        return TorchTwin(_scripted(module, values or {}, dtype))
    named = (*module.named_parameters(remove_duplicate=False),
             *module.named_buffers(remove_duplicate=False))
    given: dict[int, Any] = {}
    for name, tensor in named:
        if values is not None and name in values:
            given.setdefault(id(tensor), values[name])
    copier = _Copier(given, dtype)
    return TorchTwin(copier.copy_of(module), tuple(copier.shared))


def _scripted(module: Any, values: Mapping[str, Any], dtype: Any) -> Any:
    """Copy a scripted module: its attributes live in C++, where only its own copy reaches them."""
    import torch

    twin = copy.deepcopy(module)
    if dtype is not None:
        twin = twin.to(dtype)
    named = dict((*twin.named_parameters(), *twin.named_buffers()))
    with torch.no_grad():
        for name, value in values.items():
            if name in named:
                named[name].copy_(value)
    return twin


class _Copier:
    """One copy of a tree of objects, every object copied once."""
    def __init__(self, given: Mapping[int, Any], dtype: Any) -> None:
        """`given` are values by the identity of the tensor that they replace."""
        self.given, self.dtype = given, dtype
        # As copy.deepcopy has it: identity to copy; the originals are held by their owners.
        self.memo: dict[int, Any] = {}
        self.storages: dict[int, Any] = {}
        self.others: dict[int, tuple[str, Any]] = {}
        self.shared: dict[str, None] = {}
        self.functions: set[int] = set()

    def copy_of(self, module: Any) -> Any:
        """Copy a module. What copy.deepcopy cannot copy is prepared in its memo before, all tensors
        first: other objects may refer back to a module.
        """
        for path, value in attributes(module):
            if is_tensor(value):
                self.memo[id(value)] = self._tensor(value)
            elif not isinstance(value, CONTAINERS):
                self.others[id(value)] = (path, value)
        cells = [(path, cell)
                 for path, value in self.others.values() if isinstance(value, FunctionType)
                 for cell in self._function(value)]
        for path, value in [*self.others.values(), *cells]:
            try:
                if isinstance(value, CellType):
                    value.cell_contents = copy.deepcopy(value.cell_contents, self.memo)
                else:
                    copy.deepcopy(value, self.memo)
            except Exception as error:  # any class may refuse in any way
                self.memo[id(value)] = value
                self.shared[f"{path} ({type(value).__name__}: {type(error).__name__})"] = None
        for owner in module.modules():
            for value in vars(owner).values():
                if type(value) is OrderedDict and not value:
                    self.memo.setdefault(id(value), OrderedDict())
        return copy.deepcopy(module, self.memo)

    def _function(self, function: FunctionType) -> list[CellType]:
        """Copy a function that holds modules, their methods or tensors; return where it holds the
        copies.

        Any other data that it was made to reach (the list in which a hook collects) stays the same.
        """
        if id(function) in self.functions:
            # It was reached from another one.
            return []
        self.functions.add(id(function))
        cells = function.__closure__ or ()
        inner = [
            found
            for cell in cells if is_filled(cell) and isinstance(cell.cell_contents, FunctionType)
            for found in self._function(cell.cell_contents)
        ]
        new = [
            CellType(cell.cell_contents)
            if is_filled(cell) and self._is_owned(cell.cell_contents) else cell for cell in cells
        ]
        own = [cell for cell, old in zip(new, cells, strict=True) if cell is not old]
        if own:
            twin = FunctionType(function.__code__, function.__globals__, function.__name__,
                                function.__defaults__, tuple(new))
            twin.__kwdefaults__ = function.__kwdefaults__
            twin.__dict__.update(function.__dict__)
            self.memo[id(function)] = twin
        return [*inner, *own]

    def _is_owned(self, value: Any) -> bool:
        """Return whether a value belongs to the modules: one of them, a tensor, a method (a forward
        that another function wraps), a function that was copied.
        """
        bound_to = getattr(value, "__self__", None) if isinstance(value, MethodType) else value
        return is_tensor(bound_to) or is_module(bound_to) or (isinstance(value, FunctionType)
                                                              and id(value) in self.memo)

    def _tensor(self, tensor: Any) -> Any:
        """Copy a tensor; views of one storage stay views of one."""
        import torch

        value = self.given.get(id(tensor))
        dtype = self.dtype if self.dtype and tensor.is_floating_point() else tensor.dtype
        if dtype != tensor.dtype or tensor.is_sparse or tensor.is_quantized or tensor.is_meta:
            fresh = (tensor if value is None else value).detach().to(dtype, copy=True)
        else:
            fresh = self._view(tensor)
            if value is not None:
                fresh.copy_(value.detach())
        if isinstance(tensor, torch.nn.Parameter):
            return torch.nn.Parameter(fresh, requires_grad=tensor.requires_grad)
        return fresh

    def _view(self, tensor: Any) -> Any:
        import torch

        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self.storages:
            self.storages[storage.data_ptr()] = (storage, storage.clone())
        _, copied = self.storages[storage.data_ptr()]
        fresh = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
        return fresh.set_(copied, tensor.storage_offset(), tensor.size(), tensor.stride())


def attributes(module: Any) -> Iterator[tuple[str, Any]]:
    """Yield what the modules of a tree hold, each object once, with its path: attributes, what is
    in containers and in objects among them, and the parts of partial functions.
    """
    known: set[int] = set()

    def below(path: str, value: Any) -> Iterator[tuple[str, Any]]:
        if isinstance(value, _PLAIN) or is_module(value) or id(value) in known:
            return
        known.add(id(value))
        yield path, value
        if isinstance(value, CONTAINERS):
            items = value.items() if isinstance(value, Mapping) else enumerate(value)
            for key, item in list(items):
                yield from below(f"{path}[{key!r}]", item)
        elif isinstance(value, partial):
            yield from below(path, (value.func, *value.args, value.keywords))
        elif not is_tensor(value) and not isinstance(value, (FunctionType, MethodType)):
            for key, item in list(getattr(value, "__dict__", {}).items()):
                yield from below(f"{path}.{key}", item)

    for owner_path, owner in module.named_modules():
        for name, value in list(vars(owner).items()):
            if type(value) in SETTINGS or is_empty(value):
                continue
            yield from below(f"{owner_path}.{name}" if owner_path else name, value)


def is_empty(value: Any) -> bool:
    """Return whether a value is one of Python's own containers, with nothing in it."""
    return type(value) in _BUILTIN and not value


def is_tensor(value: Any) -> bool:
    """Return whether a value is a tensor; torch is imported where there is a module."""
    import torch

    return isinstance(value, torch.Tensor)


def is_module(value: Any) -> bool:
    """Return whether a value is a module."""
    import torch

    return isinstance(value, torch.nn.Module)


def is_filled(cell: CellType) -> bool:
    """Return whether a variable of a closure has a value."""
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True
