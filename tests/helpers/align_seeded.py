"""Pairs with one to four seeded faults, aligned by running and diagnosed.

    python -m tests.helpers.align_seeded [--seed 1] [--pairs 60] [--most 4]

Counts the layers that get the weights of the pair without faults, layers called proven that do not,
passes, and faults named in one run. Faults in weights are left out: a conversion writes them anew.
"""

from __future__ import annotations

import argparse
import random
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import keras_torch_convert as ktc
from keras_torch_convert.alignment.activations import search
from keras_torch_convert.plan.evaluation import Evaluation
from keras_torch_convert.torch_io.reader import read
from tests.helpers.faults import Fault, Pair, Seeded, every_fault, verdict

OF_WEIGHTS = {
    "square kernel transposed",
    "kernel mirrored",
    "wrong scale of a kernel",
    "kernel never loaded",
    "bias never loaded",
    "gain never loaded",
    "output channels in another order",
    "query and key exchanged",
    "heads in another order",
    "colors of the first kernel in the other order",
    "mean and variance exchanged",
    "gain and offset exchanged",
    "two norms swapped",
    "two layers swapped",
    "missing permutation behind Flatten",
    # The kernel behind takes its inputs in that order, and the outputs are equal.
    "branches joined in another order"
}


@dataclass
class Outcome:
    """What became of one pair: layers right and wrong, those wrongly called proven, passes; faults
    by what was said about them, and causes that nobody seeded.
    """

    right: int = 0
    wrong: list[str] = field(default_factory=list)
    wrong_proven: list[str] = field(default_factory=list)
    passes: int = 0
    seeded: list[str] = field(default_factory=list)
    named: list[bool] = field(default_factory=list)
    wrong_causes: list[str] = field(default_factory=list)
    refused: str = ""
    is_headline_unknown: bool = False
    said: str = ""


@contextmanager
def counted_passes() -> Iterator[list[int]]:
    """Count the passes of searches inside."""
    one_pass, counts = search.one_pass, [0]

    def counting(*args: Any, **settings: Any) -> Any:
        counts[0] += 1
        return one_pass(*args, **settings)

    search.one_pass = counting
    try:
        yield counts
    finally:
        search.one_pass = one_pass


def run(pair: Pair, faults: list[tuple[Fault, Seeded]]) -> Outcome:
    """Convert a pair into which faults were put; its Plan is that of the pair without them."""
    outcome = Outcome(seeded=[f"{fault.name} at {seeded[0] + seeded[1]}"
                              for fault, seeded in faults])  # yapf: disable
    with counted_passes() as passes:
        try:
            report = ktc.convert(pair.torch_module, pair.keras_model, sample=pair.sample,
                                 if_different="keep", **pair.calls)
        except ktc.ConversionError as error:
            outcome.refused = str(error)
            outcome.wrong = [leaf.display_name for leaf in pair.leaves()]
            outcome.named = [False] * len(faults)
            return outcome
    outcome.passes = passes[0]
    values = Evaluation(read(pair.torch_module))
    expected = {one.key: one.expression for one in pair.plan.assignments}
    found = {one.key: one.expression for one in report.plan.assignments}
    for leaf in pair.leaves():
        is_right = all(variable.key in found and np.array_equal(
            *(values.values(side[variable.key], variable.dtype, variable.display_name)
              for side in (expected, found))) for variable in leaf.variables)
        outcome.right += is_right
        if not is_right:
            outcome.wrong.append(leaf.display_name)
            if report.match_status.get(leaf.display_name) == "proven":
                outcome.wrong_proven.append(leaf.display_name)
    comparison = report.comparison
    divergence = None if comparison is None else comparison.first_divergence
    differences = () if divergence is None else divergence.differences
    outcome.said = str(divergence)
    outcome.is_headline_unknown = divergence is not None and not divergence.kind
    explained = set()
    for fault, seeded in faults:
        hits = {number for number, one in enumerate(differences) if names(one, fault, seeded)}
        explained |= hits
        outcome.named.append(bool(hits))
    outcome.wrong_causes = [
        one.summary()
        for number, one in enumerate(differences) if one.kind and number not in explained
    ]
    return outcome


