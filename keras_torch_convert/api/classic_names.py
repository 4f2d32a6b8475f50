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
    """Stack the values of a state dict by layer.

    A name that ends with ":" and one character loses both. Its parts are separated by "/" if it
    holds one, else by ".". Each value joins the list of its name without the last part.

    PyTorch tensors become NumPy arrays: float16 and bfloat16 as float32, every other type as it is.
    (The original turns all of them into float32, which changes int64 and float64.) They may need
    gradients or live on another device. A float32 tensor on the CPU is not copied: its array shares
    memory with the model. Values with a `numpy` method, such as TensorFlow variables, become what
    it returns; anything else stays as it is.

    Args:
        state_dict: Names to tensors.
        skip_weights: Entries to leave out, by the whole last part of their names.
        unstack_weights: Entries that become a list of their own under their full names, by the
            whole last part of their names.

    Returns:
        Layer name to the list of its arrays, in order of each layer's first appearance.

    Raises:
        AlignmentError: An unstacked tensor would replace others.
        SourceError: The object does not map names to tensors, or a tensor cannot become an array.

    Example:
        >>> list(ktc.state_dict_stack_by_layer(torch_model.state_dict()))
        ['conv', 'norm', 'head']
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
    """Return a state dict's value as a NumPy array, where it has a way to become one."""
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
    """Move Keras layer names into the order of the PyTorch layers: one stage of alignment.

    Both dictionaries say where a layer goes. An int below 0 is an offset from its own position, any
    other int a position from the start of the list. A str is the position of the layer with that
    name (in `tail_align_dict`: with the same head and that tail). All positions are counted in the
    input, and the full name overrides the tail.

    Args:
        target_names: Keras layer names, in the order of the model.
        tail_align_dict: Tail of a name to where it goes. A key that is the first part of a name
            ("stack1") holds a dict, which replaces the other tails for that stack.
        full_name_align_dict: Whole name to where it goes.
        tail_split_position: Parts of a name are separated by "_". So many parts are the head, the
            rest is the tail.

    Returns:
        The names in their new order.

    Raises:
        AlignmentError: A move would lose a name (every move to a later position does), a name to
            move to is unknown, or a value has another type. The message has the remedy.

    Warns of entries that apply to no layer.

    Example:
        >>> ktc.match_layer_names_with_torch(["a_conv", "a_bn", "a_short"], {"short": -2}, {}, 1)
        ['a_short', 'a_conv', 'a_bn']
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
    """Move names in several stages, each on the result of the one before.

    With an int as `tail_split_position` there is one stage. With a list there are as many stages,
    and the dictionaries are lists too. Missing dicts are empty, a missing split repeats the last.

    Args:
        target_names: Keras layer names, in the order of the model.
        tail_align_dict: That of `match_layer_names_with_torch`, or a list with one for each stage.
        full_name_align_dict: The same for whole names. A single dict belongs to the first stage.
        tail_split_position: That of `match_layer_names_with_torch`, or a list.
        specific_match_func: Gets the moved names, as a list, and returns those that it wants, in
            the order that it wants. Names that it leaves out are missing from the result.
        verbose: Above 0, print the arguments of every stage.

    Returns:
        The names in their new order.

    Raises:
        AlignmentError: As in `match_layer_names_with_torch`. Also for dictionaries that no stage
            would use, and if the function does not return a list of these names, each at most once.

    Example:
        >>> names = ["conv", "bn", "head"]
        >>> ktc.align_layer_names_multi_stage(names, specific_match_func=sorted, verbose=0)
        ['bn', 'conv', 'head']
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
    """Give the warnings to the caller of the public function; return the aligned names as a new
    list.
    """
    for text in alignment.warnings:
        warnings.warn(text, stacklevel=3)
    return list(alignment.names)
