"""Views in the SQLite file, for people: the sqlite3 shell decodes what kv holds, without our code.

    registers    key, value, written, replica, siblings              what `put` wrote
    rows         table_name, key, fields, written, replica, lives    what SQL wrote
    records      key, fields, written, replica, lives                rows, and what defines tables

    sqlite> SELECT key, CAST(value AS TEXT) FROM registers WHERE key LIKE 'db:%';
    sqlite> SELECT key, fields ->> 'body' FROM rows WHERE table_name = 'note';

A register's key is text, or x'…' if it was bytes; a row's is the primary key, hexadecimal, as
keycode.py encodes it. `fields` is JSON: atoms as they are stored, bytes hexadecimal, columns by
name where the name is known, else by number. Readers of Murmur see the winner, and so do these
views; `siblings` and `lives` count the elements, up to 15. Where a row was edited since it was
inserted, its counters are left out: they are sums over replicas (cell.py).

Cells are msgpack, which SQL has no function for, so a recursive query walks through the bytes: a
row of `token` is first placed (phase 0: where it begins, and its first nine bytes in hexadecimal),
then read (phase 1: its number, which may be a count or a length). The table `msgpack` says what
each first byte means.

Nothing in Murmur reads these views, or depends on them. They are the one place in kvcore that
knows what floors above put into keys.
"""

from __future__ import annotations

_DIGITS = "'123456789ABCDEF'"  # instr() in it is a digit's value, 0 where it is not found
_NAME = 1  # the field in which a definition has its name


def _unsigned(text: str, first: int, size: int) -> str:
    """The big-endian number in so many bytes of a hexadecimal text, from a digit on."""
    shifts = [4 * at for at in reversed(range(2 * size))]
    return " | ".join(
        f"(instr({_DIGITS}, substr({text}, {first + at}, 1)) << {shift})"
        for at, shift in enumerate(shifts)
    )


def _power(exponent: str) -> str:
    """2.0 to an exponent from 0 to 1023."""
    factors = [
        f"CASE ({exponent}) >> {bit} & 1 WHEN 1 THEN {float(2 ** (1 << bit))!r} ELSE 1.0 END"
        for bit in range(10)
    ]
    return "(" + " * ".join(factors) + ")"


_NEXT = "p + 1 + argument + CASE WHEN phase = 1 AND kind IN ('text', 'blob') THEN number ELSE 0 END"


def _tokens(value: str, start: str, counted: str) -> str:
    """A recursive query over the tokens of a blob; `counted` is the ordinal of a map's head."""
    return f"""
    token(phase, n, p, peek, number, before, count) AS (
        SELECT 0, 0, {start}, hex(substr({value}, {start}, 9)), 0, 0, 0
        UNION ALL
        SELECT 1 - phase, n + phase,
            CASE phase WHEN 0 THEN p ELSE {_NEXT} END,
            CASE phase WHEN 0 THEN peek ELSE hex(substr({value}, {_NEXT}, 9)) END,
            CASE WHEN phase = 1 THEN 0 ELSE CASE argument WHEN 0 THEN inline
                WHEN 1 THEN {_unsigned("peek", 3, 1)}
                WHEN 2 THEN {_unsigned("peek", 3, 2)}
                WHEN 4 THEN {_unsigned("peek", 3, 4)}
                ELSE {_unsigned("peek", 3, 8)} END END,
            CASE phase WHEN 0 THEN before ELSE number END,
            CASE WHEN phase = 1 AND n = {counted} THEN number ELSE count END
        FROM token JOIN msgpack ON code = substr(peek, 1, 2)
    )"""


