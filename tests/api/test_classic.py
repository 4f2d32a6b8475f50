"""The classic interface end to end, on small models: what is kept to the letter and what is an
error now.
"""

from __future__ import annotations

import copy
from pathlib import Path

import keras
import numpy as np
import pytest
import torch

import keras_torch_convert as ktc
from keras_torch_convert import (keras_reload_from_torch_model, keras_reload_stacked_state_dict,
                                 state_dict_stack_by_layer)
from tests.helpers.small_models import (TWO_BRANCHES_ALIGNED, keras_two_branches,
                                        largest_difference, randomized, same_values,
                                        torch_two_branches, values)

QUIET = {"save_name": "", "do_predict": False, "verbose": 0}


@pytest.fixture
def torch_model():
    return torch_two_branches()


@pytest.fixture
def keras_model():
    return keras_two_branches(keras)


def test_a_misaligned_model_is_aligned_by_one_tail_entry_and_computes_the_same(
        torch_model, keras_model):
    report = keras_reload_from_torch_model(torch_model, keras_model,
                                           tail_align_dict=TWO_BRANCHES_ALIGNED, **QUIET)
    assert largest_difference(torch_model, keras_model) < 1e-5
    assert report.ok


def test_arguments_may_be_given_by_position(torch_model, keras_model, tmp_path):
    path = tmp_path / "model.h5"
    skip, unstack = ["num_batches_tracked"], []
    keras_reload_from_torch_model(torch_model, keras_model, (16, 16), skip, unstack,
                                  TWO_BRANCHES_ALIGNED, {}, 2, {}, None, str(path), True, False, 0)
    assert largest_difference(torch_model, keras_model) < 1e-5
    assert path.exists()


def test_full_names_anchors_and_stages_align_as_well(torch_model, keras_model):
    stages = [{"stack1_block1_shortcut_conv": "stack1_block1_1_conv"},
              {"stack1_block2_shortcut_conv": -4}]
    keras_reload_from_torch_model(torch_model, keras_model, full_name_align_dict=stages,
                                  tail_split_position=[2, 2], **QUIET)
    assert largest_difference(torch_model, keras_model) < 1e-5


def test_a_match_function_decides_the_whole_order(torch_model, keras_model):
    names = [layer.name for layer in keras_model.layers if layer.weights]
    order = list(dict.fromkeys(name.split("_")[0] + (name + "_").split("_")[1] for name in names))

    def by_block(given):
        assert given == names
        return sorted(
            given, key=lambda name:
            (order.index(name.split("_")[0] + (name + "_").split("_")[1]), "shortcut" not in name))

    keras_reload_from_torch_model(torch_model, keras_model, specific_match_func=by_block, **QUIET)
    assert largest_difference(torch_model, keras_model) < 1e-5


def test_without_alignment_the_mismatch_is_an_error_that_lists_every_bad_pair_and_changes_nothing(
        torch_model, keras_model, tmp_path):
    before, weights = values(keras_model), copy.deepcopy(torch_model.state_dict())
    path = tmp_path / "model.h5"
    path.write_bytes(b"an older file")
    with pytest.raises(ktc.TransferError) as caught:
        keras_reload_from_torch_model(weights, keras_model, save_name=path, do_predict=False,
                                      verbose=0)
    assert len(caught.value.problems) >= 4
    assert "stack1_block1_1_conv" in str(caught.value)
    assert "block1.shortcut" in str(caught.value)
    assert "do_convert=False" in str(caught.value)
    assert same_values(before, values(keras_model))
    assert path.read_bytes() == b"an older file"
    assert all(
        torch.equal(tensor, weights[name]) for name, tensor in torch_model.state_dict().items())


def test_inspection_prints_both_lists_marks_the_first_mismatch_and_changes_nothing(
        torch_model, keras_model, capsys):
    before = values(keras_model)
    keras_reload_from_torch_model(torch_model, keras_model, do_convert=False)
    printed = capsys.readouterr().out
    assert "first misalignment" in printed
    assert "block1.shortcut" in printed
    assert "stack1_block1_1_conv" in printed
    assert same_values(before, values(keras_model))


def test_inspection_with_a_dictionary_shows_the_aligned_lists(torch_model, keras_model, capsys):
    keras_reload_from_torch_model(torch_model, keras_model, tail_align_dict=TWO_BRANCHES_ALIGNED,
                                  do_convert=False)
    printed = capsys.readouterr().out
    assert "every row fits" in printed


