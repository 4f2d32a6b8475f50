"""Ctrl-C at a chosen point of a run, counted in calls of functions, so that no clock decides where.

    python -m tests.helpers.interrupted_runs COUNT [SEED [NAME...]]

measures COUNT points of every public function that does something with objects or files, or of
those named, and exits with 1 when one left something half done.
"""

from __future__ import annotations

import copy
import faulthandler
import random
import signal
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, NamedTuple

import keras
import numpy as np
import torch
from torch import nn

import keras_torch_convert as ktc
from keras_torch_convert.errors import PredictionError
from keras_torch_convert.release.check import check_conversion
from keras_torch_convert.release.files import read_release_file
from keras_torch_convert.release.pretrained_dict import Entry, edited
from keras_torch_convert.release.recheck import recheck
from tests.helpers.small_models import randomized

ZOO = 'PRETRAINED_DICT = {"net": {"imagenet": {224: "old"}}}\n'


class Cached(nn.Module):
    """Keeps what it derives from its weights, and counts its calls."""
    instances: ClassVar[list[Any]] = []

    def __init__(self) -> None:
        super().__init__()
        self.dense, self.norm = nn.Linear(6, 6), nn.BatchNorm1d(6)
        self.table, self.kept = nn.Parameter(torch.randn(6)), {"calls": 0}
        self.again = [self.dense.weight]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.kept["calls"] += 1
        if "table" not in self.kept:
            self.kept["table"] = self.table.flip(0)
        return self.norm(x @ self.again[0].T + self.dense.bias) + self.kept["table"]


class KerasCached(keras.layers.Layer):
    def build(self, shape: Any) -> None:
        self.dense = keras.layers.Dense(6)
        self.dense.build(shape)
        self.norm = keras.layers.BatchNormalization(epsilon=1e-5)
        self.norm.build(shape)
        self.table = self.add_weight(shape=(6,), name="table")
        self.built = True

    def call(self, x: Any) -> Any:
        return self.norm(self.dense(x)) + keras.ops.flip(self.table, 0)


class Broken(NamedTuple):
    """How often a run was broken off, and what was then neither as before nor as after all of it.
    """
    title: str
    stopped: int
    found: list[str]


