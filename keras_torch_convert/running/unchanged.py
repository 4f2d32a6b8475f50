"""Whether a torch module is as it was after copies of it were run: what a copy shares with it (an
attribute of its class, a list in which a hook collects) is changed by both.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any

from ..util.text import join_names
from .isolation import CONTAINERS, SETTINGS, attributes, is_filled, is_module, is_tensor
from .run import preserve_rng_state

_MOST_NAMED = 4


@contextmanager
def watched(module: Any) -> Iterator[list[str]]:
    """Give a list that holds, after the block, a sentence about what changed in the module, if
    anything did.
    """
    before = _state(module)
    notes: list[str] = []
    with settings_restored():
        yield notes
    after = _state(module)
    changed = [path for path in {**before, **after} if before.get(path) != after.get(path)]
    if changed:
        notes.append(f"the torch module was changed while copies of it ran, which share "
                     f"{join_names(changed, _MOST_NAMED)} with it: put that back if it matters")


@contextmanager
def settings_restored() -> Iterator[None]:
    """Put torch's settings and all random generators back after runs inside, whatever happens.

    Each run does so itself, but for a Ctrl-C that comes while it does.
    """
    import torch

    grad, fast = torch.is_grad_enabled(), torch.backends.mha.get_fastpath_enabled()
    try:
        with torch.random.fork_rng(devices=[]), preserve_rng_state():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        torch.set_grad_enabled(grad)


def _state(module: Any) -> dict[str, Any]:
    """Return by path what an object is, so that another value is told from it."""
    state: dict[str, Any] = {
        f"{path}.{name}" if path else name: repr(value) if _is_plain(value) else id(value)
        for path, owner in module.named_modules() for name, value in vars(owner).items()
    }
    for path, value in attributes(module):
        state.update(_identities(path, value))
        if isinstance(value, FunctionType):
            names = value.__code__.co_freevars
            for name, cell in zip(names, value.__closure__ or (), strict=True):
                if is_filled(cell) and isinstance(cell.cell_contents, CONTAINERS):
                    state.update(_identities(f"{name} (of {path})", cell.cell_contents))
    for owner_class in {base for owner in module.modules() for base in type(owner).__mro__}:
        if not owner_class.__module__.startswith(("torch.", "builtins")):
            for name, value in vars(owner_class).items():
                if is_tensor(value) or isinstance(value, CONTAINERS):
                    state.update(_identities(f"{owner_class.__name__}.{name}", value))
    return state


def _identities(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if is_tensor(value):
        yield path, (id(value), value.data_ptr() if not value.is_sparse else 0, value._version)
    elif isinstance(value, CONTAINERS):
        items = value.items() if hasattr(value, "items") else enumerate(value)
        for key, item in items:
            known = repr(item) if _is_plain(item) else id(item)
            yield f"{path}[{key!r}]", known
            if is_tensor(item):
                yield from _identities(f"{path}[{key!r}]", item)


def _is_plain(value: Any) -> bool:
    return type(value) in SETTINGS or not (is_tensor(value) or is_module(value) or isinstance(
        value, CONTAINERS) or hasattr(value, "__dict__") or callable(value))
