"""`python -m benchmarks.engines` runs every workload on what is installed and prints tables."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.engines import data
from benchmarks.engines.engine import Budget, Engine
from benchmarks.engines.meter import Meter
from benchmarks.engines.workloads import WORKLOADS, Bench, WrongAnswerError

ROOT = Path(__file__).parents[2]


def run(tmp_path: Path, *arguments: str) -> tuple[str, list[dict[str, object]]]:
    figures = tmp_path / "figures.json"
    script = [sys.executable, "-m", "benchmarks.engines", "--entries", "500", "--runs", "1"]
    script += ["--values", "100", "--json", str(figures), "--directory", str(tmp_path)]
    done = subprocess.run([*script, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, json.loads(figures.read_text())


def test_every_workload_has_a_row_with_a_ratio_to_the_best_peer(tmp_path: Path) -> None:
    printed, (results,) = run(tmp_path, "--engines", "murmur,apsw")
    speeds = printed.split("thousands a second**")[1].split("**")[0]
    rows = [row.strip("| ").split(" | ") for row in speeds.strip().splitlines()]
    assert rows[0] == ["workload", "murmur", "apsw", "÷ best", "÷ best LSM", "to reach"]
    assert {row[0] for row in rows[2:]} == set(WORKLOADS) - {"fill a memtable"}
    for name, murmur, apsw, ratio, *_ in rows[2:]:
        assert min(float(murmur), float(apsw), float(ratio)) > 0, name
    by_workload = results["figures"]["100"]  # type: ignore[index]
    (filled,) = by_workload["fill random"]["murmur"]
    assert filled["operations"] == 500
    assert filled["disk_bytes"] > 500 * 116
    assert filled["write_amplification"] > 0
    assert filled["p50_us"] <= filled["p99_us"]
    assert not list(tmp_path.glob("engines-*"))


def test_a_selected_workload_runs_on_the_data_that_it_needs(tmp_path: Path) -> None:
    printed, (results,) = run(tmp_path, "--engines", "apsw,swarm", "-k", "missing")
    assert "read missing" in printed
    assert "fill random" not in printed
    assert set(results["figures"]["100"]) == {"read missing"}  # type: ignore[call-overload]


class Forgetful(Engine):
    """Keeps every put but one."""

    def __init__(self, directory: Path, budget: Budget) -> None:
        self.kept: dict[bytes, bytes] = {}
        self.put = self.kept.__setitem__
        self.get = self.kept.get
        self.delete = self.kept.pop

    def forget(self, key: bytes) -> None:
        del self.kept[key]

    def items(self) -> list[tuple[bytes, bytes]]:
        return sorted(self.kept.items())


@pytest.mark.parametrize("name", ["read random, warm", "read all", "YCSB C", "YCSB A", "YCSB F"])
def test_an_engine_that_answers_wrongly_has_no_figure(tmp_path: Path, name: str) -> None:
    bench = Bench(20, 100, Budget(), seed=1, model=data.Model(100))
    engine = Forgetful(tmp_path, Budget())
    WORKLOADS["fill random"].prepare(bench)(engine, Meter())
    reads = WORKLOADS[name].prepare(bench)
    for number in range(0, 20, 2):
        engine.forget(data.key_of(number))
    with pytest.raises(WrongAnswerError):
        reads(engine, Meter())


def test_a_model_knows_the_latest_value_and_what_is_gone() -> None:
    model = data.Model(100)
    first, second = model.write(3), model.write(3)
    assert first != second
    assert model.get(3) == second
    assert model.get(2) is None
    assert list(model.scan(0)) == [(data.key_of(3), second)]
    model.remove(3)
    assert (model.get(3), len(model)) == (None, 0)


def test_zipfian_numbers_repeat_a_few_often() -> None:
    numbers = data.zipfian(1000, 10_000, seed=1)
    assert set(numbers) <= set(range(1000))
    most = max(set(numbers), key=numbers.count)
    assert numbers.count(most) > 1000
