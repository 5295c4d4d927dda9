"""Binding ~ and its kin on the row engine, for the expressions that it knows.

    b ~ '^a'   ->  regexp_like(b, '^a')         b !~* 'x'  ->  NOT regexp_like(b, 'x', 'i')

The expression is a literal, so that it is known which engine can run it (regular_expressions.py).
SIMILAR TO has become one already (normal_form.py).
"""

from __future__ import annotations

from sqlglot import exp

from murmur.catalog.types import BOOLEAN, TEXT
from murmur.errors import TypeMismatch
from murmur.sql.binder_scope import Binder, Tree, binds
from murmur.sql.expressions import Call, Expr, Function, Literal
from murmur.sql.regular_expressions import matcher

REGEXP = "regexp_like"


@binds(exp.RegexpLike, "this", "expression", "flag")
@binds(exp.RegexpILike, "this", "expression")
def _regexp(binder: Binder, node: Tree) -> Expr:
    pattern, flag = node.expression, node.args.get("flag")
    insensitive = isinstance(node, exp.RegexpILike)
    if flag is not None:
        if not flag.is_string or flag.this not in ("", "i", "c"):
            raise binder.columnar(node, "flags of a regular expression")
        insensitive = flag.this == "i"
    if not isinstance(pattern, exp.Literal) or not pattern.is_string:
        raise binder.columnar(node, "a regular expression that is no literal")
    matches = matcher(pattern.this, ignore_case=insensitive)
    if matches is None:
        raise binder.columnar(node, "a regular expression of RE2's")
    operand = binder.bind(node.this)
    if operand.type is None:
        operand = binder.convert(node.this, operand, TEXT)
    elif not operand.type.is_text:
        message = f"a regular expression is about text, not {operand.type}; cast it to TEXT"
        raise binder.failure(node.this, TypeMismatch, message)
    arguments: tuple[Expr, ...] = (operand, Literal(pattern.this, TEXT))
    if insensitive:
        arguments += (Literal("i", TEXT),)
    function = Function(REGEXP, (TEXT,) * len(arguments), BOOLEAN, lambda text, *_: matches(text))
    return Call(function, arguments, BOOLEAN)
