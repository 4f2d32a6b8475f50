"""python weights_only_files.py FOLDER [load]: write the legacy files of a subclassed tf_keras model
in every way; with `load`, load them into fresh models.

Prints JSON: for each file the outputs of the model that loaded it, and torch's.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tf_keras

from tests.helpers.keras_runs.models import subclassed

SAMPLE = np.linspace(-1, 1, 12, dtype="float32").reshape(3, 4)
FILES = ("saved.h5", "applied.h5", "like_template.h5")


def torch_net() -> Any:
    import torch

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token = torch.nn.Parameter(torch.randn(4))
            self.blocks = torch.nn.ModuleList([torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)])
            self.head = torch.nn.Linear(4, 2)

        def forward(self, x: Any) -> Any:
            for block in self.blocks:
                x = block(x)
            return self.head(x + self.token)

    torch.manual_seed(0)
    return Net().eval()


def write(folder: Path) -> dict[str, Any]:
    import torch

    import keras_torch_convert as ktc

    module = torch_net()
    report = ktc.convert(module, subclassed(tf_keras), sample=SAMPLE, verify=False,
                         save=folder / "saved.h5")
    assert report.plan is not None
    torch.save(module.state_dict(), folder / "net.pth")
    plan = ktc.Plan.load(report.plan.save(folder / "net.plan.json"))
    ktc.apply(plan, folder / "net.pth", folder / "applied.h5")
    ktc.apply(plan, folder / "net.pth", folder / "like_template.h5", template=folder / "saved.h5")
    return {
        "torch": module(torch.from_numpy(SAMPLE)).detach().numpy().tolist(), "notes": report.notes
    }


def load(folder: Path) -> dict[str, Any]:
    outputs = {}
    for name in FILES:
        model = subclassed(tf_keras)
        model.load_weights(str(folder / name))
        outputs[name] = np.asarray(model(SAMPLE)).tolist()
    return outputs


if __name__ == "__main__":
    print(json.dumps((load if sys.argv[2:] else write)(Path(sys.argv[1]))))
