# ruff: noqa: E501 - pieces of SQL are easier to read whole
"""Random SELECTs that call functions and operators under PostgreSQL's names, on any of their values.

    Functions(random.Random(7)).query()
      ->  Query("SELECT lpad(r1.c, 3, 'x') AS c0 FROM t AS r1 WHERE jsonb_build_object(...) @> ...")

DuckDB by itself may give other answers to these: they are for the row engine against the columnar
one. {i}, {t}, {d}, {n} and {c} stand for a whole number, a text, a date, a DECIMAL, a condition.
"""

from __future__ import annotations

import random
import re

from tests.sql.statements import Queries, Scope

CALLS = {
    "int": """
        extract(year FROM {d})::int | extract(doy FROM {d})::int | extract(isodow FROM {d})::int
        extract(week FROM {d} + INTERVAL '{k} day')::int | ({d} - {d}) | ({i} & {i}) | ({i}|{i}) | ({i} # {i}) | (~{i})
        mod({i}, {k}) | div({i}, {k})::int | sign({i})::int | greatest({i}, {i}, {k}) | least({i}, NULL, {i})
        strpos({t}, 'x') | position('y' in {t}) | ascii({t}) | octet_length({t}) | bit_length({t})
        length(to_char({i}, '999')) | gcd({i}, {k}) | ({i} + {k})::smallint::int | num_nulls({i}, {t}, {d})
        round({n})::int | ceil({n})::int | floor({n})::int | trunc({n})::int | ({c})::int | array_length(ARRAY[{i}, {k}], 1)
        (jsonb_build_object('k', {i}) ->> 'k')::int | jsonb_array_length(jsonb_build_array({i}, {t})) | length({t}) / {k}
        CASE WHEN {t} LIKE 'x%' THEN {i} END | width_bucket({i}, -5, 5, {k}) | nullif({i}, {i})
    """,
    "text": """
        lpad({t}, {k}, 'ab') | rpad({t}, {k}) | left({t}, {k}) | left({t}, -1) | right({t}, {k}) | right({t}, -2) | initcap({t}) | reverse({t})
        repeat({t}, {k}) | translate({t}, 'xy', 'a') | split_part({t}, 'x', {k}) | split_part({t}, ' ', -1) | overlay({t} placing 'QQ' from {k} for 1)
        concat({t}, {i}, {t}) | concat_ws('-', {t}, NULL, {i}) | md5({t}) | ltrim({t}, 'x') | rtrim({t}, 'y') | btrim({t}, 'xy')
        substring({t} from {k} for 2) | substring({t}, {i}, {k}) | to_char({d}, 'YYYY-MM-DD Dy Mon') | to_char({d}, 'FMDDth "of" FMMonth, IYYY-IW, Q, J')
        to_char({n}, 'FM990.00') | to_char({i}, 'S000') | to_char({n}, '99.9MI') | format('%s|%I|%L', {i}, coalesce({t}, ''), {t}) | format('%5s%-4s|', {t}, {i})
        quote_literal({t}) | quote_nullable({t}) | quote_ident({t}) | ({d})::text | ({i})::text || {t} | ({n})::text | ({c})::text | ({i})::varchar(1)
        (jsonb_build_object('a', {t}, 'b', {n}) ->> 'a') | jsonb_build_array({t}, {i}, {n}, {d}, {c})::text | to_jsonb({t})::text | coalesce({t}, {t}, 'z')
        (jsonb_set('{{"a": [1, 2]}}', '{{a,{k}}}', to_jsonb({i})))::text | ('{{"a": 1}}'::jsonb || jsonb_build_object('b', {t}))::text | encode(convert_to({t}, 'utf-8'), 'hex')
        date_trunc('month', {d} + INTERVAL '{k} month')::text | ({d} + {k})::text | replace({t}, 'y', '') | chr(64 + {k}) | upper({t}) || lower({t}) | to_hex({k})
    """,
    "decimal": """
        ({n} + {n}) | ({n} - {i}) | ({n} * {k}) | round({n}, 1) | trunc({n}, 1) | abs({n}) | (- {n}) | mod({n}, {k}) | ({n} % {k}) | greatest({n}, {n}) | coalesce({n}, 0.25)
        to_number(to_char({n}, '990.99'), '990.99')
    """,
    "date": """
        ({d} + {k}) | ({d} - {k}) | make_date(2024, {k}, 28) | ({d} + INTERVAL '{k} month')::date | date_trunc('week', {d})::date | to_date(to_char({d}, 'DD MM YYYY'), 'DD MM YYYY')
        (CASE WHEN {c} THEN {d} END) | greatest({d}, {d}) | coalesce({d}, DATE '2024-02-29') | (({d})::timestamp + INTERVAL '{k} day 3 hours')::date
    """,
    "condition": """
        {t} ILIKE '%x%' | {t} LIKE ANY (ARRAY['x%', '%y']) | {i} = ANY (ARRAY[1, {k}, NULL]) | {i} <> ALL (ARRAY[{k}, 9]) | {t} IS DISTINCT FROM {t} | {n} BETWEEN SYMMETRIC 2 AND -1
        ({i}, {t}) IS NULL | ROW({i}, {t}) IS NOT NULL | ({i}, {k}) < ({i}, 2) | jsonb_build_object('a', {i}, 'b', {t}) @> jsonb_build_object('a', {k}) | {d} BETWEEN DATE '2024-01-28' AND DATE '2024-03-28'
        jsonb_exists(jsonb_build_object(concat({t}, 'k'), 1), 'xk') | starts_with({t}, 'x') | ({c}) IS NOT TRUE | ({c}) IS FALSE | ({c}) = ({c}) | ({c}) IS NOT DISTINCT FROM ({c}) | ({t}) % 'xy yx'::text | {t} <= {t}
        ({d}, {d} + 3) OVERLAPS (DATE '2024-02-27', INTERVAL '2 days') | {i} > ALL (SELECT k FROM v WHERE k < {k}) | {i} = ANY (SELECT a FROM u) | NOT {t} LIKE '_%' | {t} SIMILAR TO '(x|y)%'
    """,
}
_TEMPLATES = {
    kind: [each for line in text.strip().splitlines() for each in line.strip().split(" | ")]
    for kind, text in CALLS.items()
}
_SLOT = re.compile(r"\{\{|\}\}|\{(\w)\}")


