"""Attention: the scale of the scores, masks and their convention, query and key exchanged, heads.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from ...comparison.arrays import apart, arranged
from ..context import ENOUGH, Array, DivergenceContext, Hypothesis
from .structure import ratio_of


def hypotheses(scene: DivergenceContext) -> Iterator[Hypothesis]:
    """From the probabilities of both, where Keras shows them, else by computing attention anew from
    query, key and value.
    """
    if scene.spot.kind == "before":
        yield from _scaled_inside(scene)
    yield from _over_another_axis(scene)
    yield from _from_probabilities(scene)
    if scene.spot.kind == "before":
        yield from _recomputed(scene)


def _scaled_inside(scene: DivergenceContext) -> Iterator[Hypothesis]:
    """torch multiplies what a layer inside gives by a number: the layer around it run with that."""
    for call, captured in scene.before:
        for step in scene.steps if captured.outputs else ():
            for value in scene.values.get(step.order, ()):
                for array in arranged(value, captured.outputs[0].shape):
                    factor = ratio_of(array, captured.outputs[0])
                    if factor is None:
                        continue
                    trial = scene.around(call.layer, change=partial(operator.mul, factor))
                    if trial is not None:
                        said = (f"torch multiplies the output of '{call.display_name}' by "
                                f"{factor:.6g}, Keras does not")
                        todo = f"multiply by {factor:.6g} behind '{call.display_name}' in Keras"
                        yield Hypothesis("scale", said, todo, trial, how="around",
                                         torch_at=step.path)


def _over_another_axis(scene: DivergenceContext) -> Iterator[Hypothesis]:
    """The spot is a softmax, masked perhaps, over another axis."""
    axis = getattr(scene.call.layer, "axis", None)
    if not isinstance(axis, int) or not scene.class_names("Softmax") or not scene.keras.inputs:
        return
    ndim = scene.keras.inputs[0].ndim
    for other in (-1, *range(ndim - 1)):
        trial = scene.run(axis=other) if other % ndim != axis % ndim else None
        if trial is None:
            continue
        for theirs, path in scene.probabilities():
            if theirs.size == trial.size:
                said = f"Keras computes the softmax over axis {axis}, torch over axis {other}"
                todo = f"give '{scene.call.display_name}' axis={other}"
                yield Hypothesis("softmax axis", said, todo, trial, at=scene.call.display_name,
                                 against=theirs.reshape(trial.shape), torch_at=path)


def _from_probabilities(scene: DivergenceContext) -> Iterator[Hypothesis]:
    """The spot's own input or output are attention probabilities, or become some in the next calls:
    what makes torch's of them.
    """
    shown = [*scene.keras.inputs[:1], *scene.keras.outputs[:1]] if scene.call.leaf is None else []
    shown += [captured.outputs[0] for _, captured in scene.along if shown and captured.outputs]
    ours = next((array for array in shown if is_distribution(array)), None)
    if ours is None or ours.ndim < 3:
        return
    for theirs, path in scene.probabilities():
        if theirs.size != ours.size or theirs.shape[-1] != ours.shape[-1]:
            continue
        reference = theirs.reshape(ours.shape)
        factor = score_ratio(ours, reference)
        if factor is not None:
            said = (f"the scores of attention are {factor:.6g} times those of torch before the "
                    "softmax")
            todo = f"multiply the query (or the scores) by {1 / factor:.6g} in Keras"
            yield Hypothesis("attention scale", said, todo, powered(ours, 1 / factor),
                             against=reference, torch_at=path)
        yield from _masks(ours, reference, path)
        turned = np.swapaxes(ours, -1, -2)
        if turned.shape == ours.shape:
            said = "query and key are exchanged"
            both = np.log(np.maximum(turned, 1e-30))
            again = np.exp(both - both.max(-1, keepdims=True))
            trial = np.asarray(again / again.sum(-1, keepdims=True), np.float32)
            yield Hypothesis("query and key exchanged", said, "exchange them in one of the models",
                             trial, against=reference, torch_at=path)


def _masks(ours: Array, theirs: Array, path: str) -> Iterator[Hypothesis]:
    masked, wanted = ours < 1e-9, theirs < 1e-9
    if (not masked.any() and not wanted.any()) or bool((masked == wanted).all()):
        return
    trial = np.where(wanted, 0, ours)
    total = trial.sum(-1, keepdims=True)
    trial = np.asarray(trial / np.where(total == 0, 1, total), np.float32)
    opposite = bool((masked == ~wanted).all())
    causal = wanted.shape[-1] == wanted.shape[-2] and bool(
        (wanted == np.triu(np.ones(wanted.shape[-2:], bool), 1)).all())
    if opposite:
        said = "the mask means the opposite: what torch attends to is what Keras leaves out"
    elif causal:
        said = "torch masks what comes later (causal), Keras does not"
    else:
        said = (f"torch leaves out {wanted.mean():.0%} of the pairs of places, Keras "
                f"{masked.mean():.0%}")
    yield Hypothesis("mask", said, "give both models masks of one meaning", trial, against=theirs,
                     torch_at=path)


def is_distribution(array: Array) -> bool:
    """Whether the last axis sums to one."""
    return (array.dtype.kind == "f" and array.ndim > 2 and bool(
        (array >= 0).all() and np.allclose(array.sum(-1), 1, atol=1e-4)))


def score_ratio(ours: Array, theirs: Array) -> float | None:
    """The factor between the scores before the two softmaxes, from what neither leaves out."""
    left = (ours > 1e-30) & (theirs > 1e-30)
    if bool(((ours > 1e-30) != (theirs > 1e-30)).any()) or not left.any():
        return None
    counts = np.maximum(left.sum(-1, keepdims=True), 1)

    def scores(probabilities: Array) -> Array:
        logarithms = np.where(left, np.log(np.where(left, probabilities, 1).astype(np.float64)), 0)
        return np.asarray(np.where(left, logarithms - logarithms.sum(-1, keepdims=True) / counts,
                                   0))

    one, two = scores(ours), scores(theirs)
    norm = float((two * two).sum())
    factor = float((one * two).sum()) / norm if norm else 0.0
    close = float(np.abs(one - factor * two).max(
        initial=0.0)) < 1e-3 * max(float(np.abs(one).max(initial=0.0)), 1e-6)
    return factor if close and factor > 0 and abs(factor - 1) > 1e-4 else None


def powered(probabilities: Array, exponent: float) -> Array:
    """The probabilities that scores times `exponent` give."""
    raised = np.power(probabilities.astype(np.float64), exponent)
    return np.asarray(raised / raised.sum(-1, keepdims=True), np.float32)


def _recomputed(scene: DivergenceContext) -> Iterator[Hypothesis]:
    """Attention computed anew from query, key and value in every usual way: which one gives what
    torch has, and which one what Keras has.
    """
    parts = scene.query_key_value()
    if parts is None or not scene.expected or not scene.keras.inputs:
        return
    ours = scene.keras.inputs[0]
    every = list(variants(scene, *parts))
    keras = next((one for one in every if apart(one.trial, ours) < ENOUGH), None)
    for theirs in every:
        if theirs is keras:
            continue
        said = (f"torch computes attention with {theirs.words}, Keras with "
                f"{keras.words if keras else 'something else'}")
        yield Hypothesis(told_apart(theirs, keras), said, "use the same in both models",
                         theirs.trial)


@dataclass(frozen=True, slots=True, eq=False)
class Variant:
    """One way to compute attention, `usual` when its `scale` is one over the root of the width, and
    its result.
    """

    scale: str
    mask: str
    change: str
    usual: bool
    trial: Array

    @property
    def words(self) -> str:
        """What tells it from the usual one."""
        return ", ".join(part for part in (self.change, self.mask, f"scale {self.scale}") if part)


def told_apart(theirs: Variant, keras: Variant | None) -> str:
    """The kind of mistake that makes one variant of another."""
    if keras is None:
        return theirs.change or ("mask" if theirs.mask else
                                 "attention" if theirs.usual else "attention scale")
    if theirs.change != keras.change:
        return theirs.change or keras.change
    return "mask" if theirs.mask != keras.mask else "attention scale"


def variants(scene: DivergenceContext, query: Array, key: Array, value: Array) -> Iterator[Variant]:
    """Every usual way to compute attention: the simplest first, then masks with other scales."""
    width, heads = query.shape[-1], query.shape[2]
    plain = 1 / np.sqrt(width)
    scales = dict.fromkeys(
        (plain, 1.0, 1 / np.sqrt(width * heads), 1 / width, np.sqrt(width), 2 * plain, plain / 2))
    for mask, masked in masks_of(scene, query.shape[1], key.shape[1]).items():
        for scale in scales:
            words = f"1/sqrt({width})" if scale == plain else f"{scale:.6g}"
            yield Variant(words, mask, "", scale == plain, attended(query, key, value, scale,
                                                                    masked))
        for change, trial in _changed(query, key, value, plain, masked):
            yield Variant(f"1/sqrt({width})", mask, change, True, trial)


def _changed(query: Array, key: Array, value: Array, scale: float,
             masked: Array | None) -> Iterator[tuple[str, Array]]:
    """Parts in each other's place."""
    width, heads = query.shape[-1], query.shape[2]
    if query.shape == key.shape:
        yield "query and key exchanged", attended(key, query, value, scale, masked)
    if value.shape == key.shape:
        yield "key and value exchanged", attended(query, value, key, scale, masked)
    mixed = [
        np.swapaxes(part.reshape(*part.shape[:2], width, heads), 2, 3)
        for part in (query, key, value)
    ]
    yield "head order", np.swapaxes(attended(mixed[0], mixed[1], mixed[2], scale, masked), 2, 3)
    if query.shape == key.shape:
        yield "softmax axis", attended(query, key, value, scale, masked, over=-2)