def test_without_a_keras_model_the_torch_side_is_listed(torch_model, capsys):
    report = keras_reload_from_torch_model(torch_model)
    printed = capsys.readouterr().out
    assert "block2.shortcut" in printed
    assert "(8,8,1,1)" in printed
    assert report.layer_table is not None


def test_more_torch_layers_than_keras_layers_is_an_error_naming_the_rest(torch_model, keras_model):
    weights = dict(torch_model.state_dict())
    weights["extra.weight"] = torch.zeros(3)
    with pytest.raises(ktc.AlignmentError, match=r"extra.*skip_layers"):
        keras_reload_from_torch_model(weights, keras_model, tail_align_dict=TWO_BRANCHES_ALIGNED,
                                      **QUIET)
    report = keras_reload_from_torch_model(weights, keras_model,
                                           tail_align_dict=TWO_BRANCHES_ALIGNED, skip_layers="ext*",
                                           **QUIET)
    assert [
        entry.name
        for entry in report.ledger if entry.status == "skipped" and "skip_layers" in entry.rule
    ] == ["extra.weight"]
    assert largest_difference(torch_model, keras_model) < 1e-5


def test_fewer_torch_layers_is_an_error_unless_the_keras_layer_is_meant_to_keep_its_values(
        torch_model, keras_model):
    headless = {
        name: value
        for name, value in torch_model.state_dict().items() if not name.startswith("head")
    }
    kept = values(keras_model)[-2:]
    with pytest.raises(ktc.AlignmentError, match=r"predictions.*keep_layers"):
        keras_reload_from_torch_model(headless, keras_model, tail_align_dict=TWO_BRANCHES_ALIGNED,
                                      **QUIET)
    report = keras_reload_from_torch_model(headless, keras_model,
                                           tail_align_dict=TWO_BRANCHES_ALIGNED,
                                           keep_layers="predictions", **QUIET)
    assert same_values(kept, values(keras_model)[-2:])
    assert sum(entry.status == "kept" for entry in report.ledger) == 2


def test_not_strict_goes_on_and_reports_what_is_left_over(torch_model, keras_model):
    headless = {
        name: value
        for name, value in torch_model.state_dict().items() if not name.startswith("head")
    }
    report = keras_reload_from_torch_model(headless, keras_model,
                                           tail_align_dict=TWO_BRANCHES_ALIGNED, strict=False,
                                           **QUIET)
    assert [entry.name for entry in report.ledger if entry.status == "unset"
           ] == ["predictions/kernel", "predictions/bias"]
    assert not report.ok


def test_every_tensor_and_every_variable_has_exactly_one_fate(torch_model, keras_model):
    report = keras_reload_from_torch_model(torch_model, keras_model,
                                           tail_align_dict=TWO_BRANCHES_ALIGNED, **QUIET)
    sources = [entry.name for entry in report.ledger if entry.side == "source"]
    assert sorted(sources) == sorted(torch_model.state_dict())
    assert len([entry for entry in report.ledger if entry.side == "target"]) == len(
        keras_model.weights)
    skipped = [entry for entry in report.ledger if entry.status == "skipped"]
    assert {entry.name.rsplit(".", 1)[1] for entry in skipped} == {"num_batches_tracked"}


def test_a_callback_gets_the_arrays_after_the_default_transform_by_name_ending_and_by_class(
        torch_model, keras_model):
    seen = []

    def ending(weights):
        seen.append(("ending", [weight.shape for weight in weights],
                     [weight.dtype.name for weight in weights]))
        weights[0] *= 0.0
        return weights

    def dense(weights):
        seen.append(("class", [weight.shape for weight in weights], []))
        return [weights[0] + 1.0, weights[1]]

    head = torch_model.state_dict()["head.weight"].clone()
    report = keras_reload_from_torch_model(
        torch_model, keras_model, tail_align_dict=TWO_BRANCHES_ALIGNED,
        additional_transfer={"predictions": ending, keras.layers.Dense: dense}, **QUIET)
    assert seen[:2] == [("ending", [(8, 10), (10,)], ["float32", "float32"]),
                        ("class", [(8, 10), (10,)], [])]
    kernel = keras_model.get_layer("predictions").get_weights()[0]
    assert (kernel == 1.0).all()
    assert torch.equal(torch_model.state_dict()["head.weight"], head)
    assert report.callback_hits == {"'predictions'": ("predictions",), "Dense": ("predictions",)}


