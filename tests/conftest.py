"""Settings that must stand before any test imports a framework, and the order of the files."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

import pytest

# How long an example takes says nothing where other work runs beside. The zoo has no hypothesis.
with suppress(ImportError):
    from hypothesis import HealthCheck, settings

    settings.register_profile("timeless", deadline=None,
                              suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("timeless")

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("KERAS_TORCH_CONVERT_RAISE_INTERNAL_ERRORS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Tests are small and run in one process for each core: more threads would only wait for each other.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS",
                 "TF_NUM_INTEROP_THREADS"):
    os.environ.setdefault(variable, "1")

# A shell starts background jobs with Ctrl-C ignored (`nohup make test &`), and children inherit
# that. With a handler here, every child begins with the usual one.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files with slow tests first, so that no worker begins one when the others are done.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
