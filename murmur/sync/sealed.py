"""Small files that the network keeps: one JSON object under a checksum, replaced whole.

{"format": 1, "crc": CRC32, NAME: {...}}        the checksum is of the object, names sorted
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any

from murmur.errors import Corruption, UnknownFormat
from murmur.kvcore import Storage, read_whole

FORMAT = 1


def seal(name: str, contents: Mapping[str, Any], *, indent: int | None = None) -> bytes:
    """The file's bytes."""
    document = {"format": FORMAT, "crc": _crc(contents), name: contents}
    return json.dumps(document, indent=indent).encode()


def unseal(storage: Storage, file: str, name: str) -> dict[str, Any]:
    """What the file holds, nothing if there is none. Raises Corruption, UnknownFormat."""
    if not storage.exists(file):
        return {}
    path = f"{storage.path}/{file}"
    try:
        document = json.loads(read_whole(storage, file))
        version, contents = document["format"], document[name]
    except (ValueError, KeyError, TypeError) as error:
        raise Corruption(path, 0, f"not the file that was written: {error}") from None
    if version != FORMAT:
        raise UnknownFormat(path, 0, f"format {version} is not {FORMAT}")
    if not isinstance(contents, dict) or document.get("crc") != _crc(contents):
        raise Corruption(path, 0, "checksum does not match")
    return contents


def _crc(contents: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(contents, sort_keys=True).encode())
