"""The dialect where SQLAlchemy's suite does not look: engines, the ORM, upserts, errors."""

from __future__ import annotations

import tomllib
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import exc, orm

import murmur
from murmur.integrations.sqlalchemy import COUNTER, insert


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    engine = sa.create_engine(f"murmur:///{tmp_path / 'db'}")
    yield engine
    engine.dispose()


@pytest.fixture
def note(engine: sa.Engine) -> sa.Table:
    metadata = sa.MetaData()
    table = sa.Table(
        "note",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("likes", COUNTER),
        sa.Column("data", sa.JSON),
    )
    metadata.create_all(engine)
    return table


# Engines ---------------------------------------------------------------


def test_the_dialect_is_an_entry_point() -> None:
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    points = tomllib.loads(text)["project"]["entry-points"]["sqlalchemy.dialects"]
    module, _, name = points["murmur"].partition(":")
    dialect = sa.make_url("murmur://").get_dialect()
    assert (dialect.__name__, dialect.__module__.startswith(module)) == (name, True)


def test_the_connections_of_an_engine_share_one_swarm(engine: sa.Engine) -> None:
    with engine.connect() as one, engine.connect() as other:
        swarms = [each.connection.driver_connection.swarm for each in (one, other)]
        assert swarms[0] is swarms[1]
    swarm = swarms[0]
    engine.dispose()
    assert swarm.closed


def test_the_query_of_the_url_has_the_options(tmp_path: Path) -> None:
    engine = sa.create_engine(f"murmur:///{tmp_path / 'db'}?group=team&durability=none")
    with engine.connect() as connection:
        settings = connection.connection.driver_connection.swarm.settings
    assert (settings["group"], settings["durability"]) == ("team", "none")
    engine.dispose()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("murmur://", "needs a directory"),
        ("murmur://host/db", "names a directory and no host"),
        ("murmur:///db?colour=red", "has no option colour"),
    ],
)
def test_a_url_that_means_nothing_is_refused(url: str, message: str) -> None:
    with pytest.raises(exc.ArgumentError, match=message):
        sa.create_engine(url).connect()


def test_a_swarm_that_is_open_can_be_the_engine(tmp_path: Path) -> None:
    with murmur.open(tmp_path / "db") as swarm:
        swarm.sql("CREATE TABLE t (a INT)")
        engine = sa.create_engine("murmur://", creator=lambda: murmur.connect(swarm))
        with engine.begin() as connection:
            connection.execute(sa.text("INSERT INTO t VALUES (:a)"), {"a": 7})
        engine.dispose()
        assert swarm.sql("SELECT a FROM t").fetchall() == [(7,)]


# Statements ------------------------------------------------------------


def test_upserts(engine: sa.Engine, note: sa.Table) -> None:
    values = [{"id": 1, "body": "one"}, {"id": 2, "body": "two"}]
    with engine.begin() as connection:
        connection.execute(insert(note), values)
        statement = insert(note).values(id=1, body="uno")
        update = statement.on_conflict_do_update(
            index_elements=[note.c.id], set_={"body": note.c.body + "+" + statement.excluded.body}
        )
        assert connection.scalar(update.returning(note.c.body)) == "one+uno"
        connection.execute(statement.on_conflict_do_nothing())
        assert connection.scalars(sa.select(note.c.body).order_by("id")).all() == ["one+uno", "two"]


def test_increments_of_a_counter_are_increments(engine: sa.Engine, note: sa.Table) -> None:
    with engine.begin() as connection:
        connection.execute(note.insert().values(id=1, body="x"))
    with engine.connect() as one, engine.connect() as other:
        for connection in (one, other):  # of a number that is set, the second would conflict
            connection.execute(note.update().values(likes=note.c.likes + 2))
        one.commit()
        other.commit()
        assert other.scalar(sa.select(note.c.likes)) == 4


