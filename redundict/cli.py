"""The command line: parses, calls the library, prints what `render` makes of it.

`Exit` is the one table of exit codes; every `--help` shows it. Decides nothing about data.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum
from typing import Any, Final, Self

from . import (
    __version__,
    errors,
    integrity,
    loading,
    mapping,
    recovery,
    render,
    serializers,
    slots,
    survey,
)
from .slots import COPIES, KEEP, Layout, StoreState


class Exit(IntEnum):
    """The exit codes, the least bad first: of several paths, the worst one counts."""

    meaning: str

    def __new__(cls, code: int, meaning: str) -> Self:
        """Make a member that is its code."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member

    OK = 0, "healthy, or done"
    DEGRADED = 1, "degraded: the newest generation loads, some redundancy is gone"
    ROLLED_BACK = 3, "the newest generation is lost, an older one loads"
    NO_STORE = 10, "there is no store"
    LOCKED = 11, "another writer has the store open"
    NEWER = 12, "written by a newer redundict"
    FAILED = 5, "the operation failed (I/O, permission, format)"
    LOST = 4, "nothing loads"
    USAGE = 2, "wrong usage"
    INTERRUPTED = 130, "interrupted"


OF_STATE: Final = {
    StoreState.HEALTHY: Exit.OK,
    StoreState.DEGRADED: Exit.DEGRADED,
    StoreState.ROLLED_BACK: Exit.ROLLED_BACK,
    StoreState.LOST: Exit.LOST,
}
#: The first class that an error is an instance of.
OF_ERROR: Final[tuple[tuple[type[BaseException], Exit], ...]] = (
    (errors.NotFoundError, Exit.NO_STORE),
    (errors.LockedError, Exit.LOCKED),
    (errors.NewerVersionError, Exit.NEWER),
    (errors.LostError, Exit.LOST),
    (errors.RedundictError, Exit.FAILED),
    (OSError, Exit.FAILED),
    (ValueError, Exit.USAGE),  # an argument that the library refuses
)


def worst(codes: Sequence[Exit]) -> Exit:
    """Return the worst of several exit codes, by the order of the table."""
    order = list(Exit)
    return max(codes, key=order.index)


def check(args: argparse.Namespace) -> Exit:
    """Verify every byte of every slot; change nothing."""
    codes: list[Exit] = []
    for number, path in enumerate(args.path):
        with _reported(codes):
            report = integrity.check(path, folders=args.folder)
            print("\n" * (number > 0) + render.report(report))
            codes.append(OF_STATE[report.state])
    return worst(codes)


def log(args: argparse.Namespace) -> Exit:
    """List the generations that load, newest first."""
    report = integrity.check(args.path, folders=args.folder)
    print(render.log(report.generations))
    return OF_STATE[report.state]


def show(args: argparse.Namespace) -> Exit:
    """Write a generation's payload, byte for byte, to standard output."""
    loaded = loading.load(_layout(args), args.generation)
    if loaded.survivor is None:
        raise integrity.not_found(os.path.abspath(args.path))
    sys.stdout.buffer.write(loaded.payload)
    if sys.stdout.isatty():
        sys.stdout.write("\n")
    met = integrity.recovery_of(loaded) if args.generation is None else None
    if met:
        errors.warn(str(met))
    return OF_STATE[met.state] if met else Exit.OK


def rollback(args: argparse.Namespace) -> Exit:
    """Commit an older generation again, as a new one; undo it with another rollback."""
    number = recovery.rollback(args.path, args.to, folders=args.folder, timeout=args.timeout)
    print(f"Committed as generation {number}. The generation before it is still there;")
    print(f"to undo this: {_layout(args).command('rollback')}")
    return Exit.OK


def repair(args: argparse.Namespace) -> Exit:
    """Rewrite damaged and missing slots from copies that verify; put aside what they held."""
    done = recovery.repair(args.path, prefer=args.prefer, folders=args.folder, timeout=args.timeout)
    print(render.repaired(done))
    return OF_STATE[done.report.state]


def import_file(args: argparse.Namespace) -> Exit:
    """Commit the content of a plain JSON or CSV file (or pickle, with --allow-pickle)."""
    with open(args.file, "rb") as file:
        content = file.read()
    source = "pickle" if args.allow_pickle else "csv" if args.format == "csv" else "json"
    state = serializers.read_plain(content, serializers.resolve(source))
    layout, found = survey.discover(args.path, args.folder)
    for newest in slots.by_claim(found)[:1]:
        if newest.trailer and newest.trailer.format != args.format:
            mapping.refuse_format(layout, newest, args.format)
    with mapping.RedunDict(
        args.path,
        "n",
        format=args.format,
        copies=args.folder or layout.copies,
        keep=layout.keep,
        history=layout.history,
        timeout=args.timeout,
    ) as store:
        store.update(state)
        number = store.sync()
    print(f"Generation {number} of {store.path} holds {len(state)} items from {args.file}.")
    return Exit.OK


