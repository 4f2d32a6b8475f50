"""Settings with which two models cannot hold the same weights: shapes and classes show them, and
nothing has to be run.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..keras_io.keras_private import all_layers
from ..rules.families.recurrent import PROJECTS, RESETS_BEFORE, keras_cells, resets_before
from ..spec.source import Source
from ..spec.target import Target
from ..util.text import join_names

Blame = tuple[list[str], list[str]]


def settings_to_blame(source: Source, target: Target) -> Blame:
    """Return sentences about layers that cannot hold what the other side has, and the Keras layers.
    """
    sentences, blamed = _recurrent(source, target)
    for sentence, layer in (*tables_to_blame(source, target), *_heads(source, target)):
        sentences.append(sentence)
        blamed.append(layer)
    return sentences, blamed


def _recurrent(source: Source, target: Target) -> Blame:
    recurrent = [leaf for leaf in target.leaves() if keras_cells(leaf)]
    projected = [(name, module.proj_size) for name, module in source.module.named_modules()
                 if getattr(module, "proj_size", 0)]
    if recurrent and projected:
        name, size = projected[0]
        return [
            f"torch LSTM '{name}' was built with proj_size={size}, {PROJECTS[0]}; "
            f"{PROJECTS[1]}"
        ], [leaf.display_name for leaf in recurrent]
    classes = {type(module).__name__ for module in source.module.modules()}
    layers = [leaf.display_name for leaf in recurrent if resets_before(leaf)]
    if not layers or not classes & {"GRU", "GRUCell"}:
        return [], []
    problem, remedy = RESETS_BEFORE
    return [f"Keras GRU in {join_names(layers, quoted=True)}: {problem}; {remedy}"], layers


def tables_to_blame(source: Source, target: Target) -> Iterator[tuple[str, str]]:
    """Yield what is to say of each Keras table with another number of rows than torch's only table
    of its width that is left, and the layer.
    """
    import torch

    theirs = {
        f"{name}.weight".lstrip("."): tuple(module.weight.shape)
        for name, module in source.module.named_modules() if isinstance(module, torch.nn.Embedding)
    }
    ours = [(leaf, leaf.variables[0])
            for leaf in target.leaves() if "Embedding" in leaf.class_names and leaf.variables]
    shapes = {variable.shape for _, variable in ours}
    for leaf, variable in ours:
        left = [(name, shape) for name, shape in theirs.items()
                if shape not in shapes and shape[1:] == variable.shape[1:]]
        if variable.shape not in theirs.values() and len(left) == 1:
            (name, shape), = left
            yield (f"Keras layer '{leaf.display_name}' ({leaf.class_name}) has "
                   f"{variable.name} {variable.shape}, torch {name} {shape}: the tables have "
                   f"another number of rows (a vocabulary of {variable.shape[0]} and one of "
                   f"{shape[0]}); build both models with the same one, in Keras with input_dim="
                   f"{shape[0]}"), leaf.display_name


def _heads(source: Source, target: Target) -> Iterator[tuple[str, str]]:
    """Yield what is to say of each attention of Keras of another width than torch's, in the order
    in which both sides have them.
    """
    theirs = [(name, module) for name, module in source.module.named_modules()
              if type(module).__name__ == "MultiheadAttention"]
    ours = [
        query for layer in all_layers(target.model)
        if type(layer).__name__ == "MultiHeadAttention" and (query := _query(layer, target))
    ]
    if len(ours) != len(theirs):
        return
    for (kernel, display_name), (name, module) in zip(ours, theirs, strict=True):
        heads, width = module.num_heads, module.head_dim
        if heads * width != kernel[-1] * kernel[-2]:
            tensor = next((one for one, _ in module.named_parameters() if "proj_weight" in one), "")
            yield (f"Keras layer '{display_name}' (MultiHeadAttention) attends with {kernel[-2]} "
                   f"heads of width {kernel[-1]}, query kernel {kernel}; torch layer '{name}' "
                   f"(MultiheadAttention) with {heads} of width {width}, {name}.{tensor} "
                   f"{tuple(getattr(module, tensor).shape)}: build the Keras layer with num_heads="
                   f"{heads}, key_dim={width}"), display_name


def _query(layer: Any, target: Target) -> tuple[tuple[int, ...], str] | None:
    """Return the shape of the query kernel of an attention of Keras, and its display name."""
    inside = {id(one) for one in all_layers(layer)}
    for leaf in target.leaves():
        around, _, own = leaf.display_name.rpartition("/")
        if id(leaf.layer) in inside and own == "query" and len(leaf.variables[0].shape) == 3:
            return leaf.variables[0].shape, around
    return None
