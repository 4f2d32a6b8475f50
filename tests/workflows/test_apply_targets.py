"""Files that are like others, in several parts, or without a head: templates, shards, and layers
left out by name.
"""

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
import pytest

import keras_torch_convert as ktc
from keras_torch_convert.errors import PlanError, SaveError, TransferError
from keras_torch_convert.keras_io import sharded, weights_file
from keras_torch_convert.plan.plan import Plan
from keras_torch_convert.util.values_at_offsets import checksum_of
from tests.helpers.small_models import TWO_BRANCHES_ALIGNED, keras_two_branches, torch_two_branches

# Shards of some hundred bytes, so that a layer's arrays lie in several of them.
SMALL_SHARDS = 3000 / sharded.GIGABYTE


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Path, Any]:
    """A Plan, the checkpoint that it was made from, and the Keras model with its weights."""
    import torch

    module, model = torch_two_branches(), keras_two_branches(keras)
    report = ktc.keras_reload_from_torch_model(module, model, tail_align_dict=TWO_BRANCHES_ALIGNED,
                                               do_predict=False, save_name="", verbose=0)
    path = tmp_path_factory.mktemp("pair") / "model.pth"
    torch.save(module.state_dict(), path)
    assert report.plan is not None
    return Plan.load(report.plan.save(path.with_name("model.plan.json"))), path, model


def saved(model: Any, path: Path) -> Path:
    """The model in a file of Keras's own making."""
    (model.save_weights if path.name.endswith((".weights.h5", ".weights.json")) else model.save)(
        str(path), **({"max_shard_size": SMALL_SHARDS} if path.suffix == ".json" else {}))
    return path


def assert_holds(path: Path, model: Any) -> None:
    fresh = keras_two_branches(keras)
    fresh.load_weights(str(path))
    for found, expected in zip(fresh.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)


class TestShards:
    def test_keras_loads_them_and_they_go_back_into_a_checkpoint(self, pair: Any,
                                                                 tmp_path: Path) -> None:
        from safetensors.torch import load_file

        plan, checkpoint, model = pair
        report = ktc.apply(plan, checkpoint, tmp_path / "model.weights.json",
                           max_shard_size=SMALL_SHARDS)
        names = weights_file.shard_names(report.path)
        assert len(names) > 3
        assert all(os.path.getsize(tmp_path / name) for name in names)
        assert_holds(report.path, model)
        ktc.apply(plan, report.path, tmp_path / "back.safetensors")
        back, whole = load_file(tmp_path / "back.safetensors"), ktc.read(checkpoint)
        assert all((back[name].numpy() == whole[name].read()).all() for name in back)

    def test_a_new_set_replaces_the_old_one_of_keras_and_leaves_none_of_its_files(
            self, pair: Any, tmp_path: Path) -> None:
        plan, checkpoint, model = pair
        old = saved(keras_two_branches(keras), tmp_path / "model.weights.json")
        before = set(weights_file.shard_names(old))
        first = ktc.apply(plan, checkpoint, old, max_shard_size=SMALL_SHARDS)
        assert_holds(old, model)
        listed = set(weights_file.shard_names(old))
        lock = f".{old.name}.lock"
        assert {path.name for path in tmp_path.iterdir()
               } == {*listed, old.name, "model_00000.weights.h5", lock}
        assert before & listed == set()
        second = ktc.apply(plan, checkpoint, old, max_shard_size=SMALL_SHARDS)
        assert first.md5 == second.md5

    @pytest.mark.parametrize("fails", ["_write_part", "_switch", "write_atomically"])
    def test_an_interrupt_leaves_the_old_set_and_nothing_else(self, pair: Any, tmp_path: Path,
                                                              monkeypatch: pytest.MonkeyPatch,
                                                              fails: str) -> None:
        plan, checkpoint, _ = pair
        other = keras_two_branches(keras)
        old = saved(other, tmp_path / "model.weights.json")
        before = {path.name for path in tmp_path.iterdir()}
        calls = []
        function = getattr(sharded, fails)

        def interrupted(*arguments: Any) -> Any:
            calls.append(arguments)
            if fails != "_write_part" or len(calls) == 3:
                raise KeyboardInterrupt
            return function(*arguments)

        monkeypatch.setattr(sharded, fails, interrupted)
        with pytest.raises(KeyboardInterrupt):
            ktc.apply(plan, checkpoint, old, max_shard_size=SMALL_SHARDS)
        assert {path.name for path in tmp_path.iterdir()} - {f".{old.name}.lock"} == before
        assert_holds(old, other)

    def test_the_index_tells_the_checksum_of_each_shard_and_the_digests_that_were_asked_for(
            self, pair: Any, tmp_path: Path) -> None:
        plan, checkpoint, _ = pair
        path = tmp_path / "model.weights.json"
        report = ktc.apply(plan, checkpoint, path, max_shard_size=SMALL_SHARDS)
        assert report.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert set(json.loads(path.read_text())["metadata"]) == {"checksum", "total_size"}
        for name, checksum in weights_file.checksums_of_shards(path).items():
            assert checksum_of(tmp_path / name) == checksum
        ktc.apply(plan, checkpoint, path, max_shard_size=SMALL_SHARDS, digests=("sha256",))
        stated = json.loads(path.read_text())["metadata"]
        assert set(stated) == {"checksum", "sha256", "total_size"}
        for name, digest in stated["sha256"].items():
            assert hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() == digest
        assert stated["sha256"].keys() == stated["checksum"].keys() == set(
            weights_file.shard_names(path))

    def test_what_does_not_go_together_is_refused(self, pair: Any, tmp_path: Path) -> None:
        plan, checkpoint, _ = pair
        with pytest.raises(SaveError, match=r"goes with a path that ends in \.weights\.json"):
            ktc.apply(plan, checkpoint, tmp_path / "model.h5", max_shard_size=1)
        with pytest.raises(SaveError, match=r"takes .* GB, more than max_shard_size"):
            ktc.apply(plan, checkpoint, tmp_path / "model.weights.json",
                      max_shard_size=SMALL_SHARDS / 100)
        with pytest.raises(SaveError, match="must be positive"):
            ktc.apply(plan, checkpoint, tmp_path / "model.weights.json", max_shard_size=0)
        assert list(tmp_path.iterdir()) == []


