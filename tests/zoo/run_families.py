"""Learn families of the registry from their first members, and compare the Plans that they make for
all members with those that alignment finds, expression by expression.

    python tests/zoo/run_families.py FOLDER [--align] [--learn 1] [--family hub_bert ...]
                                     [--mutations] [--foreign] [--write docs/zoo_families.md]

FOLDER keeps the Plan of each member, with the names and shapes of both sides, so that learning is
measured in seconds. --align fills it, which takes minutes. With --mutations something is changed in
each second member, one change at a time, and with --foreign each family meets the members of all
others: whatever is not refused is listed. Ends with 1 when one variable of one member is wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.update(KERAS_BACKEND="torch", TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1")

from families import FAMILIES  # the environment comes first

import keras_torch_convert as ktc
from keras_torch_convert.plan.generalization.equality import differing
from keras_torch_convert.spec.source import Source, SourceTensor
from keras_torch_convert.spec.target import Target, TargetLayer, TargetVariable

LIMIT_SECONDS = 240
# A member with more variables is not mutated: others say the same in less time.
MOST_MUTATED = 400

INTRODUCTION = """# Families, measured

A [family](families.md) is learned from the Plans of a few members and makes the Plans of the
others. tests/zoo/run_families.py wrote this page: it learns each family from its {learn_from}
smallest members, and compares the Plan that it makes for each member with the one that alignment
finds, expression by expression. A family is right if all are equal.

