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
        ELSE json_array_length(x)::INTEGER END""",
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
    # Arrays.
    "murmur_array_length(l, d) AS CASE WHEN d = 1 THEN nullif(len(l), 0) END",
    "murmur_array_upper(l, d) AS CASE WHEN d = 1 THEN nullif(len(l), 0) END",
    "murmur_array_lower(l, d) AS CASE WHEN d = 1 AND len(l) > 0 THEN 1 END",
    "murmur_array_ndims(l) AS CASE WHEN len(l) > 0 THEN 1 END",
    "murmur_array_remove(l, v) AS list_filter(l, lambda x: x IS DISTINCT FROM v)",
    """murmur_array_replace(l, a, b) AS
        list_transform(l, lambda x: CASE WHEN x IS NOT DISTINCT FROM a THEN b ELSE x END)""",
    """murmur_array_positions(l, v) AS
        list_filter(range(1, len(l) + 1), lambda i: l[i] IS NOT DISTINCT FROM v)""",
    "murmur_array_fill(v, dims) AS list_transform(range(dims[1]), lambda i: v)",
    "murmur_generate_subscripts(l, d) AS unnest(CASE WHEN d = 1 THEN range(1, len(l) + 1) END)",
    "murmur_string_to_table(s, d) AS unnest(string_to_array(s, d))",
    # Regular expressions.
    "murmur_regexp_like(s, p) AS regexp_matches(s, p), (s, p, f) AS regexp_matches(s, p, f)",
    """murmur_regexp_count(s, p) AS len(regexp_extract_all(s, p)),
        (s, p, i) AS len(regexp_extract_all(substring(s, i), p))""",
    """murmur_regexp_substr(s, p) AS CASE
        WHEN regexp_matches(s, p) THEN regexp_extract(s, p) END""",
    """murmur_regexp_instr(s, p) AS CASE
        WHEN regexp_matches(s, p)
            THEN length(regexp_extract(s, '^(.*?)(?:' || p || ')', 1, 's')) + 1
        WHEN s IS NOT NULL AND p IS NOT NULL THEN 0 END""",
    "murmur_regexp_split_to_table(s, p) AS unnest(string_split_regex(s, p))",
    "murmur_only_row(l) AS unnest(CASE WHEN l IS NOT NULL THEN [l] END)",
    "murmur_regexp_zipped_1(a) AS unnest(list_transform(a, lambda x: [x]))",
    "murmur_regexp_zipped_2(a, b) AS unnest(list_transform(a, lambda x, i: [x, b[i]]))",
    "murmur_regexp_zipped_3(a, b, c) AS unnest(list_transform(a, lambda x, i: [x, b[i], c[i]]))",
    """murmur_regexp_zipped_4(a, b, c, d) AS
        unnest(list_transform(a, lambda x, i: [x, b[i], c[i], d[i]]))""",
    # JSON values as rows.
    "murmur_json_array_elements(x) AS unnest(json_extract(x, '$[*]'))",
    "murmur_json_array_elements_text(x) AS unnest(json_extract_string(x, '$[*]'))",
    "murmur_json_object_keys(x) AS unnest(json_keys(x))",
    "murmur_json_each(x) AS unnest(list_transform(json_keys(x), lambda k: x -> k))",
    "murmur_json_each_text(x) AS unnest(list_transform(json_keys(x), lambda k: x ->> k))",
    # Time.
    """murmur_justify(months, micros) AS
        to_months((months + micros / 2592000000000)::INTEGER)
        + to_microseconds(micros % 2592000000000)""",
    """murmur_interval_micros(i) AS datepart('day', i) * 86400000000 + datepart('hour', i)
        * 3600000000 + datepart('minute', i) * 60000000 + datepart('microsecond', i)""",
    """murmur_justify_days(i) AS murmur_justify(
        datepart('year', i) * 12 + datepart('month', i), murmur_interval_micros(i))""",
    """murmur_justify_interval(i) AS murmur_justify(0,
        (datepart('year', i) * 12 + datepart('month', i)) * 2592000000000
        + murmur_interval_micros(i))""",
    "murmur_justify_hours(i) AS i",
    "murmur_date_bin(stride, moment, origin) AS time_bucket(stride::INTERVAL, moment, origin)",
    # Numbers, and the rest.
    "murmur_scale(x) AS length(split_part(x::VARCHAR, '.', 2))",
    "murmur_min_scale(x) AS length(rtrim(split_part(x::VARCHAR, '.', 2), '0'))",
    "murmur_trim_scale(x) AS x",
    "murmur_sha256(x) AS unhex(sha256(x))",
    "murmur_quote_nullable(x) AS coalesce(murmur_quote_literal(x::VARCHAR), 'NULL')",
    "murmur_time_between(a, b) AS to_microseconds(epoch_us(a) - epoch_us(b))",
    """murmur_divide_span(i, n) AS
        to_months(trunc((datepart('year', i) * 12 + datepart('month', i)) / n)::INTEGER)
        + to_microseconds(round(((datepart('year', i) * 12 + datepart('month', i))::DOUBLE / n
            - trunc((datepart('year', i) * 12 + datepart('month', i)) / n)) * 2592000000000
            + murmur_interval_micros(i)::DOUBLE / n)::BIGINT)""",
    """murmur_exp(x) AS CASE
        WHEN isinf(exp(x)) AND NOT isinf(x::DOUBLE)
            THEN murmur_refused('DOUBLE out of range', x::VARCHAR)::DOUBLE
        ELSE exp(x) END""",
    """murmur_power(x, y) AS CASE
        WHEN isnan(pow(x, y)) AND NOT (isnan(x::DOUBLE) OR isnan(y::DOUBLE))
            THEN murmur_refused('a negative number raised to a non-integer power yields a complex '
                || 'result', x::VARCHAR)::DOUBLE
        WHEN isinf(pow(x, y)) AND NOT (isinf(x::DOUBLE) OR isinf(y::DOUBLE))
            THEN murmur_refused('DOUBLE out of range', x::VARCHAR)::DOUBLE
        ELSE pow(x, y) END""",
    """murmur_pg_typeof(x) AS CASE
        WHEN typeof(x) LIKE 'DECIMAL%' THEN 'numeric'
        WHEN typeof(x) = 'DOUBLE' THEN 'double precision'
        WHEN typeof(x) = 'FLOAT' THEN 'real'
        WHEN typeof(x) = 'VARCHAR' THEN 'text'
        WHEN typeof(x) = 'BLOB' THEN 'bytea'
        WHEN typeof(x) = '"NULL"' THEN 'unknown'
        WHEN typeof(x) IN ('TIME', 'TIMESTAMP') THEN lower(typeof(x)) || ' without time zone'
        ELSE lower(typeof(x)) END""",
    # A pattern of SIMILAR TO as a regular expression; what has no meaning there is taken as text.
    """murmur_similar(x VARCHAR, p VARCHAR) AS regexp_full_match(x, replace(replace(
        regexp_replace(p, '([.^$])', '\\\\\\1', 'g'), '%', '.*'), '_', '.'), 's')""",
)
