"""A family as a table for people: a line for each layer, "{i}" for numbers."""

from __future__ import annotations

from collections.abc import Sequence

from ...util.text import shorten
from ..expressions import Expression, Tensor
from .index_maps import Index, IndexMap
from .names import HOLE
from .patterns import Family, Pattern
from .sizes import Repeated, repetitions

LETTERS = "ijklmnopqrstuvwxyz"
_WIDTH = 100


def with_letters(form: str, words: Sequence[str]) -> str:
    """Return a form with words in its holes: what follows a number at once is a letter."""
    result, pieces = "", form.split(HOLE)
    for index, (piece, word) in enumerate(zip(pieces, words, strict=False)):
        result += piece
        if index and not piece:
            inside = word.strip("{}")
            result += f"{{chr(97 + {inside})}}" if word != inside else chr(97 + int(word))
        else:
            result += word
    return result + pieces[-1]


def describe_target(form: str) -> str:
    """Return the name of a variable with a letter for each number."""
    return with_letters(form,
                        [f"{{{LETTERS[hole % len(LETTERS)]}}}" for hole in range(form.count(HOLE))])


def describe_index(one: IndexMap) -> str:
    """Return what a number of a tensor's name is."""
    if not one.first:
        return "{as its neighbors}"
    index = one.first[0]
    if index.hole is None:
        return str(index.offset)
    return f"{{{formula_of(index)}}}"


def formula_of(index: Index) -> str:
    """Return an index as a formula over letters."""
    letter = LETTERS[(index.hole or 0) % len(LETTERS)]
    offset = f"{index.offset:+d}" if index.offset else ""
    if index.stride == 1:
        return f"{letter}{offset}"
    return f"({letter}{offset})/{index.stride}" if offset else f"{letter}/{index.stride}"


def table(family: Family) -> list[str]:
    """Return the lines of the table."""
    layers: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for pattern in family.patterns:
        layer, _, variable = describe_target(pattern.target).rpartition("/")
        names = describe_tensors(pattern)
        heads = {name.rpartition(".")[0] for name in names}
        head = heads.pop() if len(heads) == 1 else ""
        parts = [name[len(head) + 1:] if head else name for name in names]
        what = ", ".join(parts) or "constant"
        steps = _steps(pattern.expression)
        layers.setdefault((layer, head), []).append(
            (variable, f"{what} ({', '.join(steps)})" if steps else what))
    lines = [
        f"family of {len(family.patterns)} patterns, learned from "
        f"{'; '.join(family.learned) or 'nothing'}"
    ]
    for (layer, head), rows in layers.items():
        variables = ", ".join(dict.fromkeys(variable for variable, _ in rows))
        tensors = ", ".join(dict.fromkeys(what for _, what in rows))
        one, other = f"  {layer}: {variables}", f"<- {head + ': ' if head else ''}{tensors}"
        if len(one) + len(other) < _WIDTH:
            lines.append(f"{one} {other}")
        else:
            lines += [shorten(one, _WIDTH), shorten(f"    {other}", _WIDTH)]
    for words, forms in (("left out", family.dropped), ("kept", family.kept)):
        lines += [shorten(f"  {words}: {form}: {rule}", _WIDTH) for form, rule in forms.items()]
    return lines


def describe_tensors(pattern: Pattern) -> list[str]:
    """Return the tensors of a pattern; "{*}" counts those that are joined."""
    found = []
    for form, maps, counted in zip(pattern.forms(), pattern.indices,
                                   repetitions(pattern.expression), strict=True):
        words = ["{*}" if hole == counted else describe_index(one) for hole, one in enumerate(maps)]
        found.append(with_letters(form, words))
    return list(dict.fromkeys(found))


def _steps(expression: Expression) -> list[str]:
    """Return what is done, the innermost first."""
    inner = [step for child in expression.children() for step in _steps(child)]
    inner = list(dict.fromkeys(inner))
    if isinstance(expression, Tensor):
        return inner
    if isinstance(expression, Repeated):
        return [*inner, "for all"]
    perm = getattr(expression, "perm", None)
    return [*inner, f"{expression.NAME} {' '.join(map(str, perm))}" if perm else expression.NAME]