def names(difference: Any, fault: Fault, seeded: Seeded) -> bool:
    """Whether a difference names a fault exactly, at one of its layers."""
    modules = difference.torch_modules or ("",)

    @dataclass
    class Place:
        kind: str
        keras_layer: str
        torch_module: str

    return any(
        verdict(Place(difference.kind, layer, module), fault, seeded) == "exact"
        for layer in difference.keras_layers or ("",) for module in modules)


def seeded_pair(make: Callable[[], Pair], count: int,
                generator: random.Random) -> tuple[Pair, list[tuple[Fault, Seeded]]]:
    """A fresh pair with `count` faults of different kinds at different layers, each of which shows
    at the outputs by itself.
    """
    pair, faults = make(), []
    every = [fault for fault in every_fault() if fault.name not in OF_WEIGHTS]
    taken: set[str] = set()
    for fault in generator.sample(every, len(every)):
        alone = make()
        places = fault.places(alone)
        if not places or not fault.places(pair):
            continue
        number = generator.randrange(len(places))
        where = {
            re.sub(r"[._/]", "", one) for labels in fault.put(alone, places[number])
            for one in labels if one
        }
        # The same change on both sides, or at one layer and in a block around it, may be none.
        is_near = any(
            one.startswith(other) or other.startswith(one) for one in where for other in taken)
        if is_near or number >= len(fault.places(pair)) or not shows(alone):
            continue
        faults.append((fault, fault.put(pair, fault.places(pair)[number])))
        taken |= where
        if len(faults) == count:
            break
    return pair, faults


def shows(pair: Pair) -> bool:
    """Whether the outputs show a fault, with the weights of the pair without it."""
    try:
        found = ktc.verify(pair.torch_module, pair.keras_model, plan=pair.plan, sample=pair.sample,
                           diagnose=False, randomized=False, **pair.calls)
    except ktc.PredictionError:
        return False
    return found.verdict in ("different", "close")


def main() -> int:
    import keras

    from tests.helpers import fault_pairs

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--least", type=int, default=1)
    parser.add_argument("--most", type=int, default=4)
    parser.add_argument("--only", type=int)
    arguments = parser.parse_args()
    makers = [
        fault_pairs.convolutions, fault_pairs.transformer, fault_pairs.maps, fault_pairs.decoder
    ]
    outcomes, clean = [], []
    for maker in makers:
        clean.append(run(maker(keras), []))
        if clean[-1].wrong or clean[-1].wrong_causes:
            print("clean", maker.__name__, clean[-1])
    for number in range(arguments.pairs):
        if arguments.only is not None and number != arguments.only:
            continue
        generator = random.Random(f"{arguments.seed} {number}")
        maker = makers[number % len(makers)]
        more = number // len(makers) % (arguments.most - arguments.least + 1)
        pair, faults = seeded_pair(lambda make=maker: make(keras), arguments.least + more,
                                   generator)
        start = time.process_time()
        outcome = run(pair, faults)
        outcomes.append(outcome)
        print(
            f"{number} {maker.__name__}: {time.process_time() - start:.1f} s, "
            f"{outcome.passes} passes, {outcome.right} right, wrong {outcome.wrong}, "
            f"wrongly proven {outcome.wrong_proven}, wrong causes {outcome.wrong_causes}",
            flush=True)
        for one, is_named in zip(outcome.seeded, outcome.named, strict=True):
            print("    ", "named    " if is_named else "not named", one, flush=True)
        if outcome.wrong or outcome.wrong_causes or not all(outcome.named):
            print("        " + (outcome.refused or outcome.said).replace("\n", "\n        "),
                  flush=True)
    right, wrong = sum(one.right for one in outcomes), sum(len(one.wrong) for one in outcomes)
    named = [one for outcome in outcomes for one in outcome.named]
    passes = [one.passes for one in outcomes if not one.refused]
    print(f"layers right: {right} of {right + wrong}; wrongly proven: "
          f"{sum(len(one.wrong_proven) for one in outcomes)}; faults named: {sum(named)} of "
          f"{len(named)}; wrong causes: {sum(len(one.wrong_causes) for one in outcomes)}; unknown "
          f"headlines: {sum(one.is_headline_unknown for one in outcomes)}; passes: "
          f"median {statistics.median(passes)}, at most {max(passes)}; refused: "
          f"{sum(bool(one.refused) for one in outcomes)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
