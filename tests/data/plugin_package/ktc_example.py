"""A package that adds the rule of its own layer, and a reader for its own files."""

import numpy as np

from keras_torch_convert.rules.rule import AxisPattern, Rule

# Its layer keeps the kernel of a pointwise convolution with the channels that it makes first, in
# groups.
RULE = Rule("grouped pointwise", ("GroupedPointwise",), "ktc_example.GroupedPointwise",
            {"kernel": AxisPattern("(group made) summed 1", "group summed made")})

SIGNATURE = b"EXAMPLE1"


def read_example(path, start):
    """Return the arrays of a file of this package: one line for each with name and numbers."""
    if not start.startswith(SIGNATURE):
        return None
    lines = path.read_text().splitlines()[1:]
    parts = (line.split() for line in lines)
    return {name: np.array(values, np.float32) for name, *values in parts}
