"""Collection and alignment of names beside plain Python: `python -m benchmarks.bench_names
[--rounds 7] [--names 30000,300000]`.

The rivals are the slow twins of tests/helpers/reference, which take the same steps as
keras_cv_attention_models' own functions. All results are compared before any time counts. Two kinds
of moves: a few tails in every block, as people write them, and every layer to place 0, which makes
Python shift the whole list for each (left out for Python above 30,000 layers, where it takes
minutes).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from keras_torch_convert.alignment.classic import align_names
from keras_torch_convert.api.classic_names import state_dict_stack_by_layer
from tests.helpers.reference import names as twin

from .goals import Goals
from .race import print_ratios, race

TENSORS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
TAILS = ("1_conv", "1_bn", "2_conv", "2_bn", "3_conv", "3_bn", "attn_gamma", "mlp_1_dense",
         "mlp_2_dense", "mlp_gamma")
BACKWARD_TAILS = {"attn_gamma": -3, "mlp_gamma": -1, "2_bn": -1, "3_conv": -1}
LARGEST_FOR_EVERY_LAYER = 30_000
BOTH = "collect, then align some tails"


def state_dict_of(count: int) -> dict[str, int]:
    """Return a state dict of `count` tensors, numbers in place of values."""
    per_layer = len(TENSORS)
    return {
        f"stages.{layer // 64}.blocks.{layer // 8 % 8}.layers.{layer % 8}.{tensor}":
            layer * per_layer + place for layer in range(count // per_layer)
        for place, tensor in enumerate(TENSORS)
    }


def layer_names_of(count: int) -> list[str]:
    """`count` Keras layer names in blocks of ten."""
    blocks = count // len(TAILS)
    return [
        f"stack{block // 32 + 1}_block{block % 32 + 1}_{tail}" for block in range(blocks)
        for tail in TAILS
    ]


def tasks_of(count: int) -> dict[str, dict[str, Callable[[], Any]]]:
    """Return rivals by task."""
    state_dict, names = state_dict_of(count), layer_names_of(count)
    to_start = dict.fromkeys(names, 0)
    skip = ["num_batches_tracked"]
    tasks: dict[str, dict[str, Callable[[], Any]]] = {
        "collect": {
            "ours": lambda: state_dict_stack_by_layer(state_dict, skip),
            "python": lambda: twin.stack_by_layer(state_dict, skip, [])
        }, "align, some tails of every block": {
            "ours": lambda: list(align_names(names, BACKWARD_TAILS).names),
            "python": lambda: twin.align(names, BACKWARD_TAILS, {}, 2)
        }, "align, every layer to place 0": {
            "ours": lambda: list(align_names(names, {}, to_start).names),
            "python": lambda: twin.align(names, {}, to_start, 2)
        }
    }
    tasks[BOTH] = {
        name:
            lambda first=tasks["collect"][name], second=tasks["align, some tails of every block"][
                name]: (first(), second()) for name in ("ours", "python")
    }
    if count > LARGEST_FOR_EVERY_LAYER:
        del tasks["align, every layer to place 0"]["python"]
    return tasks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--names", default="30000,300000")
    parser.add_argument("--check", action="store_true",
                        help="end with an error when a goal is missed")
    options = parser.parse_args()
    goals, each = Goals(), {}
    for count in map(int, options.names.split(",")):
        # Python's lists need seconds for one run of the larger size.
        rounds = options.rounds if count <= LARGEST_FOR_EVERY_LAYER else 1
        for task, alternatives in tasks_of(count).items():
            if "python" in alternatives:
                assert alternatives["ours"]() == alternatives["python"](), task
            times = race(alternatives, rounds=rounds)
            print_ratios(f"{task}, {count:,} names", times, unit="ours")
            if task == BOTH:
                # Of equally many runs: the best of one would be worse than the best of seven.
                alone = race({"ours": alternatives["ours"]}, rounds=options.rounds)
                each[count] = alone["ours"].best / count
                goals.at_least(f"{task}, {count:,} names: times as fast",
                               times["python"].best / times["ours"].best, 20)
    goals.at_most("cost of a name, the most against the fewest", each[max(each)] / each[min(each)],
                  1.5)
    goals.close(options.check)


if __name__ == "__main__":
    main()
