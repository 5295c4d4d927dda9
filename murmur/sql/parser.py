"""From text to one statement: a sqlglot tree whose parameters are numbered and whose limits hold.

    parse("EXPLAIN SELECT a FROM t WHERE b = ? AND c = ?")
      -> Parsed("select", tree, text, Parameters("?", (0, 1)), explain=ExplainOptions())

The grammar is PostgreSQL's as sqlglot reads it, with these lines drawn around it:

- one statement per call; a trailing semicolon is fine, a second statement is an error;
- transaction statements and EXPLAIN are read here, word by word: sqlglot takes some of them for
  aliases (START TRANSACTION) or for text it does not understand (EXPLAIN);
- `?` is always a parameter (never PostgreSQL's JSON operator), numbered by its place in the text
  before anything can reorder the tree; `:name` and `$1` are the other two styles, and one
  statement uses one style;
- what sqlglot forgives but PostgreSQL does not (a trailing comma, `1_000` read as `1 AS _000`) is
  an error here too;
- text longer than MAX_TEXT and trees deeper than MAX_DEPTH are refused, so that no later step can
  run out of stack.

Every error is ours and points at its place. The parser and the binder are the only ones that know
sqlglot; it takes 0.1 s to import, which is why the floor imports it with its first statement.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, TypeAlias

from sqlglot import exp
from sqlglot.errors import ErrorLevel, TokenError
from sqlglot.errors import ParseError as SqlglotParseError
from sqlglot.tokens import TokenType

from murmur.errors import InvalidInput, ParseError, Unsupported
from murmur.sql.balance import balance_unions
from murmur.sql.copy import Copy, read_copy
from murmur.sql.explain_options import ExplainOptions, read_options
from murmur.sql.list_parameters import ListPlace, list_places
from murmur.sql.normal_form import to_normal_form
from murmur.sql.parameters import MAX_PARAMETERS, Parameters
from murmur.sql.parser_dialect import StatementDialect, SyntaxFault, shown_token
from murmur.sql.parser_kv import insert_or, with_kv_prefix
from murmur.sql.place import place
from murmur.sql.reindex import read_reindex
from murmur.sql.row_locks import take_locks
from murmur.sql.schemas import resolve_schemas
from murmur.sql.settings import SETTING_WORDS, SettingStatement, read_setting
from murmur.sql.transactions import FIRST_WORDS, TransactionStatement, read_transaction

MAX_TEXT = 1 << 20  # characters; bulk loads pass rows as parameters
MAX_DEPTH = 100  # levels of a tree, a chain of ANDs, ORs, || or UNIONs counting as one

Kind: TypeAlias = Literal[
    "select",
    "insert",
    "update",
    "delete",
    "merge",
    "with",
    "create",
    "drop",
    "alter",
    "comment",
    "transaction",
    "setting",
    "copy",
]
Token: TypeAlias = Any  # sqlglot's
Tree: TypeAlias = Any


@dataclass(frozen=True, slots=True)
class Parsed:
    """One statement. `tree` is sqlglot's, and None where `transaction` or `copy` says all."""

    kind: Kind
    tree: Tree
    text: str
    parameters: Parameters
    explain: ExplainOptions | None = None
    transaction: TransactionStatement | None = None
    setting: SettingStatement | None = None
    copy: Copy | None = None
    lists: tuple[ListPlace, ...] = ()  # where parameters may be lists
    locked: Tree = None  # a DELETE of the rows that FOR UPDATE is about


def parse(text: str) -> Parsed:
    """Read one statement; ParseError or Unsupported, pointing at the place, if it is not one."""
    if not isinstance(text, str):
        raise InvalidInput(f"a statement is text, not {type(text).__name__}")
    if len(text) > MAX_TEXT:
        raise ParseError(
            f"the statement has {len(text)} characters, more than {MAX_TEXT}: "
            "pass values as parameters, many rows with executemany"
        )
    try:
        return _parse(text)
    except RecursionError:
        raise ParseError("the statement is nested too deeply") from None


