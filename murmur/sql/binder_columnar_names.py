"""The names in the expressions of a columnar query: columns, functions, parameters, the time.

    resolve(`n.likes > ? AND now() > at`, scopes)
      ->  "n"."likes" > $p0 AND CAST($now AS TIMESTAMPTZ) > "n"."at"        ? is a BIGINT

A column is looked for in the innermost SELECT and then outwards, as SQL does, and gets the name of
its relation in front: the engine would rather take a relation of that name for a value. A function
is one that sqlglot translates, or one of the list here; every other is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from sqlglot import exp

from murmur.catalog.types import BIGINT, COUNTER, SqlType
from murmur.sql.binder_names import fold, only, unbound, unsupported
from murmur.sql.borrowed import CALLED
from murmur.sql.columnar_kinds import KIND

Tree: TypeAlias = Any  # sqlglot's
Names: TypeAlias = dict[str, SqlType | None]  # a relation's columns, in order

# Scalar functions that sqlglot passes on by name. What it knows, it translates or refuses itself.
_KNOWN = """
    acosh age arg_max arg_min array_length array_position array_to_string asinh atanh bit_length
    cardinality cbrt cot covar_pop covar_samp date_diff date_part every factorial gcd isfinite
    isinf isnan json_array_length json_extract json_extract_string json_keys json_type
    json_valid last_day lcm list_contains make_date make_time make_timestamp median octet_length
    pi position regexp_extract regexp_full_match regr_avgx regr_avgy regr_count regr_intercept
    regr_r2 regr_slope regr_sxx regr_sxy regr_syy sha256 starts_with string_to_array timezone
    trunc unicode uuidv4 uuidv7 var_pop array_append array_cat array_prepend array_to_json
    jaro_winkler_similarity levenshtein
"""
# Those that olap/macros.py has under a name of its own.
_TAUGHT = """
    array_fill array_length array_lower array_ndims array_positions array_remove array_replace
    array_upper date_bin generate_subscripts json_array_elements json_array_elements_text json_each
    json_each_text json_object_keys justify_days justify_hours justify_interval min_scale
    quote_nullable regexp_count regexp_instr regexp_like regexp_split_to_table regexp_substr scale
    pg_typeof sha256 string_to_table trim_scale
"""
_FUNCTIONS = {name: name for name in _KNOWN.split()} | {
    "every": "bool_and",
    "json_array_length": "murmur_json_array_length",
    "jsonb_array_length": "murmur_json_array_length",
    "json_typeof": "murmur_json_typeof",
    "jsonb_typeof": "murmur_json_typeof",
    "octet_length": "murmur_octet_length",
    "bit_length": "murmur_bit_length",
    "quote_literal": "murmur_quote_literal",
    "quote_ident": "murmur_quote_ident",
    **CALLED,
    **{name: f"murmur_{name}" for name in _TAUGHT.split()},
    "jsonb_array_elements": "murmur_json_array_elements",
    "jsonb_array_elements_text": "murmur_json_array_elements_text",
    "jsonb_object_keys": "murmur_json_object_keys",
    "json_list": "to_json",
    "json_group_object": "json_group_object",
    "json_build_object": "json_object",
    "jsonb_build_object": "json_object",
    "json_build_array": "json_array",
    "jsonb_build_array": "json_array",
    "regexp_split_to_array": "string_split_regex",
    "regexp_match": "regexp_match",
    "regexp_matches": "regexp_matches",
    "regexp_substring": "regexp_substring",
    "format": "murmur_py_format",
    "clock_timestamp": "now",
    "all": "all",
    "uuid7": "uuidv7",
}

# Functions of sqlglot's that would reach outside of the query, or that name the session.
_REFUSED = """
    Columns CurrentCatalog CurrentDatabase CurrentRole CurrentSchema CurrentSchemas CurrentTime
    CurrentUser CurrentVersion ReadCSV ReadParquet SessionParameter SessionUser
