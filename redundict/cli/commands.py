"""What each command does: it calls the library and prints what `render` or `records` returns.

Each function takes the parsed arguments and returns an exit code. The docstring of a command is its
help. Decides nothing about data.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import os
import sys
import time
from collections import Counter
from typing import Any

from redundict import errors, loading, mapping, recovery, report
from redundict.engine import files, newest, places, slots, survey
from redundict.engine.layout import Layout, command_line, owner
from redundict.engine.newest import Loaded
from redundict.formats.resolve import safe_format

from . import differences, exits, importing, progress, records, render, sweep
from .differences import plain
from .exits import OF_STATE, Exit


def check(args: argparse.Namespace) -> Exit:
    """Verify every byte of every slot; change nothing. PATH may be a folder to be searched."""
    worst = _check_once(args)
    while args.watch is not None:
        time.sleep(args.watch)
        worst = exits.worst([worst, _check_once(args)])
    return worst


def _check_once(args: argparse.Namespace) -> Exit:
    counts: Counter[Exit] = Counter()
    gap = ""

    def total() -> int:
        return sum(sweep.size(path, args.copies) for path in sweep.find(args.paths, args.copies))

    with progress.bar(total) as bar:
        check_one = functools.partial(sweep.check_one, copies=args.copies, cold=args.cold)
        for checked in sweep.check_all(sweep.find(args.paths, args.copies), check_one):
            bar.advance(sweep.size(checked.path, args.copies))
            counts[checked.exit] += 1
            if args.quiet and checked.exit is Exit.OK:
                continue
            failed = isinstance(checked.result, errors.RedundictError)
            stream = sys.stderr if failed and not args.json else sys.stdout
            if stream.isatty():
                bar.hide()
            if args.json:
                _print_json(records.checked(checked))
            else:
                print(gap + render.checked(checked), file=stream)
                gap = "\n"
    worst = exits.worst(counts)
    if counts.total() > 1 and not args.json and not (args.quiet and worst is Exit.OK):
        print(gap + render.counted(counts))
    return worst


def log(args: argparse.Namespace) -> Exit:
    """List the generations that load, newest first, and what each changed."""
    checked = report.check(args.path, copies=args.copies)
    numbers = [generation.number for generation in checked.generations]
    twice = {number for number, count in Counter(numbers).items() if count > 1}  # diverged
    states = ((number, _state(_found(args, number))) for number in numbers)
    changes = {
        number: differences.summary(before, state)
        for (number, state), (older, before) in itertools.pairwise(states)
        if state is not None and before is not None and not twice & {number, older}
    }
    if args.json:
        _print_json(records.log(checked, changes))
    else:
        print(render.log(checked, changes))
    return OF_STATE[checked.state]


def diff(args: argparse.Namespace) -> Exit:
    """Show what changed between two generations, by path."""
    new = _found(args, args.new)
    number = newest.previous(new.layout, new.generation) if args.old is None else args.old
    old = _found(args, number)
    changes = differences.differences(loading.decoded(old), loading.decoded(new))
    if args.json:
        _print_json(records.diff(new.layout.path, number, new.generation, changes))
    else:
        for change in changes:
            print(differences.line(change))
    return Exit.OK


def show(args: argparse.Namespace) -> Exit:
    """Show a generation; into a pipe or a file, its payload byte for byte."""
    found = _found(args, args.generation)
    if sys.stdout.isatty():
        print(render.payload(found.payload, found.format))
    else:
        sys.stdout.buffer.write(found.payload)
    return _warned(found, args)


def export(args: argparse.Namespace) -> Exit:
    """Write a generation's payload to FILE, durably."""
    found, file = _found(args, args.generation), os.path.abspath(args.target)
    path = found.layout.path
    if reason := _why_not_to(file, found.layout, force=args.force):
        raise errors.export_refused(path, file, reason)
    try:
        files.overwrite(file, found.payload, afresh=True)
    except OSError as error:
        raise errors.export_failed(error, path, file) from error
    size = len(found.payload)
    print(f"Generation {found.generation}, {size} bytes, is in {plain(file)}.")
    return _warned(found, args)


def _why_not_to(file: str, layout: Layout, *, force: bool) -> str | None:
    """Return the reason why nothing may be exported to a file; None if it may."""
    folder, name = os.path.split(file)
    if not os.path.isdir(folder):
        return "no-folder"
    own = (f"{layout.name}.lock", f"{layout.name}.copies")
    is_ours = layout.parse(name) or name in own
    is_ours = is_ours or owner(name.casefold()) == layout.name.casefold()  # macOS, Windows
    if is_ours and any(places.is_same(folder, place) for place in layout.folders):
        return "own-file"
    if os.path.islink(file) or (files.exists(file) and not os.path.isfile(file)):
        return "not-a-file"
    return "exists" if files.exists(file) and not force else None


