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

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from sqlglot import exp

from murmur.catalog.catalog import Catalog
from murmur.catalog.types import BIGINT, BLOB, SqlType
from murmur.catalog.views import SqlView
from murmur.errors import BindError, DatabaseError
from murmur.sql.binder_columnar_names import Expressions, Names, Scope
from murmur.sql.binder_names import (
    RESERVED,
    alias_name,
    check_reserved,
    fold,
    only,
    output_name,
    unbound,
    unsupported,
)
from murmur.sql.dependent_columns import with_dependent_columns
from murmur.sql.normal_form import TIES
from murmur.sql.parser import WRITES, parse
from murmur.sql.plan import KEY_COLUMN, RelationUse, ResultColumn

Tree: TypeAlias = Any  # sqlglot's
HISTORY_FUNCTION = "murmur_history"

MAX_VIEW_DEPTH = 16
KEYED = "murmur keyed"  # in a table reference's meta: its relation carries row keys

_SELECT = """
    with_ distinct expressions from_ joins laterals where group having qualify windows order limit
    offset
"""


class ColumnarBinder:
    """Binds one query; the tree is rewritten in place."""

    def __init__(
        self, catalog: Catalog, system: Callable[[str], Any], text: str, *, depth: int = 0
    ) -> None:
        self._catalog = catalog
        self._depth = depth  # of views within views
        self._system = system
        self._text = text
        self._uses: dict[RelationUse, RelationUse] = {}
        self._reads: dict[RelationUse, set[str]] = {}  # columns of tables
        self._expressions = Expressions(text, self._query)

    @property
    def relations(self) -> tuple[RelationUse, ...]:
        """The relations used, under the names that the tree has for them."""
        return tuple(
            replace(use, columns=_columns_read(use, self._reads[key]))
            if key in self._reads
            else use
            for key, use in self._uses.items()
        )

    @property
    def parameters(self) -> tuple[tuple[int, SqlType | None], ...]:
        """The positions of the parameters used, with their types where a column gave one."""
        return tuple(sorted(self._expressions.parameters.items(), key=lambda item: item[0]))

    @property
    def times(self) -> tuple[str, ...]:
        """The parameters of the text that stand for the statement's time."""
        return tuple(sorted(self._expressions.times))

    def bind(self, query: Tree) -> tuple[Tree, Names]:
        """Resolve a whole query: the tree to make the text from, and its output columns."""
        query = _select_values(query)
        names = self._query(query, {}, [])
        for identifier in list(query.find_all(exp.Identifier)):
            identifier.replace(exp.to_identifier(fold(identifier), quoted=True))
        return query, names

    # Queries -------------------------------------------------------------------------------------

    def _query(self, node: Tree, ctes: Mapping[str, Names], outer: list[Scope]) -> Names:
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
        self, node: Tree, ctes: Mapping[str, Names], outer: list[Scope]
    ) -> Mapping[str, Names]:
        clause = node.args.get("with_")
        if clause is None:
            return ctes
        only(clause, self._text, "expressions", "recursive")
        known = dict(ctes)
        for cte in clause.expressions:
            only(cte, self._text, "this", "alias", "materialized")
            alias = cte.args["alias"]
            name = alias_name(alias, self._text)
            check_reserved(name, alias, self._text)
            renamed = [fold(column) for column in alias.args.get("columns") or ()]
            query = cte.this
            if isinstance(query, WRITES):
                message = "what writes stands in the WITH at the top of a statement only"
                raise unsupported(message, query, self._text)
            if clause.args.get("recursive") and isinstance(query, exp.SetOperation):
                # The recursive side sees what the first side makes; that is bound twice, once
                # to know its columns.
                first = self._query(query.this.copy(), known, outer)
                known[name] = _renamed(first, renamed)
            names = self._query(query, known, outer)
            known[name] = _renamed(names, renamed)
        return known

    def _select(self, node: Tree, ctes: Mapping[str, Names], outer: list[Scope]) -> Names:
        only(node, self._text, *_SELECT.split())
        if (qualify := node.args.get("qualify")) and not qualify.meta.get(TIES):
            raise unsupported("QUALIFY is not supported here", qualify, self._text)
        if not node.expressions:
            raise unsupported("a SELECT without columns is not supported", node, self._text)
        if isinstance(node.parent, exp.Exists) and not node.args.get("distinct"):
            _select_nothing(node)
        _name_outputs(node)  # while the tree is as it was written
        ctes = self._with(node, ctes, outer)
        scope = Scope()
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
            self._expressions.resolve(item, ctes, scopes)
        for key in ("where", "having", "qualify"):
            if clause := node.args.get(key):
                self._expressions.resolve(clause.this, ctes, scopes)
        if group := node.args.get("group"):
            only(group, self._text, "expressions", "rollup", "cube", "grouping_sets")
            if not any(group.args.values()):
                raise unbound("GROUP BY what?", node, self._text)
            self._expressions.resolve(group, ctes, scopes, aliases=True)
        for window in node.args.get("windows") or ():
            self._expressions.resolve(window, ctes, scopes)
        if (distinct := node.args.get("distinct")) and (on := distinct.args.get("on")):
            self._expressions.resolve(on, ctes, scopes, aliases=True)
        self._end(node, ctes, outer, {}, scopes)
        return self._outputs(node, scope)

    def _end(
        self,
        node: Tree,
        ctes: Mapping[str, Names],
        outer: list[Scope],
        names: Names,
        scopes: list[Scope] | None = None,
    ) -> None:
        """ORDER BY, LIMIT and OFFSET, which see the output columns."""
        if scopes is None:
            scopes = [Scope({"": names}), *outer]
        if order := node.args.get("order"):
            only(order, self._text, "expressions")
            for term in order.expressions:
                only(term, self._text, "this", "desc", "nulls_first")
                self._expressions.resolve(term.this, ctes, scopes, aliases=True)
        for key in ("limit", "offset"):
            if clause := node.args.get(key):
                self._limit(clause, ctes, outer)

    def _limit(self, clause: Tree, ctes: Mapping[str, Names], outer: list[Scope]) -> None:
        if isinstance(clause, exp.Fetch):
            only(clause, self._text, "direction", "count", "limit_options")
            if options := clause.args.get("limit_options"):
                only(options, self._text, "rows")
        else:
            only(clause, self._text, "expression")
        for placeholder in clause.find_all(exp.Placeholder):
            self._expressions.parameters[int(placeholder.this)] = BIGINT
        count = clause.args.get("count") or clause.args.get("expression")
        if count is not None:
            self._expressions.resolve(count, ctes, [Scope(), *outer])

    def _values(self, node: Tree, ctes: Mapping[str, Names], outer: list[Scope]) -> Names:
        widths = set()
        for row in node.expressions:
            cells = row.expressions if isinstance(row, exp.Tuple) else [row]
            widths.add(len(cells))
            for cell in cells:
                self._expressions.resolve(cell, ctes, [Scope(), *outer])
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
        self, join: Tree, ctes: Mapping[str, Names], scope: Scope, outer: list[Scope]
    ) -> None:
        only(join, self._text, "this", "on", "using", "side", "kind", "method")
        kind, method = join.args.get("kind") or "", join.args.get("method") or ""
        if kind not in ("", "INNER", "OUTER", "CROSS") or method not in ("", "NATURAL"):
            raise unsupported(f"{kind or method} JOIN is not supported", join.this, self._text)
        before = {name for names in scope.relations.values() for name in names}
        added = self._relation(join.this, ctes, scope, outer)
        if method == "NATURAL":
            scope.merged |= before & added.keys()
            for name in before & added.keys():
                _read_everywhere(scope, name)
        for column in join.args.get("using") or ():
            name = fold(column)
            for names in (before, added):
                if name not in names and not scope.open:
                    message = f'column "{name}" of USING is not on both sides'
                    raise unbound(message, column, self._text)
            scope.merged.add(name)
            _read_everywhere(scope, name)
        if on := join.args.get("on"):
            self._expressions.resolve(on, ctes, [scope, *outer])

    def _relation(
        self, node: Tree, ctes: Mapping[str, Names], scope: Scope, outer: list[Scope]
    ) -> Names:
        """Bring a relation of FROM into scope; its columns."""
        open_ = False
        reads: set[str] | None = None
        match node:
            case exp.Table() if isinstance(node.this, exp.Identifier):
                default = fold(node.this)
                view = self._view(default, ctes)
                if view is None:
                    names, reads = self._table(node, ctes)
                else:
                    node, names = self._expanded(node, view)
            case exp.Table() if isinstance(node.this, exp.Anonymous):
                names, default = self._history(node), HISTORY_FUNCTION
                open_ = True
            case exp.Table() if isinstance(node.this, exp.ExplodingGenerateSeries):
                only(node, self._text, "this", "alias")
                self._expressions.resolve(node.this, ctes, [Scope(), *outer])
                names, default = {"generate_series": None}, "generate_series"
            case exp.Subquery() if isinstance(node.this, exp.Table):
                only(node, self._text, "this")  # a parenthesised join, without an alias
                return self._joined(node.this, ctes, scope, outer)
            case exp.Subquery() | exp.Values():
                names, default = self._query(node, ctes, outer), ""
                if isinstance(node, exp.Values) and (alias := node.args.get("alias")):
                    return self._enter(
                        scope, alias_name(alias, self._text), names, node, open_=False
                    )
            case exp.Lateral():
                return self._lateral(node, ctes, scope, outer)
            case exp.Unnest():
                only(node, self._text, "expressions", "alias", "offset")
                for item in node.expressions:
                    self._expressions.resolve(item, ctes, [scope, *outer])
                names, default = {"unnest": None}, "unnest"
                if offset := node.args.get("offset"):  # WITH ORDINALITY
                    names[fold(offset) if isinstance(offset, exp.Identifier) else "ordinality"] = (
                        BIGINT
                    )
            case _:
                raise unbound("there is no such relation", node, self._text)
        alias = node.args.get("alias")
        if alias is not None:
            only(alias, self._text, "this", "columns")
            renamed = [fold(column) for column in alias.args.get("columns") or ()]
            if default in ("unnest", "generate_series") and not renamed:
                # PostgreSQL calls the column of a function as the function is called.
                renamed = [alias_name(alias, self._text)]
                alias.set("columns", [exp.to_identifier(renamed[0], quoted=True)])
            if len(renamed) > len(names) and not open_:
                raise unbound("more column names than columns", alias, self._text)
            if renamed and reads is not None:
                reads.update(names)  # the new names go by place
                reads = None
            names = _renamed(names, renamed)
            default = alias_name(alias, self._text)
        self._enter(scope, default, names, node, open_=open_)
        if reads is not None:
            scope.reads[default] = reads
        return names

    def _enter(self, scope: Scope, name: str, names: Names, node: Tree, *, open_: bool) -> Names:
        if not name:
            name = " " * (len(scope.relations) + 1)  # a subquery without an alias
        if name in scope.relations:
            raise unbound(f'"{name}" stands twice in FROM: give one an alias', node, self._text)
        scope.relations[name] = names
        if open_:
            scope.open.add(name)
        return names

    def _joined(
        self, table: Tree, ctes: Mapping[str, Names], scope: Scope, outer: list[Scope]
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
        self, node: Tree, ctes: Mapping[str, Names], scope: Scope, outer: list[Scope]
    ) -> Names:
        only(node, self._text, "this", "alias")
        alias = node.args.get("alias")
        if not isinstance(node.this, exp.Subquery) or alias is None:
            raise unsupported("LATERAL is for subqueries with an alias", node, self._text)
        names = self._query(node.this, ctes, [scope, *outer])
        names = _renamed(names, [fold(column) for column in alias.args.get("columns") or ()])
        return self._enter(scope, alias_name(alias, self._text), names, node, open_=False)

    def _table(self, node: Tree, ctes: Mapping[str, Names]) -> tuple[Names, set[str] | None]:
        """The columns, and where to note which of them are read."""
        only(node, self._text, "this", "alias")
        name = fold(node.this)
        if name in ctes:
            return dict(ctes[name]), None
        table = self._catalog.table(name)
        if table is not None:
            _check_case(name, [column.name for column in table.columns])
            names: Names = {column.name: column.type for column in table.columns}
            use = RelationUse("", table, keyed=KEYED in node.meta)
            self._rename(node, name, use)
            if use.keyed:
                names[KEY_COLUMN] = BLOB
                return names, None
            return names, self._reads.setdefault(use, set())
        columns: tuple[ResultColumn, ...] | None = self._system(name)
        if columns is not None:
            self._rename(node, name, RelationUse("", system=name))
            return {column.name: column.type for column in columns}, None
        raise unbound(f'there is no table "{name}"', node, self._text)

    def _view(self, name: str, ctes: Mapping[str, Names]) -> SqlView | None:
        if name in ctes or self._catalog.table(name) is not None:
            return None
        return self._catalog.view(name)

    def _expanded(self, node: Tree, view: SqlView) -> tuple[Tree, Names]:
        """The subquery that stands for a view from now on, and its columns."""
        only(node, self._text, "this", "alias")
        if self._depth == MAX_VIEW_DEPTH:
            message = f'view "{view.name}" stands on too many others, or on itself'
            raise unbound(message, node, self._text)
        binder = ColumnarBinder(self._catalog, self._system, view.text, depth=self._depth + 1)
        binder._uses, binder._reads = self._uses, self._reads
        try:
            body = with_dependent_columns(parse(view.text).tree, self._catalog)
            body = _select_values(body)
            names = binder._query(body, {}, [])
        except DatabaseError as error:
            raise type(error)(f'in view "{view.name}": {error}') from None
        self._expressions.times |= binder._expressions.times
        alias = node.args.get("alias")
        columns = [exp.to_identifier(name, quoted=True) for name in view.columns]
        given = (alias.args.get("columns") or []) if alias is not None else []
        columns[: len(given)] = [column.copy() for column in given]
        name = node.this if alias is None else alias.this
        subquery = exp.Subquery(
            this=body, alias=exp.TableAlias(this=name.copy(), columns=columns or None)
        )
        node.replace(subquery)
        return subquery, names

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

    # Outputs -------------------------------------------------------------------------------------

    def _outputs(self, select: Tree, scope: Scope) -> Names:
        """The output columns. Of two equal names the first counts."""
        names: Names = {}
        for item in select.expressions:
            value = item.unalias()
            if isinstance(item, exp.Star):
                only(item, self._text)
                for name, columns in scope.relations.items():
                    scope.read(name)
                    names = names | {k: v for k, v in columns.items() if k not in names}
            elif isinstance(item, exp.Column) and isinstance(item.this, exp.Star):
                columns = scope.relations[fold(item.args["table"])]
                names = names | {k: v for k, v in columns.items() if k not in names}
            else:
                names.setdefault(
                    fold(item.args.get("alias") or item.this),
                    self._expressions.types.get(id(value)),
                )
        return names


def _columns_read(use: RelationUse, read: set[str]) -> tuple[str, ...]:
    """In the table's order. One at least: without columns there are no rows to count."""
    assert use.table is not None
    columns = use.table.columns
    if not read:
        read = {min(columns, key=lambda column: column.type.name in ("TEXT", "BLOB", "JSON")).name}
    return tuple(column.name for column in columns if column.name in read)


def _read_everywhere(scope: Scope, column: str) -> None:
    for name, names in scope.relations.items():
        if column in names:
            scope.read(name, column)


def _select_nothing(select: Tree) -> None:
    """EXISTS (SELECT * ...) asks for no columns."""
    if all(
        isinstance(item, exp.Star) and not any(item.args.values()) for item in select.expressions
    ):
        select.set("expressions", [exp.Literal.number(1)])


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
