r"""Regular expressions on the row engine: whether a text matches, in time linear in its length.

    matcher(r"^[a-z]+(-[a-z]+)*$")("a-b")      ->  True

The columnar engine has RE2; these are the expressions that mean the same there, in PostgreSQL and
here: literals, ., classes, [[:alpha:]], \d \w \s, groups, |, * + ? {m,n}, ^ and $. What stands in a
bracket class or behind a backslash is ASCII, as in RE2. Of any other, such as a back reference,
`matcher` is None, and the statement goes to the columnar engine.

A nondeterministic automaton is made of the expression (Thompson), and of its sets of states, as
texts ask for them, a deterministic one. Python's `re` would backtrack: a CHECK that takes a minute
for an unlucky text must not be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, TypeAlias

Matcher: TypeAlias = Callable[[str], bool]
Ranges: TypeAlias = tuple[tuple[int, int], ...]  # of code points, inclusive

MAX_STATES = 2000  # of the automaton that is made of the expression
MAX_REPEAT = 1000  # RE2's
MAX_SETS = 500  # kept; then they are made anew

_LAST = 0x10FFFF
_DIGIT: Ranges = ((48, 57),)
_WORD: Ranges = ((48, 57), (65, 90), (95, 95), (97, 122))
_SPACE: Ranges = ((9, 10), (12, 13), (32, 32))
_CLASSES: dict[str, Ranges] = {
    "alnum": ((48, 57), (65, 90), (97, 122)),
    "alpha": ((65, 90), (97, 122)),
    "blank": ((9, 9), (32, 32)),
    "digit": _DIGIT,
    "lower": ((97, 122),),
    "punct": ((33, 47), (58, 64), (91, 96), (123, 126)),
    "space": ((9, 13), (32, 32)),
    "upper": ((65, 90),),
    "xdigit": ((48, 57), (65, 70), (97, 102)),
}
_ESCAPES = {"n": 10, "t": 9, "r": 13, "f": 12}
_PUNCTUATION = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~ ")


class _Unknown(Exception):
    """The expression is not one of those that mean the same everywhere."""


@lru_cache(maxsize=256)
def matcher(pattern: str, *, ignore_case: bool = False) -> Matcher | None:
    """The function that tells whether a text has a part that matches; None if it is not known."""
    try:
        return _Automaton(_Parser(pattern, ignore_case=ignore_case).parse()).matches
    except (_Unknown, RecursionError):
        return None


# The expression as a tree -------------------------------------------------------------------------

# A node begins with what it is: set (and its ranges), begin, end, all (parts), any (branches),
# repeat (a part, how often at least, how often at most or None).
Node: TypeAlias = tuple[Any, ...]


class _Parser:
    def __init__(self, pattern: str, *, ignore_case: bool) -> None:
        self._text = pattern
        self._at = 0
        self._ignore_case = ignore_case
        if ignore_case and not pattern.isascii():
            raise _Unknown

    def parse(self) -> Node:
        node = self._branches()
        if self._at < len(self._text):
            raise _Unknown
        return node

    def _next(self) -> str:
        if self._at == len(self._text):
            raise _Unknown
        self._at += 1
        return self._text[self._at - 1]

    def _sees(self, text: str) -> bool:
        return self._text.startswith(text, self._at)

    def _branches(self) -> Node:
        branches = [self._sequence()]
        while self._sees("|"):
            self._at += 1
            branches.append(self._sequence())
        return branches[0] if len(branches) == 1 else ("any", branches)

    def _sequence(self) -> Node:
        parts: list[Node] = []
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            parts.append(self._repeated(self._atom()))
        return parts[0] if len(parts) == 1 else ("all", parts)

    def _atom(self) -> Node:
        match character := self._next():
            case "(":
                if self._sees("?:"):
                    self._at += 2
                elif self._sees("?") or self._sees("*"):
                    raise _Unknown
                node = self._branches()
                if self._next() != ")":
                    raise _Unknown
                return node
            case "[":
                return "set", self._class()
            case ".":
                return "set", ((0, _LAST),)
            case "^":
                return ("begin",)
            case "$":
                return ("end",)
            case "\\":
                return "set", self._escape()
            case "*" | "+" | "?" | "{":
                raise _Unknown
        return "set", self._folded([(ord(character), ord(character))])

    def _repeated(self, node: Node) -> Node:
        if self._at == len(self._text) or self._text[self._at] not in "*+?{":
            return node
        if node[0] in ("begin", "end"):
            raise _Unknown
        match self._next():
            case "*":
                least, most = 0, None
            case "+":
                least, most = 1, None
            case "?":
                least, most = 0, 1
            case _:
                least, most = self._bounds()
        if self._sees("?"):  # as short as can be: whether it matches is the same
            self._at += 1
        if self._at < len(self._text) and self._text[self._at] in "*+?{":
            raise _Unknown
        return "repeat", node, least, most

    def _bounds(self) -> tuple[int, int | None]:
        stop = self._text.find("}", self._at)
        inner = self._text[self._at : stop]
        low, comma, high = inner.partition(",")
        if stop < 0 or not (low.isascii() and low.isdigit()):
            raise _Unknown
        if high and not (high.isascii() and high.isdigit()):
            raise _Unknown
        self._at = stop + 1
        least = int(low)
        most = (int(high) if high else None) if comma else least
        if least > MAX_REPEAT or (most is not None and not least <= most <= MAX_REPEAT):
            raise _Unknown
        return least, most

    def _escape(self) -> Ranges:
        character = self._next()
        for letter, ranges in (("d", _DIGIT), ("w", _WORD), ("s", _SPACE)):
            if character == letter:
                return self._folded(ranges)
            if character == letter.upper():
                return _without(self._folded(ranges))
        if character in _ESCAPES:
            return ((_ESCAPES[character],) * 2,)
        if character in _PUNCTUATION:
            return ((ord(character),) * 2,)
        raise _Unknown

    def _class(self) -> Ranges:
        negated = self._sees("^")
        self._at += negated
        ranges: list[tuple[int, int]] = []
        first = True
        while first or not self._sees("]"):
            found = self._member(first=first)
            first = False
            if self._sees("-") and not self._text.startswith("-]", self._at):
                self._at += 1
                if self._sees("[") or len(found) != 1 or found[0][0] != found[0][1]:
                    raise _Unknown
                high = self._member(first=False)
                if len(high) != 1 or high[0][0] != high[0][1] or high[0][0] < found[0][0]:
                    raise _Unknown
                found = ((found[0][0], high[0][0]),)
            ranges += found
        self._at += 1
        folded = self._folded(ranges)
        return _without(folded) if negated else folded

    def _member(self, *, first: bool) -> Ranges:
        if self._sees("[:"):
            stop = self._text.find(":]", self._at)
            known = _CLASSES.get(self._text[self._at + 2 : stop])
            if stop < 0 or known is None:
                raise _Unknown
            self._at = stop + 2
            return known
        character = self._next()
        if character == "\\":
            return self._escape()
        if character == "[" and (self._sees(".") or self._sees("=")):
            raise _Unknown
        if character == "-" and not (first or self._sees("]")):
            raise _Unknown
        return ((ord(character), ord(character)),)

    def _folded(self, ranges: Sequence[tuple[int, int]]) -> Ranges:
        """The ranges, and without case what differs in it alone, as RE2 knows it."""
        if not self._ignore_case:
            return tuple(ranges)
        found = list(ranges)
        for low, high in ranges:
            for start, other in ((65, 32), (97, -32)):
                first, last = max(low, start), min(high, start + 25)
                if first <= last:
                    found.append((first + other, last + other))
        for letters, alike in (((75, 107), 0x212A), ((83, 115), 0x17F)):  # Kelvin sign, long s
            if any(low <= letter <= high for low, high in found for letter in letters):
                found.append((alike, alike))
        return tuple(found)


def _without(ranges: Sequence[tuple[int, int]]) -> Ranges:
    """All other code points."""
    found, at = [], 0
    for low, high in sorted(ranges):
        if at < low:
            found.append((at, low - 1))
        at = max(at, high + 1)
    return tuple([*found, (at, _LAST)] if at <= _LAST else found)


# The automaton ------------------------------------------------------------------------------------


class _Automaton:
    """States by number: a set of characters and what follows, or steps that take no character."""

    def __init__(self, node: Node) -> None:
        self._sets: list[Ranges | None] = []
        self._steps: list[tuple[int, ...]] = []
        self._kinds: list[str] = []
        self._accept = self._add("accept")
        self._start = self._built(node, self._accept)
        self._forget()

    def _add(self, kind: str, steps: tuple[int, ...] = (), ranges: Ranges | None = None) -> int:
        if len(self._kinds) == MAX_STATES:
            raise _Unknown
        self._kinds.append(kind)
        self._steps.append(steps)
        self._sets.append(ranges)
        return len(self._kinds) - 1

    def _built(self, node: Node, after: int) -> int:
        """The state at which the node begins, when `after` follows it."""
        match node:
            case ("set", ranges):
                return self._add("set", (after,), ranges)
            case ("begin",) | ("end",):
                return self._add(node[0], (after,))
            case ("all", parts):
                for part in reversed(parts):
                    after = self._built(part, after)
                return after
            case ("any", branches):
                return self._add("step", tuple(self._built(branch, after) for branch in branches))
        _, part, least, most = node
        if most is None:
            again = self._add("step")
            self._steps[again] = (self._built(part, again), after)
            after = again
        else:
            for _ in range(most - least):
                after = self._add("step", (self._built(part, after), after))
        for _ in range(least):
            after = self._built(part, after)
        return after

    def _forget(self) -> None:
        self._numbers: dict[frozenset[int], int] = {}
        self._states: list[frozenset[int]] = []
        self._next: list[dict[str, int]] = []
        self._first = self._number(self._reached([self._start], begin=True))

    def _number(self, states: frozenset[int]) -> int:
        """The number of a set of states; -1 of one that accepts."""
        if self._accept in states:
            return -1
        known = self._numbers.get(states)
        if known is None:
            known = self._numbers[states] = len(self._states)
            self._states.append(states)
            self._next.append({})
        return known

    def _reached(
        self, states: Sequence[int], *, begin: bool = False, end: bool = False
    ) -> frozenset[int]:
        """These states and what follows them without a character."""
        found: set[int] = set()
        pending = list(states)
        while pending:
            state = pending.pop()
            if state in found:
                continue
            found.add(state)
            kind = self._kinds[state]
            if kind == "step" or (kind == "begin" and begin) or (kind == "end" and end):
                pending += self._steps[state]
        return frozenset(each for each in found if self._kinds[each] in ("set", "end", "accept"))

    def matches(self, text: str) -> bool:
        """Whether a part of the text matches."""
        current = self._first
        if current < 0:
            return True
        following = self._next
        for at, character in enumerate(text):
            step = following[current].get(character)
            if step is None:
                step = self._stepped(current, character)
                if step is None:  # too many sets: this text goes on without
                    return self._slowly(self._states[current], text[at:])
            if step < 0:
                return True
            current = step
        at_end = self._states[current] | ({self._start} if not text else set())
        return self._accept in self._reached(list(at_end), begin=not text, end=True)

    def _stepped(self, current: int, character: str) -> int | None:
        if len(self._states) > MAX_SETS:
            return None
        step = self._number(self._after(self._states[current], character))
        self._next[current][character] = step
        return step

    def _after(self, states: frozenset[int], character: str) -> frozenset[int]:
        point = ord(character)
        found = [self._start]  # a match may begin behind any character
        for state in states:
            ranges = self._sets[state]
            if ranges is not None and any(low <= point <= high for low, high in ranges):
                found += self._steps[state]
        return self._reached(found)

    def _slowly(self, states: frozenset[int], text: str) -> bool:
        for character in text:
            states = self._after(states, character)
            if self._accept in states:
                return True
        return self._accept in self._reached(list(states), end=True)


# SIMILAR TO ---------------------------------------------------------------------------------------


def similar_pattern(pattern: str, escape: str = "\\") -> str:
    """The regular expression of a pattern of SIMILAR TO, which is about the whole text.

    % and _ stand for any text and any character, and . ^ $ for themselves; the rest is alike.
    """
    parts: list[str] = []
    at, in_class = 0, False
    while at < len(pattern):
        character = pattern[at]
        at += 1
        if escape and character == escape:
            following = pattern[at : at + 1]
            at += 1
            parts.append(f"\\{following}" if following in _PUNCTUATION else following)
        elif in_class:
            in_class = character != "]"
            parts.append(character)
        elif character == "[":
            in_class = True
            openings = ("[^]", "[]", "[^", "[")
            opened = next(each for each in openings if pattern.startswith(each, at - 1))
            parts.append(opened)
            at += len(opened) - 1
        else:
            parts.append({"%": ".*", "_": "."}.get(character) or _plainly(character))
    return f"^(?:{''.join(parts)})$"


def _plainly(character: str) -> str:
    return f"\\{character}" if character in ".^$\\" else character
