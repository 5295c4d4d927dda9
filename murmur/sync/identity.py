"""Who a node is: an Ed25519 key, kept in its directory.

    NODE    lines of text: `murmur node 1`, `key HEX`, `file HEX`, `crc HEX`        mode 0600

The public key is the node's id. The certificate that QUIC shows is made from the key at every
start: it is self-signed and never expires, since peers compare keys and believe nothing else in it.

`file` is the identity of the very file (device and inode). A copy of the directory therefore takes
a new key: two nodes under one id would keep throwing each other out of every peer.

What the dialer signs binds the conversation: both ids, so that an acceptor cannot pass the proof on
to another node; the acceptor's nonce, so that no proof works twice; and the group.
"""

from __future__ import annotations

import hashlib
import hmac
import zlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from murmur.errors import Corruption, UnknownFormat
from murmur.kvcore import Problem, Storage, read_whole

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

KEY_FILE = "NODE"
KEY_BYTES = 32
_LABEL = b"murmur/1 "


class Identity:
    """A node's key pair."""

    def __init__(self, secret: bytes, *, renewed: bool = False) -> None:
        # Imported here: a database that never meets a peer does not pay for it.
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        assert len(secret) == KEY_BYTES
        self.private_key: Ed25519PrivateKey = Ed25519PrivateKey.from_private_bytes(secret)
        self.node_id: bytes = self.private_key.public_key().public_bytes_raw()
        self.renewed = renewed  # the directory is a copy: the key in it was another node's

    @classmethod
    def load(cls, storage: Storage, random_bytes: Callable[[int], bytes]) -> Identity:
        """The key of this directory; made and kept if there is none."""
        renewed = False
        if storage.exists(KEY_FILE):
            secret, file = _read(storage)
            if file == storage.identity(KEY_FILE):
                return cls(secret)
            renewed = True
        secret = random_bytes(KEY_BYTES)
        _write(storage, secret)
        return cls(secret, renewed=renewed)

    def sign(self, data: bytes) -> bytes:
        """64 bytes that only the holder of this key can make."""
        return self.private_key.sign(data)

    def certificate(self) -> Any:
        """A self-signed X.509 certificate, as TLS wants one."""
        from datetime import datetime

        from cryptography import x509

        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "murmur")])
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self.private_key.public_key())
            .serial_number(1)
            .not_valid_before(datetime(2000, 1, 1))
            .not_valid_after(datetime(9999, 12, 31))
            .sign(self.private_key, None)
        )


def check_identity(storage: Storage) -> Iterator[Problem]:
    """Read the node's key, if there is one; what is wrong with it."""
    try:
        if storage.exists(KEY_FILE):
            _read(storage)
    except Corruption as error:
        yield Problem(error.path, error.offset, error.reason)


def certificate_key(certificate: Any) -> bytes | None:
    """The node id in a peer's certificate; None if it holds another kind of key."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    key = certificate.public_key()
    return key.public_bytes_raw() if isinstance(key, Ed25519PublicKey) else None


def verify(node_id: bytes, data: bytes, signature: bytes) -> bool:
    """Whether the holder of the key signed this."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(node_id).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True


def transcript(dialer: bytes, acceptor: bytes, group: str, nonce: bytes) -> bytes:
    """What a dialer signs, and what proofs of the group and of an invite are about."""
    return _LABEL + b"proof" + dialer + acceptor + hashlib.sha256(group.encode()).digest() + nonce


def group_tag(side: bytes, group: str, conversation: bytes) -> bytes:
    """Shows to who knows the group that this side knows it, and to nobody else its name."""
    key = hashlib.sha256(_LABEL + b"group" + group.encode()).digest()
    return hmac.digest(key, side + conversation, "sha256")


def invite_proof(invite: bytes, conversation: bytes) -> bytes:
    """Shows to who issued an invite that this side has it."""
    return hmac.digest(invite, _LABEL + b"invite" + conversation, "sha256")


def equal(left: bytes, right: bytes) -> bool:
    """Comparison in constant time."""
    return hmac.compare_digest(left, right)


def _write(storage: Storage, secret: bytes) -> None:
    # The file names its own inode, so it is created first, written second and renamed last.
    temporary = KEY_FILE + ".new"
    if storage.exists(temporary):
        storage.remove(temporary)
    file = storage.create(temporary)
    try:
        lines = f"murmur node 1\nkey {secret.hex()}\nfile {storage.identity(temporary).hex()}\n"
        file.write(f"{lines}crc {zlib.crc32(lines.encode()):08x}\n".encode())
        file.sync()
    finally:
        file.close()
    storage.rename(temporary, KEY_FILE)
    storage.sync_directory()


def _read(storage: Storage) -> tuple[bytes, bytes]:
    path = f"{storage.path}/{KEY_FILE}"
    text = read_whole(storage, KEY_FILE).decode("ascii", "replace")
    lines, _, checksum = text.rpartition("crc ")
    if text.startswith("murmur node ") and not text.startswith("murmur node 1\n"):
        raise UnknownFormat(path, 0, f"unknown format: {text.splitlines()[0]!r}")
    if checksum != f"{zlib.crc32(lines.encode()):08x}\n":
        raise Corruption(path, 0, "the node's key is damaged (checksum)")
    fields = dict(line.split(" ", 1) for line in lines.splitlines()[1:])
    return bytes.fromhex(fields["key"]), bytes.fromhex(fields["file"])
