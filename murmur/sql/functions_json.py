"""Functions that take JSON values apart and change them: see functions.py, and json_values.py.

    jsonb_set('{"a": 1}', '{b}', '2')        '{"a":1,"b":2}'
    '{"a": 1, "b": 2}' @> '{"a": 1}'         true
    '[1, 2, 3]' - 1                          '[1,3]'

A path is PostgreSQL's array of texts, written '{a,b,0}'. What is changed is written anew, without
blanks; numbers stay as they were written. Importing this file registers them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeAlias

from murmur.catalog.types import BIGINT, BOOLEAN, JSON, TEXT, SqlType
from murmur.errors import DataError
from murmur.sql import json_values, operators
from murmur.sql.casts import caster
from murmur.sql.expressions import Function
from murmur.sql.functions import define

Value: TypeAlias = Any  # dict, list, str, Number, bool or None


class Number(str):
    """A number as it was written."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Number) and Decimal(self) == Decimal(other)

    __hash__ = str.__hash__


def parse(text: str) -> Value:
    """The value of a JSON text."""
    try:
        return json.loads(text, parse_int=Number, parse_float=Number)
    except ValueError:
        raise DataError(f"what is stored is not JSON: {text:.60}") from None


def write(value: Value, indent: str = "", step: str = "") -> str:
    """The text of a value; with a `step`, each member on a line of its own."""
    match value:
        case Number():
            return str(value)
        case dict():
            colon = ": " if step else ":"
            parts = [
                f"{json.dumps(name, ensure_ascii=False)}{colon}{write(each, indent + step, step)}"
                for name, each in value.items()
            ]
            return _enclosed("{", parts, "}", indent, step)
        case list():
            parts = [write(each, indent + step, step) for each in value]
            return _enclosed("[", parts, "]", indent, step)
    return json.dumps(value, ensure_ascii=False)


def _enclosed(start: str, parts: Sequence[str], stop: str, indent: str, step: str) -> str:
    if not step or not parts:
        return start + ",".join(parts) + stop
    line = "\n" + indent + step
    return start + line + ("," + line).join(parts) + "\n" + indent + stop


# Paths -------------------------------------------------------------------------------------------


def path_of(text: str) -> list[str]:
    """The steps of a path such as '{a,"b c",0}'."""
    inner = text.strip()
    if not (inner.startswith("{") and inner.endswith("}")):
        raise DataError(f"a path is written '{{a,b,0}}', not '{text:.60}'")
    steps, current, quoted, said = [], "", False, False
    characters = iter(inner[1:-1])
    for each in characters:
        if each == "\\":
            current += next(characters, "")
        elif each == '"':
            quoted, said = not quoted, True
        elif each == "," and not quoted:
            steps.append(current if said else current.strip())
            current, said = "", False
        else:
            current += each
    if current or said or steps:
        steps.append(current if said else current.strip())
    return steps


def _extract(text: str, path: str) -> str | None:
    return _walk(text, path_of(path))


def _extract_text(text: str, path: str) -> str | None:
    return json_values.as_text(_walk(text, path_of(path)))


def _walk(text: str, steps: Sequence[str]) -> str | None:
    found: str | None = text
    for step in steps:
        if found is None:
            return None
        if json_values.type_name(found) == "array":
            index = _index(step)
            found = None if index is None else json_values.element(found, index)
        else:
            found = json_values.member(found, step)
    return found


def _index(step: str) -> int | None:
    sign = step[:1] == "-"
    return int(step) if step[sign:].isdecimal() and step.isascii() else None


def _extract_steps(text: str, *steps: str) -> str | None:
    return _walk(text, steps)


def _extract_steps_text(text: str, *steps: str) -> str | None:
    return json_values.as_text(_walk(text, steps))


# Questions ---------------------------------------------------------------------------------------


def _contains(left: str, right: str) -> bool:
    return _holds(parse(left), parse(right), top=True)


def _holds(left: Value, right: Value, *, top: bool = False) -> bool:
    """Whether everything of `right` is in `left`, at the same place."""
    if isinstance(left, dict) and isinstance(right, dict):
        return all(name in left and _holds(left[name], each) for name, each in right.items())
    if isinstance(left, list) and isinstance(right, list):
        return all(any(_holds(mine, each) for mine in left) for each in right)
    if top and isinstance(left, list):  # an array contains a plain value
        return not isinstance(right, dict | list) and any(_same(mine, right) for mine in left)
    return not isinstance(left, dict | list) and _same(left, right)


def _same(left: Value, right: Value) -> bool:
    return type(left) is type(right) and bool(left == right)


def _exists(text: str, key: str) -> bool:
    value = parse(text)
    if isinstance(value, list):
        return any(type(each) is str and each == key for each in value)
    return key in value if isinstance(value, dict) else type(value) is str and value == key


# Changes -----------------------------------------------------------------------------------------


def _concat(left: str, right: str) -> str:
    ours, theirs = parse(left), parse(right)
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return write({**ours, **theirs})
    sides = [each if isinstance(each, list) else [each] for each in (ours, theirs)]
    return write(sides[0] + sides[1])


def _delete_key(text: str, key: str) -> str:
    value = parse(text)
    if isinstance(value, dict):
        return write({name: each for name, each in value.items() if name != key})
    if isinstance(value, list):
        return write([each for each in value if not (type(each) is str and each == key)])
    raise DataError("cannot delete from a scalar")


def _delete_index(text: str, index: int) -> str:
    value = parse(text)
    if not isinstance(value, list):
        raise DataError("cannot delete by index from what is no array")
    if -len(value) <= index < len(value):
        del value[index]
    return write(value)


