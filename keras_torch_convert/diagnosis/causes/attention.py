"""Attention: the scale of the scores, masks, query and key exchanged, heads in another order."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from ...comparison.arrays import apart, arranged
from ..context import PROVEN_BELOW, Array, DivergenceContext, Hypothesis
from .common import ratio_of

FUSED = "_scaled_dot_product"
# What a softmax gives for scores that are masked.
MASKED_BELOW = 1e-9
LEFT_OUT = -1e30


def hypotheses(context: DivergenceContext) -> Iterator[Hypothesis]:
    """Compare the probabilities of both, where Keras shows them, else compute attention anew from
    query, key and value.
    """
    if context.point.kind == "before":
        yield from _scaled_inside(context)
    yield from _from_probabilities(context)
    if context.point.kind == "before":
        yield from _recomputed(context)


def _scaled_inside(context: DivergenceContext) -> Iterator[Hypothesis]:
    """Multiply what a layer inside gives by a number, and run the layer around it with that."""
    for call, captured in context.producers if context.parent is not None else ():
        for step, value in context.step_results() if captured.outputs else ():
            for array in arranged(value, captured.outputs[0].shape):
                factor = ratio_of(array, captured.outputs[0])
                if factor is None:
                    continue
                trial = context.around(call.layer, change=partial(operator.mul, factor))
                if trial is not None:
                    cause = (f"torch multiplies the output of '{call.display_name}' by "
                             f"{factor:.6g}, Keras does not")
                    yield Hypothesis(
                        "scale", cause, f"multiply by {factor:.6g} behind '{call.display_name}' in "
                        "Keras", torch_at=step.path, **trial)


# Where Keras shows its probabilities.


def _from_probabilities(context: DivergenceContext) -> Iterator[Hypothesis]:
    """Make torch's probabilities of those that the point's input or output is, or becomes in the
    next calls.
    """
    if context.has_weights:
        return
    shown: list[tuple[Array, int | None]] = [(array, None) for array in context.keras.inputs[:1]]
    shown += [(array, context.call.number) for array in context.keras.outputs[:1]]
    shown += [(captured.outputs[0], call.number)
              for call, captured in context.chain if shown and captured.outputs]
    ours, number = next(((array, number) for array, number in shown if is_distribution(array)),
                        (None, None))
    if ours is None or ours.ndim < 3:
        return
    for theirs, path in torch_probabilities(context):
        if theirs.size != ours.size or theirs.shape[-1] != ours.shape[-1]:
            continue
        reference = theirs.reshape(ours.shape)
        for kind, cause, advice, trial in _relations(ours, reference):
            yield Hypothesis(kind, cause, advice, trial, against=reference, torch_at=path,
                             output_of=number)


def _relations(ours: Array, theirs: Array) -> Iterator[tuple[str, str, str, Array]]:
    """Yield kind, cause, advice and result of what may make torch's probabilities of Keras's."""
    factor = score_ratio(ours, theirs)
    if factor is not None:
        yield ("attention scale", f"the scores of attention are {factor:.6g} times those of torch "
               "before the softmax",
               f"multiply the query (or the scores) by {1 / factor:.6g} in Keras",
               _softmax(np.log(np.maximum(ours.astype(np.float64), 1e-300)) / factor))
    yield from _masks(ours, theirs)
    exchanged = np.swapaxes(ours, -1, -2)
    if exchanged.shape == ours.shape:
        yield ("query and key exchanged", "query and key are exchanged",
               "exchange them in one of the models",
               _softmax(np.log(np.maximum(exchanged.astype(np.float64), 1e-30))))


def _masks(ours: Array, theirs: Array) -> Iterator[tuple[str, str, str, Array]]:
    masked, wanted = ours < MASKED_BELOW, theirs < MASKED_BELOW
    if bool((masked == wanted).all()):
        return
    trial = np.where(wanted, 0, ours)
    total = trial.sum(-1, keepdims=True)
    trial = np.asarray(trial / np.where(total == 0, 1, total), np.float32)
    size = wanted.shape[-2:]
    if bool((masked == ~wanted).all()):
        cause = "the mask means the opposite: what torch attends to is what Keras leaves out"
    elif size[0] == size[1] and bool((wanted == np.triu(np.ones(size, bool), 1)).all()):
        cause = "torch masks what comes later (causal), Keras does not"
    else:
        cause = (f"torch leaves out {wanted.mean():.0%} of the pairs of places, Keras "
                 f"{masked.mean():.0%}")
    yield "mask", cause, "give both models masks of one meaning", trial


def is_distribution(array: Array) -> bool:
    """Whether the last axis sums to one."""
    return (array.dtype.kind == "f" and array.ndim > 2 and bool(
        (array >= 0).all() and np.allclose(array.sum(-1), 1, atol=1e-4)))


def score_ratio(ours: Array, theirs: Array) -> float | None:
    """Return the factor between the scores before two softmaxes, from what neither leaves out."""
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
    largest = max(float(np.abs(one).max(initial=0.0)), 1e-6)
    is_close = float(np.abs(one - factor * two).max(initial=0.0)) < 1e-3 * largest
    return factor if is_close and factor > 0 and abs(factor - 1) > 1e-4 else None


def torch_probabilities(context: DivergenceContext) -> list[tuple[Array, str]]:
    """Return what torch's softmaxes here give, those inside fused attention too, and the module in
    which each runs.
    """
    found = [(array, step.path) for step, array in context.step_results() if "softmax" in step.name]
    for step in context.steps:
        if not step.name.startswith(FUSED) or len(step.inputs) != 3:
            continue
        query, key = (context.array_of(value) for value in step.inputs[:2])
        if query is not None and key is not None and query.shape[:-2] == key.shape[:-2]:
            scale = step.settings.get("scale") or query.shape[-1]**-0.5
            scores = scale * query.astype(np.float64) @ np.swapaxes(key, -1, -2)
            found.append((_softmax(scores), step.path))
    return found


def _softmax(scores: Array, axis: int = -1) -> Array:
    powers = np.exp(scores - scores.max(axis, keepdims=True))
    return np.asarray(powers / powers.sum(axis, keepdims=True), np.float32)


# Where Keras shows query, key and value only.


@dataclass(frozen=True, slots=True, eq=False)
class Variant:
    """One way to compute attention, `is_usual` when its `scale` is one over the root of the width,
    and its result.
    """

    scale: str
    mask: str
    change: str
    is_usual: bool
    trial: Array

    @property
    def words(self) -> str:
        """What tells it from the usual way."""
        return ", ".join(part for part in (self.change, self.mask, f"scale {self.scale}") if part)

    def kind_against(self, keras: Variant | None) -> str:
        """Return the kind of mistake that makes this one of Keras's."""
        if keras is None:
            return self.change or ("mask" if self.mask else
                                   "attention" if self.is_usual else "attention scale")
        if self.change != keras.change:
            return self.change or keras.change
        return "mask" if self.mask != keras.mask else "attention scale"


