"""Position tables at another resolution, only when asked, and heads for another number of classes;
tables of biases by relative position.
"""

import json
from pathlib import Path

import numpy as np
import pytest

import keras_torch_convert as ktc
from keras_torch_convert.errors import TransferError
from keras_torch_convert.plan.expressions.resampled import resampled_grid
from keras_torch_convert.rules import assign_layer
from tests.helpers.conversion import convert_by_hand, relative
from tests.helpers.small_models import keras_two_branches, torch_two_branches, values
from tests.helpers.transfer import layer, moved, source_of, stack_of

# What timm.layers.resample_abs_pos_embed made of the tables of `table`.
FROZEN = json.loads(
    (Path(__file__).parents[2] / "data" / "resampled_position_tables.json").read_text())["cases"]


def counted(*shape):
    """An array whose values are their own numbers, so that every misplaced one shows."""
    return np.arange(np.prod(shape), dtype="float32").reshape(shape)


def refusal(tensors, keras_layer):
    with pytest.raises(TransferError) as caught:
        assign_layer(stack_of(source_of(tensors)), keras_layer)
    return str(caught.value)


def table(rows, width=2):
    """Any numbers, the same in every run."""
    index = np.arange(rows * width, dtype="float32").reshape(1, rows, width)
    return np.sin(index * np.float32(1.7)) + np.float32(0.1) * np.cos(index * np.float32(0.3))


def vision_model(size=(48, 48), tokens=1, width=2, rows=None):
    """A model that only adds a position table to what it is given; patches are of 8 by 8."""
    import keras

    class Positions(keras.layers.Layer):
        def build(self, shape):
            count = rows or tokens + size[0] // 8 * (size[1] // 8)
            self.table = self.add_weight(shape=(1, count, width), name="pos_embed")

        def call(self, x):
            return x

    inputs = keras.Input((*size, 3))
    return keras.Model(inputs, Positions(name="positions")(inputs))


@pytest.mark.parametrize("case", FROZEN,
                         ids=lambda case: f"{case['mode']}-{case['prefix']}-{case['new_grid']}")
def test_the_table_is_that_of_timm(case):
    prefix, new_grid = case["prefix"], tuple(case["new_grid"])
    expected = np.array(case["values"], "float32").reshape(1, -1, 2)

    got = resampled_grid(table(16 + prefix), prefix, (4, 4), new_grid, case["mode"])

    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(got[:, :prefix], table(16 + prefix)[:, :prefix])


@pytest.mark.parametrize("mode", ["bicubic", "bilinear"])
@pytest.mark.parametrize(("old", "new"), [((14, 14), (24, 24)), ((24, 24), (14, 14)),
                                          ((7, 9), (16, 5)), ((3, 3), (1, 2))])
def test_any_grid_is_resized_as_torch_does(mode, old, new):
    import torch

    cells = np.random.default_rng(0).standard_normal((1, *old, 3)).astype("float32")
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(cells).permute(0, 3, 1, 2), size=new, mode=mode, antialias=True)

    got = resampled_grid(cells.reshape(1, -1, 3), 0, old, new, mode)

    assert relative(got.reshape(1, *new, 3), expected.permute(0, 2, 3, 1).numpy()) < 1e-5


@pytest.mark.parametrize(("tokens", "size", "grid"), [(0, (48, 48), (6, 6)), (1, (16, 16), (2, 2)),
                                                      (5, (48, 48), (6, 6)), (1, (32, 64), (4, 8))])
def test_the_grid_follows_the_picture_and_tokens_stay(tokens, size, grid):
    source = source_of({"pos_embed": table(tokens + 16)})
    model = vision_model(size, tokens)

    report = convert_by_hand(source, model, {"positions": "pos_embed"}, resize="bicubic")

    expected = resampled_grid(table(tokens + 16), tokens, (4, 4), grid, "bicubic")
    np.testing.assert_array_equal(model.get_weights()[0], expected)
    assert any(f"4 x 4 positions to {grid[0]} x {grid[1]}" in note for note in report.notes)


def test_columns_taken_for_rows_would_differ():
    source, model = source_of({"pos_embed": table(17)}), vision_model((32, 64))

    convert_by_hand(source, model, {"positions": "pos_embed"}, resize="bicubic")

    turned = resampled_grid(table(17), 1, (4, 4), (8, 4), "bicubic")
    assert relative(model.get_weights()[0], turned) > 1e-2


def test_nothing_is_resized_unless_asked_for_and_the_error_says_how():
    source, model = source_of({"pos_embed": table(17)}), vision_model()
    before = values(model)

    with pytest.raises(TransferError,
                       match=r"table of positions for another image size.*resize='bicubic'"):
        convert_by_hand(source, model, {"positions": "pos_embed"})

    np.testing.assert_array_equal(model.get_weights()[0], before[0])


def test_a_table_of_the_right_size_stays_as_it_is():
    source, model = source_of({"pos_embed": table(37)}), vision_model()

    convert_by_hand(source, model, {"positions": "pos_embed"}, resize="bilinear")

    np.testing.assert_array_equal(model.get_weights()[0], table(37))


def test_a_table_that_is_no_grid_is_refused_all_the_same():
    source, model = source_of({"pos_embed": table(17)}), vision_model(rows=60)

    with pytest.raises(TransferError, match="pos_embed"):
        convert_by_hand(source, model, {"positions": "pos_embed"}, resize="bicubic")


def test_an_unknown_way_to_resize_is_refused():
    with pytest.raises(TransferError, match="'bicubic' or 'bilinear', got 'nearest'"):
        convert_by_hand(source_of({"pos_embed": table(17)}), vision_model(),
                        {"positions": "pos_embed"}, resize="nearest")


