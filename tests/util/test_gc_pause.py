"""Python's search for cycles is as it was after it was put off, whatever happens inside."""

import gc

import pytest

from keras_torch_convert.util.gc_pause import gc_paused


@pytest.mark.parametrize("searches", [True, False])
def test_the_search_is_off_inside_and_afterward_as_it_was(searches: bool) -> None:
    before = gc.isenabled()
    try:
        (gc.enable if searches else gc.disable)()
        with pytest.raises(KeyError), gc_paused():
            raise KeyError(gc.isenabled())
        with gc_paused():
            assert not gc.isenabled()
        assert gc.isenabled() is searches
    finally:
        (gc.enable if before else gc.disable)()
