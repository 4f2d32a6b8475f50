"""Seeded faults: each a generic mutator that puts one mistake of a known kind at one place of any
pair of models.

A fault knows where in a pair it can be put, puts it there, and says which kinds of cause and which
Keras layers or torch modules name it exactly. Both models are taken as converted; what a fault
changes is not put back.
"""

from .every import every_fault
from .fault import Fault, Pair, Seeded, verdict
from .keras_weights import values_of
from .language import language_faults

__all__ = ["Fault", "Pair", "Seeded", "every_fault", "language_faults", "values_of", "verdict"]
