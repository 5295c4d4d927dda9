"""Binding CREATE, DROP and ALTER to steps that the catalog carries out.

    CREATE TABLE note (id INTEGER PRIMARY KEY, by INT REFERENCES author, stars INT CHECK (stars>0))

      -> CreateTable(TableDefinition("note", (id BIGINT generated, by BIGINT, stars INTEGER),
           primary_key=("id",), foreign_keys=(by -> author,), checks=("stars > 0",)))

Constraints of a column and of the table are the same constraints. What PostgreSQL has and the
catalog does not (ON UPDATE CASCADE, DEFERRABLE) is refused where it stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias, cast

from sqlglot import exp

from murmur.catalog.schema import (
    Action as OnDelete,
)
from murmur.catalog.schema import (
    CheckDefinition,
    ColumnDefinition,
    ExpressionDefinition,
    ForeignKeyDefinition,
    TableDefinition,
    UniqueDefinition,
)
from murmur.catalog.types import BOOLEAN
from murmur.sql.binder import Binding, row_columns
from murmur.sql.binder_alter import bind_alter_column, bind_comment, bind_rename
from murmur.sql.binder_defaults import bind_column_type, bind_default
from murmur.sql.binder_keys import Parts, widen_keys
from murmur.sql.binder_kv import bind_kv_prefix
from murmur.sql.binder_like import bind_like
from murmur.sql.binder_names import (
    check_reserved,
    column_names,
    fold,
    only,
    plain_name,
    start_of,
    unbound,
    unsupported,
)
from murmur.sql.binder_trigrams import bind_trigram_index, is_trigram
from murmur.sql.binder_views import bind_create_view
from murmur.sql.checks import bind_check
from murmur.sql.ddl_actions import (
    Action,
    AddColumn,
    AddConstraint,
    AddPrimaryKey,
    Constraint,
    CreateIndex,
    CreateTable,
    DropColumn,
    DropConstraint,
    DropIndex,
    DropTable,
    DropView,
    RenameColumn,
    RenameTable,
    Step,
)
from murmur.sql.expressions import Column
from murmur.sql.reindex import check_reindex
from murmur.sql.row_expressions import bind_row_condition, define_expression, stored_text

Tree: TypeAlias = Any  # sqlglot's


def bind_ddl(tree: Tree, binding: Binding) -> tuple[Step, ...]:
    """The steps of a DDL statement."""
    match tree:
        case exp.Create(kind="TABLE"):
            return tuple(_create_table(tree, binding))
        case exp.Create(kind="VIEW"):
            return (bind_create_view(tree, binding),)
        case exp.Create(kind="INDEX"):
            return (_create_index(tree, binding),)
        case exp.Create():
            kind = tree.args.get("kind") or "this"
            raise unsupported(f"CREATE {kind} is not supported", tree, binding.text)
        case exp.Drop():
            return tuple(_drop(tree, binding))
        case exp.Comment():
            return (bind_comment(tree, binding),)
        case exp.Alter(kind="INDEX" | "VIEW"):
            return (bind_rename(tree, binding),)
        case exp.Alter():
            return tuple(_alter(tree, binding))
        case exp.Command():
            check_reindex(tree, binding.catalog)
            return ()
    raise AssertionError(tree)


# CREATE TABLE ------------------------------------------------------------------------------------


def _create_table(tree: Tree, binding: Binding) -> Iterable[Step]:
    only(tree, binding.text, "this", "kind", "exists", "properties")
    schema = tree.this
    if not isinstance(schema, exp.Schema) or not schema.expressions:
        raise unsupported("CREATE TABLE takes its columns in parentheses", tree, binding.text)
    name = plain_name(schema.this, binding.text)
    check_reserved(name, schema.this, binding.text)
    parts = Parts(name, binding)
    following: list[Action] = []
    for item in schema.expressions:
        if isinstance(item, exp.ColumnDef):
            _column(item, parts)
        elif isinstance(item, exp.LikeProperty):
            following += bind_like(item, parts)
        elif isinstance(item, exp.Identifier):
            raise unbound(f'column "{fold(item)}" has no type', item, binding.text)
        else:
            _table_constraint(item, parts, "")
    widen_keys(parts)
    kv = bind_kv_prefix(tree, tuple(parts.columns.values()), parts.primary_key, binding.text)
    _compute(parts)
    definition = TableDefinition(
        name=name,
        columns=tuple(parts.columns.values()),
        primary_key=parts.primary_key,
        primary_key_name=parts.primary_key_name,
        uniques=tuple(parts.uniques),
        foreign_keys=tuple(parts.foreign_keys),
        checks=(
            *parts.copied_checks,
            *(_check(node, label, parts) for node, label in parts.checks),
        ),
        kv=kv,
    )
    start, if_not_exists = start_of(schema.this), bool(tree.args.get("exists"))
    yield Step(CreateTable(definition, if_not_exists), start)
    if not (if_not_exists and binding.catalog.table(name)):
        for action in following:
            yield Step(action, start)


def _column(node: Tree, parts: Parts) -> None:
    text = parts.binding.text
    only(node, text, "this", "kind", "constraints", "exists")
    name = fold(node.this)
    if node.args.get("kind") is None:
        raise unbound(f'column "{name}" has no type', node, text)
    if name in parts.columns:
        raise unbound(f'column "{name}" is defined twice', node.this, text)
    parts.columns[name] = ColumnDefinition(
        name, bind_column_type(node.args["kind"], node, parts.binding.text)
    )
    for constraint in node.args.get("constraints") or ():
        only(constraint, text, "this", "kind")
        label = fold(constraint.this) if constraint.this is not None else ""
        _column_constraint(name, constraint.args["kind"], parts, label)


def _column_constraint(name: str, node: Tree, parts: Parts, label: str) -> None:
    text = parts.binding.text
    column = parts.columns[name]
    match node:
        case exp.PrimaryKeyColumnConstraint():
            only(node, text, "include")
            _no_parameters(node, text)
            _primary_key((name,), node, parts, label)
        case exp.NotNullColumnConstraint() if not label:
            only(node, text, "allow_null")
            parts.columns[name] = replace(column, nullable=bool(node.args.get("allow_null")))
        case exp.DefaultColumnConstraint() if not label:
            only(node, text, "this")
            default = bind_default(node.this, column, parts.table, parts.binding)
            parts.columns[name] = replace(column, default=default)
        case exp.ComputedColumnConstraint() if not label:
            only(node, text, "this")
            parts.computed[name] = node.this
        case exp.GeneratedAsIdentityColumnConstraint() if node.args.get("expression"):
            raise unsupported("a generated column ends with STORED", node, text)
        case exp.GeneratedAsIdentityColumnConstraint() if not label:
            only(node, text, "this")
            parts.generated.add(name)
        case exp.UniqueColumnConstraint():
            only(node, text, "include")
            _no_parameters(node, text)
            parts.uniques.append(UniqueDefinition((name,), label))
        case exp.CheckColumnConstraint():
            only(node, text, "this")
            parts.checks.append((node.this, label))
        case exp.Reference():
            parts.foreign_keys.append(_reference(node, (name,), parts, label))
        case _:
            what = type(node).__name__.removesuffix("ColumnConstraint")
            what = f"a name for {what}" if label else f"the column constraint {what}"
            raise unsupported(f"{what} is not supported", node, text)


def _table_constraint(node: Tree, parts: Parts, label: str) -> None:
    text = parts.binding.text
    match node:
        case exp.Constraint():
            only(node, text, "this", "expressions")
            for item in node.expressions:
                _table_constraint(item, parts, fold(node.this))
        case exp.PrimaryKey():
            only(node, text, "expressions", "include")
            _no_parameters(node, text)
            _primary_key(_names(node.expressions, text), node, parts, label)
        case exp.UniqueColumnConstraint() if isinstance(node.this, exp.Schema):
            only(node, text, "this", "include")
            _no_parameters(node, text)
            only(node.this, text, "expressions")
            parts.uniques.append(UniqueDefinition(_names(node.this.expressions, text), label))
        case exp.CheckColumnConstraint():
            only(node, text, "this")
            parts.checks.append((node.this, label))
        case exp.ForeignKey():
            only(node, text, "expressions", "reference")
            columns = _names(node.expressions, text)
            if node.args.get("reference") is None:
                raise unbound("FOREIGN KEY needs REFERENCES", node, text)
            parts.foreign_keys.append(_reference(node.args["reference"], columns, parts, label))
        case _:
            raise unsupported("this table constraint is not supported", node, text)


def _no_parameters(node: Tree, text: str) -> None:
    if (include := node.args.get("include")) is not None:
        only(include, text)


def _names(nodes: Iterable[Tree], text: str) -> tuple[str, ...]:
    return tuple(column_names(nodes, text, "a column name is expected here"))


def _primary_key(columns: tuple[str, ...], node: Tree, parts: Parts, label: str) -> None:
    if parts.primary_key:
        raise unbound("a table has one PRIMARY KEY", node, parts.binding.text)
    parts.primary_key, parts.primary_key_name = columns, label


def _reference(
    node: Tree, columns: tuple[str, ...], parts: Parts, label: str
) -> ForeignKeyDefinition:
    text = parts.binding.text
    only(node, text, "this", "options")
    target = node.this
    parent_columns: tuple[str, ...] = ()
    if isinstance(target, exp.Schema):
        parent_columns = _names(target.expressions, text)
        target = target.this
    on_delete: OnDelete = "NO ACTION"
    for option in node.args.get("options") or ():
        match str(option).upper().split():
            case ["ON", "DELETE", *action] if " ".join(action) in _ON_DELETE:
                on_delete = cast("OnDelete", " ".join(action))
            case ["ON", "UPDATE", "NO", "ACTION"] | ["NOT", "DEFERRABLE"] | ["MATCH", "SIMPLE"]:
                pass
            case _:
                raise unsupported(f"{option} is not supported", node, text)
    parent = plain_name(target, text)
    return ForeignKeyDefinition(columns, parent, parent_columns, on_delete, label)


_ON_DELETE = ("NO ACTION", "RESTRICT", "CASCADE", "SET NULL")


def _compute(parts: Parts) -> None:
    """Generated columns, which are computed of the others."""
    text = parts.binding.text
    fields = {
        name: Column(i, name, column.type) for i, (name, column) in enumerate(parts.columns.items())
    }
    for name, node in parts.computed.items():
        column = parts.columns[name]
        if name in parts.primary_key:
            raise unbound(f'generated column "{name}" cannot be a primary key', node, text)
        if column.default is not None:
            raise unbound(f'generated column "{name}" cannot have a DEFAULT', node, text)
        if not column.nullable:
            message = f'generated column "{name}": write CHECK ({name} IS NOT NULL) for NOT NULL'
            raise unsupported(message, node, text)
        if column.type.name == "COUNTER":
            raise unbound(f'generated column "{name}" cannot be a COUNTER', node, text)
        generated = define_expression(node, fields, text, "a generated column", result=column.type)
        parts.columns[name] = replace(column, generated=generated)


def _check(node: Tree, label: str, parts: Parts) -> CheckDefinition:
    """A CHECK over the columns of the definition."""
    fields = {
        name: Column(i, name, column.type) for i, (name, column) in enumerate(parts.columns.items())
    }
    bind_check(node, fields, parts.binding.text)
    names = dict.fromkeys(fold(column.this) for column in node.find_all(exp.Column))
    return CheckDefinition(stored_text(node, parts.binding.text), tuple(names), label)


# Indexes -----------------------------------------------------------------------------------------


def _create_index(tree: Tree, binding: Binding) -> Step:
    text = binding.text
    only(tree, text, "this", "kind", "unique", "exists")
    index = tree.this
    only(index, text, "this", "table", "params")
    if is_trigram(index):
        return bind_trigram_index(tree, binding)
    params = index.args["params"]
    only(params, text, "columns", "using", "where")
    using = params.args.get("using")
    if using is not None and using.name.lower() != "btree":
        raise unsupported("indexes are ordered: USING btree", using, text)
    exists = bool(tree.args.get("exists"))
    if index.this is None and exists:
        raise unbound("IF NOT EXISTS needs the index's name", index, text)
    name = "" if index.this is None else fold(index.this)
    if name:
        check_reserved(name, index, binding.text)
    table = plain_name(index.args["table"], text)
    fields = _row_fields(table, index.args["table"], binding)
    columns = tuple(_index_part(each, fields, text) for each in params.args.get("columns") or ())
    predicate = None
    if (where := params.args.get("where")) is not None:
        bind_row_condition(where.this, fields, text, "the WHERE of an index")
        predicate = define_expression(
            where.this, fields, text, "the WHERE of an index", result=BOOLEAN
        )
    unique = bool(tree.args.get("unique"))
    action = CreateIndex(name, table, columns, unique, exists, predicate)
    return Step(action, start_of(index if name else index.args["table"]))


def _index_part(
    ordered: Tree, fields: Mapping[str, Column], text: str
) -> tuple[str | ExpressionDefinition, bool]:
    """A column or expression of an index, and whether it descends."""
    only(ordered, text, "this", "desc", "nulls_first")
    descending = bool(ordered.args.get("desc"))
    node = ordered.this
    while isinstance(node, exp.Paren):
        node = node.this
    if isinstance(node, exp.Column) and node.args.get("table") is None:
        return fold(node.this), descending
    if node.find(exp.Column) is None:
        raise unbound("an index needs a column, or an expression of columns", ordered, text)
    return define_expression(node, fields, text, "an index"), descending


def _row_fields(table: str, node: Tree, binding: Binding) -> Mapping[str, Column]:
    """The columns that an index can be over."""
    known = binding.catalog.table(table)
    if known is None:
        raise unbound(f'table "{table}" does not exist', node, binding.text)
    return {column.name: column for column in row_columns(known)}


# DROP, ALTER -------------------------------------------------------------------------------------


def _drop(tree: Tree, binding: Binding) -> Iterable[Step]:
    text = binding.text
    kind = tree.args.get("kind")
    if kind not in ("TABLE", "INDEX", "VIEW"):
        raise unsupported(f"DROP {kind} is not supported", tree, text)
    only(
        tree, text, "tables", "kind", "exists", "restrict", "cascade" if kind == "TABLE" else "kind"
    )
    if_exists = bool(tree.args.get("exists"))
    for node in tree.args.get("tables") or ():
        name = plain_name(node, text)
        if kind == "INDEX":
            yield Step(DropIndex(name, if_exists), start_of(node))
        elif kind == "VIEW":
            yield Step(DropView(name, if_exists), start_of(node))
        else:
            check_reserved(name, node, binding.text)
            yield Step(DropTable(name, if_exists, bool(tree.args.get("cascade"))), start_of(node))


def _alter(tree: Tree, binding: Binding) -> Iterable[Step]:
    text = binding.text
    only(tree, text, "this", "kind", "exists", "actions", "options")
    if tree.args.get("kind") != "TABLE":
        raise unsupported(f"ALTER {tree.args.get('kind')} is not supported", tree, text)
    table = plain_name(tree.this, text)
    check_reserved(table, tree.this, binding.text)
    if tree.args.get("exists") and binding.catalog.table(table) is None:
        return
    for action in tree.args["actions"]:
        match action:
            case exp.ColumnDef():
                yield _add_column(table, action, binding)
            case exp.AddConstraint():
                yield from _add_constraints(table, action, binding)
            case exp.RenameColumn():
                only(action, text, "this", "to")
                old, new = _plain(action.this, text), _plain(action.args["to"], text)
                yield Step(RenameColumn(table, old, new), start_of(action.this))
            case exp.AlterRename():
                yield _rename(table, tree, action, binding)
            case exp.Drop():
                yield _drop_part(table, action, text)
            case exp.AlterColumn():
                yield bind_alter_column(table, action, binding)
            case _:
                raise unsupported("this form of ALTER TABLE is not supported", action, text)


def _plain(node: Tree, text: str) -> str:
    if not isinstance(node, exp.Column) or node.args.get("table") is not None:
        raise unsupported("a column name is expected here", node, text)
    return fold(node.this)


def _rename(table: str, tree: Tree, action: Tree, binding: Binding) -> Step:
    """RENAME TO new, or RENAME column TO new, which sqlglot reads as the former with an option."""
    text = binding.text
    only(action, text, "this")
    name = plain_name(action.this, text)
    options = tree.args.get("options") or ()
    if options:
        if len(options) != 1 or not isinstance(options[0], exp.ToTableProperty):
            raise unsupported("this form of RENAME is not supported", action, text)
        return Step(RenameColumn(table, name, plain_name(options[0].this, text)), start_of(action))
    check_reserved(name, action, binding.text)
    return Step(RenameTable(table, name), start_of(action))


def _drop_part(table: str, action: Tree, text: str) -> Step:
    kind = action.args.get("kind")
    only(action, text, "tables", "kind", "exists", "restrict")
    tables = action.args.get("tables") or []
    if len(tables) != 1:
        raise unsupported("DROP takes one name here", action, text)
    (node,) = tables
    if_exists = bool(action.args.get("exists"))
    if kind == "COLUMN":
        return Step(DropColumn(table, _plain(node, text), if_exists), start_of(node))
    if kind == "CONSTRAINT":
        return Step(DropConstraint(table, plain_name(node, text), if_exists), start_of(node))
    raise unsupported(f"DROP {kind} is not supported here", action, text)


def _existing(table: str, node: Tree, binding: Binding) -> Parts:
    """The parts of a table that exists, for a definition to be added to."""
    known = binding.catalog.table(table)
    if known is None:
        raise unbound(f'there is no table "{table}"', node, binding.text)
    parts = Parts(table, binding, primary_key=known.names_of(known.primary_key) or ("",))
    for column in known.columns:
        parts.columns[column.name] = ColumnDefinition(column.name, column.type)
    return parts


def _add_column(table: str, node: Tree, binding: Binding) -> Step:
    parts = _existing(table, node, binding)
    name = fold(node.this)
    if_not_exists = bool(node.args.get("exists"))
    parts.columns.pop(name, None)  # the catalog says that it exists
    _column(node, parts)
    parts.primary_key = ()
    widen_keys(parts)
    _compute(parts)
    constraints = tuple(AddConstraint(table, each) for each in _constraints(parts))
    action = AddColumn(table, parts.columns[name], if_not_exists, constraints)
    return Step(action, start_of(node.this))


def _add_constraints(table: str, node: Tree, binding: Binding) -> Iterable[Step]:
    only(node, binding.text, "expressions")
    parts = _existing(table, node, binding)
    known = parts.primary_key
    parts.primary_key = ()
    for item in node.expressions:
        _table_constraint(item, parts, "")
    if parts.primary_key:
        action = AddPrimaryKey(table, parts.primary_key, parts.primary_key_name)
        yield Step(action, start_of(node))
    parts.primary_key = known
    for constraint in _constraints(parts):
        yield Step(AddConstraint(table, constraint), start_of(node))


def _constraints(parts: Parts) -> Iterable[Constraint]:
    yield from parts.uniques
    yield from parts.foreign_keys
    for node, label in parts.checks:
        yield _check(node, label, parts)
