"""Sessions on memory storage with a fixed clock and seeded chance, and both engines' answers."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from murmur.catalog import CatalogDerivation
from murmur.kvcore import ManualClock, MemoryStorage, Replica
from murmur.olap.duck import DuckEngine
from murmur.sql import Outcome, Session
from murmur.sql.binder import Binding
from murmur.sql.borrowed import FUNCTIONS, MACROS
from murmur.sql.engines import plan_columnar
from murmur.sql.plan import ColumnarQuery, RowQuery
from murmur.sql.row_expressions import compile_row_expression
from murmur.sql.system import SystemRelations

Row = tuple[Any, ...]
Given = Sequence[Any] | Mapping[str, Any] | None

# Stateless between queries but for a cache; starting one takes a while.
ENGINE = DuckEngine(functions=FUNCTIONS, macros=MACROS)


def open_session(
    *,
    columnar: bool = True,
    system: SystemRelations | None = None,
    replica: Replica | None = None,
    seed: int = 1,
) -> Session:
    clock, chance = ManualClock(), random.Random(seed).randbytes
    if replica is None:
        replica = Replica.open(
            MemoryStorage(),
            clock=clock,
            random_bytes=chance,
            derivation=CatalogDerivation(compile_row_expression),
        )
    engine = ENGINE if columnar else None
    return Session(replica, columnar=engine, system=system, clock=clock, random_bytes=chance)


def rows_of(outcome: Outcome) -> list[Row]:
    if outcome.arrow is not None:
        return list(ENGINE.rows(outcome.arrow))
    return list(outcome.rows or ())


def fetch(session: Session, text: str, parameters: Given = None) -> list[Row]:
    return rows_of(session.execute(text, parameters))


def plan_of(session: Session, text: str) -> list[str]:
    return [line for (line,) in session.execute(f"EXPLAIN {text}").rows or ()]


def columnar_rows(session: Session, text: str, parameters: Given = None) -> list[Row] | None:
    """What the columnar engine answers to a query that runs on the row engine; else None."""
    statement, parameters = session._with_lists(session._shared.statements.get(text), parameters)
    parsed, text = statement.parsed, statement.parsed.text
    if parsed.kind != "select" or parsed.explain:
        return None
    with session._replica.snapshot() as snapshot:
        view = session.transaction or snapshot
        catalog = view.state
        prepared = statement.prepared(catalog, session._system)
        if not isinstance(prepared.plan, RowQuery):
            return None
        types: list[Any] = [None] * len(parsed.parameters.names)
        binding = Binding(catalog, session._system.columns, text, types)
        plan = plan_columnar(parsed.tree, binding, "test")
        assert isinstance(plan, ColumnarQuery)
        context = session._context(prepared, parameters)
        return list(context.columnar_rows(plan, view))
