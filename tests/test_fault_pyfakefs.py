"""Faults that a simulated file system can show: full disks, permissions, the Windows flavour."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import filelock  # noqa: F401 - before the file system is a simulated one
import pytest
from pyfakefs.fake_filesystem import FakeFilesystem, OSType
from pyfakefs.fake_os import FakeOsModule
from pyfakefs.helpers import set_uid

import redundict
from redundict import PermaDict, RedunDict, SlotState, StoreState

from . import damage, inside
from .recipe import PersistentDict

HOME = "/home/somebody"
SOMEBODY = 1000
SLOTS = ("a0", "a1", "b0", "b1")
ROOMY = 1 << 20  #: Bytes.
BIG = "x" * 5000  #: More than a slot's smallest size holds.

Open = Callable[..., RedunDict]


@pytest.fixture(autouse=True)
def open_leaves_the_permissions_alone(fs: FakeFilesystem, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the simulated os.open do what open(2) does with the mode of a file that exists: nothing.

    pyfakefs 6.3 sets it.
    """
    simulated = FakeOsModule.open

    def as_the_system_does(self: FakeOsModule, path: str, *args: Any, **options: Any) -> int:
        with monkeypatch.context() as patch:
            if fs.exists(path):
                patch.setattr(self, "chmod", lambda *_: None)
            return simulated(self, path, *args, **options)

    monkeypatch.setattr(FakeOsModule, "open", as_the_system_does)


@pytest.fixture
def home(fs: FakeFilesystem) -> str:
    """Return the path for a store in an empty folder of a simulated file system."""
    fs.create_dir(HOME)
    os.chmod(HOME, 0o777)
    empty(fs)
    return f"{HOME}/state.json"


@pytest.fixture
def opened(fs: FakeFilesystem) -> Iterator[Open]:
    """Return what opens a store and lets go of it before the simulated file system ends.

    A lock that outlived it would close a descriptor of the real one.
    """
    with ExitStack() as stack:

        def open_it(*args: Any, **options: Any) -> RedunDict:
            state = redundict.open(*args, **options, keep=2)
            stack.callback(inside.kill, state)
            return state

        yield open_it


def make(path: str) -> str:
    """Make a store of two generations, {"n": 1} in the slots 0 and {"n": 2} in the slots 1.

    They are an hour old, so that no reader waits for what may be a writer at work.
    """
    with redundict.open(path, keep=2) as state:
        for state["n"] in (1, 2):
            state.sync()
        for generation in state.generations():
            for slot in generation.slots:
                damage.age(slot.path)
    return path


def fill(fs: FakeFilesystem, free: int = 0) -> None:
    """Leave so many bytes on the disk."""
    fs.set_disk_usage(fs.get_disk_usage(fs.root_dir_name).used + free)


def empty(fs: FakeFilesystem) -> None:
    """Make room."""
    fs.set_disk_usage(ROOMY)


def become_somebody(*, denied: tuple[str, ...] = ()) -> None:
    """Go on as a user who is not root, and for whom these files are closed."""
    for path in denied:
        os.chmod(path, 0)
    set_uid(SOMEBODY)


def give_away(path: str) -> None:
    """Let every user read and write a store's files."""
    for name in os.listdir(HOME):
        os.chmod(os.path.join(HOME, name), 0o666)
    assert os.path.exists(f"{path}.lock")


# --- a full disk


def test_a_full_disk_at_the_first_commit_leaves_no_slot_and_loses_nothing(
    fs: FakeFilesystem, home: str, opened: Open
) -> None:
    """The error says what is the matter, the state stays in memory, and a later sync succeeds."""
    state = opened(home)
    state["n"] = BIG
    fill(fs, 100)
    with pytest.raises(redundict.CommitError, match="No space left") as failed:
        state.sync()
    assert failed.value.errno == errno.ENOSPC
    assert set(failed.value.failures) == {f"{home}.a0", f"{home}.b0"}
    assert not any(os.path.exists(f"{home}.{slot}") for slot in SLOTS)
    assert state == {"n": BIG}
    empty(fs)
    state.close()
    assert redundict.load(home) == {"n": BIG}
    assert redundict.check(home).state is StoreState.HEALTHY


