"""Values of keys as columns: what is written reads back, the rest of a value stays as it is."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from murmur.catalog import Column, SqlType, parse_type, to_atom
from murmur.catalog.kv_values import ValueForm, form_of
from murmur.catalog.values import check
from murmur.errors import DataError
from tests.olap.harness import TYPES, VALUES

MEMBERS = [sql_type for sql_type in TYPES if sql_type.name != "COUNTER"]
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
DOCUMENTS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


def column(name: str, sql_type: SqlType | str, position: int = 0) -> Column:
    kind = parse_type(sql_type) if isinstance(sql_type, str) else sql_type
    return Column(position + 1, name, kind, position=position)


def members(**types: str) -> ValueForm:
    return form_of("json", [column(*each, i) for i, each in enumerate(types.items())])


@st.composite
def typed_values(draw: st.DrawFn) -> list[tuple[SqlType, Any]]:
    types = draw(st.lists(st.sampled_from(MEMBERS), max_size=4))
    return [(each, draw(st.none() | VALUES[str(each)])) for each in types]


def stored(value: Any, sql_type: SqlType) -> Any:
    return to_atom(check(value, sql_type, where=""), sql_type)


@given(typed_values(), st.dictionaries(TEXT, DOCUMENTS), st.sampled_from([None, 1, "\t"]))
def test_written_members_read_back_and_others_stay(
    pairs: list[tuple[SqlType, Any]], others: dict[str, Any], indent: Any
) -> None:
    columns = [column(f"c{i}", sql_type, i) for i, (sql_type, _) in enumerate(pairs)]
    form = form_of("json", columns)
    old = json.dumps(others, indent=indent).encode()
    given_atoms = [stored(value, sql_type) for sql_type, value in pairs]
    changes = dict(zip([each.id for each in columns], given_atoms, strict=True))
    infinite = any(isinstance(atom, float) and math.isinf(atom) for atom in given_atoms)
    if infinite:
        with pytest.raises(DataError, match="is no number of JSON"):
            form.written(old, changes, "key 'k'")
        return
    wanted = tuple(
        None if each.type.name == "JSON" and str(atom).strip() == "null" else atom
        for each, atom in zip(columns, given_atoms, strict=True)
    )
    for value in (form.written(old, changes, "k"), form.written(None, changes, "k")):
        assert form.atoms(value) == wanted
        assert form.unreadable(value) == []
    merged = json.loads(form.written(old, changes, "k"))
    named = {each.name for each in columns}
    kept = {name: member for name, member in others.items() if name not in named}
    assert {name: member for name, member in merged.items() if name not in named} == kept
    assert form.written(form.written(old, changes, "k"), changes, "k") == form.written(
        old, changes, "k"
    )


def test_a_merge_touches_nothing_but_its_members() -> None:
    form = members(temp="DOUBLE", site="TEXT")
    old = b' { "big" : 1.00000000000000000001 , "temp":1e0, "x":{"temp":3} } '
    assert form.written(old, {1: 2.5}, "k") == (
        b' { "big" : 1.00000000000000000001 , "temp":2.5, "x":{"temp":3} } '
    )
    assert form.written(old, {2: "a\nb"}, "k") == (
        b' { "big" : 1.00000000000000000001 , "temp":1e0, "x":{"temp":3} ,"site":"a\\nb"} '
    )
    assert form.written(b"{ }", {1: None, 2: "s"}, "k") == b'{ "temp":null,"site":"s"}'
    assert form.written(b'{"temp":1,"temp":2}', {1: 3.0}, "k") == b'{"temp":1,"temp":3.0}'


@given(
    st.binary() | DOCUMENTS.map(lambda value: json.dumps(value).encode()), st.sampled_from(MEMBERS)
)
def test_reading_never_fails_and_says_what_it_cannot_show(value: bytes, sql_type: SqlType) -> None:
    form = form_of("json", [column("a", sql_type)])
    (atom,) = form.atoms(value)
    try:
        parsed = json.loads(value.decode())
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict):
        assert (atom, len(form.unreadable(value))) == (None, 1)
    elif parsed.get("a") is None:
        assert (atom, form.unreadable(value)) == (None, [])
    else:
        assert (atom is None) == bool(form.unreadable(value))


@pytest.mark.parametrize(
    ("sql_type", "member", "atom"),
    [
        ("INTEGER", "7", 7),
        ("INTEGER", "7.0", 7),
        ("INTEGER", "-0.0", 0),
        ("INTEGER", "7.5", None),
        ("INTEGER", "2147483648", None),
        ("INTEGER", '"7"', None),
        ("INTEGER", "true", None),
        ("BIGINT", "9007199254740993", 9007199254740993),
        ("BIGINT", "9007199254740994.0", None),
        ("DOUBLE", "7", 7.0),
        ("DOUBLE", "1e999", None),
        ("DOUBLE", "false", None),
        ("DECIMAL(6,2)", "1.50", "1.50"),
        ("DECIMAL(6,2)", "1.505", None),
        ("DECIMAL(6,2)", '"1.50"', None),
        ("DECIMAL(6,2)", "null", None),
        ("BOOLEAN", "true", True),
        ("BOOLEAN", "1", None),
        ("TEXT", '"a"', "a"),
        ("TEXT", '"\\u0000"', None),
        ("TEXT", '"\\ud800"', None),
        ("TEXT", "1", None),
        ("VARCHAR(2)", '"abc"', None),
        ("BLOB", '"\\\\x00ff"', b"\x00\xff"),
        ("BLOB", '"00ff"', None),
        ("JSON", ' [1.50, {"a" : 1}]', '[1.50, {"a" : 1}]'),
        ("JSON", '"x"', '"x"'),
        ("DATE", '"2024-02-29"', 738945),
        ("DATE", '"2024-02-30"', None),
        ("TIMESTAMPTZ", '"1970-01-01T00:00:01Z"', 1_000_000),
        ("TIMESTAMPTZ", '"1970-01-01T00:00:01"', None),
        ("UUID", '"00000000-0000-0000-0000-000000000001"', bytes(15) + b"\x01"),
    ],
)
def test_members_of_each_type(sql_type: str, member: str, atom: Any) -> None:
    form = members(a=sql_type)
    value = b'{"a":' + member.encode() + b"}"
    assert form.atoms(value) == (atom,)
    assert bool(form.unreadable(value)) == (atom is None and member != "null")


@pytest.mark.parametrize(
    ("sql_type", "value", "atom"),
    [
        ("TEXT", b"", ""),
        ("TEXT", "é".encode(), "é"),
        ("TEXT", b"\xff", None),
        ("TEXT", b"a\0b", None),
        ("BLOB", b"\0\xff", b"\0\xff"),
        ("JSON", b'{"a": 1.0}', '{"a": 1.0}'),
        ("JSON", b"null", "null"),
        ("JSON", b"{", None),
        ("JSON", b"NaN", None),
        ("JSON", b"", None),
        ("JSON", b"[" * 200 + b"]" * 200, None),
    ],
)
def test_whole_values(sql_type: str, value: bytes, atom: Any) -> None:
    form = form_of("whole", [column("value", sql_type)])
    assert form.atoms(value) == (atom,)
    assert bool(form.unreadable(value)) == (atom is None)
    if atom is not None:
        assert form.written(b"old", {1: atom}, "k") == value


@pytest.mark.parametrize("old", [b"", b"[1]", b"1", b"\xff", b'{"a":NaN}', b"[" * 100_000])
def test_what_is_no_object_is_not_written_over(old: bytes) -> None:
    with pytest.raises(DataError, match=r"^key 'k': the value is not a JSON object; put or delete"):
        members(a="TEXT").written(old, {1: "x"}, "key 'k'")
