"""Words of names, and how similar two names are by the words that they share.

The static alignment compares all names of both sides at once and weights each word by how rare it
is in them (static/naming.py, in C). Here a single pair is compared, without any list: the search
asks for pairs one by one, while it runs.
"""

from __future__ import annotations

import re
from functools import cache

_SAME = {
    "query": "q", "key": "k", "value": "v", "conv": "conv2d convolution", "bn": "batchnorm batch",
    "norm": "normalization layernorm ln", "dense": "linear fc proj projection",
    "attn": "attention self mha", "depthwise": "dw", "pointwise": "pw", "downsample": "shortcut",
    "weight": "gamma kernel", "bias": "beta", "embed": "embeddings embedding",
    "tokens": "token word wte", "position": "wpe pos", "segment": "type", "mlp": "ffn feedforward",
    "head": "predictions classifier", "squeeze": "reduce", "output": "out", "scale": "ls"
}
_SYNONYMS = {word: meaning for meaning, words in _SAME.items() for word in words.split()}
_WORDS = re.compile(r"[1-3][dD](?![a-z])|[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


@cache
def words_of(name: str) -> tuple[str, ...]:
    """Return the words of a name, synonyms as one: "blk1.QProj" gives blk, 1, query, dense."""
    words = [word.lower() for word in _WORDS.findall(name)]
    return tuple(_SYNONYMS.get(word, word) for word in words)


@cache
def name_similarity(first: str, second: str) -> float:
    """Return 0 for no common word to 1 for the same words; a number counts a tenth of a word."""
    one, two = set(words_of(first)), set(words_of(second))
    weight = {word: 0.1 if word.isdigit() else 1.0 for word in one | two}
    together = sum(weight.values())
    return sum(weight[word] for word in one & two) / together if together else 0.0


def part_number(name: str) -> int | None:
    """Return 0, 1 or 2 for a name that says query, key or value, None for none or several."""
    found = {"query": 0, "key": 1, "value": 2}
    said = {found[word] for word in words_of(name) if word in found}
    return said.pop() if len(said) == 1 else None


def last_number(name: str) -> int | None:
    """Return the last number in a name: "block_2/expert_7" gives 7."""
    numbers = [word for word in words_of(name) if word.isdigit()]
    return int(numbers[-1]) if numbers else None
