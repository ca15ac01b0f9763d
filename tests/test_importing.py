"""`importing`: each foreign dict is read as it is, left as it is, and never runs code unasked."""

from __future__ import annotations

import dbm
import dbm.dumb
import json
import os
import pickle
import shelve
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import redundict
from redundict import cli, importing
from redundict.exits import Exit

STATE = {"chat": {"width": 640}, "recent": ["/a", "/b"]}
TEXTS = {"a": "1", "ä": "zwei"}


class Bomb:
    """A pickle of it leaves a mark when it is loaded."""

    exploded = False

    def __reduce__(self) -> tuple[Callable[[], int], tuple[()]]:
        return explode, ()


def explode() -> int:
    Bomb.exploded = True
    return 0


@pytest.fixture(autouse=True)
def unexploded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bomb, "exploded", False)
    monkeypatch.setitem(sys.modules, Bomb.__module__, sys.modules[__name__])


def write_json(path: Path, state: dict[str, Any]) -> Path:
    path.write_text(json.dumps(state))
    return path


def write_csv(path: Path, state: dict[str, Any]) -> Path:
    path = path.with_suffix(".csv")
    path.write_text("".join(f"{key},{value}\n" for key, value in state.items()), "utf-8")
    return path


def write_pickle(path: Path, state: dict[str, Any]) -> Path:
    path.write_bytes(pickle.dumps(state))
    return path


def write_shelf(path: Path, state: dict[str, Any]) -> Path:
    with shelve.Shelf(dbm.dumb.open(str(path), "c")) as shelf:
        shelf.update(state)
    return path


def write_dbm(path: Path, state: dict[str, Any]) -> Path:
    with dbm.dumb.open(str(path), "c") as opened:
        for key, value in state.items():
            opened[key] = value
    return path


def write_sqlitedict(path: Path, state: dict[str, Any], table: str = "unnamed") -> Path:
    with sqlite3.connect(path) as database:
        database.execute(f'CREATE TABLE "{table}" (key TEXT PRIMARY KEY, value BLOB)')
        rows = [(key, sqlite3.Binary(pickle.dumps(value))) for key, value in state.items()]
        database.executemany(f'INSERT INTO "{table}" VALUES (?, ?)', rows)
    database.close()
    return path


def write_store(path: Path, state: dict[str, Any]) -> Path:
    with redundict.open(path) as store:
        store.update(state)
    return path


KINDS: dict[str, tuple[Callable[[Path, dict[str, Any]], Path], dict[str, Any]]] = {
    "json": (write_json, STATE),
    "csv": (write_csv, TEXTS),
    "pickle": (write_pickle, STATE),
    "shelve": (write_shelf, STATE),
    "dbm": (write_dbm, TEXTS),
    "sqlitedict": (write_sqlitedict, STATE),
    "redundict": (write_store, STATE),
}
PICKLED = ("pickle", "shelve", "sqlitedict")


