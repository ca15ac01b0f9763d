"""What each command does: calls the library, prints what `render` or `records` makes of it.

Each function takes the parsed arguments and returns an exit code; its docstring is the command's
help. Decides nothing about data.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

from redundict import errors, mapping, recovery
from redundict import loading as decoding
from redundict import report as integrity
from redundict.engine import files as durable
from redundict.engine import newest as loading
from redundict.engine import slots, survey
from redundict.engine.layout import COPIES, KEEP, Layout
from redundict.engine.newest import Loaded
from redundict.formats import resolve as serializers

from . import differences, exits, importing, progress, records, render, sweep
from .exits import OF_STATE, Exit


def check(args: argparse.Namespace) -> Exit:
    """Verify every byte of every slot; change nothing. PATH may be a folder to be searched."""
    worst = _check_once(args)
    while args.watch is not None:
        time.sleep(args.watch)
        worst = exits.worst([worst, _check_once(args)])
    return worst


def _check_once(args: argparse.Namespace) -> Exit:
    how = sweep.How(args.folder, args.cold)
    worst, counts, shown = Exit.OK, dict.fromkeys(Exit, 0), 0

    def total() -> int:
        return sum(sweep.size(path, how.folders) for path in sweep.find(args.path, how.folders))

    with progress.bar(total) as bar:
        for found in sweep.check_all(sweep.find(args.path, how.folders), how):
            bar.advance(sweep.size(found.path, how.folders))
            code = OF_STATE[found.report.state] if found.report else Exit.FAILED
            if found.error:
                code = exits.of_error(found.error)
            counts[code] += 1
            worst = exits.worst([worst, code])
            if args.quiet and code is Exit.OK:
                continue
            if (sys.stderr if found.error and not args.json else sys.stdout).isatty():
                bar.hide()
            if args.json:
                _print_json(records.checked(found))
            elif found.error:
                print(f"redundict: {render.plain(str(found.error))}", file=sys.stderr)
            elif found.report:
                print("\n" * (shown > 0) + render.report(found.report))
                shown += 1
    if sum(counts.values()) > 1 and not args.json and not (args.quiet and worst is Exit.OK):
        print("\n" * (shown > 0) + render.counted(counts))
    return worst


def log(args: argparse.Namespace) -> Exit:
    """List the generations that load, newest first, and what each changed."""
    report = integrity.check(args.path, folders=args.folder)
    numbers = [generation.number for generation in report.generations]
    states = ((number, _decoded(loading.load(_layout(args), number))) for number in numbers)
    changes = {
        number: differences.summary(before, state)
        for (number, state), (_, before) in itertools.pairwise(states)
        if state is not None and before is not None
    }
    if args.json:
        _print_json(records.log(report, changes))
    else:
        print(render.log(report, changes))
    return OF_STATE[report.state]


def diff(args: argparse.Namespace) -> Exit:
    """Show what changed between two generations, by path."""
    layout = _layout(args)
    newest = loading.load(layout, args.new)
    if newest.survivor is None:
        raise integrity.not_found(layout.path)
    number = loading.previous(layout, newest.generation) if args.old is None else args.old
    old, new = _state(loading.load(layout, number)), _state(newest)
    changes = differences.differences(old, new)
    if args.json:
        _print_json(records.diff(layout.path, number, newest.generation, changes))
    else:
        for change in changes:
            print(differences.line(change))
    return Exit.OK


def show(args: argparse.Namespace) -> Exit:
    """Show a generation; into a pipe or a file, its payload byte for byte."""
    loaded = _loaded(args)
    if sys.stdout.isatty():
        print(render.payload(loaded.payload, loaded.format))
    else:
        sys.stdout.buffer.write(loaded.payload)
    return _met(loaded, args)


def export(args: argparse.Namespace) -> Exit:
    """Write a generation's payload to FILE, durably."""
    loaded, file = _loaded(args), os.path.abspath(args.file)
    refused = _why_not_to(file, loaded.layout, force=args.force)
    if refused:
        raise errors.StorageError(
            f"{file} {refused[0]}",
            path=loaded.layout.path,
            safe="nothing was written",
            action=refused[1],
        )
    with errors.typed(
        f"{file} cannot be written",
        path=loaded.layout.path,
        safe="what was there is as it was",
        action="look at the folder's permissions and free space",
    ):
        durable.overwrite(file, loaded.payload, afresh=True)
    print(
        f"Generation {loaded.generation}, {len(loaded.payload)} bytes, is in {render.plain(file)}."
    )
    return _met(loaded, args)


def _why_not_to(file: str, layout: Layout, *, force: bool) -> tuple[str, str] | None:
    """Return why nothing may be exported to a file, and what to do; None if it may."""
    if not os.path.isdir(os.path.dirname(file)):
        return "is in no folder that exists", "name another file, or make the folder"
    if os.path.dirname(file) in layout.folders and (
        layout.parse(os.path.basename(file)) or file == layout.lock_path
    ):
        return "belongs to the store itself", "name another file"
    if durable.exists(file) and (os.path.islink(file) or not os.path.isfile(file)):
        return "is there already, and is no plain file", "name another file"
    if durable.exists(file) and not force:
        return "is there already", "name another file, or add --force"
    return None