def test_a_full_disk_when_a_state_grows_leaves_the_generation_before(
    fs: FakeFilesystem, home: str, opened: Open
) -> None:
    """A commit that does not fit fails as a whole, and what was committed loads."""
    state = opened(make(home))
    state["n"] = BIG
    fill(fs)
    with pytest.raises(redundict.CommitError, match="No space left") as failed:
        state.sync()
    assert isinstance(failed.value, OSError)
    assert redundict.load(home) == {"n": 2}
    assert state == {"n": BIG}
    empty(fs)
    state.close()
    assert redundict.load(home) == {"n": BIG}
    assert redundict.check(home).state is StoreState.HEALTHY


def test_a_disk_with_room_for_one_copy_warns_and_catches_up(
    fs: FakeFilesystem, home: str, opened: Open
) -> None:
    """A generation in one copy is durable and a warning; the next sync writes the other copy."""
    state = opened(make(home))
    state["n"] = BIG
    fill(fs, 4096)
    with pytest.warns(redundict.RedundancyWarning, match=r"state\.json\.b0: No space left"):
        state.sync()
    assert redundict.load(home) == {"n": BIG}
    empty(fs)
    state.close()
    assert redundict.check(home).state is StoreState.HEALTHY


def test_a_full_disk_does_not_stop_a_commit_that_fits_its_slots(
    fs: FakeFilesystem, home: str, opened: Open
) -> None:
    """In steady state, nothing is allocated: a full disk is not even noticed."""
    make(home)
    fill(fs)
    state = opened(home)
    for number in range(3, 8):
        state["n"] = number
        assert state.sync() == number
    state.close()
    assert redundict.load(home) == {"n": 7}
    assert redundict.check(home).state is StoreState.HEALTHY


# --- permissions


def test_a_read_only_folder_refuses_a_new_store_and_says_why(home: str) -> None:
    """Where the lock file cannot be made, opening for writing is a typed error, and no dict."""
    os.chmod(HOME, 0o555)
    become_somebody()
    with pytest.raises(redundict.StorageError, match=r"lock file .* cannot be taken") as refused:
        redundict.open(home, keep=2)
    assert isinstance(refused.value, PermissionError)
    assert refused.value.errno == errno.EACCES
    assert "flag 'r'" in str(refused.value)
    assert not os.listdir(HOME)


def test_a_read_only_folder_with_a_store_can_be_read(home: str) -> None:
    """Readers need no lock, so a medium that is read only is no obstacle to them."""
    make(home)
    give_away(home)
    os.remove(f"{home}.lock")
    os.chmod(HOME, 0o555)
    become_somebody()
    assert redundict.open(home, "r") == {"n": 2}
    assert redundict.load(home) == {"n": 2}
    assert redundict.check(home).state is StoreState.HEALTHY
    with pytest.raises(redundict.StorageError, match=r"lock file .* cannot be taken"):
        redundict.open(home, "w", keep=2)
    with pytest.raises(redundict.StorageError, match=r"lock file .* cannot be taken"):
        redundict.rollback(home)


def test_a_read_only_folder_does_not_stop_a_commit_that_needs_no_new_file(
    home: str, opened: Open
) -> None:
    """Slots are written in place: whoever may write them needs no right to make files."""
    make(home)
    give_away(home)
    os.chmod(HOME, 0o555)
    become_somebody()
    state = opened(home)
    state["n"] = 3
    state.close()
    assert redundict.load(home) == {"n": 3}
    assert redundict.check(home).state is StoreState.HEALTHY