_EXPONENT = "(number >> 52 & 2047)"
_MANTISSA = f"(number & {(1 << 52) - 1}) / {float(1 << 52)!r}"
_REAL = f"""CASE {_EXPONENT}
            WHEN 2047 THEN CASE WHEN number & {(1 << 52) - 1} THEN '"NaN"'
                WHEN number < 0 THEN '"-Infinity"' ELSE '"Infinity"' END
            ELSE printf('%!.17g', CASE WHEN number < 0 THEN -1.0 ELSE 1.0 END * CASE
                WHEN {_EXPONENT} = 0 THEN {_MANTISSA} / {_power("1022")}
                WHEN {_EXPONENT} >= 1023 THEN (1.0 + {_MANTISSA}) * {_power(f"{_EXPONENT} - 1023")}
                ELSE (1.0 + {_MANTISSA}) / {_power(f"1023 - {_EXPONENT}")} END) END"""


def _atom(value: str) -> str:
    """A token as JSON."""
    return f"""CASE kind
        WHEN 'null' THEN 'null'
        WHEN 'bool' THEN CASE number WHEN 1 THEN 'true' ELSE 'false' END
        WHEN 'int' THEN CAST(number AS TEXT)
        WHEN 'signed' THEN CAST(CASE WHEN argument IN (1, 2, 4)
            THEN number - (number >> 8 * argument - 1 << 8 * argument) ELSE number END AS TEXT)
        WHEN 'real' THEN {_REAL}
        WHEN 'text' THEN json_quote(CAST(substr({value}, p + 1 + argument, number) AS TEXT))
        WHEN 'blob' THEN json_quote(hex(substr({value}, p + 1 + argument, number)))
        END"""


# Tokens of a record begin at byte 3. One life: stamp, replica, seq, fields; several, or one that
# was edited: array of lives, life, then the same. `head` is the ordinal of the map of fields.
_HEAD = "CASE substr(value, 2, 1) WHEN x'01' THEN 3 ELSE 5 END"


def _fields(name: str) -> str:
    """The fields of the record in `value` as JSON; `name` is made of `before`, its number."""
    return f"""(WITH RECURSIVE {_tokens("value", "3", _HEAD)}
    SELECT '{{' || coalesce(group_concat(json_quote({name}) || ': ' || {_atom("value")}, ', '), '')
        || '}}'
    FROM token JOIN msgpack ON code = substr(peek, 1, 2)
    WHERE phase = 1 AND n > {_HEAD} AND CASE
        WHEN n <= {_HEAD} + 2 * count THEN (n - {_HEAD}) % 2 = 0
        ELSE substr(value, 2, 1) = x'01' AND n > {_HEAD} + 2 * count + 1 AND (n - {_HEAD}) % 2 = 1
        END)"""


def _time(stamp: str) -> str:
    """A stamp's wall clock."""
    return f"strftime('%Y-%m-%d %H:%M:%f', (({stamp}) >> 16) / 1000.0, 'unixepoch')"


def _winner(first: str) -> str:
    """When and by whom the winner was written: msgpack cf | stamp, c4 08 | replica, from a byte."""
    stamp = f"hex(substr(value, {first} + 1, 8))"
    return f"""
    CASE substr(value, {first}, 1) WHEN x'cf' THEN {_time(_unsigned(stamp, 1, 8))} END AS written,
    CASE substr(value, {first} + 9, 2) WHEN x'c408'
        THEN lower(hex(substr(value, {first} + 11, 8))) END AS replica"""


def _count(first: int) -> str:
    """How many elements an array of less than 16 has."""
    return f"instr({_DIGITS}, substr(hex(substr(value, {first}, 1)), 2, 1))"


_FORMER = "CAST(before AS TEXT)"  # the number of a field
_COLUMN = "printf('%08X', before)"
_NAMED = (
    "coalesce((SELECT name FROM defined WHERE table_id = lower(hex(substr(kv.key, 3, 8))) "
    f"AND item = '01' || {_COLUMN}), {_FORMER})"
)
_SINGLE = "substr(value, 1, 1) = x'01'"  # a register without siblings
_SIBLING = f"""(WITH RECURSIVE {_tokens("value", "2", "-1")}
    SELECT substr(value, p + 1 + argument, number)
    FROM token JOIN msgpack ON code = substr(peek, 1, 2) WHERE phase = 1 AND n = 5)"""