def test_a_callback_key_that_hits_nothing_is_a_warning(torch_model, keras_model):
    report = keras_reload_from_torch_model(torch_model, keras_model,
                                           tail_align_dict=TWO_BRANCHES_ALIGNED,
                                           additional_transfer={"prediction_head": list}, **QUIET)
    assert any("prediction_head" in warning for warning in report.warnings)


def test_an_alignment_key_that_matches_no_layer_is_a_warning_with_the_nearest_name(
        torch_model, keras_model):
    tail = {**TWO_BRANCHES_ALIGNED, "shortcut_cnov": -4}
    report = keras_reload_from_torch_model(torch_model, keras_model, tail_align_dict=tail, **QUIET)
    assert any(
        "shortcut_cnov" in warning and "shortcut_conv" in warning for warning in report.warnings)


def test_a_raising_callback_keeps_its_type_and_leaves_everything_as_it_was(
        torch_model, keras_model, tmp_path):
    class Mine(Exception):
        pass

    def failing(weights):
        weights[0][...] = 7.0
        raise Mine("no")

    before, head = values(keras_model), torch_model.state_dict()["head.weight"].clone()
    path = tmp_path / "never.h5"
    with pytest.raises(Mine) as caught:
        keras_reload_from_torch_model(torch_model, keras_model,
                                      tail_align_dict=TWO_BRANCHES_ALIGNED,
                                      additional_transfer={"predictions": failing}, save_name=path,
                                      do_predict=False, verbose=0)
    assert any("predictions" in note for note in caught.value.__notes__)
    assert same_values(before, values(keras_model))
    assert torch.equal(torch_model.state_dict()["head.weight"], head)
    assert list(tmp_path.iterdir()) == []


