"""The functions of LZ4 and zstd: C functions of the packages `lz4` and `zstandard`, by address.

    compress(ZSTD, 3, data)              what the native kernel would store, to the byte
    decompress(ZSTD, compressed, 4096)   the data, if there are exactly so many bytes of it
    addresses(LZ4)                       what the native kernel calls, without Python in between

Both packages' extension modules export the library that they contain. So the native kernel
compresses without the interpreter's lock and links to neither library, and both kernels write the
same bytes. A package that is missing is told of when a codec is first needed.
"""

from __future__ import annotations

import ctypes
from functools import cache
from importlib import import_module
from typing import Any

from murmur.errors import InvalidInput
from murmur.kvcore.kernel.interface import LZ4, ZSTD

# Of each codec: the package, the extension module within, and the functions in the order in which
# the native kernel takes them.
_SOURCES = {
    LZ4: ("lz4", "lz4.block._block", ("compressBound", "compress_default", "decompress_safe")),
    ZSTD: ("zstandard", "zstandard._cffi", ("compressBound", "compress", "decompress", "isError")),
}
_PREFIXES = {LZ4: "LZ4_", ZSTD: "ZSTD_"}

_int, _size, _pointer = ctypes.c_int, ctypes.c_size_t, ctypes.c_void_p
_SIGNATURES: dict[str, tuple[type, tuple[type, ...]]] = {
    "LZ4_compressBound": (_int, (_int,)),
    "LZ4_compress_default": (_int, (_pointer, _pointer, _int, _int)),
    "LZ4_decompress_safe": (_int, (_pointer, _pointer, _int, _int)),
    "ZSTD_compressBound": (_size, (_size,)),
    "ZSTD_compress": (_size, (_pointer, _size, _pointer, _size, _int)),
    "ZSTD_decompress": (_size, (_pointer, _size, _pointer, _size)),
    "ZSTD_isError": (ctypes.c_uint, (_size,)),
}


def compress(codec: int, level: int, data: bytes) -> bytes:
    """The data compressed; `level` is zstd's. InvalidInput if the codec's package is missing."""
    bound, encode, *rest = _functions(codec)
    capacity = bound(len(data))
    target = ctypes.create_string_buffer(capacity)
    if codec == LZ4:
        size = encode(data, target, len(data), capacity)
        failed = size <= 0
    else:
        size = encode(target, capacity, data, len(data), level)
        failed = bool(rest[1](size))
    if failed:
        raise ValueError(f"{len(data)} bytes cannot be compressed")
    return target.raw[:size]


def decompress(codec: int, data: bytes, raw_length: int) -> bytes:
    """The data again, in `raw_length` bytes; ValueError if they are not exactly so many.

    InvalidInput if the codec's package is missing. The caller has bounded the length.
    """
    _, _, decode, *is_error = _functions(codec)
    target = ctypes.create_string_buffer(max(1, raw_length))
    if codec == LZ4:
        size = decode(data, target, len(data), raw_length)
        failed = size != raw_length
    else:
        size = decode(target, raw_length, data, len(data))
        failed = bool(is_error[0](size)) or size != raw_length
    if failed:
        raise ValueError(f"these {len(data)} bytes are not {raw_length} compressed ones")
    return target.raw[:raw_length]


def addresses(codec: int) -> list[int]:
    """Where the functions are: bound, compress, decompress, and for zstd isError."""
    return [ctypes.cast(function, _pointer).value or 0 for function in _functions(codec)]


@cache
def _functions(codec: int) -> list[Any]:  # of ctypes
    package, module, names = _SOURCES[codec]
    try:
        library = ctypes.CDLL(str(import_module(module).__file__))
        functions = [getattr(library, _PREFIXES[codec] + name) for name in names]
    except (ImportError, OSError, AttributeError):
        raise InvalidInput(
            f"compression needs the package {package}: pip install 'murmurdb[compression]'"
        ) from None
    for function in functions:
        function.restype, function.argtypes = _SIGNATURES[function.__name__]
    return functions
