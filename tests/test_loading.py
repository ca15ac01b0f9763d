"""The load path: what readers see, how much they read, and a writer beside them."""

from __future__ import annotations

import errno
import itertools
import os
import subprocess
import sys
import threading
import time

import pytest

import redundict
from redundict import Slot, SlotState

from . import damage, inside
from .inside import Layout, slots, survey
from .test_slots import store as seen_in


@pytest.fixture
def store(path: str) -> str:
    """Return a store of two generations that was written long ago; 2 is in slot 1."""
    with redundict.open(path) as state:
        for number in (1, 2):
            state["n"] = number
            state.sync()
    for slot in (".a0", ".a1", ".b0", ".b1"):
        damage.age(path + slot)
    return path


class Reads(inside.Disk):
    """A disk that notes which files were read whole."""

    def __init__(self) -> None:
        self.whole: list[str] = []
        self.paths: dict[int, str] = {}

    def open_read(self, path: str) -> int:
        fd = super().open_read(path)
        self.paths[fd] = path
        return fd

    def read(self, fd: int, size: int, offset: int) -> bytes:
        if offset == 0:
            self.whole.append(self.paths[fd][-2:])
        return super().read(fd, size, offset)


def test_loading_reads_trailers_first_and_one_payload(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next copy is read only if the first one fails."""
    reads = Reads()
    inside.use_disk(monkeypatch, reads)
    inside.load(store, patiently=True)
    assert reads.whole == ["a1"]
    damage.flip(store + ".a1", 0)
    reads.whole.clear()
    inside.load(store, patiently=True)
    assert reads.whole == ["a1", "b1"]
    monkeypatch.undo()
    redundict.repair(store)


def test_what_is_in_order_at_a_glance_has_no_flaw() -> None:
    """Whatever two copies of two slots hold, the short way finds what `slots.flaws` finds."""
    words = ["1", "2", "3", "3f", "~3", "!3", "?", "-", "*3"]
    whole = 0
    for a0, a1, b0, b1 in itertools.product(words, repeat=4):
        found = tuple(seen_in(f"{a0} {a1}", f"{b0} {b1}"))
        for survivor in slots.by_claim(found)[:1]:
            flaws = inside.flaws_at_a_glance(Layout.of("s", 2, 2), survivor, found)
            assert flaws == slots.flaws(found, survivor, 2)
            whole += not flaws
    assert whole


REFUSALS = {
    errno.EIO: SlotState.DAMAGED,
    errno.ENOENT: SlotState.MISSING,
    errno.ENOTDIR: SlotState.MISSING,
    errno.EACCES: SlotState.FOREIGN,
    errno.ELOOP: SlotState.FOREIGN,
}


@pytest.mark.parametrize(("number", "state"), REFUSALS.items())
def test_what_the_system_answers_becomes_the_slots_state(
    store: str, monkeypatch: pytest.MonkeyPatch, number: int, state: SlotState
) -> None:
    """A medium's error is damage, absence is missing, and a refusal is not ours to judge."""
    inside.fail_on(monkeypatch, "open_read", number, ".a1")
    seen = survey.look(Slot(0, 1, store + ".a1", SlotState.MISSING))
    assert seen.state is state
    assert seen.denied == (number == errno.EACCES)
    assert inside.load(store, patiently=True).generation == 2


def test_running_out_of_handles_says_nothing_about_a_slot(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EMFILE is the process's trouble: an error, and no slot is taken for damaged."""
    inside.fail_on(monkeypatch, "open_read", errno.EMFILE, ".a0")
    with pytest.raises(redundict.StorageError) as caught:
        inside.load(store, patiently=True)
    assert caught.value.errno == errno.EMFILE


@pytest.mark.parametrize("denied", [(".a0", ".b0"), (".a0", ".b1"), (".a1", ".b1")])
def test_a_store_of_which_no_copy_can_be_seen_in_full_does_not_load(
    store: str, monkeypatch: pytest.MonkeyPatch, denied: tuple[str, ...]
) -> None:
    """What may not be looked at may be what is newest: an older one does not pass for it."""
    inside.fail_on(monkeypatch, "open_read", errno.EACCES, *denied)
    for flag in "rwcn":
        with pytest.raises(redundict.AccessError) as caught:
            redundict.open(store, flag)
        assert isinstance(caught.value, PermissionError)
    with pytest.raises(redundict.AccessError):
        redundict.check(store)


def test_a_writer_at_work_is_waited_for(path: str) -> None:
    """A slot that is half written and fresh is looked at again, until it is whole."""
    with redundict.open(path) as state:
        for number in (1, 2, 3):
            state["n"] = number
            state.sync()
    whole = damage.read(path + ".a0")
    os.truncate(path + ".a0", 1000)
    timer = threading.Timer(0.1, lambda: damage.overwrite(path + ".a0", whole))
    timer.start()
    loaded = inside.load(path, patiently=True)
    timer.join()
    assert all(slot.sound for slot in loaded.slots)


class Clock:
    """The functions of `time`, for who only sleeps."""

    slept = 0.0

    def time(self) -> float:
        """Return the time of day."""
        return time.time() + self.slept

    def monotonic(self) -> float:
        """Return how long was slept."""
        return self.slept

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.slept += seconds


def test_damage_is_not_waited_for_for_ever(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fresh damage costs a reader about a second, old damage nothing."""
    with redundict.open(path) as state:
        state["n"] = 1
        state.sync()
    os.truncate(path + ".a0", 1000)
    clock = Clock()
    inside.readers_clock(monkeypatch, clock)
    assert inside.load(path, patiently=True).generation == 1
    assert 0.5 < clock.slept < 1.5
    damage.age(path + ".a0")
    damage.age(path + ".b0")
    clock.slept = 0.0
    assert inside.load(path, patiently=True).generation == 1
    assert clock.slept == 0
    redundict.repair(path)


READER = """
import redundict, sys, warnings
warnings.simplefilter("error")
last, seen = 0, set()
while len(seen) < int(sys.argv[2]):
    with redundict.open(sys.argv[1], "r") as state:
        assert state["double"] == [state["n"]] * 500, "torn"
        assert state["n"] >= last, "went back"
        last = state["n"]
        seen.add(last)
"""


def test_readers_beside_a_busy_writer_never_err(path: str) -> None:
    """While a writer commits as fast as it can, readers see committed states only, and no alarm."""
    with redundict.open(path) as state:
        state.update(n=0, double=[0] * 500)
        state.sync()
        command = [sys.executable, "-c", READER, path, "50"]
        readers = [
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        number = 0
        while any(reader.poll() is None for reader in readers):
            number += 1
            state.update(n=number, double=[number] * 500)
            state.sync()
    for reader in readers:
        _, err = reader.communicate()
        assert reader.returncode == 0, err
