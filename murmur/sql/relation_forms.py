"""Relations that functions make, in the forms that the columnar binder knows.

    FROM jsonb_each(j) AS e(k, v)            FROM LATERAL (SELECT ... ) AS e(k, v)
    FROM unnest(a, b) AS t(x, y)             FROM LATERAL (SELECT unnest(a), unnest(b)) AS t(x, y)
    FROM generate_series(1, t.n)             FROM unnest(generate_series(1, t.n))
    FROM f(...) WITH ORDINALITY AS t(x, n)   FROM LATERAL (SELECT *, row_number() OVER () ...) ...

A part of the normal form (normal_form.py), which says when they are called.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from sqlglot import exp

Tree: TypeAlias = Any  # sqlglot's

ORDINALITY = "ordinality"  # the column of WITH ORDINALITY, without a name of its own


def instead(node: Tree, other: Tree) -> None:
    """Put another expression in the place of a node; errors still point at it."""
    if "start" not in other.meta:
        other.meta.update(node.meta)
    node.replace(other)


def function_relation(node: Tree) -> None:
    """FROM function(...) and LATERAL function(...) as a subquery that calls it."""
    call = node.this
    ordinality = bool(node.args.get("ordinality"))
    if isinstance(call, exp.ExplodingGenerateSeries) and (ordinality or call.find(exp.Column)):
        values = exp.GenerateSeries(**{key: call.args.get(key) for key in ("start", "end", "step")})
        alias = node.args.get("alias") or _alias("generate_series")
        instead(node, exp.Unnest(expressions=[values], alias=alias, offset=ordinality))
        return
    if isinstance(node, exp.Lateral) and isinstance(call, exp.Unnest) and call.args.get("offset"):
        _lateral_with_ordinality(node, call)
        return
    if not isinstance(call, exp.Anonymous) or (name := call.name.lower()) not in _RELATIONS:
        return
    columns = _RELATIONS[name]
    alias = node.args.get("alias")
    names = [each.name for each in columns]
    if alias is None:
        alias = _alias(name)
    elif len(columns) == 1 and not alias.args.get("columns") and _names_alone(node, alias):
        names = [alias.this.name]
    items = [
        _item(exp.Anonymous(this=each.function, expressions=_copies(call.expressions)), said)
        for each, said in zip(columns, names, strict=True)
    ]
    subquery = exp.Subquery(this=exp.Select(expressions=items))
    if ordinality:
        node.set("ordinality", None)
        subquery = _numbered(subquery)
    if isinstance(node, exp.Lateral):
        node.set("this", subquery)
        node.set("alias", alias)
    else:
        instead(node, exp.Lateral(this=subquery, alias=alias, joins=node.args.get("joins")))


def unnest(node: Tree) -> None:
    """Several arrays side by side; the shorter ones end with NULLs. LATERAL unnest(...) is one."""
    outer = node.parent
    arrays = node.expressions
    ordinality = bool(node.args.get("offset"))
    if isinstance(outer, exp.Lateral) and not ordinality:
        if (alias := outer.args.get("alias")) is not None and not alias.args.get("columns"):
            alias.set("columns", [exp.to_identifier(alias.this.name, quoted=True)])
        instead(node, exp.Subquery(this=exp.Select(expressions=_side_by_side(arrays))))
        return
    if len(arrays) < 2 or not isinstance(outer, exp.From | exp.Join):
        return
    alias = node.args.get("alias") or _alias("unnest")
    items = _side_by_side(arrays)
    if ordinality:
        lengths = [exp.ArraySize(this=array.copy()) for array in arrays]
        last = exp.Greatest(this=lengths[0], expressions=lengths[1:], ignore_nulls=True)
        count = exp.GenerateSeries(start=exp.Literal.number(1), end=last)
        items.append(_item(exp.Explode(this=count), ORDINALITY))
    subquery = exp.Subquery(this=exp.Select(expressions=items))
    instead(node, exp.Lateral(this=subquery, alias=alias, joins=node.args.get("joins")))


def _lateral_with_ordinality(node: Tree, call: Tree) -> None:
    """LATERAL unnest(a) WITH ORDINALITY, of whose names sqlglot has taken the last one apart."""
    alias = node.args.get("alias") or _alias("unnest")
    offset = call.args["offset"]
    columns = list(alias.args.get("columns") or ())
    if isinstance(offset, exp.Identifier) and columns:
        alias.set("columns", [*columns, offset])
    instead(node, exp.Unnest(expressions=call.expressions, alias=alias, offset=True))


def _numbered(rows: Tree) -> Tree:
    """The rows with their numbers behind them."""
    rows.set("alias", _alias("murmur rows"))
    number = exp.Window(this=exp.RowNumber())
    select = exp.Select(
        expressions=[exp.Star(), _item(number, ORDINALITY)], from_=exp.From(this=rows)
    )
    return exp.Subquery(this=select)


def _side_by_side(arrays: Sequence[Tree]) -> list[Tree]:
    return [
        _item(exp.Explode(this=array.copy()), f"unnest{i}") for i, array in enumerate(arrays, 1)
    ]


def _item(value: Tree, name: str) -> Tree:
    return exp.Alias(this=value, alias=exp.to_identifier(name, quoted=True))


def _alias(name: str) -> Tree:
    return exp.TableAlias(this=exp.to_identifier(name, quoted=True))


def _copies(nodes: Sequence[Tree]) -> list[Tree]:
    return [node.copy() for node in nodes]


def _names_alone(node: Tree, alias: Tree) -> bool:
    """Whether the statement names the relation's only column by the relation's name."""
    name = alias.this.name.lower()
    return any(
        column.name.lower() == name and column.args.get("table") is None
        for column in node.root().find_all(exp.Column)
    )


class _Made:
    """One column of a relation that a function makes, and what computes it."""

    __slots__ = ("function", "name")

    def __init__(self, name: str, function: str) -> None:
        self.name, self.function = name, function


_RELATIONS: Mapping[str, Sequence[_Made]] = {
    **{
        f"{prefix}_array_elements{text}": (_Made("value", f"json_array_elements{text}"),)
        for prefix in ("json", "jsonb")
        for text in ("", "_text")
    },
    **{
        f"{prefix}_object_keys": (_Made(f"{prefix}_object_keys", "json_object_keys"),)
        for prefix in ("json", "jsonb")
    },
    **{
        f"{prefix}_each{text}": (
            _Made("key", "json_object_keys"),
            _Made("value", f"json_each{text}"),
        )
        for prefix in ("json", "jsonb")
        for text in ("", "_text")
    },
    **{
        name: (_Made(name, name),)
        for name in (
            "string_to_table", "regexp_split_to_table", "regexp_matches", "generate_subscripts",
        )
    },
}  # fmt: skip
