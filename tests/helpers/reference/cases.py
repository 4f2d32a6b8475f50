"""Cases for the name functions, the same on every machine and for every version of Python.

The frozen answers of the original hold only answers, so whatever makes the cases must never change:
random numbers come from a generator written out here, not from the `random` module.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

Item = TypeVar("Item")


class Numbers:
    """SplitMix64: a fixed sequence of 64-bit numbers for each seed."""
    def __init__(self, seed: int) -> None:
        self.state = seed

    def below(self, limit: int) -> int:
        """A number from 0 to limit - 1."""
        self.state = (self.state + 0x9E3779B97F4A7C15) % 2**64
        mixed = self.state
        mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB % 2**64
        return (mixed ^ (mixed >> 31)) % limit

    def between(self, low: int, high: int) -> int:
        """A number from low to high, both included."""
        return low + self.below(high - low + 1)

    def chance(self, one_in: int) -> bool:
        """True once in so many times."""
        return self.below(one_in) == 0

    def pick(self, items: Sequence[Item]) -> Item:
        """One of the items."""
        return items[self.below(len(items))]

    def subset(self, items: Sequence[Item], one_in: int) -> list[Item]:
        """Each item once in so many times, in order."""
        return [item for item in items if self.chance(one_in)]


@dataclass(frozen=True)
class StackCase:
    """One call of state_dict_stack_by_layer on a dict that maps each name to its own number."""

    names: list[str]
    skip_weights: list[str]
    unstack_weights: list[str]

    @property
    def state_dict(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.names)}


@dataclass(frozen=True)
class AlignCase:
    """One call of align_layer_names_multi_stage."""

    names: list[str]
    tail_align_dict: Any = field(default_factory=dict)
    full_name_align_dict: Any = field(default_factory=dict)
    tail_split_position: Any = 2


# ----------------------------------------------------------------------
# Names of tensors
# ----------------------------------------------------------------------

LAST_PARTS = (*("weight", "bias", "running_mean", "running_var", "num_batches_tracked", "gamma_1",
                "cls_token", "pos_embed"),
              *("relative_position_index", "kernel:0", "gamma:0", "beta:1", "x:10", "größe", "重み",
                "k:é", "my_num_batches_tracked", "w"))
LAYER_PARTS = ("stem", "blocks", "0", "1", "10", "attn", "qkv", "norm1", "größe", "块", "g", "a_b",
               "conv:0", "")


def tensor_name(numbers: Numbers) -> str:
    """A name as PyTorch or TensorFlow would give it, or odder."""
    separator = "/" if numbers.chance(4) else "."
    parts = [numbers.pick(LAYER_PARTS) for _ in range(numbers.below(4))]
    if numbers.chance(12):
        parts.append("in.ner" if separator == "/" else "in")
    name = separator.join([*parts, numbers.pick(LAST_PARTS)])
    return name if len(name) > 1 else name + "ww"


def stack_cases() -> Iterator[StackCase]:
    """Generated state dicts of up to 25 tensors."""
    numbers = Numbers(20240)
    for _ in range(2500):
        names = list(dict.fromkeys(tensor_name(numbers) for _ in range(numbers.below(26))))
        skip = ["num_batches_tracked"] if numbers.chance(2) else numbers.subset(LAST_PARTS, 9)
        unstack = [] if numbers.chance(3) else numbers.subset(
            (*LAST_PARTS, "g", "gamma", "kernel"), 8)
        if numbers.chance(2) and names:
            # A layer and a tensor of one name: what an unstacked tensor may replace.
            layer = numbers.pick(names).rpartition(".")[0] or "stem"
            names.insert(numbers.below(len(names) + 1), layer)
            names = [name for name in dict.fromkeys(names) if len(name) > 1]
            unstack.append(layer.rpartition(".")[2])
        yield StackCase(names, skip, unstack)


# ----------------------------------------------------------------------
# Names of layers
# ----------------------------------------------------------------------


def small_full_name_cases(count: int) -> Iterator[AlignCase]:
    """Every way to give none, some or all of `count` names a rule of the full-name dictionary."""
    names = list("abcd"[:count])
    values: list[Any] = [None, *range(-count - 2, count + 2), *names]
    for chosen in itertools.product(values, repeat=count):
        rules = {
            name: value for name, value in zip(names, chosen, strict=True) if value is not None
        }
        yield AlignCase(names, {}, rules)


def two_rule_cases() -> Iterator[AlignCase]:
    """Every two rules on six names, any two layers, any two values."""
    names = list("abcdef")
    values: list[Any] = [*range(-8, 8), *names]
    for first, second in itertools.combinations(names, 2):
        for pair in itertools.product(values, repeat=2):
            yield AlignCase(names, {}, dict(zip((first, second), pair, strict=True)))


def small_tail_cases() -> Iterator[AlignCase]:
    """Every value for two tails in two stacks, flat and for one stack, at every split."""
    names = ["s1_b1_x", "s1_b1_y", "s1_b2_x", "s1_b2_y", "s2_b1_x", "s2_b1_y", "out"]
    values: list[Any] = [None, *range(-8, 8), "x", "y", "b1_x"]
    for split in (-4, -2, -1, 0, 1, 2, 3, 5):
        for chosen in itertools.product(values, repeat=2):
            tails = ("x",
                     "y") if split in (-1, 2) else ("b1_x",
                                                    "b2_y") if split in (1, -2) else ("s1_b2_x", "")
            rules = {
                tail: value for tail, value in zip(tails, chosen, strict=True) if value is not None
            }
            yield AlignCase(names, rules, {}, split)
            yield AlignCase(names, {"s1": rules, tails[0]: -1}, {"s2_b1_y": -1}, split)


PARTS = ("stem", "stack1", "stack2", "block1", "block2", "attn", "gamma", "conv", "down", "x",
         "größe")


def layer_names(numbers: Numbers) -> list[str]:
    """Names of up to 20 layers, in blocks or at random, now and then one of them twice."""
    if numbers.chance(2):
        tails = numbers.subset(
            ("1_conv", "2_conv", "bn", "attn_gamma", "mlp_gamma", "down"), 2) or ["conv"]
        blocks = [
            f"stack{stack}_block{block}" for stack in (1, 2)
            for block in range(1, 2 + numbers.below(3))
        ]
        names = ["stem_conv", *(f"{block}_{tail}" for block in blocks for tail in tails), "head"]
    else:
        count = numbers.below(13)
        names = [
            "_".join(numbers.pick(PARTS) for _ in range(1 + numbers.below(4))) for _ in range(count)
        ]
        if not numbers.chance(4):
            names = list(dict.fromkeys(names))
    return names


def careless_value(numbers: Numbers, anchors: Sequence[str], count: int) -> Any:
    """A value of one of the kinds that are allowed, most often one that loses a name."""
    return numbers.pick(anchors) if anchors and numbers.chance(3) else numbers.between(
        -count - 2, count + 2)


def careful_tail_value(numbers: Numbers, tails: Sequence[str]) -> Any:
    """A value that moves most layers with that tail back."""
    return numbers.pick(tails) if numbers.chance(12) else numbers.pick(
        (-1, -1, -1, -2, -2, -3, -5, 0, False))


def careful_full_value(numbers: Numbers, names: list[str], index: int) -> Any:
    """A value that moves the name with that index back, or leaves it."""
    if numbers.chance(4):
        return names[numbers.below(index + 1)]
    if numbers.chance(20):
        return index >= 1
    return numbers.below(index
                         + 1) if numbers.chance(3) or index == 0 else -numbers.between(1, index)


def random_rules(numbers: Numbers, names: list[str], split: int, *,
                 careful: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Dictionaries for one stage: tails (flat, by stack, or both) and full names. Only careful ones
    tend to lose nothing.
    """
    tails = list(dict.fromkeys(
        "_".join(name.split("_")[split:]) for name in names[1:] or names)) or [""]
    stacks = list(dict.fromkeys(name.split("_")[0] for name in names))

    def some_tails() -> dict[str, Any]:
        return {
            tail:
                careful_tail_value(numbers, tails) if careful else careless_value(
                    numbers, tails, len(names)) for tail in numbers.subset((*tails, "absent"), 3)
        }

    tail_rules: dict[str, Any] = {} if numbers.chance(3) else some_tails()
    for stack in numbers.subset((*stacks, "stack9"), 6):
        tail_rules[stack] = {} if numbers.chance(5) else some_tails()
    full_rules = {
        name:
            careful_full_value(numbers, names, index) if careful else careless_value(
                numbers, names, len(names))
        for index, name in numbers.subset(list(enumerate(names)), 5)
    }
    if numbers.chance(9):
        full_rules["absent_layer"] = -1
    return tail_rules, full_rules


