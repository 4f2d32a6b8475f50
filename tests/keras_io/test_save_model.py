"""Saving to a file: refused early, replaced in one step, read back before it counts."""

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")

from keras_torch_convert.errors import SaveError
from keras_torch_convert.keras_io import keras_save as keras_file
from keras_torch_convert.keras_io import save_model as from_model
from keras_torch_convert.keras_io.keras_save import check_path
from keras_torch_convert.keras_io.model import read_target
from keras_torch_convert.keras_io.model_writer import transaction
from keras_torch_convert.keras_io.verify_written import (compare_archive, compare_legacy_file,
                                                         compare_weights_file)
from keras_torch_convert.keras_io.weights_file import name_list
from keras_torch_convert.spec.target import Target
from tests.helpers.keras_runs import models
from tests.helpers.saved import save_model

COMPARE = {
    ".h5": compare_legacy_file, ".weights.h5": compare_weights_file, ".keras": compare_archive
}


@pytest.fixture(params=["keras", "tf_keras"])
def keras(request: pytest.FixtureRequest) -> Any:
    return pytest.importorskip(request.param)


@pytest.fixture
def target(keras: Any) -> Target:
    target = read_target(models.nested(keras))
    generator = np.random.default_rng(0)
    with transaction(target) as writer:
        for variable in target.variables.values():
            writer.write(variable, generator.normal(size=variable.shape).astype(np.float32))
    return target


def test_an_unknown_suffix_is_refused(tmp_path: Path) -> None:
    for name in ("model.tf", "model", ".h5", "weights.npz"):
        with pytest.raises(SaveError,
                           match=r"expected a name ending in \.h5, \.weights\.h5 or \.keras"):
            check_path(tmp_path / name)


def test_a_missing_folder_and_a_folder_in_the_way_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SaveError, match="there is no folder"):
        check_path(tmp_path / "missing" / "model.h5")
    (tmp_path / "model.h5").mkdir()
    with pytest.raises(SaveError, match="it is a folder"):
        check_path(tmp_path / "model.h5")


def test_a_folder_without_permission_is_refused(tmp_path: Path,
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras_file.os, "access", lambda folder, mode: False)
    with pytest.raises(SaveError, match="no permission to write"):
        check_path(tmp_path / "model.h5")


