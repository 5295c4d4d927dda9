"""Alembic: migrations of Murmur's tables. Loaded by Alembic itself, as a plugin.

    alembic revision --autogenerate -m "add stars"
    alembic upgrade head

DDL is part of its transaction here, as in PostgreSQL: a migration that fails leaves nothing. What
ALTER TABLE cannot do (see docs/sql.md), `op.batch_alter_table(..., recreate="always")` does by
copying the table: which makes it another table to replicas that know the old one, and loses what
they write to that meanwhile.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import types as sqltypes


def setup(plugin: Any) -> None:
    """Register how Murmur's tables are altered. Alembic calls it once."""
    from alembic.ddl.impl import DefaultImpl

    class MurmurImpl(DefaultImpl):
        __dialect__ = "murmur"
        transactional_ddl = True

        def compare_type(self, inspector_column: Any, metadata_column: Any) -> bool:
            """Whether the type is another. A key that fills itself is a BIGINT."""
            found, asked = inspector_column.type, metadata_column.type
            key = metadata_column.primary_key or metadata_column.foreign_keys
            if key and isinstance(found, sqltypes.BIGINT) and isinstance(asked, sqltypes.Integer):
                return False
            return bool(super().compare_type(inspector_column, metadata_column))
