"""What means something else in DuckDB, said so that it means what PostgreSQL means.

    round(f)                         f is a DOUBLE    ->  round_even(f, 0)
    t::int                           t is a TEXT      ->  CAST(murmur_integer(t) AS INT)
    (a, b) = (1, NULL)                                ->  a = 1 AND b = NULL
    to_char(at, 'DD Mon')                             ->  strftime(at, '%d %b')
    extract(second FROM at)                           ->  extract(microsecond FROM at) * 0.000001

Some depend on the type of an expression: that of columns is noted by the binder, that of the rest
follows from its form, as far as it does. What cannot be told stays as it is, and docs/sql.md lists
what differs then. Functions called murmur_... are those of olap/macros.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import reduce
from typing import Any, TypeAlias

from sqlglot import exp

from murmur.errors import BindError, Unsupported
from murmur.sql.columnar_kinds import kind_of
from murmur.sql.temporal import field_name
from murmur.sql.to_char import to_char_parts

Tree: TypeAlias = Any  # sqlglot's

_TO_DO = "murmur to do"  # in a node's meta: it is the statement's own, and was not looked at

_MAX_DIGITS = 38


def rewrite(query: Tree) -> None:
    """Rewrite a bound query in place, outer expressions before inner ones.

    What a rewrite copies into its place is looked at again there, what it adds is not.
    """
    for node in query.walk():
        node.meta[_TO_DO] = True
    root = exp.Paren(this=query)  # so that every node has a place
    pending: list[Tree] = [root]
    while pending:
        parent = pending.pop()
        for child in list(parent.iter_expressions()):
            key, index = child.arg_key, child.index
            said = _REWRITES.get(type(child))
            if child.meta.pop(_TO_DO, False) and said is not None:
                said(child)
                there = parent.args[key]
                child = there if index is None else there[index]
            pending.append(child)
    root.this.pop()


def _call(name: str, *arguments: Tree) -> Tree:
    return exp.Anonymous(this=f"murmur_{name}", expressions=list(arguments))


def _instead(node: Tree, name: str, *keys: str) -> None:
    """Call a macro with these arguments of the node, as many as there are."""
    given = [node.args[key] for key in keys if node.args.get(key) is not None]
    node.replace(_call(name, *given))


def _around(node: Tree, make: Callable[[Tree], Tree]) -> None:
    """Put something around a node."""
    node.replace(make(node.copy()))


# Texts -------------------------------------------------------------------------------------------


def _like(node: Tree) -> None:
    """PostgreSQL's escape character is the backslash unless said otherwise; DuckDB has none."""
    if not isinstance(node.parent, exp.Escape):
        escape = exp.Escape(expression=exp.Literal.string("\\"))
        node.replace(escape)
        escape.set("this", node)


def _regexp(node: Tree) -> None:
    """A dot is any character, a line's end too, unless a flag says otherwise."""
    said = node.args.get("flag")
    if said is not None and not said.is_string:
        return
    flags = ("" if said is None else said.this) + ("i" if isinstance(node, exp.RegexpILike) else "")
    flags = exp.Literal.string(_with_dots(flags))
    node.replace(
        exp.Anonymous(this="regexp_matches", expressions=[node.this, node.expression, flags])
    )


def _regexp_replace(node: Tree) -> None:
    said = node.args.get("modifiers")
    if said is None or said.is_string:
        flags = "" if said is None else said.this
        node.set("modifiers", exp.Literal.string(_with_dots(flags)))


def _with_dots(flags: str) -> str:
    return flags if set("nmp") & set(flags) else flags + "s"


def _pad(node: Tree) -> None:
    """Filled with nothing, a text is only cut."""
    fill = node.args.get("fill_pattern")
    if fill is not None and fill.is_string and not fill.this:
        node.replace(exp.Left(this=node.this, expression=node.expression))


def _encode(node: Tree) -> None:
    """Bytes as text."""
    match str(node.args["charset"].name).lower():
        case "hex":
            node.replace(exp.Lower(this=exp.Hex(this=node.this)))
        case "base64":
            node.replace(exp.Anonymous(this="to_base64", expressions=[node.this]))
        case other:
            raise Unsupported(f"encode() knows 'hex' and 'base64' here, not '{other}'")


