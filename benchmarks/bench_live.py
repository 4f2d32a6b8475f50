"""Live models of ResNet-50's size, weights to a saved .h5 file, beside keras_cv_attention_models
1.4.3.

    export TF_USE_LEGACY_KERAS=1 TF_ENABLE_ONEDNN_OPTS=0
    python -m benchmarks.bench_live [--rounds 7] [--check]

In the environment of `make zoo`, where that package is. Rivals: its own
keras_reload_from_torch_model, ours of the same name, which aligns, fills the Keras model, saves it
and reads the file back, and `apply` of the Plan that ours left: the next module of the architecture
goes into its file through our own writer. File and values are compared before any time counts.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bench_conversion import twin_module
from benchmarks.goals import Goals
from benchmarks.race import print_ratios, race


def arrays_of(path: Path) -> dict[str, np.ndarray]:
    """Return all data sets of an HDF5 file."""
    import h5py

    arrays: dict[str, np.ndarray] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            arrays[name] = item[()]

    with h5py.File(path) as file:
        file["model_weights"].visititems(visit)
    return arrays


def assert_equal(first: Path, second: Path) -> None:
    """Check that both files hold the same arrays under the same names."""
    expected, found = arrays_of(first), arrays_of(second)
    assert expected.keys() == found.keys()
    assert all(np.array_equal(array, found[name]) for name, array in expected.items())


def main() -> None:
    """Convert, compare the files, race."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--check", action="store_true",
                        help="end with an error when a goal is missed")
    options = parser.parse_args()
    try:
        from keras_cv_attention_models import download_and_load, resnet_family
    except ImportError:
        print("keras_cv_attention_models is not installed: run this in the environment that `make "
              "zoo` makes")
        return
    from keras_torch_convert import PlanCache, apply, keras_reload_from_torch_model

    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    model = resnet_family.ResNet50D(pretrained=None, classifier_activation=None)
    module = twin_module(model)
    with tempfile.TemporaryDirectory() as folder:
        theirs, ours, applied = (
            Path(folder) / f"{name}.h5" for name in ("theirs", "ours", "applied"))

        def kecam() -> None:
            with contextlib.redirect_stdout(io.StringIO()):
                download_and_load.keras_reload_from_torch_model(module, model,
                                                                save_name=str(theirs),
                                                                do_predict=False)

        def classic() -> Any:
            return keras_reload_from_torch_model(module, model, save_name=ours, do_predict=False,
                                                 verbose=0)

        kecam()
        plan = classic().plan
        cached = {"cache": PlanCache()}
        bare = {"verify": False, "digests": (), "durable": False, **cached}
        apply(plan, module, applied, **bare)
        assert_equal(theirs, ours)
        assert_equal(theirs, applied)
        alternatives = {
            "keras_cv_attention_models":
                kecam, "ours, checked and hashed":
                    classic, "apply":
                        lambda: apply(plan, module, applied, **bare),
            "apply, read back":
                lambda: apply(plan, module, applied, digests=(), durable=False, **cached),
            "apply as shipped":
                lambda: apply(plan, module, applied, **cached)
        }

        def forget() -> None:
            for path in (theirs, ours, applied):
                path.unlink(missing_ok=True)

        times = race(alternatives, rounds=options.rounds, prepare=forget)
    size = sum(weight.shape.num_elements() for weight in model.weights) * 4
    print_ratios(f"live models, {size / 1e6:.0f} MB, to a saved .h5", times, unit="apply",
                 size=size)
    goals = Goals()
    unit = times["keras_cv_attention_models"].best
    goals.at_least("apply: times as fast as keras_cv_attention_models", unit / times["apply"].best,
                   8)
    goals.at_least("the classic function: times as fast",
                   unit / times["ours, checked and hashed"].best, 8)
    goals.close(options.check)


if __name__ == "__main__":
    main()