@pytest.mark.parametrize("suffix", COMPARE)
def test_one_changed_bit_of_a_weight_is_found_by_the_read_back(target: Target, tmp_path: Path,
                                                               suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    save_model(target, path)
    COMPARE[suffix](target, path)
    data = bytearray(path.read_bytes())
    for variable in target.variables.values():
        values = np.asarray(variable.variable.numpy()).tobytes()
        start = data.find(values)
        assert start > 0, variable.display_name
        data[start + len(values) // 2] ^= 1
        path.write_bytes(data)
        with pytest.raises(SaveError, match=r"reads? back|no group of the saved file|damaged"):
            COMPARE[suffix](target, path)
        data[start + len(values) // 2] ^= 1


@pytest.mark.parametrize("suffix", COMPARE)
def test_a_truncated_file_is_found_by_the_read_back(target: Target, tmp_path: Path,
                                                    suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    save_model(target, path)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(SaveError, match="the saved file cannot be read"):
        COMPARE[suffix](target, path)


@pytest.mark.parametrize("suffix", [".h5", ".weights.h5"])
def test_values_swapped_between_two_layers_are_found(target: Target, tmp_path: Path,
                                                     suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    save_model(target, path)
    found: list[str] = []
    with h5py.File(path, "r+") as file:
        file.visititems(lambda name, item: found.append(name)
                        if getattr(item, "shape", None) == (4,) else None)
        first, second = file[found[0]][()], file[found[1]][()]
        file[found[0]][...], file[found[1]][...] = second, first
    with pytest.raises(SaveError, match=r"reads? back|no group"):
        COMPARE[suffix](target, path)


@pytest.mark.parametrize("suffix", COMPARE)
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_an_error_while_saving_keeps_the_old_file_and_leaves_no_other(
        target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str,
        error: BaseException) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"what was here")

    def half_written(self: Any, file: str, **options: Any) -> None:
        Path(file).write_bytes(b"half")
        raise error

    monkeypatch.setattr(type(target.model), "save", half_written)
    monkeypatch.setattr(type(target.model), "save_weights", half_written)
    with pytest.raises(SaveError if isinstance(error, OSError) else KeyboardInterrupt):
        save_model(target, path)
    assert path.read_bytes() == b"what was here"
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_an_error_in_our_own_writer_keeps_the_old_file_and_leaves_no_other(
        target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        error: BaseException) -> None:
    path = tmp_path / "model.h5"
    path.write_bytes(b"what was here")
    read, calls = from_model.read_values, iter(range(3))

    def failing(target: Target, variable: Any) -> Any:
        if next(calls) == 2:
            raise error
        return read(target, variable)

    monkeypatch.setattr(from_model, "read_values", failing)
    with pytest.raises(SaveError if isinstance(error, OSError) else KeyboardInterrupt):
        save_model(target, path)
    assert path.read_bytes() == b"what was here"
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", COMPARE)
def test_a_file_that_reads_back_different_never_takes_its_name(target: Target, tmp_path: Path,
                                                               monkeypatch: pytest.MonkeyPatch,
                                                               suffix: str) -> None:
    compare = from_model._compare
    values = np.asarray(next(iter(target.variables.values())).variable.numpy()).tobytes()

    def spoil_and_compare(target: Target, path: Path, suffix: str) -> Any:
        path.write_bytes(path.read_bytes().replace(values, bytes(len(values))))
        return compare(target, path, suffix)

    monkeypatch.setattr(from_model, "_compare", spoil_and_compare)
    with pytest.raises(SaveError, match=r"reads? back|no group|damaged"):
        save_model(target, tmp_path / f"model{suffix}")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_replaced_and_keeps_its_permissions(target: Target,
                                                                tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    path.write_bytes(b"old")
    path.chmod(0o640)
    link = tmp_path / "link.h5"
    link.symlink_to(path)
    saved = save_model(target, link)
    assert saved.path == link
    assert link.is_symlink()
    assert path.stat().st_size == saved.size > 3
    assert path.stat().st_mode & 0o777 == 0o640


def test_trainable_flags_come_back_when_saving_fails(target: Target, tmp_path: Path,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    models.freeze_some(target.model)
    norm = target.model.get_layer("body").get_layer("first_norm")
    seen: list[bool] = []

    def fail(self: Any, file: str, **options: Any) -> None:
        seen.append(norm.trainable)
        raise KeyboardInterrupt

    monkeypatch.setattr(type(target.model), "save", fail)
    with pytest.raises(KeyboardInterrupt):
        save_model(target, tmp_path / "model.h5")
    assert (seen, norm.trainable) == ([True], False)
    assert [v.trainable for v in read_target(target.model).layers[0].children[1].variables
           ] == [False] * 4


def test_weights_that_share_a_path_are_refused_in_a_legacy_file(keras: Any, tmp_path: Path) -> None:
    class Block(keras.layers.Layer):
        def __init__(self) -> None:
            super().__init__(name="block")
            self.one, self.two = keras.layers.Dense(4, name="d"), keras.layers.Dense(4, name="d")

        def build(self, shape: Any) -> None:
            self.one.build(shape)
            self.two.build(shape)
            self.built = True

        def call(self, x: Any) -> Any:
            return self.two(self.one(x))

    vector = keras.Input((4,))
    target = read_target(keras.Model(vector, Block()(vector)))
    with pytest.raises(SaveError,
                       match=r"layer 'block' has several weights called .*: save as \.weights\.h5"):
        save_model(target, tmp_path / "model.h5")
    assert save_model(target, tmp_path / "model.weights.h5").size > 0


def test_a_layer_beside_the_graph_is_not_lost_in_a_legacy_file(tmp_path: Path) -> None:
    keras = pytest.importorskip(
        "keras")  # in Keras 2 such a layer is one of model.layers, so it is saved
    vector = keras.Input((4,))
    model = keras.Model(vector, keras.layers.Dense(2, name="head")(vector))
    model.aside = keras.layers.Dense(3, name="aside")
    model.aside.build((None, 4))
    target = read_target(model)
    assert [layer.name for layer in target.layers] == ["head", "aside"]
    with pytest.raises(SaveError,
                       match=r"would be lost: aside/kernel, aside/bias; save as \.weights\.h5"):
        save_model(target, tmp_path / "model.h5")
    assert save_model(target, tmp_path / "model.weights.h5").notes == ()


def test_the_legacy_warning_of_keras_is_not_repeated(target: Target, tmp_path: Path,
                                                     caplog: pytest.LogCaptureFixture,
                                                     recwarn: pytest.WarningsRecorder) -> None:
    with caplog.at_level(logging.WARNING):
        save_model(target, tmp_path / "model.h5")
    told = [record.getMessage() for record in caplog.records
           ] + [str(warning.message) for warning in recwarn]
    assert [text for text in told if "HDF5" in text] == []


def test_long_name_lists_are_read_from_their_chunks(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "names.h5", "w") as file:
        file.attrs["weight_names0"] = np.array([b"a/kernel:0", b"a/bias:0"])
        file.attrs["weight_names1"] = ["b/kernel"]
        file.attrs["layer_names"] = [b"a", b"b"]
        assert name_list(file.attrs, "weight_names") == ["a/kernel:0", "a/bias:0", "b/kernel"]
        assert name_list(file.attrs, "layer_names") == ["a", "b"]
        assert name_list(file.attrs, "nothing") == []


def test_a_model_with_more_names_than_one_attribute_holds_is_saved(keras: Any,
                                                                   tmp_path: Path) -> None:
    class Many(keras.layers.Layer):
        def build(self, shape: Any) -> None:
            for index in range(700):
                setattr(
                    self, f"w{index}",
                    self.add_weight(name=f"{'weight' * 20}_{index}", shape=(1,),
                                    initializer="ones"))
            super().build(shape)

        def call(self, x: Any) -> Any:
            return x * self.w0

    vector = keras.Input((1,))
    path = tmp_path / "many.h5"
    save_model(read_target(keras.Model(vector, Many(name="many")(vector))), path)
    with h5py.File(path) as file:
        assert {"weight_names0", "weight_names1"} <= set(file["model_weights/many"].attrs)


def test_a_variable_frozen_alone_is_noted_in_a_legacy_file(tmp_path: Path) -> None:
    keras = pytest.importorskip("keras")
    model = models.nested(keras)
    model.get_layer("body").get_layer("first").kernel.trainable = False
    (note,) = save_model(read_target(model), tmp_path / "model.h5").notes
    assert note.startswith("single variables of body are frozen")
    assert save_model(read_target(model), tmp_path / "model.weights.h5").notes == ()


def test_variables_that_a_layer_keeps_out_of_its_files_are_noted(keras: Any,
                                                                 tmp_path: Path) -> None:
    class Sinusoid(keras.layers.Layer):
        def build(self, shape: Any) -> None:
            self.table = self.add_weight(name="table", shape=(4,), trainable=False,
                                         initializer="ones")
            super().build(shape)

        def save_own_variables(self, store: Any) -> None:
            pass

        def call(self, x: Any) -> Any:
            return x + self.table

    vector = keras.Input((4,))
    model = keras.Model(vector, keras.layers.Dense(4)(Sinusoid(name="sinusoid")(vector)))
    (note,) = save_model(read_target(model), tmp_path / "model.weights.h5").notes
    assert "sinusoid/table" in note


def test_a_compiled_model_is_saved_with_its_optimizer_beside_the_weights(
        keras: Any, tmp_path: Path) -> None:
    model = models.plain(keras)
    model.compile(optimizer="adam", loss="mse", metrics=["mae"])
    model.fit(np.zeros((2, 8, 8, 3), "float32"), np.zeros((2, 5), "float32"), verbose=0)
    for suffix in COMPARE:
        assert save_model(read_target(model), tmp_path / f"model{suffix}").notes == ()


def test_tensorflow_is_not_imported_to_save_where_nobody_uses_it(tmp_path: Path) -> None:
    script = ("import sys, keras, numpy; from keras.src.utils.module_utils import tensorflow\n"
              "import keras_torch_convert as ktc\n"
              "model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name='head')])\n"
              "weights = {'head.weight': numpy.ones((3, 4)), 'head.bias': numpy.ones(3)}\n"
              "for name in ('net.h5', 'net.keras'):\n"
              "    ktc.convert(weights, model, accept_unproven=True, save=name)\n"
              "assert 'tensorflow' not in sys.modules\n"
              "assert tensorflow.available == bool(__import__('importlib.util').util.find_spec("
              "'tensorflow'))")
    environment = os.environ | {
        "KERAS_BACKEND": "torch", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))
    }

    run = subprocess.run([sys.executable, "-c", script], env=environment, cwd=tmp_path,
                         capture_output=True, text=True, check=False)

    assert run.returncode == 0, run.stderr