def _decode(node: Tree) -> None:
    """Text as bytes."""
    match str(node.args["charset"].name).lower():
        case "hex":
            node.replace(exp.Anonymous(this="unhex", expressions=[node.this]))
        case "base64":
            node.replace(exp.Anonymous(this="from_base64", expressions=[node.this]))
        case other:
            raise Unsupported(f"decode() knows 'hex' and 'base64' here, not '{other}'")


def _format(node: Tree) -> None:
    """The arguments of format() as texts; the row engine's own function puts them in."""
    for value in node.expressions[1:]:
        value.replace(exp.cast(value.copy(), "TEXT"))


# Numbers -----------------------------------------------------------------------------------------


def _round(node: Tree) -> None:
    """Floats are rounded half to even."""
    if node.args.get("decimals") is None and kind_of(node.this) in ("DOUBLE", "REAL"):
        zero = exp.Literal.number(0)
        node.replace(exp.Anonymous(this="round_even", expressions=[node.this, zero]))


def _cube_root(node: Tree) -> None:
    """Exact where it is whole."""
    _instead(node, "cbrt", "this")


def _div(node: Tree) -> None:
    """div() is exact: what the remainder leaves is a multiple."""
    left, right = node.this, node.expression
    whole = exp.Paren(
        this=exp.Sub(
            this=exp.Paren(this=left), expression=exp.Mod(this=left.copy(), expression=right)
        )
    )
    for side in (left, right):
        if isinstance(side, exp.Binary):
            side.replace(exp.Paren(this=side.copy()))
    node.replace(exp.Div(this=whole, expression=right.copy(), typed=True))


def _widened(node: Tree) -> None:
    """An operand beside a literal: a REAL counts as a DOUBLE, a SMALLINT as an INTEGER."""
    for side, other in ((node.this, node.expression), (node.expression, node.this)):
        while isinstance(other, exp.Neg | exp.Paren):
            other = other.this
        if isinstance(other, exp.Literal) and other.is_number:
            kind = kind_of(side)
            if kind == "REAL":
                side.replace(exp.cast(side.copy(), "DOUBLE"))
            elif kind == "SMALLINT" and other.is_int:
                side.replace(exp.cast(side.copy(), "INT"))


def _minus(node: Tree) -> None:
    """JSON without a member; the span between two times of day."""
    kinds = (kind_of(node.this), kind_of(node.expression))
    if "JSON" in kinds:
        _instead(node, "jsonb_delete", "this", "expression")
    elif kinds == ("TIME", "TIME"):
        _instead(node, "time_between", "this", "expression")
    else:
        _widened(node)


def _quotient(node: Tree) -> None:
    if kind_of(node.this) == "INTERVAL":
        _instead(node, "divide_span", "this", "expression")
    else:
        _widened(node)


def _literal(node: Tree) -> None:
    """1e5 is exact and not an integer; DuckDB takes it for a DOUBLE."""
    text = node.this
    if not node.is_string and "e" in text.lower():
        plain = format(Decimal(text), "f") if len(text) < _MAX_DIGITS else ""
        if plain and len(plain) < _MAX_DIGITS:
            node.set("this", plain if "." in plain else plain + ".0")


# Casts -------------------------------------------------------------------------------------------

_INTEGERS = (exp.DType.SMALLINT, exp.DType.INT, exp.DType.BIGINT)
_CHARACTERS = (exp.DType.VARCHAR, exp.DType.CHAR, exp.DType.BPCHAR)
_BINARY = (exp.DType.VARBINARY, exp.DType.BINARY, exp.DType.BLOB)


def _cast(node: Tree) -> None:
    target, value = node.args["to"], node.this
    kind, into = kind_of(value), target.this
    if into in _INTEGERS and kind in ("TEXT", "VARCHAR"):
        node.set("this", _call("integer", value))
    elif into is exp.DType.TIME and kind == "TIMESTAMPTZ":
        node.set("this", exp.cast(value.copy(), "TIMESTAMP"))
    elif into is exp.DType.BOOLEAN and kind in ("TEXT", "VARCHAR"):
        node.set("this", _call("boolean", value))
    elif into in _BINARY and value.is_string and value.this.startswith("\\x"):
        digits = exp.Literal.string(value.this[2:])
        node.set("this", exp.Anonymous(this="unhex", expressions=[digits]))
    elif into is exp.DType.DECIMAL and not target.expressions:
        node.set("to", exp.DataType.build(f"DECIMAL(38,{_scale(value)})"))
    elif into in (*_CHARACTERS, exp.DType.TEXT):
        if kind == "INTERVAL":
            node.set("this", _call("span_text", value))
        if kind in ("DOUBLE", "REAL"):
            node.set("this", _call("float_text", value))
        if into in _CHARACTERS:
            _cut(node, target)