def _recomputed(context: DivergenceContext) -> Iterator[Hypothesis]:
    """Compute attention anew in every usual way: one gives what torch has, one what Keras has."""
    parts = query_key_value(context)
    if parts is None or not context.expected or not context.keras.inputs:
        return
    ours = context.keras.inputs[0]
    every = list(variants(context, *parts))
    keras = next((one for one in every if apart(one.trial, ours) < PROVEN_BELOW), None)
    for theirs in every:
        if theirs is not keras:
            cause = (f"torch computes attention with {theirs.words}, Keras with "
                     f"{keras.words if keras else 'something else'}")
            yield Hypothesis(theirs.kind_against(keras), cause, "use the same in both models",
                             theirs.trial)


def query_key_value(context: DivergenceContext) -> tuple[Array, Array, Array] | None:
    """Return query, key and value as (batch, places, heads, width): torch's, where they went into
    one operation, else the last Keras outputs of that rank.
    """
    for step in context.steps:
        if step.name.startswith(FUSED) and len(step.inputs) >= 3:
            found = context.arrays_of(step.inputs[:3])
            if len(found) == 3 and all(array.ndim == 4 for array in found):
                query, key, value = (np.moveaxis(array, 1, 2) for array in found)
                return query, key, value
    found = [out for _, one in context.producers for out in one.outputs[:1] if out.ndim == 4]
    if len(found) < 3:
        return None
    query, key, value = found[-3:]
    return query, key, value


