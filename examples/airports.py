"""Three airports keep one database, apart and together. This is `make demo`.

Three processes, one replica each, are named after New York's airports. They meet once to share the
reference tables, then the line goes down: each loads its own airport's flights and weather, and all
of them edit the same rows. When they meet again they converge, and the result is queried, explained
and drawn.

    python examples/airports.py [--out DIRECTORY]

Exits with 1 if anything does not converge.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from threading import Thread
from typing import Any

from airports_data import AIRPORTS, SCHEMA, insertion, rows

BATCH = 2000  # rows in one transaction
MEETING_S = 150.0

EDITS: Mapping[str, Sequence[tuple[str, list[Any]]]] = {
    "ewr": [
        ("UPDATE airline SET name = ? WHERE carrier = 'UA'", ["United (says Newark)"]),
        ("UPDATE airline SET votes = votes + ? WHERE carrier = 'B6'", [3]),
        ("DELETE FROM airport WHERE faa = 'BLD'", []),
        ("INSERT INTO airline (carrier, name) VALUES ('ZZ', ?)", ["Zeppelin of Newark"]),
    ],
    "jfk": [
        ("UPDATE airline SET name = ? WHERE carrier = 'UA'", ["United (says Kennedy)"]),
        ("UPDATE airline SET votes = votes + ? WHERE carrier = 'B6'", [5]),
        ("UPDATE airport SET name = ? WHERE faa = 'BLD'", ["Boulder City, renamed by Kennedy"]),
        ("INSERT INTO airline (carrier, name) VALUES ('ZZ', ?)", ["Zeppelin of Queens"]),
    ],
    "lga": [
        ("UPDATE airline SET name = ? WHERE carrier = 'UA'", ["United (says LaGuardia)"]),
        ("UPDATE airline SET votes = votes + ? WHERE carrier = 'B6'", [7]),
        ("UPDATE airline SET votes = votes - ? WHERE carrier = 'B6'", [1]),
    ],
}

DELAYS = """
SELECT a.name AS airline,
       count(*) AS flights,
       round(avg(f.dep_delay), 1) AS delay,
       round(avg(f.dep_delay) FILTER (WHERE w.visib < 3), 1) AS in_fog,
       round(avg(f.dep_delay) FILTER (WHERE w.precip > 0), 1) AS in_rain
FROM flight f
JOIN airline a ON a.carrier = f.carrier
LEFT JOIN weather w ON w.origin = f.origin AND w.time_hour = f.time_hour
GROUP BY a.name HAVING count(*) > 5000 ORDER BY delay DESC"""

ROUTES = """
SELECT f.origin, p.name AS destination, count(*) AS flights, round(avg(f.arr_delay), 1) AS delay
FROM flight f JOIN airport p ON p.faa = f.dest
GROUP BY f.origin, p.name ORDER BY flights DESC LIMIT 8"""

ONE_HOUR = """
SELECT carrier, flight, dest, dep_delay FROM flight
WHERE origin = 'JFK' AND time_hour = '2013-07-04T12:00:00Z' ORDER BY carrier LIMIT 5"""


# One replica: a child process that does what it reads from its standard input -------------------


def replica(name: str, directory: str) -> None:
    """Serve commands, one JSON object a line, until the input ends."""
    import murmur

    swarm = murmur.open(directory, group="nyc", name=name, transport="quic")
    try:
        for line in sys.stdin:
            command = json.loads(line)
            try:
                answer = obey(swarm, name, command)
            except murmur.Error as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps(answer, default=str), flush=True)
            if command["do"] == "close":
                break
    finally:
        swarm.close()


def obey(swarm: Any, name: str, command: Mapping[str, Any]) -> dict[str, Any]:
    """Do one command; what the parent wants to know of it."""
    match command["do"]:
        case "create":
            for statement in SCHEMA:
                swarm.sql(statement)
        case "reference":
            for table in ("airline", "airport", "plane"):
                swarm.execute_many(insertion(table), rows(table))
        case "load":
            return {"rows": load(swarm, name)}
        case "edit":
            for text, parameters in EDITS[name]:
                swarm.sql(text, parameters)
            swarm.put("config:gate", f"set by {name}".encode())
        case "ticket":
            return {"ticket": swarm.ticket()}
        case "connect":
            swarm.connect_peer(command["ticket"])
        case "wait":
            swarm.wait_for(timeout=MEETING_S)
        case "vector":
            return {"vector": swarm.version_vector}
        case "hash":
            return {"hash": swarm.state_hash()}
        case "sql":
            return {"text": str(swarm.sql(command["text"], command.get("parameters")))}
        case "plan":
            lines = swarm.sql("EXPLAIN " + command["text"])
            return {"text": "\n".join(f"   {line}" for (line,) in lines)}
        case "plot":
            return {"text": plot(swarm, command["path"])}
        case "close":
            pass
        case other:
            raise ValueError(other)
    return {}


def load(swarm: Any, name: str) -> int:
    """Load this airport's weather and flights, telling the parent how far it is."""
    loaded = 0
    for table in ("weather", "flight"):
        batch: list[Any] = []
        statement = insertion(table)
        for row in rows(table, name.upper()):
            batch.append(row)
            if len(batch) == BATCH:
                swarm.execute_many(statement, batch)
                loaded += len(batch)
                batch = []
                print(json.dumps({"progress": loaded}), flush=True)
        swarm.execute_many(statement, batch)
        loaded += len(batch)
    print(json.dumps({"progress": loaded}), flush=True)
    return loaded


