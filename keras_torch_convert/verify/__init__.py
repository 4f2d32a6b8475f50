"""Proof by running: both models on the same input, compared by number."""

from .compare import OutputComparison, compare_outputs
from .predict import Predictions, run_both

__all__ = ["OutputComparison", "Predictions", "compare_outputs", "run_both"]
