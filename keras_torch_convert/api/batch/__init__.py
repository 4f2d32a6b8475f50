"""Many checkpoints at once, on Dask distributed.

`manifest.py` reads what is to be done, `tasks.py` is what a worker does, `results.py` what was
done, `run.py` the function `apply_many`.
"""
