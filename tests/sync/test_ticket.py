from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from murmur.errors import InvalidInput
from murmur.sync.ticket import Hint, Ticket, _from_base32, check_group, node_text, parse_node

tickets = st.builds(
    Ticket,
    node_id=st.binary(min_size=32, max_size=32),
    group=st.text(min_size=1, max_size=60),
    addresses=st.lists(st.text(max_size=40), max_size=4).map(tuple),
    invite=st.none() | st.binary(min_size=16, max_size=16),
    relays=st.lists(
        st.builds(
            Hint,
            node_id=st.binary(min_size=32, max_size=32),
            addresses=st.lists(st.text(max_size=20), max_size=2).map(tuple),
            invite=st.none() | st.binary(min_size=16, max_size=16),
        ),
        max_size=2,
    ).map(tuple),
)

RELAYED = Ticket(
    bytes(32), "team", ("192.0.2.1:1",), bytes(16), (Hint(b"r" * 32, ("192.0.2.7:2",), b"i" * 16),)
)
EXAMPLE = Ticket(bytes(range(32)), "team", ("127.0.0.1:4711", "[::1]:4711"), bytes(16))


@given(tickets)
def test_a_ticket_survives_its_text(ticket: Ticket) -> None:
    assert Ticket.parse(str(ticket)) == ticket


def test_a_ticket_is_pasteable() -> None:
    text = str(EXAMPLE)
    assert text.startswith("murmur1")
    assert text.isalnum()
    assert text == text.lower()
    assert len(text) < 200


def test_pasting_may_wrap_and_capitalise() -> None:
    text = str(EXAMPLE)
    wrapped = "  " + "\n  ".join(text[i : i + 30] for i in range(0, len(text), 30)) + "\n"
    assert Ticket.parse(wrapped) == EXAMPLE
    assert Ticket.parse(text.upper()) == EXAMPLE


def test_tickets_that_were_handed_out_stay_readable() -> None:
    text = (
        "murmur1aaaqeayeaudaocajbifqydiob4ibceqtcqkrmfyydenbwha5dypraaaaaaaaaaaa"
        "aaaaaaaaaaaaaaaeorswc3icbyytenzogaxdalrrhi2domjrbjntuorrlu5dinzrghwxolbq"
    )
    assert Ticket.parse(text) == EXAMPLE
    assert str(EXAMPLE) == text


@pytest.mark.parametrize("change", ["cut", "more", "counted wrong"])
def test_relays_that_are_none_are_noticed(change: str) -> None:
    plain = str(replace(RELAYED, relays=()))
    body, whole = (_from_base32(str(t)[7:])[:-4] for t in (replace(RELAYED, relays=()), RELAYED))
    assert whole.startswith(body)
    assert Ticket.parse(plain).relays == ()
    damaged = {
        "cut": whole[:-1],
        "more": whole + b"\0",
        "counted wrong": body + b"\3" + whole[len(body) + 1 :],
    }[change]
    with pytest.raises(InvalidInput, match="ticket"):
        Ticket._from_body(damaged)


def test_damage_to_any_character_is_noticed() -> None:
    text = str(EXAMPLE)
    for position in range(len(text)):
        for wrong in ("a", "7", "1", "!"):
            if wrong != text[position]:
                with pytest.raises(InvalidInput, match="ticket"):
                    Ticket.parse(text[:position] + wrong + text[position + 1 :])


def test_a_ticket_cut_short_is_noticed() -> None:
    text = str(EXAMPLE)
    for length in range(len(text)):
        with pytest.raises(InvalidInput, match="ticket"):
            Ticket.parse(text[:length])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "begin with 'murmur1'"),
        ("hello", "begin with 'murmur1'"),
        ("murmur2abcdefgh", "version 2 is unknown"),
        ("murmur", r"version \? is unknown"),
        ("murmur1", "damaged or incomplete"),
        ("murmur1" + "a" * 9000, "too long"),
        ("murmur1aaaa", "damaged"),
        ("murmur1äöü", "a character or a length"),
        (None, "text is needed, not None"),
        (b"murmur1", "text is needed, not b'murmur1'"),
    ],
)
def test_what_is_no_ticket_says_why(text: Any, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        Ticket.parse(text)


@given(st.binary(min_size=32, max_size=32))
def test_a_node_id_survives_its_text(node_id: bytes) -> None:
    assert parse_node(node_text(node_id)) == node_id
    assert len(node_text(node_id)) == 52


@pytest.mark.parametrize("text", ["", "abc", "!" * 52, "a" * 60])
def test_what_is_no_node_id_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="node id"):
        parse_node(text)


def test_a_group_has_a_name() -> None:
    assert check_group("équipe") == "équipe"
    for wrong in ("", "x" * 256):
        with pytest.raises(InvalidInput, match="group"):
            check_group(wrong)
