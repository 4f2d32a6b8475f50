"""Attention: what goes into the softmax of both models is compared. Keras shows it where the
softmax is a layer, or a function of `keras.ops` in whatever code; torch always.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import permutations
from itertools import product as product_of
from typing import Any

import numpy as np

from ...comparison.arrays import arranged
from ...running.torch_steps import Step
from ..context import PROVEN_BELOW, Array, Cause, CodeCall, DivergenceContext, Hypothesis
from .common import constant, ratio_of
from .rope import difference, rotation

FUSED = "_scaled_dot_product"
PRODUCTS = ("bmm", "matmul", "einsum", "mm")
# What a softmax gives for scores that are masked, and what goes in for them.
MASKED_BELOW, LEFT_OUT = 1e-30, -1e4
# Two softmaxes are the same one.
SAME_SCORES = 1e-3
ALIKE_FACTOR = 1e-4
Fields = Callable[[Array], Iterator[dict[str, Any]]]


def hypotheses(context: DivergenceContext) -> Iterator[Hypothesis]:
    """Give the softmax of Keras what torch's gives, or the layer around what torch's heads give."""
    if context.point.kind == "before" or context.call.children:
        yield from _scaled_inside(context)
    if context.has_weights and context.point.kind != "before":
        return
    every = list(_of_torch(context))
    for ours, put in _of_keras(context) if every else ():
        for theirs in every:
            yield from _compared(context, ours, theirs, put)


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


# What both have.


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """What goes into one softmax, (batch, heads, queries, keys).

    `scores` are before a soft cap of `cap`, `left_out` is true where a mask is; `query`, `key` and
    `value` are (batch, heads, positions, width) where they are known, `path` torch's module, `axis`
    the one over which the softmax goes, `layer` the Keras layer that it is, "" in code.
    """

    scores: Array
    left_out: Array
    cap: float | None = None
    query: Array | None = None
    key: Array | None = None
    value: Array | None = None
    path: str | None = None
    axis: int = -1
    layer: str = ""

    @property
    def probabilities(self) -> Array:
        """What the softmax gives."""
        scores = self.scores if self.cap is None else self.cap * np.tanh(self.scores / self.cap)
        return softmax(np.where(self.left_out, 10 * LEFT_OUT, scores))

    @property
    def mixed(self) -> Array | None:
        """What attention gives, (batch, positions, heads, width)."""
        if self.value is None or self.value.shape[1] != self.scores.shape[1]:
            return None
        return np.asarray(np.swapaxes(self.probabilities @ self.value, 1, 2), np.float32)


def softmax(scores: Array, axis: int = -1) -> Array:
    """Return the softmax over an axis, in float64."""
    powers = np.exp(scores.astype(np.float64) - scores.max(axis, keepdims=True))
    return np.asarray(powers / powers.sum(axis, keepdims=True))


def axis_of(given: Array, output: Array) -> int | None:
    """Return the axis over which a softmax went, the last one first; None when none did."""
    if given.shape != output.shape or output.dtype.kind != "f" or output.ndim < 3:
        return None
    axes = (-1, *range(output.ndim - 1))
    return next((axis for axis in axes if np.allclose(softmax(given, axis), output, atol=1e-5)),
                None)


def is_distribution(array: Array) -> bool:
    """Whether the last axis sums to one."""
    return (array.dtype.kind == "f" and array.ndim > 2 and bool(
        (array >= 0).all() and np.allclose(array.sum(-1), 1, atol=1e-4)))


def of_probabilities(given: Array, path: str | None = None) -> Scores:
    """Return scores that give these probabilities."""
    wide = given.reshape((1, *given.shape) if given.ndim == 3 else given.shape).astype(np.float64)
    wide = wide.reshape(wide.shape[0], -1, *wide.shape[-2:])
    left_out = wide < MASKED_BELOW
    return Scores(np.log(np.where(left_out, 1, wide)), left_out, path=path)


def _of_torch(context: DivergenceContext) -> Iterator[Scores]:
    for number, step in enumerate(context.steps):
        before = context.steps[:number]
        if "softmax" in step.name:
            for array in context.values.get(step.order, ()):
                if is_distribution(array):
                    yield _with_cap_of_torch(
                        context, before,
                        _with_parts(context, context.steps, step,
                                    of_probabilities(array, step.path)))
        elif step.name.startswith(FUSED):
            yield from _of_fused(context, step)


def _of_fused(context: DivergenceContext, step: Step) -> Iterator[Scores]:
    arrays = context.arrays_of(step.inputs[:3])
    if len(arrays) < 3 or any(array.ndim != 4 for array in arrays):
        return
    query, key, value = arrays
    if query.shape[1] % key.shape[1]:
        return
    key, value = (one.repeat(query.shape[1] // one.shape[1], 1) for one in (key, value))
    scale = step.settings.get("scale") or query.shape[-1]**-0.5
    scores = scale * query.astype(np.float64) @ np.swapaxes(key, -1, -2)
    known = Scores(scores, np.zeros(scores.shape, bool), None, query, key, value, step.path)
    later = np.triu(np.ones(scores.shape[-2:], bool), 1)
    # A mask made of constants alone is not kept: what comes out tells which one it was.
    given = {array.shape: array for array in context.arrays_of(step.inputs[3:])}
    masks = [
        (array == 0) if array.dtype.kind == "b" else array < LEFT_OUT for array in given.values()
    ]
    masks += [np.zeros(later.shape, bool), later, *windows(later.shape)]
    masks += [mask | later for mask in masks]
    for mask in masks:
        tried = replace(known, left_out=np.broadcast_to(mask, scores.shape))
        mixed = tried.mixed
        if mixed is not None and any(
                array.shape == query.shape and np.allclose(np.swapaxes(array, 1, 2), mixed, atol=(
                    1e-4 * float(np.abs(mixed).max())))
                for array in context.values.get(step.order, ())):
            yield tried
            return


def windows(shape: tuple[int, ...]) -> Iterator[Array]:
    """Yield masks of what is too far back, and of what is too far on both sides."""
    distance = np.arange(shape[0])[:, None] - np.arange(shape[1])
    for width in range(1, min(shape[0], 64)):
        yield distance >= width
        yield np.abs(distance) >= width


def _with_cap_of_torch(context: DivergenceContext, before: Sequence[Step], known: Scores) -> Scores:
    for step in before:
        if step.name.startswith("tanh"):
            for given, made in zip(context.arrays_of(step.inputs),
                                   context.values.get(step.order, ()), strict=False):
                if made.size == known.scores.size and (capped := _capped(known, given, made)):
                    return capped
    return known


def _capped(known: Scores, given: Array, made: Array) -> Scores | None:
    """Return scores as what a soft cap, whose tanh made `made` of `given`, gave."""
    made, given = (array.reshape(known.scores.shape) for array in (made, given))
    plain = softmax(np.where(known.left_out, 10 * LEFT_OUT, made))
    cap = factor_between(known.probabilities, plain)
    return None if cap is None else replace(known, scores=cap * given, cap=cap)


def _with_parts(context: DivergenceContext, steps: Sequence[Step], softmax_step: Step,
                known: Scores) -> Scores:
    """Add query, key and value of torch's products before and behind a softmax."""
    batch, heads, queries, keys = known.scores.shape
    products = [step for step in steps if step.name in PRODUCTS]
    before = [step for step in products if step.order < softmax_step.order]
    behind = [step for step in products if step.order > softmax_step.order]
    for step in before[-1:]:
        given = context.arrays_of(step.inputs[:2])
        if len(given) == 2:
            pair = _as_heads(given[0], given[1], (batch, heads, queries, keys))
            known = known if pair is None else replace(known, query=pair[0], key=pair[1])
    for step in behind[:1]:
        for array in context.arrays_of(step.inputs[1:2]):
            if array.size % (batch * heads * keys) == 0 and array.shape[-2] == keys:
                known = replace(known, value=array.reshape(batch, heads, keys, -1))
    return known