{right} of {count} families are right. The Plans of the members: {members}.
"""


@dataclass(frozen=True)
class Member:
    """What alignment found for a member, and both sides without their values."""

    name: str
    strict: Any
    plan: ktc.Plan
    source: Source
    target: Target


def align_members(folder: Path, wanted: Sequence[str]) -> None:
    """Align the members that are not in the folder, the smaller ones of all families first."""
    def too_long(*_: Any) -> None:
        raise TimeoutError(f"over the limit of {LIMIT_SECONDS} seconds")

    signal.signal(signal.SIGALRM, too_long)
    for depth in range(max(map(len, FAMILIES.values()))):
        for family in wanted:
            for pair in FAMILIES[family][depth:depth + 1]:
                path = folder / f"{pair.name}.json"
                if path.exists():
                    continue
                start = time.process_time()
                signal.alarm(LIMIT_SECONDS)
                try:
                    sides = _aligned(pair, folder)
                except Exception as error:  # packages' own constructors raise anything
                    sides = {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"}
                signal.alarm(0)
                path.write_text(json.dumps(sides))
                print(
                    f"{pair.name:34s} {time.process_time() - start:6.1f} s "
                    f"{sides.get('error', 'aligned')[:150]}", flush=True)


def _aligned(pair: Any, folder: Path) -> dict[str, Any]:
    torch_model, keras_model = pair.build()
    source = ktc.read(torch_model)
    plan = ktc.align(torch_model, keras_model, sample=pair.inputs(1), torch_call=pair.torch_call,
                     keras_call=pair.keras_call)
    plan.save(folder / f"{pair.name}.plan.json")
    return {
        "source": [[one.name, one.shape, one.dtype, one.kind] for one in source.tensors.values()],
        "tied": source.tied, "model": keras_model.name
    }


def member(pair: Any, folder: Path) -> Member | None:
    """A member that was aligned; None for one that could not be."""
    path = folder / f"{pair.name}.plan.json"
    if not path.exists():
        return None
    sides, plan = json.loads((folder / f"{pair.name}.json").read_text()), ktc.Plan.load(path)
    group = {name: number for number, names in enumerate(sides["tied"]) for name in names}
    tensors = {
        name: SourceTensor(name, tuple(shape), dtype, _no_values,
                           (group[name], ) if name in group else None, kind)
        for name, shape, dtype, kind in sides["source"]
    }  # yapf: disable
    variables = tuple(
        TargetVariable(key, spec.display_name,
                       spec.display_name.rsplit("/", 1)[-1], spec.shape, spec.dtype, True, None)
        for key, spec in plan.targets.items())
    layer = TargetLayer(pair.name, pair.name, ("Member",), variables, (), 0, {}, None)
    return Member(pair.name, pair.strict, replace(plan, layout=None), Source(tensors, pair.name),
                  Target(None, sides["model"], "keras", "torch", (layer,)))


def _no_values() -> Any:
    raise AssertionError("a family reads no values")


def mutations(one: Member) -> Iterator[tuple[str, Source, Target]]:
    """A member with one thing changed, in words, in the middle of the model."""
    tensors = dict(one.source.tensors)
    used = [name for name in one.plan.sources if name in tensors and name not in one.plan.dropped]
    name = used[len(used) // 2]
    tensor = tensors[name]

    def source(changed: dict[str, SourceTensor]) -> Source:
        return replace(one.source, tensors=changed)

    def target(keep: Callable[[TargetVariable], bool]) -> Target:
        (layer,) = one.target.layers
        return replace(one.target,
                       layers=(replace(layer, variables=tuple(filter(keep, layer.variables))),))

    yield "extra tensor", source({**tensors, f"{name}_more": replace(tensor,
                                                                     storage=None)}), one.target
    yield "missing tensor", source({key: t for key, t in tensors.items() if key != name
                                   }), one.target
    yield "renamed tensor", source(
        {f"{key}_other" if key == name else key: t for key, t in tensors.items()}), one.target
    yield "other shape", source(
        {**tensors, name: replace(tensor,
                                  shape=(*tensor.shape[:-1], tensor.shape[-1] + 1))}), one.target
    block = name.rsplit(".", 2)[0] + "."
    yield "layer missing in the source", source(
        {key: t for key, t in tensors.items() if not key.startswith(block)}), one.target
    middle = list(one.plan.targets.values())[len(one.plan.targets) // 2].display_name
    yield "variable missing", one.source, target(lambda v: v.display_name != middle)
    yield "layer missing in the target", one.source, target(
        lambda v: not v.display_name.startswith(middle.rsplit("/", 1)[0] + "/"))


def learn(members: Sequence[Member], count: int) -> tuple[ktc.FamilyPlan | None, str]:
    """The family of the first members, and why there is none."""
    try:
        return members[0].plan.generalize(*(one.plan for one in members[1:count])), ""
    except ktc.PlanError as error:
        return None, str(error)


def outcome(family: ktc.FamilyPlan, one: Member) -> tuple[str, str]:
    """What a family makes of a member: "equal", "refused" or "WRONG", and the details."""
    try:
        found = family.plan_for(one.source, one.target, strict=one.strict)
    except ktc.TransferError as error:
        return "refused", error.problems[0]
    labels = differing(one.plan, found)
    return ("WRONG", ", ".join(labels[:4])) if labels else ("equal", "")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the families that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--align", action="store_true")
    parser.add_argument("--learn", type=int, default=1, help="how many members to learn from")
    parser.add_argument("--family", action="append", default=[], choices=FAMILIES, metavar="NAME")
    parser.add_argument("--mutations", action="store_true")
    parser.add_argument("--foreign", action="store_true")
    parser.add_argument("--write", type=Path, help="the page to write")
    options = parser.parse_args(arguments)
    wanted = options.family or list(FAMILIES)
    options.folder.mkdir(exist_ok=True)
    if options.align:
        align_members(options.folder, wanted)
    start, counts = time.process_time(), {"equal": 0, "refused": 0, "WRONG": 0, "not learned": 0}
    learned: dict[str, tuple[ktc.FamilyPlan, list[Member]]] = {}
    rows = []
    for name in wanted:
        members = [
            one for pair in FAMILIES[name] if (one := member(pair, options.folder)) is not None
        ]
        if len(members) < 2:
            rows.append((name, len(members), "too few members that alignment finds"))
            continue
        family, why = learn(members, options.learn)
        if family is None:
            counts["not learned"] += 1
            rows.append((name, len(members), why))
            continue
        learned[name] = family, members
        states = {one.name: outcome(family, one) for one in members}
        for state, _ in states.values():
            counts[state] += 1
        rows.append((name, len(members), "; ".join(
            f"{one} {state}: {why}" for one, (state, why) in states.items() if state != "equal")))
    seconds = time.process_time() - start
    for name, count, text in rows:
        print(f"{name:28s} {count} members  {text[:400] or 'all equal'}")
    right = sum(not text for _, _, text in rows)
    print(f"{right} of {len(rows)} families right from {options.learn}; members: {counts}; "
          f"{seconds:.1f} s")
    wrong = counts["WRONG"]
    if options.mutations:
        wrong += show_accepted_mutations(learned)
    if options.foreign:
        show_accepted_foreign(learned)
    if options.write:
        options.write.write_text(page(rows, counts, options.learn))
    return int(wrong > 0)


def show_accepted_mutations(learned: dict[str, tuple[ktc.FamilyPlan, list[Member]]]) -> int:
    """Print how many changed members were refused, and all that were not; return their number."""
    refused: dict[str, int] = {}
    accepted = 0
    for name, (family, members) in learned.items():
        one = members[1]
        if len(one.plan.assignments) > MOST_MUTATED:
            continue
        for words, source, target in mutations(one):
            state, _ = outcome(family, replace(one, source=source, target=target))
            refused[words] = refused.get(words, 0) + (state == "refused")
            if state != "refused":
                accepted += 1
                print(f"{name}: {words} is not refused")
    print(f"refused mutations: {refused}")
    return accepted


def show_accepted_foreign(learned: dict[str, tuple[ktc.FamilyPlan, list[Member]]]) -> None:
    """Print which members of other families were not refused."""
    count = 0
    for name, (family, _) in learned.items():
        for other, (_, members) in learned.items():
            if other != name:
                state, _ = outcome(family, members[0])
                count += state == "refused"
                if state != "refused":
                    print(f"{name} takes {other}: {state}")
    print(f"{count} of {len(learned) * (len(learned) - 1)} foreign members refused")


def page(rows: Sequence[tuple[str, int, str]], counts: dict[str, int], learn_from: int) -> str:
    """The results as a page of the documentation."""
    right = sum(not text for _, _, text in rows)
    members = ", ".join(f"{counts[state]} {state}" for state in ("equal", "refused", "WRONG"))
    lines = [
        INTRODUCTION.format(learn_from=learn_from, right=right, count=len(rows), members=members),
        "| family | members | not equal |", "| --- | --- | --- |"
    ]
    lines += [
        f"| {name} | {count} | {text[:300].replace('|', '/')} |" for name, count, text in rows
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