def test_a_name_sorted_file_is_refused_by_order_and_converts_with_a_dictionary(
        torch_model, keras_model, tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "weights.safetensors"
    save_file({name: value.contiguous() for name, value in torch_model.state_dict().items()}, path)
    with pytest.raises(ktc.AlignmentError, match="sorted by name"):
        keras_reload_from_torch_model(path, keras_model, **QUIET)
    # natural order of the file: block1.bn1, block1.bn2, block1.conv1, block1.conv2,
    # block1.shortcut, ..., head, stem
    keras_reload_from_torch_model(
        path, keras_model, tail_align_dict={"1_bn": -1, "2_bn": -2},
        specific_match_func=lambda names: [*names[1:-1], names[-1], names[0]], **QUIET)
    assert largest_difference(torch_model, keras_model) < 1e-5


def test_the_default_file_is_named_after_the_model_and_loads_in_a_fresh_model(
        torch_model, keras_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report = keras_reload_from_torch_model(torch_model, keras_model,
                                           tail_align_dict=TWO_BRANCHES_ALIGNED, do_predict=False,
                                           verbose=0)
    assert report.path is not None
    assert report.path.name == "two_branches_imagenet.h5"
    fresh = keras_two_branches(keras)
    fresh.load_weights(report.path)
    assert largest_difference(torch_model, fresh) < 1e-5
    import hashlib

    assert report.md5 == hashlib.md5(report.path.read_bytes()).hexdigest()


def test_prediction_compares_both_models_by_number(torch_model, keras_model, capsys):
    report = keras_reload_from_torch_model(torch_model, keras_model,
                                           tail_align_dict=TWO_BRANCHES_ALIGNED, save_name="")
    assert report.equal is True
    assert report.relative_diff < 1e-5
    assert [index for index, *_ in report.torch_top] == [index for index, *_ in report.keras_top]
    assert "equal" in capsys.readouterr().out.splitlines()[-1]


def test_a_wrong_conversion_is_saved_and_the_last_line_says_that_outputs_differ(
        torch_model, keras_model, capsys, tmp_path):
    path = tmp_path / "wrong.weights.h5"
    report = keras_reload_from_torch_model(
        torch_model, keras_model, tail_align_dict=TWO_BRANCHES_ALIGNED,
        additional_transfer={"predictions": lambda weights: [weights[0] * 1.5, weights[1]]},
        save_name=path)
    assert report.equal is False
    assert not report.ok
    assert path.exists()
    assert "differ" in capsys.readouterr().out.splitlines()[-1]


def test_verbose_0_prints_nothing(torch_model, keras_model, capfd):
    keras_reload_from_torch_model(torch_model, keras_model, tail_align_dict=TWO_BRANCHES_ALIGNED,
                                  save_name="", verbose=0)
    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err == ""


def test_the_module_is_run_in_eval_mode_and_every_training_flag_put_back(torch_model, keras_model):
    torch_model.train()
    torch_model.block1.eval()
    flags = [module.training for module in torch_model.modules()]
    report = keras_reload_from_torch_model(torch_model, keras_model,
                                           tail_align_dict=TWO_BRANCHES_ALIGNED, save_name="",
                                           verbose=0)
    assert report.equal is True
    assert [module.training for module in torch_model.modules()] == flags


def test_a_checkpoint_converts_by_order_of_its_file_and_says_that_it_is_unproven(
        torch_model, keras_model, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(
        {
            "state_dict":
                {f"module.{name}": value for name, value in torch_model.state_dict().items()}
        }, path)
    report = keras_reload_from_torch_model(Path(path), keras_model,
                                           tail_align_dict=TWO_BRANCHES_ALIGNED, **QUIET)
    assert largest_difference(torch_model, keras_model) < 1e-5
    assert report.equal is None
    assert report.ok
    assert "unproven" in str(report).splitlines()[-1]


def test_stacked_weights_reload_into_named_layers_and_stay_as_they_were(torch_model, keras_model):
    stacked = state_dict_stack_by_layer(torch_model.state_dict())
    before = {layer: [array.copy() for array in arrays] for layer, arrays in stacked.items()}
    names = ktc.align_layer_names_multi_stage(
        [layer.name for layer in keras_model.layers if layer.weights], TWO_BRANCHES_ALIGNED, {}, 2,
        verbose=0)
    for _ in range(2):  # a second call with the same stacks does the same
        keras_reload_stacked_state_dict(keras_model, stacked, names, save_name="", verbose=0)
        assert largest_difference(torch_model, keras_model) < 1e-5
    assert all(same_values(before[layer], arrays) for layer, arrays in stacked.items())


def test_an_unknown_layer_name_is_an_error_with_the_nearest_names(torch_model, keras_model):
    stacked = state_dict_stack_by_layer(torch_model.state_dict())
    names = [layer.name for layer in keras_model.layers if layer.weights]
    names[-1] = "prediction"
    with pytest.raises(ktc.AlignmentError, match="predictions"):
        keras_reload_stacked_state_dict(keras_model, stacked, names, save_name="", verbose=0)


def test_a_layer_named_twice_is_an_error(torch_model, keras_model):
    stacked = state_dict_stack_by_layer(torch_model.state_dict())
    names = ktc.align_layer_names_multi_stage(
        [layer.name for layer in keras_model.layers if layer.weights], TWO_BRANCHES_ALIGNED, {}, 2,
        verbose=0)
    names[3] = names[2]
    with pytest.raises(ktc.AlignmentError, match="more than once"):
        keras_reload_stacked_state_dict(keras_model, stacked, names, save_name="", verbose=0)


def test_a_plan_by_hand_goes_through_the_same_executor(torch_model, keras_model):
    mapping = {"stem_conv": "stem", "predictions": "head"}
    for block in ("block1", "block2"):
        mapping |= {
            f"stack1_{block}_1_conv": f"{block}.conv1", f"stack1_{block}_1_bn": f"{block}.bn1",
            f"stack1_{block}_2_conv": f"{block}.conv2", f"stack1_{block}_2_bn": f"{block}.bn2",
            f"stack1_{block}_shortcut_conv": f"{block}.shortcut"
        }
    plan = ktc.align(torch_model, keras_model, mapping=mapping)
    report = ktc.convert(torch_model, keras_model, plan=plan)
    assert largest_difference(torch_model, keras_model) < 1e-5
    assert report.equal is True


def test_empty_weights_are_an_error(keras_model):
    with pytest.raises(ktc.SourceError):
        keras_reload_from_torch_model({}, keras_model, **QUIET)


def test_an_unwritable_place_is_refused_before_anything_changes(torch_model, keras_model, tmp_path):
    before = values(keras_model)
    for path in (tmp_path / "nowhere" / "model.h5", tmp_path, tmp_path / "model.weights"):
        with pytest.raises(ktc.SaveError):
            keras_reload_from_torch_model(torch_model, keras_model,
                                          tail_align_dict=TWO_BRANCHES_ALIGNED, save_name=path,
                                          do_predict=False, verbose=0)
    assert same_values(before, values(keras_model))


def test_values_beyond_float32_are_refused_and_counted(torch_model, keras_model):
    weights = {
        name: value.double() if value.is_floating_point() else value
        for name, value in torch_model.state_dict().items()
    }
    weights["head.weight"] = weights["head.weight"].clone()
    weights["head.weight"][0, :3] = 1e300
    before = values(keras_model)
    with pytest.raises(ktc.TransferError, match=r"3 of 80"):
        keras_reload_from_torch_model(weights, keras_model, tail_align_dict=TWO_BRANCHES_ALIGNED,
                                      **QUIET)
    assert same_values(before, values(keras_model))


def test_bfloat16_weights_arrive_without_loss(torch_model, keras_model):
    half = copy.deepcopy(torch_model).bfloat16()
    keras_reload_from_torch_model(half.state_dict(), keras_model,
                                  tail_align_dict=TWO_BRANCHES_ALIGNED, **QUIET)
    kernel = keras_model.get_layer("predictions").get_weights()[0]
    assert np.array_equal(kernel, half.state_dict()["head.weight"].float().numpy().T)


def test_a_mistyped_rescaling_or_picture_is_refused_before_anything_changes(
        torch_model, keras_model):
    before = values(keras_model)
    arguments = {"tail_align_dict": TWO_BRANCHES_ALIGNED, "save_name": "", "verbose": 0}
    with pytest.raises(ValueError, match="lite"):
        keras_reload_from_torch_model(torch_model, keras_model, **arguments, rescale_mode="lit")
    with pytest.raises(ktc.PredictionError, match="no_cat"):
        keras_reload_from_torch_model(torch_model, keras_model, **arguments, image="no_cat.png")
    assert same_values(before, values(keras_model))


def torch_with_inner_net():
    net = torch.nn.Sequential(torch.nn.Linear(6, 5),
                              torch.nn.Sequential(torch.nn.Linear(5, 5), torch.nn.LayerNorm(5)),
                              torch.nn.Linear(5, 3))
    return randomized(net)


def keras_with_inner_net():
    inner = keras.Sequential([
        keras.layers.Dense(5, name="mix"),
        keras.layers.LayerNormalization(epsilon=1e-5, name="norm")
    ], name="inner")
    net = keras.Sequential([
        keras.layers.Input((6,)),
        keras.layers.Dense(5, name="first"), inner,
        keras.layers.Dense(3, name="last")
    ])
    net.build((None, 6))
    return net


def test_the_leaves_of_a_nested_model_are_listed_below_it_and_are_places_only_when_expanded(capsys):
    torch_net, keras_net = torch_with_inner_net(), keras_with_inner_net()
    with pytest.raises(ktc.AlignmentError, match="4 torch layers for 3 Keras layers"):
        keras_reload_from_torch_model(torch_net.state_dict(), keras_net, **QUIET)
    layer_table = keras_reload_from_torch_model(torch_net, keras_net, do_convert=False,
                                                verbose=0).layer_table
    shown = [(row.position, row.keras.name) for row in layer_table.rows if row.keras]
    assert shown == [(0, "first"), (1, "inner"), (None, "mix"), (None, "norm"), (2, "last")]
    report = keras_reload_from_torch_model(torch_net, keras_net, expand_nested=True, save_name="",
                                           verbose=0)
    assert report.equal is True
    assert list(report.plan.pairs) == [("0", "first"), ("1.0", "inner/mix"), ("1.1", "inner/norm"),
                                       ("2", "last")]
    assert capsys.readouterr().out == ""


def test_a_channels_first_model_converts_and_predicts_alike(torch_model):
    layers = keras.layers
    inputs = layers.Input((3, 16, 16))
    x = layers.Conv2D(8, 3, padding="same", data_format="channels_first", name="stem")(inputs)
    x = layers.BatchNormalization(axis=1, epsilon=1e-5, name="norm")(x)
    x = layers.GlobalAveragePooling2D(data_format="channels_first")(x)
    keras_net = keras.Model(inputs, layers.Dense(10, name="head")(x))
    torch_net = randomized(
        torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.BatchNorm2d(8),
                            torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
                            torch.nn.Linear(8, 10)))
    report = keras_reload_from_torch_model(torch_net, keras_net, save_name="", verbose=0)
    assert report.equal is True
