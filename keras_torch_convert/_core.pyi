"""The C core. All arguments are positional; defaults and keywords live in the Python modules that call it."""

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from numpy import generic, uint8
from numpy.typing import NDArray

_Item = TypeVar("_Item")
Listed = list[_Item] | tuple[_Item, ...]

GIL_RELEASE_BYTES: Final[int]
"""Kernels that touch at least this many bytes run without the GIL."""


def copy_strided(source: NDArray[Any], target: NDArray[Any], /) -> None:
    """Copy all elements of `source` into `target`, of the same shape and dtype, with any strides on both sides.

    TypeError: objects, strings, complex numbers or records, or two different dtypes. ValueError: different shapes, a read-only target,
    source and target that share memory, or target elements that share memory with each other. Nothing is written in these cases.
    """


def strided_view(array: NDArray[Any], start: int, shape: Sequence[int], strides: Sequence[int],
                 /) -> NDArray[Any]:
    """A view of this shape and these strides in bytes, from `start` bytes behind the array's first element on; writeable when the array is.

    Unlike numpy's as_strided it is checked, and takes a tenth of the time. ValueError: an element of the view would not lie
    between the first and the last byte of the array.
    """


def cast(source: NDArray[Any], source_type: str, target_type: str,
         /) -> tuple[NDArray[generic], int, int]:
    """Convert to another element type: (new C-order array, number of values out of range, number of values rounded).

    Types: bool, int8 to int64, uint8 to uint64, float16, bfloat16, float32, float64; bfloat16 arrays travel as uint16 both ways.
    Out of range: finite values that became infinite; for integer targets all values that do not fit, NaN and infinities included
    (they become the nearest limit, NaN zero). Rounded: other values that are not the same number any more. Rounding is to
    nearest, ties to even; fractions are cut toward zero for integers. TypeError: an unknown type, or one that does not fit the array.
    """


def apply_callbacks(layer: str, arrays: list[NDArray[Any]],
                    calls: list[tuple[str, Callable[[list[Any]], Any]]], /) -> list[NDArray[Any]]:
    """Chain the user's functions, (key of additional_transfer, function), on a list of arrays: a list of new arrays.

    Each function gets a fresh list of the arrays that the one before returned and may change them in place; the first one
    gets `arrays` themselves. A function may return a list or tuple of anything that numpy turns into booleans,
    integers or real numbers; otherwise TransferError. What a function raises keeps its type and gains a note with layer and key.
    """


def compare(first: NDArray[Any], second: NDArray[Any], /) -> tuple[float, float, int]:
    """Compare two float32 or two float64 arrays of one shape.

    Returns the largest |first - second| where both are finite, the largest finite |first|, and the number of places where only one
    is NaN or infinite or the infinities differ in sign. Both maxima are 0.0 when there is no such place.
    """


def fingerprint(array: NDArray[Any], /) -> tuple[float, float, float, float, float, float]:
    """Sums of x, |x|, x^2, x^3 and |x|^3, and the largest |x|, of a float32 or float64 array with any strides, in float64 and one pass.

    All zeros for an empty array; a NaN makes the sums NaN and does not count for the largest. TypeError: another dtype.
    """


def write_values(values: NDArray[Any], origin: tuple[int, int] | None, target: tuple[int, int],
                 buffer: NDArray[uint8], step: Callable[[int], object] | None, /,
                ) -> None:
    """Write an array of any strides, in C order, into the open file `target` (descriptor, position), through `buffer` and without the GIL.

    `origin` (descriptor, address) says that the values lie in a mapped file, which byte 0 is at `address`: they are read from the file
    then. `step` gets the number of bytes after each part; what it raises, and a signal, end the writing. OSError: the system
    refuses, or the file of the values is cut short. TypeError: objects. MemoryError: a buffer of less than two cache lines or elements.
    """


def holds_values(values: NDArray[Any], origin: tuple[int, int] | None, target: tuple[int, int],
                 buffer: NDArray[uint8], step: Callable[[int], object] | None, /,
                ) -> bool:
    """Whether the open file `target` holds what `write_values` with these arguments would write, bit for bit."""


