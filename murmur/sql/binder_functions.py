"""Functions, as sqlglot reads them, brought to the registry's names and arguments.

sqlglot turns most calls into nodes of their own kind: char_length(a) and LENGTH(a) are one Length,
a -> 'k' is a JSONExtract with a path. A table says how the plain ones are called in functions.py;
what has a grammar of its own (TRIM, EXTRACT, AT TIME ZONE) has a function here. Calls that sqlglot
does not know keep their name (Anonymous).

What sqlglot accepts beyond PostgreSQL (LEN, NVL, IFNULL) is accepted here as well.
"""

from __future__ import annotations

from sqlglot import exp

from murmur.catalog.types import DATE, INTEGER, JSON, TEXT, TIMESTAMP, TIMESTAMPTZ
from murmur.errors import TypeMismatch
from murmur.sql import operators
from murmur.sql.binder_scope import Bind, Binder, Tree, binds, json_operation
from murmur.sql.expressions import Call, Expr, Literal
from murmur.sql.functions import extract_function, resolve, truncate_function
from murmur.sql.functions_json import ARRAY, OBJECT, to_json

_PLAIN: dict[type, tuple[str, ...]] = {
    exp.Lower: ("lower", "this"),
    exp.Upper: ("upper", "this"),
    exp.Length: ("length", "this"),
    exp.BitLength: ("bit_length", "this"),
    exp.Substring: ("substring", "this", "start", "length"),
    exp.StrPosition: ("strpos", "this", "substr"),
    exp.Replace: ("replace", "this", "expression", "replacement"),
    exp.Translate: ("translate", "this", "from_", "to"),
    exp.Left: ("left", "this", "expression"),
    exp.Right: ("right", "this", "expression"),
    exp.Repeat: ("repeat", "this", "times"),
    exp.Reverse: ("reverse", "this"),
    exp.SplitPart: ("split_part", "this", "delimiter", "part_index"),
    exp.StartsWith: ("starts_with", "this", "expression"),
    exp.Chr: ("chr", "expressions"),
    exp.Ascii: ("ascii", "this"),
    exp.MD5: ("md5", "this"),
    exp.Encode: ("encode", "this", "charset"),
    exp.Decode: ("decode", "this", "charset"),
    exp.Hex: ("to_hex", "this"),
    exp.Abs: ("abs", "this"),
    exp.Ceil: ("ceil", "this"),
    exp.Floor: ("floor", "this"),
    exp.Round: ("round", "this", "decimals"),
    exp.Trunc: ("trunc", "this", "decimals"),
    exp.Sign: ("sign", "this"),
    exp.IntDiv: ("div", "this", "expression"),
    exp.Pow: ("power", "this", "expression"),
    exp.Sqrt: ("sqrt", "this"),
    exp.Cbrt: ("cbrt", "this"),
    exp.Exp: ("exp", "this"),
    exp.Ln: ("ln", "this"),
    exp.Pi: ("pi",),
    exp.Sin: ("sin", "this"),
    exp.Cos: ("cos", "this"),
    exp.Tan: ("tan", "this"),
    exp.Asin: ("asin", "this"),
    exp.Acos: ("acos", "this"),
    exp.Atan: ("atan", "this"),
    exp.Atan2: ("atan2", "this", "expression"),
    exp.Sinh: ("sinh", "this"),
    exp.Cosh: ("cosh", "this"),
    exp.Tanh: ("tanh", "this"),
    exp.Degrees: ("degrees", "this"),
    exp.Radians: ("radians", "this"),
    exp.Uuid: ("gen_random_uuid",),
    exp.TimestampFromParts: ("make_timestamp", "year", "month", "day", "hour", "min", "sec"),
    exp.UnixToTime: ("to_timestamp", "this"),
    exp.Overlay: ("overlay", "this", "expression", "from_", "for_"),
    exp.WidthBucket: ("width_bucket", "this", "min_value", "max_value", "num_buckets"),
    exp.BitwiseAnd: ("bitand", "this", "expression"),
    exp.BitwiseOr: ("bitor", "this", "expression"),
    exp.BitwiseXor: ("bitxor", "this", "expression"),
    exp.BitwiseNot: ("bitnot", "this"),
}


