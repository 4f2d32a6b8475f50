#!/usr/bin/env python3
"""How right static alignment is on the listings that `listings.py` made, against the Plans that
running both models found.

    python tests/zoo/measure_static.py --folder listings [--sorted] [--id ...]

Counts layers of pairs whose outputs were equal. A layer is right when it gets every tensor that the
proven Plan gives it; branches that are alike (MobileOne, GhostNetV3) may be wrong by that measure
and right by their outputs. `--sorted` takes the checkpoints as a file sorted by name.
"""

from __future__ import annotations

import argparse
import pickle
from pathlib import Path
from typing import Any

from keras_torch_convert.alignment.static.matching import match
from keras_torch_convert.alignment.static.proposal import SURE, confidence_of
from keras_torch_convert.alignment.static.sides import distinct_layers, sides_of
from keras_torch_convert.plan.derived_tensors import DerivedTensor, own_tensors
from keras_torch_convert.plan.expressions import tensors_of
from keras_torch_convert.spec.layer_groups import group_by_layer
from keras_torch_convert.spec.layer_order import natural_order
from keras_torch_convert.spec.source import Source, SourceTensor


def source_of(listing: dict[str, Any], *, sorted_by_name: bool) -> Source:
    """The tensors of a listing, without values, in their own order or in the one that is left of it
    in a file sorted by name.
    """
    tensors = {
        name: SourceTensor(name, *kind[:2], list, kind[3], kind[2])
        for name, *kind in listing["tensors"]
    }
    if not sorted_by_name:
        return Source(tensors, listing["id"])
    return Source({name: tensors[name] for name in natural_order(tensors)}, listing["id"],
                  "sorted by name")


def measured(listing: dict[str, Any], *,
             sorted_by_name: bool) -> tuple[list[float], dict[str, float], int]:
    """Confidences of the layers that are right, of those that are wrong by their names, and how
    many found no partner.
    """
    source = source_of(listing, sorted_by_name=sorted_by_name)
    sides = sides_of(listing["target"], distinct_layers(source, group_by_layer(source).layers))
    # Tied tensors are one, whichever name is taken.
    first = {name: group[0] for group in source.tied for name in group}
    proven: dict[str, set[str]] = {}
    for assignment in listing["plan"].assignments if listing.get("plan") else ():
        proven[assignment.key] = {
            first.get(name, name) for name in tensors_of(assignment.expression)
        }
    right: list[float] = []
    wrong: dict[str, float] = {}
    alone = 0
    for layer, found in zip(sides.layers, match(sides, sorted_by_name), strict=True):
        wanted = set().union(*(proven.get(variable.key, set()) for variable in layer.variables))
        if found is None:
            alone += 1
        elif wanted:
            torch_layer = sides.torch_layers[found.position]
            got = {first.get(one.name, one.name) for one in own_tensors(torch_layer.tensors)}
            fused = any(isinstance(tensor, DerivedTensor) for tensor in torch_layer.tensors)
            confidence = confidence_of(found, "fused" if fused else "")
            if got >= wanted:
                right.append(confidence)
            else:
                wrong[f"{layer.display_name} from {', '.join(sorted(got))}"] = confidence
    return right, wrong, alone


def main() -> None:
    """One line a pair, then the totals."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", required=True, type=Path)
    parser.add_argument("--sorted", action="store_true")
    parser.add_argument("--id", action="append", default=[])
    arguments = parser.parse_args()
    all_right: list[float] = []
    all_wrong: list[float] = []
    whole = convertible = 0
    for path in sorted(arguments.folder.glob("*.pickle")):
        listing = pickle.loads(path.read_bytes())
        if arguments.id and listing["id"] not in arguments.id:
            continue
        right, wrong, alone = measured(listing, sorted_by_name=arguments.sorted)
        convertible += listing["convertible"]
        whole += listing["convertible"] and not wrong and not alone
        if listing.get("equal"):
            all_right += right
            all_wrong += wrong.values()
        print(f"{listing['id']:36s} proven {listing.get('equal')!s:5s} right {len(right):4d} wrong "
              f"{len(wrong):4d} without partner {alone:3d}"
              f"   highest wrong {max(wrong.values(), default=0):.2f}")
        for name, confidence in wrong.items():
            if confidence > SURE:
                print(f"    {confidence:.2f} {name}")
    print(f"{whole} of {convertible} convertible pairs with every layer as proven (or not known to "
          "be wrong)")
    for name, values in (("right", all_right), ("wrong", all_wrong)):
        sure = sum(value > SURE for value in values)
        print(f"{name}: {len(values)} layers, {sure} of them above {SURE:.0%} confidence")


if __name__ == "__main__":
    main()
