"""Torch layers beside Keras layers: what stands where, and where the first mismatch is."""

from collections import namedtuple

from keras_torch_convert.report.layer_table import side_by_side

Array = namedtuple("Array", "shape name", defaults=["weight"])
TorchLayer = namedtuple("TorchLayer", "name tensors")
Layer = namedtuple("Layer", "name class_names variables children")


def stack(name, *shapes):
    return TorchLayer(name, [Array(shape) for shape in shapes])


def layer(name, kind, *shapes, children=()):
    return Layer(name, (kind, "Layer"), [Array(shape) for shape in shapes], children)


STACKS = [
    stack("conv1", (64, 3, 7, 7)),
    stack("bn1", (64,), (64,), (64,), (64,)),
    stack("downsample.0", (256, 64, 1, 1)),
    stack("conv2", (64, 1, 3, 3), (64,)),
    stack("fc", (10, 64), (10,))
]
LAYERS = [
    layer("stem_conv", "Conv2D", (7, 7, 3, 64)),
    layer("stem_bn", "BatchNormalization", (64,), (64,), (64,), (64,)),
    layer("depthwise", "DepthwiseConv2D", (3, 3, 32, 2), (64,)),
    layer("shortcut", "Conv2D", (1, 1, 64, 256)),
    layer("predictions", "Dense", (64, 10), (10,))
]
ALIGNED = ["stem_conv", "stem_bn", "shortcut", "depthwise", "predictions"]


def test_both_lists_stand_in_pairs_with_shapes_and_sizes():
    text = side_by_side(STACKS, LAYERS, ALIGNED).text(120)

    lines = text.splitlines()
    assert lines[2].split() == [
        "0", "conv1", "(64,3,7,7)", "9,408", "|", "stem_conv", "(7,7,3,64)", "9,408"
    ]
    assert lines[3].split() == ["1", "bn1", "4x(64)", "256", "|", "stem_bn", "4x(64)", "256"]
    assert lines[6].split() == [
        "4", "fc", "(10,64)", "(10)", "650", "|", "predictions", "(64,10)", "(10)", "650"
    ]
    assert lines[-1] == (
        "torch: 5 layers, 10 arrays, 27,338 parameters; Keras: 5 layers, 10 arrays, 27,338 "
        "parameters; every row fits")


def test_tensors_above_all_layers_go_by_their_own_names():
    text = side_by_side([TorchLayer("", [Array((1, 8), "cls_token")])], []).text(120)

    assert text.splitlines()[2].split()[:2] == ["!", "0"]
    assert text.splitlines()[2].split()[2] == "cls_token"


def test_first_row_that_cannot_fit_is_marked_and_explained():
    layer_table = side_by_side(STACKS, LAYERS)

    marked = [line for line in layer_table.text(140).splitlines() if line.startswith("!")]
    assert [line.split()[1:3] for line in marked] == [["2", "downsample.0"], ["3", "conv2"]]
    assert layer_table.first_mismatch.position == 2
    assert ("    <- first misalignment: torch 'downsample.0' (256,64,1,1) cannot fit Keras "
            "'depthwise' (3,3,32,2) (64): "
            "number of arrays 1 against 2") in layer_table.text(140).splitlines()
    assert layer_table.text(140).count("first misalignment") == 1
    assert layer_table.totals().endswith("2 of 5 rows do not fit")


def test_transposes_axes_of_size_one_and_merged_depthwise_channels_fit():
    torch_side = [stack("a", (8, 4, 3, 3)), stack("b", (1, 5, 1)), stack("c", (6, 1, 3, 3))]
    keras_side = [
        layer("a", "Conv2D", (3, 3, 4, 8)),
        layer("b", "PReLU", (5,)),
        layer("c", "DepthwiseConv2D", (3, 3, 3, 2))
    ]

    assert side_by_side(torch_side, keras_side).mismatches == 0


def test_equal_sizes_of_other_extents_do_not_fit():
    layer_table = side_by_side([stack("fc", (6, 4))], [layer("dense", "Dense", (8, 3))])

    assert layer_table.mismatches == 1