def test_paths_into_json(engine: sa.Engine, note: sa.Table) -> None:
    with engine.begin() as connection:
        data = {"a": {"b c": [1, 2.5, "x"]}, "n": None}
        connection.execute(note.insert().values(id=1, body="x", data=data))
        column = note.c.data
        found = connection.execute(
            sa.select(
                column["a"],
                column[("a", "b c", 1)].as_float(),
                column[("a", "b c", 2)].as_string(),
                column[("a", "b c")],
            ).where(column[("a", "b c", 0)].as_integer() == 1)
        ).one()
    assert found == ({"b c": [1, 2.5, "x"]}, 2.5, "x", [1, 2.5, "x"])


def test_a_float_beside_a_decimal_counts_as_a_float(engine: sa.Engine) -> None:
    prices = sa.table("p", sa.column("price", sa.Numeric(8, 2)), sa.column("weight", sa.Float))
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE p (price DECIMAL(8,2), weight DOUBLE)"))
        connection.execute(prices.insert().values(price=1.5, weight=Decimal("0.5")))
        found = sa.select(prices).where(prices.c.price < 1.75, prices.c.weight > Decimal("0.25"))
        assert connection.execute(found).all() == [(Decimal("1.50"), 0.5)]


def test_values_of_every_type_come_back(engine: sa.Engine) -> None:
    values: dict[str, tuple[Any, Any]] = {
        "a": (sa.Boolean, True),
        "b": (sa.SmallInteger, -3),
        "c": (sa.BigInteger, 2**62),
        "d": (sa.Float, 0.1),
        "e": (sa.Numeric(10, 3), Decimal("1.125")),
        "f": (sa.String(5), "héllo"),
        "g": (sa.LargeBinary, b"\0\xff"),
        "h": (sa.Date, date(2024, 2, 29)),
        "i": (sa.DateTime, datetime(2024, 2, 29, 1, 2, 3, 4)),
        "j": (sa.DateTime(timezone=True), datetime(2024, 2, 29, tzinfo=UTC)),
        "k": (sa.Interval, timedelta(days=1, seconds=2)),
        "l": (sa.Uuid, uuid.UUID(int=5)),
        "m": (sa.Uuid(as_uuid=False), str(uuid.UUID(int=6))),
        "n": (sa.JSON, {"x": [1, None]}),
        "o": (sa.Enum("red", "green", name="colour"), "green"),
    }
    metadata = sa.MetaData()
    columns = [sa.Column(name, kind) for name, (kind, _) in values.items()]
    table = sa.Table("every", metadata, sa.Column("id", sa.Integer, primary_key=True), *columns)
    metadata.create_all(engine)
    row = {name: value for name, (_, value) in values.items()}
    with engine.begin() as connection:
        connection.execute(table.insert().values(row))
        assert connection.execute(sa.select(*table.c[1:])).mappings().one() == row
    reflected = sa.Table("every", sa.MetaData(), autoload_with=engine)
    with engine.connect() as connection:
        found = connection.execute(sa.select(reflected)).mappings().one()
    assert found["e"] == Decimal("1.125")
    assert found["n"] == {"x": [1, None]}
    assert found["m"] == uuid.UUID(int=6)


# Transactions and errors -----------------------------------------------


def test_errors_are_those_of_pep_249(engine: sa.Engine, note: sa.Table) -> None:
    with engine.begin() as connection:
        connection.execute(note.insert().values(id=1, body="x"))
        with pytest.raises(exc.IntegrityError) as refused, connection.begin_nested():
            connection.execute(note.insert().values(id=1, body="y"))
        assert isinstance(refused.value.orig, murmur.ConstraintViolation)
        with pytest.raises(exc.ProgrammingError, match="there is no"):
            connection.execute(sa.text("SELECT * FROM nowhere"))
    with engine.connect() as one, engine.connect() as other:
        for connection in (one, other):
            connection.execute(note.update().values(body=note.c.body + "!"))
        one.commit()
        with pytest.raises(exc.OperationalError) as lost:
            other.commit()
        assert isinstance(lost.value.orig, murmur.Conflict)