def plot(swarm: Any, path: str) -> str:
    """Delay by hour of the day and by airport: a Polars dataframe, drawn."""
    import matplotlib as mpl
    import polars as pl

    mpl.use("Agg")
    from matplotlib import pyplot

    frame: pl.DataFrame = swarm.sql(
        """SELECT origin, sched_dep_time / 100 AS hour, avg(dep_delay) AS delay, count(*) AS flights
           FROM flight WHERE dep_delay IS NOT NULL GROUP BY origin, hour HAVING count(*) > 100"""
    ).pl()
    wide = frame.pivot("origin", index="hour", values="delay").sort("hour")
    figure, axes = pyplot.subplots(figsize=(8, 4.5))
    for origin in sorted(set(wide.columns) - {"hour"}):
        axes.plot(wide["hour"], wide[origin], marker="o", markersize=3, label=origin)
    axes.set(xlabel="scheduled hour", ylabel="mean departure delay (min)")
    axes.set_xticks(range(5, 24, 2))
    axes.set_title("Delays grow over the day: New York, 2013")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120, bbox_inches="tight")
    pyplot.close(figure)
    return str(wide.head(6))


# The parent: three replicas and a story ----------------------------------------------------------


class Replica:
    """A child process and the conversation with it."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.bar: Any = None
        self._child = subprocess.Popen(
            [sys.executable, __file__, "--replica", name, str(directory / name)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, do: str, **more: Any) -> dict[str, Any]:
        """Send a command and wait for its answer."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(json.dumps({"do": do, **more}) + "\n")
        self._child.stdin.flush()
        for line in self._child.stdout:
            answer: dict[str, Any] = json.loads(line)
            if "progress" not in answer:
                break
            if self.bar is not None:
                self.bar.update(answer["progress"] - self.bar.n)
        else:
            raise SystemExit(f"{self.name} ended during {do!r}")
        if "error" in answer:
            raise SystemExit(f"{self.name}: {do}: {answer['error']}")
        return answer

    def end(self) -> None:
        """Close the replica, and the process."""
        if self._child.poll() is None:
            self.ask("close")
        self._child.wait(timeout=60)

    def kill(self) -> None:
        """Whatever happened, leave no process behind."""
        if self._child.poll() is None:
            self._child.kill()
        self._child.wait()


def together(replicas: Iterable[Replica], do: str) -> None:
    """Give all of them the same command at the same time."""
    failures: list[BaseException] = []

    def run(one: Replica) -> None:
        try:
            one.ask(do)
        except BaseException as failure:  # told in the main thread
            failures.append(failure)

    threads = [Thread(target=run, args=(one,)) for one in replicas]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def meet(replicas: Sequence[Replica]) -> float:
    """Exchange tickets and wait until everybody has everything; how long that took, in seconds."""
    began = time.monotonic()
    tickets = [one.ask("ticket")["ticket"] for one in replicas]
    for number, one in enumerate(replicas):
        for ticket in tickets[:number]:
            one.ask("connect", ticket=ticket)
    deadline = began + MEETING_S
    while time.monotonic() < deadline:
        together(replicas, "wait")
        vectors = [one.ask("vector")["vector"] for one in replicas]
        if all(vector == vectors[0] for vector in vectors):
            return time.monotonic() - began
    raise SystemExit(f"not converged after {MEETING_S:.0f} s: {vectors}")


