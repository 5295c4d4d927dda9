"""PostgreSQL's forms that mean what another form means, which both engines' binders know.

    a = ANY (ARRAY[1, 2])                    a IN (1, 2)
    a LIKE ALL (ARRAY['x%', '%y'])           a LIKE 'x%' AND a LIKE '%y'
    ROW(1, 2), (a, b) IS NULL                (1, 2), a IS NULL AND b IS NULL
    (a, b) OVERLAPS (c, d)                   comparisons of their ends
    num_nulls(a, b)                          CASE WHEN a IS NULL THEN 1 ELSE 0 END + ...
    obj_description('note'::regclass)        (SELECT comment FROM murmur_tables WHERE name = 'note')
    current_schema, version()                'public', 'Murmur, ...'
    ORDER BY a FETCH FIRST 3 ROWS WITH TIES  QUALIFY rank() OVER (ORDER BY a) <= 3 ORDER BY a

The tree is changed as soon as it is parsed, before names are looked up. Relations that functions
make have theirs in relation_forms.py.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import reduce
from typing import Any, TypeAlias

from sqlglot import exp

from murmur.catalog.interval import format_interval, parse_interval
from murmur.errors import BindError, DataError, Unsupported
from murmur.sql.functions_json import path_of
from murmur.sql.information_schema import CATALOG, SCHEMA
from murmur.sql.interval_fields import FIELDS, qualified_interval
from murmur.sql.relation_forms import function_relation, instead, unnest

Tree: TypeAlias = Any  # sqlglot's


# Functions that are read by their names, whatever another dialect takes them for.
_NAMES = """
    to_char to_number to_date to_timestamp format sha224 sha256 sha384 sha512 factorial
    justify_days justify_hours justify_interval date_bin quote_nullable json_object_agg
    jsonb_object_agg regexp_substr regexp_count regexp_instr regexp_split_to_array
"""
CALLED_AS_WRITTEN = tuple(_NAMES.split())


TIES = "murmur ties"  # in the meta of a QUALIFY, which is no word of PostgreSQL's
LISTS = "murmur lists"  # in the meta of a statement: the names of its arrays


def to_normal_form(tree: Tree) -> None:
    """Change the tree in place, inner expressions before outer ones."""
    for node in reversed(list(tree.walk())):
        said = _FORMS.get(type(node))
        if said is not None:
            said(node)


# Comparisons with arrays -------------------------------------------------------------------------

_COMPARED = (exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE)
_MATCHED = (exp.Like, exp.ILike, exp.RegexpLike, exp.RegexpILike, exp.SimilarTo)


def _quantified(node: Tree) -> None:
    """ANY and ALL over an array that is written out, as conditions on its elements."""
    found = _array_of(node.expression)
    if found is None:
        return
    items, every = found
    left, kind = node.this, type(node)
    if not items:
        instead(node, exp.Boolean(this=every))
    elif (kind, every) == (exp.EQ, False):
        instead(node, exp.In(this=left, expressions=items))
    elif (kind, every) == (exp.NEQ, True):
        instead(node, exp.Not(this=exp.In(this=left, expressions=items)))
    else:
        each = [kind(this=left.copy(), expression=item) for item in items]
        joined = reduce(lambda a, b: (exp.And if every else exp.Or)(this=a, expression=b), each)
        instead(node, exp.Paren(this=joined))


def _array_of(node: Tree) -> tuple[list[Tree], bool] | None:
    """The elements of ANY (ARRAY[...]) or ALL (...), and whether it is ALL."""
    if isinstance(node, exp.Any | exp.All):
        inner, every = node.this, isinstance(node, exp.All)
    elif isinstance(node, exp.Anonymous) and node.name.upper() in ("ALL", "SOME"):
        inner, every = node.expressions[0], node.name.upper() == "ALL"
    else:
        return None
    while isinstance(inner, exp.Paren):
        inner = inner.this
    cast = None
    if isinstance(inner, exp.Cast) and _is_array(inner.args["to"]):
        cast, inner = inner.args["to"], inner.this
    if isinstance(inner, exp.Array):
        items = list(inner.expressions)
    elif inner.is_string and (cast is not None or inner.this.startswith("{")):
        items = _elements(inner)
    else:
        return None
    if cast is not None:
        element = cast.expressions[0] if cast.expressions else None
        if element is None:
            return None
        items = [exp.Cast(this=item, to=element.copy()) for item in items]
    return items, every


def _is_array(to: Tree) -> bool:
    return isinstance(to, exp.DataType) and to.this is exp.DType.ARRAY


def _elements(literal: Tree) -> list[Tree]:
    """The elements of an array's text, '{1,2,NULL}'."""
    text = literal.this
    try:
        parts = path_of(text)
    except DataError:
        raise BindError(f"an array is written '{{1,2}}', not '{text:.60}'") from None
    quoted = '"' in text
    return [
        exp.Null() if part.upper() == "NULL" and not quoted else exp.Literal.string(part)
        for part in parts
    ]


