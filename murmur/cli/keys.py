r"""`murmur put`, `get`, `delete` and `scan`: keys and values in scripts.

A key is text, or with --hex bytes. A value is bytes: `put` takes an argument as UTF-8 or reads
stdin, `get` writes exactly the bytes (and a line break behind them if stdout is a terminal).

`scan` writes a line for each key: key, tab, value. Backslashes and control characters are escaped
(\\ \t \n \r \u0007); bytes that are no such text are \x and hexadecimal digits. So each line reads
back as one pair, and a text key never looks like a bytes key.
"""

from __future__ import annotations

import os
import re
import sys
from itertools import islice

from murmur.cli.directory import opened
from murmur.cli.failure import DONE, FAILED, NOT_BEGUN, Fault, complain
from murmur.cli.output import Output

Key = str | bytes


def run_put(path: str, key: str, value: str | None, *, hexadecimal: bool) -> int:
    """Set a value, from the arguments or from stdin."""
    parsed = parse_key(key, hexadecimal=hexadecimal)
    data = os.fsencode(value) if value not in (None, "-") else sys.stdin.buffer.read()
    with opened(path, create=True) as swarm:
        swarm.put(parsed, data)
    return DONE


def run_get(path: str, key: str, *, hexadecimal: bool) -> int:
    """Write the value of a key."""
    parsed = parse_key(key, hexadecimal=hexadecimal)
    with opened(path) as swarm:
        value = swarm.get(parsed)
    if value is None:
        complain(f"no value under {key}")
        return FAILED
    output = Output(sys.stdout)
    output.raw.write(value)
    if output.is_terminal:
        output.text("\n")
    output.flush()
    return DONE


def run_delete(path: str, key: str, *, hexadecimal: bool) -> int:
    """Delete a key."""
    parsed = parse_key(key, hexadecimal=hexadecimal)
    with opened(path) as swarm:
        if swarm.delete(parsed):
            return DONE
    complain(f"no value under {key}")
    return FAILED


def run_scan(
    path: str,
    prefix: str | None,
    *,
    start: str | None,
    stop: str | None,
    reverse: bool,
    limit: int | None,
    keys_only: bool,
    hexadecimal: bool,
) -> int:
    """Write keys and values in key order."""
    bounds = [
        None if text is None else parse_key(text, hexadecimal=hexadecimal)
        for text in (prefix, start, stop)
    ]
    output = Output(sys.stdout)
    with (
        opened(path) as swarm,
        swarm.scan(bounds[0], start=bounds[1], stop=bounds[2], reverse=reverse) as pairs,
    ):
        for key, value in islice(pairs, limit):
            output.data(escape(key) + ("\n" if keys_only else f"\t{escape_value(value)}\n"))
        output.flush()
    return DONE


def parse_key(text: str, *, hexadecimal: bool) -> Key:
    """The key that an argument stands for."""
    if not hexadecimal:
        return text
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise Fault(f"{text} is not hexadecimal", NOT_BEGUN) from None


def escape(key: Key) -> str:
    """A key on one line."""
    return "\\x" + key.hex() if isinstance(key, bytes) else _ESCAPED.sub(_escape, key)


def escape_value(value: bytes) -> str:
    """A value on one line: as text, if it is one."""
    try:
        return escape(value.decode())
    except UnicodeDecodeError:
        return escape(value)


_ESCAPED = re.compile(r"[\\\x00-\x1f\x7f-\x9f]")
_NAMED = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}


def _escape(match: re.Match[str]) -> str:
    return _NAMED.get(match[0]) or f"\\u{ord(match[0]):04x}"