def _as_heads(query: Array, key: Array, shape: tuple[int, int, int,
                                                     int]) -> tuple[Array, Array] | None:
    batch, heads, queries, keys = shape
    if query.size % (batch * heads * queries) or query.shape[-2] != queries:
        return None
    one = query.reshape(batch, heads, queries, -1)
    if key.size != batch * heads * keys * one.shape[-1]:
        return None
    if key.shape[-1] == keys and key.shape[-2] == one.shape[-1]:
        return one, np.swapaxes(key.reshape(batch, heads, -1, keys), -1, -2)
    return one, key.reshape(batch, heads, keys, -1)


# What Keras has.


def _of_keras(context: DivergenceContext) -> Iterator[tuple[Scores, Fields]]:
    """Yield what goes into softmaxes of Keras, with a function that puts other probabilities in the
    place of what one gives.
    """
    if context.point.kind == "before":
        calls = context.code_calls()
        for code in calls:
            ours = None
            if code.name == "dot_product_attention":
                ours = _of_function(code)
            elif code.name == "softmax" and code.inputs:
                layers = (call.display_name
                          for call, captured in (*context.producers, (context.call, context.keras))
                          for array in captured.outputs[:1] if np.array_equal(array, code.output))
                ours = _of_softmax(calls[:code.number], calls[code.number + 1:], code.inputs[0],
                                   code.output)
                ours = ours and replace(ours, layer=next(layers, ""))
            if ours is not None:
                yield ours, partial(_in_code, context, code, ours)
        if not any(code.name in ("softmax", "dot_product_attention") for code in calls):
            yield from _of_softmax_layers(context, calls)
        return
    shown: list[tuple[Array, int | None]] = [(array, None) for array in context.keras.inputs[:1]]
    shown += [(array, context.call.number) for array in context.keras.outputs[:1]]
    shown += [
        (captured.outputs[0], call.number) for call, captured in context.chain if captured.outputs
    ]
    for array, number in shown:
        if is_distribution(array):
            yield of_probabilities(array), partial(_shown, array, number)
            return