def masks_of(scene: DivergenceContext, queries: int, keys: int) -> dict[str, Array | None]:
    """What may be left out, as arrays that are true there: nothing first."""
    found: dict[str, Array | None] = {"": None}
    if queries == keys:
        later = np.triu(np.ones((queries, keys), bool), 1)
        found["a causal mask"] = later
        found["a mask of what came before"] = later.T
    for mask in scene.masks:
        if mask.shape[-1] != keys:
            continue
        for name, out in (("the mask, 1 attended to", mask == 0), ("the mask, 1 left out", mask
                                                                   != 0)):
            row = out.reshape(-1, out.shape[-1])[0]
            if row.any() and not row.all():
                found[name] = np.broadcast_to(row, (queries, keys))
                if queries == keys:
                    found[f"{name}, and a causal one"] = found[name] | np.triu(
                        np.ones((queries, keys), bool), 1)
    return found


def attended(query: Array, key: Array, value: Array, scale: float, masked: Array | None = None,
             over: int = -1) -> Array:
    """softmax(query key^T scale) value, (batch, places, heads, width); softmax over the keys, or
    (`over` -2) over the queries.
    """
    scores = np.einsum("bqhd,bkhd->bhqk", query.astype(np.float64), key.astype(np.float64)) * scale
    if masked is not None:
        scores = np.where(masked, -1e30, scores)
    powers = np.exp(scores - scores.max(over, keepdims=True))
    mixed = np.einsum("bhqk,bkhd->bqhd", powers / powers.sum(over, keepdims=True),
                      value.astype(np.float64))
    return np.asarray(mixed, np.float32)
