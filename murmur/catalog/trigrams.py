"""Trigram indexes: the rows whose text has three characters in a row, for LIKE '%...%' and ILIKE.

    "Hello"  ->  hel ell llo

    40 05 | index id | trigram: 3 characters, UTF-8 | primary key  ->  length of the key, u16

Characters are code points, in lower case as `fold_case` has it: one by one, so that the trigrams of
a part are among those of the whole, whatever stands around it. A text that matches a pattern has
the trigrams of every run of three or more literal characters in it; rows that have them all are
*candidates*, which the pattern is then tested on. A row that is NULL, or shorter than three
characters, has no entries: it matches no such pattern.

Invariant: postings are derived data, a pure function of the rows (derivation.py). `fold_case` is
Python's: where a Python with a newer Unicode folds a letter that an older one did not know,
`murmur check` tells of it, and rebuilding the tree settles it.

After PostgreSQL's pg_trgm, without its padding of words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice

from murmur.catalog import keyspace
from murmur.catalog.keyspace import after_prefix, row_prefix
from murmur.catalog.schema import Table, TrigramIndex
from murmur.kvcore import Atom, View

LENGTH = 3

MANY = 50_000  # candidates; from here on reading every row is taken to be quicker

_TRIGRAMS = 16  # asked of one index at a time
_CHUNK = 256  # postings of one trigram read before the next one's


def fold_case(text: str) -> str:
    """Lower case, character by character: neither length nor context plays a part."""
    if text.isascii():
        return text.lower()
    return "".join([low if len(low := char.lower()) == 1 else char for char in text])


def trigrams_of(text: str) -> set[bytes]:
    """The trigrams of a text, as postings have them."""
    folded = fold_case(text)
    if folded.isascii():
        data = folded.encode()
        return {data[at : at + LENGTH] for at in range(len(data) - LENGTH + 1)}
    parts = {folded[at : at + LENGTH] for at in range(len(folded) - LENGTH + 1)}
    return {part.encode(errors="surrogatepass") for part in parts}


class TrigramSource:
    """What a trigram index makes of a row: see derivation.Source, but of many entries."""

    __slots__ = ("_atom", "column_ids", "prefix", "spec")

    def __init__(self, table: Table, index: TrigramIndex) -> None:
        column = table.column_by_id(index.column_id)
        self.prefix = keyspace.posting_prefix(index.id)
        self.column_ids = frozenset(table.stored_ids((column.id,)))
        inputs = map(table.column_by_id, sorted(self.column_ids))
        of_inputs = tuple((each.id, each.missing, each.type) for each in inputs)
        self.spec = (self.prefix, column.type, column.generated, of_inputs)
        self._atom: Callable[[Mapping[int, Atom]], Atom] = column.atom

    def entries(self, fields: Mapping[int, Atom] | None, primary_key: bytes) -> set[bytes]:
        """The keys of a row's postings; none if there is no row."""
        atom = None if fields is None else self._atom(fields)
        if not isinstance(atom, str):
            return set()  # NULL, or what a peer wrote that is no text
        prefix = self.prefix
        return {prefix + trigram + primary_key for trigram in trigrams_of(atom)}

    def changes(
        self,
        old: Mapping[int, Atom] | None,
        new: Mapping[int, Atom] | None,
        primary_key: bytes,
    ) -> Iterator[tuple[bytes, bytes | None]]:
        """What a change of a row writes."""
        if old is not None and new is not None and self._atom(old) == self._atom(new):
            return
        stale, fresh = self.entries(old, primary_key), self.entries(new, primary_key)
        size = len(primary_key).to_bytes(2)
        for key in stale - fresh:
            yield key, None
        for key in fresh - stale:
            yield key, size


def candidates(
    view: View, table: Table, index: TrigramIndex, trigrams: Iterable[bytes]
) -> list[bytes] | None:
    """The keys of the rows that have all of these trigrams, in key order; None when they are MANY.

    Postings are read side by side until those of one trigram, the rarest, are at an end; its rows
    are then looked up among the others. Of many trigrams some are enough: it is for the caller to
    test the rows.
    """
    prefix = keyspace.posting_prefix(index.id)
    starts = [prefix + trigram for trigram in sorted(trigrams)]
    assert starts
    starts = starts[:: -(-len(starts) // _TRIGRAMS)]
    rarest = _rarest(view, starts)
    if rarest is None:
        return None
    first, keys = rarest
    others = [start for start in starts if start != first]
    rows = row_prefix(table.id)
    get = view.get
    return [rows + key for key in keys if all(get(start + key) is not None for start in others)]


def _rarest(view: View, starts: Sequence[bytes]) -> tuple[bytes, list[bytes]] | None:
    """The trigram with the fewest postings, and their primary keys; None when they are MANY."""
    scans = [(start, view.scan(start, after_prefix(start)), list[bytes]()) for start in starts]
    cut = len(starts[0])
    while True:
        for start, scan, keys in scans:
            some = [entry[cut:] for entry, _ in islice(scan, _CHUNK)]
            keys += some
            if len(some) < _CHUNK:
                return start, keys
        if len(scans[0][2]) > MANY:
            return None