def _plain(name: str, *keys: str) -> Bind:
    """A function whose arguments are an expression, or a list of them, under each key."""

    def bind(binder: Binder, node: Tree) -> Expr:
        arguments: list[Tree] = []
        for key in keys:
            value = node.args.get(key)
            arguments += value if isinstance(value, list) else [value] if value is not None else []
        return binder.call(node, name, arguments)

    return bind


for _kind, (_name, *_keys) in _PLAIN.items():
    binds(_kind, *_keys)(_plain(_name, *_keys))


# Functions with a grammar of their own -----------------------------------------------------------


def _concat_function(name: str) -> Bind:
    """concat and concat_ws take values of every type, as text."""

    def bind(binder: Binder, node: Tree) -> Expr:
        exprs = []
        for argument in node.expressions:
            expr = binder.convert(argument, binder.bind(argument), TEXT)
            exprs.append(expr)
        with binder.at(node):
            function = resolve(name, [TEXT] * len(exprs))
        return Call(function, tuple(exprs), function.result)

    return bind


binds(exp.Concat, "expressions")(_concat_function("concat"))
binds(exp.ConcatWs, "expressions")(_concat_function("concat_ws"))


@binds(exp.Anonymous, "expressions")
def _anonymous(binder: Binder, node: Tree) -> Expr:
    name = node.name.lower()
    if name in ("typeof", "pg_typeof") and len(node.expressions) == 1:
        return _type_name(binder, node.expressions[0], postgres=name == "pg_typeof")
    special = _SPECIAL.get(name)
    if special is not None:
        return special(binder, node)
    if any(isinstance(n, exp.Kwarg | exp.Variadic | exp.Distinct) for n in node.expressions):
        raise binder.columnar(node, f"function {name} with such arguments")
    return binder.call(node, name, node.expressions)


def _formatted(binder: Binder, node: Tree) -> Expr:
    """format() takes values of every type, as text."""
    exprs = [binder.convert(each, binder.bind(each), TEXT) for each in node.expressions]
    with binder.at(node):
        function = resolve("format", [TEXT] * len(exprs))
    return Call(function, tuple(exprs), function.result)


def _as_json(binder: Binder, node: Tree) -> Expr:
    """Any value as JSON; an untyped literal is a text."""
    expr = operators.as_text_if_untyped(binder.bind(node))
    if expr.type is None:
        return Literal(None, JSON)
    function = to_json(expr.type)
    return Call(function, (binder.convert(node, expr, function.parameters[0]),), JSON)


def _to_json(binder: Binder, node: Tree) -> Expr:
    if len(node.expressions) != 1:
        raise binder.columnar(node, "to_json of several values")
    return _as_json(binder, node.expressions[0])


def _json_object(binder: Binder, node: Tree) -> Expr:
    if len(node.expressions) % 2:
        message = "json_build_object takes names and values by turns"
        raise binder.failure(node, TypeMismatch, message)
    exprs = []
    for i, each in enumerate(node.expressions):
        name = i % 2 == 0
        exprs.append(
            binder.convert(each, binder.bind(each), TEXT) if name else _as_json(binder, each)
        )
    return Call(OBJECT, tuple(exprs), JSON)


def _json_array(binder: Binder, node: Tree) -> Expr:
    return Call(ARRAY, tuple(_as_json(binder, each) for each in node.expressions), JSON)


_SPECIAL: dict[str, Bind] = {
    "format": _formatted,
    "to_json": _to_json,
    "to_jsonb": _to_json,
    **dict.fromkeys(("json_build_object", "jsonb_build_object"), _json_object),
    **dict.fromkeys(("json_build_array", "jsonb_build_array"), _json_array),
}