def _layout(args: argparse.Namespace) -> Layout:
    return Layout.of(args.path, args.folder or COPIES, KEEP)


def demo(args: argparse.Namespace) -> Exit:
    """Show commit, tear, load, heal and rollback on real data, in a temporary folder."""
    from . import demo as demonstration  # noqa: PLC0415 - only this command needs it

    demonstration.run(args.file)
    return Exit.OK


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    warnings.simplefilter("always", errors.RedundancyWarning)
    warnings.showwarning = _show_warning  # type: ignore[assignment]  # takes fewer, by position
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a path may hold any bytes
    codes: list[Exit] = []
    try:
        with _reported(codes):
            args = parser().parse_args(argv)
            codes.append(args.run(args))
            sys.stdout.flush()
    except KeyboardInterrupt:
        print("redundict: interrupted", file=sys.stderr)
        return Exit.INTERRUPTED
    except Exception:  # noqa: BLE001 - Python's own exit code for it would mean "degraded"
        traceback.print_exc()
        return Exit.FAILED
    return worst(codes)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    top = _Parser(
        prog="redundict", description=(sys.modules[__package__].__doc__ or "").partition("\n")[0]
    )
    top.add_argument("--version", action="version", version=f"redundict {__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)

    def add(run: Callable[[argparse.Namespace], Exit], name: str) -> argparse.ArgumentParser:
        summary = run.__doc__ or ""
        command: argparse.ArgumentParser = commands.add_parser(
            name, help=summary, description=summary
        )
        command.set_defaults(run=run)
        return command

    def add_store(
        command: argparse.ArgumentParser, *, writes: bool = False, **options: Any
    ) -> None:
        command.add_argument(
            "path", help="the store, without a slot's ending", metavar="PATH", **options
        )
        command.add_argument(
            "--folder",
            action="append",
            help="a copy's folder; once per copy, if not all are beside PATH",
        )
        if writes:
            command.add_argument(
                "--timeout", type=float, default=0.0, help="seconds to wait for another writer (0)"
            )

    add_store(add(check, "check"), nargs="+")
    add_store(add(log, "log"))
    command = add(show, "show")
    add_store(command)
    command.add_argument("--generation", type=int, metavar="N", help="instead of the newest")
    command = add(rollback, "rollback")
    add_store(command, writes=True)
    command.add_argument("--to", type=int, metavar="N", help="instead of the one before the newest")
    command = add(repair, "repair")
    add_store(command, writes=True)
    command.add_argument(
        "--prefer", metavar="COPY", help="the letter of the copy that stands, if two diverged"
    )
    command = add(import_file, "import")
    command.add_argument("file", metavar="FILE", help="a plain JSON or CSV file")
    add_store(command, writes=True)
    command.add_argument(
        "--format", default="json", choices=("json", "csv", "pickle"), help="of the store"
    )
    command.add_argument(
        "--allow-pickle",
        action="store_true",
        help="FILE may be a pickle; loading one runs its code",
    )
    command = add(demo, "demo")
    command.add_argument("--file", metavar="FILE", help="a JSON file to use as data")
    return top


class _Parser(argparse.ArgumentParser):
    """A parser whose help ends with the exit codes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        codes = "\n".join(f"  {code.value:>3}  {code.meaning}" for code in sorted(Exit))
        kwargs["epilog"] = f"exit codes:\n{codes}"
        kwargs["formatter_class"] = argparse.RawDescriptionHelpFormatter
        super().__init__(*args, **kwargs)


@contextmanager
def _reported(codes: list[Exit]) -> Iterator[None]:
    """Turn an error into a line on standard error and an exit code."""
    try:
        yield
    except tuple(kind for kind, _ in OF_ERROR) as error:
        codes.append(next(code for kind, code in OF_ERROR if isinstance(error, kind)))
        if not isinstance(error, BrokenPipeError):
            print(f"redundict: {error}", file=sys.stderr)


def _show_warning(message: Warning | str, *_: object) -> None:
    print(f"redundict: warning: {message}", file=sys.stderr)