class TestTemplate:
    @pytest.mark.parametrize("known", [True, False])
    @pytest.mark.parametrize("suffix", [".h5", ".weights.h5", ".keras"])
    def test_it_serves_with_and_without_a_layout_of_the_plans_own(self, pair: Any, tmp_path: Path,
                                                                  suffix: str, known: bool) -> None:
        plan, checkpoint, model = pair
        template = saved(keras_two_branches(keras), tmp_path / f"old{suffix}")
        plan = plan if known else replace(plan, layout=None)
        report = ktc.apply(plan, checkpoint, tmp_path / f"new{suffix}", template=template)
        assert report.ok
        assert_holds(report.path, model)
        if suffix == ".keras":
            loaded = keras.models.load_model(report.path)
            assert [layer.name for layer in loaded.layers[1:]
                   ] == [layer.name for layer in model.layers[1:]]

    def test_one_of_tf_keras_gives_a_file_that_tf_keras_loads(self, pair: Any,
                                                              tmp_path: Path) -> None:
        tf_keras = pytest.importorskip("tf_keras")
        plan, checkpoint, model = pair
        template = tmp_path / "old.h5"
        keras_two_branches(tf_keras).save(str(template))
        report = ktc.apply(replace(plan, layout=None), checkpoint, tmp_path / "new.h5",
                           template=template)
        loaded = tf_keras.models.load_model(str(report.path))
        for found, expected in zip(loaded.get_weights(), model.get_weights(), strict=True):
            np.testing.assert_array_equal(found, expected)

    def test_shards_serve_one_file_and_one_file_serves_shards(self, pair: Any,
                                                              tmp_path: Path) -> None:
        plan, checkpoint, model = pair
        index = saved(keras_two_branches(keras), tmp_path / "old.weights.json")
        one = ktc.apply(plan, checkpoint, tmp_path / "new.weights.h5", template=index).path
        assert_holds(one, model)
        plan = replace(plan, layout=None)
        new = ktc.apply(plan, checkpoint, tmp_path / "new.weights.json", template=one,
                        max_shard_size=SMALL_SHARDS)
        assert_holds(new.path, model)
        again = ktc.apply(plan, checkpoint, tmp_path / "again.weights.h5", template=new.path)
        assert_holds(again.path, model)

    def test_one_of_another_model_or_kind_is_refused(self, pair: Any, tmp_path: Path) -> None:
        plan, checkpoint, _ = pair
        template = saved(keras_two_branches(keras, classes=7), tmp_path / "old.h5")
        with pytest.raises(SaveError,
                           match=r"'predictions/kernel' is \(8, 7\), expected \(8, 10\)"):
            ktc.apply(plan, checkpoint, tmp_path / "new.h5", template=template)
        with pytest.raises(SaveError, match=r"how a file like new\.weights\.h5 looks is not known"):
            ktc.apply(plan, checkpoint, tmp_path / "new.weights.h5",
                      template=saved(keras_two_branches(keras), tmp_path / "like.h5"))
        other = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(2)])
        with pytest.raises(SaveError, match=r"'stem_conv/kernel' is missing"):
            ktc.apply(plan, checkpoint, tmp_path / "new.h5",
                      template=saved(other, tmp_path / "other.h5"))
        (tmp_path / "text.h5").write_text("no file of Keras")
        with pytest.raises(SaveError, match="cannot be read as a Keras file"):
            ktc.apply(plan, checkpoint, tmp_path / "new.h5", template=tmp_path / "text.h5")


