"""Opening a large .pth and listing its tensors, beside torch.load(mmap=True): `python -m
benchmarks.bench_read [--megabytes 1200] [--check]`.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks.goals import Goals
from benchmarks.race import print_ratios, race
from keras_torch_convert import read


def main() -> None:
    """Write the file, compare both lists, time both."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=1200)
    parser.add_argument("--tensors", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--check", action="store_true",
                        help="end with an error when a goal is missed")
    options = parser.parse_args()
    width = options.megabytes * 10**6 // 4 // options.tensors // 1024
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.pth"
        tensor = torch.rand(1024, width)
        torch.save({f"layers.{index}.weight": tensor + index for index in range(options.tensors)},
                   path)

        def ours() -> list[tuple[str, tuple[int, ...]]]:
            return [(name, tensor.shape) for name, tensor in read(path).items()]

        def by_torch() -> list[tuple[str, tuple[int, ...]]]:
            return [
                (name, tuple(tensor.shape)) for name, tensor in torch.load(path, mmap=True).items()
            ]

        assert ours() == by_torch()
        times = race({"read": ours, "torch.load(mmap=True)": by_torch}, rounds=options.rounds)
    print_ratios(f"{options.megabytes} MB .pth of {options.tensors} tensors, opened and listed",
                 times, unit="read")
    goals = Goals()
    goals.at_most("open and list", times["read"].best * 1e3, 5, " ms")
    goals.at_least("times as fast as torch.load(mmap=True)",
                   times["torch.load(mmap=True)"].best / times["read"].best, 1)
    goals.close(options.check)


if __name__ == "__main__":
    main()