def test_layers_hit_by_a_callback_are_taken_to_fit():
    layer_table = side_by_side([stack("table", (49, 4))], [layer("bias", "Bias", (7, 7, 4))],
                               by_callback=["bias"])

    assert layer_table.mismatches == 0


def test_caller_can_decide_what_fits():
    refusal = side_by_side(
        STACKS[:1], LAYERS[:1],
        fit=lambda torch_layer, layer: f"{torch_layer.name} is not for {layer.name}")

    assert refusal.first_mismatch.mismatch == "conv1 is not for stem_conv"


def test_torch_layer_without_a_partner_is_the_misalignment_when_all_before_fit():
    layer_table = side_by_side([*STACKS, stack("extra", (3,))], LAYERS, ALIGNED)

    assert layer_table.first_mismatch.position == 5
    expected = "the Keras layers are used up: none is left for the torch layer 'extra'"
    assert layer_table.first_mismatch.mismatch == expected


def test_keras_layer_without_a_partner_is_the_misalignment_when_all_before_fit():
    layer_table = side_by_side(STACKS[:-1], LAYERS, ALIGNED)

    assert (layer_table.first_mismatch.mismatch ==
            "the torch layers are used up: none is left for the Keras layer 'predictions'")


def test_name_that_the_model_lacks_is_a_misalignment():
    assert side_by_side(
        STACKS[:1], LAYERS,
        ["stem"]).first_mismatch.mismatch == ("there is no Keras layer with weights named 'stem'")
    assert side_by_side(STACKS[:1], LAYERS,
                        [""]).first_mismatch.mismatch == "no Keras layer is named for this place"


def test_leaves_of_a_nested_layer_are_indented_under_it_and_are_no_places():
    leaves = [
        layer("inner_conv", "Conv2D", (3, 3, 1, 2)),
        layer("inner_bn", "BatchNormalization", (2,), (2,))
    ]
    nested = layer("block", "Sequential", (3, 3, 1, 2), (2,), (2,), children=leaves)
    layer_table = side_by_side([stack("a", (2, 1, 3, 3), (2,),
                                      (2,)), stack("b", (5,))],
                               [nested, layer("last", "Scale", (5,))])

    rows = layer_table.text(120).splitlines()[2:6]
    assert [row.split("|")[1].split()[0] for row in rows
           ] == ["block", "inner_conv", "inner_bn", "last"]
    assert rows[1].split("|")[1].startswith("   inner_conv")
    assert [row.position for row in layer_table.rows] == [0, None, None, 1]
    assert "Keras: 2 layers, 4 arrays, 27 parameters" in layer_table.totals()


def test_without_a_keras_model_the_torch_side_stands_alone():
    text = side_by_side(STACKS).text(120)

    assert "Keras" not in text
    assert text.splitlines()[2].split() == ["0", "conv1", "(64,3,7,7)", "9,408"]
    assert text.splitlines()[-1] == "torch: 5 layers, 10 arrays, 27,338 parameters"


def test_long_names_lose_their_middle_so_that_lines_fit_the_window():
    name = "backbone.stages.3.blocks.11.attention.output.projection"
    torch_side = [
        stack(name, (8, 8)),
        stack("b", *[(3, 4)] * 2, *[(4, 3)] * 2, *[(12,)] * 7, (5,), (6,), (7,))
    ]
    keras_side = [layer(name.replace(".", "_"), "Dense", (8, 8))]

    for width in (60, 80, 100):
        lines = side_by_side(torch_side, keras_side).text(width).splitlines()
        table = [line for line in lines if "|" in line]
        assert len(table) == 3
        assert max(map(len, table)) <= width
    assert "..." in lines[2]
    assert lines[2].split()[1].startswith("backbone")
    assert lines[2].split()[1].endswith("projection")
    assert name in side_by_side(torch_side, keras_side).text(250)


