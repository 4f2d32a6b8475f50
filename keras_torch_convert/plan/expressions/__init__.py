"""Expressions: how the values of one variable come from the tensors of the source, as a small tree.

Each node is one class with its shape, its values, its inverse, what it loses and its form in a plan
file; to add one is to write such a class. `Tensor` and `Fill` (a constant) are the leaves, nodes of
movement.py only move data and compile together to strided copies (../copy_program.py), those of
computation.py, norms.py and resampled.py compute, `Dequantize` decodes, and `CallbackOutput` is
what a user's function returns.
"""

from .callback import CallbackOutput, LayerCallback, UserCall, describe_key, needs_callback
from .computation import (Add, Computation, InverseStdDev, Multiply, Scale, StdDev, Unrepeated,
                          Unstandardized, WeightStandardization)
from .dequantize import Dequantize
from .movement import (Concat, Movement, Overlay, Permute, Reshape, Slice, SliceScatter,
                       compile_program, may_have_gaps)
from .node import NODES, Expression, Fill, Tensor, substituted, tensors_of
from .norms import Norm, SingularVector, SpectralNormWeight, WeightNorm
from .resampled import Resampled

__all__ = [
    "NODES", "Add", "CallbackOutput", "Computation", "Concat", "Dequantize", "Expression", "Fill",
    "InverseStdDev", "LayerCallback", "Movement", "Multiply", "Norm", "Overlay", "Permute",
    "Resampled", "Reshape", "Scale", "SingularVector", "Slice", "SliceScatter",
    "SpectralNormWeight", "StdDev", "Tensor", "Unrepeated", "Unstandardized", "UserCall",
    "WeightNorm", "WeightStandardization", "compile_program", "describe_key", "may_have_gaps",
    "needs_callback", "substituted", "tensors_of"
]
