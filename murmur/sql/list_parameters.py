"""Parameters that are lists: `= ANY (?)`, `<> ALL (?)`, `IN (?)`, `unnest(?)`, `?::int[]`.

    SELECT body FROM note WHERE id = ANY (?)      [[4, 7, 9]]

      -> SELECT body FROM note WHERE id = ANY (ARRAY[?, ?, ?, ?])     [4, 7, 9, 9]

A list is written out as its elements before the statement is prepared, so that indexes serve it and
each element is checked like any other parameter. Where the number of elements does not matter it is
rounded up, to a power of two or a multiple of 256, so that a few plans serve lists of all lengths.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from sqlglot import exp

from murmur.errors import DataError, TypeMismatch
from murmur.sql.functions_json import path_of
from murmur.sql.parameters import MAX_PARAMETERS, Parameters

Tree: TypeAlias = Any  # sqlglot's
Given: TypeAlias = Sequence[Any] | Mapping[str, Any] | None
Form: TypeAlias = Literal["array", "set", "in", "bare"]

STEP = 256  # above it, numbers of elements are rounded up to a multiple of it
_LISTS = (list, tuple, set, frozenset)


@dataclass(frozen=True, slots=True)
class ListPlace:
    """Where a list may be given: the parameter's position, its token, and what is around it.

    array: its length counts; set: ANY and ALL; in: IN (?), where one value may stand as well; bare:
    IN ?, without parentheses.
    """

    position: int
    start: int
    stop: int
    form: Form
    uses: int  # how often the parameter stands in the text


def list_places(tree: Tree, text: str, numbers: Mapping[int, int]) -> tuple[ListPlace, ...]:
    """The parameters of a statement that may be lists, in the order of the text."""
    found = []
    uses = Counter(numbers.values())
    for node in tree.find_all(exp.Placeholder):
        form = _form(node)
        if form is not None:
            start = node.meta["start"]
            position = numbers[start]
            found.append(ListPlace(position, start, _end(text, start), form, uses[position]))
    return tuple(sorted(found, key=lambda place: place.start))


def _form(node: Tree) -> Form | None:
    parent, form = node.parent, None
    while isinstance(parent, exp.Paren | exp.Cast):
        if isinstance(parent, exp.Cast):
            to = parent.args["to"]
            if not isinstance(to, exp.DataType) or to.this is not exp.DType.ARRAY:
                return None
            form = "array"
        node, parent = parent, parent.parent
    match parent:
        case exp.Any() | exp.All():
            return "set"
        case exp.Anonymous() if parent.name.upper() in ("ALL", "SOME", "ANY"):
            return "set"
        case exp.In() if form is None and node.arg_key == "field":
            return "bare"
        case exp.In() if form is None and node.arg_key == "expressions":
            return "in" if len(parent.expressions) == 1 else None
        case exp.Unnest() | exp.Explode():
            return "array"
    return "array" if form else None


def _end(text: str, start: int) -> int:
    """Behind ?, $12 or :name."""
    stop = start + 1
    while text[start] != "?" and stop < len(text) and (text[stop].isalnum() or text[stop] == "_"):
        stop += 1
    return stop


def with_lists(
    text: str, places: Sequence[ListPlace], parameters: Parameters, given: Given
) -> tuple[str, Given] | None:
    """The statement with its lists written out, and the parameters of that; None if there are none.

    Without parameters, as for EXPLAIN, a list counts as one of one element.
    """
    values = None if given is None and parameters.names else list(parameters.arrange(given))
    names: dict[int, list[str]] = {}  # what stands in the text for the elements, by position
    elements: dict[int, list[Any]] = {}
    kept = {place.position: place.uses for place in places}  # uses that stay as they are
    used = len(parameters.names)
    parts, at = [], 0
    for place in places:
        position = place.position
        if values is None:
            found = [None] if place.form in ("set", "bare") else None
        else:
            found = _elements(values[position], place)
        if found is None:
            continue
        if position not in elements:
            elements[position] = found
            names[position] = [_name(parameters.style, used + i) for i in range(len(found))]
            used += len(found)
        kept[position] -= 1
        parts += [text[at : place.start], _written(place, names[position])]
        at = place.stop
    if not parts:
        return None
    changed = "".join([*parts, text[at:]])
    if values is None:
        return changed, None
    gone = {position for position in elements if not kept[position]}
    return changed, _given(parameters, values, names, elements, gone)


def _elements(value: Any, place: ListPlace) -> list[Any] | None:
    """The elements to write out; None if the parameter stays as it is."""
    where = f"parameter {place.position + 1}"
    if isinstance(value, str) and place.form == "set":
        try:
            value = [None if each.upper() == "NULL" else each for each in path_of(value)]
        except DataError:
            message = f"{where}: an array is a list, or a text such as '{{1,2}}'"
            raise TypeMismatch(message) from None
    if not isinstance(value, _LISTS):
        if place.form == "set" and value is None:
            return [None]
        if place.form in ("in", "array"):
            return None
        raise TypeMismatch(f"{where}: a list is expected here, {type(value).__name__} given")
    found = list(value)
    if place.form != "array" and 2 < len(found) < MAX_PARAMETERS - STEP:
        count = len(found)
        rounded = 1 << (count - 1).bit_length() if count <= STEP else -(-count // STEP) * STEP
        found += [found[-1]] * (rounded - count)
    return found


def _written(place: ListPlace, names: Sequence[str]) -> str:
    listed = ", ".join(names)
    match place.form:
        case "array" | "set":
            return f"ARRAY[{listed}]"
        case "in" if names:
            return listed
        case "bare" if names:
            return f"({listed})"
    return "SELECT NULL WHERE FALSE" if place.form == "in" else "(SELECT NULL WHERE FALSE)"


def _name(style: str, number: int) -> str:
    """The `number`-th parameter of a style, counted from 0."""
    return {"?": "?", "$": f"${number + 1}", ":": f":murmur_{number}"}[style]


def _given(
    parameters: Parameters,
    values: list[Any],
    names: Mapping[int, Sequence[str]],
    elements: Mapping[int, Sequence[Any]],
    gone: set[int],
) -> Given:
    """The values, elements in the place of lists; `gone` stand in the text no more."""
    if parameters.style == "?":
        spliced: list[Any] = []
        for position, value in enumerate(values):
            spliced += elements.get(position, [value])
        return spliced
    if parameters.style == "$":
        # $1 stays counted where a list stood, though nothing stands for it any more.
        kept = [None if at in gone else value for at, value in enumerate(values)]
        added = [each for position in elements for each in elements[position]]
        if not added:  # then the last that stands in the text is the last that is counted
            kept = kept[: max((at + 1 for at in range(len(values)) if at not in gone), default=0)]
        return kept + added
    named = {
        str(name): value
        for at, (name, value) in enumerate(zip(parameters.names, values, strict=True))
        if at not in gone
    }
    for position, each in elements.items():
        named |= {name[1:]: value for name, value in zip(names[position], each, strict=True)}
    return named
