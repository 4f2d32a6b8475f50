"""Proof by running: both models on the same inputs, compared by number."""

from .compare import OutputComparison
from .comparison import Comparison, compare_outputs
from .predict import Predictions, run_both

__all__ = ["Comparison", "OutputComparison", "Predictions", "compare_outputs", "run_both"]