def browse(args: argparse.Namespace) -> Exit:
    """Look at a store's history on the whole terminal, and roll back with a key."""
    try:
        from . import browse as browser  # noqa: PLC0415 - an extra, and slow to import
    except ModuleNotFoundError as error:
        raise ValueError(f"browse needs {error.name}: pip install 'redundict[tui]'") from error
    browser.run(args.path, args.folder, args.timeout)
    return Exit.OK


def rollback(args: argparse.Namespace) -> Exit:
    """Commit an older generation again, as a new one; undo it with another rollback."""
    with recovery.prepared_rollback(
        args.path, args.to, folders=args.folder, timeout=args.timeout
    ) as prepared:
        newest, target = _decoded(prepared.newest), _decoded(prepared.target)
        print(f"From generation {prepared.newest.generation} to {prepared.target.generation}:")
        if newest is None or target is None:
            print("  (what changes is not shown: it would have to be unpickled)")
        else:
            lines = map(differences.line, differences.differences(newest, target))
            print("\n".join(f"  {line}" for line in lines) or "  (both hold the same)")
        if args.dry_run:
            print("Nothing was changed.")
            return Exit.OK
        if not _agreed(args, "Roll back?"):
            return Exit.INTERRUPTED
        number = prepared.do()
    print(f"Committed as generation {number}. The generation before it is still there;")
    print(f"to undo this: {_layout(args).command('rollback')}")
    return Exit.OK


def repair(args: argparse.Namespace) -> Exit:
    """Rewrite damaged and missing slots from copies that verify; put aside what they held."""
    with recovery.prepared_repair(
        args.path, prefer=args.prefer, folders=args.folder, timeout=args.timeout
    ) as prepared:
        if not args.dry_run:
            done = prepared.do()
            print(render.repaired(done))
            return OF_STATE[done.report.state]
        print(render.plan(prepared))
    return OF_STATE[integrity.check(args.path, folders=args.folder).state]


def import_file(args: argparse.Namespace) -> Exit:
    """Commit the content of a foreign file: JSON, CSV, pickle, shelve, dbm, SqliteDict, a store."""
    source = importing.read(
        args.file,
        args.kind,
        otherwise="csv" if args.format == "csv" else "json",
        allow_pickle=args.allow_pickle,
        table=args.table,
    )
    layout, found = survey.discover(args.path, args.folder)
    for newest in slots.by_claim(found)[:1]:
        if newest.trailer and newest.trailer.format != args.format:
            decoding.refuse_format(layout, newest, args.format)
    with mapping.RedunDict(
        args.path,
        "n",
        format=args.format,
        copies=args.folder or layout.copies,
        keep=layout.keep,
        history=layout.history,
        timeout=args.timeout,
    ) as store:
        store.update(source.state)
        number = store.sync()
    print(
        f"Generation {number} of {render.plain(store.path)} holds {len(source.state)} items "
        f"from {render.plain(args.file)} ({source.kind})."
    )
    return Exit.OK


def demo(args: argparse.Namespace) -> Exit:
    """Show commit, tear, load, heal and rollback on real data, in a temporary folder."""
    from . import demo as demonstration  # noqa: PLC0415 - only this command needs it

    demonstration.run(args.file)
    return Exit.OK


def _layout(args: argparse.Namespace) -> Layout:
    return Layout.of(args.path, args.folder or COPIES, KEEP)


def _loaded(args: argparse.Namespace) -> Loaded:
    loaded = loading.load(_layout(args), args.generation)
    if loaded.survivor is None:
        raise integrity.not_found(os.path.abspath(args.path))
    return loaded


def _met(loaded: Loaded, args: argparse.Namespace) -> Exit:
    """Warn of what was wrong with the newest generation, and return its exit code."""
    met = integrity.recovery_of(loaded) if args.generation is None else None
    if met is None:
        return Exit.OK
    errors.warn(str(met))
    return OF_STATE[met.state]


def _decoded(loaded: Loaded) -> dict[Any, Any] | None:
    """Return the state, None if that would take more than a format that is safe to decode."""
    format = serializers.by_trailer_name(loaded.format)
    return format.decode(loaded.payload) if format else None


def _state(loaded: Loaded) -> dict[Any, Any]:
    state = _decoded(loaded)
    if state is None:
        raise errors.FormatError(
            f"generation {loaded.generation} is stored as {loaded.format}",
            path=loaded.layout.path,
            generation=loaded.generation,
            safe="nothing was decoded",
            action="load it in Python, if you trust who wrote it",
        )
    return state


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


def _print_json(record: records.Record | Sequence[records.Record]) -> None:
    print(json.dumps(record, ensure_ascii=True, allow_nan=False), flush=True)
