"""What binding an expression goes by: the scope, the places of errors, and who binds which node.

    @binds(exp.Nullif, "this", "expression")
    def _null_if(binder, node): ...

Each kind of node names the arguments that its function understands. A node that carries another one
(CAST ... FORMAT, date_trunc with a zone) is not half understood: it raises NeedsColumnar, as does a
kind of node that nobody binds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeAlias

from sqlglot import exp

from murmur.catalog.types import BIGINT, BOOLEAN, JSON, SqlType
from murmur.errors import DatabaseError, DataError, TypeMismatch
from murmur.sql import operators
from murmur.sql.binder_names import pointing
from murmur.sql.expressions import (
    Call,
    Expr,
    Function,
    Literal,
    NeedsColumnar,
    Parameter,
)
from murmur.sql.functions import resolve

Tree: TypeAlias = Any  # a sqlglot expression
Bind: TypeAlias = Callable[["Binder", Tree], Expr]


class Scope(Protocol):
    """What the names in an expression mean."""

    @property
    def text(self) -> str:
        """The statement, for errors to point into."""
        ...

    def column(self, name: str, qualifier: str | None) -> Expr | None:
        """The column of this name, already folded to lower case unless it was quoted.

        A BindError (an ambiguous name) needs no place, it gets one here.
        """
        ...

    def parameter(self, index: int) -> Parameter:
        """The parameter at a position, with the type that it has got so far."""
        ...

    def set_parameter_type(self, index: int, sql_type: SqlType) -> None:
        """The parameter has met its type; `parameter` gives it from now on."""
        ...


class Binder:
    """Binds the expressions of one scope."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    def bind(self, node: Tree) -> Expr:
        """The expression; an untyped literal stays untyped until it meets a type."""
        known = _BINDERS.get(type(node))
        if known is None:
            raise self.columnar(node, _described(node))
        bind, keys = known
        for key, value in node.args.items():
            if key not in keys and value and isinstance(value, exp.Expression | list):
                raise self.columnar(node, f"{_described(node)} with {key.strip('_')}")
        return bind(self, node)

    def failure(self, node: Tree, error: type[DatabaseError], message: str) -> DatabaseError:
        """An error that points at the beginning of the node."""
        return error(pointing(message, node, self.scope.text))

    def columnar(self, node: Tree, reason: str) -> NeedsColumnar:
        """The error for what another engine may run."""
        return NeedsColumnar(reason, pointing("", node, self.scope.text).strip("\n"))

    @contextmanager
    def at(self, node: Tree) -> Iterator[None]:
        """Give the errors of a typing rule the place of this node."""
        try:
            yield
        except NeedsColumnar as error:
            raise self.columnar(node, error.reason) from None
        except DatabaseError as error:
            # A literal that its type cannot hold is the statement's fault, not the data's.
            kind = TypeMismatch if isinstance(error, DataError) else type(error)
            raise self.failure(node, kind, str(error)) from None

    def convert(self, node: Tree, expr: Expr, target: SqlType) -> Expr:
        """Coerce what may be coerced unasked."""
        with self.at(node):
            return self.noted(operators.convert(expr, target))

    def noted(self, expr: Expr) -> Expr:
        """Tell the scope of a parameter that has just got its type."""
        if isinstance(expr, Parameter) and expr.type is not None:
            self.scope.set_parameter_type(expr.index, expr.type)
        return expr

    def unified(self, nodes: Sequence[Tree], exprs: Sequence[Expr], what: str) -> list[Expr]:
        """The operands of a comparison, with one type."""
        with self.at(_blamed(nodes, exprs)):
            target = operators.compared_type(exprs, what)
        if target is None:
            return list(exprs)
        return [self.convert(node, expr, target) for node, expr in zip(nodes, exprs, strict=True)]

    def condition(self, node: Tree, clause: str) -> Expr:
        """An expression that must be BOOLEAN."""
        expr = self.bind(node)
        if expr.type is None:
            expr = self.convert(node, expr, BOOLEAN)
        if expr.type != BOOLEAN:
            raise self.failure(node, TypeMismatch, f"{clause} takes a BOOLEAN, not {expr.type}")
        return expr

    def common(self, nodes: Sequence[Tree], exprs: Sequence[Expr]) -> tuple[list[Expr], Any]:
        """Operands of which one becomes the result (CASE, COALESCE), and their type."""
        with self.at(_blamed(nodes, exprs)):
            target = operators.common_type(expr.type for expr in exprs)
            if target is None:
                if all(isinstance(e, Literal | Parameter) and e.type is None for e in exprs):
                    exprs = [operators.as_text_if_untyped(expr) for expr in exprs]
                target = next((expr.type for expr in exprs if expr.type is not None), None)
        if target is None:
            return list(exprs), None
        converted = [
            self.convert(node, expr, target) for node, expr in zip(nodes, exprs, strict=True)
        ]
        return converted, target

    def call(self, node: Tree, name: str, arguments: Sequence[Tree]) -> Expr:
        """A function of the registry."""
        exprs = [self.bind(argument) for argument in arguments]
        with self.at(node):
            function = resolve(name, [expr.type for expr in exprs])
        return self.applied(function, arguments, exprs)

    def applied(self, function: Function, arguments: Sequence[Tree], exprs: Sequence[Expr]) -> Call:
        """The function over its arguments, coerced to its parameters."""
        converted = [
            self.convert(argument, expr, function.parameter(position))
            for position, (argument, expr) in enumerate(zip(arguments, exprs, strict=True))
        ]
        return Call(function, tuple(converted), function.result)


def json_operation(binder: Binder, node: Tree, name: str, exprs: Sequence[Expr]) -> Call | None:
    """The function of this name over JSON operands; None if neither of them is JSON."""
    if not any(expr.type == JSON for expr in exprs):
        return None
    with binder.at(node):
        function = resolve(name, [expr.type for expr in exprs])
    return binder.applied(function, [node.this, node.expression], exprs)


def read_type(expr: Expr) -> SqlType | None:
    """The type as which an expression is read: a COUNTER is a BIGINT."""
    return BIGINT if expr.type is not None and expr.type.name == "COUNTER" else expr.type


def _blamed(nodes: Sequence[Tree], exprs: Sequence[Expr]) -> Tree:
    """The operand that an error points at: a literal is more often wrong than a column."""
    for node, expr in zip(nodes, exprs, strict=True):
        if isinstance(expr, Literal):
            return node
    return nodes[-1]


def _described(node: Tree) -> str:
    if isinstance(node, exp.AggFunc):
        return f"aggregate {node.sql_name().lower()}"
    if isinstance(node, exp.Window):
        return "a window function"
    if isinstance(node, exp.Query | exp.Subquery | exp.Exists):
        return "a subquery"
    if isinstance(node, exp.Func):
        return f"function {node.sql_name().lower()}"
    return str(node.key).upper()


_BINDERS: dict[type, tuple[Bind, frozenset[str]]] = {}


def binds(kind: type, *keys: str) -> Callable[[Bind], Bind]:
    """Register who binds this kind of node, and the arguments that it understands."""

    def register(bind: Bind) -> Bind:
        assert kind not in _BINDERS
        _BINDERS[kind] = bind, frozenset(keys)
        return bind

    return register
