# PYTHON_ARGCOMPLETE_OK
"""The command line: which arguments there are, and how errors become messages and exit codes.

Arguments are checked here, before a command runs. So an exception that escapes a command is either
a typed error, which is printed in three lines, or a fault of redundict, which is printed whole.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from redundict import __doc__ as package_doc
from redundict import __version__, errors
from redundict.engine.layout import Layout

from . import commands, exits, importing, render
from .differences import plain
from .exits import Exit

Add = Callable[..., argparse.ArgumentParser]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    warnings.simplefilter("always", errors.RedundancyWarning)
    warnings.showwarning = _show_warning  # type: ignore[assignment]  # takes fewer, by position
    _mend_streams()
    try:
        args = _arguments(argv)
        code: Exit = args.run(args)
        sys.stdout.flush()
    except BrokenPipeError:  # nobody reads any more, so there is nobody to tell
        return Exit.FAILED
    except (errors.RedundictError, OSError) as error:
        print(render.failure(error), file=sys.stderr)
        return exits.of_error(error)
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return Exit.INTERRUPTED
    except Exception:  # noqa: BLE001 - Python's own exit code for it would mean "degraded"
        traceback.print_exc()
        return Exit.FAILED
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
    if args.run is not commands.demo:
        try:
            for path in [args.path] if isinstance(args.path, str) else args.path:
                Layout.assumed(path, args.copies)
        except ValueError as error:
            top.error(str(error))
    return args


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    top = _Parser(prog="redundict", description=(package_doc or "").partition("\n")[0])
    top.add_argument("--version", action="version", version=f"redundict {__version__}")
    _commands = top.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)

    def add(
        run: Callable[[argparse.Namespace], Exit], name: str, *first: str
    ) -> argparse.ArgumentParser:
        """Add a command of which `first` are the arguments before PATH."""
        summary = run.__doc__ or ""
        command: argparse.ArgumentParser = _commands.add_parser(
            name, help=summary, description=summary
        )
        command.set_defaults(run=run)
        for argument in first:
            command.add_argument(argument.lower(), metavar=argument)
        return command

    _add_check(add(commands.check, "check"))
    _add_readers(add)
    _add_writers(add)
    command = add(commands.demo, "demo")
    command.add_argument("--file", metavar="FILE", help="a JSON file to use as data")
    return top


def _add_check(command: argparse.ArgumentParser) -> None:
    _add_store(command, nargs="+")
    command.add_argument("--quiet", action="store_true", help="print only what is in trouble")
    _add_json(command)
    command.add_argument(
        "--cold", action="store_true", help="drop the page cache first: read from the medium"
    )
    command.add_argument(
        "--watch", type=_seconds, metavar="SECONDS", help="check again and again, this far apart"
    )


def _add_readers(add: Add) -> None:
    command = add(commands.log, "log")
    _add_store(command)
    _add_json(command)
    command = add(commands.diff, "diff")
    _add_store(command)
    command.add_argument(
        "old", type=int, nargs="?", metavar="N", help="a generation (the one before the newest)"
    )
    command.add_argument("new", type=int, nargs="?", metavar="M", help="another (the newest)")
    _add_json(command)
    command = add(commands.show, "show")
    _add_store(command)
    _add_generation(command)
    command = add(commands.export, "export")
    _add_store(command)
    command.add_argument("file", metavar="FILE", help="where to")
    _add_generation(command)
    command.add_argument("--force", action="store_true", help="replace FILE if it is there")


def _add_writers(add: Add) -> None:
    _add_store(add(commands.browse, "browse"), writes=True)
    command = add(commands.rollback, "rollback")
    _add_store(command, writes=True)
    command.add_argument("--to", type=int, metavar="N", help="instead of the one before the newest")
    command.add_argument("--dry-run", action="store_true", help="show it, and change nothing")
    command.add_argument("--yes", action="store_true", help="do not ask")
    command = add(commands.repair, "repair")
    _add_store(command, writes=True)
    command.add_argument("--dry-run", action="store_true", help="show it, and change nothing")
    command.add_argument(
        "--prefer",
        type=str.lower,
        metavar="COPY",
        help="the letter of the copy that stands, if two diverged",
    )
    command = add(commands.import_file, "import", "FILE")
    _add_store(command, writes=True)
    command.add_argument(
        "--format", default="json", choices=("json", "csv", "pickle"), help="of the store"
    )
    command.add_argument(
        "--kind", choices=importing.KINDS, help="what FILE is, if it is not what it looks like"
    )
    command.add_argument("--table", help="of an SqliteDict with several")
    command.add_argument(
        "--allow-pickle",
        action="store_true",
        help="FILE may hold pickles; loading a pickle runs the code in it",
    )


def _add_store(command: argparse.ArgumentParser, *, writes: bool = False, **options: Any) -> None:
    command.add_argument(
        "path", type=_path, help="the store, without a slot's ending", metavar="PATH", **options
    )
    command.add_argument(
        "--copies",
        action="append",
        metavar="FOLDER",
        help="the folder of a copy; once per copy, if not all are beside PATH",
    )
    if writes:
        command.add_argument(
            "--timeout", type=_seconds, default=0.0, help="seconds to wait for another writer (0)"
        )


def _add_generation(command: argparse.ArgumentParser) -> None:
    command.add_argument("--generation", type=int, metavar="N", help="instead of the newest")


def _add_json(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--json", action="store_true", help="for programs: print one record for each store"
    )


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


class _Parser(argparse.ArgumentParser):
    """A parser whose help ends with the exit codes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["epilog"] = exits.as_help()
        kwargs["formatter_class"] = argparse.RawDescriptionHelpFormatter
        super().__init__(*args, **kwargs)

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the arguments, and exit."""
        said = f"error: {plain(message)}\nnext: {self.prog} --help\n"
        self.exit(Exit.USAGE, self.format_usage() + said)
