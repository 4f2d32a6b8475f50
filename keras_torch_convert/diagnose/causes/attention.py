"""Attention: the scale of the scores, masks and their convention, query and key exchanged, heads."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from functools import partial

import numpy as np

from ..arrays import apart, arranged
from ..scene import ENOUGH, Array, Hypothesis, Scene
from .structure import ratio_of

USUAL = "attention"


def hypotheses(scene: Scene) -> Iterator[Hypothesis]:
    """From the probabilities of both, where Keras shows them, else by computing attention anew from query, key and value."""
    if scene.spot.kind == "before":
        yield from _scaled_inside(scene)
    yield from _from_probabilities(scene)
    if scene.spot.kind == "before":
        yield from _recomputed(scene)


def _scaled_inside(scene: Scene) -> Iterator[Hypothesis]:
    """torch multiplies what a layer inside gives by a number: the layer around it run with that."""
    for call, captured in scene.before:
        for step in scene.steps if captured.outputs else ():
            for value in scene.values.get(step.order, ()):
                for array in arranged(value, captured.outputs[0].shape):
                    factor = ratio_of(array, captured.outputs[0])
                    trial = (
                        scene.parent_with({}, call.layer, partial(operator.mul, factor)) if factor is not None else None
                    )
                    if trial is not None and factor is not None:
                        said = f"torch multiplies the output of '{call.label}' by {factor:.6g}, Keras does not"
                        todo = f"multiply by {factor:.6g} behind '{call.label}' in Keras"
                        yield Hypothesis("scale", said, todo, trial, how="statistics", torch_at=step.path)


def _from_probabilities(scene: Scene) -> Iterator[Hypothesis]:
    """The spot's own input or output are attention probabilities: what makes torch's of them."""
    shown = [*scene.keras.inputs[:1], *scene.keras.outputs[:1]] if scene.call.leaf is None else []
    ours = next((array for array in shown if is_distribution(array)), None)
    if ours is None or ours.ndim < 3:
        return
    for theirs, path in scene.probabilities():
        if theirs.size != ours.size or theirs.shape[-1] != ours.shape[-1]:
            continue
        reference = theirs.reshape(ours.shape)
        factor = score_ratio(ours, reference)
        if factor is not None:
            said = f"the scores of attention are {factor:.6g} times those of torch before the softmax"
            todo = f"multiply the query (or the scores) by {1 / factor:.6g} in Keras"
            yield Hypothesis("attention scale", said, todo, powered(ours, 1 / factor), against=reference, torch_at=path)
        yield from _masks(ours, reference, path)
        turned = np.swapaxes(ours, -1, -2)
        if turned.shape == ours.shape:
            said = "query and key are exchanged"
            both = np.log(np.maximum(turned, 1e-30))
            again = np.exp(both - both.max(-1, keepdims=True))
            trial = np.asarray(again / again.sum(-1, keepdims=True), np.float32)
            yield Hypothesis(
                "query and key exchanged",
                said,
                "exchange them in one of the models",
                trial,
                against=reference,
                torch_at=path,
            )


def _masks(ours: Array, theirs: Array, path: str) -> Iterator[Hypothesis]:
    masked, wanted = ours < 1e-9, theirs < 1e-9
    if (not masked.any() and not wanted.any()) or bool((masked == wanted).all()):
        return
    trial = np.where(wanted, 0, ours)
    total = trial.sum(-1, keepdims=True)
    trial = np.asarray(trial / np.where(total == 0, 1, total), np.float32)
    opposite = bool((masked == ~wanted).all())
    causal = wanted.shape[-1] == wanted.shape[-2] and bool(
        (wanted == np.triu(np.ones(wanted.shape[-2:], bool), 1)).all()
    )
    if opposite:
        said = "the mask means the opposite: what torch attends to is what Keras leaves out"
    elif causal:
        said = "torch masks what comes later (causal), Keras does not"
    else:
        said = f"torch leaves out {wanted.mean():.0%} of the pairs of places, Keras {masked.mean():.0%}"
    yield Hypothesis("mask", said, "give both models masks of one meaning", trial, against=theirs, torch_at=path)


def is_distribution(array: Array) -> bool:
    """Whether the last axis sums to one."""
    return (
        array.dtype.kind == "f"
        and array.ndim > 2
        and bool((array >= 0).all() and np.allclose(array.sum(-1), 1, atol=1e-4))
    )


def score_ratio(ours: Array, theirs: Array) -> float | None:
    """The factor between the scores before the two softmaxes."""
    if (ours < 1e-30).any() or (theirs < 1e-30).any():
        return None
    one, two = np.log(ours.astype(np.float64)), np.log(theirs.astype(np.float64))
    one, two = one - one.mean(-1, keepdims=True), two - two.mean(-1, keepdims=True)
    norm = float((two * two).sum())
    factor = float((one * two).sum()) / norm if norm else 0.0
    close = float(np.abs(one - factor * two).max(initial=0.0)) < 1e-3 * max(float(np.abs(one).max(initial=0.0)), 1e-6)
    return factor if close and factor > 0 and abs(factor - 1) > 1e-4 else None


def powered(probabilities: Array, exponent: float) -> Array:
    """The probabilities that scores times `exponent` give."""
    raised = np.power(probabilities.astype(np.float64), exponent)
    return np.asarray(raised / raised.sum(-1, keepdims=True), np.float32)


def _recomputed(scene: Scene) -> Iterator[Hypothesis]:
    """Attention computed anew from query, key and value in every usual way: which one gives what torch has, and which one what Keras has."""
    parts = scene.query_key_value()
    if parts is None or not scene.expected or not scene.keras.inputs:
        return
    every = {name: (kind, trial) for kind, name, trial in variants(scene, *parts)}
    ours = scene.keras.inputs[0]
    keras = next((name for name, (_, trial) in every.items() if apart(trial, ours) < ENOUGH), None)
    for name, (kind, trial) in every.items():
        if name == keras:
            continue
        told = kind if kind != USUAL or keras is None else every[keras][0]
        said = f"torch computes attention with {name}, Keras with {keras or 'something else'}"
        yield Hypothesis(told, said, "use the same in both models", trial)


def variants(scene: Scene, query: Array, key: Array, value: Array) -> Iterator[tuple[str, str, Array]]:
    """Kind of the mistake that it would be, name and result of every usual way to compute attention."""
    width, heads = query.shape[-1], query.shape[2]
    plain = 1 / np.sqrt(width)
    yield USUAL, f"scale 1/sqrt({width})", attended(query, key, value, plain)
    for factor in dict.fromkeys((1.0, 1 / np.sqrt(width * heads), 1 / width, np.sqrt(width), 2 * plain, plain / 2)):
        yield "attention scale", f"scale {factor:.6g}", attended(query, key, value, factor)
    places = query.shape[1], key.shape[1]
    if places[0] == places[1]:
        later = np.triu(np.ones(places, bool), 1)
        yield "mask", "a causal mask", attended(query, key, value, plain, later)
        yield "mask", "a mask of what came before", attended(query, key, value, plain, later.T)
    for mask in scene.masks:
        if mask.shape[-1] == key.shape[1]:
            for name, out in (("the mask, 1 attended to", mask == 0), ("the mask, 1 left out", mask != 0)):
                row = out.reshape(-1, out.shape[-1])[0]
                if row.any() and not row.all():
                    yield "mask", name, attended(query, key, value, plain, np.broadcast_to(row, places))
    if query.shape == key.shape:
        yield "query and key exchanged", "query and key exchanged", attended(key, query, value, plain)
    if value.shape == key.shape:
        yield "key and value exchanged", "key and value exchanged", attended(query, value, key, plain)
    mixed = [np.swapaxes(part.reshape(*part.shape[:2], width, heads), 2, 3) for part in (query, key, value)]
    yield "head order", "heads interleaved", np.swapaxes(attended(mixed[0], mixed[1], mixed[2], plain), 2, 3)
    if query.shape == key.shape:
        scores = np.einsum("bqhd,bkhd->bhqk", query.astype(np.float64), key.astype(np.float64)) * plain
        over_queries = np.exp(scores - scores.max(-2, keepdims=True))
        weights = over_queries / over_queries.sum(-2, keepdims=True)
        yield (
            "softmax axis",
            "softmax over the queries",
            np.einsum("bhqk,bkhd->bqhd", weights, value).astype(np.float32),
        )


def attended(query: Array, key: Array, value: Array, scale: float, masked: Array | None = None) -> Array:
    """softmax(query key^T scale) value, (batch, places, heads, width)."""
    scores = np.einsum("bqhd,bkhd->bhqk", query.astype(np.float64), key.astype(np.float64)) * scale
    if masked is not None:
        scores = np.where(masked, -1e30, scores)
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    mixed = np.einsum("bhqk,bkhd->bqhd", powers / powers.sum(-1, keepdims=True), value.astype(np.float64))
    return np.asarray(mixed, np.float32)
