"""A Plan applied to files: a checkpoint into a Keras file and back, without either framework."""
