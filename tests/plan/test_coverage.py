"""Coverage by classes of entries against a mask as large as the array."""

import numpy as np
import pytest

from keras_torch_convert.plan.coverage import AxisEntries, coverage


def random_axis(generator: np.random.Generator, extent: int) -> AxisEntries:
    """Entries of one axis: a block of a grid, as two counters, one or none."""
    counters, start, room = [], 0, extent
    for step in (4, 1):
        most = 1 + (room - 1) // step
        count = int(generator.integers(1, most + 1))
        first = int(generator.integers(0, most - count + 1)) * step
        start, room = start + first, room - first - (count - 1) * step if step > 1 else room
        room = min(room, step) if step > 1 else room
        if count > 1:
            counters.append((count, step))
    return start, tuple(counters)


def by_mask(shape: tuple[int, ...], regions: list[tuple[AxisEntries, ...]]) -> tuple[int, bool]:
    """The slow twin."""
    uses = np.zeros(shape, int)
    for region in regions:
        axes = []
        for start, counters in region:
            entries = [start]
            for count, step in counters:
                entries = [entry + step * index for entry in entries for index in range(count)]
            axes.append(sorted(set(entries)))
        uses[np.ix_(*axes)] += 1
    return int((uses > 0).sum()), bool((uses > 1).any())


@pytest.mark.parametrize("seed", range(300))
def test_coverage_is_that_of_a_mask(seed: int) -> None:
    generator = np.random.default_rng(seed)
    shape = tuple(
        int(extent) for extent in generator.integers(1, 13, size=generator.integers(1, 4)))
    regions = [
        tuple(random_axis(generator, extent) for extent in shape)
        for _ in range(int(generator.integers(0, 5)))
    ]
    found = coverage(shape, regions)
    assert (found.covered, found.twice) == by_mask(shape, regions)


def test_a_scalar_and_an_empty_array_are_covered() -> None:
    assert coverage((), [()]).covered == 1
    assert coverage((3, 0), [((0, ((3, 1),)), (0, ()))]).covered == 0


def test_a_third_of_a_huge_tensor_needs_no_memory_of_its_size() -> None:
    extent = 3 * 10**5
    third = ((0, ((10**5, 1),)), (0, ((extent, 1),)))
    rest = ((10**5, ((2 * 10**5, 1),)), (0, ((extent, 1),)))
    assert coverage((extent, extent), [third]).covered == extent * 10**5
    assert coverage((extent, extent), [third, rest]).covered == extent**2


def test_many_regions_along_one_axis_are_counted_entry_by_entry() -> None:
    shape = (200, 3)
    rows = [((199 - row, ()), (0, ((3, 1),))) for row in range(150)]
    assert by_mask(shape, rows) == (450, False)
    assert (coverage(shape, rows).covered, coverage(shape, rows).twice) == (450, False)
    assert coverage(shape, [*rows, rows[7]]).twice
