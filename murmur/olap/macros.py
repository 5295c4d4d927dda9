"""Functions that DuckDB is taught: PostgreSQL's meaning where DuckDB's own function has another.

    substr('hello', -1, 4)      'he'; DuckDB counts from the end

The columnar binder's text calls them (sql/columnar_rewrites.py), a statement cannot: their names
are reserved. Where a macro has several bodies, the type of the argument chooses. Bodies see to
NULLs with CASE: greatest and least leave them out.
"""

from __future__ import annotations

from collections.abc import Sequence

MACROS: Sequence[str] = (
    # A conversion that fails: error() would make volatile what it stands in.
    "murmur_refused(message, x) AS CAST('murmur: ' || message || left(x, 0) AS BIGINT)::VARCHAR",
    "murmur_length(x VARCHAR) AS length(x), (x BLOB) AS octet_length(x)",
    "murmur_octet_length(x VARCHAR) AS strlen(x), (x BLOB) AS octet_length(x)",
    "murmur_bit_length(x VARCHAR) AS bit_length(x), (x BLOB) AS 8 * octet_length(x)",
    "murmur_to_hex(x INTEGER) AS lower(hex(x::BIGINT & 4294967295)), (x BIGINT) AS lower(hex(x))",
    """murmur_substr
        (s VARCHAR, a BIGINT) AS substring(s, CASE WHEN a < 1 THEN 1 ELSE a END),
        (s VARCHAR, a BIGINT, n BIGINT) AS CASE
            WHEN n < 0 THEN murmur_refused('negative substring length not allowed', s)
            WHEN a >= 1 THEN substring(s, a, n)
            WHEN a + n <= 1 THEN left(s, 0)
            ELSE substring(s, 1, a + n - 1) END,
        (s BLOB, a BIGINT) AS unhex(substring(hex(s), CASE WHEN a < 1 THEN 1 ELSE 2 * a - 1 END)),
        (s BLOB, a BIGINT, n BIGINT) AS CASE
            WHEN n < 0 THEN murmur_refused('negative substring length not allowed', hex(s))::BLOB
            WHEN a >= 1 THEN unhex(substring(hex(s), 2 * a - 1, 2 * n))
            WHEN a + n <= 1 THEN unhex(left(hex(s), 0))
            ELSE unhex(substring(hex(s), 1, 2 * (a + n - 1))) END""",
    """murmur_split_part(s, d, n) AS CASE
        WHEN n = 0 THEN murmur_refused('field position must not be zero', s)
        ELSE split_part(s, d, n) END""",
    """murmur_chr(n) AS CASE
        WHEN n = 0 THEN murmur_refused('null character not permitted', n::VARCHAR)
        ELSE chr(n) END""",
    """murmur_integer(x VARCHAR) AS CASE
        WHEN x IS NULL OR regexp_full_match(x, '\\s*[+-]?[0-9]+\\s*') THEN x
        ELSE 'murmur: invalid input syntax for type integer: "' || x || '"' END""",
    """murmur_boolean(x VARCHAR) AS CASE
        WHEN lower(trim(x)) IN ('t', 'tr', 'tru', 'true', 'y', 'ye', 'yes', 'on', '1') THEN 'true'
        WHEN lower(trim(x)) IN ('f', 'fa', 'fal', 'fals', 'false', 'n', 'no', 'of', 'off', '0')
            THEN 'false'
        ELSE 'murmur: invalid input syntax for type boolean: "' || x || '"' END""",
    """murmur_float_text(x) AS CASE
        WHEN isnan(x) THEN 'NaN'
        WHEN isinf(x) THEN CASE WHEN x > 0 THEN 'Infinity' ELSE '-Infinity' END
        ELSE regexp_replace(x::VARCHAR, '\\.0$', '') END""",
    """murmur_json_typeof(x JSON) AS CASE json_type(x)
        WHEN 'OBJECT' THEN 'object' WHEN 'ARRAY' THEN 'array' WHEN 'VARCHAR' THEN 'string'
        WHEN 'BOOLEAN' THEN 'boolean' WHEN 'NULL' THEN 'null'
        ELSE CASE WHEN x IS NULL THEN NULL ELSE 'number' END END""",
    """murmur_json_array_length(x JSON) AS CASE
        WHEN json_type(x) <> 'ARRAY'
            THEN murmur_refused('cannot get array length of a non-array', json_type(x))::BIGINT
        ELSE json_array_length(x) END""",
    """murmur_quote_literal(x VARCHAR) AS CASE
        WHEN contains(x, '\\')
            THEN 'E''' || replace(replace(x, '\\', '\\\\'), '''', '''''') || ''''
        ELSE '''' || replace(x, '''', '''''') || '''' END""",
    """murmur_quote_ident(x VARCHAR) AS CASE
        WHEN regexp_full_match(x, '[a-z_][a-z0-9_]*') THEN x
        ELSE '"' || replace(x, '"', '""') || '"' END""",
    """murmur_width_bucket(x, low, high, n) AS CASE
        WHEN n <= 0 THEN murmur_refused('count must be greater than zero', n::VARCHAR)::INTEGER
        WHEN low = high
            THEN murmur_refused('lower bound cannot equal upper bound', n::VARCHAR)::INTEGER
        WHEN low < high AND x < low OR low > high AND x > low THEN 0
        WHEN low < high AND x >= high OR low > high AND x <= high THEN n + 1
        ELSE (floor((x - low) * n / ((high - low)::DOUBLE)) + 1)::INTEGER END""",
    # A pattern of SIMILAR TO as a regular expression; what has no meaning there is taken as text.
    """murmur_similar(x VARCHAR, p VARCHAR) AS regexp_full_match(x, replace(replace(
        regexp_replace(p, '([.^$])', '\\\\\\1', 'g'), '%', '.*'), '_', '.'), 's')""",
)