@dataclass(slots=True)
class UserObjects:
    """The user's objects: two pairs in training mode, and a folder with files."""
    module: nn.Module
    model: Any
    plain_module: nn.Module
    plain_model: Any
    folder: Path
    values: list[Any] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path) -> UserObjects:
        """Make it; the second pair is in one order, as the classic functions want it."""
        module = nn.Sequential(randomized(Cached()), nn.ReLU(), nn.Linear(6, 3)).train()
        inputs = keras.Input((6,))
        model = keras.Model(inputs,
                            keras.layers.Dense(3)(keras.layers.ReLU()(KerasCached()(inputs))))
        plain_module = randomized(nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4,
                                                                                              2)))
        plain_model = keras.Sequential([
            keras.Input((6,)),
            keras.layers.Dense(4, name="first_dense"),
            keras.layers.BatchNormalization(epsilon=1e-5, name="first_bn"),
            keras.layers.Dense(2, name="head_dense")
        ])
        return cls(module, model, plain_module.train(), plain_model, folder)

    def keep(self) -> None:
        """Remember values and files, so that each run begins with them."""
        self.values = [[np.array(value) for value in one.get_weights()]
                       for one in (self.model, self.plain_model)]
        self.values += [copy.deepcopy(one.state_dict()) for one in (self.module, self.plain_module)]
        self.files = {path.name: path.read_bytes() for path in self.folder.iterdir()}

    def begin(self) -> None:
        """Set values and files to what they were, but for values of the Keras models, one more.

        A run that left a handler behind is one find, not one for each run after it.
        """
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for one, kept in zip((self.model, self.plain_model), self.values, strict=False):
            one.set_weights([value + 1 for value in kept])
        for one, kept in zip((self.module, self.plain_module), self.values[2:], strict=True):
            one.load_state_dict(kept)
        for path in self.folder.iterdir():
            if self.files.get(path.name) != path.read_bytes():
                path.unlink()
        for name, content in self.files.items():
            if not (self.folder / name).exists():
                (self.folder / name).write_bytes(content)

    def state(self) -> dict[str, Any]:
        """Return all that an interrupt must leave as it was, by name, as bytes and plain values."""
        from torch.nn.modules import module as hooks

        state: dict[str, Any] = {path.name: path.read_bytes() for path in self.folder.iterdir()}
        for which, module in enumerate((self.module, self.plain_module)):
            state |= {f"{which} {name}": tensor.numpy().tobytes()
                      for name, tensor in module.state_dict().items()}  # yapf: disable
            state[f"{which} modes"] = [one.training for one in module.modules()]
        for which, model in enumerate((self.model, self.plain_model)):
            state |= {f"{which} keras {number}": np.array(value).tobytes()
                      for number, value in enumerate(model.get_weights())}  # yapf: disable
            state[f"{which} trainable"] = [one.trainable for one in model.layers]
        inner: Any = self.module[0]  # type: ignore[index]
        return state | {
            "kept": dict(inner.kept), "alias": inner.again[0] is inner.dense.weight,
            "hooks": [len(one) for one in (hooks._global_forward_hooks,
                                           hooks._global_forward_pre_hooks)],
            "call": keras.layers.Layer.__call__, "signal": signal.getsignal(signal.SIGINT),
            "grad": torch.is_grad_enabled(), "fast": torch.backends.mha.get_fastpath_enabled(),
            "random": (random.getstate(), torch.get_rng_state().tolist(),
                       np.random.get_state()[1].tolist())
        }  # yapf: disable

    def runs(self) -> dict[str, Callable[[], Any]]:
        """Return what is interrupted, by name; each was run once, so that all is imported."""
        module, model, folder = self.module, self.model, self.folder
        plan = ktc.align(module, model)
        torch.save(module.state_dict(), checkpoint := folder / "net.pth")
        report = ktc.convert(module, model, save=folder / "a.weights.h5", plan=plan)
        saved = plan.save(folder / "a.plan.json")
        entry = {"plan": saved, "source": checkpoint, "output": folder / "many.weights.h5"}
        results = ktc.apply_many([entry], workers=0)
        family = plan.generalize()
        learned, zoo = family.save(folder / "a.family.json"), folder / "zoo.py"
        named: dict[str, Callable[[], Any]] = {
            "align": lambda: ktc.align(module, model),
            "convert": lambda: ktc.convert(module, model, save=folder / "a.weights.h5"),
            "convert to torch": lambda: ktc.convert(model, module, plan=plan, direction="to_torch"),
            "verify": lambda: ktc.verify(module, model, plan=plan),
            "apply": lambda: ktc.apply(plan, checkpoint, folder / "b.weights.h5"),
            "apply back": lambda: ktc.apply(plan.invert(), folder / "a.weights.h5",
                                            folder / "b.safetensors"),
            "apply_many": lambda: ktc.apply_many([entry], workers=0),
            "read": lambda: [tensor.read() for tensor in ktc.read(checkpoint).values()],
            "apply sharded": lambda: ktc.apply(plan, checkpoint, folder / "b.weights.json",
                                               max_shard_size=2e-7),
            "apply into a template": lambda: ktc.apply(plan, checkpoint, folder / "c.weights.h5",
                                                       template=folder / "a.weights.h5"),
            "load_weights": lambda: ktc.load_weights(model, checkpoint, plan),
            "to_state_dict": lambda: ktc.to_state_dict(model, plan),
            "learn_family": lambda: ktc.learn_family(lambda: module, lambda: model, [()]),
            "FamilyPlan.plan_for": lambda: family.plan_for(module, model),
            "FamilyPlan.save": lambda: family.save(folder / "b.family.json"),
            "FamilyPlan.load": lambda: ktc.FamilyPlan.load(learned),
            "Plan.generalize": plan.generalize,
            "Plan.difference": lambda: plan.difference(ktc.read(module)),
            "Plan.save": lambda: plan.save(folder / "b.plan.json"),
            "Plan.load": lambda: ktc.Plan.load(saved),
            "Plan.invert": plan.invert,
            "card": lambda: report.card(folder / "a.card.md", checkpoint=checkpoint, plan=saved),
            "recheck": lambda: recheck(folder / "a.card.md", None),
            "Report.to_json": lambda: report.to_json(folder / "a.report.json"),
            "Report.to_html": lambda: report.to_html(folder / "a.report.html"),
            "Results.to_json": lambda: results.to_json(folder / "many.json"),
            "release": lambda: edited(zoo, Entry("net", "imagenet", 224, read_release_file(
                folder / "a.weights.h5").md5)).write(),
            "assert_converted": lambda: check_conversion(model, module, with_md5=True, plan=plan),
            **self._classic_runs()
        }  # yapf: disable
        for run in named.values():
            zoo.write_text(ZOO)
            run()
        return named

    def _classic_runs(self) -> dict[str, Callable[[], Any]]:
        module, model, path = self.plain_module, self.plain_model, self.folder / "classic.h5"
        state = module.state_dict()
        names = [layer.name for layer in model.layers]
        stacked = ktc.state_dict_stack_by_layer(state)
        plan = ktc.align(module, model)
        return {
            "state_dict_stack_by_layer": lambda: ktc.state_dict_stack_by_layer(state),
            "match_layer_names_with_torch": lambda: ktc.match_layer_names_with_torch(
                names, tail_align_dict={"bn": -1}, tail_split_position=1),
            "align_layer_names_multi_stage": lambda: ktc.align_layer_names_multi_stage(
                names, tail_align_dict={"bn": -1}, tail_split_position=1, verbose=0),
            "keras_reload_stacked_state_dict": lambda: ktc.keras_reload_stacked_state_dict(
                model, stacked, names, save_name=path, verbose=0),
            "keras_reload_from_torch_model": lambda: ktc.keras_reload_from_torch_model(
                module, model, save_name=path, verbose=0),
            "classic_dictionaries": lambda: ktc.classic_dictionaries(plan, module, model)
        }  # yapf: disable