def split_script(text: str) -> list[str]:
    """The statements of a script, each on the lines where it stands; ParseError for an open text.

    Between two of them is a semicolon, which may stand after the last one too.
    """
    if not isinstance(text, str):
        raise InvalidInput(f"a script is text, not {type(text).__name__}")
    statements: list[str] = []
    first = last = None
    for token in _all_tokens(text):
        if token.token_type is not TokenType.SEMICOLON:
            first, last = first or token, token
        elif first is not None and last is not None:
            statements.append(_lines_before(text, first.start) + text[first.start : last.end + 1])
            first = last = None
    if first is not None and last is not None:
        statements.append(_lines_before(text, first.start) + text[first.start : last.end + 1])
    return statements


def _lines_before(text: str, start: int) -> str:
    """As many lines, so that errors tell the line of the script."""
    line = text.rfind("\n", 0, start) + 1
    return "\n" * text.count("\n", 0, start) + " " * (start - line)


def parse_expression(text: str) -> Tree:
    """Read one expression, as a CHECK or a DEFAULT was stored."""
    tree = parse(f"SELECT {text}").tree
    if [key for key, value in tree.args.items() if value] != ["expressions"]:
        raise ParseError(f"not an expression: {text}")
    if len(tree.expressions) != 1 or isinstance(tree.expressions[0], exp.Alias | exp.Star):
        raise ParseError(f"not one expression: {text}")
    return tree.expressions[0]


def text_after_as(text: str) -> str:
    """The query of a CREATE ... AS, as it stands in the text; ParseError if there is no AS."""
    tokens = _statement_tokens(text)[0]
    depth = 0
    for token, following in pairwise(tokens):
        if token.token_type in (TokenType.L_PAREN, TokenType.R_PAREN):
            depth += 1 if token.token_type is TokenType.L_PAREN else -1
        elif depth == 0 and token.token_type is TokenType.ALIAS:
            return text[following.start : tokens[-1].end + 1]
        elif depth == 0 and token.token_type in _QUERY_WORDS:
            raise _error("expected AS before the query", text, token.start)
    raise _error("expected AS before the query", text, len(text.rstrip()))


_QUERY_WORDS = (TokenType.SELECT, TokenType.VALUES, TokenType.WITH)


def _statement_tokens(text: str) -> tuple[Sequence[Token], ExplainOptions | None]:
    """The tokens behind EXPLAIN and its options, and these; None without EXPLAIN."""
    tokens = _tokens(text)
    if not tokens:
        raise ParseError("the statement is empty")
    explain = tokens[0].text.upper() == "EXPLAIN" and not _is_quoted(tokens[0], text)
    if explain:
        # sqlglot takes what follows EXPLAIN for one text, so it reads blanks in its place.
        start, end = tokens[0].start, tokens[0].end + 1
        tokens = _tokens(text[:start] + " " * (end - start) + text[end:])
        if not tokens:
            raise _error("EXPLAIN of what?", text, len(text))
        options, count = read_options(tokens, text)
        if count:
            if count == len(tokens):
                raise _error("EXPLAIN of what?", text, len(text))
            end = tokens[count].start
            tokens = _tokens(text[:start] + " " * (end - start) + text[end:])
        return tokens, options
    return tokens, None


def _parse(text: str) -> Parsed:
    tokens, explain = _statement_tokens(text)
    kind = _kind(tokens, text)
    if kind in ("transaction", "setting", "copy") and explain:
        raise _error("there is no plan to explain", text, tokens[0].start)
    if kind == "setting":
        return Parsed(kind, None, text, Parameters(), setting=read_setting(tokens, text))
    if kind == "transaction":
        return Parsed(kind, None, text, Parameters(), transaction=read_transaction(tokens, text))
    if kind == "copy":
        return Parsed(kind, None, text, Parameters(), copy=read_copy(tokens, text))
    if tokens[0].text.upper() == "REINDEX":
        return Parsed(kind, read_reindex(tokens, text), text, Parameters(), explain)
    _check_tokens(tokens, text)
    numbers, parameters = _number_parameters(tokens, text)
    if kind == "create":
        tokens = with_kv_prefix(tokens, text)
    if tokens[0].text.upper() == "REPLACE":
        tokens = [*insert_or(tokens[0]), *tokens]
    tree = _tree(tokens, text, kind, numbers)
    lists = list_places(tree, text, numbers) if numbers else ()
    to_normal_form(tree)
    locked = take_locks(tree, text)
    if kind == "select" and writes_several(tree):
        kind = "with"
    return Parsed(kind, tree, text, parameters, explain, lists=lists, locked=locked)


