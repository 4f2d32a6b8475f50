"""How PyTorch and Keras lay out the same layer.

`assign_layer` and `assign_pairs` make the Assignments of a Plan by the rule of each kind of layer;
`calls_for` and `keys_without_hit` say which layers the callbacks of `additional_transfer` hit.
"""

from .callbacks import calls_for, keys_without_hit
from .layer import assign_layer, assign_pairs

__all__ = ["assign_layer", "assign_pairs", "calls_for", "keys_without_hit"]
