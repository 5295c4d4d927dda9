"""Binding MERGE: one query finds what meets what, and which WHEN applies; the row engine writes.

    MERGE INTO stock s USING delivery d ON s.item = d.item
    WHEN MATCHED AND d.n = 0 THEN DELETE
    WHEN MATCHED THEN UPDATE SET n = s.n + d.n
    WHEN NOT MATCHED THEN INSERT (item, n) VALUES (d.item, d.n)

      -> SELECT s.item, <0, 1 or 2>, s.n + d.n where that is 1, d.item where it is 2, ...
         FROM delivery d LEFT JOIN stock s ON s.item = d.item

The first WHEN whose condition is TRUE applies; where none does, nothing happens. A value is
computed for the rows of its own WHEN alone, so that another row cannot make it fail. WHEN NOT
MATCHED sees the source's columns only, WHEN NOT MATCHED BY SOURCE the target's; for that one the
join is a FULL JOIN, and the source gets a column that tells whether there is a row of it. The
meaning is PostgreSQL's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from sqlglot import exp

from murmur.catalog.schema import Column as TableColumn
from murmur.catalog.types import TEXT
from murmur.sql.assignment import converted
from murmur.sql.binder import Binding, Scope, bind_items, row_columns
from murmur.sql.binder_columnar import KEYED
from murmur.sql.binder_names import alias_name, alias_of, fold, only, unbound, unsupported
from murmur.sql.binder_targets import check_ambiguous, tree_amount
from murmur.sql.binder_writes import (
    constant,
    insert_defaults,
    is_default,
    set_targets,
    target_columns,
    written,
)
from murmur.sql.engines import plan_columnar, plan_found
from murmur.sql.expressions import Column, Expr, NeedsColumnar
from murmur.sql.plan import KEY_COLUMN, ResultColumn
from murmur.sql.plan_writes import (
    Assignment,
    Insert,
    Merge,
    MergeDelete,
    MergeInsert,
    MergeUpdate,
    Returning,
)

Tree: TypeAlias = Any  # sqlglot's

_ACTION = "murmur merge action"
_PRESENT = "murmur merge source"


def bind_merge(tree: Tree, binding: Binding) -> Merge:
    """The plan of a MERGE."""
    only(tree, binding.text, "this", "using", "on", "whens", "returning", "with_")
    return _Merge(tree, binding).bind()


class _Merge:
    def __init__(self, tree: Tree, binding: Binding) -> None:
        self._tree = tree
        self._binding = binding
        self._text = binding.text
        self._table = binding.table(tree.this)
        self._name = alias_of(tree.this, self._text) or self._table.name
        self._source_name = self._named_source()
        self._items: list[Tree] = []  # of the query, behind the key and the number of the WHEN
        self._width = max(1, len(self._table.primary_key)) + 1

    def bind(self) -> Merge:
        tree = self._tree
        if tree.args.get("on") is None:
            raise unbound("MERGE needs USING source ON condition", tree, self._text)
        whens = tree.args["whens"].expressions
        self._by_source = any(map(_by_source, whens))
        self._chain = self._choice(whens)
        actions = tuple(self._action(at, when) for at, when in enumerate(whens))
        returning, source_at = self._returning()
        query = plan_found(self._query(), self._binding, "MERGE")
        actions = tuple(
            MergeUpdate(tuple(written(each, query, 0) for each in action.assignments))
            if isinstance(action, MergeUpdate)
            else action
            for action in actions
        )
        return Merge(self._table, query, actions, returning, source_at)

    # The source ----------------------------------------------------------------------------------

    def _named_source(self) -> str:
        source = self._tree.args["using"]
        alias = source.args.get("alias")
        if alias is not None:
            return alias_name(alias, self._text)
        if isinstance(source, exp.Table) and isinstance(source.this, exp.Identifier):
            return fold(source.this)
        raise unbound("the source of a MERGE needs an alias", source, self._text)

    def _source_columns(self) -> list[Column]:
        """The columns of the source, as far as the columnar engine's binder knows them."""
        select = exp.Select(
            expressions=[exp.Star()], from_=exp.From(this=self._tree.args["using"].copy())
        )
        self._add_with(select)
        types = list(self._binding.types)
        columns = plan_columnar(select, self._binding, "MERGE").columns
        self._binding.types[:] = types
        return [Column(i, column.name, column.type) for i, column in enumerate(columns)]

    def _add_with(self, select: Tree) -> None:
        if (with_ := self._tree.args.get("with_")) is not None:
            select.set("with_", with_.copy())

    # Which WHEN ----------------------------------------------------------------------------------

    def _choice(self, whens: Sequence[Tree]) -> Tree:
        """CASE WHEN matched AND condition THEN 0 ... END: the number of the WHEN that applies."""
        case = exp.Case(ifs=[])
        for at, when in enumerate(whens):
            only(when, self._text, "matched", "condition", "then", "source")
            test: Tree = exp.Is(this=self._key_column(), expression=exp.Null())
            if when.args["matched"] or _by_source(when):
                test = exp.Not(this=test)
            if self._by_source:
                test = exp.And(this=test, expression=self._present(present=not _by_source(when)))
            condition = when.args.get("condition")
            if condition is not None:
                seen = self._seen(when, condition)
                test = exp.And(this=test, expression=exp.Paren(this=seen))
            case.append("ifs", exp.If(this=test, true=exp.Literal.number(at)))
        return case

    def _key_column(self) -> Tree:
        names = self._table.names_of(self._table.primary_key)
        return _column(names[0] if names else KEY_COLUMN, self._name)

    def _present(self, *, present: bool) -> Tree:
        """Whether there is a row of the source."""
        missing = exp.Is(this=_column(_PRESENT, self._source_name), expression=exp.Null())
        return exp.Not(this=missing) if present else missing

    def _seen(self, when: Tree, node: Tree) -> Tree:
        """An expression of a WHEN: where one side is missing, plain names are the other's."""
        if when.args["matched"]:
            return node.copy()
        if _by_source(when):
            return self._of(node, self._name, self._source_name, "WHEN NOT MATCHED BY SOURCE")
        return self._of(node, self._source_name, self._name, "WHEN NOT MATCHED")

    def _of(self, node: Tree, relation: str, other: str, clause: str) -> Tree:
        copy = node.copy()
        for column in copy.find_all(exp.Column):
            if column.find_ancestor(exp.Select) is not None:
                continue
            if column.args.get("table") is None:
                column.set("table", exp.to_identifier(relation, quoted=True))
            elif fold(column.args["table"]) == other:
                message = f'{clause} sees the columns of "{relation}" only'
                raise unbound(message, column, self._text)
        return copy

    # What it does --------------------------------------------------------------------------------

    def _action(self, at: int, when: Tree) -> MergeUpdate | MergeDelete | MergeInsert | None:
        then = when.args["then"]
        matched = when.args["matched"] or _by_source(when)
        match then:
            case exp.Update() if matched:
                only(then, self._text, "expressions")
                return MergeUpdate(tuple(self._assignments(at, when, then.expressions)))
            case exp.Insert() if not matched:
                only(then, self._text, "this", "expression")
                return self._insert(at, when, then)
            case exp.Var() if then.name.upper() == "DELETE" and matched:
                return MergeDelete()
            case exp.Var() if then.name.upper() == "DO NOTHING":
                return None
        takes = "UPDATE SET, DELETE" if matched else "INSERT"
        raise unbound(f"this WHEN takes {takes} or DO NOTHING", when, self._text)

    def _assignments(self, at: int, when: Tree, nodes: Sequence[Tree]) -> list[Assignment]:
        assignments = []
        for column, node in set_targets(nodes, self._table, self._binding):
            value = constant(column, node, self._table, self._binding)
            increment = False
            if value is None:
                found = node
                if column.type.name == "COUNTER":
                    found, increment = tree_amount(column, node, self._name)
                value = self._value(at, self._seen(when, found), column)
            assignments.append(Assignment(column, value, increment))
        return assignments

    def _insert(self, at: int, when: Tree, then: Tree) -> MergeInsert:
        table, values = self._table, then.expression
        named = then.this.expressions if then.this is not None else None
        columns: tuple[TableColumn, ...] = ()
        exprs: list[Expr | None] = []
        if values is None:
            if named is None or len(named) != 1 or not is_default(named[0]):
                raise unbound("INSERT takes VALUES or DEFAULT VALUES", then, self._text)
        else:
            if named is not None:
                named = [each.this if isinstance(each, exp.Column) else each for each in named]
            columns = target_columns(table, named, self._binding)
            items = values.expressions if isinstance(values, exp.Tuple) else [values]
            if len(items) > len(columns) or (named is not None and len(items) < len(columns)):
                message = f"{len(items)} values for {len(columns)} columns"
                raise unbound(message, values, self._text)
            columns = columns[: len(items)]
            for column, item in zip(columns, items, strict=True):
                value = None
                if not is_default(item):
                    value = constant(column, item, table, self._binding)
                    value = value or converted(
                        self._value(at, self._seen(when, item), column), column.type
                    )
                exprs.append(value)
        generated, defaults = insert_defaults(table)
        return MergeInsert(
            Insert(table, columns, (tuple(exprs),), None, defaults, generated, None, None)
        )

    def _value(self, at: int, node: Tree, column: TableColumn) -> Expr:
        """A value as a field of the query's rows: NULL in those of another WHEN."""
        case = exp.Case(this=self._chain.copy(), ifs=[])
        case.append("ifs", exp.If(this=exp.Literal.number(at), true=node))
        self._items.append(case)
        return Column(self._width + len(self._items) - 1, column.name, column.type)

    # The query, RETURNING ------------------------------------------------------------------------

    def _query(self) -> Tree:
        relation = self._tree.this.copy()
        names = self._table.names_of(self._table.primary_key)
        if not names:
            relation.meta[KEYED] = True
        keys = [_column(name, self._name) for name in names or (KEY_COLUMN,)]
        items = [*keys, self._chain, *self._items]
        select = exp.Select(
            expressions=[_aliased(item, f"murmur value {i}") for i, item in enumerate(items)],
            from_=exp.From(this=self._source()),
            joins=[
                exp.Join(
                    this=relation,
                    side="FULL" if self._by_source else "LEFT",
                    on=self._tree.args["on"].copy(),
                )
            ],
        )
        self._add_with(select)
        return select

    def _source(self) -> Tree:
        """The source; with a column that is never NULL where the absence of a row matters."""
        source = self._tree.args["using"].copy()
        if not self._by_source:
            return source
        name = exp.to_identifier(self._source_name, quoted=True)
        present = _aliased(exp.Literal.number(1), _PRESENT)
        select = exp.Select(expressions=[exp.Star(), present], from_=exp.From(this=source))
        return exp.Subquery(this=select, alias=exp.TableAlias(this=name))

    def _returning(self) -> tuple[Returning | None, int]:
        """RETURNING over the source's columns, the target's, and merge_action()."""
        node = self._tree.args.get("returning")
        if node is None:
            return None, 0
        only(node, self._text, "expressions")
        source = self._source_columns()
        target = row_columns(self._table, len(source))
        action = Column(len(source) + len(target), _ACTION, TEXT, nullable=False)
        first = self._width + len(self._items)
        self._items += [_column(column.name, self._source_name) for column in source]
        scope = Scope(
            self._binding, (self._source_name, source), (self._name, target), ("", [action])
        )
        exprs: list[Expr] = []
        results: list[ResultColumn] = []
        for item in node.expressions:
            columns, relation = [*source, *target], ""
            if isinstance(item, exp.Column) and isinstance(item.this, exp.Star):
                relation = fold(item.args["table"])
                columns = source if relation == self._source_name else target
                relation = self._source_name if relation == self._source_name else self._name
            elif not isinstance(item, exp.Star):
                sides = [(self._source_name, source), (self._name, target)]
                check_ambiguous(item, sides, self._text)
            item = _with_action(item)
            try:
                more, named = bind_items([item], scope, columns, relation, self._text)
            except NeedsColumnar as reason:
                message = f"{reason.reason} cannot stand in RETURNING"
                raise unsupported(message, node, self._text) from None
            exprs += more
            results += [
                replace(each, name="merge_action") if each.name == _ACTION else each
                for each in named
            ]
        return Returning(tuple(exprs), tuple(results)), first


def _by_source(when: Tree) -> bool:
    return bool(when.args.get("source"))


def _column(name: str, relation: str) -> Tree:
    return exp.column(
        exp.to_identifier(name, quoted=True), exp.to_identifier(relation, quoted=True)
    )


def _aliased(node: Tree, name: str) -> Tree:
    return exp.Alias(this=node, alias=exp.to_identifier(name, quoted=True))


def _with_action(item: Tree) -> Tree:
    """merge_action() as the column that holds it."""

    def visit(node: Tree) -> Tree:
        named = isinstance(node, exp.Anonymous) and node.name.lower() == "merge_action"
        if named and not node.expressions:
            return exp.column(exp.to_identifier(_ACTION, quoted=True))
        return node

    return item.transform(visit)