def everything(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {str(p): (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.iterdir()}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_read_and_left_as_it_was(tmp_path: Path, kind: str) -> None:
    """What was saved comes back equal, and no file beside it is made or changed."""
    write, state = KINDS[kind]
    file = write(tmp_path / "old", state)
    before = everything(tmp_path)
    read = importing.read(str(file), allow_pickle=kind in PICKLED)
    assert (read.state, read.kind) == (state, kind)
    assert everything(tmp_path) == before


def test_the_kinds_are_all_here() -> None:
    """No kind that is offered goes untested."""
    assert tuple(KINDS) == importing.KINDS


@pytest.mark.parametrize("suffix", ["", ".dat", ".dir"])
def test_a_shelf_may_be_named_by_any_of_its_files(tmp_path: Path, suffix: str) -> None:
    """With the suffix that dbm gave it or without."""
    file = write_shelf(tmp_path / "old", STATE)
    assert importing.read(f"{file}{suffix}", allow_pickle=True).state == STATE


@pytest.mark.parametrize("kind", PICKLED)
def test_no_pickle_is_loaded_unasked(tmp_path: Path, kind: str) -> None:
    """A planted bomb does not go off, and the refusal says what would let it."""
    write, _ = KINDS[kind]
    file = write(tmp_path / "old", {"a": Bomb()})
    with pytest.raises(redundict.FormatError) as caught:
        importing.read(str(file), kind)
    assert "--allow-pickle" in str(caught.value)
    with pytest.raises(redundict.FormatError):
        importing.read(str(file))
    assert not Bomb.exploded
    importing.read(str(file), kind, allow_pickle=True)
    assert Bomb.exploded


def test_a_dbm_of_pickles_is_not_taken_for_text(tmp_path: Path) -> None:
    """A shelf that is not said to be one is refused, with what to say."""
    write_shelf(tmp_path / "old", STATE)
    with pytest.raises(redundict.FormatError, match="--allow-pickle"):
        importing.read(str(tmp_path / "old"))


def test_a_table_is_named_where_there_are_several(tmp_path: Path) -> None:
    """A database with two dicts is not guessed at."""
    file = str(tmp_path / "old.sqlite")
    for table in ("one", "two"):
        write_sqlitedict(Path(file), {"in": table}, table)
    with pytest.raises(redundict.FormatError, match="'one', 'two'"):
        importing.read(file, allow_pickle=True)
    assert importing.read(file, allow_pickle=True, table="two").state == {"in": "two"}
    with pytest.raises(redundict.FormatError, match="no table 'three'"):
        importing.read(file, allow_pickle=True, table="three")


def test_a_real_sqlitedict_is_read_with_its_journal(tmp_path: Path) -> None:
    """What the package itself wrote, in its own journal mode, is all there."""
    sqlitedict = pytest.importorskip("sqlitedict")
    file = str(tmp_path / "old.sqlite")
    with sqlitedict.SqliteDict(file, journal_mode="WAL") as old:
        old.update(STATE)
        old.commit(blocking=True)
        assert importing.read(file, allow_pickle=True).state == STATE


def test_a_shelf_of_a_newer_python_is_read_by_any(tmp_path: Path) -> None:
    """`dbm.sqlite3` keeps a table of its own, with bytes for keys."""
    file = tmp_path / "old"
    with sqlite3.connect(file) as database:
        database.execute("CREATE TABLE Dict (key BLOB UNIQUE NOT NULL, value BLOB NOT NULL)")
        for key, value in STATE.items():
            row = (key.encode(), pickle.dumps(value))
            database.execute("INSERT INTO Dict VALUES (CAST(? AS BLOB), CAST(? AS BLOB))", row)
    database.close()
    assert importing.read(str(file), allow_pickle=True).state == STATE


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "redundict"])
@pytest.mark.parametrize("harm", ["cut", "garbage"])
def test_what_is_damaged_is_a_typed_error(tmp_path: Path, kind: str, harm: str) -> None:
    """Half a file, or bytes of something else, never pass for a dict or for an empty one."""
    write, state = KINDS[kind]
    file = write(tmp_path / "old", state)
    for part in tmp_path.iterdir():
        held = part.read_bytes()
        part.write_bytes(held[: len(held) // 2] if harm == "cut" else b"\xff\xfe\x00garbage\x81")
    if kind == "csv" and harm == "cut":
        file.write_bytes(b"a,1\nb")
    with pytest.raises(redundict.RedundictError) as caught:
        importing.read(str(file), kind, allow_pickle=True)
    assert isinstance(caught.value, (redundict.FormatError, redundict.StorageError))


def test_what_is_not_there_is_a_typed_error(tmp_path: Path) -> None:
    """A wrong path is said to be one."""
    with pytest.raises(redundict.StorageError, match="No such file"):
        importing.read(str(tmp_path / "absent"))
    with pytest.raises(redundict.StorageError):
        importing.read(str(tmp_path))


def test_a_list_is_not_taken_for_csv(tmp_path: Path) -> None:
    """JSON that is no object is refused, though its text would make rows of two fields."""
    (tmp_path / "old").write_text('["a","b"]')
    with pytest.raises(redundict.FormatError):
        importing.read(str(tmp_path / "old"))


def test_import_takes_over_a_shelf(
    tmp_path: Path, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the command line, with leave; a pipe is read as well."""
    file = write_shelf(tmp_path / "old", STATE)
    assert cli.main(["import", str(file), path]) == Exit.FAILED
    assert not os.path.exists(f"{path}.a0")
    assert cli.main(["import", str(file), path, "--allow-pickle"]) == Exit.OK
    assert redundict.load(path) == STATE
    assert "(shelve)" in capsys.readouterr().out


def test_import_reads_a_pipe(tmp_path: Path, path: str) -> None:
    """A file that can be read only once is read once."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    if os.fork() == 0:
        try:
            pipe.write_text(json.dumps(STATE))
        finally:
            os._exit(0)
    assert cli.main(["import", str(pipe), path]) == Exit.OK
    os.wait()
    assert redundict.load(path) == STATE
