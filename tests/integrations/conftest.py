"""SQLAlchemy finds the dialect by its entry point, which an older installation does not have."""

from __future__ import annotations

from sqlalchemy.dialects import registry

collect_ignore = ["alchemy_suite"]  # test_sqlalchemy_suite.py runs it, in a process of its own

registry.register("murmur", "murmur.integrations.sqlalchemy", "MurmurDialect")
