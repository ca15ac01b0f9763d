"""Foreign persistent dicts, read into a plain dict: plain files, shelves, dbm, SqliteDict, stores.

The source is only read, never opened for writing: a file that is taken over stays as it is. What a
file is, is told by its first bytes and never by trying to unpickle it; where values are pickles,
they are loaded only with leave, since that runs the code in them.
"""

from __future__ import annotations

import ast
import contextlib
import dbm
import errno
import filecmp
import io
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from redundict import errors
from redundict import report as integrity
from redundict.engine import newest as loading
from redundict.engine import survey
from redundict.engine.layout import COPIES, KEEP, Layout
from redundict.engine.slots import SlotState
from redundict.formats import resolve as serializers

KINDS: Final = ("json", "csv", "pickle", "shelve", "dbm", "sqlitedict", "redundict")
_SQLITE: Final = b"SQLite format 3\0"
#: What a dbm of several files, or with a suffix of its own, adds to the name that it is opened by.
_SUFFIXES: Final = {"dbm.dumb": (".dat", ".dir", ".bak"), "dbm.ndbm": (".db", ".pag", ".dir")}
_BESIDE: Final = ("", "-wal", "-journal", *sorted({s for own in _SUFFIXES.values() for s in own}))
_PAUSES: Final = (0.0, 0.01, 0.05, 0.1, 0.2, 0.5)  #: Seconds between tries to copy a live database.


@dataclass(frozen=True, slots=True)
class Imported:
    """What was read, and as what."""

    state: dict[Any, Any]
    kind: str


def read(
    file: str,
    kind: str | None = None,
    *,
    otherwise: str = "json",
    allow_pickle: bool = False,
    table: str | None = None,
) -> Imported:
    """Read a foreign dict; `kind` is one of `KINDS`, by default what the file looks to be.

    What does not look like anything is read as `otherwise`. A shelf that `dbm.sqlite3` made is a
    database like an SqliteDict's, on any Python. A dbm or a shelf may be named with or
    without its suffix. `table` is of an SqliteDict with several. Raises `StorageError`, and
    `FormatError` if the file is not what it is said to be, or holds pickles and `allow_pickle` is
    False.
    """
    asked = kind
    with _located(file):
        with _refused(file):
            if kind == "redundict" or (kind is None and _is_store(file)):
                return Imported(_store(file, allow_pickle=allow_pickle), "redundict")
            if kind in (None, "shelve", "dbm") and _is_dbm(file):
                kind = kind or ("shelve" if allow_pickle else "dbm")
            else:
                with open(file, "rb") as opened:  # once: it may be a pipe
                    start = opened.read(len(_SQLITE))
                    kind = kind or _kind(file, start, otherwise)
                    content = start + opened.read() if kind in ("json", "csv", "pickle") else b""
        if kind in ("pickle", "shelve", "sqlitedict") and not allow_pickle:
            raise _refusal(file, f"{kind} holds pickles, and loading one runs the code in it")
        if kind == "pickle":
            return Imported(serializers.resolve(kind).decode(content), kind)
        if kind in ("json", "csv"):
            return _plain(content, asked)
        return _database(file, kind, table)


def _database(file: str, kind: str, table: str | None) -> Imported:
    with _copied(file) as copy:
        try:
            if kind == "sqlitedict":
                return Imported(_sqlitedict(copy, table), kind)
            return Imported(_dbm(copy, pickled=kind == "shelve"), kind)
        except errors.FormatError:
            raise
        except Exception as error:
            # Whatever a module of the standard library, or a pickle in the file, raises.
            raise errors.FormatError(
                f"not readable as {kind}: {error or type(error).__name__}",
                path=file,
                safe="nothing was changed",
                action="name what it is with --kind",
            ) from error