LOOKS: dict[str, Callable[[str], object]] = {
    "open c": redundict.open,
    "open w": lambda path: redundict.open(path, "w", keep=2),
    "open n": lambda path: redundict.open(path, "n", keep=2),
    "open r": lambda path: redundict.open(path, "r"),
    "PermaDict": PermaDict,
    "PermaDict r": lambda path: PermaDict(path, "r"),
    "load": redundict.load,
    "check": redundict.check,
    "repair": redundict.repair,
    "rollback": redundict.rollback,
}


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("denied", [SLOTS, ("a1", "b1")], ids=["every slot", "the newest two"])
def test_slots_that_may_not_be_read_are_never_taken_for_empty_or_for_older(
    home: str, look: str, denied: tuple[str, ...]
) -> None:
    """Nobody gets an empty dict, or an older state, because of a permission; nothing is written."""
    make(home)
    give_away(home)
    before = {slot: damage.read(f"{home}.{slot}") for slot in SLOTS}
    become_somebody(denied=tuple(f"{home}.{slot}" for slot in denied))
    with pytest.raises(redundict.AccessError) as refused:
        LOOKS[look](home)
    assert refused.value.slot == f"state.json.{denied[0]}"
    assert f"{home}.{denied[0]}" in str(refused.value)
    set_uid(0)
    assert {slot: damage.read(f"{home}.{slot}") for slot in SLOTS} == before


@pytest.mark.parametrize("look", LOOKS)
def test_a_folder_that_may_not_be_searched_is_never_taken_for_empty(home: str, look: str) -> None:
    """The same where it is the folder that is closed."""
    make(home)
    give_away(home)
    become_somebody(denied=(HOME,))
    with pytest.raises(redundict.AccessError):
        LOOKS[look](home)


def test_one_copy_that_may_not_be_read_leaves_the_other(home: str) -> None:
    """The other copy loads, and is not said to be the newest: what is not seen may be newer."""
    make(home)
    give_away(home)
    become_somebody(denied=(f"{home}.a0", f"{home}.a1"))
    report = redundict.check(home)
    assert (report.state, report.generation) == (StoreState.ROLLED_BACK, 2)
    assert [s.name for s in report.slots if s.state is SlotState.FOREIGN] == [
        "state.json.a0",
        "state.json.a1",
    ]
    assert redundict.load(home) == {"n": 2}
    with pytest.warns(redundict.RedundancyWarning, match=r"state\.json\.a1"):
        state = redundict.open(home, "r")
    assert state == {"n": 2}
    assert state.recovery
    assert set(state.recovery.found) == {"state.json.a0", "state.json.a1"}


@pytest.mark.usefixtures("no_writer_is_waited_for")
def test_one_copy_that_may_not_be_read_does_not_stop_a_commit(home: str, opened: Open) -> None:
    """The state is saved in the other copy, with a warning, and healed when the rights are back."""
    make(home)
    give_away(home)
    become_somebody(denied=(f"{home}.a0", f"{home}.a1"))
    with pytest.warns(redundict.RedundancyWarning):
        state = opened(home)
    state["n"] = 3
    with pytest.warns(redundict.RedundancyWarning, match=r"state\.json\.a0"):
        state.sync()
    assert redundict.load(home) == {"n": 3}
    set_uid(0)
    state.close()
    redundict.open(home, keep=2).close()
    assert damage.read(f"{home}.a0") == damage.read(f"{home}.b0")
    assert redundict.check(home).state is StoreState.HEALTHY


@pytest.mark.parametrize("look", ["open c", "open w", "open r", "PermaDict", "PermaDict r", "load"])
def test_a_plain_file_that_may_not_be_read_is_an_error(home: str, look: str) -> None:
    """What the recipe left is not taken for absent because of a permission, nor written over."""
    with PersistentDict(home, n=7):
        pass
    become_somebody(denied=(home,))
    with pytest.raises(redundict.AccessError) as refused:
        LOOKS[look](home)
    assert refused.value.path == home
    set_uid(0)
    assert damage.read(home) == b'{"n":7}'
    assert not any(os.path.exists(f"{home}.{slot}") for slot in SLOTS)


def test_the_recipe_takes_a_file_that_may_not_be_read_for_empty_and_overwrites_it(
    home: str,
) -> None:
    """This is the fault: the user's data is gone after one sync, and nobody was told."""
    with PersistentDict(home, n=7):
        pass
    become_somebody(denied=(home,))
    state = PersistentDict(home)
    assert state == {}
    set_uid(0)  # the next moment, a virus scanner has let go of the file
    state.sync()
    assert damage.read(home) == b"{}"


