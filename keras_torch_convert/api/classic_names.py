"""The classic functions that deal with names alone: a state dict stacked by layer, and Keras layer
names moved into the order of PyTorch's.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .. import _core
from ..alignment.classic import MatchFunction, NameAlignment, align_names, read_stages
from ..errors import AlignmentError, SourceError
from ..spec.layer_groups import stack_by_names
from ..util.gc_pause import gc_paused

# Types of values that have no way to become something else.
_ARRAYS_ALREADY = (np.ndarray, int, float, bool)


@gc_paused()
def state_dict_stack_by_layer(state_dict: Mapping[str, Any],
                              skip_weights: Sequence[str] = ["num_batches_tracked"],
                              unstack_weights: Sequence[str] = []) -> dict[str, list[Any]]:
    """Stack the values of a state dict by layer: layer name to list of arrays, in order of each
    layer's first appearance.

    A name that ends with ":" and one character loses both. Its parts are separated by "/" if it
    holds one, else by ".". Entries whose whole last part is in `skip_weights` are left out; those
    whose last part is in `unstack_weights` become lists of one under their full name; every other
    one joins the list of its name without the last part.

    PyTorch tensors become NumPy arrays: float16 and bfloat16 as float32, every other type as it is
    (the original turns all of them into float32, which int64 and float64 do not survive). They may
    need gradients or live on another device. A float32 tensor on the CPU is not copied: its array
    shares memory with the model. Values with a `numpy` method (TensorFlow variables) are asked for
    it, anything else is handed on as it is.

    Raises AlignmentError when an unstacked tensor would replace others, and SourceError for an
    object that is no mapping of names to tensors or a tensor that cannot become an array.
    """
    if not isinstance(state_dict, Mapping):
        hint = "; give its state_dict()" if hasattr(state_dict, "state_dict") else ""
        raise SourceError(
            f"expected a dict of names to tensors, got {type(state_dict).__name__}{hint}")
    values = tuple(state_dict.values())
    if _core.are_exactly(values, _ARRAYS_ALREADY):
        return stack_by_names(state_dict.keys(), values, skip_weights, unstack_weights)[0]
    layers, _ = stack_by_names(state_dict.keys(), state_dict.items(), skip_weights, unstack_weights)
    return {
        layer: [array_of(name, value) for name, value in members]
        for layer, members in layers.items()
    }


def array_of(name: str, value: Any) -> Any:
    """A state dict's value as a NumPy array, where it has a way to become one."""
    if not hasattr(value, "numpy"):
        return value
    if not hasattr(value, "is_floating_point"):
        return value.numpy()
    try:
        # Types below four bytes fit into float32 without loss, and NumPy does not know all of them.
        narrow = value.is_floating_point() and value.element_size() < 4
        return (value.float() if narrow else value).numpy(force=True)
    except (RuntimeError, TypeError) as error:
        raise SourceError(f"tensor {name!r} cannot be read as a NumPy array: {error}") from error


def match_layer_names_with_torch(target_names: Sequence[str], tail_align_dict: Mapping[str,
                                                                                       Any] = {},
                                 full_name_align_dict: Mapping[str, Any] = {},
                                 tail_split_position: int = 2) -> list[str]:
    """One stage of alignment: Keras layer names, moved into the order of the PyTorch layers.

    `full_name_align_dict` maps names and `tail_align_dict` tails of names to where the layer goes:
    an int below 0 is an offset from its own place, any other int a place from the start of the
    list, a str the place of the layer with that name (in `tail_align_dict`: with the same head and
    that tail). All places are counted in the input. The full name goes first. A key of
    `tail_align_dict` that is the first part of a name ("stack1") holds a dict, which replaces the
    other tails for that stack. Parts are separated by "_"; the first `tail_split_position` parts
    are the head, the rest is the tail.

    Raises AlignmentError, with the remedy, for a move that would lose a name (every move to a later
    place), an unknown name to move to, and values of other types. Entries that apply to no layer
    are warned of.
    """
    if isinstance(tail_split_position, (list, tuple)):
        raise AlignmentError(
            f"tail_split_position must be a single int here, got {tail_split_position!r}; "
            "align_layer_names_multi_stage takes a list, one for each stage")
    return announced(
        align_names(target_names, tail_align_dict, full_name_align_dict, tail_split_position))


def align_layer_names_multi_stage(target_names: Sequence[str], tail_align_dict: Mapping[str, Any]
                                  | Sequence[Mapping[str, Any]] = {},
                                  full_name_align_dict: Mapping[str, Any]
                                  | Sequence[Mapping[str, Any]] = {},
                                  tail_split_position: int | Sequence[int] = 2,
                                  specific_match_func: MatchFunction | None = None,
                                  verbose: int = 1) -> list[str]:
    """Several stages of `match_layer_names_with_torch`, each on the result of the one before, then
    the user's function.

    With an int as `tail_split_position` there is one stage. With a list of them the dictionaries
    are lists too, one dict a stage (a single `full_name_align_dict` belongs to stage 0); missing
    dicts are empty, a missing split repeats the last. `specific_match_func` gets the moved names,
    as a list, and returns those that it wants in the order that it wants. `verbose` above 0 prints
    the arguments of every stage.

    Raises AlignmentError as `match_layer_names_with_torch` does, and for dictionaries that no stage
    would use and an answer of the function that is not a list of these names, each at most once.
    Names that it leaves out are missing from the result.
    """
    if verbose > 0:
        for stage in read_stages(tail_align_dict, full_name_align_dict, tail_split_position):
            print(f">>>> stage {stage.number}, tail_split_position: {stage.tail_split_position}")
            print(f"     tail_align_dict: {stage.tail_align_dict}")
            print(f"     full_name_align_dict: {stage.full_name_align_dict}")
    return announced(
        align_names(target_names, tail_align_dict, full_name_align_dict, tail_split_position,
                    specific_match_func))


def announced(alignment: NameAlignment) -> list[str]:
    """The aligned names as a new list, once the warnings have been given to the caller of the
    public function.
    """
    for text in alignment.warnings:
        warnings.warn(text, stacklevel=3)
    return list(alignment.names)