def test_the_classic_function_and_convert_take_resize_as_well():
    import torch

    state = {"pos_embed": torch.from_numpy(table(17))}
    classic, plain = vision_model(), vision_model()

    ktc.keras_reload_from_torch_model(state, classic, save_name="", do_predict=False, verbose=0,
                                      resize="bilinear")
    ktc.convert(state, plain, resize="bilinear", accept_unproven=True)

    expected = resampled_grid(table(17), 1, (4, 4), (6, 6), "bilinear")
    np.testing.assert_array_equal(classic.get_weights()[0], expected)
    np.testing.assert_array_equal(plain.get_weights()[0], expected)


def test_a_live_module_tells_its_grid_and_its_tokens():
    import torch
    from torch import nn

    class Vision(nn.Module):
        num_prefix_tokens = 2

        def __init__(self):
            super().__init__()
            self.patch_embed = nn.Module()
            self.patch_embed.grid_size = (2, 8)
            self.pos_embed = nn.Parameter(torch.from_numpy(table(18)))

    model = vision_model((32, 64), 2)

    convert_by_hand(Vision(), model, {"positions": "pos_embed"}, resize="bicubic")

    np.testing.assert_array_equal(model.get_weights()[0],
                                  resampled_grid(table(18), 2, (2, 8), (4, 8), "bicubic"))


def test_a_head_for_other_classes_keeps_its_own_values():
    import keras

    module, model = torch_two_branches(10), keras_two_branches(keras, 7)
    own_head = model.get_layer("predictions").get_weights()

    report = ktc.keras_reload_from_torch_model(module, model, tail_align_dict={"shortcut_conv": -4},
                                               skip_layers=["head"], keep_layers=["predictions"],
                                               save_name="", do_predict=False, verbose=0)

    for kept, own in zip(model.get_layer("predictions").get_weights(), own_head, strict=True):
        np.testing.assert_array_equal(kept, own)
    np.testing.assert_array_equal(
        model.get_layer("stem_conv").get_weights()[1],
        module.stem.bias.detach().numpy())
    statuses = {entry.name: entry.status for entry in report.ledger}
    assert statuses["head.weight"] == "skipped"
    assert [status for name, status in statuses.items() if name.startswith("predictions")
           ] == ["kept", "kept"]


def test_a_head_for_other_classes_is_refused_unless_both_sides_excuse_it():
    import keras

    module, model = torch_two_branches(10), keras_two_branches(keras, 7)

    with pytest.raises(TransferError, match="head"):
        ktc.keras_reload_from_torch_model(module, model, tail_align_dict={"shortcut_conv": -4},
                                          save_name="", do_predict=False, verbose=0)


SWIN = "attn.relative_position_bias_table"


class TestRelativePositionTables:
    """25 offsets of a window of 3 by 3, 4 heads."""
    def table(self, keras_shape):
        return layer("bias", ("RelativeBias", "Layer"), {"positional_embedding": keras_shape})

    def values(self, name, torch_shape, keras_shape):
        return moved(source_of({name: counted(*torch_shape)}),
                     self.table(keras_shape))["positional_embedding"]

    def test_swin_table_as_it_stands(self):
        np.testing.assert_array_equal(self.values(SWIN, (25, 4), (25, 4)), counted(25, 4))

    def test_swin_table_with_heads_first(self):
        np.testing.assert_array_equal(self.values(SWIN, (25, 4), (4, 25)), counted(25, 4).T)

    def test_swin_table_with_rows_and_columns(self):
        np.testing.assert_array_equal(self.values(SWIN, (25, 4), (5, 5, 4)), counted(5, 5, 4))

    def test_swin_table_with_heads_before_rows_and_columns(self):
        np.testing.assert_array_equal(self.values(SWIN, (25, 4), (4, 5, 5)),
                                      counted(25, 4).T.reshape(4, 5, 5))

    def test_levit_biases_with_heads_last(self):
        np.testing.assert_array_equal(self.values("attn.attention_biases", (4, 25), (25, 4)),
                                      counted(4, 25).T)

    def test_neighborhood_table_with_rows_and_columns_as_one(self):
        np.testing.assert_array_equal(self.values("attn.rpb", (4, 5, 5), (4, 25)), counted(4, 25))

    def test_tables_of_heights_and_widths_go_by_their_names_and_are_turned(self):
        tables = {"a.width_rel": counted(23, 4), "a.height_rel": counted(23, 4) + 1}
        both = layer("halo", ("RelativePositionalEmbedding", "Layer"),
                     {"r_height": (4, 23), "r_width": (4, 23)})

        found = moved(source_of(tables), both)

        np.testing.assert_array_equal(found["r_height"], tables["a.height_rel"].T)
        np.testing.assert_array_equal(found["r_width"], tables["a.width_rel"].T)

    def test_a_table_that_fits_in_two_ways_is_refused(self):
        # 9 offsets of 3 heads would be (3, 3, 3) with the heads first or last.
        message = refusal({SWIN: counted(9, 3)}, self.table((3, 3, 3)))

        assert "additional_transfer={'bias': ...}" in message

    def test_a_square_table_is_moved_as_it_stands_and_the_doubt_is_told(self):
        (assignment,) = assign_layer(stack_of(source_of({SWIN: counted(9, 9)})), self.table((9, 9)))

        assert "only equal outputs can prove it" in assignment.doubt

    def test_a_table_of_another_name_is_not_transposed(self):
        message = refusal({"attn.my_table": counted(25, 4)}, self.table((4, 25)))

        assert "the axes are in another order" in message
        assert "move them with additional_transfer={'bias': ...}" in message

    def test_extra_offsets_of_a_class_token_do_not_fit_rows_and_columns(self):
        refusal({SWIN: counted(28, 4)}, self.table((5, 5, 4)))
