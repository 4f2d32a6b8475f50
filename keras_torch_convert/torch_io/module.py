"""A live PyTorch module as a source: its own state dict, in its own order, nothing about it
changed.
"""

from __future__ import annotations

from typing import Any

from ..errors import SourceError
from ..spec.source import Source
from .live_tensor import Kind, live_tensor
from .state_dict import check_name, named_source


def read_module(module: Any) -> Source:
    """The tensors of `module.state_dict()`, each marked as parameter or buffer. The module stays in
    the mode it is in.
    """
    origin = f"module {type(module).__name__}"
    kinds: dict[str, Kind] = {
        name: "parameter" for name, _ in module.named_parameters(remove_duplicate=False)
    }
    kinds |= {name: "buffer" for name, _ in module.named_buffers(remove_duplicate=False)}
    tensors = []
    others = []
    for name, value in module.state_dict().items():
        check_name(name, origin)
        tensor = live_tensor(name, value, origin, kinds.get(name, "unknown"))
        if tensor is None:
            others.append(name)
        else:
            tensors.append(tensor)
    if not tensors:
        raise SourceError(f"{origin}: has no weights")
    return named_source(tensors, origin=origin, others=others, registered=True, module=module)
