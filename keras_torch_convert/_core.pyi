"""The C core.

All arguments are positional; defaults and keywords live in the Python modules that call it.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from numpy import generic
from numpy.typing import NDArray
from typing_extensions import Buffer

_Item = TypeVar("_Item")
Listed = list[_Item] | tuple[_Item, ...]

GIL_RELEASE_BYTES: Final[int]
"""Kernels that touch at least this many bytes run without the GIL."""


class NamesError(Exception):
    """Names or rules that do not fit; the arguments say which, for the caller to put into words."""


def copy_strided(source: NDArray[Any], target: NDArray[Any], /) -> None:
    """Copy all elements of `source` into `target`, of the same shape and dtype, any strides.

    Nothing is written when it raises.

    Raises:
        TypeError: Objects, strings, complex numbers or records, or two different dtypes.
        ValueError: Different shapes, a read-only target, source and target that share memory, or
            target elements that share memory with each other.
    """


def copy_strided_all(sources: tuple[NDArray[Any], ...], targets: tuple[NDArray[Any], ...],
                     /) -> None:
    """Copy each source into its target as `copy_strided` does, in one step.

    Everything is checked before the first element moves; then nothing can fail, and no handler of
    a signal runs until all are copied. No source may lie in a mapped file that others may cut.

    Raises:
        TypeError: As `copy_strided`, and tuples of different lengths.
        ValueError: As `copy_strided`.
    """


def strided_view(array: NDArray[Any], start: int, shape: Sequence[int], strides: Sequence[int],
                 /) -> NDArray[Any]:
    """Make a view with these strides in bytes, `start` bytes behind the array's first element.

    The view is writeable when the array is. Unlike numpy's as_strided it is checked, and takes a
    tenth of the time.

    Raises:
        TypeError: Elements that hold references.
        ValueError: An element of the view would not lie between the first and the last byte of the
            array.
    """


def cast(source: NDArray[Any], source_type: str, target_type: str,
         /) -> tuple[NDArray[generic], int, int]:
    """Convert to another element type.

    Types: bool, int8 to int64, uint8 to uint64, float16, bfloat16, float32, float64; bfloat16
    arrays travel as uint16 both ways. Rounding is to nearest, ties to even; fractions are cut
    toward zero for integers.

    Returns:
        A new array in C order, the number of values out of range (finite values that became
        infinite; for integer targets all values that do not fit, NaN and infinities included: they
        become the nearest limit, NaN zero), and the number of values rounded (others that are not
        the same number any more).

    Raises:
        TypeError: An unknown type, or one that does not fit the array.
    """


def decode_floats(codes: NDArray[Any], format: str, scales: NDArray[Any], columns: int,
                  block_rows: int, block_columns: int, dtype: str, into: NDArray[Any] | None = None,
                  /) -> NDArray[generic]:
    """Decode small floating-point numbers, times one factor for each block, rounded once.

    Args:
        codes: uint8 (rows, bytes), each row contiguous.
        format: "float8_e4m3fn", "float8_e5m2", or "float4_e2m1fn", two in a byte, the lower half
            first.
        scales: float32, one for each block.
        columns: Numbers in a row.
        block_rows: Rows of a block; the last ones may have fewer.
        block_columns: Columns of a block.
        dtype: "bfloat16" (which comes as uint16), "float16" or "float32".
        into: The array that takes the numbers, of any strides, of this type, or of float32, which
            they become behind the rounding. None: a new one.

    Raises:
        TypeError: Another format or dtype, or arrays of other types.
        ValueError: Shapes that do not fit each other.
    """


def decode_whole(words: NDArray[Any], scales: NDArray[Any], zeros: NDArray[Any],
                 groups: NDArray[Any], bits: int, packs_rows: bool, dtype: str,
                 into: NDArray[Any] | None = None, /) -> NDArray[generic]:
    """Decode (code - zero) * scale from whole numbers that are packed into words, rounded once.

    Args:
        words: uint32, each row contiguous.
        scales: float32 (groups, columns).
        zeros: float32 of the same shape.
        groups: int32, the group of each row.
        bits: 4 or 8.
        packs_rows: The codes of a word are rows, the lowest bits first. Otherwise they are columns
            in the order of AWQ, those of even numbers first.
        dtype: As in `decode_floats`.
        into: As in `decode_floats`.

    Raises:
        TypeError: Another dtype, or arrays of other types.
        ValueError: Shapes that do not fit each other, other bits, or a group that is not there.
    """


def compare(first: NDArray[Any], second: NDArray[Any], /) -> tuple[float, float, int]:
    """Compare two float32 or two float64 arrays of one shape.

    Returns:
        The largest |first - second| where both are finite, the largest finite |first|, and the
        number of places where only one is NaN or infinite or the infinities differ in sign. Both
        maxima are 0.0 when there is no such place.
    """


def fingerprint(array: NDArray[Any], /) -> tuple[float, float, float, float, float, float]:
    """Sum x, |x|, x^2, x^3 and |x|^3 in float64 and find the largest |x|, all in one pass.

    All zeros for an empty array; a NaN makes the sums NaN and does not count for the largest.

    Args:
        array: float32 or float64, any strides.

    Raises:
        TypeError: Another dtype.
    """


def write_values(values: NDArray[Any], origin: tuple[int, int] | None, target: tuple[int, int],
                 buffer: Buffer, step: Callable[[int], object] | None, widened: str | None,
                 is_summed: bool, /) -> int:
    """Write an array of any strides into a file in C order, through `buffer` and without the GIL.

    Args:
        values: The array.
        origin: (descriptor, address) says that the values lie in a mapped file, whose byte 0 is at
            `address`: small arrays are read from the file then.
        target: (descriptor, position) of the open file.
        buffer: Working memory: a writeable buffer of bytes.
        step: Gets the number of bytes after each part; what it raises, and a signal, end the
            writing.
        widened: "float16" or "bfloat16" says that the values are of this type (bfloat16 as uint16)
            and that the file has them as float32.
        is_summed: Ask for the checksum.

    Returns:
        The checksum of what was written, at its places in the file, modulo 2**64; 0 unless asked
        for. Those of parts add up to that of the whole.

    Raises:
        OSError: The system refuses, or the file of the values is cut short, mapped or not.
        TypeError: Objects, or values that cannot be widened.
        ValueError: `values` and `buffer` share memory.
        OverflowError: Positions that do not fit.
        MemoryError: A buffer of less than a cache line or an element.
    """


def holds_values(values: NDArray[Any], origin: tuple[int, int] | None, target: tuple[int, int],
                 buffer: Buffer, step: Callable[[int], object] | None, widened: str | None, /,
                ) -> bool:
    """Return whether a file holds what `write_values` would write there, bit for bit."""


def checksum_of_file(source: tuple[int, int], size: int, buffer: Buffer, /) -> int:
    """Return the checksum of `size` bytes of a file from (descriptor, position) on, as
    `write_values` gives it; `buffer` is working memory. Raises OSError where it cannot be read.
    """


def begin_flush(target: tuple[int, int], size: int, /) -> None:
    """Have the system begin to write `size` bytes of a file from (descriptor, position) on to the
    disk, where it can be asked to. Failures are those of the flush that is to follow.
    """


def nearest_fingerprint(keys: NDArray[Any], wanted: tuple[float, ...], limit: float, /) -> float:
    """Return the distance of `wanted` to the nearest of `keys`.

    The distance is the largest difference, that of the last numbers counting half.

    Args:
        keys: (n, 5), float64, sorted by their first column.
        wanted: 5 numbers.
        limit: Infinity is returned when no key is nearer, and for NaN.

    Raises:
        TypeError: Another kind of array or tuple.
    """


def near_fingerprints(keys: NDArray[Any], wanted: tuple[float, ...], within: float,
                      /) -> list[tuple[float, int]]:
    """List all of `keys` nearer to `wanted` than `within`, as (distance, row), by row.

    Arguments as for nearest_fingerprint.
    """


def assign(starts: NDArray[Any], columns: NDArray[Any], costs: NDArray[Any], alone: NDArray[Any],
           column_count: int, limit: float, /,
          ) -> tuple[NDArray[Any], NDArray[Any]]:
    """Assign rows to columns, each column at most once, at least total cost.

    Row i may have `columns[starts[i]:starts[i + 1]]` (int64) at `costs` (float64, not negative), or
    stay alone at `alone[i]`.

    Returns:
        The column of each row or -1 (int64), and its margin (float64): by how much the total grows
        when the row may not have what it got, `limit` at most.

    Raises:
        ValueError: Vectors that do not fit together.
    """


def name_similarities(first_starts: NDArray[Any], first_words: NDArray[Any],
                      second_starts: NDArray[Any], second_words: NDArray[Any],
                      weights: NDArray[Any], ones: NDArray[Any], twos: NDArray[Any], /,
                     ) -> NDArray[Any]:
    """Compare the pairs (ones[i], twos[i]) of names: similarities from 0 to 1 (float64).

    Similarity is the mean of the words in common in order and at all, by weight. Name i of a side
    is the list of words `words[starts[i]:starts[i + 1]]` (int64), which count as `weights`
    (float64) says; the last 32 of a longer one.
    """


def name_patterns(first_starts: NDArray[Any], first_parts: NDArray[Any],
                  second_starts: NDArray[Any], second_parts: NDArray[Any], matched: NDArray[Any],
                  ones: NDArray[Any], twos: NDArray[Any], /,
                 ) -> NDArray[Any]:
    """Score how well the pairs (ones[i], twos[i]) follow the naming of the settled pairs.

    A settled pair is judged without itself.

    Args:
        first_starts: With `first_parts` (int64, at most 32 for a name), name i of this side is the
            list of parts `first_parts[first_starts[i]:first_starts[i + 1]]`.
        first_parts: See `first_starts`.
        second_starts: As for the first side.
        second_parts: As for the first side.
        matched: The settled pairs are (name, matched[name]); -1 for names that are not settled.
        ones: First names of the pairs.
        twos: Second names of the pairs.

    Returns:
        0 to 1, -1 where the settled pairs say nothing (float64).

    Raises:
        ValueError: Vectors that do not fit together.
        IndexError: A pair of names that do not exist.
    """


def instruction_sets() -> list[str]:
    """List those of "portable", "avx2" and "avx512" that this machine can run."""


def instruction_set() -> str:
    """Return which one the kernels use: the widest one, unless it was changed."""


def use_instruction_set(name: str, /) -> None:
    """Let the kernels use one of instruction_sets() from now on, for tests and benchmarks.

    Raises:
        ValueError: Not available.
    """


def are_exactly(objects: Listed[Any], types: tuple[type, ...], /) -> bool:
    """Return whether every object in a list is of one of these types, and no subclass of it."""


def stack_by_layer(names: Listed[str], items: Listed[_Item], skip: Listed[str],
                   unstack: Listed[str], /) -> tuple[dict[str, list[_Item]], list[_Item]]:
    """Group items, one for each name of a tensor, by layer.

    Args:
        names: Names of tensors.
        items: One for each name.
        skip: Last parts of the names to leave out.
        unstack: Last parts of the names that become layers of their own.

    Returns:
        {layer: items of its tensors} in order of first appearance, and the items left out.

    Raises:
        NamesError: (first, second), indices of two tensors; the second is unstacked and would
            replace the first.
    """


def move_stage(names: Listed[str], tail_align_dict: dict[str, Any],
               full_name_align_dict: dict[str, Any], tail_split_position: int, /,
              ) -> tuple[tuple[str, ...], list[str], list[tuple[str, ...]]]:
    """Play one stage of alignment.

    Keys and values of the dictionaries must be of exactly the built-in types.

    Returns:
        The names in their new order, those that a rule put elsewhere, and the paths of the rules
        that applied to no layer: ("full_name_align_dict", key), ("tail_align_dict", key) or
        ("tail_align_dict", stack, key).

    Raises:
        NamesError: (reason, index of the layer, path of the rule, positions by layer). The reason
            is "value" (neither int nor str), "stack" (it stands where the dict of a stack belongs),
            "anchor" (there is no such layer) or "forward" (a name would be lost).
        TypeError: Anything else than names and dicts with str keys.
    """
