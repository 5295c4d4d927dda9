"""The shell's own commands: lines that begin with a dot."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from murmur.cli.failure import Fault
from murmur.cli.schema import create_statements

if TYPE_CHECKING:
    from murmur.cli.shell import Shell

MODES = ("table", "csv", "json")

PEERS = """
    SELECT left(node_id, 12) AS node, address, state, rtt_ms, backlog, records_in, records_out,
        last_error
    FROM murmur_peers ORDER BY node_id
"""
CONFLICTS = """
    SELECT kind, table_name, key, constraint_name, detail, winner, loser, time, replica
    FROM murmur_conflicts
"""
TABLES = "SELECT name, columns, primary_key, indexes FROM murmur_tables ORDER BY name"


class Command(NamedTuple):
    """What a command does, and what `.help` says of it."""

    arguments: str
    summary: str
    run: Callable[[Shell, str], None]


def run_command(shell: Shell, line: str) -> None:
    """Run the command in a line."""
    name, _, argument = line.strip().removesuffix(";").partition(" ")
    command = COMMANDS.get(name)
    if command is None:
        raise Fault(f"there is no command {name}; .help lists them")
    argument = argument.strip()
    if argument and not command.arguments:
        raise Fault(f"{name} takes no argument")
    if not argument and command.arguments and not command.arguments.startswith("["):
        raise Fault(f"{name} needs an argument: {name} {command.arguments}")
    command.run(shell, argument)


def _tables(shell: Shell, argument: str) -> None:
    shell.query(TABLES)


def _schema(shell: Shell, argument: str) -> None:
    catalog = shell.catalog()
    tables = catalog.tables
    if argument:
        name = argument.strip('"')
        table = catalog.table(name) or catalog.table(name.lower())
        if table is None:
            raise Fault(f'there is no table "{name}"')
        tables = (table,)
    for statement in create_statements(catalog, tables):
        shell.output.text(statement + "\n")


def _peers(shell: Shell, argument: str) -> None:
    shell.query(PEERS)


def _ticket(shell: Shell, argument: str) -> None:
    shell.output.text(shell.swarm.ticket() + "\n")


def _connect(shell: Shell, argument: str) -> None:
    peer = shell.swarm.connect_peer(argument)
    shell.say(f"connected to {peer.node_id[:12]} at {peer.address}")


def _conflicts(shell: Shell, argument: str) -> None:
    shell.query(CONFLICTS)


def _timer(shell: Shell, argument: str) -> None:
    shell.timed = _choice(argument, ("on", "off"), ".timer") == "on"


def _mode(shell: Shell, argument: str) -> None:
    shell.mode = _choice(argument, MODES, ".mode")


def _help(shell: Shell, argument: str) -> None:
    for name, (arguments, summary, _) in COMMANDS.items():
        shell.output.text(f"{f'{name} {arguments}':22} {summary}\n")
    shell.output.text(
        "Anything else is SQL, up to a semicolon. Ctrl-C drops what was typed or stops what runs, "
        "Ctrl-D leaves.\n"
    )


def _quit(shell: Shell, argument: str) -> None:
    shell.leave()


def _choice(argument: str, choices: tuple[str, ...], name: str) -> str:
    if argument not in choices:
        raise Fault(f"{name} is {', '.join(choices[:-1])} or {choices[-1]}, not {argument}")
    return argument


COMMANDS = {
    ".tables": Command("", "the tables", _tables),
    ".schema": Command("[TABLE]", "the CREATE statements of one table, or of all", _schema),
    ".peers": Command("", "the peers that this replica knows, and how it stands with each", _peers),
    ".ticket": Command("", "text that lets a peer connect; keep it like a password", _ticket),
    ".connect": Command("TICKET", "connect to a peer", _connect),
    ".conflicts": Command("", "what replicas wrote apart and cannot both hold", _conflicts),
    ".timer": Command("on|off", "whether to say how long statements take", _timer),
    ".mode": Command("table|csv|json", "how to write rows", _mode),
    ".help": Command("", "this list", _help),
    ".quit": Command("", "leave", _quit),
    ".exit": Command("", "leave", _quit),
}