def tell(title: str) -> None:
    """A heading."""
    print(f"\n\033[1m{title}\033[0m" if sys.stdout.isatty() else f"\n## {title}", flush=True)


def show(replica: Replica, text: str, *parameters: Any) -> None:
    """Run a statement on one replica and print it with its result."""
    print("   " + " ".join(text.split()))
    print(replica.ask("sql", text=text, parameters=list(parameters))["text"], flush=True)


def story(out: Path) -> None:
    """From an empty directory to three equal replicas, and what can be asked of them."""
    from tqdm import tqdm

    began = time.monotonic()
    replicas = [Replica(name, out) for name in AIRPORTS]
    try:
        ewr, jfk, lga = replicas
        tell("Each replica creates the same tables; one loads the reference data; they meet")
        for one in replicas:
            one.ask("create")
        ewr.ask("reference")
        print(f"   met in {meet(replicas):.1f} s")

        tell("The line goes down: each loads its own airport, and edits what all of them share")
        for one in replicas:
            one.end()
        replicas = [Replica(name, out) for name in AIRPORTS]
        ewr, jfk, lga = replicas
        sizes = {"ewr": 129_538, "jfk": 119_985, "lga": 113_368}
        for place, one in enumerate(replicas):
            one.bar = tqdm(total=sizes[one.name], desc=one.name, position=place, unit=" rows")
        together(replicas, "load")
        for one in replicas:
            one.bar.close()
            one.bar = None
        together(replicas, "edit")

        tell("They meet again over QUIC, and converge")
        print(f"   met in {meet(replicas):.1f} s")
        hashes = [one.ask("hash")["hash"] for one in replicas]
        for one, digest in zip(replicas, hashes, strict=True):
            print(f"   {one.name}  vector {one.ask('vector')['vector']}")
            print(f"   {one.name}  state  {digest}")
        if len(set(hashes)) != 1:
            raise SystemExit("equal vectors, different states: this must not happen")

        tell("Written apart: names, votes (3 + 5 + 7 - 1), a row deleted here and edited there")
        show(lga, "SELECT carrier, name, votes FROM airline WHERE carrier IN ('UA', 'B6', 'ZZ')")
        show(lga, "SELECT count(*) AS boulder_city FROM airport WHERE faa = 'BLD'")
        show(lga, "SELECT kind, table_name, key, winner, loser FROM murmur_conflicts")
        tell("The history of one edited row")
        show(
            jfk,
            """SELECT _time, _replica, _op, name FROM murmur_history('airline')
               WHERE carrier = 'UA' ORDER BY _hlc""",
        )

        tell("SQL over the whole: joins and grouping, planned onto DuckDB")
        show(ewr, DELAYS)
        show(jfk, ROUTES)
        print(jfk.ask("plan", text=ROUTES)["text"])
        tell("SQL by key: planned onto the tree")
        print(lga.ask("plan", text=ONE_HOUR)["text"])
        show(lga, ONE_HOUR)

        tell("A dataframe in Polars, and a plot")
        picture = out / "delays.png"
        print(ewr.ask("plot", path=str(picture))["text"])
        for one in replicas:
            one.end()
        print(f"\nreplicas in {out}/ewr, {out}/jfk, {out}/lga; plot in {picture}")
        print(f"done in {time.monotonic() - began:.0f} s")
    finally:
        for one in replicas:
            one.kill()


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", type=Path, default=Path("demo-out"), help="where the files go")
    parser.add_argument("--replica", nargs=2, metavar=("NAME", "DIRECTORY"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.replica:
        replica(*options.replica)
        return
    for name in AIRPORTS:
        shutil.rmtree(options.out / name, ignore_errors=True)
    options.out.mkdir(parents=True, exist_ok=True)
    story(options.out)


if __name__ == "__main__":
    main()
