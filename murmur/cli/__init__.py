"""The command line: `murmur shell DIR`, `murmur sql DIR STATEMENT`, `murmur serve DIR`, and more.

`murmur --help` lists the verbs, `murmur VERB --help` explains one. Nothing here holds data or
decides about it: each verb opens a Swarm, asks it, and writes down the answer.

Starting up imports the standard library and errors.py; a verb loads what it needs.
"""

from murmur.cli.command import main

__all__ = ["main"]