# --- Windows


@pytest.fixture
def windows(fs: FakeFilesystem) -> str:
    """Return the path for a store on a simulated Windows."""
    fs.os = OSType.WINDOWS
    empty(fs)
    fs.create_dir("C:\\Users\\somebody")
    return "C:\\Users\\somebody\\state.json"


def test_the_main_job_works_on_windows(windows: str) -> None:
    """Open, commit, reopen, heal, check, repair and rollback do there what they do elsewhere."""
    assert os.sep == "\\"
    make(windows)
    with redundict.open(windows, "w", keep=2) as state:
        assert state == {"n": 2}
        state["n"] = 3
    assert sorted(os.listdir("C:\\Users\\somebody")) == [
        *(f"state.json.{slot}" for slot in SLOTS),
        "state.json.lock",
    ]

    damage.flip(f"{windows}.a0", 0)
    report = redundict.check(windows)
    assert (report.state, report.generation) == (StoreState.DEGRADED, 3)
    with redundict.open(windows, keep=2) as state:
        assert state == {"n": 3}
        assert state.recovery
        assert state.recovery.healed == ("state.json.a0",)
    assert redundict.check(windows).state is StoreState.HEALTHY

    assert redundict.rollback(windows) == 4
    assert redundict.load(windows) == {"n": 2}
    for slot in ("a1", "b1"):
        damage.truncate(f"{windows}.{slot}", 100)
    assert redundict.check(windows).state is StoreState.ROLLED_BACK
    assert redundict.repair(windows).report.state is StoreState.HEALTHY
    assert redundict.load(windows) == {"n": 3}


def test_copies_lie_on_two_drives_of_windows(fs: FakeFilesystem, windows: str) -> None:
    """Copy A on C:, copy B on D:; with either drive lost, the state loads."""
    folders = ["C:\\Users\\somebody", "D:\\mirror"]
    fs.create_dir(folders[1])
    with redundict.open(windows, copies=folders, keep=2) as state:
        state["n"] = 1
    os.remove(f"{windows}.a0")
    damage.age("D:\\mirror\\state.json.b0")
    assert redundict.load(windows, copies=folders) == {"n": 1}
    with redundict.open(windows, copies=folders, keep=2) as state:
        assert state == {"n": 1}
    assert redundict.check(windows, copies=folders).state is StoreState.HEALTHY


def test_a_link_at_a_slot_is_not_followed_on_windows(
    fs: FakeFilesystem, windows: str, opened: Open
) -> None:
    """Where the system itself cannot refuse to follow a link, a look beforehand does."""
    make(windows)
    target = "C:\\Users\\somebody\\precious"
    fs.create_file(target, contents="precious")
    os.remove(f"{windows}.b1")
    os.symlink(target, f"{windows}.b1")
    with pytest.warns(redundict.RedundancyWarning, match=r"state\.json\.b1"):
        state = redundict.open(windows, "r")
    assert state == {"n": 2}
    with pytest.warns(redundict.RedundancyWarning, match="symbolic link"):
        state = opened(windows)
    state["n"] = 3  # goes to the other slots
    state.sync()
    state["n"] = 4
    with pytest.warns(redundict.RedundancyWarning, match="symbolic link"):
        state.sync()
    assert damage.read(target) == b"precious"


def test_the_recipe_destroys_its_only_file_on_a_full_windows_disk(
    fs: FakeFilesystem, windows: str, opened: Open
) -> None:
    """A rename onto the old file fails there, so it is copied over in place; redundict is not."""
    state = PersistentDict(windows, n=1)
    state.sync()
    state["n"] = BIG
    fill(fs, len(BIG) + 100)  # for NAME.tmp, and not for a second time as much
    with pytest.raises(OSError, match="No space left"):
        state.sync()
    empty(fs)
    assert PersistentDict(windows) == {}

    ours = windows.replace("state", "ours")
    mine = opened(make(ours))
    mine["n"] = BIG
    fill(fs, 100)
    with pytest.raises(redundict.CommitError):
        mine.sync()
    assert redundict.load(ours) == {"n": 2}