# Tokens ------------------------------------------------------------------------------------------


def _tokens(text: str) -> Sequence[Token]:
    """The tokens of one statement, without its trailing semicolon."""
    tokens = _all_tokens(text)
    end = next((i for i, t in enumerate(tokens) if t.token_type is TokenType.SEMICOLON), None)
    if end is None:
        return tokens
    for token in tokens[end:]:
        if token.token_type is not TokenType.SEMICOLON:
            message = "one statement per call; a second one begins here (executescript runs them)"
            raise _error(message, text, token.start)
    return tokens[:end]


def _all_tokens(text: str) -> Sequence[Token]:
    if "\0" in text:
        raise _error("a statement holds no NUL character", text, text.index("\0"))
    try:
        text.encode()
    except UnicodeEncodeError as error:
        reason = f"lone surrogate at character {error.start + 1}, which is not valid text"
        raise ParseError(reason) from None
    try:
        tokens: list[Token] = StatementDialect().tokenize(text)
    except TokenError as error:
        # Whatever cannot be tokenised is a literal, a name or a comment that does not end.
        found = re.search(r":(\d+)$", str(error.__cause__))
        start = int(found[1]) if found else error.start or 0
        raise ParseError(f"text, name or comment without an end\n{place(text, start)}") from None
    return tokens


_STATEMENTS: dict[str, Kind] = {
    "SELECT": "select",
    "VALUES": "select",
    "TABLE": "select",
    "(": "select",
    "INSERT": "insert",
    "UPDATE": "update",
    "DELETE": "delete",
    "MERGE": "merge",
    "TRUNCATE": "delete",
    "CREATE": "create",
    "DROP": "drop",
    "ALTER": "alter",
    "REPLACE": "insert",
    "COMMENT": "comment",
    "COPY": "copy",
    "REINDEX": "alter",
    **dict.fromkeys(FIRST_WORDS, "transaction"),
    **dict.fromkeys(SETTING_WORDS, "setting"),
}
# What begins a statement of PostgreSQL, SQLite or DuckDB that Murmur does not have.
_ELSEWHERE = """
    ATTACH CALL CHECKPOINT CLOSE CLUSTER DEALLOCATE DECLARE
    DESCRIBE DETACH DISCARD DO EXECUTE EXPORT FETCH FROM GRANT IMPORT INSTALL KILL LISTEN LOAD
    LOCK MOVE NOTIFY PIVOT PRAGMA PREPARE REASSIGN REFRESH
    REVOKE SECURITY SUMMARIZE UNLISTEN UNPIVOT USE VACUUM
"""
_TREES: dict[Kind, tuple[type[exp.Expression], ...]] = {
    "select": (exp.Query, exp.Values),
    "insert": (exp.Insert,),
    "update": (exp.Update,),
    "delete": (exp.Delete,),
    "merge": (exp.Merge,),
    "create": (exp.Create,),
    "drop": (exp.Drop,),
    "alter": (exp.Alter,),
    "comment": (exp.Comment,),
}


def _kind(tokens: Sequence[Token], text: str) -> Kind:
    first = tokens[0]
    word = first.text.upper()
    if not _is_quoted(first, text):
        if word == "WITH":
            return _kind_after_with(tokens)
        if word in _STATEMENTS:
            _check_second(tokens, text, word)
            return _STATEMENTS[word]
        if word in _ELSEWHERE.split():
            raise Unsupported(f"Murmur has no {word} statement\n{place(text, first.start)}")
    raise _error(f"a statement does not begin with {shown_token(first, text)}", text, first.start)


