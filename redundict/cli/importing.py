"""Foreign persistent dicts, read into a plain dict: plain files, shelves, dbm, SqliteDict, stores.

The source is only read and never opened for writing, so the file stays as it is. The first bytes of
a file tell its kind; it is never unpickled to find out. Values that are pickles are loaded only if
the caller allows it, because loading a pickle runs the code in it.
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
from typing import Any, Final, NamedTuple

from redundict import errors, loading, report
from redundict.engine import newest, places, survey
from redundict.engine.layout import command_line, owner
from redundict.engine.slots import SlotState
from redundict.formats.resolve import read_plain, resolve

KINDS: Final = ("json", "csv", "literal", "pickle", "shelve", "dbm", "sqlitedict", "redundict")
_PICKLED: Final = ("pickle", "shelve", "sqlitedict")
_DATABASES: Final = ("shelve", "dbm", "sqlitedict")
#: The suffixes that a kind of dbm adds to the name by which it is opened.
_SUFFIXES: Final = {"dbm.dumb": (".dat", ".dir", ".bak"), "dbm.ndbm": (".db", ".pag", ".dir")}
_BESIDE: Final = ("", "-wal", "-journal", *sorted({s for own in _SUFFIXES.values() for s in own}))
_PAUSES: Final = (0.0, 0.01, 0.05, 0.1, 0.2, 0.5)  #: Seconds between tries to copy a live database.


class Imported(NamedTuple):
    """A state that was read, and the kind of its file."""

    state: dict[Any, Any]
    kind: str


def read(
    file: str, kind: str | None = None, *, allow_pickle: bool = False, table: str | None = None
) -> Imported:
    """Read a foreign dict.

    A shelf that `dbm.sqlite3` made is a database like an SqliteDict's, on any Python. A dbm or a
    shelf may be named with or without its suffix.

    Args:
        file: The file, the database or the store.
        kind: One of `KINDS`; None finds out.
        allow_pickle: Load pickles, which runs the code in them.
        table: The table of an SqliteDict that has several.

    Raises:
        FormatError: The file is of another kind, or holds pickles and `allow_pickle` is False.
        StorageError: There is no such file, or the operating system refused to read it.

    """
    with _about(file):
        if (store := owner(file)) and _is_store(store):
            raise errors.file_of_a_store(file, command_line("redundict", "check", store))
        if kind == "redundict" or (kind is None and _is_store(file)):
            return Imported(_store(file, allow_pickle=allow_pickle), "redundict")
        found, content = kind, b""
        if kind in (None, "shelve", "dbm") and _is_dbm(file):
            found = kind or ("shelve" if allow_pickle else "dbm")
        else:
            with open(file, "rb") as opened:
                content = opened.read()  # once: the file may be a pipe
            found = kind or _kind(content)
        if found in _PICKLED and not allow_pickle:
            raise errors.pickle_refused(file, found)
        if found in _DATABASES:
            return Imported(_database(file, found, table), found)
        if found == "pickle":
            return Imported(resolve(found).decode(content), found)
        return _plain(file, content, kind)


@contextlib.contextmanager
def _about(file: str) -> Iterator[None]:
    """Turn a refusal of the operating system, and a NUL in the name, into an error about a file."""
    try:
        yield
    except errors.FormatError as error:
        loading.complete(error, path=file, action=errors.MEND_OR_NAME)
        raise
    except errors.RedundictError:
        raise
    except (OSError, ValueError) as error:
        raise errors.unreadable(error, file) from error


def _kind(content: bytes) -> str | None:
    """Return the kind of a file, from its first bytes; None if it may be JSON or CSV."""
    if content.startswith(b"SQLite format 3\0"):
        return "sqlitedict"
    return "pickle" if content.startswith(b"\x80") else None


def _is_store(file: str) -> bool:
    """Return True if a store has this name, and no plain file that is newer than its slots."""
    seen = survey.survey(places.assumed(file))
    changed = [slot.modified for slot in seen if slot.state is not SlotState.MISSING]
    is_plain = os.path.isfile(file) and os.path.getmtime(file) > max(changed, default=0)
    return bool(changed) and not is_plain


def _store(file: str, *, allow_pickle: bool) -> dict[Any, Any]:
    """Return the newest state of a store; warn if a newer one is lost."""
    found = newest.load(places.assumed(file))
    if found.is_empty:
        raise FileNotFoundError(errno.ENOENT, "No such file, and no store", file)
    is_pickle = found.format == "pickle"
    if is_pickle and not allow_pickle:
        raise errors.pickle_refused(file, "the store")
    state = loading.decoded(found, resolve("pickle") if is_pickle else None)
    met = report.recovery_of(found)
    if met and not met.complete:
        errors.warn(str(met))
    return state


def _plain(file: str, content: bytes, asked: str | None) -> Imported:
    """Read JSON, a literal or CSV, and say which it was; refuse it if another was `asked` for."""
    if asked == "literal":  # some files are JSON as well, in which an escape means something else
        return Imported(resolve(asked).decode(content), asked)
    try:
        found = Imported(resolve("json").decode(content), "json")
    except errors.FormatError:
        found = _no_json(content)
    if asked not in (None, found.kind):
        raise errors.not_importable(file, f"it is {found.kind}, not {asked}")
    return found


def _no_json(content: bytes) -> Imported:
    """Read a literal or CSV. Its error says why the file is neither JSON nor CSV."""
    try:
        return Imported(resolve("literal").decode(content), "literal")
    except errors.FormatError:
        return Imported(read_plain(content, resolve("csv")), "csv")


def _database(file: str, kind: str, table: str | None) -> dict[Any, Any]:
    with tempfile.TemporaryDirectory(prefix="redundict-import-") as folder:
        copy = _copied(file, folder)
        try:
            if kind == "sqlitedict":
                return _sqlitedict(file, copy, table)
            return _dbm(file, copy, pickled=kind == "shelve")
        except errors.FormatError:
            raise
        except Exception as error:
            # Whatever a module of the standard library, or a pickle in the file, raises.
            what = f"not readable as {kind}: {errors.why(error)}"
            raise errors.not_importable(file, what) from error


def _is_dbm(file: str) -> bool:
    """Return True if a dbm has this name that has several files, or adds a suffix."""
    if os.path.exists(file) and not os.path.isfile(file):
        return False  # a pipe can be read only once
    stem = _stem(file)
    return bool(dbm.whichdb(stem)) and (stem != file or not os.path.isfile(file))


def _stem(file: str) -> str:
    """Return the name by which dbm opens a file: without the suffix that dbm added."""
    stem, suffix = os.path.splitext(file)
    return stem if suffix and suffix in _SUFFIXES.get(dbm.whichdb(stem) or "", ()) else file


def _copied(file: str, folder: str) -> str:
    """Return a copy of a database with the files that belong to it, since opening it may write."""
    stem = _stem(file)
    stem = os.path.realpath(stem) if os.path.isfile(stem) else stem  # its journal lies beside that
    for pause in _PAUSES:
        time.sleep(pause)
        copy = os.path.join(tempfile.mkdtemp(dir=folder), "copy")
        if _copy(stem, copy):
            return copy
    raise errors.written_meanwhile(file)


def _copy(stem: str, copy: str) -> bool:
    """Copy a database. Return True if two reads agree, so that the copy shows one moment."""
    found = _belonging(stem)
    if not found:
        raise FileNotFoundError(errno.ENOENT, "No such file", stem)
    try:
        for suffix in found:
            shutil.copyfile(stem + suffix, copy + suffix)
        return found == _belonging(stem) and all(
            filecmp.cmp(stem + suffix, copy + suffix, shallow=False) for suffix in found
        )
    except FileNotFoundError:  # the journal is gone: another program has committed
        return False


def _belonging(stem: str) -> list[str]:
    return [suffix for suffix in _BESIDE if os.path.isfile(stem + suffix)]


def _dbm(file: str, copy: str, *, pickled: bool) -> dict[str, Any]:
    import shelve  # noqa: PLC0415 - only this kind needs it

    known = dbm.whichdb(copy)
    if not known:
        kind = "shelf" if pickled else "dbm"
        raise errors.not_importable(file, f"it is not a {kind} that is known here")
    if known == "dbm.dumb":
        _refuse_cut(file, copy)
    if pickled:
        with shelve.open(copy, "r") as shelf:  # noqa: S301 - the caller allowed it
            return dict(shelf)
    with dbm.open(copy, "r") as opened:
        found = {}
        for key in opened.keys():  # noqa: SIM118 - a dbm does not iterate
            found[_text(file, key, "a key")] = _text(file, opened[key], f"the value of {key!r}")
        return found


def _refuse_cut(file: str, copy: str) -> None:
    """Refuse a dbm.dumb that has lost data or its index: it would silently read what is left.

    A dbm.dumb that was emptied looks like one that lost its index, and is refused, too.
    """
    held = os.path.getsize(copy + ".dat")
    with open(copy + ".dir", encoding="latin-1") as index:
        ends = [sum(ast.literal_eval(line)[1]) for line in index]
    if held < max(ends, default=0):
        raise errors.not_importable(file, "its .dat file is cut short")
    if held and not ends:
        raise errors.not_importable(file, "its .dir file is empty, and its .dat file is not")


def _text(file: str, held: bytes | str, item: str) -> str:
    try:
        return held if isinstance(held, str) else held.decode()
    except UnicodeDecodeError:
        raise errors.not_text(file, item) from None


def _sqlitedict(file: str, copy: str, table: str | None) -> dict[str, Any]:
    import pickle  # noqa: PLC0415 - only this kind needs it
    import sqlite3  # noqa: PLC0415

    with contextlib.closing(sqlite3.connect(copy)) as database:
        listed = database.execute("SELECT name FROM sqlite_master WHERE type='table'").fetchall()
        tables = sorted(name for (name,) in listed if not name.startswith("sqlite_"))
        chosen = table or (tables[0] if len(tables) == 1 else None)
        if chosen is None or chosen not in tables:
            raise errors.table_unclear(file, table, tables)
        quoted = '"' + chosen.replace('"', '""') + '"'
        rows = database.execute(f"SELECT key, value FROM {quoted}")  # noqa: S608 - quoted above
        # The keys of a shelf that dbm.sqlite3 made (Python 3.13) are bytes.
        found = ((k.decode() if isinstance(k, bytes) else k, v) for k, v in rows)
        return {
            key: pickle.load(io.BytesIO(value))  # noqa: S301 - the caller allowed it
            for key, value in found
        }
