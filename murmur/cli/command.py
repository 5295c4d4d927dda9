"""The command `murmur`: its verbs and their arguments, and how they end (failure.py)."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

from murmur.cli.backup import run_backup, run_repair, run_restore
from murmur.cli.check import run_check
from murmur.cli.convert import run_convert
from murmur.cli.directory import DEFAULT_GROUP
from murmur.cli.failure import (
    BROKEN_PIPE,
    FAILED,
    INTERRUPTED,
    NOT_BEGUN,
    Fault,
    complain,
    describe,
)
from murmur.cli.formats import FORMATS
from murmur.cli.keys import run_delete, run_get, run_put, run_scan
from murmur.cli.output import abandon_stdout, hold_standard_streams
from murmur.cli.query import run_sql
from murmur.cli.serve import run_serve
from murmur.cli.shell import run_shell
from murmur.cli.ticket import run_ticket
from murmur.errors import MurmurError

ENDING = """\
exit codes:
  0    done
  1    refused, not found, or found wanting
  2    nothing was begun: wrong arguments, or DIR cannot be opened
  130  interrupted
  141  whoever read the output is gone

DIR is the directory of one replica; one process at a time has it open. shell, sql, serve and put
create it (and say so), the other verbs do not.
"""

Verb = Callable[[argparse.Namespace], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    hold_standard_streams()
    try:
        code = _run(argv)
        sys.stdout.flush()
    except BrokenPipeError:
        abandon_stdout()
        return BROKEN_PIPE
    except OSError as error:  # the output could not be written to its end
        complain(describe(error))
        abandon_stdout()
        return FAILED
    return code


def _run(argv: Sequence[str] | None) -> int:
    try:
        arguments = make_parser().parse_args(argv)
        run: Verb = arguments.run
        return run(arguments)
    except SystemExit as stop:  # of argparse: --help and --version, or wrong arguments
        return stop.code if isinstance(stop.code, int) else NOT_BEGUN
    except KeyboardInterrupt:
        return INTERRUPTED
    except Fault as fault:
        complain(str(fault))
        return fault.code
    except BrokenPipeError:
        raise
    except (MurmurError, OSError) as error:
        complain(describe(error))
        return FAILED


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = _Parser(
        prog="murmur",
        description="Murmur: a replicated database in a directory.",
        epilog=ENDING,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"murmur {_version()}")
    verbs = parser.add_subparsers(
        title="verbs", metavar="VERB", required=True, parser_class=_VerbParser
    )
    for add in (
        _shell,
        _sql,
        _serve,
        _check,
        _backup,
        _restore,
        _repair,
        _convert,
        _ticket,
        _put,
        _get,
        _delete,
        _scan,
    ):
        add(verbs)
    return parser


class _Parser(argparse.ArgumentParser):
    """Complains as every other failure does: in a line, with a hint where to look."""

    def error(self, message: str) -> None:  # type: ignore[override]
        """End the command."""
        complain(f"{message} ({self.prog} --help explains)")
        sys.exit(NOT_BEGUN)


class _VerbParser(_Parser):
    """Lets options stand between arguments: `scan DIR --reverse PREFIX`."""

    _mixing = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse options first, then what they leave."""
        if self._mixing:
            return super().parse_known_args(args, namespace)
        self._mixing = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._mixing = False


Verbs = argparse._SubParsersAction  # its only name


def _add(verbs: Verbs[_VerbParser], name: str, summary: str, run: Verb) -> _VerbParser:
    parser = verbs.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=ENDING,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("dir", metavar="DIR", help="the directory of the replica")
    parser.set_defaults(run=run)
    return parser


def _group(parser: _VerbParser) -> None:
    parser.add_argument(
        "--group",
        default=DEFAULT_GROUP,
        metavar="G",
        help="those who exchange data; peers of another group are turned away "
        f"(default: {DEFAULT_GROUP})",
    )


def _listen(parser: _VerbParser, *, required: bool = False) -> None:
    parser.add_argument(
        "--listen",
        required=required,
        metavar="HOST:PORT",
        help="where peers reach this replica, 0.0.0.0:4040 say; port 0 takes a free one"
        + ("" if required else " (default: this host only)"),
    )


def _files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--files",
        metavar="DIRECTORY",
        help="let COPY read and write files below this directory (. is where you are; "
        "default: no files)",
    )


def _shell(verbs: Verbs[_VerbParser]) -> None:
    parser = _add(
        verbs,
        "shell",
        "run statements, typed or from a pipe",
        lambda a: run_shell(
            a.dir, group=a.group, listen=a.listen, keep_going=a.keep_going, files=a.files
        ),
    )
    _group(parser)
    _listen(parser)
    _files(parser)
    parser.add_argument(
        "--keep-going",
        action="store_true",
        help="in a script, go on after a statement that failed; the exit code is 1 all the same",
    )
    parser.epilog = (
        "Statements end with a semicolon; .help lists the shell's own commands. What is typed is\n"
        "kept in ~/.murmur_history, or where $MURMUR_HISTORY says. With murmurdb[shell] whole\n"
        f"statements are edited.\n\n{ENDING}"
    )


def _sql(verbs: Verbs[_VerbParser]) -> None:
    parser = _add(
        verbs,
        "sql",
        "run one statement and write its answer",
        lambda a: run_sql(a.dir, a.statement, parameters=a.param, form=a.format, files=a.files),
    )
    _files(parser)
    parser.add_argument("statement", metavar="STATEMENT", help="the statement; - reads stdin")
    parser.add_argument(
        "--param",
        action="append",
        default=[],
        metavar="VALUE",
        help="a value for the next ? or $1, or :NAME=VALUE for :NAME. Numbers (1.5 is exact, "
        "15e-1 a DOUBLE), NULL, TRUE, FALSE, 'text' and x'0aff' are what they are in SQL; "
        "anything else is text. May be repeated",
    )
    parser.add_argument(
        "--format", choices=FORMATS, default="table", help="how to write rows (default: table)"
    )


