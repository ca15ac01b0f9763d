# PYTHON_ARGCOMPLETE_OK
"""The command line: which arguments there are, and how errors become messages and exit codes.

Arguments are checked here, before a command runs. So an exception that escapes a command is either
a typed error, which is printed in three lines, or a fault of redundict. Its traceback is printed
first.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn

import redundict
from redundict import errors
from redundict.engine import places

from . import commands, exits, importing, render
from .differences import plain
from .exits import Exit


def _path(text: str) -> str:
    """Return a path that a store may have."""
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError(f"no store can have the path {text!r}")
    return text


def _seconds(text: str) -> float:
    """Return a number of seconds that can be waited."""
    seconds = float(text)
    if not 0 <= seconds <= threading.TIMEOUT_MAX:
        raise argparse.ArgumentTypeError(f"must be 0 to {threading.TIMEOUT_MAX:.0f}, not {text}")
    return seconds


_FLAG: Final = {"action": "store_true"}
_NUMBER: Final = {"type": int, "metavar": "N"}
_SECONDS: Final = {"type": _seconds, "metavar": "SECONDS"}
_FILE: Final = {"metavar": "FILE"}
_STORE: Final = {"type": _path, "metavar": "PATH", "help": "the store, without a slot's ending"}
_ARGUMENTS: Final[dict[str, dict[str, Any]]] = {
    "path": _STORE,
    "paths": _STORE | {"nargs": "+"},
    "old": _NUMBER | {"nargs": "?", "help": "a generation (the one before the newest)"},
    "new": _NUMBER | {"nargs": "?", "metavar": "M", "help": "another (the newest)"},
    "source": _FILE | {"help": "the file, database or store to import"},
    "target": _FILE | {"help": "the file to write"},
    "--allow-pickle": _FLAG | {"help": "FILE may hold pickles; loading one runs the code in it"},
    "--cold": _FLAG | {"help": "drop the page cache first: read from the medium"},
    "--copies": {
        "metavar": "FOLDER",
        "action": "append",
        "help": "the folder of a copy, once per copy, if no list names it",
    },
    "--dry-run": _FLAG | {"help": "show it, and change nothing"},
    "--file": _FILE | {"help": "a JSON file to use as data"},
    "--force": _FLAG | {"help": "replace FILE if it is there"},
    "--format": {
        "choices": ("json", "csv", "literal", "pickle"),
        "default": "json",
        "help": "of the store",
    },
    "--generation": _NUMBER | {"help": "instead of the newest"},
    "--json": _FLAG | {"help": "for programs: print one record for each store"},
    "--kind": {"choices": importing.KINDS, "help": "the kind of FILE, if it is not clear"},
    "--prefer": {"metavar": "COPY", "type": str.lower, "help": "the copy whose state stands"},
    "--quiet": _FLAG | {"help": "print only what is in trouble"},
    "--table": {"help": "the table of an SqliteDict that has several"},
    "--timeout": _SECONDS | {"default": 0.0, "help": "how long to wait for another writer (0)"},
    "--to": _NUMBER | {"help": "instead of the one before the newest"},
    "--watch": _SECONDS | {"help": "check again and again, this far apart"},
    "--yes": _FLAG | {"help": "do not ask"},
}
#: The function and the arguments of each command. A command with a path takes --copies, too.
_COMMANDS: Final[dict[str, tuple[Callable[[argparse.Namespace], Exit], str]]] = {
    "check": (commands.check, "paths --quiet --json --cold --watch"),
    "log": (commands.log, "path --json"),
    "diff": (commands.diff, "path old new --json"),
    "show": (commands.show, "path --generation"),
    "export": (commands.export, "path target --generation --force"),
    "browse": (commands.browse, "path --timeout"),
    "rollback": (commands.rollback, "path --timeout --to --dry-run --yes"),
    "repair": (commands.repair, "path --timeout --dry-run --prefer"),
    "import": (commands.import_, "source path --timeout --format --kind --table --allow-pickle"),
    "demo": (commands.demo, "--file"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    warnings.simplefilter("always", errors.RedundancyWarning)
    warnings.showwarning = _show_warning  # type: ignore[assignment]  # takes fewer, by position
    _mend_streams()
    try:
        args = _arguments(argv)
        code: Exit = args.run(args)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has gone, and would not see an error
        return Exit.FAILED
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return Exit.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - Python's own exit code for it would mean "degraded"
        typed = exits.typed(error)
        if typed.reason == "internal":
            traceback.print_exception(error)
        print(render.failure(typed), file=sys.stderr)
        return exits.of_error(typed)
    return code


def _mend_streams() -> None:
    """Replace a stream that is closed, as by `>&-`, and let output take a path of any bytes."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - as long as the process lives
        elif isinstance(stream, io.TextIOWrapper) and mode == "w":
            stream.reconfigure(errors="backslashreplace")


def _show_warning(message: Warning | str, *_: object) -> None:
    print(f"warning: {plain(str(message))}", file=sys.stderr)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the arguments; exit with a message if they cannot be understood."""
    top = parser()
    if "_ARGCOMPLETE" in os.environ:  # the shell asks what could follow
        import argcomplete  # noqa: PLC0415 - an extra

        argcomplete.autocomplete(top)
    args = top.parse_args(argv)
    try:
        for path in getattr(args, "paths", [args.path] if "path" in args else []):
            if "path" not in args and os.path.isdir(path):
                continue  # a folder to be searched
            with contextlib.suppress(errors.RedundictError):  # the command reports it
                places.assumed(path, args.copies)
    except ValueError as error:
        top.error(getattr(error, "what", str(error)))
    return args


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    top = _Parser(prog="redundict", description=(redundict.__doc__ or "").partition("\n")[0])
    top.add_argument("--version", action="version", version=f"redundict {redundict.__version__}")
    added = top.add_subparsers(required=True, metavar="COMMAND")
    for name, (run, arguments) in _COMMANDS.items():
        command = added.add_parser(name, help=run.__doc__, description=run.__doc__)
        command.set_defaults(run=run)
        for argument in arguments.split() + ["--copies"] * ("path" in arguments):
            command.add_argument(argument, **_ARGUMENTS[argument])
    return top


class _Parser(argparse.ArgumentParser):
    """A parser whose help ends with the exit codes."""

    def format_help(self) -> str:
        """Return the help of argparse, and the exit codes."""
        return f"{super().format_help()}\n{exits.as_help()}\n"

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the arguments, and exit."""
        said = f"error: {plain(message)}\nnext: {self.prog} --help\n"
        self.exit(Exit.USAGE, self.format_usage() + said)
