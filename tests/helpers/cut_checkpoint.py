"""Convert or read a checkpoint again and again while another thread cuts it: a script of
test_cut_checkpoint.py, in a process of its own because what it looks for would end pytest.

Prints how often the values were as they should be ("whole"), and how often the conversion or the
reading was refused because the file was cut ("cut").
"""

from __future__ import annotations

import json
import os
import pickle
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from keras_torch_convert import read
from keras_torch_convert.api.file_conversion import apply
from keras_torch_convert.errors import SourceError, TransferError
from keras_torch_convert.plan.expressions import Permute, Tensor
from keras_torch_convert.plan.plan import Plan
from keras_torch_convert.plan.recipe import Assignment
from keras_torch_convert.spec.file_layout import (FileLayout, StoredArray, StoredAttribute,
                                                  StoredGroup, TargetLayout)
from keras_torch_convert.spec.tensor_spec import TensorSpec

# Small and large kernels, some cast with losses that are counted, some widened.
SHAPES = [((700, 600), "F32"), ((1500, 1400), "F32"), ((900, 1000), "BF16"), ((1800, 1900), "BF16"),
          ((1100, 1000), "F64"), ((1300, 1200), "F16")] * 2
# What is done to a file; its argument is called where the time for the cut begins.
Work = Callable[[Callable[[], None]], None]
ITEMS = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2}
NAMES = {"F64": "float64", "F32": "float32", "BF16": "bfloat16", "F16": "float16"}


def checkpoint() -> bytes:
    header, position = {}, 0
    for index, (shape, dtype) in enumerate(SHAPES):
        end = position + ITEMS[dtype] * shape[0] * shape[1]
        header[f"layer{index}.weight"] = {
            "dtype": dtype, "shape": shape, "data_offsets": [position, end]
        }
        position = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + bytes(position)


def plan_of() -> Plan:
    assignments, targets, arrays, groups = [], {}, [], []
    for index, (shape, _) in enumerate(SHAPES):
        layer = f"layer{index}"
        turned = (shape[1], shape[0])
        assignments.append(Assignment(layer, Permute(Tensor(f"{layer}.weight"), (1, 0)), "kernel"))
        targets[layer] = TensorSpec(turned, "float32", f"{layer}/kernel")
        names = StoredAttribute("weight_names", f"|S{len(layer) + 7}", (f"{layer}/kernel",))
        groups.append(StoredGroup(f"/model_weights/{layer}", (names,)))
        arrays.append(StoredArray(f"/model_weights/{layer}/{layer}/kernel", turned, "<f4", layer))
    config = StoredAttribute("model_config", "text", "{}")
    file = FileLayout((StoredGroup("/", (config,)), *groups), tuple(arrays))
    return Plan(tuple(assignments), targets=targets, layout=TargetLayout("keras", "3", legacy=file))


def cut_later(path: Path, delay: float, size: int) -> threading.Thread:
    def cut() -> None:
        time.sleep(delay)
        os.truncate(path, size)

    thread = threading.Thread(target=cut)
    thread.start()
    return thread


def write_arrays(path: Path) -> None:
    """Arrays whose bytes NumPy swaps, in an archive or in a pickle that is read where it lies."""
    arrays = {str(index): np.zeros(shape, ">f4") for index, (shape, _) in enumerate(SHAPES[:8])}
    if path.suffix == ".npz":
        np.savez(path, **arrays)  # type: ignore[arg-type]
    else:
        path.write_bytes(pickle.dumps(arrays, protocol=2))


def read_all(path: Path, begin: Callable[[], None]) -> None:
    begin()
    for tensor in read(path).values():
        assert not tensor.read().any()


def measured(work: Work) -> float:
    """Return how long the second of two calls takes."""
    work(lambda: None)
    start = time.perf_counter()
    work(lambda: None)
    return time.perf_counter() - start


def ending(path: Path, content: bytes, work: Work, delay: float, size: int) -> str:
    """Return how a piece of work ends whose file is cut to `size` bytes meanwhile."""
    path.write_bytes(content)
    cutting, message = [], ""
    try:
        work(lambda: cutting.append(cut_later(path, delay, size)))
    except (SourceError, TransferError) as error:
        message = str(error)
    for thread in cutting:
        thread.join()
    said = (f"{path}: the file was cut while it was read: it had {len(content)} bytes, now it has "
            f"{size}")
    # A file that was cut before it was opened is too short, or empty.
    assert not message or said in message or "while it was read" not in message, message
    return "cut" if message else "whole"


def main() -> None:
    folder, cuts = Path(sys.argv[1]), int(sys.argv[2])
    plan, chance, written = plan_of(), random.Random(0), set[bytes]()
    source, target = folder / "source.safetensors", folder / "target.h5"
    source.write_bytes(checkpoint())

    def convert(begin: Callable[[], None]) -> None:
        opened = read(source)
        begin()
        apply(plan, opened, target, digests=(), durable=False)
        written.add(target.read_bytes())

    ways: list[tuple[Path, Work]] = [(source, convert), (source, partial(read_all, source))]
    for path in (folder / "source.npz", folder / "source.pkl"):
        write_arrays(path)
        ways.append((path, partial(read_all, path)))
    known = [(path, path.read_bytes(), work, measured(work)) for path, work in ways]
    ends = Counter[str]()
    for number in range(cuts):
        path, content, work, usual = known[number % len(known)]
        ends[ending(path, content, work, chance.uniform(0, usual),
                    chance.randrange(len(content)))] += 1
    assert len(written) == 1
    print(json.dumps(ends))


if __name__ == "__main__":
    main()
