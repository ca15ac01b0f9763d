"""One store under two names: folders mounted twice, names whose case does not count."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

import pytest

import redundict
from redundict import StoreState
from redundict.cli.exits import Exit

from . import inside

OTHER = """
import sys, redundict
try:
    with redundict.open(sys.argv[1]) as state:
        state["other"] = True
except redundict.LockedError:
    print("locked")
"""


def other_process(path: Path) -> str:
    """Let another process write to a store; return what it says."""
    package = os.fspath(Path(redundict.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", OTHER, path],
        env={**os.environ, "PYTHONPATH": package},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.strip()


# --- folders mounted twice


@contextlib.contextmanager
def bound(folder: Path, point: Path) -> Iterator[None]:
    """Mount a folder at a second place, which exists."""
    if not shutil.which("mount") or not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("needs root")
    done = subprocess.run(["mount", "--bind", folder, point], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot mount: {done.stderr!r}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", point], check=True)


@pytest.fixture
def mounted_twice(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """Return two paths of one store, whose folder is mounted twice."""
    (home := tmp_path / "home").mkdir()
    (there := tmp_path / "there").mkdir()
    with bound(home, there):
        yield home / "state.json", there / "state.json"


def test_a_store_that_is_mounted_twice_has_one_lock(mounted_twice: tuple[Path, Path]) -> None:
    """A container and its host write to one store: the second writer is refused."""
    one, two = mounted_twice
    with redundict.open(one) as state:
        state["n"] = 1
        state.sync()
        assert other_process(two) == "locked"
        with pytest.raises(redundict.LockedError) as caught:
            redundict.open(two)
        assert caught.value.reason == "open-already"
        assert redundict.load(two) == {"n": 1}
    assert other_process(two) == ""
    assert redundict.load(one) == {"n": 1, "other": True}
    assert redundict.check(two).state is StoreState.HEALTHY


def test_a_store_is_mounted_elsewhere_while_it_is_open(tmp_path: Path) -> None:
    """The store that is open goes on, and nobody else gets in."""
    (home := tmp_path / "home").mkdir()
    (there := tmp_path / "there").mkdir()
    with redundict.open(home / "state.json") as state:
        state["n"] = 1
        state.sync()
        with bound(home, there):
            state["n"] = 2
            state.sync()
            assert other_process(there / "state.json") == "locked"
            assert redundict.load(there / "state.json") == {"n": 2}
        state["n"] = 3
    assert redundict.load(home / "state.json") == {"n": 3}


@pytest.mark.parametrize("changed", [False, True])
def test_a_folder_that_is_mounted_over_an_open_store_is_not_written(
    tmp_path: Path, changed: bool
) -> None:
    """The error says that the folder is another one; after it is gone, the store goes on."""
    (home := tmp_path / "home").mkdir()
    (other := tmp_path / "other").mkdir()
    state = redundict.open(home / "state.json")
    state["n"] = 1
    state.sync()
    if changed:
        state["n"] = 2
    with bound(other, home):
        with pytest.raises(redundict.StorageError) as caught:
            state.sync()
        assert caught.value.reason == "moved"
        assert os.listdir(other) == []
    state.close()
    assert redundict.load(home / "state.json") == {"n": 1 + changed}


def test_one_folder_of_two_that_is_mounted_elsewhere_makes_no_second_copy(tmp_path: Path) -> None:
    """The other copy is away as seen from there, and is healed when it is seen again."""
    disks = [tmp_path / "one", tmp_path / "two"]
    there = tmp_path / "a" / "b" / "c"
    for folder in (*disks, there):
        folder.mkdir(parents=True)
    with redundict.open(disks[0] / "state.json", copies=disks) as state:
        state["n"] = 1
    with bound(disks[0], there):
        with (
            pytest.warns(redundict.RedundancyWarning, match="away"),
            redundict.open(there / "state.json") as state,
        ):
            state["n"] = 2
        assert not list(there.glob("state.json.b*"))
    with redundict.open(disks[1] / "state.json") as state:
        assert state == {"n": 2}
    assert redundict.check(disks[0] / "state.json").state is StoreState.HEALTHY


# --- names whose case does not count


class WithoutCase(inside.Disk):
    """A real disk that finds a file under any spelling of its name, as those of macOS do."""

    def _real(self, path: str) -> str:
        folder, name = os.path.split(path)
        with contextlib.suppress(OSError):
            for found in os.listdir(folder):
                if found.casefold() == name.casefold():
                    return os.path.join(folder, found)
        return path

    def open_read(self, path: str) -> FileIO:
        return super().open_read(self._real(path))

    def open_write(self, path: str) -> FileIO:
        return super().open_write(self._real(path))

    def create(self, path: str, mode: int) -> FileIO:
        return super().create(self._real(path), mode)

    def signature(self, file: str | FileIO) -> tuple[int, ...]:
        return super().signature(self._real(file) if isinstance(file, str) else file)

    def rename(self, old: str, new: str) -> None:
        super().rename(self._real(old), self._real(new))

    def remove(self, path: str) -> None:
        super().remove(self._real(path))

    def exists(self, path: str) -> bool:
        return super().exists(self._real(path))


@pytest.fixture
def without_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Return two spellings of the path of a store with four generations, the newest in a3 and b3.

    The lock does not go through the disk, so each spelling has a lock file of its own here.
    """
    inside.use_disk(monkeypatch, WithoutCase())
    one, two = tmp_path / "State.json", tmp_path / "state.json"
    with redundict.open(one) as state:
        for state["n"] in range(1, 5):
            state.sync()
    return one, two