def _cast(node: Tree) -> None:
    """'{1,2}'::int[] as an array that is written out; 'note'::regclass as its name."""
    target = node.args["to"]
    if isinstance(target, exp.DataType) and isinstance(target.this, exp.Interval):
        if not isinstance(node.this, exp.Literal) or not node.this.is_string:
            raise Unsupported("the fields of an INTERVAL stand behind a text in quotes")
        interval = exp.Interval(this=node.this, unit=target.this.args.get("unit"))
        instead(node, interval)
        _interval(interval)
        return
    if target.this is exp.DType.INTERVAL and node.this.is_string:
        _as_units(node.this)
    if isinstance(target, exp.ObjectIdentifier) and node.this.is_string:
        instead(node, exp.Literal.string(_plain_name(node.this.this)))
    elif _is_array(target) and isinstance(node.this, exp.Literal) and node.this.is_string:
        if isinstance(node.parent, exp.Any | exp.All | exp.Paren):
            return  # its elements are compared one by one
        node.set("this", exp.Array(expressions=_elements(node.this)))


def _interval(node: Tree) -> None:
    """INTERVAL 'text' with fields, or in the standard's form, as quantities with units."""
    text, unit = node.this, node.args.get("unit")
    if isinstance(text, exp.Paren) and unit is None:
        raise Unsupported("INTERVAL takes no precision in front of its text")
    if not isinstance(text, exp.Literal) or not text.is_string:
        return
    span = isinstance(unit, exp.IntervalSpan)
    first, last = (unit.this, unit.expression) if span else (unit, unit)
    names = [_field_name(each) for each in (first, last)]
    if names[0] not in FIELDS or names[1] not in FIELDS:
        if unit is None:
            _as_units(text)
        return
    if FIELDS.index(names[0]) > FIELDS.index(names[1]):
        raise BindError(f"an INTERVAL has no fields {names[0]} TO {names[1]}")
    digits = last.this if isinstance(last, exp.Second) else None
    value = qualified_interval(
        text.this, names[0], names[1], None if digits is None else int(digits.name)
    )
    node.set("this", exp.Literal.string(format_interval(value)))
    node.set("unit", None)


def _field_name(unit: Tree) -> str:
    if isinstance(unit, exp.Second):
        return "SECOND"
    return str(unit.name).upper().removesuffix("S") if isinstance(unit, exp.Var) else ""


_IN_UNITS = re.compile(r"[a-z]", re.IGNORECASE)


def _as_units(text: Tree) -> None:
    """'1-2 3 4:05' in the words that both engines read; the binder refuses what is no INTERVAL."""
    if not _IN_UNITS.search(text.this):
        with suppress(ValueError):
            text.set("this", format_interval(parse_interval(text.this)))


def _plain_name(text: str) -> str:
    """The name that regclass reads: a schema left out, folded unless it is quoted."""
    last = text.rsplit(".", 1)[-1] if '"' not in text else text.split('."')[-1]
    return last.strip('"') if '"' in text else last.lower()


