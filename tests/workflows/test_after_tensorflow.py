"""In a process that imported TensorFlow first nothing here imports torch's compiler."""

from __future__ import annotations

from tests.helpers.fresh_process import answer_of


# Some 10 s of processor time: both frameworks are imported in a process of their own.
def test_torchs_compiler_is_not_imported_behind_tensorflow() -> None:
    verdicts, imported = answer_of("after_tensorflow.py", KERAS_BACKEND="tensorflow")
    assert verdicts == ["equal", "equal", "different", "equal"]
    assert imported == []
