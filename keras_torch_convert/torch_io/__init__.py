"""PyTorch modules, state dicts and checkpoints, read and written without running code in a file."""