def variants(context: DivergenceContext, query: Array, key: Array,
             value: Array) -> Iterator[Variant]:
    """Yield every usual way to compute attention: the simplest first, then masks with other scales.
    """
    width, heads = query.shape[-1], query.shape[2]
    plain = 1 / np.sqrt(width)
    scales = dict.fromkeys(
        (plain, 1.0, 1 / np.sqrt(width * heads), 1 / width, np.sqrt(width), 2 * plain, plain / 2))
    for mask, masked in masks_of(context, query.shape[1], key.shape[1]).items():
        for scale in scales:
            words = f"1/sqrt({width})" if scale == plain else f"{scale:.6g}"
            yield Variant(words, mask, "", scale == plain, attended(query, key, value, scale,
                                                                    masked))
        for change, trial in _changed(query, key, value, plain, masked):
            yield Variant(f"1/sqrt({width})", mask, change, True, trial)


def _changed(query: Array, key: Array, value: Array, scale: float,
             masked: Array | None) -> Iterator[tuple[str, Array]]:
    """Yield attention with parts in each other's place."""
    width, heads = query.shape[-1], query.shape[2]
    if query.shape == key.shape:
        yield "query and key exchanged", attended(key, query, value, scale, masked)
    if value.shape == key.shape:
        yield "key and value exchanged", attended(query, value, key, scale, masked)
    one, two, three = (np.swapaxes(part.reshape(*part.shape[:2], width, heads), 2, 3)
                       for part in (query, key, value))
    yield "head order", np.swapaxes(attended(one, two, three, scale, masked), 2, 3)
    if query.shape == key.shape:
        yield "softmax axis", attended(query, key, value, scale, masked, axis=-2)


def masks_of(context: DivergenceContext, queries: int, keys: int) -> dict[str, Array | None]:
    """Return what may be left out, as arrays that are true there: nothing first."""
    found: dict[str, Array | None] = {"": None}
    later = np.triu(np.ones((queries, keys), bool), 1)
    if queries == keys:
        found["a causal mask"] = later
        found["a mask of what came before"] = later.T
    for mask in context.masks:
        if mask.shape[-1] != keys:
            continue
        for name, out in (("the mask, 1 attended to", mask == 0), ("the mask, 1 left out", mask
                                                                   != 0)):
            row = out.reshape(-1, keys)[0]
            if row.any() and not row.all():
                found[name] = np.broadcast_to(row, (queries, keys))
                if queries == keys:
                    found[f"{name}, and a causal one"] = row | later
    return found


def attended(query: Array, key: Array, value: Array, scale: float, masked: Array | None = None,
             axis: int = -1) -> Array:
    """Return softmax(query key^T scale) value, (batch, places, heads, width); the softmax is over
    the keys, or (`axis` -2) over the queries.
    """
    scores = np.einsum("bqhd,bkhd->bhqk", query.astype(np.float64), key.astype(np.float64)) * scale
    if masked is not None:
        scores = np.where(masked, LEFT_OUT, scores)
    mixed = np.einsum("bhqk,bkhd->bqhd", _softmax(scores, axis), value.astype(np.float64))
    return np.asarray(mixed, np.float32)
