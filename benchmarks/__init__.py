"""Murmur beside SQLite, on the same work in the same run."""