def _concatenation(node: Tree) -> None:
    """array || element, where one side is an array by its form or by its name."""
    left, right = node.this, node.expression
    sides = (_is_list(left), _is_list(right))
    if sides == (True, False) and not isinstance(right, exp.Subquery | exp.Null):
        node.set("expression", exp.Array(expressions=[right]))
    elif sides == (False, True) and not isinstance(left, exp.Subquery | exp.Null):
        node.set("this", exp.Array(expressions=[left]))


def _is_list(node: Tree) -> bool:
    """Whether it is an array that is written out, or a column that some query makes of one.

    So `path || id` adds to a path that begins as ARRAY[id].
    """
    if not isinstance(node, exp.Column):
        return isinstance(node, _LISTS)
    root = node.root()
    names: frozenset[str] | None = root.meta.get(LISTS)
    if names is None:  # once for each statement: it may have thousands of columns
        names = root.meta[LISTS] = frozenset(_names_of_lists(root))
    return node.name.lower() in names


def _names_of_lists(root: Tree) -> Iterator[str]:
    """What queries call the arrays that they write out."""
    for each in root.find_all(*_LISTS):
        if isinstance(each.parent, exp.Alias):
            yield each.parent.alias.lower()
        # WITH walk (id, path) AS (SELECT id, ARRAY[id] ...) gives the names itself.
        select = each.parent
        cte = each.find_ancestor(exp.CTE)
        if isinstance(select, exp.Select) and cte is not None and each.arg_key == "expressions":
            columns = [column.name.lower() for column in cte.args["alias"].columns]
            yield from columns[each.index : each.index + 1]


_LISTS = (exp.Array, exp.ArrayAgg)


def _substring(node: Tree) -> None:
    """substring(text FROM 'pattern'): a regular expression where a number would stand."""
    start = node.args.get("start")
    if isinstance(start, exp.Literal) and start.is_string and node.args.get("length") is None:
        call = exp.Anonymous(this="regexp_substring", expressions=[node.this, start])
        instead(node, call)


# Rows and periods --------------------------------------------------------------------------------


def _null_test(node: Tree) -> None:
    """A row IS NULL when all of its fields are, and IS NOT NULL when none of them is."""
    row = node.this.unnest()
    if not (isinstance(row, exp.Tuple) or row.name.upper() == "ROW") or not isinstance(
        node.expression, exp.Null
    ):
        return
    tests = [
        exp.Is(this=each.copy(), expression=exp.Null(), negate=node.args.get("negate"))
        for each in row.expressions
    ]
    instead(node, exp.Paren(this=exp.and_(*tests)))


def _field_of_row(node: Tree) -> None:
    """(t).a is t.a, and (t).* is t.*."""
    row = node.this.unnest()
    if (
        isinstance(node.this, exp.Paren)
        and isinstance(row, exp.Column)
        and not row.args.get("table")
    ):
        instead(node, exp.Column(this=node.expression, table=row.this))


def _overlaps(node: Tree) -> None:
    """Periods, each a start and an end or a length, that share a moment."""
    ends = []
    for side in (node.this.unnest(), node.expression.unnest()):
        if not isinstance(side, exp.Tuple) or len(side.expressions) != 2:
            return
        start, stop = side.expressions
        span = isinstance(stop, exp.Interval) or (
            isinstance(stop, exp.Cast) and stop.args["to"].this is exp.DType.INTERVAL
        )
        if span:
            stop = exp.Paren(this=exp.Add(this=start.copy(), expression=stop.copy()))
        low = exp.Least(this=start.copy(), expressions=[stop.copy()], ignore_nulls=True)
        high = exp.Greatest(this=start.copy(), expressions=[stop.copy()], ignore_nulls=True)
        ends.append((low, high))
    (a, b), (c, d) = ends
    same = exp.EQ(this=a.copy(), expression=c.copy())
    inside = exp.and_(exp.LT(this=a, expression=d), exp.LT(this=c, expression=b))
    instead(node, exp.Paren(this=exp.or_(same, inside)))


# Functions ---------------------------------------------------------------------------------------


def _called(node: Tree) -> None:
    known = _CALLS.get(node.name.lower())
    if known is not None and isinstance(node.this, str):
        known(node)


