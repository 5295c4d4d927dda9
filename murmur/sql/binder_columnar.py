"""Binding a query for the columnar engine: its relations, columns, functions and parameters.

    SELECT a.name, count(*) FROM author a JOIN note n ON n.author = a.id WHERE a.id > ? GROUP BY 1

      -> the tree with author and note called murmur_r0 and murmur_r1, ? called $p0, every other
         identifier quoted as it was folded, and every output column named
      -> relations (murmur_r0: author, murmur_r1: note), parameters ((0, BIGINT),)

Only names of the catalog, system relations, murmur_history('table'), generate_series and unnest are
relations: no table function of the engine, and no file, can be reached from a statement's text.
Names are resolved here as far as they can be, so that an unknown table, column or function is our
error and points at its place; types are the engine's business, except that a parameter that meets a
column takes its type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from sqlglot import exp

from murmur.catalog.catalog import Catalog
from murmur.catalog.types import BIGINT, BLOB, COUNTER, SqlType
from murmur.errors import BindError
from murmur.sql.binder_names import (
    fold,
    only,
    output_name,
    unbound,
    unsupported,
)
from murmur.sql.plan import KEY_COLUMN, RelationUse, ResultColumn

Tree: TypeAlias = Any  # sqlglot's
Names: TypeAlias = dict[str, SqlType | None]  # a relation's columns, in order

HISTORY_FUNCTION = "murmur_history"
RESERVED = "murmur_"

# Scalar functions that sqlglot passes on by name. What it knows, it translates or refuses itself.
_KNOWN = """
    acosh age arg_max arg_min array_length array_position array_to_string asinh atanh bit_length
    cardinality cbrt cot covar_pop covar_samp date_diff date_part every factorial gcd isfinite
    isinf isnan json_array_length json_extract json_extract_string json_keys json_type
    json_valid last_day lcm list_contains make_date make_time make_timestamp median octet_length
    pi position regexp_count regexp_extract regexp_full_match regr_avgx regr_avgy regr_count
    regr_intercept regr_r2 regr_slope regr_sxx regr_sxy regr_syy sha256 starts_with
    string_to_array to_hex trunc unicode var_pop
"""
_FUNCTIONS = {name: name for name in _KNOWN.split()} | {
    "every": "bool_and",
    "uuid7": "uuidv7",
}

# Functions of sqlglot's that would reach outside of the query, or that name the session.
_REFUSED = """
    Columns CurrentCatalog CurrentDatabase CurrentRole CurrentSchema CurrentSchemas CurrentTime
    CurrentUser CurrentVersion ReadCSV ReadParquet SessionParameter SessionUser
