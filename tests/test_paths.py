"""Paths that no store can have, names of slots, and what else may lie at the path of a store."""

from __future__ import annotations

import json
import os
import pickle
import socket
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

import redundict
from redundict import StoreState
from redundict.cli import parser as cli
from redundict.cli.exits import Exit

CALLS: dict[str, Callable[[str], object]] = {
    "open": redundict.open,
    "open n": lambda path: redundict.open(path, "n"),
    "open r": lambda path: redundict.open(path, "r"),
    "permadict": redundict.PermaDict,
    "load": redundict.load,
    "check": redundict.check,
    "repair": redundict.repair,
    "rollback": redundict.rollback,
}
each_call = pytest.mark.parametrize("call", CALLS.values(), ids=list(CALLS))


@each_call
@pytest.mark.parametrize("path", ["", ".", "..", "new/", "new/.", "a\0b"])
def test_a_path_that_names_no_file_is_refused(
    call: Callable[[str], object], path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A setting that is unset makes no files in the folder above."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    with pytest.raises(redundict.PathError) as caught:
        call(path)
    assert isinstance(caught.value, ValueError)
    assert caught.value.action
    assert os.listdir(tmp_path) == ["work"]
    assert os.listdir(tmp_path / "work") == []


@pytest.fixture
def store(path: str) -> str:
    with redundict.open(path, keep=2) as state:
        for state["n"] in (1, 2):
            state.sync()
    return path


@each_call
@pytest.mark.parametrize("ending", ["a0", "b1", "lock"])
def test_the_name_of_a_slot_is_not_the_name_of_a_store(
    store: str, call: Callable[[str], object], ending: str, tmp_path: Path
) -> None:
    """No second store is made of a file of the first."""
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(redundict.NotFoundError, match="file of a store") as caught:
        call(f"{store}.{ending}")
    assert caught.value.action == f"redundict check {store}"
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize("format", ["json", "csv", "literal", "pickle"])
@pytest.mark.parametrize("flag", ["c", "n", "w"])
def test_a_slot_is_refused_in_every_format(path: str, format: str, flag: str) -> None:
    """A slot of pickles would load as a pickle, since pickle ignores what follows."""
    redundict.open(path, format=format).close()
    with pytest.raises(redundict.NotFoundError, match="file of a store"):
        redundict.open(f"{path}.a0", flag, format=format)
    assert not os.path.exists(f"{path}.a0.lock")


@pytest.mark.parametrize("command", ["show", "log", "check", "rollback", "repair"])
def test_a_command_names_the_mistake(
    store: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command line says which command was meant."""
    assert cli.main([command, f"{store}.a0"]) == Exit.NO_STORE
    assert "this is a file of a store" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["folder", "fifo", "socket", "device"])
def test_what_is_no_file_at_the_path_is_refused(
    path: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing waits for a FIFO, and no lock file stays."""
    monkeypatch.chdir(tmp_path)
    if kind == "folder":
        os.mkdir(path)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(os.path.basename(path))
    else:
        os.symlink("/dev/zero", path)
    with pytest.raises(redundict.StorageError):
        redundict.open(path)
    assert os.listdir(tmp_path) == [os.path.basename(path)]


# --- the plain file of the recipe


def write_plain(path: str, state: object, seconds: float) -> None:
    """Write the recipe's file, some seconds after the newest slot."""
    Path(path).write_text(json.dumps(state))
    slots = Path(path).parent.glob(f"{Path(path).name}.[ab]?")
    later = max(slot.stat().st_mtime for slot in slots) + seconds
    os.utime(path, (later, later))


def test_a_newer_plain_file_is_not_ignored(store: str) -> None:
    """The old version of a program ran once more after the move: the user is told."""
    write_plain(store, {"n": 3}, 60)
    for call in (redundict.PermaDict, redundict.load):
        with pytest.warns(redundict.RedundancyWarning, match="redundict import") as told:
            state = call(store)
        assert state == {"n": 2}
        assert len(told) == 1
        if call is redundict.PermaDict:
            state.close()
    os.unlink(store)


@pytest.mark.parametrize(("state", "seconds"), [({"n": 3}, -60), ({"n": 2}, 60), ("no dict", 60)])
def test_a_plain_file_that_was_imported_is_no_news(
    store: str, state: object, seconds: float
) -> None:
    """An older file, or one that says the same, is what the store began with."""
    write_plain(store, state, seconds)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        redundict.load(store)
        redundict.open(store).close()
    os.unlink(store)


def test_after_the_next_commit_the_plain_file_is_old(store: str) -> None:
    """It is reported until the program has gone on."""
    write_plain(store, {"n": 3}, 0.01)
    with pytest.warns(redundict.RedundancyWarning, match="plain file"):
        state = redundict.open(store, keep=2)
    time.sleep(0.02)
    state["n"] = 4
    state.close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        redundict.open(store, keep=2).close()
    os.unlink(store)


# --- symbolic links


def link_all(store: str, folder: Path) -> str:
    """Link every file of a store into another folder, as a ConfigMap volume does."""
    folder.mkdir()
    source = Path(store)
    for file in source.parent.glob(f"{source.name}.*"):
        (folder / file.name).symlink_to(file)
    return str(folder / source.name)


@pytest.mark.damages
def test_a_reader_follows_links_and_reports_them(store: str, tmp_path: Path) -> None:
    """Kubernetes and stow show a store through links."""
    linked = link_all(store, tmp_path / "links")
    assert redundict.load(linked) == {"n": 2}
    report = redundict.check(linked)
    assert report.state is StoreState.DEGRADED
    assert "symbolic link to" in report.flaws["state.json.a1"].reason
    assert report.action == f"redundict check {store}"
    with pytest.warns(redundict.RedundancyWarning, match="symbolic link"):
        assert redundict.open(linked, "r") == {"n": 2}


@pytest.mark.damages
@pytest.mark.parametrize("call", [redundict.open, redundict.repair, redundict.rollback])
def test_a_writer_follows_no_link(
    store: str, tmp_path: Path, call: Callable[[str], object]
) -> None:
    """It says where the links lead, and not that the store is lost."""
    linked = link_all(store, tmp_path / "links")
    os.unlink(f"{linked}.lock")
    before = {file: os.readlink(file) for file in (tmp_path / "links").iterdir()}
    with pytest.raises(redundict.StorageError) as caught:
        call(linked)
    assert caught.value.reason == "symbolic-link"
    assert store in str(caught.value.action)
    assert {file: os.readlink(file) for file in (tmp_path / "links").iterdir()} == before


@pytest.mark.damages
def test_a_pickle_is_not_loaded_through_a_link(path: str, tmp_path: Path) -> None:
    """Whoever can make a link could choose the code that runs."""
    with redundict.open(path, format=pickle) as state:
        state["n"] = 1
    linked = link_all(path, tmp_path / "links")
    with pytest.raises(redundict.StorageError, match="pickle is not loaded through a link"):
        redundict.load(linked, format="pickle")


def test_a_link_to_what_is_no_file_does_not_block(store: str, tmp_path: Path) -> None:
    """Behind a link may be a FIFO, a device or nothing."""
    os.mkfifo(tmp_path / "pipe")
    for slot, target in (("a0", "pipe"), ("b0", "missing"), ("a1", "/dev/zero")):
        os.unlink(f"{store}.{slot}")
        os.symlink(tmp_path / target, f"{store}.{slot}")
    assert redundict.load(store) == {"n": 2}
    redundict.repair(store)