def _scale(value: Tree) -> int:
    """Digits after the point: those that are written, or as many as a column of plain DECIMAL."""
    if isinstance(value, exp.IntDiv):
        return 0
    text = value.this if isinstance(value, exp.Literal) else ""
    found = re.fullmatch(r"\s*[+-]?\d*(?:\.(\d*))?\s*", text)
    return 10 if not text or found is None else min(len(found[1] or ""), 30)


def _cut(node: Tree, target: Tree) -> None:
    """A cast to VARCHAR(n) cuts; DuckDB takes no notice of n."""
    length = target.expressions[0].this if target.expressions else None
    if length is None and target.this is exp.DType.CHAR:
        length = exp.Literal.number(1)
    node.set("to", exp.DataType.build("TEXT"))
    if length is not None:
        cut = exp.Left(expression=length.copy())
        node.replace(cut)
        cut.set("this", node)


# Times -------------------------------------------------------------------------------------------

_FRACTIONS = {"SECOND": "0.000001", "SECONDS": "0.000001", "MILLISECOND": "0.001"}


_FIELD_DIGITS = {"second": 6, "epoch": 6, "milliseconds": 3}


def _extract(node: Tree) -> None:
    """Seconds have their fraction, and so has the epoch; every field is a DECIMAL."""
    field = str(node.this.name).upper()
    if kind_of(node.expression) == "INTERVAL":
        part = _call("span_field", node.expression, exp.Literal.string(field.lower()))
        node.replace(exp.cast(part, f"DECIMAL(38,{_FIELD_DIGITS.get(field_name(field), 0)})"))
        return
    if kind_of(node.expression) == "TIMESTAMPTZ":  # the session's zone is UTC
        node.set("expression", exp.cast(node.expression.copy(), "TIMESTAMP"))
    factor = _FRACTIONS.get("MILLISECOND" if field == "MILLISECONDS" else field)
    if factor is not None:
        node.set("this", exp.var("MICROSECOND"))
        _around(node, lambda own: _product(own, factor))
    elif field == "EPOCH":
        micros = exp.Anonymous(this="epoch_us", expressions=[node.expression])
        node.replace(_product(micros, "0.000001"))
    else:
        _around(node, lambda own: exp.cast(own, "DECIMAL(18,0)"))


def _trunc(node: Tree) -> None:
    """The first year of a century is 1, not 0."""
    unit = str(node.args["unit"].name).upper()
    if kind_of(node.this) == "INTERVAL":
        node.replace(_call("span_trunc", node.this, exp.Literal.string(unit.lower())))
    elif unit in ("CENTURY", "MILLENNIUM"):
        year = exp.Interval(this=exp.Literal.string("1"), unit=exp.var("YEAR"))
        node.set("this", exp.Paren(this=node.this - year))
        _around(node, lambda own: exp.Paren(this=own + year.copy()))


def _product(left: Tree, factor: str) -> Tree:
    return exp.Paren(this=exp.Mul(this=left, expression=exp.Literal.number(factor)))


def _to_char(node: Tree) -> None:
    """strftime of a moment where it knows all of the format: elsewhere the row engine's own."""
    value, form = node.expressions
    if kind_of(value) not in ("DATE", "TIMESTAMP", "TIMESTAMPTZ") or not form.is_string:
        return
    try:
        parts = [_part(value.copy(), *part) for part in to_char_parts(form.this)]
    except Unsupported:
        return
    node.replace(reduce(lambda left, right: exp.DPipe(this=left, expression=right), parts))


def _part(value: Tree, how: str, form: str) -> Tree:
    """One piece of to_char: a strftime of the value, as it is or changed."""
    text = exp.Anonymous(this="strftime", expressions=[value, exp.Literal.string(form)])
    match how:
        case "upper":
            return exp.Upper(this=text)
        case "lower":
            return exp.Lower(this=text)
        case "padded" | "PADDED" | "Padded":
            if how != "Padded":
                text = (exp.Upper if how == "PADDED" else exp.Lower)(this=text)
            nine, blank = exp.Literal.number(9), exp.Literal.string(" ")
            return exp.Anonymous(this="rpad", expressions=[text, nine, blank])
        case "field":
            return exp.cast(exp.Extract(this=exp.var(form), expression=value), "TEXT")
        case "weekday":
            day = exp.Extract(this=exp.var("DOW"), expression=value)
            return exp.cast(exp.Paren(this=day + 1), "TEXT")
    return text