def _check_second(tokens: Sequence[Token], text: str, word: str) -> None:
    """INSERT INTO, DELETE FROM and MERGE INTO are two words, which sqlglot does not insist on."""
    second = {
        "INSERT": ("INTO", "OR"),
        "REPLACE": ("INTO",),
        "DELETE": ("FROM",),
        "MERGE": ("INTO",),
    }.get(word)
    if second is not None and (len(tokens) < 2 or tokens[1].text.upper() not in second):
        at = tokens[1].start if len(tokens) > 1 else len(text.rstrip())
        raise _error(f"expected {second[0]} after {word}", text, at)


def _kind_after_with(tokens: Sequence[Token]) -> Kind:
    """WITH ... may be any of five statements: the first of their words outside parentheses says."""
    depth = 0
    for token in tokens:
        if token.token_type is TokenType.L_PAREN:
            depth += 1
        elif token.token_type is TokenType.R_PAREN:
            depth -= 1
        elif depth == 0 and token.token_type in (
            TokenType.INSERT,
            TokenType.UPDATE,
            TokenType.DELETE,
            TokenType.MERGE,
        ):
            return _STATEMENTS[token.text.upper()]
    return "select"


# A comma before one of these belongs to nothing.
_NOT_AFTER_COMMA = frozenset(
    {
        TokenType.R_PAREN,
        TokenType.R_BRACKET,
        TokenType.COMMA,
        TokenType.FROM,
        TokenType.WHERE,
        TokenType.GROUP_BY,
        TokenType.ORDER_BY,
        TokenType.HAVING,
        TokenType.LIMIT,
        TokenType.OFFSET,
        TokenType.RETURNING,
        TokenType.UNION,
        TokenType.EXCEPT,
        TokenType.INTERSECT,
    }
)
_NUMBER_TAIL = frozenset({TokenType.VAR, TokenType.NUMBER})


def _check_tokens(tokens: Sequence[Token], text: str) -> None:
    """Refuse what sqlglot reads as something else than it says."""
    for i, token in enumerate(tokens):
        kind = token.token_type
        following = tokens[i + 1] if i + 1 < len(tokens) else None
        if kind is TokenType.COMMA and (
            following is None or following.token_type in _NOT_AFTER_COMMA
        ):
            at = len(text.rstrip()) if following is None else following.start
            raise _error("nothing follows the comma", text, at)
        tail = following if following and following.start == token.end + 1 else None
        if kind is TokenType.NUMBER and tail and tail.token_type in _NUMBER_TAIL:
            raise _error("the number does not end here", text, tail.start)
        if kind is TokenType.HEX_STRING and text[token.start] == "0":
            raise _error("hexadecimal numbers are not read; a blob is x'..'", text, token.start)


def _is_quoted(token: Token, text: str) -> bool:
    return text[token.start] in "\"'"


# Parameters --------------------------------------------------------------------------------------


