"""Binding CREATE VIEW to the step that keeps a query under its name.

    CREATE VIEW busy (who) AS SELECT author FROM note GROUP BY author HAVING count(*) > 10
      -> CreateView("busy", "SELECT author FROM note ...", ("who",))

The text is kept as it was written and bound when the view is made, so that a view begins right;
later it means what the tables of the moment let it mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from murmur.errors import BindError
from murmur.sql.binder import Binding
from murmur.sql.binder_names import named_before_as, only, start_of, unbound, unsupported
from murmur.sql.ddl_actions import CreateView, Step
from murmur.sql.engines import plan_columnar
from murmur.sql.parser import text_after_as

Tree: TypeAlias = Any  # sqlglot's


def bind_create_view(tree: Tree, binding: Binding) -> Step:
    """The step of a CREATE [OR REPLACE] VIEW."""
    text = binding.text
    only(tree, text, "this", "kind", "replace", "expression")
    if binding.types:
        raise unsupported("a view takes no parameters", tree.expression, text)
    node, name, columns = named_before_as(tree.this, text)
    query_text = text_after_as(text)
    twice = _twice(columns)
    if twice is not None:
        raise unbound(f'column "{twice}" stands twice', node, text)
    query = plan_columnar(tree.expression, binding, "view")
    names = [column.name for column in query.columns]
    if len(columns) > len(names):
        raise BindError(f"the query has {len(names)} columns, CREATE VIEW names {len(columns)}")
    action = CreateView(name, query_text, columns, bool(tree.args.get("replace")))
    return Step(action, start_of(node))


def _twice(names: Sequence[str]) -> str | None:
    return next((name for i, name in enumerate(names) if name in names[:i]), None)
