"""Varints: numbers in as many bytes as they need, seven bits in each, the lowest first (LEB128).

1      01
300    ac 02          the high bit says that another byte follows
"""

from __future__ import annotations


class TooLong(ValueError):
    """A varint has more bits than it may have; `at` is behind the byte that would go on."""

    def __init__(self, at: int) -> None:
        super().__init__(f"byte {at}: the number is too long")
        self.at = at


def varint(value: int) -> bytes:
    """The bytes of a number that is not negative."""
    if value < 128:
        return _ONE_BYTE[value]
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data: bytes, at: int, size: int) -> tuple[int, int]:
    """The number there, and where it ends.

    Raises TooLong if it has more than `size` bytes, IndexError if the data end within it.
    """
    value = shift = 0
    last = 7 * size
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift >= last:
            raise TooLong(at)


_ONE_BYTE = tuple(bytes([value]) for value in range(128))
