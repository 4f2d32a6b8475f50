"""A legacy .h5 file through our own writer holds, name for name and bit for bit, what Keras's own
save writes.
"""

import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")

from keras_torch_convert.keras_io.keras_save import write_with_keras
from keras_torch_convert.keras_io.layout_from_save import NoLayoutError, layout_of_save
from keras_torch_convert.keras_io.model import read_target
from keras_torch_convert.keras_io.model_writer import transaction
from keras_torch_convert.spec.target import Target
from tests.helpers.keras_runs import models
from tests.helpers.saved import save_model


@pytest.fixture(params=["keras", "tf_keras"])
def keras(request: pytest.FixtureRequest) -> Any:
    return pytest.importorskip(request.param)


def filled(model: Any) -> Target:
    target = read_target(model)
    generator = np.random.default_rng(0)
    with transaction(target) as writer:
        for variable in target.variables.values():
            writer.write(variable, generator.normal(size=variable.shape).astype(variable.dtype))
    return target


def contents(path: Path) -> dict[str, Any]:
    """Everything that stands in a file: attributes, and data sets with type, shape and bytes."""
    found: dict[str, Any] = {}

    def visit(name: str, item: Any) -> None:
        attributes = {key: np.asarray(value).tolist() for key, value in item.attrs.items()}
        attributes = {
            key: value.encode() if isinstance(value, str) else value
            for key, value in attributes.items()
        }
        found[name] = attributes
        if isinstance(item, h5py.Dataset):
            found[name] = (attributes, item.dtype, item.shape, np.asarray(item[()]).tobytes())

    with h5py.File(path) as file:
        visit("/", file)
        file.visititems(visit)
    return found


def kerass_own(target: Target, path: Path) -> Path:
    write_with_keras(target, path, ".h5")
    return path


@pytest.mark.parametrize("frozen", models.FREEZE)
@pytest.mark.parametrize("name", ["plain", "nested", "composite"])
def test_the_file_is_the_one_that_keras_writes(keras: Any, tmp_path: Path, name: str,
                                               frozen: str) -> None:
    model = models.MODELS[name](keras)
    models.FREEZE[frozen](model)
    target = filled(model)
    saved = save_model(target, tmp_path / "ours.h5")
    assert not any("Keras itself" in note for note in saved.notes)
    assert contents(saved.path) == contents(kerass_own(target, tmp_path / "keras.h5"))


def test_more_names_than_an_attribute_holds_are_cut_as_keras_cuts_them(keras: Any,
                                                                       tmp_path: Path) -> None:
    vector = keras.Input((2,))
    names = [f"{index}_{'a_long_name_' * 60}" for index in range(100)]
    outputs = vector
    for name in names:
        outputs = keras.layers.Dense(2, name=name)(outputs)
    target = filled(keras.Model(vector, outputs))
    saved = save_model(target, tmp_path / "ours.h5")
    assert not any("Keras itself" in note for note in saved.notes)
    found = contents(saved.path)
    assert "layer_names1" in found["model_weights"]
    assert found == contents(kerass_own(target, tmp_path / "keras.h5"))


def test_a_layer_that_two_places_share_is_written_as_keras_writes_it(keras: Any,
                                                                     tmp_path: Path) -> None:
    vector = keras.Input((3,))
    shared = keras.layers.Dense(3, name="shared")
    inner = keras.Model(vector, shared(shared(vector)), name="inner")
    target = filled(keras.Model(vector, keras.layers.Dense(1, name="head")(inner(shared(vector)))))
    saved = save_model(target, tmp_path / "ours.h5")
    assert contents(saved.path) == contents(kerass_own(target, tmp_path / "keras.h5"))


def test_a_compiled_models_optimizer_is_kept(keras: Any, tmp_path: Path) -> None:
    vector = keras.Input((3,))
    model = keras.Model(vector, keras.layers.Dense(2, name="head")(vector))
    model.compile("sgd", "mse")
    model.train_on_batch(np.ones((1, 3), "float32"), np.ones((1, 2), "float32"))
    target = filled(model)
    found = contents(save_model(target, tmp_path / "ours.h5").path)
    assert "training_config" in found["/"]
    assert found == contents(kerass_own(target, tmp_path / "keras.h5"))


def test_keras_itself_writes_what_holds_much_beside_the_weights(
        keras: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vector = keras.Input((3,))
    model = keras.Model(vector, keras.layers.Dense(2, name="head")(vector))
    model.compile("adam", "mse")
    model.train_on_batch(np.ones((1, 3), "float32"), np.ones((1, 2), "float32"))
    target = filled(model)
    monkeypatch.setattr("keras_torch_convert.keras_io.layout_from_save.MOST_OTHER_BYTES", 8)
    saved = save_model(target, tmp_path / "model.h5")
    assert any(
        "Keras itself wrote the file" in note and "optimizer" in note for note in saved.notes)
    assert saved.size == saved.path.stat().st_size


def test_a_class_that_saves_in_its_own_way_is_left_to_it(keras: Any, tmp_path: Path) -> None:
    class Saving(keras.Sequential):
        def save(self, path: Any, *arguments: Any, **options: Any) -> Any:
            saved.append(str(path))
            return super().save(path, *arguments, **options)

    saved: list[str] = []
    target = filled(Saving([keras.Input((3,)), keras.layers.Dense(2, name="head")]))
    with pytest.raises(NoLayoutError, match="a way of its own"):
        layout_of_save(target)
    file = save_model(target, tmp_path / "model.h5")
    assert len(saved) == 1
    assert any("a way of its own" in note for note in file.notes)


def test_saving_twice_gives_the_same_bytes(keras: Any, tmp_path: Path) -> None:
    target = filled(models.nested(keras))
    first, second = (save_model(target, tmp_path / f"{name}.h5") for name in ("first", "second"))
    assert first.digests == second.digests
    assert first.path.read_bytes() == second.path.read_bytes()
