"""Models of collections by their names; without the collection, an error says what to install."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

import pytest

from keras_torch_convert.cli.main import InputError, main
from keras_torch_convert.cli.zoos import ZOOS, model_of_zoo, zoo_of

# A model of each collection that is made without a network, in its smallest form.
SMALL: dict[str, tuple[str, dict[str, Any]]] = {
    "timm": ("mobilenetv3_small_050", {"num_classes": 3}),
    "torchvision": ("squeezenet1_1", {"num_classes": 3}),
    "hf": ("bert", {"num_hidden_layers": 1, "hidden_size": 24, "vocab_size": 9,
                    "intermediate_size": 8}),
    "keras.applications": ("MobileNet", {"alpha": 0.25, "classes": 3}),
    "kimm": ("MobileNetV3W050Small", {"classes": 3}),
}  # yapf: disable
HEAVY = {"timm": "timm", "torchvision": "torchvision", "hf": "transformers", "kimm": "kimm"}


def installed(prefix: str) -> None:
    if prefix in HEAVY and importlib.util.find_spec(HEAVY[prefix]) is None:
        pytest.skip(f"{HEAVY[prefix]} is not installed")


@pytest.mark.parametrize("prefix", SMALL)
def test_a_model_is_made_with_random_weights(prefix: str) -> None:
    installed(prefix)
    name, arguments = SMALL[prefix]

    model = model_of_zoo(f"{prefix}:{name}", False, arguments)

    weights = model.state_dict() if hasattr(model, "state_dict") else model.weights
    assert len(weights) > 10


@pytest.mark.parametrize(("name", "message"), [
    ("keras.applications:MobileNetV22", "keras has no model 'MobileNetV22'; did you mean 'MobileN"),
    ("kimm:ResNet5", "kimm has no model 'ResNet5'; did you mean 'ResNet50'"),
    ("timm:resnet1", "timm has no model 'resnet1'; did you mean 'resnet18'"),
    ("torchvision:resnet5", "torchvision has no model 'resnet5'; did you mean 'resnet50'"),
    ("hf:bertt", "there is no type 'bertt'; did you mean 'bert'"),
])  # yapf: disable
def test_an_unknown_name_is_refused_with_those_alike(name: str, message: str) -> None:
    installed(zoo_of(name))
    with pytest.raises(InputError) as caught:
        model_of_zoo(name, False, {})
    assert message in str(caught.value)


def test_arguments_that_do_not_fit_are_repeated() -> None:
    with pytest.raises(InputError, match=r"MobileNet \(alpha='thin'\) cannot be made: "):
        model_of_zoo("keras.applications:MobileNet", False, {"alpha": "thin"})


@pytest.mark.parametrize("prefix", ["timm", "torchvision", "hf", "keras-hub", "kimm"])
def test_a_collection_that_is_missing_is_named(prefix: str, monkeypatch: pytest.MonkeyPatch,
                                               capsys: pytest.CaptureFixture[str]) -> None:
    # What import does for a package that is not there, whether it is or not.
    monkeypatch.delitem(sys.modules, ZOOS[prefix].module, raising=False)
    monkeypatch.setitem(sys.modules, ZOOS[prefix].module.partition(".")[0], None)

    assert main(["inspect", f"{prefix}:anything"]) == 3
    assert f"pip install {ZOOS[prefix].package}" in capsys.readouterr().err


def test_a_misspelled_collection_is_corrected(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "tim:resnet18.a1_in1k"]) == 3
    assert "did you mean 'timm' or 'kimm'?" in capsys.readouterr().err


@pytest.mark.parametrize(("command", "options", "published"), [
    ("convert", [], [True, False]), ("convert", ["--random-weights"], [False, False]),
    ("align", [], [False, False]), ("verify", [], [True, True]),
    ("verify", ["--random-weights"], [False, False]),
])  # yapf: disable
def test_only_weights_that_are_used_are_downloaded(command: str, options: list[str],
                                                   published: list[bool],
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    from torch import nn

    asked = []

    def made(module: Any, name: str, weights: bool, arguments: Any) -> Any:
        asked.append(weights)
        return nn.Linear(2, 2)

    monkeypatch.setitem(ZOOS, "torch", ZOOS["timm"]._replace(module="torch", names=None, make=made))

    # The second model is no Keras model: the command ends there.
    assert main([command, "torch:one", "torch:two", *options]) == 2
    assert asked == published


def test_a_whole_conversion_is_one_line(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    installed("timm")
    installed("kimm")
    file = str(tmp_path / "model.h5")
    code = main(["convert", "timm:resnet18", "kimm:ResNet18", "--random-weights", "-o", file])
    assert code == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("outputs are equal")


def test_a_name_of_the_hub_without_an_owner_is_no_type(monkeypatch: pytest.MonkeyPatch) -> None:
    installed("hf")
    import transformers

    asked: list[str] = []

    def from_pretrained(name: str) -> object:
        asked.append(name)
        return transformers.BertConfig(hidden_size=8, num_attention_heads=2, num_hidden_layers=1,
                                       intermediate_size=8, vocab_size=9)

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", from_pretrained)
    model_of_zoo("hf:bert-base-uncased", False, {})
    assert asked == ["bert-base-uncased"]
