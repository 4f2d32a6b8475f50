"""Transfer: the rule of each kind of layer, a user's callbacks, and the one executor that applies a
Plan.
"""

from .callbacks import calls_for, keys_without_hit
from .layer import assign_layer, assign_pairs

__all__ = ["assign_layer", "assign_pairs", "calls_for", "keys_without_hit"]