"""

# The time is the statement's and comes from outside, so these become parameters of the text.
_TIMES = {
    exp.CurrentTimestamp: ("now", "TIMESTAMPTZ"),
    exp.CurrentDate: ("today", "DATE"),
    exp.Localtimestamp: ("localtimestamp", "TIMESTAMP"),
    exp.Localtime: ("localtime", "TIME"),
}

KEYED = "murmur keyed"  # in a table reference's meta: its relation carries row keys

_SELECT = (
    "with_ distinct expressions from_ joins laterals where group having windows order limit offset"
)


@dataclass(slots=True)
class _Scope:
    """What the expressions of one SELECT can name."""

    relations: dict[str, Names] = field(default_factory=dict)
    open: set[str] = field(default_factory=set)  # relations that may have columns beyond the known
    merged: set[str] = field(default_factory=set)  # by USING or NATURAL: not ambiguous
    aliases: set[str] = field(default_factory=set)


class ColumnarBinder:
    """Binds one query; the tree is rewritten in place."""

    def __init__(self, catalog: Catalog, system: Callable[[str], Any], text: str) -> None:
        self._catalog = catalog
        self._system = system
        self._text = text
        self._uses: dict[RelationUse, RelationUse] = {}
        self._types: dict[int, SqlType | None] = {}  # of Column nodes, by their identity
        self._parameters: dict[int, SqlType | None] = {}
        self.times: set[str] = set()

    @property
    def relations(self) -> tuple[RelationUse, ...]:
        """The relations used, under the names that the tree has for them."""
        return tuple(self._uses.values())

    @property
    def parameters(self) -> tuple[tuple[int, SqlType | None], ...]:
        """The positions of the parameters used, with their types where a column gave one."""
        return tuple(sorted(self._parameters.items(), key=lambda item: item[0]))

    def bind(self, query: Tree) -> tuple[Tree, Names]:
        """Resolve a whole query: the tree to make the text from, and its output columns."""
        query = _select_values(query)
        names = self._query(query, {}, [])
        for identifier in list(query.find_all(exp.Identifier)):
            identifier.replace(exp.to_identifier(fold(identifier), quoted=True))
        return query, names

    # Queries -------------------------------------------------------------------------------------

    def _query(self, node: Tree, ctes: Mapping[str, Names], outer: list[_Scope]) -> Names:
        match node:
            case exp.Subquery():
                only(node, self._text, "this", "with_", "order", "limit", "offset", "alias")
                ctes = self._with(node, ctes, outer)
                names = self._query(node.this, ctes, outer)
                self._end(node, ctes, outer, names)
                return names
            case exp.SetOperation():
                known = ("this", "expression", "distinct", "with_", "order", "limit", "offset")
                only(node, self._text, *known)
                ctes = self._with(node, ctes, outer)
                names = self._query(node.this, ctes, outer)
                other = self._query(node.expression, ctes, outer)
                if len(names) != len(other) and None not in (names, other):
                    message = "both sides of a set operation need the same number of columns"
                    raise unbound(message, node.expression, self._text)
                self._end(node, ctes, outer, names)
                return names
            case exp.Select():
                return self._select(node, ctes, outer)
            case exp.Values():
                only(node, self._text, "expressions", "alias", "order", "limit", "offset")
                return self._values(node, ctes, outer)
        raise unsupported("a query is expected here", node, self._text)

    def _with(
        self, node: Tree, ctes: Mapping[str, Names], outer: list[_Scope]
    ) -> Mapping[str, Names]:
        clause = node.args.get("with_")
        if clause is None:
            return ctes
        only(clause, self._text, "expressions", "recursive")
        known = dict(ctes)
        for cte in clause.expressions:
            only(cte, self._text, "this", "alias", "materialized")
            alias = cte.args["alias"]
            name = fold(alias.this)
            if name.startswith(RESERVED):
                raise unbound(f'names that begin with "{RESERVED}" are reserved', alias, self._text)
            renamed = [fold(column) for column in alias.args.get("columns") or ()]
            query = cte.this
            if clause.args.get("recursive") and isinstance(query, exp.SetOperation):
                # The recursive side sees what the first side makes; that is bound twice, once
                # to know its columns.
                first = self._query(query.this.copy(), known, outer)
                known[name] = _renamed(first, renamed)
            names = self._query(query, known, outer)
            known[name] = _renamed(names, renamed)
        return known

    def _select(self, node: Tree, ctes: Mapping[str, Names], outer: list[_Scope]) -> Names:
        only(node, self._text, *_SELECT.split())
        if not node.expressions:
            raise unsupported("a SELECT without columns is not supported", node, self._text)
        _name_outputs(node)  # while the tree is as it was written
        ctes = self._with(node, ctes, outer)
        scope = _Scope()
        scopes = [scope, *outer]
        if from_ := node.args.get("from_"):
            only(from_, self._text, "this")
            self._relation(from_.this, ctes, scope, outer)
        for join in node.args.get("joins") or ():
            self._join(join, ctes, scope, outer)
        for lateral in node.args.get("laterals") or ():
            self._relation(lateral, ctes, scope, outer)
        scope.aliases = {
            fold(item.args["alias"]) for item in node.expressions if isinstance(item, exp.Alias)
        }
        for item in node.expressions:
            self._expression(item, ctes, scopes)
        for key in ("where", "having"):
            if clause := node.args.get(key):
                self._expression(clause.this, ctes, scopes)
        if group := node.args.get("group"):
            only(group, self._text, "expressions", "rollup", "cube", "grouping_sets")
            self._expression(group, ctes, scopes, aliases=True)
        for window in node.args.get("windows") or ():
            self._expression(window, ctes, scopes)
        if (distinct := node.args.get("distinct")) and (on := distinct.args.get("on")):
            self._expression(on, ctes, scopes, aliases=True)
        self._end(node, ctes, outer, {}, scopes)
        return self._outputs(node, scope)

    def _end(
        self,
        node: Tree,
        ctes: Mapping[str, Names],
        outer: list[_Scope],
        names: Names,
        scopes: list[_Scope] | None = None,
    ) -> None:
        """ORDER BY, LIMIT and OFFSET, which see the output columns."""
        if scopes is None:
            scopes = [_Scope({"": names}), *outer]
        if order := node.args.get("order"):
            only(order, self._text, "expressions")
            for term in order.expressions:
                only(term, self._text, "this", "desc", "nulls_first")
                self._expression(term.this, ctes, scopes, aliases=True)
        for key in ("limit", "offset"):
            if clause := node.args.get(key):
                self._limit(clause, ctes, outer)

    def _limit(self, clause: Tree, ctes: Mapping[str, Names], outer: list[_Scope]) -> None:
        if isinstance(clause, exp.Fetch):
            only(clause, self._text, "direction", "count", "limit_options")
            if options := clause.args.get("limit_options"):
                only(options, self._text, "rows")
        else:
            only(clause, self._text, "expression")
        for placeholder in clause.find_all(exp.Placeholder):
            self._parameters[int(placeholder.this)] = BIGINT
        count = clause.args.get("count") or clause.args.get("expression")
        if count is not None:
            self._expression(count, ctes, [_Scope(), *outer])

    def _values(self, node: Tree, ctes: Mapping[str, Names], outer: list[_Scope]) -> Names:
        widths = set()
        for row in node.expressions:
            cells = row.expressions if isinstance(row, exp.Tuple) else [row]
            widths.add(len(cells))
            for cell in cells:
                self._expression(cell, ctes, [_Scope(), *outer])
        if len(widths) != 1:
            raise unbound("VALUES rows differ in length", node, self._text)
        names: Names = {f"column{i + 1}": None for i in range(widths.pop())}
        alias = node.args.get("alias")
        if alias is not None and not alias.args.get("columns"):
            alias.set("columns", [exp.to_identifier(name, quoted=True) for name in names])
        elif alias is not None:
            names = _renamed(names, [fold(column) for column in alias.args["columns"]])
        self._end(node, ctes, outer, names)
        return names

    # Relations -----------------------------------------------------------------------------------

    def _join(
        self, join: Tree, ctes: Mapping[str, Names], scope: _Scope, outer: list[_Scope]
    ) -> None:
        only(join, self._text, "this", "on", "using", "side", "kind", "method")
        kind, method = join.args.get("kind") or "", join.args.get("method") or ""
        if kind not in ("", "INNER", "OUTER", "CROSS") or method not in ("", "NATURAL"):
            raise unsupported(f"{kind or method} JOIN is not supported", join.this, self._text)
        before = {name for names in scope.relations.values() for name in names}
        added = self._relation(join.this, ctes, scope, outer)
        if method == "NATURAL":
            scope.merged |= before & added.keys()
        for column in join.args.get("using") or ():
            name = fold(column)
            for names in (before, added):
                if name not in names and not scope.open:
                    message = f'column "{name}" of USING is not on both sides'
                    raise unbound(message, column, self._text)
            scope.merged.add(name)
        if on := join.args.get("on"):
            self._expression(on, ctes, [scope, *outer])

    def _relation(
        self, node: Tree, ctes: Mapping[str, Names], scope: _Scope, outer: list[_Scope]
    ) -> Names:
        """Bring a relation of FROM into scope; its columns."""
        open_ = False
        match node:
            case exp.Table() if isinstance(node.this, exp.Identifier):
                names, default = self._table(node, ctes), fold(node.this)
            case exp.Table() if isinstance(node.this, exp.Anonymous):
                names, default = self._history(node), HISTORY_FUNCTION
                open_ = True
            case exp.Table() if isinstance(node.this, exp.ExplodingGenerateSeries):
                only(node, self._text, "this", "alias")
                self._expression(node.this, ctes, [_Scope(), *outer])
                names, default = {"generate_series": None}, "generate_series"
            case exp.Subquery() if isinstance(node.this, exp.Table):
                only(node, self._text, "this")  # a parenthesised join, without an alias
                return self._joined(node.this, ctes, scope, outer)
            case exp.Subquery() | exp.Values():
                names, default = self._query(node, ctes, outer), ""
                if isinstance(node, exp.Values) and (alias := node.args.get("alias")):
                    return self._enter(scope, fold(alias.this), names, node, open_=False)
            case exp.Lateral():
                return self._lateral(node, ctes, scope, outer)
            case exp.Unnest():
                only(node, self._text, "expressions", "alias")
                for item in node.expressions:
                    self._expression(item, ctes, [scope, *outer])
                names, default = {"unnest": None}, "unnest"
            case _:
                raise unbound("there is no such relation", node, self._text)
        alias = node.args.get("alias")
        if alias is not None:
            only(alias, self._text, "this", "columns")
            renamed = [fold(column) for column in alias.args.get("columns") or ()]
            if default in ("unnest", "generate_series") and not renamed:
                # PostgreSQL calls the column of a function as the function is called.
                renamed = [fold(alias.this)]
                alias.set("columns", [exp.to_identifier(renamed[0], quoted=True)])
            if len(renamed) > len(names) and not open_:
                raise unbound("more column names than columns", alias, self._text)
            names = _renamed(names, renamed)
            default = fold(alias.this)
        return self._enter(scope, default, names, node, open_=open_)

    def _enter(self, scope: _Scope, name: str, names: Names, node: Tree, *, open_: bool) -> Names:
        if not name:
            name = " " * (len(scope.relations) + 1)  # a subquery without an alias
        if name in scope.relations:
            raise unbound(f'"{name}" stands twice in FROM: give one an alias', node, self._text)
        scope.relations[name] = names
        if open_:
            scope.open.add(name)
        return names

    def _joined(
        self, table: Tree, ctes: Mapping[str, Names], scope: _Scope, outer: list[_Scope]
    ) -> Names:
        joins = table.args.pop("joins", None) or []
        names = dict(self._relation(table, ctes, scope, outer))
        before = set(scope.relations)
        for join in joins:
            self._join(join, ctes, scope, outer)
        table.set("joins", joins)
        for name in scope.relations.keys() - before:
            names |= scope.relations[name]
        return names

    def _lateral(
        self, node: Tree, ctes: Mapping[str, Names], scope: _Scope, outer: list[_Scope]
    ) -> Names:
        only(node, self._text, "this", "alias")
        alias = node.args.get("alias")
        if not isinstance(node.this, exp.Subquery) or alias is None:
            raise unsupported("LATERAL is for subqueries with an alias", node, self._text)
        names = self._query(node.this, ctes, [scope, *outer])
        names = _renamed(names, [fold(column) for column in alias.args.get("columns") or ()])
        return self._enter(scope, fold(alias.this), names, node, open_=False)

    def _table(self, node: Tree, ctes: Mapping[str, Names]) -> Names:
        only(node, self._text, "this", "alias")
        name = fold(node.this)
        if name in ctes:
            return dict(ctes[name])
        table = self._catalog.table(name)
        if table is not None:
            _check_case(name, [column.name for column in table.columns])
            names: Names = {column.name: column.type for column in table.columns}
            keyed = KEYED in node.meta
            if keyed:
                names[KEY_COLUMN] = BLOB
            self._rename(node, name, RelationUse("", table, keyed=keyed))
            return names
        columns: tuple[ResultColumn, ...] | None = self._system(name)
        if columns is not None:
            self._rename(node, name, RelationUse("", system=name))
            return {column.name: column.type for column in columns}
        raise unbound(f'there is no table "{name}"', node, self._text)

    def _history(self, node: Tree) -> Names:
        only(node, self._text, "this", "alias")
        function = str(node.this.name).lower()
        arguments = node.this.expressions
        if function != HISTORY_FUNCTION:
            raise unbound(f'there is no relation "{function}(...)"', node, self._text)
        if len(arguments) != 1 or not arguments[0].is_string:
            message = f"{HISTORY_FUNCTION} takes the name of a table, as text"
            raise unbound(message, node, self._text)
        table = self._catalog.table(arguments[0].name)
        if table is None:
            raise unbound(f'there is no table "{arguments[0].name}"', arguments[0], self._text)
        self._rename(node, HISTORY_FUNCTION, RelationUse("", table, history=True))
        return {column.name: column.type for column in table.columns}

    def _rename(self, node: Tree, name: str, use: RelationUse) -> None:
        """Let the tree call a relation by the name under which the engine gets it."""
        known = self._uses.get(use)
        if known is None:
            internal = f"{RESERVED}r{len(self._uses)}"
            known = RelationUse(internal, use.table, use.history, use.keyed, use.system)
            self._uses[use] = known
        identifier = exp.to_identifier(known.name, quoted=True)
        identifier.meta.update(node.this.meta)  # errors still point at it
        node.set("this", identifier)
        if node.args.get("alias") is None:
            identifier = exp.to_identifier(name, quoted=True)
            node.set("alias", exp.TableAlias(this=identifier))

    # Expressions ---------------------------------------------------------------------------------

    def _expression(
        self,
        root: Tree,
        ctes: Mapping[str, Names],
        scopes: list[_Scope],
        *,
        aliases: bool = False,
    ) -> None:
        """Resolve every name of an expression; subqueries see the scopes around them."""
        placeholders = []
        for node in list(self._outside_queries(root)):
            if isinstance(node, exp.Query):
                self._query(node, ctes, scopes)
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

    def _column(self, node: Tree, scopes: list[_Scope], *, aliases: bool) -> None:
        only(node, self._text, "this", "table")
        qualifier = node.args.get("table")
        if isinstance(node.this, exp.Star):
            only(node.this, self._text)
            name = fold(qualifier)
            if name not in scopes[0].relations:
                raise unbound(f'there is no table "{name}" in FROM', node, self._text)
            return
        name = fold(node.this)
        if qualifier is not None:
            self._types[id(node)] = self._qualified(node, name, fold(qualifier), scopes)
            return
        if aliases and name in scopes[0].aliases:
            return
        for scope in scopes:
            found = [each for each, names in scope.relations.items() if name in names]
            if len(found) > 1 and name not in scope.merged:
                raise unbound(f'column "{name}" is ambiguous', node, self._text)
            if found:
                self._types[id(node)] = scope.relations[found[0]][name]
                if len(found) == 1 and found[0].strip():
                    # Said, because the engine would rather take a table of this name as a value.
                    node.set("table", exp.to_identifier(found[0], quoted=True))
                return
            if scope.open and name.startswith("_"):
                return
        message = f'there is no column "{name}"'
        if name in scopes[0].aliases:
            message += " in FROM, and an output column cannot be used here"
        raise unbound(message, node, self._text)

    def _qualified(
        self, node: Tree, name: str, qualifier: str, scopes: list[_Scope]
    ) -> SqlType | None:
        for scope in scopes:
            if qualifier in scope.relations:
                names = scope.relations[qualifier]
                if name in names:
                    return names[name]
                if qualifier in scope.open and name.startswith("_"):
                    return None
                message = f'there is no column "{name}" in "{qualifier}"'
                raise unbound(message, node, self._text)
        raise unbound(f'there is no table "{qualifier}" in FROM', node, self._text)

    def _placeholder(self, node: Tree) -> None:
        """Name the parameter, and give it the type of the column that it is compared with."""
        position = int(node.this)
        self._parameters.setdefault(position, None)
        parent = node.parent
        if isinstance(parent, exp.Predicate | exp.Between | exp.In) and not isinstance(
            parent, exp.Like | exp.ILike
        ):
            for sibling in parent.iter_expressions():
                if isinstance(sibling, exp.Column) and not isinstance(sibling.this, exp.Star):
                    type_ = self._types.get(id(sibling))
                    if type_ is not None:
                        self._parameters[position] = BIGINT if type_ == COUNTER else type_
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
            known = _FUNCTIONS.get(name)
            if known is None:
                raise unbound(f"there is no function {name}()", node, self._text)
            node.set("this", known)
        elif (time := _TIMES.get(type(node))) is not None:
            only(node, self._text)
            self.times.add(time[0])
            node.replace(exp.cast(exp.Placeholder(this=time[0]), time[1]))
        elif type(node).__name__ in _REFUSED.split():
            raise unsupported(f"{node.sql_name()} is not supported", node, self._text)

    # Outputs -------------------------------------------------------------------------------------

    def _outputs(self, select: Tree, scope: _Scope) -> Names:
        """The output columns. Of two equal names the first counts."""
        names: Names = {}
        for item in select.expressions:
            value = item.unalias()
            if isinstance(item, exp.Star):
                only(item, self._text)
                for columns in scope.relations.values():
                    names = names | {k: v for k, v in columns.items() if k not in names}
            elif isinstance(item, exp.Column) and isinstance(item.this, exp.Star):
                columns = scope.relations[fold(item.args["table"])]
                names = names | {k: v for k, v in columns.items() if k not in names}
            else:
                names.setdefault(
                    fold(item.args.get("alias") or item.this), self._types.get(id(value))
                )
        return names


def _name_outputs(select: Tree) -> None:
    """Give every output column of a SELECT a name."""
    items = []
    for item in select.expressions:
        if not isinstance(item, exp.Alias | exp.Star | exp.Column):
            name = exp.to_identifier(output_name(item), quoted=True)
            item = exp.Alias(this=item, alias=name)
        items.append(item)
    select.set("expressions", items)


def _select_values(query: Tree) -> Tree:
    """VALUES as a query of its own becomes SELECT * FROM (VALUES ...), which names its columns."""
    for values in list(query.find_all(exp.Values)):
        if isinstance(values.parent, exp.From | exp.Join):
            continue
        ends = {key: values.args.pop(key, None) for key in ("order", "limit", "offset")}
        select = exp.Select(expressions=[exp.Star()], **ends)
        if values is query:
            query = select
        else:
            values.replace(select)
        alias = exp.TableAlias(this=exp.to_identifier("values", quoted=True))
        values.set("alias", alias)
        select.set("from_", exp.From(this=values))
    return query


def _renamed(names: Names, renamed: list[str]) -> Names:
    """The columns under new names, as far as there are any."""
    if not renamed:
        return names
    types = list(names.items())
    fresh: Names = {name: types[i][1] if i < len(types) else None for i, name in enumerate(renamed)}
    return fresh | dict(types[len(renamed) :])


def _check_case(table: str, columns: list[str]) -> None:
    """The engine takes "A" and "a" for one column."""
    if len({name.lower() for name in columns}) != len(columns):
        raise BindError(
            f'the columns of "{table}" differ only in their case, which the columnar engine ignores'
        )