def calls_of(run: Callable[[], Any], interrupt_at: int = 0) -> int:
    """Run, with Ctrl-C at the call of this number (0: at none); return how many calls there were.
    """
    count = 0

    def count_calls(*_: Any) -> None:
        nonlocal count
        count += 1
        if count == interrupt_at:
            sys.setprofile(None)
            signal.raise_signal(signal.SIGINT)

    sys.setprofile(count_calls)
    try:
        run()
    finally:
        sys.setprofile(None)
    return count


def broken_by_interrupts(count: int, seed: int, only: Collection[str] = ()) -> Iterator[Broken]:
    """Interrupt each of the runs, or those named, at `count` random points."""
    with TemporaryDirectory() as name:
        objects = UserObjects.of(Path(name))
        runs = objects.runs()
        objects.keep()
        for title, run in runs.items():
            if only and title not in only:
                continue
            objects.begin()
            generator = random.Random(f"{seed} {title}")
            total, found, stopped = calls_of(run), list[str](), 0
            finished = objects.state()
            for _ in range(count):
                objects.begin()
                before, point = objects.state(), generator.randint(1, total)
                try:
                    calls_of(run, point)
                # C code may turn it into a SystemError, and the package into an error of its own.
                except (KeyboardInterrupt, SystemError, PredictionError):
                    stopped += 1
                after = objects.state()
                # Behind its last step a run is done, and stays so.
                if after != finished:
                    found += [
                        f"{title}, call {point} of {total}: {key}"
                        for key in {**before, **after} if before.get(key) != after.get(key)
                    ]
            yield Broken(title, stopped, found)


def main(arguments: Sequence[str]) -> int:
    """Print a line for each run, and what each left; the exit code is 1 when one left anything."""
    faulthandler.enable()
    count, seed = int(arguments[0]), int(arguments[1]) if arguments[1:] else 0
    left = 0
    for one in broken_by_interrupts(count, seed, arguments[2:]):
        print(f"{one.title}: {one.stopped} of {count} broken off, {len(one.found)} left half done",
              *one.found, sep="\n  ", flush=True)  # yapf: disable
        left += len(one.found)
    return int(left > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