# Rows, arrays, JSON ------------------------------------------------------------------------------


def _comparison(node: Tree) -> None:
    """Rows are compared column by column; an array under ALL is a query."""
    left, right = node.this.unnest(), node.expression.unnest()
    _widened(node)
    if isinstance(right, exp.Anonymous) and right.this.lower() == "all":
        if len(right.expressions) != 1:
            raise BindError("ALL takes one array, or a query")
        unnested = exp.Select(expressions=[exp.Explode(this=right.expressions[0])])
        node.set("expression", exp.All(this=exp.Subquery(this=unnested)))
    elif isinstance(left, exp.Tuple) and isinstance(right, exp.Tuple):
        pairs = list(zip(left.expressions, right.expressions, strict=False))
        if len(left.expressions) == len(right.expressions) and len(pairs) > 1:
            node.replace(exp.Paren(this=_by_column(node, pairs)))


def _by_column(node: Tree, pairs: list[tuple[Tree, Tree]]) -> Tree:
    kind = type(node)
    if kind in (exp.EQ, exp.NEQ):
        sides = [kind(this=a.copy(), expression=b.copy()) for a, b in pairs]
        return (exp.and_ if kind is exp.EQ else exp.or_)(*sides)
    strict = exp.LT if kind in (exp.LT, exp.LTE) else exp.GT
    (a, b), *rest = pairs
    if not rest:
        return kind(this=a.copy(), expression=b.copy())
    before = strict(this=a.copy(), expression=b.copy())
    equal = exp.EQ(this=a.copy(), expression=b.copy())
    return exp.or_(before, exp.and_(equal, exp.Paren(this=_by_column(node, rest))))


def _json_path(node: Tree) -> None:
    """#> and #>>: '{a,b,1}' is /a/b/1 of JSON Pointer."""
    path = node.expression
    if not path.is_string or not re.fullmatch(r"\{[^{}\"]*\}", path.this) or "-" in path.this:
        kind = "_text" if isinstance(node, exp.JSONBExtractScalar) else ""
        _instead(node, f"json_path_get{kind}", "this", "expression")
        return
    steps = [step.strip() for step in path.this[1:-1].split(",") if step.strip()]
    pointer = "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in steps)
    text = isinstance(node, exp.JSONBExtractScalar)
    name = "json_extract_string" if text else "json_extract"
    node.replace(exp.Anonymous(this=name, expressions=[node.this, exp.Literal.string(pointer)]))


def _named(node: Tree) -> None:
    known = _NAMED.get(str(node.this).lower())
    if known is not None:
        known(node)


def _json_built(node: Tree) -> None:
    """The values of an object or array, each as JSON; the names of members are texts."""
    name = str(node.this).lower()
    arguments = [
        _call("to_json", each.copy())
        if name == "json_array" or i % 2
        else exp.cast(each.copy(), "TEXT")
        for i, each in enumerate(node.expressions)
    ]
    if arguments:
        node.replace(exp.cast(_call(f"py_{name}", *arguments), "JSON"))


def _regexp_match(node: Tree) -> None:
    """The groups of the first match, or of all; without groups the whole."""
    text, pattern, *flags = node.expressions
    if not pattern.is_string or not all(flag.is_string for flag in flags):
        raise Unsupported("the pattern of regexp_match is a literal here")
    said = "".join(flag.this for flag in flags)
    try:
        groups = re.compile(pattern.this).groups
    except re.error as error:
        raise Unsupported(f"the pattern of regexp_match: {error}") from None
    every = "g" in said and str(node.this).lower() == "regexp_matches"
    options = exp.Literal.string(said.replace("g", ""))
    name = "regexp_extract_all" if every else "regexp_extract"
    found = [
        exp.Anonymous(
            this=name,
            expressions=[text.copy(), pattern.copy(), exp.Literal.number(group), options.copy()],
        )
        for group in (range(1, groups + 1) if groups else (0,))
    ]
    if every:
        node.replace(_call(f"regexp_zipped_{len(found)}" if len(found) < 5 else "", *found))
        return
    matched = exp.Anonymous(
        this="regexp_matches", expressions=[text.copy(), pattern.copy(), options.copy()]
    )
    groups_found = exp.Array(expressions=found)
    case = exp.Case(ifs=[exp.If(this=matched, true=groups_found)])
    if str(node.this).lower() == "regexp_matches":
        case = _call("only_row", case)
    node.replace(case)


