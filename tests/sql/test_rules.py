"""What each rule makes of a plan: before, and after."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from murmur.catalog.schema import Table
from murmur.catalog.types import INTEGER
from murmur.sql import Session
from murmur.sql.binder import Binding
from murmur.sql.binder_query import QueryBinder
from murmur.sql.explain_tree import lines_of, operator_of
from murmur.sql.expressions import Column, walk
from murmur.sql.parser import parse
from murmur.sql.plan import Join, Project, Rows
from murmur.sql.rules import optimise
from murmur.sql.rules.choose import choose
from murmur.sql.rules.estimate import Estimates
from murmur.sql.rules.flatten import flatten
from murmur.sql.rules.prune import prune
from murmur.sql.rules.push_down import push_down
from murmur.sql.rules.reorder import reorder
from murmur.sql.rules.shape import tables, width
from murmur.sql.rules.unnest import unnest
from tests.sql.session_harness import open_session

SIZES = {"a": 100, "n": 10_000, "t": 50_000, "one": 3}


class Facts:
    analyzed = 0

    def rows(self, table: Table) -> float:
        return float(SIZES[table.name])

    def distinct(self, table: Table, position: int) -> float | None:
        return None

    def fraction(self, table: Table, position: int, op: str, value: object) -> float | None:
        return None


ESTIMATES = Estimates(Facts())
Rule = Callable[[Rows], Rows]


@pytest.fixture(scope="module")
def session() -> Session:
    session = open_session(columnar=False)
    session.execute("CREATE TABLE a (id INT PRIMARY KEY, name TEXT, born INT)")
    session.execute("CREATE TABLE n (id INT PRIMARY KEY, author INT, likes INT, body TEXT)")
    session.execute("CREATE TABLE t (note INT, tag TEXT, PRIMARY KEY (note, tag))")
    session.execute("CREATE TABLE one (x INT PRIMARY KEY)")
    session.execute("CREATE INDEX n_author ON n (author, likes)")
    return session


def bound(session: Session, text: str) -> Rows:
    parsed = parse(text)
    with session._replica.snapshot() as snapshot:
        types = [None] * len(parsed.parameters.names)
        binding = Binding(snapshot.state, session._system.columns, text, list(types))
        return QueryBinder(binding).query(parsed.tree, {}, None).rows


def shown(rows: Rows) -> list[str]:
    return list(lines_of(operator_of(rows)))


def lines(text: str) -> list[str]:
    kept = [line for line in text.splitlines() if line.strip()]
    indent = len(kept[0]) - len(kept[0].lstrip())
    return [line[indent:] for line in kept]


def check(session: Session, rules: list[Rule], text: str, before: str, after: str) -> None:
    rows = bound(session, text)
    for rule in rules[:-1]:
        rows = rule(rows)
    assert shown(rows) == lines(before)
    changed = rules[-1](rows)
    assert shown(changed) == lines(after)
    assert width(changed) == width(rows)


def test_unnest_makes_a_semi_join_of_exists(session: Session) -> None:
    check(
        session,
        [unnest],
        "SELECT name FROM a WHERE EXISTS (SELECT 1 FROM n WHERE author = a.id AND likes > 3)",
        """
        project name
          filter exists (subquery)
            table a
            subquery, for each id
              project 1
                filter (author = id) and (likes > 3)
                  table n
        """,
        """
        project name
          semi join author = id
            table a
            filter likes > 3
              table n
        """,
    )


@pytest.mark.parametrize(
    ("where", "top"),
    [
        ("NOT EXISTS (SELECT 1 FROM n WHERE author = a.id)", "anti join author = id"),
        ("id IN (SELECT author FROM n)", "semi join id = author"),
        ("id IN (SELECT author FROM n WHERE likes > a.born)", "semi join"),
        ("id NOT IN (SELECT author FROM n)", "filter"),
        ("id IN (SELECT author FROM n) OR born = 1", "filter"),
        ("EXISTS (SELECT count(*) FROM n WHERE author = a.id)", "filter"),
        ("EXISTS (SELECT 1 FROM n WHERE author = a.id LIMIT 1)", "semi join"),
        ("EXISTS (SELECT 1 FROM n WHERE author = a.id LIMIT 0)", "filter"),
        ("id IN (SELECT max(author) FROM n WHERE likes = a.born)", "filter"),
    ],
)
def test_unnest_only_where_it_means_the_same(session: Session, where: str, top: str) -> None:
    rows = unnest(bound(session, f"SELECT name FROM a WHERE {where}"))
    assert shown(rows)[1].strip().startswith(top)


def test_push_down_through_joins(session: Session) -> None:
    check(
        session,
        [push_down],
        "SELECT 1 FROM a JOIN n ON n.author = a.id WHERE name = 'x' AND likes > 3 AND born < likes",
        """
        project 1
          filter (name = 'x') and (likes > 3) and (born < likes)
            inner join author = id
              table a
              table n
        """,
        """
        project 1
          inner join (author = id) and (born < likes)
            filter name = 'x'
              table a
            filter likes > 3
              table n
        """,
    )


@pytest.mark.parametrize(
    ("text", "after"),
    [
        (  # WHERE that NULLs do not pass: the outer join is none
            "SELECT 1 FROM a LEFT JOIN n ON author = a.id WHERE likes > 3",
            ["project 1", "  inner join author = id", "    table a", "    filter likes > 3"],
        ),
        (  # IS NULL is what asks for the unmatched
            "SELECT 1 FROM a LEFT JOIN n ON author = a.id WHERE likes IS NULL",
            ["project 1", "  filter likes is null", "    left join author = id"],
        ),
        (  # ON may not take rows from the left
            "SELECT 1 FROM a LEFT JOIN n ON author = a.id AND name = 'x' AND likes > 3",
            ["project 1", "  left join (author = id) and (name = 'x')", "    table a"],
        ),
        (
            "SELECT 1 FROM a FULL JOIN n ON author = a.id WHERE name = 'x'",
            ["project 1", "  filter name = 'x'", "    full join author = id"],
        ),
        (
            "SELECT 1 FROM (SELECT likes + 1 AS m FROM n) s WHERE m > 3",
            ["project 1", "  project likes + 1", "    filter (likes + 1) > 3"],
        ),
        (
            "SELECT 1 FROM (SELECT author, count(*) AS c FROM n GROUP BY author) s "
            "WHERE author = 5 AND c > 2",
            ["project 1", "  project author, count", "    filter count > 2"],
        ),
        (
            "SELECT 1 FROM (SELECT id FROM n LIMIT 3) s WHERE id = 5",
            ["project 1", "  project id", "    filter id = 5", "      limit 3"],
        ),
        (
            "SELECT 1 FROM (SELECT id FROM a UNION SELECT id FROM n) s WHERE id = 5",
            ["project 1", "  union", "    project id", "      filter id = 5"],
        ),
        ("SELECT 1 FROM a, n WHERE 1 = 2", ["project 1", "  limit 0", "    inner join"]),
        (
            "SELECT 1 FROM (SELECT random() AS r FROM n) s WHERE r > 0.5",
            ["project 1", "  filter r > 0.5", "    project random()"],
        ),
    ],
)
def test_push_down_stops_where_it_must(session: Session, text: str, after: list[str]) -> None:
    assert shown(push_down(bound(session, text)))[: len(after)] == after


def test_reorder_begins_with_the_fewest_rows(session: Session) -> None:
    text = (
        "SELECT t.tag FROM t, n, a, one "
        "WHERE t.note = n.id AND a.id = n.author AND a.name = 'ann' AND one.x = a.born"
    )
    check(
        session,
        [push_down, lambda rows: reorder(rows, ESTIMATES)],
        text,
        """
        project tag
          inner join x = born
            inner join id = author
              inner join note = id
                table t
                table n
              filter name = 'ann'
                table a
            table one
        """,
        """
        project tag
          project #8, #9, #4, #5, #6, #7, #1, #2, #3, #0
            inner join note = id
              inner join id = author
                inner join x = born
                  table one
                  filter name = 'ann'
                    table a
                table n
              table t
        """,
    )


def test_reorder_leaves_outer_joins_alone(session: Session) -> None:
    rows = push_down(bound(session, "SELECT 1 FROM t LEFT JOIN a ON a.id = t.note"))
    assert reorder(rows, ESTIMATES) == rows


def test_flatten_sees_through_what_only_chooses_columns(session: Session) -> None:
    check(
        session,
        [push_down, flatten],
        "SELECT c.name, s.k FROM (SELECT likes AS k, author FROM n WHERE id < 3) s "
        "LEFT JOIN (SELECT name, id FROM a) c ON c.id = s.author",
        """
        project name, k
          left join id = author
            project likes, author
              filter id < 3
                table n
            project name, id
              table a
        """,
        """
        project name, k
          left join id = author
            filter id < 3
              table n
            table a
        """,
    )
    text = "SELECT 1 FROM (SELECT likes + 1 AS k FROM n) s JOIN a ON k = id"
    rows = push_down(bound(session, text))
    assert flatten(rows) == rows


def test_flatten_keeps_the_types_of_what_is_computed_above(session: Session) -> None:
    text = "SELECT a.born * -3, s.k - 1 FROM (SELECT likes AS k FROM n) s JOIN a ON a.id = s.k"
    rows = flatten(push_down(bound(session, text)))
    assert isinstance(rows, Project)
    columns = [part for expr in rows.exprs for part in walk(expr) if isinstance(part, Column)]
    assert [column.type for column in columns] == [INTEGER, INTEGER]
    assert isinstance(rows.source, Join)


def final(session: Session, text: str) -> list[str]:
    return shown(optimise(bound(session, text), ESTIMATES))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "SELECT body FROM one JOIN n ON n.author = one.x",
            ["project body", "  lookup join by index range n_author on n (author = x)"],
        ),
        (
            "SELECT body FROM a JOIN n ON n.id = a.born WHERE likes > 1",
            ["project body", "  lookup join by key lookup n (id = born), filter likes > 1"],
        ),
        (  # all of n: a hash table over the small side
            "SELECT body FROM n JOIN a ON n.author = a.id",
            ["project body", "  hash join author = id", "    full scan n", "    full scan a"],
        ),
        (
            "SELECT body FROM a LEFT JOIN n ON a.born > n.likes",
            ["project body", "  left nested loop join born > likes"],
        ),
        (  # the index on (author, likes) holds all of it
            "SELECT likes FROM one JOIN n ON n.author = one.x",
            ["project likes", "  lookup join by covering index range n_author on n (author = x)"],
        ),
        (
            "SELECT likes, count(*) FROM n WHERE author = 3 GROUP BY likes",
            [
                "project likes, count",
                "  group by likes: count(*)",
                "    covering index range n_author on n (author = 3)",
            ],
        ),
        (  # a few values find the rows that have them, each value once
            "SELECT body FROM n WHERE author IN (SELECT x FROM one) AND likes > 1",
            [
                "project body",
                "  lookup join by index range n_author on n (author = x, likes > 1)",
                "    distinct",
                "      project x",
                "        full scan one",
            ],
        ),
        (  # all of n: its rows are tested against a hash table
            "SELECT body FROM n WHERE author IN (SELECT id FROM a WHERE born > 1)",
            ["project body", "  semi hash join author = id", "    full scan n"],
        ),
        (  # named twice, run once
            "WITH c AS (SELECT author, count(*) AS k FROM n GROUP BY author) "
            "SELECT x.k FROM c x JOIN c y ON x.author = y.k",
            ["project k", "  hash join author = k", "    shared c, read once for 2 uses"],
        ),
        (
            "WITH c AS NOT MATERIALIZED (SELECT * FROM n) "
            "SELECT x.body FROM c x JOIN c y ON x.id = y.author WHERE y.id = 5",
            [
                "project body",
                "  lookup join by key lookup n (id = author)",
                "    key lookup n (id = 5)",
            ],
        ),
        (  # the table of the name inside of it is no use of it
            "WITH one AS (SELECT x FROM one WHERE x > 1) SELECT x FROM one WHERE x < 9",
            ["project x", "  key range one (x > 1, x < 9)"],
        ),
        (  # the order of the left side is that of the join
            "SELECT n.id, name FROM n LEFT JOIN a ON a.id = n.author ORDER BY n.id DESC LIMIT 3",
            ["project id, name", "  limit 3", "    left lookup join by key lookup a (id = author)"],
        ),
        (
            "SELECT n.id FROM n LEFT JOIN a ON a.id = n.author ORDER BY n.likes LIMIT 3",
            ["project id", "  limit 3", "    sort by likes"],
        ),
    ],
)
def test_choose_and_prune(session: Session, text: str, expected: list[str]) -> None:
    assert final(session, text)[: len(expected)] == expected


def test_prune_reads_only_what_is_needed(session: Session) -> None:
    rows = bound(session, "SELECT name FROM n JOIN a ON a.id = n.author")
    chosen = choose(push_down(rows), ESTIMATES)
    pruned = prune(chosen)
    columns = {}
    pending = [pruned]
    while pending:
        node = pending.pop()
        pending += [
            getattr(node, side) for side in ("source", "left", "right") if hasattr(node, side)
        ]
        if hasattr(node, "table"):
            columns[node.table.name] = node.columns
    assert columns == {"n": (1,), "a": (0, 1)}
    assert width(pruned) == width(chosen) == 1
    assert {table.name for table in tables(pruned)} == {"n", "a"}


def test_ranges_and_lists_are_merged_for_a_key(session: Session) -> None:
    text = "SELECT body FROM n JOIN one ON x = likes WHERE (n.id = 1 OR n.id IN (2, 3))"
    assert any("key lookup n (id in (1, 2, 3))" in line for line in final(session, text))
    text = "SELECT body FROM n JOIN one ON x = likes WHERE n.id > 5 AND n.id BETWEEN 1 AND 9"
    assert any("key range n (id > 5, id <= 9)" in line for line in final(session, text))