def random_cases() -> Iterator[AlignCase]:
    """One to three stages on random names, with every form that the arguments may have."""
    numbers = Numbers(77)
    for _ in range(6000):
        names = layer_names(numbers)
        careful = not numbers.chance(6)
        splits = [numbers.pick((2, 2, 2, 1, 0, 3, -1, -2)) for _ in range(1 + numbers.below(3))]
        stages = [random_rules(numbers, names, split, careful=careful) for split in splits]
        if len(splits) == 1 and not numbers.chance(4):
            yield AlignCase(names, stages[0][0], stages[0][1], splits[0])
        else:
            full: Any = [stage[1] for stage in stages]
            full = full[0] if numbers.chance(5) else full[:1 + numbers.below(len(full))]
            fewer_splits = splits[:1 + numbers.below(len(splits))] if isinstance(full,
                                                                                 list) else splits
            stage_count = max(len(fewer_splits), len(full) if isinstance(full, list) else 1)
            yield AlignCase(names, [stage[0] for stage in stages][:stage_count], full, fewer_splits)


def align_cases() -> dict[str, Iterator[AlignCase]]:
    """All cases of alignment, by the name of their group."""
    groups = {f"every rule on {count} names": small_full_name_cases(count) for count in range(5)}
    return {
        **groups, "two rules on six names": two_rule_cases(), "two tails": small_tail_cases(),
        "random": random_cases()
    }