def _of_softmax_layers(context: DivergenceContext,
                       calls: Sequence[CodeCall]) -> Iterator[tuple[Scores, Fields]]:
    """Yield what goes into layers that are a softmax, with the products in the code around."""
    for call, captured in (*context.producers, (context.call, context.keras)):
        if captured.inputs and captured.outputs:
            given, output = captured.inputs[0], captured.outputs[0]
            scores = [
                code.number
                for code in calls if code.name in PRODUCTS and code.output.size == given.size
            ]
            behind = scores[-1] + 1 if scores else 0
            ours = _of_softmax(calls[:behind], calls[behind:], given, output)
            if ours is not None:
                ours = replace(ours, layer=call.display_name)
                yield ours, partial(_behind, context, call.layer, output)


def _in_code(context: DivergenceContext, code: CodeCall, ours: Scores,
             probabilities: Array) -> Iterator[dict[str, Any]]:
    array = probabilities.reshape(code.output.shape) if code.name == "softmax" else replace(
        ours, scores=np.log(np.maximum(probabilities, 1e-300)), left_out=np.zeros(
            probabilities.shape, bool), cap=None).mixed
    trial = None if array is None else context.around_code(code, array)
    if trial is not None:
        yield trial


def _behind(context: DivergenceContext, layer: Any, given: Array,
            probabilities: Array) -> Iterator[dict[str, Any]]:
    array = probabilities.reshape(given.shape).astype(np.float32)
    trial = context.around(layer, change=partial(constant, array))
    if trial is not None:
        yield trial


def _shown(given: Array, number: int | None, probabilities: Array) -> Iterator[dict[str, Any]]:
    array = probabilities.reshape(given.shape).astype(np.float32)
    yield {"trial": array, "against": array, "output_of": number}


