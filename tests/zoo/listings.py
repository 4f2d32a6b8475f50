#!/usr/bin/env python3
"""Both sides of every pair of a registry as plain listings, with the Plan that running found: what
static alignment is measured on.

    python tests/zoo/listings.py --folder listings [--registry FILE] [--id ...]

A registry is a file with PAIRS, of the class Pair as in registry.py beside this file, or
dictionaries with an "id", "family" and "env" and then functions build_pair and CONVERTIBLE beside.

Building a pair costs far more than aligning it, so each is built once, in a process of its own, and
`measure_static.py` reads the listings as often as it likes. A listing that is there already is
kept.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import pickle
import subprocess
import sys
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any


def load_registry(path: str) -> Any:
    """The registry module, imported from its file."""
    spec = importlib.util.spec_from_file_location("pair_registry", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(Path(path).resolve().parent))
    spec.loader.exec_module(module)
    return module


def without_objects(target: Any) -> Any:
    """The Target without the live objects, which cannot be pickled; the same variable stays the
    same.
    """
    variables = {key: replace(one, variable=None) for key, one in target.variables.items()}

    def bare(layer: Any) -> Any:
        return replace(layer, layer=None,
                       variables=tuple(variables[variable.key] for variable in layer.variables),
                       children=tuple(map(bare, layer.children)), settings=dict(layer.settings))

    return replace(target, model=None, layers=tuple(map(bare, target.layers)),
                   inner=tuple(map(bare, target.inner)))


def facts_of(pair: Any, registry: Any) -> tuple[str, dict[str, str], bool]:
    """The name of a pair, its environment, and whether it is known to be convertible."""
    if isinstance(pair, dict):
        return pair["id"], pair["env"], bool(registry.CONVERTIBLE.get(pair["id"]))
    return pair.name, pair.environment, True


def built(pair: Any, registry: Any) -> tuple[Any, Any, tuple[Any, Any], dict[str, Any]]:
    """Both models of a pair, their inputs, and what `convert` is given beside."""
    if isinstance(pair, dict):
        torch_model, keras_model, *inputs = registry.build_pair(pair)
        options: dict[str, Any] = {"strict": False} if pair["family"] == "kerashub" else {}
        if pair.get("fwd_t"):
            options |= {"torch_call": pair["fwd_t"], "keras_call": pair["fwd_k"]}
        return torch_model, keras_model, (inputs[0], inputs[1]), options
    calls = {"torch_call": pair.torch_call, "keras_call": pair.keras_call}
    return *pair.build(), pair.inputs(1), {"strict": pair.strict, **calls}


def list_one(registry: Any, pair: Any, path: Path) -> None:
    """Build one pair and write what is known of it."""
    import keras_torch_convert as ktc
    from keras_torch_convert.keras_io.model import read_target

    name, _, convertible = facts_of(pair, registry)
    torch_model, keras_model, sample, options = built(pair, registry)
    source = ktc.read(torch_model.state_dict())
    listing = {
        "id": name,
        "tensors": [(tensor.name, tensor.shape, tensor.dtype, tensor.kind, tensor.storage)
                    for tensor in source.tensors.values()], "target": without_objects(
                        read_target(keras_model, sample=sample[1])), "convertible": convertible
    }
    path.write_bytes(pickle.dumps(listing))
    try:
        report = ktc.convert(torch_model, keras_model, sample=sample, if_different="keep",
                             **options)
        listing |= {
            "plan": report.plan, "equal": {"equal": True, "close": True,
                                           "different": False}.get(report.verdict),
            "relative_diff": report.relative_diff
        }
    except Exception as error:
        listing["error"] = "".join(traceback.format_exception_only(error))
    path.write_bytes(pickle.dumps(listing))


def main() -> None:
    """List all pairs asked for, or the one that a parent process named."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--registry", default=str(Path(__file__).with_name("registry.py")))
    parser.add_argument("--folder", required=True, type=Path)
    parser.add_argument("--id", action="append", default=[])
    parser.add_argument("--limit-seconds", type=int, default=300)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    registry = load_registry(arguments.registry)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    pairs = registry.PAIRS
    for pair in pairs.values() if isinstance(pairs, dict) else pairs:
        name, environment, _ = facts_of(pair, registry)
        path = arguments.folder / f"{name}.pickle"
        if arguments.one == name:
            list_one(registry, pair, path)
        if path.exists() or arguments.one or (arguments.id and name not in arguments.id):
            continue
        command = [
            sys.executable, __file__, "--registry", arguments.registry, "--folder",
            str(arguments.folder)
        ]
        try:
            done = subprocess.run([*command, "--one", name], env={**os.environ,
                                                                  **environment}, check=False,
                                  capture_output=True, text=True, timeout=arguments.limit_seconds)
            said = done.stderr.strip().splitlines()[-1:] if done.returncode else []
        except subprocess.TimeoutExpired:
            said = ["over the limit"]
        found = pickle.loads(path.read_bytes()) if path.exists() else {}
        print((f"{name:36s} equal: {found.get('equal')}  {found.get('error', '')[:200]!r} "
               f"{said}"), flush=True)


if __name__ == "__main__":
    main()
