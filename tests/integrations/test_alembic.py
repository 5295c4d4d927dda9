"""Migrations: what Alembic's operations and its autogenerate make of Murmur's tables."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.ddl.impl import _impls
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.runtime.plugins import Plugin, _all_plugins

ENV = """
import sqlalchemy as sa
from alembic import context

engine = sa.create_engine(context.config.get_main_option("sqlalchemy.url"))
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=None)
    with context.begin_transaction():
        context.run_migrations()
engine.dispose()
"""


@pytest.fixture(scope="module", autouse=True)
def _plugin() -> None:
    """What the entry point does, should the installation be older than it."""
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    points = tomllib.loads(text)["project"]["entry-points"]["alembic.plugins"]
    if "murmur" not in _all_plugins:
        Plugin.setup_plugin_from_module(import_module(points["murmur"]), "murmur")
    assert "murmur" in _impls


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    engine = sa.create_engine(f"murmur:///{tmp_path / 'db'}")
    yield engine
    engine.dispose()


Migrate = Callable[[Operations], None]


def migrate(engine: sa.Engine, work: Migrate) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection)
        with context.begin_transaction():
            work(Operations(context))
        connection.commit()


def create(op: Operations) -> None:
    op.create_table(
        "note",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.bulk_insert(sa.table("note", sa.column("body")), [{"body": "one"}, {"body": "two"}])


def test_tables_are_altered_step_by_step(engine: sa.Engine) -> None:
    migrate(engine, create)

    def alter(op: Operations) -> None:
        op.add_column("note", sa.Column("stars", sa.Integer, server_default="3", nullable=False))
        op.alter_column("note", "body", new_column_name="text")
        op.create_index("note_stars", "note", ["stars"])
        op.create_unique_constraint("note_text_key", "note", ["text"])
        op.create_check_constraint("rated", "note", sa.column("stars") > 0)
        op.rename_table("note", "notes")

    migrate(engine, alter)
    inspector = sa.inspect(engine)
    assert inspector.get_table_names() == ["notes"]
    assert [each["name"] for each in inspector.get_columns("notes")] == ["id", "text", "stars"]
    assert {each["name"] for each in inspector.get_indexes("notes")} >= {"note_stars"}
    with engine.connect() as connection:
        rows = connection.execute(sa.text("SELECT text, stars FROM notes ORDER BY id")).all()
    assert rows == [("one", 3), ("two", 3)]

    def undo(op: Operations) -> None:
        op.drop_index("note_stars", "notes")
        op.drop_constraint("rated", "notes", type_="check")
        op.drop_column("notes", "stars")

    migrate(engine, undo)
    inspector = sa.inspect(engine)
    assert [each["name"] for each in inspector.get_columns("notes")] == ["id", "text"]
    migrate(engine, lambda op: op.drop_table("notes"))
    assert sa.inspect(engine).get_table_names() == []


def test_a_migration_that_fails_leaves_nothing(engine: sa.Engine) -> None:
    migrate(engine, create)

    def broken(op: Operations) -> None:
        op.add_column("note", sa.Column("stars", sa.Integer))
        op.drop_column("note", "nothing")

    with pytest.raises(sa.exc.ProgrammingError):
        migrate(engine, broken)
    assert [each["name"] for each in sa.inspect(engine).get_columns("note")] == ["id", "body"]


def test_autogenerate_sees_what_differs_and_nothing_else(engine: sa.Engine) -> None:
    metadata = sa.MetaData()
    sa.Table(
        "author",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(40), nullable=False, unique=True),
    )
    note = sa.Table(
        "note",
        metadata,
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("by", sa.ForeignKey("author.id", ondelete="CASCADE"), index=True),
        sa.Column("price", sa.Numeric(8, 2)),
        sa.Column("data", sa.JSON),
        sa.Column("at", sa.DateTime(timezone=True)),
    )
    metadata.create_all(engine)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, metadata) == []
        note.append_column(sa.Column("stars", sa.Integer))
        differences = compare_metadata(context, metadata)
    assert [each[0] for each in differences] == ["add_column"]


def test_the_command_line_upgrades_and_downgrades(tmp_path: Path, engine: sa.Engine) -> None:
    scripts = tmp_path / "migrations"
    (scripts / "versions").mkdir(parents=True)
    (scripts / "env.py").write_text(ENV)
    (scripts / "versions" / "1_note.py").write_text(
        """
import sqlalchemy as sa
from alembic import op

revision, down_revision = "1", None


def upgrade():
    op.create_table("note", sa.Column("id", sa.Integer, primary_key=True))


def downgrade():
    op.drop_table("note")
"""
    )
    config = Config()
    config.set_main_option("script_location", str(scripts))
    config.set_main_option("sqlalchemy.url", str(engine.url))
    command.upgrade(config, "head")
    assert sa.inspect(engine).get_table_names() == ["alembic_version", "note"]
    command.downgrade(config, "base")
    assert sa.inspect(engine).get_table_names() == ["alembic_version"]
