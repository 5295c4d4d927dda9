"""Arrow tables as dataframes: Polars, and pandas where it is installed.

Everything has a counterpart in both except INTERVAL: neither has months. A column of intervals
becomes a duration in microseconds; if one of its values has months, that is a DataError, not a
guess at a month's length.

    INTERVAL '36 hours'   ->  Duration 1d 12h
    INTERVAL '1 month'    ->  DataError: column span ... CAST(span AS TEXT)
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from murmur.errors import DataError, NotSupportedError
from murmur.olap.arrow import array_to_values, sql_type_of


def to_polars(table: pa.Table) -> Any:
    """The table as a polars.DataFrame, without copying where Polars can share the memory."""
    import polars as pl

    _refuse_duplicates(table)
    return pl.from_arrow(with_durations(table))


def to_pandas(table: pa.Table) -> Any:
    """The table as a pandas.DataFrame. Raises NotSupportedError when pandas is not installed."""
    try:
        import pandas  # noqa: F401 - only to say clearly that it is missing
    except ImportError:
        raise NotSupportedError(
            "pandas is not installed; `pip install murmurdb[pandas]`, or use .pl() or .arrow()"
        ) from None
    return with_durations(table).to_pandas()


def with_durations(table: pa.Table) -> pa.Table:
    """The table with each INTERVAL column as duration[us]."""
    for at, field in enumerate(table.schema):
        if pa.types.is_interval(field.type):
            spans = array_to_values(table.column(at), sql_type_of(field))
            if any(getattr(span, "months", 0) for span in spans):
                raise DataError(
                    f"column {field.name} has intervals with months, which a dataframe's durations "
                    f'cannot hold; select CAST("{field.name}" AS TEXT), or use .arrow()'
                )
            table = table.set_column(
                at, field.with_type(pa.duration("us")), pa.array(spans, pa.duration("us"))
            )
    return table


def _refuse_duplicates(table: pa.Table) -> None:
    names = table.column_names
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(
            f"two columns are called {twice}, which Polars does not allow; name them with AS"
        )
