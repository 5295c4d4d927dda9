"""Joins at work: pairs of rows found by a hash table, by a key, or by trying all.

    HashJoin(inner, note, author, note.author = author.id)

      table = {author.id: [author rows]}         the right side, kept
      for row in note rows:                      the left side, streamed
          for right in table.get(row[1], ()):  yield row + right

Each join is one generated loop (compile.py); NULL equals nothing, so a row with a NULL among its
keys is in no hash table. Without keys every row stands under the key ().
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any, TypeAlias

from murmur.kvcore.view import View
from murmur.sql.access import Reader, Row, access_finder
from murmur.sql.compile import Source, compile_predicate
from murmur.sql.execution import Context
from murmur.sql.expressions import Expr
from murmur.sql.plan import HashJoin, JoinKind, LookupJoin
from murmur.sql.subqueries import settled

Table: TypeAlias = dict[Any, list[Any]]
MANY = 256  # partners of one row, from which on the statement may be ended between rows
CACHED = 10_000  # keys whose rows a lookup join remembers


def compile_hash_join(join: HashJoin, left: Reader, right: Reader) -> Reader:
    """The function that gives the rows of a hash join."""
    full = join.kind == "full"
    build = _builder(join.right_keys, entries=full)
    probe = _loop(join.kind, f"get({_PROBE})", join.left_keys, join.condition, join.width)

    def read(view: View, context: Context) -> Iterable[Row]:
        table: Table = {}
        alone: list[list[Any]] = []
        build(context.memory.hold(right(view, context)), table, alone, context)
        if not table and join.kind in ("inner", "semi"):
            return ()
        pairs: Iterable[Row] = probe(left(view, context), table.get, context)
        if not full:
            return pairs
        return chain(pairs, _unmatched(chain(*table.values(), alone), join.left_width))

    return read


def _unmatched(entries: Iterable[list[Any]], width: int) -> Iterable[Row]:
    """What a full join adds at its end: right rows that nobody has met."""
    nulls = (None,) * width
    for right, met in entries:
        if not met:
            yield nulls + right


def compile_lookup_join(join: LookupJoin, left: Reader) -> Reader:
    """The function that gives the rows of a lookup join."""
    find = access_finder(join.right)
    holds = None if join.filter is None else compile_predicate(join.filter)
    loop = _loop(join.kind, "get(row)", (), join.condition, join.width)

    def read(view: View, context: Context) -> Iterable[Row]:
        found = find(view, context)

        def passing(row: Row) -> list[Row]:
            return [right for right in found(row) if holds is None or holds(right, context)]

        partners = found if holds is None else passing
        rows: Iterable[Row] = loop(left(view, context), partners, context)
        return rows

    return read


# Hash tables -------------------------------------------------------------------------------------

Builder: TypeAlias = Callable[[Iterable[Row], Table, list[list[Any]], Context], None]


def _builder(keys: Sequence[Expr], *, entries: bool) -> Builder:
    """Puts rows into a table by their keys; as [row, met] entries where a full join needs them.

    Rows without a key are nobody's partner: with `entries` they go to `alone`.
    """
    source = Source()
    key = _key(source, keys)
    guard = {0: "True", 1: "key is not None"}.get(len(keys), "None not in key")
    item = "[row, False]" if entries else "row"
    lines = [
        "for row in rows:",
        f"    key = {key}",
        f"    if {guard}:",
        f"        table.setdefault(key, []).append({item})",
    ]
    if entries:
        lines += ["    else:", f"        alone.append({item})"]
    build: Builder = source.build("\n    ".join(lines), argument="rows, table, alone")
    return build


def _key(source: Source, keys: Sequence[Expr]) -> str:
    """What rows are found by: a value, or a tuple of them; NaN is one key."""
    if len(keys) == 1:
        value = source.value(keys[0])
        if not _may_be_nan(keys):
            return value
        return f"{source.constant(settled)}(({value},))[0]"
    row = source.row_of(keys) if keys else "()"
    return f"{source.constant(settled)}({row})" if _may_be_nan(keys) else row


def _may_be_nan(keys: Sequence[Expr]) -> bool:
    return any(key.type is None or key.type.is_float for key in keys)


# Loops -------------------------------------------------------------------------------------------

_PROBE = "<key>"


def _loop(
    kind: JoinKind, partners: str, keys: Sequence[Expr], condition: Expr | None, width: int
) -> Callable[..., Iterable[Row]]:
    """The loop over left rows; `partners` is what gives the right rows for one."""
    source = Source()
    if partners != "get(row)":
        partners = partners.replace(_PROBE, _key(source, keys))
    right = "entry[0]" if kind == "full" else "entry"
    holds = "" if condition is None else f"if {source.true(condition)}"
    nulls = source.constant((None,) * width)
    lines = [
        "check = context.halt.check",
        "for row in rows:",
        f"    entries = {partners}",
    ]
    match kind:
        case "semi" | "anti" if condition is None:
            word = "" if kind == "semi" else "not "
            lines += [f"    if {word}entries:", "        yield row"]
        case "semi" | "anti":
            lines += [
                "    left = row",
                f"    if entries and len(entries) > {MANY}:",
                "        check()",
                "    for entry in entries or ():",
                "        row = left + entry",
                f"        {holds}:",
            ]
            if kind == "semi":
                lines += ["            yield left", "            break"]
            else:
                lines += ["            break", "    else:", "        yield left"]
        case "inner":
            lines += ["    if entries:", "        left = row", *_many("        ")]
            lines += ["        for entry in entries:"]
            if condition is None:
                lines += ["            yield left + entry"]
            else:
                lines += [
                    "            row = left + entry",
                    f"            {holds}:",
                    "                yield row",
                ]
        case "left" | "full":
            test = f"{holds}:" if holds else "if True:"
            lines += [
                "    left = row",
                "    met = False",
                "    if entries:",
                *_many("        "),
                "        for entry in entries:",
                f"            row = left + {right}",
                f"            {test}",
                "                met = True",
            ]
            if kind == "full":
                lines += ["                entry[1] = True"]
            lines += [
                "                yield row",
                "    if not met:",
                f"        yield left + {nulls}",
            ]
    return source.build("\n    ".join(lines), argument="rows, get")  # type: ignore[no-any-return]


def _many(indent: str) -> list[str]:
    """A long loop inside of the loop: ask whether the statement is to stop."""
    return [f"{indent}if len(entries) > {MANY}:", f"{indent}    check()"]
