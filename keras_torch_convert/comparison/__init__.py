"""Proof by running: both models on the same inputs, compared by number."""
