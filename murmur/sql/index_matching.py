"""What an index is over, in terms of a statement: its expressions and its predicate, bound.

    index (lower(name)) WHERE active      ->  keys (lower(name),), conditions (active,)

A condition of a statement can use an indexed expression when both are bound to the same tree. A
partial index serves a statement when each condition of its predicate stands among the statement's;
no more is proven than that.

Expressions take the places behind the table's columns: a table of 3 columns with two indexed
expressions has key fields 0 to 4. `with_key_fields` rewrites a statement's expressions to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from murmur.catalog.schema import Index, RowExpression, Table
from murmur.sql.expressions import And, Column, Expr, rebuild
from murmur.sql.parser import parse_expression
from murmur.sql.row_expressions import bind_row_condition, bind_row_expression

Positions: TypeAlias = tuple[tuple[int, bool], ...]


@dataclass(frozen=True, slots=True)
class KeyFields:
    """The fields that keys of a table are made of: its columns, and what its indexes compute."""

    columns: tuple[Column, ...]
    expressions: dict[Expr, Column]  # each with the field that stands for it
    of_index: dict[int, Positions]  # (field, descending) of each part, by the index's id
    conditions: dict[int, frozenset[Expr]]  # of partial indexes, by id


def key_fields(table: Table) -> KeyFields:
    """The table's key fields, bound once."""
    known: KeyFields | None = table.compiled.get(KeyFields)
    if known is None:
        known = table.compiled[KeyFields] = _bind(table)
    return known


def with_key_fields(fields: KeyFields, expr: Expr) -> Expr:
    """The expression, with fields in place of what an index computes."""
    if not fields.expressions:
        return expr
    field = fields.expressions.get(expr)
    if field is not None:
        return field
    return rebuild(expr, lambda operand: with_key_fields(fields, operand))


def serves(fields: KeyFields, index: Index, conjuncts: Sequence[Expr]) -> bool:
    """Whether the index has an entry of every row for which the conjuncts are TRUE."""
    return index.predicate is None or fields.conditions[index.id] <= set(conjuncts)


def conditions_of(expr: Expr) -> frozenset[Expr]:
    """The conditions that a predicate joins by AND."""
    if isinstance(expr, And):
        return frozenset().union(*map(conditions_of, expr.operands))
    return frozenset([expr])


def _bind(table: Table) -> KeyFields:
    columns = [
        Column(each.position, each.name, each.type, table.holds_null(each))
        for each in table.columns
    ]
    expressions: dict[Expr, Column] = {}
    of_index: dict[int, Positions] = {}
    conditions: dict[int, frozenset[Expr]] = {}
    for index in table.indexes:
        parts = []
        for part in index.columns:
            if part.expression is None:
                position = table.column_by_id(part.column_id).position
            else:
                text = part.expression.text
                named = _named(table, part.expression)
                expr = bind_row_expression(parse_expression(text), named, text, "an index")
                field = Column(len(columns), text, part.expression.type)
                if expressions.setdefault(expr, field) is field:
                    columns.append(field)
                position = expressions[expr].index
            parts.append((position, part.descending))
        of_index[index.id] = tuple(parts)
        if index.predicate is not None:
            text = index.predicate.text
            named = _named(table, index.predicate)
            where = bind_row_condition(parse_expression(text), named, text, "WHERE")
            conditions[index.id] = conditions_of(where)
    return KeyFields(tuple(columns), expressions, of_index, conditions)


def _named(table: Table, expression: RowExpression) -> dict[str, Column]:
    """The columns of an expression, under the names that it has for them."""
    named = {}
    for name, column_id in zip(expression.column_names, expression.column_ids, strict=True):
        column = table.column_by_id(column_id)
        nullable = table.holds_null(column)
        named[name] = Column(column.position, column.name, column.type, nullable)
    return named