def _is_store(file: str) -> bool:
    """Tell whether a name is a store's: whatever lies there, the slots have what is newer."""
    slots = survey.survey(Layout.of(file, COPIES, KEEP))
    there = any(slot.state is not SlotState.MISSING for slot in slots)
    return there or not (os.path.exists(file) or _is_dbm(file))


def _store(file: str, *, allow_pickle: bool) -> dict[Any, Any]:
    """Return a store's newest state; warn if there was a newer one."""
    loaded = loading.load(Layout.of(file, COPIES, KEEP))
    if loaded.is_empty:
        raise FileNotFoundError(errno.ENOENT, "No such file, and no store", file)
    if loaded.format == "pickle" and not allow_pickle:
        raise _refusal(file, "it is stored as pickle, and loading one runs the code in it")
    format = serializers.by_trailer_name(loaded.format)
    if loaded.format == "pickle":
        format = serializers.resolve("pickle")
    if format is None:
        raise errors.FormatError(
            f"it is stored as {loaded.format}", action="open it in Python, with that format"
        )
    met = integrity.recovery_of(loaded)
    if met and not met.complete:
        errors.warn(str(met))
    return format.decode(loaded.payload)


def _plain(content: bytes, asked: str | None) -> Imported:
    """Read JSON or CSV, and say which it was; only the one that was `asked` for."""
    try:
        read = Imported(serializers.resolve("json").decode(content), "json")
    except errors.FormatError:
        read = Imported(serializers.read_plain(content, serializers.resolve("csv")), "csv")
    if asked not in (None, read.kind):
        raise errors.FormatError(f"it is {read.kind}, not {asked}")
    return read


def _is_dbm(file: str) -> bool:
    """Tell whether a name is that of a dbm in several files, or with a suffix of its own."""
    if os.path.exists(file) and not os.path.isfile(file):
        return False  # a pipe must be read only once
    stem = _stem(file)
    return bool(dbm.whichdb(stem)) and (stem != file or not os.path.isfile(file))


def _kind(file: str, start: bytes, otherwise: str) -> str:
    """Tell what a file is, from its first bytes and its name."""
    if start == _SQLITE:
        return "sqlitedict"
    if start[:1] == b"\x80":
        return "pickle"
    if start.lstrip()[:1] == b"{":
        return "json"
    return "csv" if file.lower().endswith(".csv") else otherwise


def _stem(file: str) -> str:
    """Return the name that dbm knows a file by: without the suffix that it gave it."""
    stem, suffix = os.path.splitext(file)
    return stem if suffix and suffix in _SUFFIXES.get(dbm.whichdb(stem) or "", ()) else file


@contextlib.contextmanager
def _copied(file: str) -> Iterator[str]:
    """Yield a copy of a database and of the files that belong to it: opening it may write."""
    stem = _stem(file)
    stem = os.path.realpath(stem) if os.path.isfile(stem) else stem  # its journal is beside that
    with contextlib.ExitStack() as stack:
        with _refused(file):
            for pause in _PAUSES:
                time.sleep(pause)
                folder = stack.enter_context(
                    tempfile.TemporaryDirectory(prefix="redundict-import-")
                )
                copy = os.path.join(folder, os.path.basename(stem))
                if _copy(stem, copy):
                    break
            else:
                raise errors.StorageError(
                    "it is being written to",
                    path=file,
                    safe="nothing was changed",
                    action="stop the program that has it open, then try again",
                )
        yield copy


def _copy(stem: str, copy: str) -> bool:
    """Copy a database; tell whether it stood still: two reads that agree saw one moment."""
    found = _belonging(stem)
    if not found:
        raise FileNotFoundError(errno.ENOENT, "No such file", stem)
    try:
        for suffix in found:
            shutil.copyfile(stem + suffix, copy + suffix)
        return found == _belonging(stem) and all(
            filecmp.cmp(stem + suffix, copy + suffix, shallow=False) for suffix in found
        )
    except FileNotFoundError:  # a journal that is gone: somebody has committed
        return False


