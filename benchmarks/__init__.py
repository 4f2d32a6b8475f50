"""Benchmarks: each stage beside its rival, in one run. `make bench` runs all of them."""
