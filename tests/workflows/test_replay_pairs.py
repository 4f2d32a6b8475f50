"""Eight pairs replayed from their checkpoints: value for value what the live conversion saves,
loaded by both Keras in every way.
"""

from pathlib import Path
from typing import Any

import pytest

from tests.helpers.fresh_process import answer_of

KERAS = ("keras", "tf_keras")
PAIRS = {
    "classic", "mobile_net", "encoder", "recurrent", "nested", "flattened", "decoder", "two_heads"
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder with a folder for each Keras, and what was compared when the files in it were
    made.
    """
    for name in KERAS:
        pytest.importorskip(name)
    folder = tmp_path_factory.mktemp("pairs")
    answers = {
        name:
            answer_of("replay_pairs.py", "make", str(folder / name), KTC_KERAS=name,
                      KERAS_BACKEND="torch") for name in KERAS
    }
    return folder, answers


@pytest.mark.slow
@pytest.mark.parametrize("name", KERAS)
def test_the_files_hold_what_the_live_conversion_saves(made: Any, name: str) -> None:
    _, answers = made
    assert answers[name].keys() == PAIRS
    for files in answers[name].values():
        assert [line.partition(":")[0] for line in files] == [".h5", ".weights.h5", ".keras"]


@pytest.mark.slow
@pytest.mark.parametrize("name", KERAS)
def test_both_keras_load_the_files_in_every_way(made: Any, name: str) -> None:
    folder, _ = made
    other = next(one for one in KERAS if one != name)
    answer = answer_of("replay_pairs.py", "load", str(folder / name), str(folder / other),
                       KTC_KERAS=name, KERAS_BACKEND="torch")
    assert answer.keys() == PAIRS
    assert all(len(ways) == 7 for ways in answer.values())