class Functions(Queries):
    """Queries of which most expressions are calls."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng, shared=False)

    def _call(self, kind: str, scope: Scope, depth: int) -> str:
        kinds = {"i": "int", "t": "text", "d": "date", "n": "decimal"}

        def slot(found: re.Match[str]) -> str:
            match found[1]:
                case None:
                    return found[0][0]
                case "k":
                    return str(self.rng.randint(1, 4))
                case "c":
                    return self.condition(scope, 0)
            return self.typed(kinds[found[1]], scope, depth - 1)

        return _SLOT.sub(slot, self.rng.choice(_TEMPLATES[kind]))

    def typed(self, kind: str, scope: Scope, depth: int = 2) -> str:
        if depth > 0 and self.rng.random() < 0.6:
            return self._call(kind, scope, depth)
        match kind:
            case "date":
                return self.date(scope, max(depth, 0))
            case "decimal":
                return self.decimal(scope, max(depth, 0))
        return super().typed(kind, scope, max(depth, 0))

    def expression(self, scope: Scope, *, depth: int = 2, columns: bool = False) -> str:
        while True:
            text = self.typed(
                self.rng.choice(("int", "text", "text", "decimal", "date")), scope, depth
            )
            if not columns or ("." in text and "SELECT" not in text):
                return text

    def condition(self, scope: Scope, depth: int = 2) -> str:
        if depth > 0 and self.rng.random() < 0.5:
            return self._call("condition", scope, depth)
        return super().condition(scope, depth)