def _belonging(stem: str) -> list[str]:
    return [suffix for suffix in _BESIDE if os.path.isfile(stem + suffix)]


def _dbm(copy: str, *, pickled: bool) -> dict[str, Any]:
    import shelve  # noqa: PLC0415 - only this kind needs it

    if not dbm.whichdb(copy):
        raise errors.FormatError(f"it is not a {'shelf' if pickled else 'dbm'} that is known here")
    if dbm.whichdb(copy) == "dbm.dumb":
        _refuse_cut(copy)
    if pickled:
        with shelve.open(copy, "r") as shelf:  # noqa: S301 - asked for by name
            return dict(shelf)
    with dbm.open(copy, "r") as opened:
        found = {}
        for key in opened.keys():  # noqa: SIM118 - a dbm does not iterate
            found[_text(key, "a key")] = _text(opened[key], f"the value of {key!r}")
        return found


def _refuse_cut(copy: str) -> None:
    """Refuse a dbm.dumb that has lost data or index: it would read what is left, and say nothing.

    One that was emptied looks like one that lost its index, and is refused with it.
    """
    held = os.path.getsize(copy + ".dat")
    with open(copy + ".dir", encoding="latin-1") as index:
        ends = [sum(ast.literal_eval(line)[1]) for line in index]
    if held < max(ends, default=0):
        raise errors.FormatError("its .dat file is cut short")
    if held and not ends:
        raise errors.FormatError("its .dir file is empty, and its .dat file is not")


def _text(held: bytes | str, what: str) -> str:
    try:
        return held if isinstance(held, str) else held.decode()
    except UnicodeDecodeError:
        raise errors.FormatError(
            f"{what} is no text; if it is a shelf, its values are pickles: --allow-pickle"
        ) from None


def _sqlitedict(copy: str, table: str | None) -> dict[str, Any]:
    import pickle  # noqa: PLC0415 - only this kind needs it
    import sqlite3  # noqa: PLC0415

    with contextlib.closing(sqlite3.connect(copy)) as database:
        listed = database.execute("SELECT name FROM sqlite_master WHERE type='table'").fetchall()
        tables = sorted(name for (name,) in listed if not name.startswith("sqlite_"))
        if table is None and len(tables) != 1:
            raise errors.FormatError(f"it has these tables, name one with --table: {tables}")
        chosen = table or tables[0]
        if chosen not in tables:
            raise errors.FormatError(f"it has no table {chosen!r}, but these: {tables}")
        quoted = '"' + chosen.replace('"', '""') + '"'
        rows = database.execute(f"SELECT key, value FROM {quoted}")  # noqa: S608 - quoted above
        # The keys of a shelf that dbm.sqlite3 made (Python 3.13) are bytes.
        found = ((k.decode() if isinstance(k, bytes) else k, v) for k, v in rows)
        return {key: pickle.load(io.BytesIO(value)) for key, value in found}  # noqa: S301 - asked for


@contextlib.contextmanager
def _refused(file: str) -> Iterator[None]:
    """Turn what the system refuses into a `StorageError`: a missing file is no missing store."""
    try:
        yield
    except errors.RedundictError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise errors.StorageError(
            f"it cannot be read: {errors.why(error)}",
            errno=getattr(error, "errno", None),
            path=file,
            safe="nothing was changed",
            action="look at the path and at its permissions",
        ) from error


@contextlib.contextmanager
def _located(file: str) -> Iterator[None]:
    """Tell a `FormatError` what it does not know: which file, and what is safe."""
    try:
        yield
    except errors.FormatError as error:
        error.path = error.path or file
        error.safe = error.safe or "nothing was changed"
        error.action = error.action or "name what it is with --kind"
        raise


def _refusal(file: str, reason: str) -> errors.FormatError:
    return errors.FormatError(
        reason,
        path=file,
        safe="nothing was loaded",
        action="add --allow-pickle, if you trust who wrote it",
    )
