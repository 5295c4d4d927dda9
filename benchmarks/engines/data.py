"""Keys, values, orders, and what an engine has to answer.

Key number n is the 16 decimal digits of 2n, so that the odd ones are missing, inside the range of
every file. A value is one of 4096, picked by the key's number and its generation, how often it was
written: so a wrong or old value shows, and no dictionary of a million values is in the way.

A Model is a generation for each number, 0 for none. It is kept beside the engine's directory:
workloads of several processes follow one another on the same data.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count as counter
from pathlib import Path
from random import Random

KEY_BYTES = 16
VALUES = 4096  # a power of two
ZIPF = 0.99  # YCSB's constant


def key_of(number: int) -> bytes:
    return b"%016d" % (2 * number)


def missing_key_of(number: int) -> bytes:
    return b"%016d" % (2 * number + 1)


class Model:
    """What was written: a generation for each key number."""

    def __init__(self, value_bytes: int, generations: bytes = b"") -> None:
        self.generations = bytearray(generations)
        random = Random(7)
        self.values = [random.randbytes(value_bytes) for _ in range(VALUES)]

    @classmethod
    def load(cls, path: Path, value_bytes: int) -> Model:
        return cls(value_bytes, path.read_bytes() if path.exists() else b"")

    def save(self, path: Path) -> None:
        path.write_bytes(self.generations)

    def __len__(self) -> int:
        """How many keys have a value."""
        return len(self.generations) - self.generations.count(0)

    def write(self, number: int) -> bytes:
        """The key gets another value: this one."""
        missing = number + 1 - len(self.generations)
        if missing > 0:
            self.generations += bytes(missing)
        generation = self.generations[number] % 255 + 1
        self.generations[number] = generation
        return self.values[_pick(number, generation)]

    def remove(self, number: int) -> None:
        self.generations[number] = 0

    def get(self, number: int) -> bytes | None:
        """What the key's value has to be."""
        generation = self.generations[number] if number < len(self.generations) else 0
        return self.values[_pick(number, generation)] if generation else None

    def scan(self, start: int, stop: int | None = None) -> Iterator[tuple[bytes, bytes]]:
        """What a scan has to give."""
        numbers = range(start, min(len(self.generations), stop or len(self.generations)))
        for number in numbers:
            value = self.get(number)
            if value is not None:
                yield key_of(number), value


def _pick(number: int, generation: int) -> int:
    return (number * 2654435761 + generation * 40503 >> 4) % VALUES


def shuffled(entries: int, seed: int) -> list[int]:
    """All numbers below `entries`, in an order without order."""
    numbers = list(range(entries))
    Random(seed).shuffle(numbers)
    return numbers


def uniform(entries: int, length: int, seed: int) -> list[int]:
    """`length` numbers below `entries`, each as likely as any."""
    random = Random(seed).random
    return [int(random() * entries) for _ in range(length)]


def zipfian(entries: int, length: int, seed: int) -> list[int]:
    """`length` numbers below `entries`, few of them often (Gray et al., SIGMOD 1994).

    The popular ones lie scattered over the keys, as in YCSB.
    """
    return [_scatter(rank, entries) for rank in ranks(entries, length, seed)]


def ranks(entries: int, length: int, seed: int) -> Iterator[int]:
    """Ranks by popularity, 0 the most popular."""
    random = Random(seed).random
    zeta = sum(number**-ZIPF for number in range(1, entries + 1))
    second = 1 + 0.5**ZIPF
    eta = (1 - (2 / entries) ** (1 - ZIPF)) / (1 - second / zeta) if entries > 2 else 1.0
    alpha = 1 / (1 - ZIPF)
    for _ in range(length):
        chance = random()
        if chance * zeta < 1:
            yield 0
        elif chance * zeta < second:
            yield min(1, entries - 1)
        else:
            yield min(entries - 1, int(entries * (eta * chance - eta + 1) ** alpha))


def _scatter(rank: int, entries: int) -> int:
    return (rank * 0x9E3779B97F4A7C15 ^ rank >> 7) % (1 << 64) % entries


def numbers_from(first: int) -> Iterator[int]:
    """The numbers of keys to be inserted."""
    return counter(first)
