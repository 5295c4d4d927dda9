"""Murmur: a replicated database that you import."""
