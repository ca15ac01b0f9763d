"""Foreign persistent dicts, read into a plain dict: plain files, shelves, dbm, SqliteDict, stores.

The source is only read, never opened for writing: a file that is taken over stays as it is. What a
file is, is told by its first bytes and never by trying to unpickle it; where values are pickles,
they are loaded only with leave, since that runs the code in them.
"""

from __future__ import annotations

import contextlib
import dbm
import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from . import errors, mapping, serializers

KINDS: Final = ("json", "csv", "pickle", "shelve", "dbm", "sqlitedict", "redundict")
_SQLITE: Final = b"SQLite format 3\0"
_SUFFIXES: Final = (".db", ".dat", ".dir", ".bak", ".pag")
_SIDE_FILES: Final = ("", "-wal", "-journal", *_SUFFIXES)


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
    database = _is_dbm(file)
    if kind in (None, "redundict") and not database and not os.path.exists(file):
        with contextlib.suppress(errors.NotFoundError):
            return Imported(mapping.load(file), "redundict")
    with _refused(file):
        if database and kind in (None, "shelve", "dbm"):
            kind = kind or ("shelve" if allow_pickle else "dbm")
        else:
            with open(file, "rb") as opened:  # once: it may be a pipe
                start = opened.read(len(_SQLITE))
                kind = kind or _kind(file, start, otherwise)
                content = start + opened.read() if kind in ("json", "csv", "pickle") else b""
        if kind in ("pickle", "shelve", "sqlitedict") and not allow_pickle:
            raise _refusal(file, f"{kind} holds pickles, and loading one runs the code in it")
    if kind in ("json", "csv", "pickle"):
        return Imported(serializers.read_plain(content, serializers.resolve(kind)), kind)
    with _copied(file) as copy:
        try:
            if kind == "sqlitedict":
                return Imported(_sqlitedict(copy, table), kind)
            return Imported(_dbm(copy, pickled=kind == "shelve"), kind)
        except errors.FormatError as error:
            error.path = file
            raise
        except Exception as error:
            # Whatever a module of the standard library, or a pickle in the file, raises.
            raise errors.FormatError(
                f"not readable as {kind}: {error or type(error).__name__}",
                path=file,
                safe="nothing was changed",
                action="name what it is with --kind",
            ) from error


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
    return stem if suffix in _SUFFIXES and dbm.whichdb(stem) else file


@contextlib.contextmanager
def _copied(file: str) -> Iterator[str]:
    """Yield a copy of a database and of the files that belong to it: opening it may write."""
    stem = _stem(file)
    with tempfile.TemporaryDirectory(prefix="redundict-import-") as folder:
        copy = os.path.join(folder, os.path.basename(stem))
        found = [suffix for suffix in _SIDE_FILES if os.path.isfile(stem + suffix)]
        with _refused(file):
            for suffix in found:
                shutil.copyfile(stem + suffix, copy + suffix)
            if not found:
                raise FileNotFoundError(2, "No such file", file)
        yield copy


def _dbm(copy: str, *, pickled: bool) -> dict[str, Any]:
    import shelve  # noqa: PLC0415 - only this kind needs it

    if not dbm.whichdb(copy):
        raise errors.FormatError(f"it is not a {'shelf' if pickled else 'dbm'} that is known here")
    if pickled:
        with shelve.open(copy, "r") as shelf:  # noqa: S301 - asked for by name
            return dict(shelf)
    with dbm.open(copy, "r") as opened:
        found = {}
        for key in opened.keys():  # noqa: SIM118 - a dbm does not iterate
            found[_text(key, "a key")] = _text(opened[key], f"the value of {key!r}")
        return found


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
    except OSError as error:
        if isinstance(error, errors.RedundictError):
            raise
        raise errors.StorageError(
            f"it cannot be read: {errors.why(error)}",
            errno=error.errno,
            path=file,
            safe="nothing was changed",
            action="look at the path and at its permissions",
        ) from error


def _refusal(file: str, reason: str) -> errors.FormatError:
    return errors.FormatError(
        reason,
        path=file,
        safe="nothing was loaded",
        action="add --allow-pickle, if you trust who wrote it",
    )
