"""What stands in the HTML page: lines along the weights, the fewest moves, what is proved; and
nothing from outside.
"""

import json
import random
import re
from collections import namedtuple
from itertools import combinations, pairwise

import pytest

from keras_torch_convert.comparison.verdict import Comparison
from keras_torch_convert.plan.expressions import Tensor
from keras_torch_convert.plan.ledger import LedgerEntry
from keras_torch_convert.plan.plan import Plan
from keras_torch_convert.plan.recipe import Assignment
from keras_torch_convert.report.layer_table import side_by_side
from keras_torch_convert.report.page import moved_lines, page, page_data
from keras_torch_convert.report.report import Report
from keras_torch_convert.spec.tensor_spec import TensorSpec


def pair(torch_name, keras_name, shape=(4,)):
    return (LedgerEntry("source", torch_name, shape, "float32", 4, "used", "as it stands",
                        keras_name),
            LedgerEntry("target", keras_name, shape, "float32", 4, "set", "as it stands",
                        torch_name))


def made(*pairs, rest=(), **about):
    """A report with these pairs, the torch side in their order, the Keras side as `keras_order`
    says.
    """
    sources = [one for one, _ in pairs]
    targets = sorted((two for _, two in pairs), key=lambda entry: entry.name)
    return Report("module Net", "net", ledger=(*sources, *targets, *rest), **about)


def names(data, side):
    return [layer[0] for layer in data["layers"][side]]


def test_lines_follow_the_weights_and_the_fewest_layers_are_moved():
    data = page_data(
        made(pair("x.weight", "a/kernel"), pair("y.weight", "c/kernel"),
             pair("z.weight", "b/kernel")))

    assert names(data, 0) == ["x", "y", "z"]
    assert names(data, 1) == ["a", "b", "c"]
    assert sorted((left, right) for left, right, _ in data["lines"]) == [(0, 0), (1, 2), (2, 1)]
    assert sum(moved for _, _, moved in data["lines"]) == 1


def test_moved_lines_are_the_fewest_whose_removal_leaves_no_crossing():
    generator = random.Random(5)
    for _ in range(200):
        count = generator.randint(0, 7)
        lines = list({(generator.randint(0, 5), generator.randint(0, 5)) for _ in range(count)})

        moved = moved_lines(lines)

        kept = [line for line, out in zip(lines, moved, strict=True) if not out]
        assert in_order(kept)
        most = max(
            size for size in range(len(lines) + 1) if any(map(in_order, combinations(lines, size))))
        assert len(kept) == most


def in_order(lines):
    ordered = sorted(lines)
    return all(one[1] <= two[1] for one, two in pairwise(ordered))


def test_a_variable_of_several_tensors_has_a_line_to_each():
    entries = (LedgerEntry("source", "q.weight", (4,), "float32", 4, "used", "", "qkv/kernel"),
               LedgerEntry("source", "k.weight", (4,), "float32", 4, "used", "", "qkv/kernel"),
               LedgerEntry("target", "qkv/kernel", (8,), "float32", 8, "set", "",
                           "q.weight, k.weight"))

    data = page_data(Report(ledger=entries))

    assert data["lines"] == [[0, 0, False], [1, 0, False]]


def test_proof_of_a_weight_and_of_its_layer():
    assignments = (Assignment("place-d", Tensor("d.weight"), "rule",
                              doubt="a square kernel fits both ways"),)
    plan = Plan(assignments, targets={"place-d": TensorSpec((4,), "float32", "d/kernel")})
    report = made(
        pair("a.weight", "a/kernel"), pair("d.weight", "d/kernel"), pair("d.bias", "d/bias"),
        rest=(LedgerEntry("source", "aux.weight", (4,), "float32", 4, "left over"),
              LedgerEntry("target", "kept/kernel", (4,), "float32", 4, "kept",
                          "keep_layers")), evidence={"a/kernel": "told by input and output"},
        plan=plan, comparison=Comparison("equal"))

    data = page_data(report)

    proofs = {layer[0]: layer[3] for layer in data["layers"][1]}
    assert proofs == {"a": "output", "d": "doubt", "kept": "excused"}
    entries = {entry[1]: entry for entry in data["ledger"]}
    assert entries["d/bias"][8] == "model"
    assert entries["d/kernel"][10] == "a square kernel fits both ways"
    assert entries["d.weight"][8] == "doubt"
    assert entries["aux.weight"][8] == "missing"


def test_without_a_proof_the_shapes_are_all_there_is():
    data = page_data(made(pair("a.weight", "a/kernel")))

    assert data["layers"][1][0][3] == "shape"
    assert data["state"] == "open"


def test_a_pairing_without_proof_is_as_good_as_its_confidence():
    report = made(pair("a.weight", "a/kernel"), pair("b.weight", "b/kernel"),
                  confidence={"a/kernel": 0.97, "b/kernel": 0.6})

    assert [layer[3] for layer in page_data(report)["layers"][1]] == ["shape", "doubt"]


def test_lists_that_were_only_looked_at_show_their_mismatches():
    Array, TorchLayer, Layer = (namedtuple("Array",
                                           "shape name"), namedtuple("TorchLayer", "name tensors"),
                                namedtuple("Layer", "name class_names variables children"))
    stacks = [
        TorchLayer("one", [Array((2, 3), "weight")]),
        TorchLayer("two", [Array((4,), "weight")])
    ]
    layers = [
        Layer("first", ("Dense",), [Array((3, 2), "weight")], ()),
        Layer("second", ("Dense",), [Array((5,), "weight")], ())
    ]

    data = page_data(Report(layer_table=side_by_side(stacks, layers)))

    assert data["state"] == "bad"
    assert data["lines"] == [[0, 0, False], [1, 1, False]]
    assert "cannot fit" in data["layers"][1][1][5]


@pytest.mark.parametrize(
    "name", ["</script><script>alert(1)</script>", "<!--DATA-->", "a & b \u2028 \U0001f600"])
def test_names_are_data_never_part_of_the_page(name):
    html = page(made(pair(f"{name}.weight", "a/kernel"), warnings=(name,), alignment=name))

    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', html,
                     re.DOTALL)[1]
    assert json.loads(data)["warnings"] == [name]
    assert html.count("</script>") == 2


def test_page_needs_nothing_from_outside(tmp_path):
    path = made(pair("a.weight", "a/kernel")).to_html(tmp_path / "report.html")

    html = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
    assert not re.findall(r"""https?:|<link|@import|url\(|\bsrc\s*=|fetch\(|XMLHttpRequest""", html)