def _regexp_substring(node: Tree) -> None:
    """The first group of the first match, or all of it where there are no groups."""
    text, pattern = node.expressions
    try:
        group = min(re.compile(pattern.this).groups, 1)
    except re.error as error:
        raise Unsupported(f"the pattern of substring: {error}") from None
    matched = exp.Anonymous(this="regexp_matches", expressions=[text.copy(), pattern.copy()])
    found = exp.Anonymous(
        this="regexp_extract", expressions=[text.copy(), pattern.copy(), exp.Literal.number(group)]
    )
    node.replace(exp.Case(ifs=[exp.If(this=matched, true=found)]))


_NAMED: Mapping[str, Callable[[Tree], None]] = {
    "murmur_to_char": _to_char,
    "json_object": _json_built,
    "json_array": _json_built,
    "murmur_py_format": _format,
    "regexp_match": _regexp_match,
    "regexp_matches": _regexp_match,
    "regexp_substring": _regexp_substring,
}


def _json_operator(name: str) -> Callable[[Tree], None]:
    """An operator of JSON values that DuckDB has not, or has for other types."""

    def said(node: Tree) -> None:
        if "JSON" in (kind_of(node.this), kind_of(node.expression)):
            _instead(node, name, "this", "expression")

    return said


def _normalize(node: Tree) -> None:
    """The form is a word, not a column."""
    form = node.args.get("form")
    node.replace(_call("normalize", node.this, *([exp.Literal.string(form.name)] if form else [])))


def _similar(node: Tree) -> None:
    """a % b of texts."""
    if "TEXT" in (kind_of(node.this), kind_of(node.expression)):
        _instead(node, "similar_op", "this", "expression")


_REWRITES: Mapping[type, Callable[[Tree], None]] = {
    exp.Like: _like,
    exp.ILike: _like,
    exp.Cast: _cast,
    exp.Hex: lambda node: _instead(node, "to_hex", "this"),
    exp.Literal: _literal,
    exp.Length: lambda node: _instead(node, "length", "this"),
    exp.Substring: lambda node: _instead(node, "substr", "this", "start", "length"),
    exp.SplitPart: lambda node: _instead(node, "split_part", "this", "delimiter", "part_index"),
    exp.Chr: lambda node: node.replace(_call("chr", *node.expressions)),
    exp.Pad: _pad,
    exp.RegexpLike: _regexp,
    exp.RegexpILike: _regexp,
    exp.RegexpReplace: _regexp_replace,
    exp.SimilarTo: lambda node: _instead(node, "similar", "this", "expression"),
    exp.Encode: _encode,
    exp.Decode: _decode,
    exp.Round: _round,
    exp.IntDiv: _div,
    exp.Cbrt: _cube_root,
    exp.WidthBucket: lambda node: _instead(
        node, "width_bucket", "this", "min_value", "max_value", "num_buckets"
    ),
    exp.Extract: _extract,
    exp.TimestampTrunc: _trunc,
    exp.Anonymous: _named,
    exp.DPipe: _json_operator("jsonb_concat"),
    exp.Sub: _minus,
    exp.Add: _widened,
    exp.Mul: _widened,
    exp.Div: _quotient,
    exp.Exp: lambda node: _instead(node, "exp", "this"),
    exp.Pow: lambda node: _instead(node, "power", "this", "expression"),
    exp.ArrayContainsAll: _json_operator("jsonb_contains"),
    exp.ArrayContainedBy: _json_operator("jsonb_contained"),
    exp.JSONBDeleteAtPath: lambda node: _instead(node, "jsonb_delete_path", "this", "expression"),
    exp.Mod: _similar,
    exp.Normalize: _normalize,
    exp.Initcap: lambda node: _instead(node, "py_initcap", "this"),
    exp.JSONBExtract: _json_path,
    exp.JSONBExtractScalar: _json_path,
    **dict.fromkeys((exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE), _comparison),
}
