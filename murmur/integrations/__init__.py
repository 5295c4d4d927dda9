"""The tools that people already use, each with what it asks of a database.

    sqlalchemy/   create_engine("murmur:///data/alice"), ORM, reflection
    alembic.py    schema migrations through that dialect
    adbc.py       a connection that Arrow-aware tools read columns from
    ipython.py    %load_ext murmur, %sql and %%sql

murmur/polars.py (lazy scans) and murmur/aio.py (asyncio) stand on the same floor. All of them are
thin: what they do, they do through a swarm, its connections and its results. None is loaded before
it is used, and the libraries that they serve are optional.
"""