def test_the_newest_generation_is_found_under_another_spelling(
    without_case: tuple[Path, Path],
) -> None:
    """A listing spells the names as they were created; no slot of this store is overlooked."""
    one, two = without_case
    for copy in "ab":
        for index in range(2):  # the slots that are looked for by name
            os.remove(f"{one}.{copy}{index}")
    assert redundict.load(two) == {"n": 4}
    assert redundict.check(two).generation == 4
    assert {slot.name[:10] for slot in redundict.check(two).slots} == {"state.json"}
    redundict.repair(one)


def test_a_commit_under_another_spelling_goes_to_the_same_files(
    without_case: tuple[Path, Path],
) -> None:
    """No second set of slots begins."""
    one, two = without_case
    with redundict.open(two) as state:
        assert (state.generation, state.recovery) == (4, None)
        state["n"] = 5
    assert redundict.load(one) == {"n": 5}
    slots = {name for name in os.listdir(one.parent) if not name.endswith(".lock")}
    assert slots == {f"State.json.{copy}{index}" for copy in "ab" for index in range(4)}


def test_a_copy_in_another_folder_under_another_spelling_is_not_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slots of the other folder count, whatever their case."""
    inside.use_disk(monkeypatch, WithoutCase())
    disks = [tmp_path / "one", tmp_path / "two"]
    for folder in disks:
        folder.mkdir()
    with redundict.open(disks[0] / "State.json", copies=disks) as state:
        state["n"] = 1
    with redundict.open(disks[1] / "state.json", copies=disks) as state:
        assert (state, state.recovery) == ({"n": 1}, None)


def test_an_export_overwrites_no_slot_under_another_spelling(
    without_case: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Not even with --force, where both spellings are one file."""
    one, two = without_case
    words = ["export", os.fspath(one), f"{two}.A0", "--force"]
    assert inside.command_line(words) == Exit.FAILED
    assert "belongs to the store itself" in capsys.readouterr().err


def test_two_stores_whose_names_differ_in_case_stay_two(tmp_path: Path) -> None:
    """Where case counts, none of them sees a slot of the other."""
    one, two = tmp_path / "State.json", tmp_path / "state.json"
    for number, path in enumerate((one, two)):
        with redundict.open(path, keep=2 + 3 * number) as state:
            for state["n"] in range(number, number + 5):
                state.sync()
    if os.path.exists(tmp_path / "STATE.json.a0"):
        pytest.skip("the case does not count here")
    assert [redundict.load(path)["n"] for path in (one, two)] == [4, 5]
    assert len(redundict.check(one).slots) == 4


def test_two_spellings_of_one_lock_file_are_one_lock(tmp_path: Path) -> None:
    """The system locks the file and not its name. Here a link stands in for the other spelling."""
    (home := tmp_path / "home").mkdir()
    (tmp_path / "Home").symlink_to(home)
    with redundict.open(home / "state.json") as state:
        state["n"] = 1
        state.sync()
        assert other_process(tmp_path / "Home" / "state.json") == "locked"
        with pytest.raises(redundict.LockedError):
            redundict.open(tmp_path / "Home" / "state.json")
