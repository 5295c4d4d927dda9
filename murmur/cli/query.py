"""`murmur sql`: one statement, its answer on stdout."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from murmur.cli.answer import answer_of
from murmur.cli.directory import opened
from murmur.cli.failure import DONE, NOT_BEGUN, Fault
from murmur.cli.formats import write_answer
from murmur.cli.output import Output
from murmur.cli.parameters import parse_parameters


def run_sql(
    path: str,
    statement: str,
    *,
    parameters: Sequence[str],
    form: str,
    files: str | None = None,
) -> int:
    """Run the statement, or the one on stdin if it is `-`, and write its answer.

    COPY may use the files below the directory `files`, if there is one.
    """
    output = Output(sys.stdout)
    if form == "arrow" and output.is_terminal:
        raise Fault(
            "Arrow is bytes, and this is a terminal: redirect it, or take another --format",
            NOT_BEGUN,
        )
    values = parse_parameters(parameters)
    if statement == "-":
        statement = read_text()
    with opened(path, create=True) as swarm:
        session = swarm.new_session(files=files)
        try:
            with answer_of(session.execute(statement, values)) as answer:
                write_answer(answer, output, form)
            if session.in_transaction:
                raise Fault(
                    "the transaction would end with this command, and be rolled back: "
                    "run its statements in one `murmur shell`"
                )
        finally:
            session.close()
        output.flush()
    return DONE


def read_text() -> str:
    """All of stdin, as UTF-8."""
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Fault(
            f"stdin is not UTF-8: {error.reason} at byte {error.start}", NOT_BEGUN
        ) from None
