"""SQLAlchemy's statements as Murmur's SQL, which is PostgreSQL's.

    insert(note).values(id=1).on_conflict_do_update(index_elements=["id"], set_={"body": "x"})
      -> INSERT INTO note (id) VALUES (?) ON CONFLICT (id) DO UPDATE SET body = ?

SQLAlchemy's PostgreSQL compiler writes statements; here is only what Murmur says otherwise. DDL is
SQLAlchemy's generic one: there are no SERIAL columns (a key of one integer fills itself), no
schemas of one's own, no tablespaces.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import cast, exc
from sqlalchemy import types as sqltypes
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql.base import (
    PGCompiler,
    PGIdentifierPreparer,
    PGTypeCompiler,
)
from sqlalchemy.sql import coercions, roles
from sqlalchemy.sql.compiler import DDLCompiler
from sqlalchemy.sql.elements import BindParameter


class Insert(postgresql.Insert):
    """INSERT with `on_conflict_do_nothing` and `on_conflict_do_update`."""

    stringify_dialect = "murmur"
    inherit_cache = postgresql.Insert.inherit_cache  # not before SQLAlchemy 2.1


def insert(table: Any) -> Insert:
    """An INSERT that can say what happens to a row whose key is there already."""
    return Insert(table)


class MurmurCompiler(PGCompiler):
    """SELECT, INSERT, UPDATE and DELETE."""

    def visit_sequence(self, seq: Any, **kw: Any) -> str:
        """There are no sequences: keys of one integer fill themselves."""
        raise exc.CompileError(
            f"Murmur has no sequences, so {seq.name} has no next value; an integer primary key "
            "fills itself, or use Uuid with server_default text('uuid7()')"
        )

    def visit_binary(self, binary: Any, *args: Any, **kw: Any) -> str:
        """A Decimal beside a DOUBLE, or a float beside a DECIMAL, counts as a DOUBLE."""
        sides = {"left": _number_kind(binary.left), "right": _number_kind(binary.right)}
        if None not in sides.values() and sides["left"] is not sides["right"]:
            for side in sides:
                value = getattr(binary, side)
                if isinstance(value, BindParameter):
                    binary = binary._clone()
                    setattr(binary, side, cast(value, sqltypes.Double()))
        text: str = super().visit_binary(binary, *args, **kw)
        return text

    def visit_json_path_getitem_op_binary(
        self, binary: Any, operator: Any, _cast_applied: bool = False, **kw: Any
    ) -> str:
        """Several steps into a document; text when something else than JSON is wanted."""
        if not _cast_applied and binary.type._type_affinity is not sqltypes.JSON:
            text: str = self.process(cast(binary, binary.type), _cast_applied=True, **kw)
            return text
        function = "json_extract_string" if _cast_applied else "json_extract"
        left, right = self.process(binary.left, **kw), self.process(binary.right, **kw)
        return f"{function}({left}, {right})"

    def for_update_clause(self, select: Any, **kw: Any) -> str:
        """Nothing: a transaction reads one snapshot, and a lost race is a Conflict at commit."""
        return ""


class MurmurDDLCompiler(DDLCompiler):
    """CREATE, ALTER and DROP."""

    def visit_create_index(self, create: Any, include_schema: bool = False, **kw: Any) -> str:
        """CREATE INDEX; `murmur_where=` makes a partial one."""
        text: str = super().visit_create_index(create, include_schema=include_schema, **kw)
        where = create.element.dialect_options["murmur"]["where"]
        if where is None:
            return text
        clause = coercions.expect(roles.DDLExpressionRole, where)
        condition = self.sql_compiler.process(clause, include_table=False, literal_binds=True)
        return f"{text} WHERE {condition}"

    def visit_computed_column(self, generated: Any, **kw: Any) -> str:
        """GENERATED ALWAYS AS ... STORED: there is no other kind."""
        if generated.persisted is False:
            raise exc.CompileError(
                "Murmur's generated columns are STORED; leave `persisted` out, or set it to True"
            )
        text = self.sql_compiler.process(generated.sqltext, include_table=False, literal_binds=True)
        return f"GENERATED ALWAYS AS ({text}) STORED"


class MurmurTypeCompiler(PGTypeCompiler):
    """Names of types."""

    def visit_COUNTER(self, type_: Any, **kw: Any) -> str:  # noqa: N802 - SQLAlchemy's name
        """A number whose increments merge."""
        return "COUNTER"

    def visit_INTERVAL(self, type_: Any, **kw: Any) -> str:  # noqa: N802 - SQLAlchemy's name
        """Intervals have no fields and no precision to choose."""
        return "INTERVAL"


class MurmurIdentifierPreparer(PGIdentifierPreparer):
    """Names, quoted where PostgreSQL would quote them."""


def _number_kind(node: Any) -> type[Any] | None:
    """Float or Numeric, as a value of the node is passed to Murmur; None for anything else."""
    kinds: tuple[type[Any], ...] = (sqltypes.Float, sqltypes.Numeric)  # a Float is a Numeric too
    return next((kind for kind in kinds if isinstance(node.type, kind)), None)