def test_a_transaction_reads_one_snapshot_and_autocommit_none(
    engine: sa.Engine, note: sa.Table
) -> None:
    count = sa.select(sa.func.count()).select_from(note)
    with engine.connect() as reader, engine.begin() as writer:
        auto = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        assert reader.scalar(count) == auto.scalar(count) == 0
        assert auto.get_isolation_level() == "AUTOCOMMIT"
        assert reader.get_isolation_level() == "SNAPSHOT"
        writer.execute(note.insert().values(body="x"))
        writer.commit()
        assert (reader.scalar(count), auto.scalar(count)) == (0, 1)
        auto.close()


@pytest.mark.parametrize("asks_first", [True, False])
def test_a_connection_whose_swarm_was_closed_is_replaced(tmp_path: Path, asks_first: bool) -> None:
    engine = sa.create_engine(f"murmur:///{tmp_path / 'db'}", pool_pre_ping=asks_first)
    with engine.connect() as connection:
        swarm = connection.connection.driver_connection.swarm
    swarm.close()
    if not asks_first:
        with engine.connect() as connection:
            with pytest.raises(exc.InterfaceError) as closed:
                connection.execute(sa.text("SELECT 1"))
            assert closed.value.connection_invalidated
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT 1")) == 1
    engine.dispose()


# The ORM ---------------------------------------------------------------


class Base(orm.DeclarativeBase):
    pass