def _serve(verbs: Verbs[_VerbParser]) -> None:
    parser = _add(
        verbs,
        "serve",
        "put the replica on the network: prints its ticket, then a line per event, until stopped",
        lambda a: run_serve(
            a.dir, listen=a.listen, peers=a.peer, group=a.group, duration_s=a.duration
        ),
    )
    _listen(parser, required=True)
    parser.add_argument(
        "--peer",
        action="append",
        default=[],
        metavar="TICKET",
        help="connect to the replica that gave this ticket, as soon as it answers; may be repeated",
    )
    _group(parser)
    parser.add_argument(
        "--for",
        dest="duration",
        type=_seconds,
        metavar="SECONDS",
        help="stop after so many seconds (default: run until SIGINT or SIGTERM)",
    )


def _check(verbs: Verbs[_VerbParser]) -> None:
    parser = _add(
        verbs,
        "check",
        "verify every file, and that the state follows from the log",
        lambda a: run_check(a.dir),
    )
    parser.epilog = (
        "exit codes: 0 sound, 1 problems (one line each: path, offset, reason), "
        "2 DIR cannot be opened"
    )


def _convert(verbs: Verbs[_VerbParser]) -> None:
    parser = _add(
        verbs,
        "convert",
        "let another backend keep the data; the replica stays who it is",
        lambda a: run_convert(a.dir, backend=a.backend),
    )
    parser.add_argument(
        "--backend",
        required=True,
        choices=("lsm", "sqlite"),
        help="lsm, sorted files, the default of new directories; or sqlite, one file that sqlite3 "
        "can read",
    )


def _backup(verbs: Verbs[_VerbParser]) -> None:
    parser = _add(
        verbs,
        "backup",
        "copy what a backup lacks into it: a generation of its own, verified",
        lambda a: run_backup(a.dir, target=a.target, label=a.label),
    )
    parser.add_argument("target", metavar="BACKUP", help="a directory, made if it is not there")
    parser.add_argument("--label", default="", help="what people call this generation")


def _restore(verbs: Verbs[_VerbParser]) -> None:
    parser = _add(
        verbs,
        "restore",
        "make a new directory of a backup",
        lambda a: run_restore(a.dir, target=a.target, generation=a.generation),
    )
    parser.add_argument("target", metavar="NEW", help="the directory to make")
    parser.add_argument(
        "--generation", type=int, metavar="N", help="its number; the newest, if none is given"
    )


def _repair(verbs: Verbs[_VerbParser]) -> None:
    parser = _add(
        verbs,
        "repair",
        "save what can be read of a damaged directory into a new one, and list what cannot",
        lambda a: run_repair(a.dir, target=a.target),
    )
    parser.add_argument("target", metavar="NEW", help="the directory to make")


def _ticket(verbs: Verbs[_VerbParser]) -> None:
    parser = _add(
        verbs,
        "ticket",
        "print the text that lets a peer connect to this replica; keep it like a password",
        lambda a: run_ticket(a.dir, group=a.group, listen=a.listen),
    )
    _group(parser)
    _listen(parser)


def _key(parser: _VerbParser) -> None:
    parser.add_argument("key", metavar="KEY", help="the key, text")
    _hex(parser)


def _hex(parser: _VerbParser) -> None:
    parser.add_argument(
        "--hex", action="store_true", help="keys are bytes, written as hexadecimal digits"
    )


def _put(verbs: Verbs[_VerbParser]) -> None:
    parser = _add(
        verbs,
        "put",
        "set the value of a key",
        lambda a: run_put(a.dir, a.key, a.value, hexadecimal=a.hex),
    )
    _key(parser)
    parser.add_argument(
        "value", metavar="VALUE", nargs="?", help="the value; without it, or with -, stdin is read"
    )


def _get(verbs: Verbs[_VerbParser]) -> None:
    parser = _add(
        verbs,
        "get",
        "write the value of a key, exactly its bytes",
        lambda a: run_get(a.dir, a.key, hexadecimal=a.hex),
    )
    _key(parser)


def _delete(verbs: Verbs[_VerbParser]) -> None:
    parser = _add(
        verbs, "delete", "delete a key", lambda a: run_delete(a.dir, a.key, hexadecimal=a.hex)
    )
    _key(parser)


def _scan(verbs: Verbs[_VerbParser]) -> None:
    parser = _add(
        verbs,
        "scan",
        r"write keys and values in key order: key, tab, value, escaped (\t \n \\, \x and digits)",
        lambda a: run_scan(
            a.dir,
            a.prefix,
            start=a.start,
            stop=a.stop,
            reverse=a.reverse,
            limit=a.limit,
            keys_only=a.keys_only,
            hexadecimal=a.hex,
        ),
    )
    parser.add_argument("prefix", metavar="PREFIX", nargs="?", help="only keys that begin so")
    parser.add_argument("--start", metavar="KEY", help="the first key")
    parser.add_argument("--stop", metavar="KEY", help="the key before which to stop")
    parser.add_argument("--reverse", action="store_true", help="against the order of keys")
    parser.add_argument("--limit", type=_whole, metavar="N", help="at most so many")
    parser.add_argument("--keys-only", action="store_true", help="without values")
    _hex(parser)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is no span of time")
    return seconds


def _whole(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative")
    return number


def _version() -> str:
    from murmur import __version__

    return __version__