def _of_function(code: CodeCall) -> Scores | None:
    query, key, value = (np.moveaxis(array, 2, 1) for array in code.inputs[:3])
    if query.ndim != 4 or query.shape[1] % key.shape[1]:
        return None
    key, value = (one.repeat(query.shape[1] // one.shape[1], 1) for one in (key, value))
    scale = code.kwargs.get("scale") or query.shape[-1]**-0.5
    scores = scale * query.astype(np.float64) @ np.swapaxes(key, -1, -2)
    left_out = np.zeros(scores.shape, bool)
    for array in code.inputs[3:]:
        if array.dtype.kind == "b":
            left_out = left_out | ~array
        elif array.ndim == 4:
            scores = scores + array
    if code.kwargs.get("is_causal"):
        left_out = left_out | np.triu(np.ones(scores.shape[-2:], bool), 1)
    left_out = left_out | (scores < LEFT_OUT)
    return Scores(np.where(left_out, np.maximum(scores, LEFT_OUT), scores), left_out, None, query,
                  key, value)


def _of_softmax(before: Sequence[CodeCall], behind: Sequence[CodeCall], given: Array,
                output: Array) -> Scores | None:
    """Return what goes into a softmax, with the cap and the product before it, and the value behind
    it.
    """
    axis = -1 if is_distribution(output) else axis_of(given, output)
    if axis is None:
        return None
    known = replace(of_probabilities(output), axis=axis)
    given = given.reshape(known.scores.shape).astype(np.float64)
    left_out = given < LEFT_OUT
    known = replace(known, scores=np.where(left_out, 0, given), left_out=left_out)
    for one in before:
        if one.name == "tanh" and one.output.size == given.size:
            known = _capped(known, one.inputs[0], one.output) or known
    products = [one for one in before if one.name in PRODUCTS and one.output.size == given.size]
    for one in products[-1:]:
        known = _with_product(known, one)
    for one in behind:
        if one.name in PRODUCTS and len(one.inputs) == 2:
            weights = one.inputs[0].size == given.size
            batch, heads, _, keys = known.scores.shape
            value = next(_placed(one.inputs[1 if weights else 0], (batch, heads, keys)), None)
            return known if value is None else replace(known, value=value)
    return known


def _with_product(known: Scores, product: CodeCall) -> Scores:
    """Add what Keras multiplies for its scores, and the scores where a mask hides them."""
    plain = product.output.reshape(known.scores.shape).astype(np.float64)
    seen = ~known.left_out
    factor = ratio_of(known.scores[seen], plain[seen])
    if factor is None and np.allclose(known.scores[seen], plain[seen], rtol=1e-4, atol=1e-5):
        factor = 1.0
    if factor is not None:
        known = replace(known, scores=factor * plain)
    batch, heads, queries, keys = known.scores.shape
    # The key may come first.
    for one, two in permutations(product.inputs[:2]):
        for query, key in product_of(_placed(one, (batch, heads, queries)),
                                     _placed(two, (batch, heads, keys))):
            scores = query.astype(np.float64) @ np.swapaxes(key, -1, -2)
            if query.shape[-1] == key.shape[-1] and np.allclose(
                    scores, plain, atol=PROVEN_BELOW * float(np.abs(plain).max())):
                return replace(known, query=query, key=key)
    return known


def _placed(array: Array, shape: tuple[int, int, int]) -> Iterator[Array]:
    """Yield (batch, heads, positions, width), from that, (batch, positions, heads, width) or
    (batch, heads, width, positions).
    """
    if array.ndim == 3 and array.shape[0] == shape[0] * shape[1]:
        array = array.reshape(*shape[:2], *array.shape[1:])
    for perm in ((0, 1, 2, 3), (0, 2, 1, 3), (0, 1, 3, 2)) if array.ndim == 4 else ():
        if array.transpose(perm).shape[:3] == shape:
            yield array.transpose(perm)


# How one becomes the other.


def _compared(context: DivergenceContext, ours: Scores, theirs: Scores,
              put: Fields) -> Iterator[Hypothesis]:
    """Change Keras's scores to what they are in torch, one part after the other."""
    if ours.scores.shape[-2:] != theirs.scores.shape[-2:]:
        return
    if ours.scores.shape != theirs.scores.shape:
        yield from _other_heads(context, ours, theirs)
        return
    yield from _of_scores(ours, theirs, put)
    yield from _turned(ours, theirs, put)
    yield from _of_parts(context, ours, theirs, put)


def _of_scores(ours: Scores, theirs: Scores, put: Fields,
               before: tuple[Cause, ...] = ()) -> Iterator[Hypothesis]:
    """Multiply, cap and mask Keras's scores as torch's are; `before` is what was changed already.
    """
    plain = replace(ours, left_out=theirs.left_out, cap=None)
    wanted = replace(theirs, cap=None)
    factor = factor_between(wanted.probabilities, plain.probabilities)
    if factor is None:
        return
    causes = [*before, *_said(ours, theirs, factor)]
    fixed = replace(ours, scores=factor * ours.scores, left_out=theirs.left_out, cap=theirs.cap)
    for one in put(fixed.probabilities) if causes else ():
        at = ours.layer if ours.axis != theirs.axis else ""
        yield Hypothesis(*causes[0], **one, at=at, torch_at=theirs.path, others=tuple(causes[1:]))


def _said(ours: Scores, theirs: Scores, factor: float) -> Iterator[Cause]:
    if ours.axis != theirs.axis:
        yield Cause(
            "softmax axis", f"Keras computes the softmax over axis {ours.axis}, torch over "
            f"axis {theirs.axis}", f"compute it over axis {theirs.axis} in Keras")
    if bool((ours.left_out != theirs.left_out).any()):
        yield _of_masks(ours.left_out, theirs.left_out)
    if ours.cap != theirs.cap and not (ours.cap and theirs.cap
                                       and abs(ours.cap / theirs.cap - 1) < SAME_SCORES):
        words = [
            f"a soft cap of {one.cap:.4g}" if one.cap else "no soft cap" for one in (ours, theirs)
        ]
        formula = (f"cap the scores in Keras: {theirs.cap:.4g} * tanh(scores / {theirs.cap:.4g})"
                   if theirs.cap else "leave the soft cap out in Keras")
        yield Cause("soft cap", f"Keras's scores of attention have {words[0]}, torch's {words[1]}",
                    formula)
    if abs(factor - 1) > ALIKE_FACTOR:
        before = "soft cap" if theirs.cap else "softmax"
        yield Cause(
            "attention scale", f"the scores of attention are {1 / factor:.6g} times those "
            f"of torch before the {before}",
            f"multiply the query (or the scores) by {factor:.6g} in Keras")


def _of_masks(ours: Array, theirs: Array) -> Cause:
    if bool((ours == ~theirs).all()):
        return Cause(
            "mask", "the mask means the opposite: what torch attends to is what Keras "
            "leaves out", "give both models masks of one meaning")
    words = [_words_of_mask(one) for one in (ours, theirs)]
    advice = f"mask in Keras as torch does: {words[1]}"
    if words[0] == words[1]:
        words = [f"{one.mean():.0%} of the pairs of positions" for one in (ours, theirs)]
        advice = "give both models masks of one meaning"
    kind = "window" if any("window" in one for one in words) else "mask"
    return Cause(kind, f"Keras leaves out {words[0]}, torch {words[1]}", advice)


def _words_of_mask(mask: Array) -> str:
    flat = mask.reshape(-1, *mask.shape[-2:])
    if not mask.any():
        return "nothing"
    if (flat == flat[0]).all() and flat.shape[-1] == flat.shape[-2]:
        later = np.triu(np.ones(flat.shape[-2:], bool), 1)
        if (flat[0] == later).all():
            return "what comes later (causal)"
        for width, (back, both) in enumerate(zip(*[windows(later.shape)] * 2, strict=True), 1):
            if (flat[0] == (back | later)).all():
                return f"all but a window of the last {width} positions"
            if (flat[0] == both).all():
                return f"all but a window of {width - 1} positions on both sides"
    return f"{mask.mean():.0%} of the pairs of positions"


def _turned(ours: Scores, theirs: Scores, put: Fields) -> Iterator[Hypothesis]:
    """Exchange query and key."""
    if ours.scores.shape[-1] == ours.scores.shape[-2]:
        exchanged = replace(ours, scores=np.swapaxes(ours.scores, -1, -2))
        yield from _of_scores(exchanged, theirs, put,
                              (Cause("query and key exchanged", "query and key are exchanged",
                                     "exchange them in one of the models"),))


def _of_parts(context: DivergenceContext, ours: Scores, theirs: Scores,
              put: Fields) -> Iterator[Hypothesis]:
    """Turn Keras's query and key as torch does, or bring its heads into torch's order."""
    if ours.query is None or ours.key is None or theirs.query is None or theirs.key is None:
        return
    plain = np.abs(ours.query.astype(np.float64) @ np.swapaxes(ours.key, -1, -2)).max()
    scale = float(np.abs(ours.scores).max() / plain)
    for before in _before(context, theirs.query.shape):
        own, other = rotation(before, ours.query), rotation(before, theirs.query)
        said = None if own is None or other is None else difference(own, other)
        if said is not None and own is not None and other is not None:
            query, key = (
                other.applied(own.applied(one, backward=True)) for one in (ours.query, ours.key))
            turned = replace(ours, scores=scale * query @ np.swapaxes(key, -1, -2))
            yield from _of_scores(turned, theirs, put, (Cause("rope", *said),))
    order = _order_of_heads(ours.key, theirs.key)
    if order is not None and ours.value is not None:
        key, value = ours.key[:, order], ours.value[:, order]
        scores = scale * ours.query.astype(np.float64) @ np.swapaxes(key, -1, -2)
        mixed = replace(ours, scores=scores, value=value).mixed
        if mixed is not None:
            way = "ops.repeat" if order == sorted(order) else "ops.tile"
            yield Hypothesis("head order",
                             "the heads of key and value are repeated in another order in torch",
                             f"repeat them in Keras in torch's order: with {way}", mixed,
                             torch_at=theirs.path)


def _before(context: DivergenceContext, shape: tuple[int, ...]) -> Iterator[Array]:
    """Yield what layers before gave, as (batch, heads, positions, width)."""
    batch, heads, positions, width = shape
    for _, captured in reversed(context.producers):
        for array in captured.outputs[:1]:
            if array.size == batch * heads * positions * width:
                flat = array.reshape(batch, positions, heads, width)
                yield np.swapaxes(flat, 1, 2)


def _order_of_heads(ours: Array, theirs: Array) -> list[int] | None:
    """Return for each of torch's heads the one of Keras that holds its values."""
    if ours.shape != theirs.shape:
        return None
    scale = max(float(np.abs(theirs).max()), 1e-30)
    order = []
    for head in range(theirs.shape[1]):
        apart = np.abs(ours - theirs[:, head:head + 1]).max((0, 2, 3))
        if apart.min() > PROVEN_BELOW * scale:
            return None
        order.append(int(apart.argmin()))
    apart = np.abs(ours[:, order] - ours).max()
    return order if apart > PROVEN_BELOW * scale else None


def _other_heads(context: DivergenceContext, ours: Scores, theirs: Scores) -> Iterator[Hypothesis]:
    """Split query, key and value into as many heads as torch."""
    heads, own = theirs.scores.shape[1], ours.scores.shape[1]
    if any(part is None for part in (ours.query, ours.key, ours.value)):
        return
    split = []
    for part in (ours.query, ours.key, ours.value):
        assert part is not None
        flat = np.swapaxes(part, 1, 2)
        if part.shape[1] * part.shape[3] % heads:
            return
        split.append(np.swapaxes(flat.reshape(*flat.shape[:2], heads, -1), 1, 2))
    query, key, value = split
    left_out = np.broadcast_to(theirs.left_out, (*query.shape[:2], *theirs.scores.shape[2:]))
    for scale in (query.shape[-1]**-0.5, 1.0, *_scale_of(theirs, query, key)):
        scores = scale * query.astype(np.float64) @ np.swapaxes(key, -1, -2)
        mixed = Scores(scores, left_out, theirs.cap, query, key, value).mixed
        if mixed is not None:
            yield Hypothesis(
                "number of heads", f"Keras attends with {own} heads, torch with {heads}",
                f"build the Keras layer with {heads} heads (num_heads={heads}, key_dim="
                f"{query.shape[-1]})", mixed, torch_at=theirs.path,
                compare="values" if context.expected else "statistics")


def _scale_of(theirs: Scores, query: Array, key: Array) -> Iterator[float]:
    """Yield the factor that gives Keras's scores the size of torch's; one of them may be scaled
    before they are multiplied.
    """
    if theirs.query is not None and theirs.key is not None:
        plain = theirs.query.astype(np.float64) @ np.swapaxes(theirs.key, -1, -2)
        seen = ~theirs.left_out
        scale = float(np.abs(theirs.scores[seen]).sum() / np.abs(plain[seen]).sum())
        sizes = [float(np.linalg.norm(one)) for one in (theirs.query, theirs.key, query, key)]
        yield scale * sizes[0] * sizes[1] / (sizes[2] * sizes[3])


def factor_between(theirs: Array, ours: Array) -> float | None:
    """Return the factor of the scores of one softmax over those of another, from what neither
    leaves out; None when they are not multiples, or masked otherwise.
    """
    left = (ours > MASKED_BELOW) & (theirs > MASKED_BELOW)
    if bool(((ours > MASKED_BELOW) != (theirs > MASKED_BELOW)).any()) or not left.any():
        return None
    one, two = _centered(theirs, left), _centered(ours, left)
    norm = float((two * two).sum())
    factor = float((one * two).sum()) / norm if norm else 0.0
    largest = max(float(np.abs(one).max(initial=0.0)), 1e-6)
    is_near = float(np.abs(one - factor * two).max(initial=0.0)) < SAME_SCORES * largest
    return factor if is_near and factor > 0 else None


def _centered(probabilities: Array, left: Array) -> Array:
    """Return scores whose mean over what is left is zero."""
    counts = np.maximum(left.sum(-1, keepdims=True), 1)
    logarithms = np.where(left, np.log(np.where(left, probabilities, 1).astype(np.float64)), 0)
    return np.asarray(np.where(left, logarithms - logarithms.sum(-1, keepdims=True) / counts, 0))