def _number_parameters(tokens: Sequence[Token], text: str) -> tuple[dict[int, int], Parameters]:
    """Positions of all parameters, by the offset of the token that sqlglot makes them from."""
    numbers: dict[int, int] = {}
    positions: dict[int | str, int] = {}
    style: Literal["", "?", "$", ":"] = ""
    for i, token in enumerate(tokens):
        following = tokens[i + 1] if i + 1 < len(tokens) else None
        adjacent = following is not None and following.start == token.end + 1
        name: int | str
        this: Literal["?", "$", ":"]
        match token.token_type:
            case TokenType.PLACEHOLDER:
                this, name = "?", len(positions)
            case TokenType.PARAMETER if text[token.start] == "@":
                continue  # the absolute value
            case TokenType.PARAMETER:
                word = text[following.start : following.end + 1] if adjacent and following else ""
                if text[token.start] != "$" or not word.isascii() or not word.isdigit():
                    raise _error("a parameter is ?, :name or $1", text, token.start)
                this, name = "$", int(word) - 1
                if not 0 <= name < MAX_PARAMETERS:
                    raise _error(f"parameters go from $1 to ${MAX_PARAMETERS}", text, token.start)
            case TokenType.COLON if adjacent and following and _is_name(following, text):
                this, name = ":", text[following.start : following.end + 1]
            case _:
                continue
        if style not in ("", this):
            raise _error(f"the parameter styles {style} and {this} do not mix", text, token.start)
        style = this
        numbers[token.start] = positions.setdefault(name, len(positions))
        if len(positions) > MAX_PARAMETERS:
            raise _error(f"more than {MAX_PARAMETERS} parameters", text, token.start)
    if style != "$":
        return numbers, Parameters(style, tuple(positions))
    # $2 may come before $1, and $1 not at all: here the number is the position.
    by_order = {order: int(name) for name, order in positions.items()}
    numbers = {start: by_order[order] for start, order in numbers.items()}
    return numbers, Parameters("$", tuple(range(max(by_order.values()) + 1)))


def _is_name(token: Token, text: str) -> bool:
    return text[token.start : token.end + 1].isidentifier()


# Trees -------------------------------------------------------------------------------------------


def _tree(tokens: Sequence[Token], text: str, kind: Kind, numbers: Mapping[int, int]) -> Tree:
    parser = StatementDialect().parser(error_level=ErrorLevel.IMMEDIATE)
    parser.numbers = numbers
    try:
        trees = parser.parse(tokens, text)
    except SyntaxFault as error:
        raise _error(error.message, text, error.start) from None
    except SqlglotParseError as error:
        raise ParseError(str(error)) from None
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        # The parser builds on what it takes for granted, such as a name in `{:}`.
        raise ParseError("the statement cannot be parsed") from error
    if len(trees) == 1 and isinstance(trees[0], exp.TruncateTable):
        _check(trees[0], text, numbers)
        resolve_schemas(trees[0], text)
        return trees[0]
    if len(trees) != 1 or not isinstance(trees[0], _TREES[kind]):
        raise _error("this is not a statement", text, tokens[0].start)
    balance_unions(trees[0])
    _check(trees[0], text, numbers)
    resolve_schemas(trees[0], text)
    return trees[0]


WRITES = (exp.Insert, exp.Update, exp.Delete, exp.Merge)


def writes_several(tree: Tree) -> bool:
    """Whether a statement writes in several places: its WITH has parts that write, or TRUNCATE."""
    if not isinstance(tree, exp.Expression):
        return False
    clause = tree.args.get("with_")
    return isinstance(tree, exp.TruncateTable) or (
        clause is not None and any(isinstance(cte.this, WRITES) for cte in clause.expressions)
    )


_CHAINS = (exp.And, exp.Or, exp.DPipe)


def _check(tree: Tree, text: str, numbers: Mapping[int, int]) -> None:
    """Bound the depth, and see that every parameter of the text has reached the tree."""
    unseen = dict(numbers)
    pending = [(tree, 1)]
    while pending:
        node, depth = pending.pop()
        if depth > MAX_DEPTH:
            raise ParseError(f"the statement is nested more than {MAX_DEPTH} levels deep")
        if isinstance(node, exp.Alias) and not isinstance(node.args.get("alias"), exp.Identifier):
            raise ParseError("a name is expected after AS, not a parameter")
        if isinstance(node, exp.Placeholder):
            unseen.pop(node.meta["start"], None)
        for child in node.iter_expressions():
            chained = isinstance(node, _CHAINS) and type(child) is type(node)
            pending.append((child, depth if chained else depth + 1))
    for start in unseen:
        raise Unsupported(f"a parameter cannot stand here\n{place(text, start)}")


def _error(message: str, text: str, start: int) -> ParseError:
    return ParseError(f"{message}\n{place(text, start)}")
