"""Rows that torch adds by itself and Keras keeps inside another table: token types in the table of
positions.
"""

from __future__ import annotations

from dataclasses import replace

from ...plan.expressions import Add, Expression, Fill, Multiply
from .pass_state import Match


class Fold(BaseException):
    """A row that belongs added to the table of a layer. Keras 2 swallows Exceptions."""
    def __init__(self, display_name: str, row: Expression) -> None:
        """The layer of the table, and the row as an expression."""
        super().__init__(display_name)
        self.display_name = display_name
        self.row = row


def is_table(match: Match) -> bool:
    """True for a layer that is one table, of which every row may be changed alike."""
    return (len(match.layer.variables) == 1 and len(match.layer.variables[0].shape) == 2
            and ("Embedding" in match.layer.class_name))


def with_row(match: Match, row: Expression) -> Match:
    """The layer with one more row added to each of its own."""
    ((variable, entry),) = match.mapping.entries
    every_row = Multiply((row, Fill(1.0, (variable.shape[0], 1))))
    folded = replace(entry, expression=Add((entry.expression, every_row)),
                     rule=f"{entry.rule}; plus a row that torch adds by itself")
    return replace(match, mapping=replace(match.mapping, entries=((variable, folded),)))