tagged = sa.Table(
    "tagged",
    Base.metadata,
    sa.Column("post_id", sa.ForeignKey("post.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("tag", sa.ForeignKey("tag.name"), primary_key=True),
)


class Author(Base):
    __tablename__ = "author"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    name: orm.Mapped[str] = orm.mapped_column(unique=True)
    posts: orm.Mapped[list[Post]] = orm.relationship(
        back_populates="author", cascade="all, delete-orphan", order_by="Post.title"
    )


class Post(Base):
    __tablename__ = "post"
    id: orm.Mapped[uuid.UUID] = orm.mapped_column(
        primary_key=True, server_default=sa.text("uuid7()")
    )
    author_id: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey("author.id"), index=True)
    title: orm.Mapped[str]
    written: orm.Mapped[datetime] = orm.mapped_column(server_default=sa.func.now())
    author: orm.Mapped[Author] = orm.relationship(back_populates="posts")
    tags: orm.Mapped[list[Tag]] = orm.relationship(secondary=tagged)


class Tag(Base):
    __tablename__ = "tag"
    name: orm.Mapped[str] = orm.mapped_column(primary_key=True)


def test_objects_and_their_relationships_survive(engine: sa.Engine) -> None:
    Base.metadata.create_all(engine)
    with orm.Session(engine) as session:
        red, blue = Tag(name="red"), Tag(name="blue")
        ann = Author(name="ann", posts=[Post(title="b", tags=[red, blue]), Post(title="a")])
        session.add_all([ann, Author(name="bob", posts=[Post(title="c", tags=[red])])])
        session.add_all(Author(name=f"author {i}") for i in range(50))
        session.commit()
        assert ann.id > 2**50
        assert ann.posts[0].written.tzinfo is None
    with orm.Session(engine) as session:
        ann = session.scalars(
            sa.select(Author)
            .where(Author.name == "ann")
            .options(orm.selectinload(Author.posts).joinedload(Post.tags))
        ).one()
        assert [post.title for post in ann.posts] == ["a", "b"]
        assert {tag.name for tag in ann.posts[1].tags} == {"red", "blue"}
        ann.posts[0].title = "changed"
        del ann.posts[1]
        ann.name = "anna"
        session.commit()
    with orm.Session(engine) as session:
        found = session.execute(
            sa.select(Author.name, sa.func.count(Post.id))
            .join(Author.posts)
            .group_by(Author.name)
            .order_by(Author.name)
        ).all()
        assert found == [("anna", 1), ("bob", 1)]
        assert session.scalar(sa.select(sa.func.count()).select_from(tagged)) == 1
        session.execute(sa.delete(Author).where(Author.name.like("author %")))
        session.commit()
        assert session.query(Author).count() == 2


def test_reflection_tells_what_was_created(engine: sa.Engine) -> None:
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE VIEW titles AS SELECT title, length(title) n FROM post"))
        connection.execute(sa.text("ALTER TABLE tag ADD CHECK (length(name) < 9)"))
        inspector = sa.inspect(connection)
        assert inspector.get_table_names() == ["author", "post", "tag", "tagged"]
        assert inspector.get_view_names() == ["titles"]
        columns = inspector.get_columns("titles")
        assert [(each["name"], str(each["type"])) for each in columns] == [
            ("title", "VARCHAR" if str(columns[0]["type"]) == "VARCHAR" else "TEXT"),
            ("n", str(columns[1]["type"])),
        ]
        (key,) = [
            each
            for each in inspector.get_foreign_keys("tagged")
            if each["referred_table"] == "post"
        ]
        assert key["options"] == {"ondelete": "CASCADE"}
        assert inspector.get_pk_constraint("tagged")["constrained_columns"] == ["post_id", "tag"]
        assert [each["column_names"] for each in inspector.get_indexes("post")] == [["author_id"]]
        assert inspector.get_unique_constraints("author")[0]["column_names"] == ["name"]
        assert "length" in inspector.get_check_constraints("tag")[0]["sqltext"].lower()
        with pytest.raises(exc.NoSuchTableError):
            inspector.get_columns("nowhere")


def test_generated_columns_and_indexes_of_expressions_and_of_some_rows(engine: sa.Engine) -> None:
    metadata = sa.MetaData()
    table = sa.Table(
        "item",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.Text),
        sa.Column("price", sa.Integer),
        sa.Column("cost", sa.Integer, sa.Computed("price * 2")),
    )
    sa.Index("item_lower", sa.func.lower(table.c.name), table.c.price.desc())
    sa.Index("item_dear", table.c.price, murmur_where=table.c.price > 100, unique=True)
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(table.insert(), [{"name": "A", "price": 3}, {"name": "b", "price": 3}])
        assert connection.scalars(sa.select(table.c.cost)).all() == [6, 6]
        with pytest.raises(exc.IntegrityError), connection.begin_nested():
            connection.execute(table.insert(), [{"price": 101}, {"price": 101}])
    inspector = sa.inspect(engine)
    dear, lower = inspector.get_indexes("item")
    assert (dear["column_names"], dear["unique"]) == (["price"], True)
    assert dear["dialect_options"]["murmur_where"].replace("item.", "") == "price > 100"
    assert lower["column_names"] == [None, "price"]
    assert [text.lower() for text in lower["expressions"]] == ["lower(name)", "price"]
    assert lower["column_sorting"] == {"price": ("desc",)}
    assert inspector.get_columns("item")[3]["computed"]["sqltext"] == "price * 2"
    again = sa.MetaData()
    again.reflect(engine)
    with engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE item"))
    again.create_all(engine)
    assert sa.inspect(engine).get_indexes("item") == [dear, lower]
    virtual = sa.Table(
        "v", sa.MetaData(), sa.Column("a", sa.Integer, sa.Computed("1", persisted=False))
    )
    with pytest.raises(exc.CompileError, match="are STORED"):
        virtual.create(engine)


def test_text_of_a_statement_needs_no_database(note: sa.Table) -> None:
    statement = insert(note).values(id=1).on_conflict_do_nothing(index_elements=["id"])
    assert "ON CONFLICT (id) DO NOTHING" in str(statement)
    with pytest.raises(exc.CompileError, match="Murmur has no sequences"):
        str(sa.Sequence("s").next_value().compile(dialect=sa.make_url("murmur://").get_dialect()()))


def test_comments_are_written_and_reflected(engine: sa.Engine) -> None:
    metadata = sa.MetaData()
    text = "it's 100% \\ \u00e9"
    column = sa.Column("body", sa.Text, comment=text)
    sa.Table("said", metadata, sa.Column("id", sa.Integer, primary_key=True), column, comment=text)
    metadata.create_all(engine)
    inspector = sa.inspect(engine)
    assert inspector.get_table_comment("said") == {"text": text}
    assert [each["comment"] for each in inspector.get_columns("said")] == [None, text]
    assert sa.Table("said", sa.MetaData(), autoload_with=engine).comment == text