class TestAHeadOfAnotherClassCount:
    @pytest.fixture
    def seven_classes(self, tmp_path: Path) -> Path:
        import torch

        torch.save(torch_two_branches(classes=7).state_dict(), tmp_path / "seven.pth")
        return tmp_path / "seven.pth"

    def test_it_is_refused_with_the_difference(self, pair: Any, seven_classes: Path,
                                               tmp_path: Path) -> None:
        plan, _, _ = pair
        found = plan.difference(ktc.read(seven_classes))
        assert not found.fits
        assert [name for name, _, _ in found.shapes] == ["head.weight", "head.bias"]
        with pytest.raises(
                TransferError,
                match=r"2 differences(.|\n)*other shape: 'head\.weight' is \(7, 8\)") as caught:
            ktc.apply(plan, seven_classes, tmp_path / "new.h5")
        assert list(caught.value.problems) == str(found).splitlines()
        assert "without=['predictions']" in str(caught.value)

    def test_left_out_by_name_it_is_reported_and_holds_zeros(self, pair: Any, seven_classes: Path,
                                                             tmp_path: Path) -> None:
        plan, _, _ = pair
        report = ktc.apply(plan, seven_classes, tmp_path / "new.keras", without=["predictions"])
        assert report.ok
        assert any(
            "'predictions/kernel' is left out by name" in warning for warning in report.warnings)
        loaded = keras.models.load_model(report.path)
        assert not loaded.get_layer("predictions").get_weights()[0].any()
        assert loaded.get_layer("stem_conv").get_weights()[0].any()

    def test_a_template_gives_its_own_head(self, pair: Any, seven_classes: Path,
                                           tmp_path: Path) -> None:
        plan, _, _ = pair
        wanted = keras_two_branches(keras, classes=7)
        template = saved(wanted, tmp_path / "seven.weights.h5")
        report = ktc.apply(plan, seven_classes, tmp_path / "new.weights.h5", template=template,
                           without=["predictions"])
        fresh = keras_two_branches(keras, classes=7)
        fresh.load_weights(str(report.path))
        for name, same in (("predictions", True), ("stem_conv", False)):
            old, new = wanted.get_layer(name).get_weights()[0], fresh.get_layer(
                name).get_weights()[0]
            assert np.array_equal(old, new) is same


def test_a_plan_fits_checkpoints_with_and_without_counters(pair: Any, tmp_path: Path) -> None:
    import torch

    plan, checkpoint, _ = pair
    state = torch.load(checkpoint)
    without = {
        name: value for name, value in state.items() if not name.endswith("num_batches_tracked")
    }
    assert len(without) < len(state)
    torch.save(without, tmp_path / "without.pth")
    assert plan.difference(ktc.read(tmp_path / "without.pth")).fits
    first = ktc.apply(plan, checkpoint, tmp_path / "first.h5")
    assert ktc.apply(plan, tmp_path / "without.pth", tmp_path / "second.h5").md5 == first.md5


def test_a_checkpoint_in_several_files_serves(pair: Any, tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    plan, checkpoint, _ = pair
    tensors = {name: tensor.read().copy() for name, tensor in ktc.read(checkpoint).items()}
    weight_map = {
        name: f"model-0000{1 + number % 3}-of-00003.safetensors"
        for number, name in enumerate(tensors)
    }
    for part in set(weight_map.values()):
        save_file({name: tensors[name] for name in tensors if weight_map[name] == part},
                  tmp_path / part)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    first = ktc.apply(plan, checkpoint, tmp_path / "first.keras")
    assert ktc.apply(plan, index, tmp_path / "second.keras").md5 == first.md5


def test_the_way_of_a_plan_and_the_suffix_must_agree(pair: Any, tmp_path: Path) -> None:
    plan, checkpoint, model = pair
    with pytest.raises(PlanError, match="leads from Keras to torch"):
        ktc.apply(plan.invert(), checkpoint, tmp_path / "new.h5")
    file = saved(model, tmp_path / "model.h5")
    first = ktc.apply(plan, file, tmp_path / "a.safetensors")
    assert ktc.apply(plan.invert(), file, tmp_path / "b.safetensors").sha256 == first.sha256
    assert first.sha256 is not None
