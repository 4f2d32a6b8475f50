"""Write docs/rules.md from the rules themselves.

python docs/render_rules.py
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from keras_torch_convert.rules.rule_table import markdown

PAGE = Path(__file__).resolve().parent / "rules.md"

INTRODUCTION = """# How PyTorch and Keras store the same layer

Written by `python docs/render_rules.py` from the rules that the conversion uses; change those, not this page.

A rule applies because the kinds of the two layers match, never because a number of elements does. In a layout every word is an axis,
`(channel multiplier)` one axis made of two, the first of which varies slowest, and `1` an axis of size 1. In the words of a rule `u` is the
number of units. A subclass of a Keras layer follows the rule of its nearest base class.

`keras-torch-convert rules` prints the table, `keras-torch-convert rules lstm` one rule in full.

What one side is built without counts as 1 (scales) or 0 (offsets): Keras variables without counterpart are filled with it, and PyTorch tensors
without counterpart may be left out only when every one of their values is exactly that. Both stand in the report.

## Which part is which

Where one torch layer is several in Keras, or the reverse, `ktc.convert` finds the parts by running both models. By hand, in `ktc.align(..., mapping=...)`:

| in PyTorch | in Keras | the mapping |
| --- | --- | --- |
| query, key and value in one `qkv`, in blocks of rows | three layers | `{"q": split("attn.qkv", 0, 3), "k": split("attn.qkv", 1, 3), "v": split("attn.qkv", 2, 3)}` |
| the same, but each head has its query, key and value together | three layers | `split("attn.qkv", 0, 3, groups=heads)` and so on |
| parts of unequal size | several layers | `"attn.qkv[0:64]"`, rows 0 to 63 of every tensor |
| `q`, `k`, `v` | one layer | `{"qkv": concat("attn.q", "attn.k", "attn.v")}` |
| one linear layer for each expert | one variable (expert, in, out) | `{"moe/experts": stack("experts.0", "experts.1")}` |
| one tensor (expert, out, in) | one layer for each expert | `{"expert_1": "experts.gate[1]"}`, entry 1 without its first axis |
| `torch.nn.MultiheadAttention` | `MultiHeadAttention` | `{"attn": ["attn", "attn.out_proj"]}` |
| layer 1 of an LSTM of several, one direction of it | `LSTM` | `{"lstm_1": "rnn.l1"}`, `{"lstm_1": "rnn.l1_reverse"}` |
| an embedding that the head shares | two layers | `{"embed": "tokens", "head": "tokens"}` |

## Back to PyTorch

`plan.invert()` turns a Plan round. What only moves comes back bit for bit, in both directions; `plan.lossless` says so, and `plan.losses()` names what
does not: two LSTM biases that were added, weights that PyTorch computes from others, types that hold fewer values. There PyTorch gets an equal function, and
what Keras holds then is the same again, bit for bit (a standardized weight up to its rounding). Keras values that the torch layer cannot hold are refused
before anything is written: slopes that differ where PyTorch has one for all, weights between the groups of a convolution, a kernel whose mean is not 0 for a
layer that standardizes it. A table that was resized and a weight that a callback made have no way back.

## The rules

"""


def page() -> str:
    """The whole page."""
    return INTRODUCTION + markdown()


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
