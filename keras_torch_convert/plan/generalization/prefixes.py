"""Checkpoints whose names have a beginning more, or less, than where the family was learned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from ...spec.source import Source
from ..expressions import Tensor, substituted
from ..recipe import AnyRecipe
from .names import split_numbers
from .patterns import Family


def with_learned_names(family: Family, source: Source) -> tuple[Source, Mapping[str, str], str]:
    """Return the source with names as the family knows them, when one beginning explains more.

    Returns:
        The source, the own name for each new one (empty when they are as they were), and what was
        done in words.
    """
    known = {form for one in family.patterns for form in one.forms()}
    fitting = sum(split_numbers(name).form in known for name in source)
    cut: Counter[str] = Counter()
    added: Counter[str] = Counter()
    for name in source:
        for end in (index + 1 for index, letter in enumerate(name) if letter == "."):
            cut[name[:end]] += split_numbers(name[end:]).form in known
        form = split_numbers(name).form
        added.update(one[:-len(form)] for one in known if one.endswith(f".{form}"))
    for counts, is_cut in ((cut, True), (added, False)):
        (beginning, count), *others = [*counts.most_common(2), ("", 0)][:2] or [("", 0)]
        # As many by two beginnings decide nothing.
        if count <= fitting or any(other == count for _, other in others):
            continue
        names = {
            (name.removeprefix(beginning) if is_cut else beginning + name): name for name in source
        }
        if len(names) == len(source):
            tensors = {new: replace(source[old], name=new) for new, old in names.items()}
            words = f"names are read {'without' if is_cut else 'with'} '{beginning}' in front"
            return replace(source, tensors=tensors), names, words
    return source, {}, ""


def with_own_names(plan: AnyRecipe, names: Mapping[str, str]) -> AnyRecipe:
    """Return a Plan over the names that the checkpoint has."""
    if not names:
        return plan
    own = {new: Tensor(old) for new, old in names.items()}
    pairs: dict[tuple[str, str], None] = {}
    for torch_layer, keras_layer in plan.pairs:
        old = next((name for new, name in names.items() if new.startswith(f"{torch_layer}.")), "")
        pairs[old.rpartition(".")[0] if old else torch_layer, keras_layer] = None
    return replace(
        plan, assignments=tuple(
            replace(one, expression=substituted(one.expression, own)) for one in plan.assignments),
        dropped={names[name]: rule for name, rule in plan.dropped.items()}, pairs=tuple(pairs),
        constants=tuple(
            replace(one, expression=substituted(one.expression, own)) for one in plan.constants),
        sources={
            names[name]: replace(spec, display_name=names[name])
            for name, spec in plan.sources.items()
        })
