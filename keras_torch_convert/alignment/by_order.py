"""Pair layers by their order, and account for those that are left over: nothing goes missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection as Names
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ..errors import AlignmentError, TransferError
from ..plan.executor import Strict
from ..plan.plan import Plan
from ..rules.callbacks import Transfer, calls_for
from ..rules.families.position_tables import Resize
from ..rules.layer import assign_layer
from ..spec.layer_groups import LayerGroups, TorchLayer
from ..spec.source import Order
from ..spec.target import Target, TargetLayer
from ..util.text import did_you_mean, join_names
from .assemble import plan_of_pairs
from .regrouping import cut_where_skipped, joined_by_kind, split_by_order, wildcard

_SHOWN = 12


@dataclass(frozen=True, slots=True)
class PairingOptions:
    """How two lists of layers are paired.

    Args:
        skip_layers: Torch layers to leave out; "*" stands for any text.
        keep_layers: Keras layers that keep their own values; "*" stands for any text.
        strict: True wants a partner for every layer, "target" for every Keras layer, False lets the
            longer side end in leftovers, which the Pairing lists.
        order: The order of the source.
        aligned: Dictionaries or a function put the names in order.
    """

    skip_layers: Sequence[str] = ()
    keep_layers: Sequence[str] = ()
    strict: Strict = True
    order: Order = "registered"
    aligned: bool = False


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
    unset: tuple[TargetLayer, ...] = ()

    @property
    def dropped_tensors(self) -> dict[str, str]:
        """Names of the tensors of skipped layers, with the rule, as a Plan wants them."""
        return {tensor.name: rule for one, rule in self.skipped for tensor in one.tensors}

    @property
    def kept_keys(self) -> dict[str, str]:
        """Keys of the variables of kept layers, with the rule, as a Plan wants them.

        A variable shared with a paired layer is not kept.
        """
        paired = {variable.key for _, layer in self.pairs for variable in layer.variables}
        return {
            variable.key: rule for layer, rule in self.kept
            for variable in layer.variables if variable.key not in paired
        }


def pair_by_order(
    groups: LayerGroups, layers: Sequence[TargetLayer], names: Sequence[str] | None = None,
    options: PairingOptions = PairingOptions(), by_callback: Names[str] = ()
) -> Pairing:
    """Pair the torch layers with the Keras layers, both in their order.

    A torch module of several recurrent layers is cut into what the Keras layers take.

    Args:
        groups: The torch layers.
        layers: The Keras layers.
        names: The names of the Keras layers in the wanted order, their own by default.
        options: What is left out, and how strict to be.
        by_callback: Keras layers that a callback hits: a module for one of these stays whole.

    Raises:
        AlignmentError: A name is unknown or comes twice, a pattern hits nothing, the lists differ
            in length, or layers of a source sorted by name would be paired by order alone.
    """
    all_layers = cut_where_skipped(groups.layers, options.skip_layers)
    skipped = hit_by(options.skip_layers, [one.name for one in all_layers], "skip_layers",
                     "torch layer")
    kept = hit_by(options.keep_layers, [layer.name for layer in layers], "keep_layers",
                  "Keras layer")
    named = _named(layers, names, kept)
    unskipped = [one for one in all_layers if one.name not in skipped]
    torch_layers = split_by_order(joined_by_kind(unskipped, named), named, by_callback)
    is_unordered = options.order == "sorted by name" and not options.aligned
    if is_unordered and options.strict and len(torch_layers) > 1:
        raise AlignmentError(
            "the source is sorted by name, so that the order of its layers is lost and pairing by "
            "order would mix them up: give the torch module, align with tail_align_dict, "
            "full_name_align_dict or specific_match_func (do_convert=False shows the two lists), "
            "or map the layers with ktc.align(..., mapping=...)")
    count = min(len(torch_layers), len(named))
    seen = {layer.name for layer in named} | set(kept)
    left_over = torch_layers[count:]
    unset = [*named[count:], *(layer for layer in layers if layer.name not in seen)]
    if (left_over and options.strict is True) or (unset and options.strict):
        raise _unequal(torch_layers, named, left_over, unset)
    return Pairing(tuple(zip(torch_layers[:count], named[:count], strict=True)),
                   tuple((one, skipped[one.name]) for one in all_layers if one.name in skipped),
                   tuple((layer, kept[layer.name]) for layer in layers if layer.name in kept),
                   tuple(left_over), tuple(unset))


def plan_by_order(groups: LayerGroups, target: Target, names: Sequence[str] | None = None,
                  options: PairingOptions = PairingOptions(),
                  additional_transfer: Mapping[Any, Transfer] = MappingProxyType({}),
                  resize: Resize = None) -> Plan:
    """Make the Plan that pairs torch layers with Keras layers, both in their order.

    The arguments are those of `pair_by_order` and `plan_of_pairs`, and so are the errors.
    """
    by_callback = [layer.name for layer in target.layers if calls_for(layer, additional_transfer)]
    pairing = pair_by_order(groups, target.layers, names, options, by_callback)
    return plan_of_pairs(pairing.pairs, target, additional_transfer,
                         dropped={**groups.skipped,
                                  **pairing.dropped_tensors}, kept=pairing.kept_keys, resize=resize)


def hit_by(patterns: Sequence[str], names: Sequence[str], option: str, what: str) -> dict[str, str]:
    """Return the names that the patterns of an option hit, each with the rule in words.

    Raises:
        AlignmentError: A pattern hits nothing.
    """
    if isinstance(patterns, str):
        patterns = (patterns,)
    hits: dict[str, str] = {}
    for pattern in patterns:
        matching = list(filter(wildcard(pattern).fullmatch, names))
        if not matching:
            raise AlignmentError(
                f"{option}: no {what} is called '{pattern}'{did_you_mean(pattern, names)}")
        for name in matching:
            hits.setdefault(name, f"{option} '{pattern}'")
    return hits


def _named(layers: Sequence[TargetLayer], names: Sequence[str] | None,
           kept: dict[str, str]) -> list[TargetLayer]:
    """Return the layers called `names`, in that order, without those that keep their values."""
    by_name = {layer.name: layer for layer in layers}
    if names is None:
        return [layer for layer in layers if layer.name not in kept]
    unknown = [name for name in names if name not in by_name]
    if unknown:
        raise AlignmentError(
            f"the aligned names hold {len(unknown)} that the Keras model has no layer with weights "
            f"for, the first is '{unknown[0]}'{did_you_mean(unknown[0], by_name)}")
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
        names = join_names((one.name for one in left_over), _SHOWN, quoted=True)
        parts.append(f"left over on the torch side: {names}, when that is meant say so with "
                     "skip_layers (or skip_weights for last name parts)")
    if unset:
        names = join_names((layer.name for layer in unset), _SHOWN, quoted=True)
        parts.append(f"left over on the Keras side: {names}, when they are to keep their own "
                     "values say so with keep_layers")
    # Only to point at the first pair that does not fit: the lists differ in length.
    for torch_layer, layer in zip(torch_layers, named, strict=False):
        try:
            assign_layer(torch_layer, layer)
        except TransferError:
            parts.append(f"the first pair that does not fit is '{torch_layer.name}' with "
                         f"'{layer.name}', so look there first")
            break
    parts.append("do_convert=False prints the two lists side by side; strict=False goes on and "
                 "reports the leftovers")
    return AlignmentError("; ".join(parts))
