"""Weights into a live model, all or nothing; and a model into a file, read back before it takes its name."""
