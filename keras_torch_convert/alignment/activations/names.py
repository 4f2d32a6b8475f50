"""How alike the name of a torch weight and that of a Keras layer are: words in common, whatever
joins them.
"""

from __future__ import annotations

import re
from functools import cache

_SYNONYMS = {
    "q": "query", "k": "key", "v": "value", "conv2d": "conv", "convolution": "conv", "batchnorm": "bn", "batch": "bn",
    "normalization": "norm", "layernorm": "norm", "ln": "norm", "linear": "dense", "fc": "dense", "proj": "dense",
    "projection": "dense", "attention": "attn", "self": "attn", "mha": "attn", "dw": "depthwise", "pw": "pointwise",
    "shortcut": "downsample", "gamma": "weight", "kernel": "weight", "beta": "bias", "embeddings": "embed", "embedding": "embed",
    "token": "tokens", "word": "tokens", "wte": "tokens", "wpe": "position", "pos": "position", "type": "segment", "ffn": "mlp",
    "feedforward": "mlp", "predictions": "head", "classifier": "head", "reduce": "squeeze", "out": "output", "ls": "scale"
}  # yapf: disable
_WORDS = re.compile(r"[1-3][dD](?![a-z])|[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


@cache
def words_of(name: str) -> tuple[str, ...]:
    """The words of a name in order, synonyms as one, numbers apart: "blk1.QProj" gives blk, 1,
    query, dense; "conv2d" gives conv, 2d.
    """
    words = [word.lower() for word in _WORDS.findall(name)]
    return tuple(_SYNONYMS.get(word, word) for word in words)


@cache
def name_similarity(first: str, second: str) -> float:
    """0 for names without a common word, 1 for names of the same words; numbers count a tenth of a
    word.
    """
    one, two = set(words_of(first)), set(words_of(second))
    weight = {word: 0.1 if word.isdigit() else 1.0 for word in one | two}
    together = sum(weight.values())
    return sum(weight[word] for word in one & two) / together if together else 0.0


def part_number(name: str) -> int | None:
    """0, 1 or 2 for a name that says query, key or value; None when it says none of them or
    several.
    """
    found = {"query": 0, "key": 1, "value": 2}
    said = {found[word] for word in words_of(name) if word in found}
    return said.pop() if len(said) == 1 else None


def last_number(name: str) -> int | None:
    """The last number in a name ("block_2/expert_7" gives 7), None when there is none."""
    numbers = [word for word in words_of(name) if word.isdigit()]
    return int(numbers[-1]) if numbers else None
