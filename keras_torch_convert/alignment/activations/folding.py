"""Rows that torch adds by itself and Keras keeps inside another table: token types in the table of
positions.
"""

from __future__ import annotations

from dataclasses import replace

from ...plan.expressions import Add, Expression, Fill, Multiply
from .pass_state import Match


class Fold(BaseException):
    """A row that belongs added to the table of layer `label`. Keras 2 swallows Exceptions."""
    def __init__(self, label: str, row: Expression) -> None:
        """The layer of the table, and the row as an expression."""
        super().__init__(label)
        self.display_name = label
        self.row = row


def is_table(settled: Match) -> bool:
    """True for a layer that is one table, of which every row may be changed alike."""
    return (len(settled.layer.variables) == 1 and len(settled.layer.variables[0].shape) == 2
            and ("Embedding" in settled.layer.class_name))


def with_row(settled: Match, row: Expression) -> Match:
    """The layer with one more row added to each of its own."""
    ((variable, way),) = settled.filling.ways
    every_row = Multiply((row, Fill(1.0, (variable.shape[0], 1))))
    folded = replace(way, expression=Add((way.expression, every_row)),
                     rule=f"{way.rule}; plus a row that torch adds by itself")
    return replace(settled, filling=replace(settled.filling, ways=((variable, folded),)))
