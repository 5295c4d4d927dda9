"""What Murmur has of the features that SQLAlchemy's suite asks for.

OPEN are features that SQLAlchemy takes for absent unless it is told. CLOSED are those that Murmur
lacks, each with the reason, which the suite prints for what it skips. The rest is as SQLAlchemy
presumes it.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy.testing import exclusions
from sqlalchemy.testing.requirements import SuiteRequirements

OPEN = [
    "aggregate_order_by",
    "autocommit",
    "boolean_col_expressions",
    "check_constraint_reflection",
    "comment_reflection",
    "comment_reflection_full_unicode",
    "computed_columns",
    "computed_columns_default_persisted",
    "computed_columns_reflect_persisted",
    "computed_columns_stored",
    "create_or_replace_view",
    "create_table_as",
    "ctes",
    "ctes_on_dml",
    "ctes_with_values",
    "date_historic",
    "datetime_historic",
    "datetime_interval",
    "datetime_literals",
    "datetime_timezone",
    "datetime_timezone_historic",
    "dbapi_lastrowid",
    "delete_from",
    "except_",
    "expression_server_defaults",
    "fetch_expression",
    "fetch_first",
    "fetch_no_order_by",
    "fetch_offset_with_options",
    "fetch_ties",
    "fk_constraint_option_reflection_ondelete_restrict",
    "float_or_double_precision_behaves_generically",
    "foreign_key_constraint_name_reflection",
    "foreign_key_constraint_option_reflection_ondelete",
    "implicit_default_schema",
    "index_ddl_if_exists",
    "indexes_with_expressions",
    "infinity_floats",
    "inline_check_constraint_reflection",
    "intersect",
    "isolation_level",
    "json_type",
    "mod_operator_as_percent_sign",
    "non_updating_cascade",
    "nullsordering",
    "percent_schema_names",
    "precision_numerics_enotation_small",
    "precision_numerics_many_significant_digits",
    "precision_numerics_retains_significant_digits",
    "reflect_indexes_with_expressions",
    "reflects_pk_names",
    "regexp_match",
    "regexp_replace",
    "savepoints",
    "server_defaults",
    "skip_autocommit_rollback",
    "supports_bitwise_and",
    "supports_bitwise_not",
    "supports_bitwise_or",
    "supports_bitwise_shift",
    "supports_bitwise_xor",
    "supports_distinct_on",
    "table_ddl_if_exists",
    "table_value_constructor",
    "timestamp_microseconds",
    "tuple_in",
    "unicode_ddl",
    "unique_constraints_reflect_as_index",
    "update_from",
    "uuid_data_type",
    "views",
    "window_functions",
    "window_range_non_numeric",
]

CLOSED = {
    "schemas": "tables stand in the schema public",
    "temporary_tables": "there are no temporary tables",
    "temp_table_reflection": "there are no temporary tables",
    "on_update_cascade": "ON UPDATE CASCADE is not supported: keys do not change",
    "date_coerces_from_datetime": "types are strict: a datetime is no DATE",
    "array_type": "columns hold no arrays",
    "fetch_percent": "FETCH FIRST … PERCENT is not supported",
    "ctes_with_update_delete": "a WITH before UPDATE or DELETE cannot be correlated",
    "computed_columns_virtual": "generated columns are STORED",
    "window_range": "the suite presumes an order of rows without ORDER BY",
    "window_range_numeric": "the suite presumes an order of rows without ORDER BY",
    "reflect_indexes_with_ascdesc_as_expression": "DESC is told apart from the expression",
    "create_temp_table_as": "there are no temporary tables",
    "temp_table_comment_reflection": "there are no temporary tables",
    "temp_table_names": "there are no temporary tables",
    "has_temp_table": "there are no temporary tables",
    "temporary_views": "there are no temporary views",
    "foreign_keys_reflect_as_index": "a foreign key makes no index",
    "unique_index_reflect_as_unique_constraints": "a unique index is no constraint",
    "deferrable_fks": "foreign keys are checked when the statement ends",
    "repeated_column_foreign_keys": "a foreign key names each column once",
    "repeated_remote_col_foreign_keys": "a foreign key names each column once",
    "emulated_lastrowid": "RETURNING gives the keys",
    "emulated_lastrowid_even_with_sequences": "there are no sequences",
    "cross_schema_fk_reflection": "tables stand in the schema public",
    "default_schema_name_switch": "tables stand in the schema public",
    "schema_create_delete": "tables stand in the schema public",
    "reflect_tables_no_columns": "a table has a column",
    "constraint_comment_reflection": "COMMENT ON is not for constraints",
    "column_collation_reflection": "text compares by code point: there are no collations",
    "fk_constraint_option_reflection_ondelete_noaction": "NO ACTION is no option",
    "foreign_key_constraint_option_reflection_onupdate": "ON UPDATE is not supported",
    "fk_constraint_option_reflection_onupdate_restrict": "ON UPDATE is not supported",
    "index_reflects_included_columns": "indexes have no INCLUDE",
    "indexes_check_column_order": "for backends that report an index's order apart",
    "nvarchar_types": "there is no NVARCHAR: TEXT is Unicode",
    "time_timezone": "there is no TIME WITH TIME ZONE",
    "legacy_unconditional_json_extract": "a legacy feature, as the suite says",
    "json_deserializer_binary": "JSON is read as text, not bytes",
    "two_phase_transactions": "there are no two-phase transactions",
    "order_by_label_with_expression": "as in PostgreSQL, an expression of ORDER BY is of columns",
    "async_dialect": "murmur.aio is the asynchronous interface",
    "identity_columns": "an integer key fills itself, without options",
    "identity_columns_standard": "an integer key fills itself, without options",
    "reflect_table_options": "tables have no options",
    "materialized_views": "there are no materialized views",
    "materialized_views_reflect_pk": "there are no materialized views",
}


class Requirements(SuiteRequirements):
    """Read by the suite: one property for each feature."""

    def get_isolation_levels(self, config: Any) -> dict[str, Any]:
        return {"default": "SNAPSHOT", "supported": ["SNAPSHOT", "AUTOCOMMIT"]}


def _closed(reason: str) -> property:
    return property(lambda self: exclusions.skip_if(lambda: True, reason))


for _name in OPEN:
    setattr(Requirements, _name, property(lambda self: exclusions.open()))
for _name, _reason in CLOSED.items():
    setattr(Requirements, _name, _closed(_reason))