"""

_NOW = ("statement_timestamp", "transaction_timestamp")
_TIMES = {
    exp.CurrentTimestamp: ("now", "TIMESTAMPTZ"),
    exp.CurrentDate: ("today", "DATE"),
    exp.Localtimestamp: ("localtimestamp", "TIMESTAMP"),
    exp.Localtime: ("localtime", "TIME"),
}


@dataclass(slots=True)
class Scope:
    """What the expressions of one SELECT can name."""

    relations: dict[str, Names] = field(default_factory=dict)
    open: set[str] = field(default_factory=set)  # relations that may have columns beyond the known
    merged: set[str] = field(default_factory=set)  # by USING or NATURAL: not ambiguous
    aliases: set[str] = field(default_factory=set)
    # Of the relations that are tables: the columns that the statement reads.
    reads: dict[str, set[str]] = field(default_factory=dict)

    def read(self, name: str, column: str | None = None) -> None:
        """Note that a relation's column is read; without one, that all of them are."""
        if name in self.reads:
            self.reads[name].update(self.relations[name] if column is None else (column,))


class Expressions:
    """Resolves the expressions of one query, in place; `subquery` binds a query inside one."""

    def __init__(
        self, text: str, subquery: Callable[[Tree, Mapping[str, Names], list[Scope]], Names]
    ) -> None:
        self._text = text
        self._subquery = subquery
        self.types: dict[int, SqlType | None] = {}  # of Column nodes, by their identity
        self.parameters: dict[int, SqlType | None] = {}  # by position
        self.times: set[str] = set()

    def resolve(
        self,
        root: Tree,
        ctes: Mapping[str, Names],
        scopes: list[Scope],
        *,
        aliases: bool = False,
    ) -> None:
        """Resolve every name of an expression; subqueries see the scopes around them."""
        placeholders = []
        for node in list(self._outside_queries(root)):
            if isinstance(node, exp.Query):
                self._subquery(node, ctes, scopes)
            elif isinstance(node, exp.Column):
                self._column(node, scopes, aliases=aliases)
            elif isinstance(node, exp.Placeholder):
                placeholders.append(node)
            elif isinstance(node, exp.Dot):
                raise unsupported("a name has at most two parts here", node, self._text)
            elif isinstance(node, exp.Star) and not isinstance(
                node.parent, exp.Select | exp.Column | exp.Count
            ):
                raise unbound("* cannot stand here", node, self._text)
            elif isinstance(node, exp.DataType):
                self._type(node)
            elif isinstance(node, exp.Func):
                self._function(node)
        for node in placeholders:  # now that the columns beside them have types
            self._placeholder(node)

    def _outside_queries(self, root: Tree) -> Iterator[Tree]:
        pending = [root]
        while pending:
            node = pending.pop()
            yield node
            if not isinstance(node, exp.Query) and not (
                isinstance(node, exp.Column) and not isinstance(node.this, exp.Star)
            ):
                pending += list(node.iter_expressions())

    def _column(self, node: Tree, scopes: list[Scope], *, aliases: bool) -> None:
        only(node, self._text, "this", "table")
        qualifier = node.args.get("table")
        if isinstance(node.this, exp.Star):
            only(node.this, self._text)
            name = fold(qualifier)
            if name not in scopes[0].relations:
                raise unbound(f'there is no table "{name}" in FROM', node, self._text)
            scopes[0].read(name)
            return
        name = fold(node.this)
        if qualifier is not None:
            self._typed(node, self._qualified(node, name, fold(qualifier), scopes))
            return
        if aliases and name in scopes[0].aliases:
            return
        for scope in scopes:
            found = [each for each, names in scope.relations.items() if name in names]
            if len(found) > 1 and name not in scope.merged:
                raise unbound(f'column "{name}" is ambiguous', node, self._text)
            if found:
                for each in found:
                    scope.read(each, name)
                self._typed(node, scope.relations[found[0]][name])
                if len(found) == 1 and found[0].strip():
                    # Said, because the engine would rather take a table of this name as a value.
                    node.set("table", exp.to_identifier(found[0], quoted=True))
                return
            if scope.open and name.startswith("_"):
                return
        for scope in scopes:  # a column of a query further out comes before a relation, as a row
            if name in scope.relations:
                self._row(node, name, scope)
                return
        message = f'there is no column "{name}"'
        if name in scopes[0].aliases:
            message += " in FROM, and an output column cannot be used here"
        raise unbound(message, node, self._text)

    def _row(self, node: Tree, name: str, scope: Scope) -> None:
        """A relation's name as a value, its row: row_to_json(t), count(t), SELECT t."""
        parent = node.parent
        if not isinstance(parent, exp.Func | exp.Select | exp.Alias) or isinstance(
            parent, exp.Binary | exp.Cast | exp.Coalesce | exp.Case | exp.If | exp.Count
        ):
            message = f'"{name}" is a whole row here, which has no operators: name its columns'
            raise unsupported(message, node, self._text)
        scope.read(name)

    def _typed(self, node: Tree, sql_type: SqlType | None) -> None:
        self.types[id(node)] = sql_type
        if sql_type is not None:
            node.meta[KIND] = sql_type.name

    def _qualified(
        self, node: Tree, name: str, qualifier: str, scopes: list[Scope]
    ) -> SqlType | None:
        for scope in scopes:
            if qualifier in scope.relations:
                names = scope.relations[qualifier]
                if name in names:
                    scope.read(qualifier, name)
                    return names[name]
                if qualifier in scope.open and name.startswith("_"):
                    return None
                message = f'there is no column "{name}" in "{qualifier}"'
                raise unbound(message, node, self._text)
        raise unbound(f'there is no table "{qualifier}" in FROM', node, self._text)

    def _placeholder(self, node: Tree) -> None:
        """Name the parameter, and give it the type of the column that it is compared with."""
        position = int(node.this)
        self.parameters.setdefault(position, None)
        parent = node.parent
        if isinstance(parent, exp.Predicate | exp.Between | exp.In) and not isinstance(
            parent, exp.Like | exp.ILike
        ):
            for sibling in parent.iter_expressions():
                if isinstance(sibling, exp.Column) and not isinstance(sibling.this, exp.Star):
                    type_ = self.types.get(id(sibling))
                    if type_ is not None:
                        self.parameters[position] = BIGINT if type_ == COUNTER else type_
        node.set("this", f"p{position}")

    def _type(self, node: Tree) -> None:
        """A type that sqlglot does not know is COUNTER, which reads as BIGINT, or nothing."""
        if node.this is exp.DType.USERDEFINED:
            if fold(node.args["kind"]) != "counter":
                raise unbound("there is no such type", node, self._text)
            node.replace(exp.DataType.build("BIGINT"))

    def _function(self, node: Tree) -> None:
        if isinstance(node, exp.Anonymous):
            name = str(node.name).lower()
            if name in _NOW and not node.expressions:
                self._time(node, "now", "TIMESTAMPTZ")
                return
            if name not in _FUNCTIONS:
                raise unbound(f"there is no function {name}()", node, self._text)
            node.set("this", _FUNCTIONS[name])
        elif (time := _TIMES.get(type(node))) is not None:
            only(node, self._text)
            self._time(node, *time)
        elif isinstance(node, exp.Max | exp.Min) and node.expressions:
            message = f"{node.sql_name().lower()}() takes one value: greatest() and least() compare"
            raise unbound(message, node, self._text)
        elif type(node).__name__ in _REFUSED.split():
            raise unsupported(f"{node.sql_name()} is not supported", node, self._text)

    def _time(self, node: Tree, name: str, type_name: str) -> None:
        """The time is the statement's and comes from outside: a parameter of the text."""
        self.times.add(name)
        node.replace(exp.cast(exp.Placeholder(this=name), type_name))
