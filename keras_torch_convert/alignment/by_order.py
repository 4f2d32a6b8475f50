"""Pair torch layers with Keras layers by their order, once names are aligned. The two lists must
have one length: nothing is cut off.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection as Names
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..errors import AlignmentError, TransferError
from ..plan.executor import Strict
from ..rules.layer import assign_layer
from ..spec.layer_groups import LayerGroups, TorchLayer
from ..spec.source import Order
from ..spec.target import TargetLayer
from ..util.text import did_you_mean, join_names
from .joined_layers import joined_by_kind
from .recurrent_layers import skipped_apart, split_by_order

_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Pairing:
    """Torch layers with their Keras layers, and what is on no list of pairs.

    `skipped` (torch) and `kept` (Keras) give the rule that excuses a layer; `left_over` and `unset`
    are the layers without partner and without excuse, empty when strict.
    """

    pairs: tuple[tuple[TorchLayer, TargetLayer], ...]
    skipped: tuple[tuple[TorchLayer, str], ...] = ()
    kept: tuple[tuple[TargetLayer, str], ...] = ()
    left_over: tuple[TorchLayer, ...] = ()
    unset: tuple[TargetLayer, ...] = field(default=())

    @property
    def dropped_tensors(self) -> dict[str, str]:
        """Names of the tensors of skipped layers, with the rule, as a Plan wants them."""
        return {
            tensor.name: rule for torch_layer, rule in self.skipped
            for tensor in torch_layer.tensors
        }

    @property
    def kept_places(self) -> dict[str, str]:
        """Places of the variables of kept layers, with the rule, as a Plan wants them; a variable
        shared with a paired layer is not kept.
        """
        paired = {variable.key for _, layer in self.pairs for variable in layer.variables}
        return {
            variable.key: rule for layer, rule in self.kept
            for variable in layer.variables if variable.key not in paired
        }


def pairs(collection: LayerGroups, layers: Sequence[TargetLayer],
          names: Sequence[str] | None = None, *, skip_layers: Sequence[str] = (),
          keep_layers: Sequence[str] = (), strict: Strict = True, order: Order = "registered",
          aligned: bool = False, by_callback: Names[str] = ()) -> Pairing:
    """Torch layers of `collection`, in order, with the Keras layers called `names` (default:
    `layers` in their own order).

    `skip_layers` are torch layers to leave out and `keep_layers` Keras layers that keep their own
    values; "*" stands for any text. `strict=True` wants a partner for every layer, "target" for
    every Keras layer, False lets the longer side end in leftovers, which the Pairing lists. `order`
    is that of the source; `aligned` says that dictionaries or a function put the names in order.
    Layers in `by_callback` are hit by a callback. A torch module of several recurrent layers is cut
    into what the Keras layers at their places take (see recurrent_stacks.py). Raises AlignmentError
    when a name is unknown or comes twice, a pattern hits nothing, the lists differ in length, or
    when layers of a source sorted by name would be paired by order alone.
    """
    all_stacks = skipped_apart(collection.layers, skip_layers)
    skipped = hit_by(skip_layers, [torch_layer.name for torch_layer in all_stacks], "skip_layers",
                     "torch layer")
    kept = hit_by(keep_layers, [layer.name for layer in layers], "keep_layers", "Keras layer")
    named = _named(layers, names, kept)
    unskipped = [torch_layer for torch_layer in all_stacks if torch_layer.name not in skipped]
    torch_layers = split_by_order(joined_by_kind(unskipped, named), named, by_callback)
    if order == "sorted by name" and not aligned and strict and len(torch_layers) > 1:
        raise AlignmentError(
            "the source is sorted by name, so that the order of its layers is lost and pairing "
            "by order would mix them up: "
            "give the torch module, align with tail_align_dict, full_name_align_dict or "
            "specific_match_func "
            "(do_convert=False shows the two lists), or map the layers by hand with "
            "ktc.align(..., mapping=...)")
    count = min(len(torch_layers), len(named))
    placed = {layer.name for layer in named} | set(kept)
    left_over, unset = torch_layers[count:], [
        *named[count:], *(layer for layer in layers if layer.name not in placed)
    ]
    if (left_over and strict is True) or (unset and strict):
        raise _unequal(torch_layers, named, left_over, unset)
    return Pairing(
        tuple(zip(torch_layers[:count], named[:count], strict=True)),
        tuple((torch_layer, skipped[torch_layer.name])
              for torch_layer in all_stacks if torch_layer.name in skipped),
        tuple((layer, kept[layer.name]) for layer in layers if layer.name in kept),
        tuple(left_over), tuple(unset))


def hit_by(patterns: Sequence[str], names: Sequence[str], option: str, what: str) -> dict[str, str]:
    """The names that the patterns of `option` hit ("*" stands for any text), each with the rule in
    words. AlignmentError when one hits nothing.
    """
    if isinstance(patterns, str):
        patterns = (patterns,)
    hits: dict[str, str] = {}
    for pattern in patterns:
        expression = re.compile(".*".join(re.escape(part) for part in pattern.split("*")),
                                re.DOTALL)
        matching = [name for name in names if expression.fullmatch(name)]
        if not matching:
            raise AlignmentError(
                f"{option}: no {what} is called '{pattern}'{did_you_mean(pattern, names)}")
        for name in matching:
            hits.setdefault(name, f"{option} '{pattern}'")
    return hits


def _named(layers: Sequence[TargetLayer], names: Sequence[str] | None,
           kept: dict[str, str]) -> list[TargetLayer]:
    """The layers called `names`, in that order, without those that keep their own values."""
    if names is None:
        return [layer for layer in layers if layer.name not in kept]
    by_name = {layer.name: layer for layer in layers}
    unknown = [name for name in names if name not in by_name]
    if unknown:
        raise AlignmentError(
            f"the aligned names hold {len(unknown)} that the Keras model has no layer with "
            "weights for, "
            f"the first is '{unknown[0]}'{did_you_mean(unknown[0], by_name)}")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise AlignmentError(
            f"the aligned names hold {join_names(twice, quoted=True)} more than once; each Keras "
            "layer takes one torch layer")
    return [by_name[name] for name in names if name not in kept]


def _unequal(torch_layers: Sequence[TorchLayer], named: Sequence[TargetLayer],
             left_over: Sequence[TorchLayer], unset: Sequence[TargetLayer]) -> AlignmentError:
    parts = [f"{len(torch_layers)} torch layers for {len(named)} Keras layers"]
    if left_over:
        names = join_names([torch_layer.name for torch_layer in left_over], _SHOWN, quoted=True)
        parts.append(
            f"left over on the torch side: {names}, when that is meant say so with skip_layers "
            "(or skip_weights for last name parts)")
    if unset:
        names = join_names([layer.name for layer in unset], _SHOWN, quoted=True)
        parts.append(
            f"left over on the Keras side: {names}, when they are to keep their own values say "
            "so with keep_layers")
    # Only to point at the first pair that does not fit: the lists differ in length.
    for torch_layer, layer in zip(torch_layers, named, strict=False):
        try:
            assign_layer(torch_layer, layer)
        except TransferError:
            parts.append(
                f"the first pair that does not fit is '{torch_layer.name}' with '{layer.name}', so "
                "look there first")
            break
    parts.append(
        "do_convert=False prints the two lists side by side; strict=False goes on and reports "
        "the leftovers")
    return AlignmentError("; ".join(parts))