def test_columns_are_left_out_before_names_are_cut():
    torch_side = [stack("backbone.stages.3.blocks.11.attention", (256, 64, 1, 1))]
    keras_side = [layer("stack4_block12_attention", "Conv2D", (1, 1, 64, 256))]
    table = side_by_side(torch_side, keras_side)

    def header(width):
        assert max(map(len, table.text(width).splitlines()[:3])) <= width
        assert torch_side[0].name in table.text(width)
        assert keras_side[0].name in table.text(width)
        return table.text(width).splitlines()[0].split()

    names = ["torch", "layer", "|", "Keras", "layer"]
    assert header(130) == [
        "torch", "layer", "shapes", "size", "|", "Keras", "layer", "shapes", "size"
    ]
    assert header(105) == ["torch", "layer", "shapes", "|", "Keras", "layer", "shapes"]
    assert header(80) == names
    assert "backbo...ention" not in table.text(80)


def test_the_first_row_that_does_not_fit_is_repeated_behind_a_long_table():
    torch_side = [stack(f"layer{number}", (number + 2,)) for number in range(40)]
    keras_side = [layer(f"keras{number}", "Scale", (number + 2,)) for number in range(40)]
    torch_side[3] = stack("odd", (7, 7))

    lines = side_by_side(torch_side, keras_side).text(160).splitlines()

    assert next(line for line in lines if "odd" in line) == lines[5]
    assert lines[-4] == lines[5]
    assert lines[-3].startswith("    <- first misalignment: torch 'odd'")
    assert lines[-1].endswith("1 of 40 rows do not fit")


def test_tensors_stand_below_their_layers_when_asked_for():
    norm = TorchLayer("bn", [Array((4,), "bn.weight"), Array((4,), "bn.bias")])
    table = side_by_side([norm], [layer("norm", "Scale", (4,), (4,))])

    rows = table.text(100, tensors=True).splitlines()[2:-2]

    assert [row.split() for row in rows] == [["0", "bn", "2x(4)", "8", "|", "norm", "2x(4)", "8"],
                                             ["weight", "(4)", "4", "|", "weight", "(4)", "4"],
                                             ["bias", "(4)", "4", "|", "weight", "(4)", "4"]]


def test_an_interactive_session_shows_colors_on_a_terminal_only(monkeypatch):
    table = side_by_side(STACKS, LAYERS)

    assert "\x1b" not in repr(table)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[31m! 2  downsample.0" in repr(table)
    assert "\x1b" not in str(table)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in repr(table)


def test_width_of_the_terminal_is_used(monkeypatch):
    monkeypatch.setenv("COLUMNS", "72")
    lines = str(side_by_side(STACKS, LAYERS)).splitlines()

    assert max(len(line) for line in lines) <= 72


def test_three_hundred_layers_stay_one_line_each():
    torch_side = [stack(f"layer{number}", (number + 1,)) for number in range(300)]
    keras_side = [layer(f"keras{number}", "Scale", (number + 1,)) for number in range(300)]

    assert len(side_by_side(torch_side, keras_side).text(100).splitlines()) == 300 + 5


def test_notebook_shows_every_row_and_escapes_names():
    html = side_by_side([stack("<b>", (1,)), stack("b", (2,))], [layer("x&y", "Scale",
                                                                       (3,))])._repr_html_()

    assert "&lt;b&gt;" in html
    assert "x&amp;y" in html
    assert html.count("first misalignment") == 1
    assert "<script" not in html


def test_notebook_stays_small_and_shows_the_first_mismatch_of_a_long_table():
    torch_side = [stack(f"stage{number}.block.conv", (number + 2, 3)) for number in range(2000)]
    keras_side = [layer(f"keras{number}", "Scale", (3, number + 2)) for number in range(2000)]
    torch_side[1000] = stack("odd", (7, 7))

    html = side_by_side(torch_side, keras_side)._repr_html_()

    assert len(html) < 100_000
    assert ">odd<" in html
    assert "stage1999.block.conv" in html
    assert html.count("rows: print this table to see them all") == 2


def test_rows_are_plain_data_for_json():
    rows = side_by_side(STACKS[:1], LAYERS[:1]).to_list()

    assert rows == [{
        "position": 0, "torch": {
            "name": "conv1", "shapes": [[64, 3, 7, 7]], "arrays": ["weight"], "parameters": 9408
        }, "keras": {
            "name": "stem_conv", "shapes": [[7, 7, 3, 64]], "arrays": ["weight"], "parameters": 9408
        }, "mismatch": ""
    }]
