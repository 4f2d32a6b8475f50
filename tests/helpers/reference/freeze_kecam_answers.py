"""Asks keras_cv_attention_models 1.4.3 itself and freezes its answers; run once, where it is
installed:

TF_USE_LEGACY_KERAS=1 TF_ENABLE_ONEDNN_OPTS=0 python -m tests.reference.freeze_kecam_answers

The tests read the file that this writes, so they need neither the package nor TensorFlow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from . import cases, frozen

ORIGINAL_VERSION = "1.4.3"


def main() -> None:
    """Answer every case with the original's functions and write the file."""
    assert version("keras_cv_attention_models") == ORIGINAL_VERSION
    from keras_cv_attention_models.download_and_load import (align_layer_names_multi_stage,
                                                             state_dict_stack_by_layer)

    def align_quietly(*arguments: Any) -> Sequence[str]:
        return align_layer_names_multi_stage(*arguments, verbose=0)

    answers = {
        "state dicts": [
            frozen.stack_answer(case, state_dict_stack_by_layer) for case in cases.stack_cases()
        ]
    }
    for group, group_cases in cases.align_cases().items():
        answers[group] = [frozen.align_answer(case, align_quietly) for case in group_cases]
    frozen.save(answers)
    for group, lines in answers.items():
        refused = Counter(line for line in lines if line in {frozen.LOST, frozen.RAISED})
        print(f"{group}: {len(lines)} cases, {dict(refused)}, {len(set(lines))} different answers")


if __name__ == "__main__":
    main()