def _row(node: Tree) -> None:
    instead(node, exp.Tuple(expressions=node.expressions))


def _count_nulls(*, null: bool) -> Callable[[Tree], None]:
    def count(node: Tree) -> None:
        counted = []
        for each in node.expressions:
            test: Tree = exp.Is(this=exp.Paren(this=each), expression=exp.Null())
            test = test if null else exp.Not(this=test)
            branch = exp.If(this=test, true=exp.Literal.number(1))
            counted.append(exp.Case(ifs=[branch], default=exp.Literal.number(0)))
        if counted:
            instead(node, exp.Paren(this=reduce(operator.add, counted)))

    return count


def _path_text(node: Tree) -> None:
    """ARRAY['a', 'b'] as a path is '{a,b}'."""
    if len(node.expressions) > 1 and isinstance(node.expressions[1], exp.Array):
        _as_path(node.expressions[1])


def _as_path(array: Tree) -> None:
    if all(isinstance(each, exp.Literal) for each in array.expressions):
        steps = ",".join(
            '"' + each.this.replace("\\", "\\\\").replace('"', '\\"') + '"'
            for each in array.expressions
        )
        instead(array, exp.Literal.string("{" + steps + "}"))


def _path_operator(node: Tree) -> None:
    if isinstance(node.expression, exp.Array):
        _as_path(node.expression)


def _described(node: Tree) -> None:
    """obj_description(name [, catalog]) and col_description(table, position)."""
    name = node.expressions[0] if node.expressions else None
    if node.name.lower() == "col_description" and len(node.expressions) == 2:
        position = node.expressions[1]
        found = _comments("murmur_columns", "table_name", name).where(
            exp.EQ(this=exp.column("position"), expression=position.copy())
        )
    elif node.name.lower() == "obj_description" and len(node.expressions) in (1, 2):
        found = reduce(
            lambda left, right: left.union(right, distinct=False),
            [_comments(f"murmur_{kind}", "name", name) for kind in ("tables", "views", "indexes")],
        )
    else:
        return
    instead(node, exp.Subquery(this=found))


def _comments(relation: str, column: str, name: Tree) -> Tree:
    wanted = exp.EQ(this=exp.column(column), expression=name.copy())
    return exp.Select(
        expressions=[exp.column("comment")], from_=exp.From(this=exp.to_table(relation))
    ).where(wanted)


def _constant(text: str) -> Callable[[Tree], None]:
    def constant(node: Tree) -> None:
        literal = exp.Literal.string(text)
        if isinstance(node.parent, exp.Select):  # the column keeps its name
            name = exp.to_identifier(_SAID[type(node)], quoted=True)
            literal = exp.Alias(this=literal, alias=name)
        instead(node, literal)

    return constant


def _json_array(node: Tree) -> None:
    """json_agg(x ORDER BY y) as json_list(array_agg(to_jsonb(x) ORDER BY y)), FILTER inside."""
    values = node.expressions if isinstance(node, exp.Anonymous) else [node.this]
    if len(values) != 1 or isinstance(values[0], exp.Distinct):
        return
    value = values[0].copy()
    item = value.this if isinstance(value, exp.Order) else value
    as_json = exp.Anonymous(this="to_jsonb", expressions=[item.copy()])
    if item is value:
        value = as_json
    else:
        value.set("this", as_json)
    outer: Tree = exp.ArrayAgg(this=value)
    instead(node, outer)
    while isinstance(outer.parent, exp.Filter | exp.Window) and outer.parent.this is outer:
        outer = outer.parent
    outer.replace(exp.Anonymous(this="json_list", expressions=[outer.copy()]))


def _json_object(node: Tree) -> None:
    """json_object_agg(key, value)."""
    pairs = node.expressions
    if len(pairs) == 2:
        value = exp.Anonymous(this="to_jsonb", expressions=[pairs[1].copy()])
        call = exp.Anonymous(this="json_group_object", expressions=[pairs[0].copy(), value])
        instead(node, call)


# WITH TIES ---------------------------------------------------------------------------------------