def browse(args: argparse.Namespace) -> Exit:
    """Look at a store's history on the whole terminal, and roll back with a key."""
    try:
        from .browse import Browser  # noqa: PLC0415 - an extra, and slow to import
    except ModuleNotFoundError as error:
        install = command_line("pip", "install", "redundict[tui]")
        raise errors.extra_missing("browse", str(error.name), install) from error
    Browser(args.path, args.copies, args.timeout).run()
    return Exit.OK


def rollback(args: argparse.Namespace) -> Exit:
    """Commit an older generation again, as a new one; undo it with another rollback."""
    with recovery.prepared_rollback(
        args.path, args.to, copies=args.copies, timeout=args.timeout
    ) as prepared:
        before, after = _state(prepared.newest), _state(prepared.target)
        print(f"From generation {prepared.newest.generation} to {prepared.target.generation}:")
        if before is None or after is None:
            print("  (the changes are not shown: to decode this format may run code)")
        else:
            lines = map(differences.line, differences.differences(before, after))
            print("\n".join(f"  {line}" for line in lines) or "  (both hold the same)")
        if args.dry_run:
            print("Nothing was changed.")
            return Exit.OK
        if not _agreed(args, "Roll back?"):
            return Exit.OK
        number = prepared.do()
    print(f"Committed as generation {number}. The generation before it is still there;")
    print(f"to undo this: {prepared.newest.layout.command('rollback')}")
    return Exit.OK


def repair(args: argparse.Namespace) -> Exit:
    """Rewrite damaged and missing slots from copies that verify; put aside what they held."""
    with recovery.prepared_repair(
        args.path, prefer=args.prefer, copies=args.copies, timeout=args.timeout
    ) as prepared:
        if not args.dry_run:
            done = prepared.do()
            print(render.repaired(done))
            return OF_STATE[done.report.state]
        print(render.plan(prepared))
    return OF_STATE[report.check(args.path, copies=args.copies).state]


def import_(args: argparse.Namespace) -> Exit:
    """Commit the content of a foreign file: JSON, CSV, pickle, shelve, dbm, SqliteDict, a store."""
    source = importing.read(
        args.source, args.kind, allow_pickle=args.allow_pickle, table=args.table
    )
    layout, found = survey.discover(args.path, args.copies)
    survivor = next(iter(slots.by_claim(found)), None)
    options: dict[str, Any] = {"format": args.format, "timeout": args.timeout}
    if survivor and survivor.trailer:
        if survivor.trailer.format != args.format:
            raise errors.imported_as(layout.path, survivor.trailer.format, args.format)
        options |= {"copies": layout.copies, "keep": layout.keep, "history": layout.history}
    if args.copies:
        options["copies"] = args.copies
    with mapping.RedunDict(args.path, "n", **options) as store:
        store.update(source.state)
        number = store.sync()
    print(
        f"Generation {number} of {plain(store.path)} holds {len(source.state)} items "
        f"from {plain(args.source)} ({source.kind})."
    )
    return Exit.OK


def demo(args: argparse.Namespace) -> Exit:
    """Show commit, tear, load, heal and rollback on real data, in a temporary folder."""
    from .demo import run  # noqa: PLC0415 - only this command needs it

    run(args.file)
    return Exit.OK


def _found(args: argparse.Namespace, generation: int | None) -> Loaded:
    """Return the newest generation, or the one that is named; raise if there is no store."""
    found = newest.load(places.assumed(args.path, args.copies), generation)
    if found.survivor is None:
        raise report.not_found(found.layout.path)
    return found


def _state(found: Loaded) -> dict[Any, Any] | None:
    """Return the state that was loaded; None if decoding it may run code."""
    return loading.decoded(found) if safe_format(found.format) else None


def _warned(found: Loaded, args: argparse.Namespace) -> Exit:
    """Warn of what is wrong with the newest generation; return the exit code that fits."""
    met = report.recovery_of(found) if args.generation is None else None
    if met is None:
        return Exit.OK
    errors.warn(str(met))
    return OF_STATE[met.state]


def _agreed(args: argparse.Namespace, question: str) -> bool:
    """Ask on a terminal; anywhere else, and with --yes, the command itself is the answer."""
    if args.yes or not sys.stdin.isatty():
        return True
    try:
        answer = input(f"{question} [y/N] ")
    except EOFError:  # control-D
        answer = ""
        print()
    if answer.strip().lower() in ("y", "yes"):
        return True
    print("Nothing was changed.")
    return False


def _print_json(record: records.Record) -> None:
    print(json.dumps(record, ensure_ascii=True, allow_nan=False), flush=True)