_WINNER_OF_REGISTER = f"""
    CASE WHEN {_SINGLE} THEN {_time(_unsigned("hex(substr(value, 2, 8))", 1, 8))}
        ELSE {_time(_unsigned("hex(substr(value, 5, 8))", 1, 8))} END AS written,
    lower(hex(CASE WHEN {_SINGLE} THEN substr(value, 10, 8) ELSE substr(value, 15, 8) END))
        AS replica"""
_WINNER = _winner("(CASE substr(value, 2, 1) WHEN x'01' THEN 3 ELSE 5 END)")
_LIVES = f"CASE substr(value, 2, 1) WHEN x'01' THEN 1 ELSE {_count(3)} END AS lives"

_MSGPACK: list[tuple[int, str, int, int]] = [
    *((code, "int", code, 0) for code in range(0x80)),
    *((code, "map", code - 0x80, 0) for code in range(0x80, 0x90)),
    *((code, "array", code - 0x90, 0) for code in range(0x90, 0xA0)),
    *((code, "text", code - 0xA0, 0) for code in range(0xA0, 0xC0)),
    (0xC0, "null", 0, 0),
    (0xC2, "bool", 0, 0),
    (0xC3, "bool", 1, 0),
    *((0xC4 + at, "blob", 0, 1 << at) for at in range(3)),
    (0xCB, "real", 0, 8),
    *((0xCC + at, "int", 0, 1 << at) for at in range(4)),
    *((0xD0 + at, "signed", 0, 1 << at) for at in range(4)),
    *((0xD9 + at, "text", 0, 1 << at) for at in range(3)),
    (0xDC, "array", 0, 2),
    (0xDD, "array", 0, 4),
    (0xDE, "map", 0, 2),
    (0xDF, "map", 0, 4),
    *((code, "int", code - 0x100, 0) for code in range(0xE0, 0x100)),
]

VIEWS = f"""
CREATE TABLE msgpack (code TEXT PRIMARY KEY, kind TEXT, inline INTEGER, argument INTEGER)
    WITHOUT ROWID;
INSERT INTO msgpack VALUES {
    ", ".join(
        f"('{code:02X}', '{kind}', {inline}, {argument})"
        for code, kind, inline, argument in _MSGPACK
    )
};

CREATE VIEW registers AS SELECT
    CASE substr(key, 2, 1) WHEN x'01' THEN CAST(substr(key, 3) AS TEXT)
        ELSE 'x''' || lower(hex(substr(key, 3))) || '''' END AS key,
    CASE WHEN {_SINGLE} THEN substr(value, 26) ELSE {_SIBLING} END AS value,
    {_WINNER_OF_REGISTER},
    CASE WHEN {_SINGLE} THEN 1 ELSE {_count(2)} END AS siblings
FROM kv WHERE key >= x'01' AND key < x'02';

CREATE VIEW records AS SELECT
    lower(hex(key)) AS key,
    {_fields(_FORMER)} AS fields,
    {_WINNER},
    {_LIVES}
FROM kv WHERE key >= x'02' AND key < x'03';

CREATE VIEW rows AS
WITH defined AS MATERIALIZED (
    SELECT substr(key, 5, 16) AS table_id, upper(substr(key, 21)) AS item,
        json_extract(fields, '$."{_NAME}"') AS name
    FROM records WHERE key >= '0201' AND key < '0202'
)
SELECT
    (SELECT name FROM defined WHERE table_id = lower(hex(substr(kv.key, 3, 8))) AND item = '00')
        AS table_name,
    lower(hex(substr(key, 11))) AS key,
    {_fields(_NAMED)} AS fields,
    {_WINNER},
    {_LIVES}
FROM kv WHERE key >= x'0202' AND key < x'0203';
"""