@binds(exp.Typeof, "this")
def _typeof(binder: Binder, node: Tree) -> Expr:
    return _type_name(binder, node.this, postgres=False)


def _type_name(binder: Binder, node: Tree, *, postgres: bool) -> Expr:
    sql_type = operators.as_text_if_untyped(binder.bind(node)).type
    if sql_type is None:
        return Literal("unknown" if postgres else "NULL", TEXT)
    return (
        Literal(_POSTGRES_NAMES.get(sql_type.name, sql_type.name.lower()), TEXT)
        if postgres
        else (Literal(str(sql_type), TEXT))
    )


_POSTGRES_NAMES = {
    "DOUBLE": "double precision",
    "DECIMAL": "numeric",
    "VARCHAR": "character varying",
    "BLOB": "bytea",
    "TIME": "time without time zone",
    "TIMESTAMP": "timestamp without time zone",
    "TIMESTAMPTZ": "timestamp with time zone",
}


@binds(exp.Trim, "this", "expression")
def _trim(binder: Binder, node: Tree) -> Expr:
    names = {"LEADING": "ltrim", "TRAILING": "rtrim"}
    name = names.get(str(node.args.get("position") or "").upper(), "trim")
    characters = node.args.get("expression")
    return binder.call(node, name, [node.this] if characters is None else [node.this, characters])


@binds(exp.Pad, "this", "expression", "fill_pattern")
def _pad(binder: Binder, node: Tree) -> Expr:
    name = "lpad" if node.args.get("is_left") else "rpad"
    fill = node.args.get("fill_pattern")
    arguments = [node.this, node.expression]
    return binder.call(node, name, arguments if fill is None else [*arguments, fill])


@binds(exp.Initcap, "this", "expression")
def _initcap(binder: Binder, node: Tree) -> Expr:
    return binder.call(node, "initcap", [node.this])


@binds(exp.CurrentTimestamp)
@binds(exp.CurrentDate)
@binds(exp.Localtimestamp)
@binds(exp.Localtime)
def _now(binder: Binder, node: Tree) -> Expr:
    return binder.call(node, _NOW[type(node)], [])


_NOW: dict[type, str] = {
    exp.CurrentTimestamp: "now",
    exp.CurrentDate: "current_date",
    exp.Localtimestamp: "localtimestamp",
    exp.Localtime: "localtime",
}


@binds(exp.Log, "this", "expression")
def _log(binder: Binder, node: Tree) -> Expr:
    # sqlglot reads log10(a) as log(10, a), which would take numbers of another type.
    written = binder.scope.text[node.meta.get("start", 0) : node.meta.get("end", -1) + 1].lower()
    if written == "log10":
        return binder.call(node, "log10", [node.expression])
    arguments = [node.this] if node.expression is None else [node.this, node.expression]
    return binder.call(node, "log", arguments)


@binds(exp.Rand)
def _random(binder: Binder, node: Tree) -> Expr:
    return binder.call(node, "random", [])


@binds(exp.Extract, "this", "expression")
def _extract(binder: Binder, node: Tree) -> Expr:
    expr = _moment(binder, node.expression)
    assert expr.type is not None
    with binder.at(node):
        function = extract_function(node.name, expr.type)
    return binder.applied(function, [node.expression], [expr])


@binds(exp.TimestampTrunc, "this", "unit")
def _truncate(binder: Binder, node: Tree) -> Expr:
    unit = node.args["unit"]
    if not isinstance(unit, exp.Var | exp.Literal):
        raise binder.columnar(node, "date_trunc by a unit that is not constant")
    expr = _moment(binder, node.this)
    assert expr.type is not None
    with binder.at(node):
        function = truncate_function(unit.name, expr.type)
    return binder.applied(function, [node.this], [expr])