def nearest_fingerprint(keys: NDArray[Any], wanted: tuple[float, ...], limit: float, /) -> float:
    """Distance of `wanted` (5 numbers) to the nearest of `keys` (n, 5), float64 and sorted by their first column; infinity when none is below `limit`.

    The distance is the largest difference, that of the last numbers counting half. Infinity for NaN. TypeError: another kind of array or tuple.
    """


def near_fingerprints(keys: NDArray[Any], wanted: tuple[float, ...], within: float,
                      /) -> list[tuple[float, int]]:
    """All of `keys` nearer to `wanted` than `within`: [(distance, row)] by row. As for nearest_fingerprint."""


def assign(starts: NDArray[Any], columns: NDArray[Any], costs: NDArray[Any], alone: NDArray[Any],
           column_count: int, limit: float, /,
          ) -> tuple[NDArray[Any], NDArray[Any]]:
    """Assign rows to columns, each column at most once, at least total cost: (int64 column of each row or -1, float64 margins).

    Row i may have `columns[starts[i]:starts[i + 1]]` (int64) at `costs` (float64, not negative), or stay alone at `alone[i]`. The margin of a row is by how
    much the total grows when it may not have what it got, `limit` at most. ValueError: vectors that do not fit together.
    """


def name_similarities(first_starts: NDArray[Any], first_words: NDArray[Any],
                      second_starts: NDArray[Any], second_words: NDArray[Any],
                      weights: NDArray[Any], ones: NDArray[Any], twos: NDArray[Any], /,
                     ) -> NDArray[Any]:
    """Likeness of the pairs (ones[i], twos[i]) of names, 0 to 1 (float64): the mean of words in common in order and at all, by weight.

    Name i of a side is the list of words `words[starts[i]:starts[i + 1]]` (int64), which count as `weights` (float64) says; the last 32 of a longer one.
    """


def name_patterns(first_starts: NDArray[Any], first_parts: NDArray[Any],
                  second_starts: NDArray[Any], second_parts: NDArray[Any], matched: NDArray[Any],
                  ones: NDArray[Any], twos: NDArray[Any], /,
                 ) -> NDArray[Any]:
    """How well the pairs (ones[i], twos[i]) follow the naming of the settled pairs (name, matched[name]): 0 to 1, -1 when these say nothing (float64).

    Name i of a side is the list of parts `parts[starts[i]:starts[i + 1]]` (int64, at most 32); `matched` (int64) has -1 for names that are not settled.
    A settled pair is judged without itself. ValueError: vectors that do not fit together. IndexError: a pair of names that do not exist.
    """


def instruction_sets() -> list[str]:
    """Names of the instruction sets that this machine can run, of "portable", "avx2" and "avx512"."""


def instruction_set() -> str:
    """Name of the instruction set that the kernels use: the widest one, unless it was changed."""


def use_instruction_set(name: str, /) -> None:
    """Let the kernels use one of instruction_sets() from now on, for tests and benchmarks. ValueError: not available."""


def are_exactly(objects: Listed[Any], types: tuple[type, ...], /) -> bool:
    """Whether every object in a list is of one of these types, and no subclass of it."""


def stack_by_layer(names: Listed[str], items: Listed[_Item], skip: Listed[str],
                   unstack: Listed[str], /) -> tuple[dict[str, list[_Item]], list[_Item]]:
    """Group items, one for each name of a tensor, by layer: ({layer: items of its tensors} in order of first appearance, items skipped).

    `skip` and `unstack` are compared with the last part of each name. AlignmentError: an unstacked tensor would replace others.
    """


def move_stage(names: Listed[str], tail_align_dict: dict[str, Any],
               full_name_align_dict: dict[str, Any], tail_split_position: int, stage: int, /,
              ) -> tuple[tuple[str, ...], list[str], list[tuple[str, ...]]]:
    """One stage of alignment: (names in their new order, names that a rule put elsewhere, rules that applied to no layer).

    A rule is told as ("full_name_align_dict", key), ("tail_align_dict", key) or ("tail_align_dict", stack, key). Keys and values must
    be of exactly the built-in types; `stage` is for messages. AlignmentError: a name would be lost, an anchor is unknown, or a
    value that is neither int nor str is needed. TypeError: anything else than names and dicts with str keys.
    """


def nearest_names(names: Listed[str], wanted: str, limit: int, /) -> list[str]:
    """At most `limit` (up to 100) different names that begin and end like `wanted`, the most alike first, possibly none."""
