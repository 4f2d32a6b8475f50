"""Convert a checkpoint again and again while another thread cuts it: a script of
test_cut_checkpoint.py, in a process of its own because what it looks for would end pytest.

Prints how often the file was written as it should be ("whole"), and how often the conversion was
refused because the file was cut ("cut").
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
from collections import Counter
from pathlib import Path

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


def main() -> None:
    folder, cuts = Path(sys.argv[1]), int(sys.argv[2])
    plan, content = plan_of(), checkpoint()
    chance, ends = random.Random(0), Counter[str]()
    source, target = folder / "source.safetensors", folder / "target.h5"
    for _ in range(2):
        source.write_bytes(content)
        start = time.perf_counter()
        apply(plan, source, target, digests=(), durable=False)
        usual = time.perf_counter() - start
    expected = target.read_bytes()
    for _ in range(cuts):
        source.write_bytes(content)
        opened, size = read(source), chance.randrange(len(content))
        cutting = cut_later(source, chance.uniform(0, usual), size)
        message = ""
        try:
            apply(plan, opened, target, digests=(), durable=False)
        except (SourceError, TransferError) as error:
            message = str(error)
        cutting.join()
        if message:
            ends["cut"] += 1
            said = (f"{source}: the file was cut while it was read: it had {len(content)} bytes, "
                    f"now it has {size}")
            assert said in message, message
        else:
            ends["whole"] += 1
            assert target.read_bytes() == expected
    print(json.dumps(ends))


if __name__ == "__main__":
    main()