def _moment(binder: Binder, node: Tree) -> Expr:
    """A date, time or interval; untyped, it is a TIMESTAMP."""
    expr = binder.bind(node)
    return binder.convert(node, expr, TIMESTAMP) if expr.type is None else expr


@binds(exp.AtTimeZone, "this", "zone")
def _at_zone(binder: Binder, node: Tree) -> Expr:
    expr = binder.bind(node.this)
    if expr.type in (None, DATE):
        expr = binder.convert(node.this, expr, TIMESTAMPTZ)
    zone = binder.convert(node.args["zone"], binder.bind(node.args["zone"]), TEXT)
    with binder.at(node):
        function = resolve("timezone", [zone.type, expr.type])
    return Call(function, (zone, expr), function.result)


def _json(name: str) -> Bind:
    """-> and ->>; sqlglot turns a literal key into a JSON path of one step."""

    def bind(binder: Binder, node: Tree) -> Expr:
        if not node.args.get("only_json_types") and isinstance(node.expression, exp.JSONPath):
            raise binder.columnar(node, "a JSON path")
        document = binder.bind(node.this)
        if document.type is None:
            document = binder.convert(node.this, document, JSON)
        key = _json_key(binder, node.expression)
        with binder.at(node):
            function = resolve(name, [document.type, key.type or TEXT])
            key = binder.noted(operators.convert(key, function.parameters[1]))
        return Call(function, (document, key), function.result)

    return bind


binds(exp.JSONExtract, "this", "expression")(_json("json_get"))
binds(exp.JSONExtractScalar, "this", "expression")(_json("json_get_text"))


def _json_key(binder: Binder, node: Tree) -> Expr:
    if not isinstance(node, exp.JSONPath):
        return binder.bind(node)
    steps = node.expressions[1:]
    match steps:
        case [exp.JSONPathKey()] if isinstance(steps[0].this, str):
            return Literal(steps[0].this, TEXT)
        case [exp.JSONPathSubscript()] if isinstance(steps[0].this, int):
            return Literal(steps[0].this, INTEGER)
    raise binder.columnar(node, "a JSON path")


@binds(exp.Normalize, "this", "form")
def _normalized(binder: Binder, node: Tree) -> Expr:
    form = node.args.get("form")
    arguments = [node.this]
    if form:
        arguments.append(exp.Literal.string(form.name))
    return binder.call(node, "normalize", arguments)


@binds(exp.MakeInterval, "year", "month", "week", "day", "hour", "minute", "second")
def _make_interval(binder: Binder, node: Tree) -> Expr:
    zero = exp.Literal.number(0)
    parts = [node.args.get(part) or zero for part in exp.MakeInterval.arg_types]
    values = [each.expression if isinstance(each, exp.Kwarg) else each for each in parts]
    return binder.call(node, "make_interval", values)


def _json_operator(name: str, reason: str) -> Bind:
    """An operator that is JSON's where one side is JSON, and an array's otherwise."""

    def bind(binder: Binder, node: Tree) -> Expr:
        exprs = [binder.bind(node.this), binder.bind(node.expression)]
        found = json_operation(binder, node, name, exprs)
        if found is None:
            raise binder.columnar(node, reason)
        return found

    return bind


binds(exp.ArrayContainsAll, "this", "expression")(_json_operator("jsonb_contains", "arrays"))
binds(exp.ArrayContainedBy, "this", "expression")(_json_operator("jsonb_contained", "arrays"))


def _path_operator(name: str) -> Bind:
    return lambda binder, node: binder.call(node, name, [node.this, node.expression])


binds(exp.JSONBExtract, "this", "expression")(_path_operator("json_path_get"))
binds(exp.JSONBExtractScalar, "this", "expression")(_path_operator("json_path_get_text"))
binds(exp.JSONBDeleteAtPath, "this", "expression")(_path_operator("jsonb_delete_path"))
