"""Expressions over one row: how their text, which the catalog keeps, becomes a function.

    RowExpression("lower(name)", TEXT, (0x1f..,), ("name",))
      --compiled-->  compute({0x1f..: "Ann"}) -> "ann"

The catalog does not read SQL. Whoever makes a CatalogDerivation gives it a `Compile`, so that a
replica derives entries of whatever arrives before its first statement. An expression is immutable:
neither clock nor chance nor another row has a part in it, so all replicas compute the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from murmur.catalog.atoms import encoder
from murmur.catalog.decoding import row_decoder
from murmur.catalog.schema import Column, Index, RowExpression
from murmur.catalog.types import SqlType
from murmur.catalog.values import checker
from murmur.errors import InternalError, InvalidInput
from murmur.kvcore import Atom


class Compile(Protocol):
    """What reads SQL for the catalog."""

    def __call__(
        self, text: str, columns: Sequence[tuple[str, SqlType]], result: SqlType
    ) -> Callable[[Sequence[Any]], Any]:
        """A function of the columns' values, in this order, that gives a value of the result type.

        InvalidInput when the text is no such expression; the function may raise DatabaseError.
        """
        ...


def no_compiler(
    text: str, columns: Sequence[tuple[str, SqlType]], result: SqlType
) -> Callable[[Sequence[Any]], Any]:
    """For catalogs without expressions."""
    raise InternalError(
        f"the catalog has the expression {text!r}, and nothing that compiles it: "
        "open the replica with CatalogDerivation(compile_row_expression)"
    )


def compiled(
    expression: RowExpression, columns: Mapping[int, Column], compile_text: Compile
) -> RowExpression | None:
    """The expression with its function; None when its text or its columns are not readable."""
    inputs = [columns.get(column_id) for column_id in expression.column_ids]
    known = [column for column in inputs if column is not None]
    if len(known) != len(inputs):
        return None
    named = [
        (name, column.type) for name, column in zip(expression.column_names, known, strict=True)
    ]
    try:
        evaluate = compile_text(expression.text, named, expression.type)
    except (InvalidInput, RecursionError):
        return None
    return replace(expression, compute=_computing(expression.type, known, evaluate))


def compiled_index(
    index: Index, columns: Mapping[int, Column], compile_text: Compile
) -> Index | None:
    """The index with the functions of its expressions; None when one of them is not readable."""
    if index.plain:
        return index
    parts = []
    for part in index.columns:
        if part.expression is not None:
            expression = compiled(part.expression, columns, compile_text)
            if expression is None:
                return None
            part = replace(part, expression=expression)
        parts.append(part)
    predicate = index.predicate
    if predicate is not None:
        predicate = compiled(predicate, columns, compile_text)
        if predicate is None:
            return None
    return replace(index, columns=tuple(parts), predicate=predicate)


def _computing(
    sql_type: SqlType, inputs: Sequence[Column], evaluate: Callable[[Sequence[Any]], Any]
) -> Callable[[Mapping[int, Atom]], Atom]:
    decode = row_decoder(inputs)
    check, encode = checker(sql_type, "an expression"), encoder(sql_type)

    def compute(fields: Mapping[int, Atom]) -> Atom:
        value = check(evaluate(decode(fields)))
        return value if encode is None or value is None else encode(value)

    return compute
