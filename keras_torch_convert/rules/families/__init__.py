"""One file for each family of layers.

A file defines `RULES`, which a layer follows because of its class, and `CONDITIONAL_RULES`, which
depend on more. The registry finds both: a new family is a file here and its cases in the tests.
"""
