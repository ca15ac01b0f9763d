"""`importing`: each foreign dict is read as it is, left as it is, and never runs code unasked."""

from __future__ import annotations

import contextlib
import dbm
import dbm.dumb
import json
import os
import pickle
import shelve
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import redundict
from redundict.cli import importing
from redundict.cli import parser as cli
from redundict.cli.exits import Exit

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


def write_literal(path: Path, state: dict[Any, Any]) -> Path:
    path.write_text(repr(state))
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


LITERALS: dict[Any, Any] = {(1, 2): {b"x"}, "a": (None, 1j)}
KINDS: dict[str, tuple[Callable[[Path, dict[str, Any]], Path], dict[str, Any]]] = {
    "json": (write_json, STATE),
    "csv": (write_csv, TEXTS),
    "literal": (write_literal, LITERALS),
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


def test_json_is_not_taken_for_a_literal_unless_it_is_said_to_be_one(tmp_path: Path) -> None:
    r"""An escaped pair of surrogates is one character in JSON, and two in a literal."""
    file = tmp_path / "old"
    file.write_text('{"a": "\\ud83d\\ude00"}')
    assert importing.read(str(file)) == ({"a": "\U0001f600"}, "json")
    assert importing.read(str(file), "literal") == ({"a": "\ud83d\ude00"}, "literal")
    file.write_text("{'a': open('/etc/passwd')}")
    with pytest.raises(redundict.FormatError, match="not readable as literal"):
        importing.read(str(file), "literal")


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


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_a_database_that_is_written_to_meanwhile_is_seen_at_one_moment(
    tmp_path: Path, journal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit between the copies of its files is noticed, and they are copied again."""
    file = write_sqlitedict(tmp_path / "old", {f"k{n}": "x" * 3000 for n in range(50)})
    writer = sqlite3.connect(file, isolation_level=None)
    writer.execute(f"PRAGMA journal_mode={journal}")
    new = pickle.dumps("y" * 3000)
    real, left = shutil.copyfile, [2]

    def interrupted(source: str, copy: str) -> None:
        real(source, copy)
        if left[0]:  # what was copied is now old; what comes next will be new
            left[0] -= 1
            writer.execute("UPDATE unnamed SET value = ?", (new,))
            writer.execute("PRAGMA wal_checkpoint(RESTART)")
            writer.execute("UPDATE unnamed SET value = ? WHERE key = 'k7'", (new,))

    monkeypatch.setattr(shutil, "copyfile", interrupted)
    read = importing.read(str(file), allow_pickle=True)
    writer.close()
    assert set(read.state.values()) == {"y" * 3000}
    assert left == [0]


@pytest.mark.parametrize(("begins", "ends"), [("before", None), (None, "after")])
def test_a_journal_that_comes_or_goes_meanwhile_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begins: str | None, ends: str | None
) -> None:
    """A transaction that begins or ends between the look at the names and the copy counts."""
    file = write_sqlitedict(tmp_path / "old", {f"k{n}": "x" * 3000 for n in range(50)})
    writer = sqlite3.connect(file, isolation_level=None)
    writer.execute("PRAGMA cache_size=1")  # it writes to the database long before it commits
    steps = ["BEGIN", "UPDATE unnamed SET value = x'" + pickle.dumps("y" * 3000).hex() + "'"]
    real = shutil.copyfile

    def run() -> None:
        while steps:
            writer.execute(steps.pop(0))

    if not begins:
        run()

    def interrupted(source: str, copy: str) -> None:
        run()
        real(source, copy)
        if ends and writer.in_transaction:
            writer.execute("COMMIT")

    monkeypatch.setattr(shutil, "copyfile", interrupted)
    read = importing.read(str(file), allow_pickle=True)
    writer.close()
    assert set(read.state.values()) == {("y" if ends else "x") * 3000}


def test_a_database_that_never_stands_still_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rather than to read parts of two states as one."""
    file = write_sqlitedict(tmp_path / "old", STATE)
    real = shutil.copyfile

    def changing(source: str, copy: str) -> None:
        real(source, copy)
        write_sqlitedict_again(file)

    monkeypatch.setattr(importing, "_PAUSES", (0.0, 0.0))
    monkeypatch.setattr(shutil, "copyfile", changing)
    with pytest.raises(redundict.StorageError, match="being written to"):
        importing.read(str(file), allow_pickle=True)


def write_sqlitedict_again(file: Path) -> None:
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as database:
        database.execute("REPLACE INTO unnamed VALUES ('n', ?)", (os.urandom(8),))


def test_a_link_to_a_database_finds_its_journal(tmp_path: Path) -> None:
    """What was committed to the journal only is not lost on the way through a link."""
    file = write_sqlitedict(tmp_path / "old", {"a": 1})
    (tmp_path / "link").symlink_to(file)
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode=WAL")
        writer.execute("UPDATE unnamed SET value = ?", (pickle.dumps(2),))
        assert importing.read(str(tmp_path / "link"), allow_pickle=True).state == {"a": 2}


def test_what_an_unfinished_transaction_wrote_is_not_read(tmp_path: Path) -> None:
    """A journal that its writer left behind is rolled back, in the copy alone."""
    file = write_sqlitedict(tmp_path / "old", {f"k{n}": "x" * 3000 for n in range(50)})
    if os.fork() == 0:
        writer = sqlite3.connect(file, isolation_level=None)
        writer.execute("PRAGMA cache_size=1")
        writer.execute("BEGIN")
        writer.execute("UPDATE unnamed SET value = ?", (pickle.dumps("y" * 3000),))
        os._exit(0)
    os.wait()
    before = everything(tmp_path)
    assert f"{file}-journal" in before
    assert set(importing.read(str(file), allow_pickle=True).state.values()) == {"x" * 3000}
    assert everything(tmp_path) == before


@pytest.mark.parametrize("part", [".dat", ".dir"])
def test_a_dbm_that_lost_its_data_or_its_index_is_refused(tmp_path: Path, part: str) -> None:
    """The standard library would return what is left of a value, or an empty dict."""
    file = write_dbm(tmp_path / "old", {"a": "one", "b": "two" * 500})
    held = Path(f"{file}{part}").read_bytes()
    Path(f"{file}{part}").write_bytes(held[: len(held) - 700] if part == ".dat" else b"")
    with pytest.raises(redundict.FormatError, match=f"its {part} file is"):
        importing.read(str(file))


def test_an_empty_dbm_is_an_empty_dict(tmp_path: Path) -> None:
    """One into which nothing was ever put has lost nothing."""
    assert importing.read(str(write_dbm(tmp_path / "old", {}))).state == {}


@pytest.mark.parametrize("suffix", [".bak", ".db", ".dat"])
def test_a_file_beside_a_database_of_the_same_stem_is_itself(tmp_path: Path, suffix: str) -> None:
    """A suffix belongs to a dbm only if that kind of dbm gives it."""
    with sqlite3.connect(tmp_path / "old") as database:  # what dbm.sqlite3 makes
        database.execute("CREATE TABLE Dict (key BLOB UNIQUE NOT NULL, value BLOB NOT NULL)")
    database.close()
    file = write_json(tmp_path / f"old{suffix}", STATE)
    assert importing.read(str(file)) == importing.Imported(STATE, "json")


@pytest.mark.parametrize("kind", [None, "redundict"])
def test_a_store_wins_over_the_plain_file_it_began_with(tmp_path: Path, kind: str | None) -> None:
    """The recipe's file is left alone when a store takes it over, so it is what is old."""
    file = write_json(tmp_path / "old", {"a": "stale"})
    write_store(file, {"a": "newest"})
    assert importing.read(str(file), kind).state == {"a": "newest"}
    assert importing.read(str(file), "json").state == {"a": "stale"}


def test_a_store_of_pickles_is_read_with_leave(tmp_path: Path) -> None:
    """As a plain pickle is: not unasked, and with the same word."""
    file = str(tmp_path / "old")
    with redundict.open(file, format="pickle") as store:
        store["a"] = Bomb()
    with pytest.raises(redundict.FormatError, match="--allow-pickle"):
        importing.read(file)
    assert not Bomb.exploded
    assert importing.read(file, allow_pickle=True).state == {"a": 0}


@pytest.mark.damages
def test_a_store_that_lost_its_newest_generation_says_so(tmp_path: Path) -> None:
    """What is imported is the generation before, and that is no secret."""
    file = str(tmp_path / "old")
    with redundict.open(file) as store:
        store["n"] = 1
        store.sync()
        store["n"] = 2
    for copy in "ab":
        Path(f"{file}.{copy}1").write_bytes(b"garbage")
    with pytest.warns(redundict.RedundancyWarning, match="rolled back"):
        assert importing.read(file).state == {"n": 1}


@pytest.mark.parametrize(
    ("kind", "text"), [("json", "a,b\n"), ("csv", '{"a": 1}'), ("pickle", '{"a": 1}')]
)
def test_a_kind_that_is_named_is_the_only_one_tried(tmp_path: Path, kind: str, text: str) -> None:
    """JSON is not read as CSV because CSV was said, nor the other way round."""
    (tmp_path / "old").write_text(text)
    with pytest.raises(redundict.FormatError) as caught:
        importing.read(str(tmp_path / "old"), kind, allow_pickle=True)
    assert (caught.value.path, caught.value.safe) == (str(tmp_path / "old"), "nothing was changed")


def test_csv_without_its_suffix_is_said_to_be_csv(tmp_path: Path) -> None:
    """The kind that is reported is the one that was read."""
    (tmp_path / "old").write_text("a,b\n")
    assert importing.read(str(tmp_path / "old")) == importing.Imported({"a": "b"}, "csv")


@pytest.mark.parametrize("name", ["a\0b", "absent/x"])
def test_no_name_is_an_untyped_error(tmp_path: Path, name: str) -> None:
    """Not even one that no file can have."""
    with pytest.raises(redundict.RedundictError):
        importing.read(str(tmp_path / name))


def test_no_room_for_the_copy_is_a_typed_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A temporary folder that cannot be made is the system's refusal, and is told as one."""
    file = write_sqlitedict(tmp_path / "old", STATE)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    with pytest.raises(redundict.StorageError):
        importing.read(str(file), allow_pickle=True)
