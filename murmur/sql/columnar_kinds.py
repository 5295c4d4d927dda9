"""The types of expressions of a columnar query, as far as their form tells.

    kind_of(`CAST(a AS DATE)`)       ->  "DATE"
    kind_of(`n.span * 2`)            ->  "INTERVAL"      a column says its type in its meta
    kind_of(`some_function(a)`)      ->  ""

The words of a rewrite (columnar_rewrites.py) depend on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from sqlglot import exp

Tree: TypeAlias = Any  # sqlglot's
KIND = "murmur kind"  # in a column's meta: the name of its SQL type
_MOMENTS = frozenset({"DATE", "TIME", "TIMESTAMP", "TIMESTAMPTZ"})
_TEXTS = (exp.Lower, exp.Upper, exp.Trim, exp.Substring, exp.Concat, exp.Left, exp.Right)
_FLOATS = (exp.Avg, exp.Sqrt, exp.Cbrt, exp.Ln, exp.Exp, exp.Stddev, exp.Variance)


def kind_of(node: Tree) -> str:
    """The name of an expression's SQL type where its form tells; else nothing."""
    match node:
        case exp.Paren() | exp.Neg() | exp.Abs():
            return kind_of(node.this)
        case exp.Column():
            return str(node.meta.get(KIND, ""))
        case exp.Literal():
            return "TEXT" if node.is_string else "" if node.is_int else "DECIMAL"
        case exp.Cast():
            return _CAST_KINDS.get(node.args["to"].this, "")
        case exp.Interval() | exp.MakeInterval():
            return "INTERVAL"
        case exp.Add() | exp.Sub() | exp.Mul() | exp.Div():
            sides = {kind_of(node.this), kind_of(node.expression)}
            if "INTERVAL" in sides:
                return "" if sides & _MOMENTS else "INTERVAL"
            if isinstance(node, exp.Sub) and sides <= {"TIMESTAMP", "TIMESTAMPTZ"}:
                return "INTERVAL"
            return "DOUBLE" if sides & {"DOUBLE", "REAL"} else ""
        case exp.TimestampTrunc():
            return "INTERVAL" if kind_of(node.this) == "INTERVAL" else ""
        case exp.JSONExtract() | exp.JSONBExtract():
            return "JSON"
        case exp.JSONExtractScalar() | exp.JSONBExtractScalar():
            return "TEXT"
        case exp.Anonymous():
            return _CALL_KINDS.get(str(node.this).lower(), "")
        case exp.DPipe():
            return "JSON" if "JSON" in (kind_of(node.this), kind_of(node.expression)) else "TEXT"
        case exp.Min() | exp.Max() | exp.Nullif():
            return kind_of(node.this)
        case exp.Sum():
            kind = kind_of(node.this)
            return kind if kind in ("DOUBLE", "REAL") else ""
        case exp.Coalesce():
            return next(filter(None, map(kind_of, (node.this, *node.expressions))), "")
        case exp.Case():
            return next(filter(None, (kind_of(each.args["true"]) for each in node.args["ifs"])), "")
    if isinstance(node, _TEXTS):
        return "TEXT"
    return "DOUBLE" if isinstance(node, _FLOATS) else ""


_CAST_KINDS: Mapping[Any, str] = {
    exp.DType.DOUBLE: "DOUBLE",
    exp.DType.FLOAT: "REAL",
    exp.DType.TEXT: "TEXT",
    exp.DType.VARCHAR: "TEXT",
    exp.DType.JSON: "JSON",
    exp.DType.JSONB: "JSON",
    exp.DType.DATE: "DATE",
    exp.DType.TIMESTAMP: "TIMESTAMP",
    exp.DType.TIMESTAMPTZ: "TIMESTAMPTZ",
    exp.DType.INTERVAL: "INTERVAL",
    exp.DType.TIME: "TIME",
    exp.DType.SMALLINT: "SMALLINT",
}
# By what the binder calls them: olap/macros.py, borrowed.py.
_CALL_KINDS: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "to_json", "json_object", "json_array", "murmur_to_json", "murmur_jsonb_set",
            "murmur_jsonb_insert", "murmur_jsonb_strip_nulls", "murmur_jsonb_concat",
            "murmur_jsonb_delete", "murmur_jsonb_delete_path", "murmur_json_path_get",
            "json_group_object", "murmur_json_array_elements", "murmur_json_each",
        ),
        "JSON",
    ),
    **dict.fromkeys(
        ("age", "murmur_justify_days", "murmur_justify_hours", "murmur_justify_interval"),
        "INTERVAL",
    ),
    **dict.fromkeys(
        ("murmur_to_char", "murmur_json_array_elements_text", "murmur_py_format"), "TEXT"
    ),
}  # fmt: skip
