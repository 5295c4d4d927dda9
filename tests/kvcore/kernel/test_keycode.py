"""Keys of atoms: by both kernels alike, and as catalog/keycode.py, the specification, has them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from murmur.catalog import types
from murmur.catalog.atoms import from_atom, to_atom
from murmur.catalog.fields import type_field
from murmur.catalog.keycode import NOT_OF_TYPE, atom_encoder, key_decoder, key_encoder, restores
from murmur.catalog.values import is_atom
from murmur.errors import Corruption
from murmur.kvcore.kernel.pure import keycode as pure
from tests.catalog.test_keycode_laws import FOREIGN, KEY_TYPES, keys, values_of

try:
    from murmur.kvcore.kernel import _native as native
except ImportError:
    native = None
KERNELS = [pure, *([native] if hasattr(native, "KeyCodec") else [])]
kernels = pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: k.__name__.rpartition(".")[2])


def codec_of(kernel: Any, sql_types: Any, descending: Any = ()) -> Any:
    return kernel.KeyCodec([type_field(each, at) for at, each in enumerate(sql_types)], descending)


def outcome(call: Any) -> Any:
    try:
        return call()
    except (ValueError, Corruption) as error:
        return Corruption if isinstance(error, Corruption) else ValueError


@kernels
@given(case=keys(1), prefix=st.binary(max_size=3))
def test_keys_are_those_of_the_specification(kernel: Any, case: Any, prefix: bytes) -> None:
    sql_types, descending, (row,) = case
    atoms = tuple(to_atom(value, kind) for value, kind in zip(row, sql_types, strict=True))
    codec = codec_of(kernel, sql_types, descending)
    key = key_encoder(sql_types, descending)(row)
    assert codec.encode(atoms, prefix) == prefix + key
    assert codec.encode_fields(dict(enumerate(atoms)), prefix) == prefix + key
    assert codec.encode_many([atoms, list(atoms)]) == [key, key]
    decoded = codec.decode(prefix + key, len(prefix))
    assert codec.decode_many([key, key]) == [decoded, decoded]
    back = zip(decoded, atoms, sql_types, strict=True)
    for atom, given_atom, kind in back:
        assert from_atom(atom, kind) == from_atom(given_atom, kind)
        if restores(kind):
            assert (type(atom), atom) == (type(given_atom), given_atom)


@kernels
@given(sql_type=st.sampled_from(KEY_TYPES), atom=FOREIGN)
def test_any_atom_has_the_key_of_the_specification_or_none(
    kernel: Any, sql_type: Any, atom: Any
) -> None:
    try:
        key = codec_of(kernel, [sql_type]).encode((atom,))
    except ValueError:
        assert not is_atom(atom, sql_type)  # what cannot be stored may be refused here already
        return
    try:
        assert key == atom_encoder(sql_type)(atom)
    except NOT_OF_TYPE:
        pytest.fail(f"{atom!r} has no key by the specification")


@kernels
@given(case=keys(1), data=st.data())
def test_any_bytes_decode_as_by_the_specification(kernel: Any, case: Any, data: Any) -> None:
    sql_types, descending, (row,) = case
    key = bytearray(key_encoder(sql_types, descending)(row))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(key)))
        match data.draw(st.sampled_from(["change", "cut", "insert"])):
            case "change" if place < len(key):
                key[place] ^= data.draw(st.integers(1, 255))
            case "cut":
                del key[place:]
            case _:
                key[place:place] = data.draw(st.binary(max_size=3))
    changed = bytes(key)
    codec = codec_of(kernel, sql_types, descending)
    mine = outcome(lambda: codec.decode(changed))
    theirs = outcome(lambda: key_decoder(sql_types, descending)(changed))
    if theirs is Corruption or mine is Corruption:
        assert mine is theirs
        return
    assert codec.encode(mine) == changed
    values = tuple(from_atom(atom, kind) for atom, kind in zip(mine, sql_types, strict=True))
    assert repr(values) == repr(theirs)


@given(case=keys(1), other=st.lists(FOREIGN, max_size=4), body=st.binary(max_size=24))
def test_both_kernels_agree_on_everything(case: Any, other: list[Any], body: bytes) -> None:
    sql_types, descending, (row,) = case
    codecs = [codec_of(kernel, sql_types, descending) for kernel in KERNELS]
    atoms = tuple(to_atom(value, kind) for value, kind in zip(row, sql_types, strict=True))
    for foreign in (atoms, (*other, *atoms)[: len(atoms)]):
        assert len({repr(outcome(lambda c=c, f=foreign: c.encode(f))) for c in codecs}) == 1
    for tag in (b"", b"\x01", b"\x02", b"\xfd", b"\xfe"):
        key = tag + body
        assert len({repr(outcome(lambda c=c, k=key: c.decode(k))) for c in codecs}) == 1


@kernels
@given(case=st.sampled_from(KEY_TYPES).flatmap(lambda t: st.tuples(st.just(t), values_of(t))))
def test_a_missing_field_has_the_key_of_its_default(kernel: Any, case: Any) -> None:
    sql_type, value = case
    atom = to_atom(value, sql_type)
    codec = kernel.KeyCodec([type_field(sql_type, 7, atom)])
    assert codec.encode_fields({}) == codec.encode((atom,))


@kernels
@pytest.mark.parametrize(
    ("sql_type", "key"),
    [
        (types.BOOLEAN, "0202"),
        (types.BOOLEAN, "0101"),
        (types.DOUBLE, "027ff8000000000001"),
        (types.DOUBLE, "028000000000000000"),
        (types.DOUBLE, "01ffffffffffffffff"),
        (types.decimal(5, 2), "02" + (2**63 + 100_000).to_bytes(8).hex()),
        (types.decimal(5, 2), "02" + (2**63 - 100_000).to_bytes(8).hex()),
        (types.decimal(38, 2), "02" + (2**127 + 10**38).to_bytes(16).hex()),
        (types.DATE, "0200000000"),
        (types.DATE, "02" + (3_652_060).to_bytes(4).hex()),
        (types.TIME, "02" + (86_400_000_000).to_bytes(8).hex()),
        (types.TIME, "02ffffffffffffffff"),
        (types.TEXT, "02ff0001"),
        (types.TEXT, "02000001"),
        (types.TEXT, "026100ff"),
        (types.UUID, "02" + "ab" * 15),
        (types.INTEGER, "04"),
        (types.INTEGER, ""),
    ],
)
def test_what_no_value_has_is_no_key(kernel: Any, sql_type: Any, key: str) -> None:
    with pytest.raises(Corruption):
        key_decoder([sql_type])(bytes.fromhex(key))
    with pytest.raises(Corruption):
        codec_of(kernel, [sql_type]).decode(bytes.fromhex(key))


@kernels
@pytest.mark.parametrize(
    ("sql_type", "atom"),
    [
        (types.decimal(5, 2), "-0.05"),
        (types.decimal(5, 2), "0.00"),
        (types.decimal(5, 2), "123.40"),
        (types.decimal(5), "-99999"),
        (types.decimal(10, 7), "0.0000010"),
        (types.decimal(10, 7), "1E-7"),
        (types.decimal(10, 7), "0E-7"),
        (types.decimal(38, 19), "-1.5E-18"),
        (types.decimal(38, 38), "0." + "9" * 38),
        (types.DECIMAL, "100"),
        (types.DECIMAL, "0"),
        (types.DECIMAL, "-0.000001"),
        (types.DECIMAL, "1.2E-7"),
    ],
)
def test_decimals_come_back_as_they_are_written(kernel: Any, sql_type: Any, atom: str) -> None:
    codec = codec_of(kernel, [sql_type])
    assert is_atom(atom, sql_type)
    assert codec.decode(codec.encode((atom,))) == (atom,)


@kernels
def test_a_key_has_as_many_columns_as_were_told(kernel: Any) -> None:
    codec = codec_of(kernel, KEY_TYPES[1:3])
    with pytest.raises(ValueError, match="1 atoms for 2 columns"):
        codec.encode((1,))
    with pytest.raises(ValueError, match="a direction for each column"):
        codec_of(kernel, KEY_TYPES[1:3], [True])
    with pytest.raises(Corruption, match="offset 8: it does not end with its last column"):
        codec.decode(codec.encode((1, 2)) + b"\x03")
    with pytest.raises(ValueError, match=r"surrogates|cannot"):
        codec_of(kernel, [KEY_TYPES[10]]).encode(("\ud800",))
