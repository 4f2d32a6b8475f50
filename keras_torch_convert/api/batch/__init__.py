"""Many checkpoints at once, on Dask distributed: what is to be done (manifest.py), what a worker
does (tasks.py), what was done (results.py).
"""