def _ties(node: Tree) -> None:
    """The rows that rank among the first, by the columns of ORDER BY."""
    fetch, order = node.args.get("limit"), node.args.get("order")
    options = fetch.args.get("limit_options") if isinstance(fetch, exp.Fetch) else None
    if options is None or not options.args.get("with_ties"):
        return
    if not isinstance(node, exp.Select) or node.args.get("distinct"):
        raise Unsupported("WITH TIES goes with a SELECT without DISTINCT, UNION and the like")
    if order is None:
        raise BindError("WITH TIES needs ORDER BY: it is about rows of equal rank")
    terms = []
    for term in order.expressions:
        ranked = term.copy()
        ranked.set("this", _meant(term.this, node.expressions).copy())
        terms.append(ranked)
    over = exp.Order(expressions=terms)
    last = fetch.args.get("count") or exp.Literal.number(1)
    offset = node.args.get("offset")
    if offset is not None:
        last = exp.Paren(this=last + offset.expression.copy())
    test: Tree = exp.LTE(this=_over(exp.Rank(), over), expression=last.copy())
    if offset is not None:
        row = _over(exp.RowNumber(), over)
        test = exp.And(this=test, expression=exp.GT(this=row, expression=offset.expression.copy()))
    qualify = exp.Qualify(this=test)
    qualify.meta[TIES] = True
    node.set("qualify", qualify)
    node.set("limit", None)
    node.set("offset", None)


def _meant(term: Tree, items: Sequence[Tree]) -> Tree:
    """What ORDER BY names by the place or the name of an output column."""
    if isinstance(term, exp.Literal) and term.is_int and 1 <= int(term.this) <= len(items):
        return items[int(term.this) - 1].unalias()
    if isinstance(term, exp.Column) and term.args.get("table") is None:
        for item in items:
            if isinstance(item, exp.Alias) and item.alias.lower() == term.name.lower():
                return item.this
    return term


def _over(function: Tree, order: Tree) -> Tree:
    return exp.Window(this=function, order=order.copy())


_CALLS: Mapping[str, Callable[[Tree], None]] = {
    "row": _row,
    "num_nulls": _count_nulls(null=True),
    "num_nonnulls": _count_nulls(null=False),
    "obj_description": _described,
    "col_description": _described,
    **dict.fromkeys(("jsonb_set", "jsonb_insert"), _path_text),
    "jsonb_agg": _json_array,
    **dict.fromkeys(("json_object_agg", "jsonb_object_agg"), _json_object),
}
_SAID = {
    exp.CurrentSchema: "current_schema",
    exp.CurrentDatabase: "current_database",
    exp.CurrentCatalog: "current_catalog",
    exp.CurrentUser: "current_user",
    exp.SessionUser: "session_user",
    exp.CurrentVersion: "version",
}
_FORMS: Mapping[type, Callable[[Tree], None]] = {
    **dict.fromkeys((*_COMPARED, *_MATCHED), _quantified),
    exp.Cast: _cast,
    exp.Interval: _interval,
    exp.DPipe: _concatenation,
    exp.Is: _null_test,
    exp.Dot: _field_of_row,
    exp.Substring: _substring,
    exp.Overlaps: _overlaps,
    exp.Anonymous: _called,
    exp.Table: function_relation,
    exp.Lateral: function_relation,
    exp.Unnest: unnest,
    **dict.fromkeys((exp.Select, exp.Union, exp.Intersect, exp.Except, exp.Subquery), _ties),
    exp.JSONArrayAgg: _json_array,
    exp.JSONBExtract: _path_operator,
    exp.JSONBExtractScalar: _path_operator,
    exp.JSONBDeleteAtPath: _path_operator,
    exp.CurrentSchema: _constant(SCHEMA),
    exp.CurrentDatabase: _constant(CATALOG),
    exp.CurrentCatalog: _constant(CATALOG),
    exp.CurrentUser: _constant(CATALOG),
    exp.SessionUser: _constant(CATALOG),
    exp.CurrentVersion: _constant("Murmur, with the SQL of PostgreSQL 15"),
}
