#!/usr/bin/env python3
"""How many pairs whose order is misaligned get classic dictionaries, on the listings that
`listings.py` made with proven Plans.

    python tests/zoo/measure_dictionaries.py --folder listings [--show] [--id ...]

A pair counts as misaligned when some layer stands elsewhere, or is fused or joined otherwise than
by order. Values are made up from the names, so that different expressions for one variable are told
apart.
"""

from __future__ import annotations

import argparse
import pickle
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from keras_torch_convert.alignment.dictionaries import dictionaries_of
from keras_torch_convert.keras_io.model import as_top_level
from keras_torch_convert.spec.source import Source, SourceTensor
from keras_torch_convert.spec.target import Target


def source_of(listing: dict[str, Any]) -> Source:
    """The tensors of a listing with values that follow from their names."""
    def tensor(name: str, shape: tuple[int, ...], dtype: str, kind: Any,
               storage: Any) -> SourceTensor:
        def read() -> np.ndarray:
            random = np.random.default_rng(crc32(name.encode()))
            return random.random(shape, np.float32).astype(dtype)

        return SourceTensor(name, shape, dtype, read, storage, kind)

    return Source({entry[0]: tensor(*entry) for entry in listing["tensors"]}, listing["id"])


def expanded(target: Any) -> Any:
    """The listed model with its leaf layers as places of their own."""
    return Target(None, target.name, target.framework, target.backend,
                  as_top_level(list(target.leaves())))


def main() -> None:
    """One line for each pair whose order is misaligned, then the totals."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", required=True, type=Path)
    parser.add_argument("--show", action="store_true", help="print the dictionaries too")
    parser.add_argument("--id", action="append", default=[])
    arguments = parser.parse_args()
    counts = {"aligned": 0, "found": 0, "too long": 0, "not said": 0}
    for path in sorted(arguments.folder.glob("*.pickle")):
        listing = pickle.loads(path.read_bytes())
        # Near chaos the verdict stays open though the outputs agree; the Plan is measured all the
        # same.
        agree = listing.get("equal") or (listing.get("equal", False) is None
                                         and listing["relative_diff"] < 1e-3)
        if not agree or (arguments.id and listing["id"] not in arguments.id):
            continue
        start = time.perf_counter()
        # The constants of norms without gain are not what is measured here, and made-up values do
        # not fulfill them.
        found = dictionaries_of(replace(listing["plan"], constants=()), source_of(listing),
                                listing["target"], expanded(listing["target"]))
        seconds = time.perf_counter() - start
        outcome = ("not said" if found.reason else
                   "aligned" if not found.moved else "found" if found.found else "too long")
        counts[outcome] += 1
        if outcome != "aligned" or arguments.show:
            print(f"{listing['id']:36s} {outcome:9s} moved {found.moved:4d} entries "
                  f"{found.moves.entries:4d} {seconds:5.1f} s  {found.reason[:150]}")
        if arguments.show:
            print(found)
    misaligned = sum(counts.values()) - counts["aligned"]
    print(
        f"{counts['found']} of {misaligned} pairs with misaligned order get dictionaries; {counts}")


if __name__ == "__main__":
    main()