def _delete_path(text: str, path: str) -> str:
    value, steps = parse(text), path_of(path)
    if not isinstance(value, dict | list):
        raise DataError("cannot delete a path in a scalar")
    holder = _holder(value, steps)
    if isinstance(holder, dict):
        holder.pop(steps[-1], None)
    elif isinstance(holder, list):
        index = _index(steps[-1])
        if index is not None and -len(holder) <= index < len(holder):
            del holder[index]
    return write(value)


def _holder(value: Value, steps: Sequence[str]) -> Value:
    """What holds the last step of a path; None where an earlier one leads nowhere."""
    if not steps:
        return None
    for step in steps[:-1]:
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list):
            index = _index(step)
            inside = index is not None and -len(value) <= index < len(value)
            value = value[index] if inside and index is not None else None
        else:
            return None
    return value


def _set(text: str, path: str, new: str, create: bool = True) -> str:
    value, steps, fresh = parse(text), path_of(path), parse(new)
    if not isinstance(value, dict | list):
        raise DataError("cannot set a path in a scalar")
    holder = _holder(value, steps)
    if isinstance(holder, dict):
        if create or steps[-1] in holder:
            holder[steps[-1]] = fresh
    elif isinstance(holder, list):
        index = _place(steps[-1])
        if -len(holder) <= index < len(holder):
            holder[index] = fresh
        elif create:
            holder.insert(0 if index < 0 else len(holder), fresh)
    return write(value)


def _insert(text: str, path: str, new: str, after: bool = False) -> str:
    value, steps, fresh = parse(text), path_of(path), parse(new)
    holder = _holder(value, steps)
    if isinstance(holder, dict):
        if steps[-1] in holder:
            raise DataError(f'cannot replace existing key "{steps[-1]}": jsonb_set does that')
        holder[steps[-1]] = fresh
    elif isinstance(holder, list):
        index = _place(steps[-1])
        at = index + len(holder) if index < 0 else index
        holder.insert(max(0, at + after), fresh)
    return write(value)


def _place(step: str) -> int:
    index = _index(step)
    if index is None:
        raise DataError(f'a step into an array is a number, not "{step}"')
    return index


def _strip_nulls(text: str) -> str:
    def stripped(value: Value) -> Value:
        if isinstance(value, dict):
            return {name: stripped(each) for name, each in value.items() if each is not None}
        return [stripped(each) for each in value] if isinstance(value, list) else value

    return write(stripped(parse(text)))


def _pretty(text: str) -> str:
    return write(parse(text), "", "    ")


for _prefix in ("json", "jsonb"):
    define(f"{_prefix}_extract_path", [JSON, TEXT], JSON, _extract_steps, variadic=True)
    define(f"{_prefix}_extract_path_text", [JSON, TEXT], TEXT, _extract_steps_text, variadic=True)
    define(f"{_prefix}_strip_nulls", [JSON], JSON, _strip_nulls)
define("json_path_get", [JSON, TEXT], JSON, _extract)
define("json_path_get_text", [JSON, TEXT], TEXT, _extract_text)
define("jsonb_contains", [JSON, JSON], BOOLEAN, _contains)
define("jsonb_contained", [JSON, JSON], BOOLEAN, lambda left, right: _contains(right, left))
define("jsonb_exists", [JSON, TEXT], BOOLEAN, _exists)
define("jsonb_concat", [JSON, JSON], JSON, _concat)
define("jsonb_delete", [JSON, TEXT], JSON, _delete_key)
define("jsonb_delete", [JSON, BIGINT], JSON, _delete_index)
define("jsonb_delete_path", [JSON, TEXT], JSON, _delete_path)
define("jsonb_set", [JSON, TEXT, JSON], JSON, _set)
define("jsonb_set", [JSON, TEXT, JSON, BOOLEAN], JSON, _set)
define("jsonb_insert", [JSON, TEXT, JSON], JSON, _insert)
define("jsonb_insert", [JSON, TEXT, JSON, BOOLEAN], JSON, _insert)
define("jsonb_pretty", [JSON], TEXT, _pretty)


# Values as JSON ----------------------------------------------------------------------------------


def _object(*arguments: str | None) -> str:
    """Names and values, by turns; values are JSON texts."""
    names, values = arguments[::2], arguments[1::2]
    if None in names:
        raise DataError("the name of a member cannot be NULL")
    members = [
        f"{json.dumps(name, ensure_ascii=False)}:{'null' if value is None else value}"
        for name, value in zip(names, values, strict=True)
    ]
    return "{" + ",".join(members) + "}"


def _array(*values: str | None) -> str:
    return "[" + ",".join("null" if value is None else value for value in values) + "]"


OBJECT = Function("json_build_object", (JSON,), JSON, _object, strict=False, variadic=True)
ARRAY = Function("json_build_array", (JSON,), JSON, _array, strict=False, variadic=True)


def json_of(value: Any, text: str) -> str:
    """A value as JSON; `text` is what it is cast to text."""
    match value:
        case bool():
            return "true" if value else "false"
        case Decimal() | int() | float() if Decimal(value).is_finite():
            return text
        case datetime():
            return json.dumps(value.isoformat())
    return json.dumps(text, ensure_ascii=False)


def to_json(sql_type: SqlType) -> Function:
    """to_jsonb() of values of this type."""
    plain = operators.plain(sql_type)
    if plain == JSON:
        return Function("to_jsonb", (JSON,), JSON, lambda text: text)
    as_text = caster(plain, TEXT) or str
    return Function("to_jsonb", (plain,), JSON, lambda value: json_of(value, as_text(value)))
