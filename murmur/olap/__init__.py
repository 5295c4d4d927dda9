"""Analytics: tables as Arrow, wide queries on DuckDB, results as dataframes, history from the log.

    arrow.py      rows to Arrow and back                    loads pyarrow
    cache.py      the tables' columns, kept                 loads pyarrow
    duck.py       the columnar engine                       loads duckdb
    frames.py     Polars and pandas                         loads polars
    history.py    every version of every row                loads pyarrow
    feed.py       the log up to a snapshot
    ipc.py        Arrow for other processes                 loads pyarrow

The modules are imported one by one, on first use: they load what is heavy.
"""
