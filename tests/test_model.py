"""A store against a plain model: whatever is done to it in whatever order, they agree.

To run it longer: `REDUNDICT_MODEL_EXAMPLES=2000 python -m pytest tests/test_model.py`.
"""

from __future__ import annotations

import copy
import os
import shutil
import tempfile
import warnings
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

import redundict
from redundict import StoreState

from . import damage, inside

KEYS = st.sampled_from(["a", "b", "c"])
VALUES = st.one_of(st.integers(-3, 3), st.text(max_size=3), st.sampled_from([None, True, 1.5]))
TREES = st.recursive(
    VALUES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner), max_leaves=6
)
SIZES = st.sampled_from([0, 0, 5_000, 20_000])

is_open = precondition(lambda self: self.state is not None)
is_closed = precondition(lambda self: self.state is None)
has_history = precondition(lambda self: len(self.kept) > 1)


class StoreMachine(RuleBasedStateMachine):
    """Drives a store; `memory` and `kept` are what it should be.

    `kept` holds, by number, the generations that have to load, oldest first, and `ever` what each
    number was last committed with. `damaged` says that slots of what is lost are still there,
    `worn` that one copy of the newest is damaged, `resized` that `keep` was changed, so that older
    generations may load as well. `afresh`: what is in memory is to be committed, even if unchanged.
    `keeps` is what each generation says of `keep`, which is all that a tool from outside knows.
    """

    def __init__(self) -> None:
        super().__init__()
        warnings.simplefilter("ignore", redundict.RedundancyWarning)
        self.folder = tempfile.mkdtemp()
        self.path = os.path.join(self.folder, "state.json")
        self.state: redundict.RedunDict | None = None
        self.memory: dict[str, Any] = {}
        self.kept: dict[int, dict[str, Any]] = {}
        self.ever: dict[int, dict[str, Any]] = {}
        self.keeps: dict[int, int] = {}
        self.damaged = self.worn = self.resized = self.afresh = False

    @initialize(copies=st.integers(1, 3), keep=st.integers(2, 4), generations=st.integers(0, 4))
    def begin(self, copies: int, keep: int, generations: int) -> None:
        self.copies, self.keep = copies, keep
        self.open()
        for number in range(generations):
            self.change("a", number, 0)
            self.sync()

    def teardown(self) -> None:
        if self.state is not None:
            self.close()
        if self.kept:
            redundict.repair(self.path)
            assert redundict.check(self.path).state is StoreState.HEALTHY
        shutil.rmtree(self.folder)

    # --- the model

    @property
    def last(self) -> int:
        return max(self.kept, default=0)

    def committed(self, number: int, keep: int | None = None, spare: int = 0) -> None:
        """Note that what is in memory was committed as `number`, if that is a new one.

        The generation `spare` is overwritten only if there is no other.
        """
        if number in self.kept:
            assert self.kept[number] == self.memory
            assert not self.afresh
            return
        assert number > self.last
        self.afresh = False
        self.kept[number] = self.ever[number] = copy.deepcopy(self.memory)
        self.keeps[number] = keep or self.keep
        while len(self.kept) > self.keeps[number]:
            older = sorted(self.kept)[:-2]  # never the one that was the newest
            del self.kept[min(older, key=lambda kept: (kept == spare, kept))]

    def age(self) -> None:
        """Let everything be long ago, so that nobody waits for a writer."""
        for name in os.listdir(self.folder):
            damage.age(os.path.join(self.folder, name))

    # --- what a program does

    @is_closed
    @rule()
    def open(self) -> None:
        self.state = redundict.open(self.path, copies=self.copies, keep=self.keep, history="recent")
        self.memory = copy.deepcopy(self.kept.get(self.last, {}))
        assert self.state == self.memory
        assert self.state.generation == self.last
        self.worn = self.afresh = False  # opening for writing heals it

    @is_closed
    @rule(keep=st.integers(2, 4))
    def open_with_another_keep(self, keep: int) -> None:
        self.resized = self.resized or keep != self.keep
        self.keep = keep
        self.open()

    @is_closed
    @rule()
    def open_afresh(self) -> None:
        """Flag n: memory is empty, the generations stay, and the next commit is a new one."""
        self.open()
        self.crash()
        self.state = redundict.open(
            self.path, "n", copies=self.copies, keep=self.keep, history="recent"
        )
        self.memory, self.afresh = {}, True
        assert self.state.generation == self.last

    @is_closed
    @precondition(lambda self: self.kept)
    @rule(key=KEYS, value=VALUES)
    def read_only(self, key: str, value: Any) -> None:
        """Flag r: the newest is there, and nothing that is done to it reaches the disk."""
        before = self.bytes_on_disk()
        with redundict.open(
            self.path, "r", copies=self.copies, keep=self.keep, history="recent"
        ) as state:
            assert state == self.kept[self.last]
            changes = (lambda: state.__setitem__(key, value), state.clear)
            for write in (*changes, state.sync, state.rollback):
                with pytest.raises(redundict.ReadOnlyError):
                    write()
        assert self.bytes_on_disk() == before

    @is_closed
    @precondition(lambda self: not self.kept)
    @rule(flag=st.sampled_from("rw"))
    def open_what_is_not_there(self, flag: str) -> None:
        with pytest.raises(redundict.NotFoundError):
            redundict.open(self.path, flag, copies=self.copies, keep=self.keep, history="recent")

    def bytes_on_disk(self) -> dict[str, bytes]:
        names = [name for name in os.listdir(self.folder) if not name.endswith(".lock")]
        return {name: damage.read(os.path.join(self.folder, name)) for name in names}

    @is_open
    @rule(key=KEYS, value=TREES, size=SIZES)
    def change(self, key: str, value: Any, size: int) -> None:
        for held in (self.state, self.memory):
            assert held is not None
            held[key] = copy.deepcopy(value)
            held["pad"] = "x" * size

    @is_open
    @rule(key=KEYS)
    def change_inside(self, key: str) -> None:
        for held in (self.state, self.memory):
            assert held is not None
            nested = held.setdefault("nested", {})
            nested.setdefault(key, []).append(len(nested))

    @is_open
    @rule(key=KEYS)
    def sync_changes_inside(self, key: str) -> None:
        """What is nested in a value that stays the same object is committed each time."""
        for _ in range(2):
            self.change_inside(key)
            self.sync()

    @is_open
    @rule(key=KEYS)
    def delete(self, key: str) -> None:
        for held in (self.state, self.memory):
            assert held is not None
            held.pop(key, None)

    @is_open
    @rule()
    def sync(self) -> None:
        assert self.state is not None
        unchanged = self.last and not self.afresh and self.memory == self.kept[self.last]
        number = self.state.sync()
        assert (number == self.last) == bool(unchanged)
        self.committed(number)

    @is_open
    @rule()
    def close(self) -> None:
        assert self.state is not None
        self.state.close()
        self.state = None
        newest = redundict.check(self.path).generation
        self.committed(newest)

    @is_open
    @precondition(lambda self: self.kept)
    @rule()
    def reload(self) -> None:
        assert self.state is not None
        assert self.state.reload() == self.last
        self.memory, self.afresh = copy.deepcopy(self.kept[self.last]), False

    @is_open
    @has_history
    @rule(data=st.data(), by_number=st.booleans())
    def rollback(self, data: st.DataObject, by_number: bool) -> None:
        assert self.state is not None
        older = sorted(self.kept)[:-1]
        to = data.draw(st.sampled_from(older)) if by_number else older[-1]
        self.memory = copy.deepcopy(self.kept[to])
        self.committed(self.state.rollback(to if by_number else None), spare=to)

    @is_open
    @rule(key=KEYS, value=TREES, fails=st.booleans())
    def transaction(self, key: str, value: Any, fails: bool) -> None:
        assert self.state is not None
        self.sync()
        with _failing(fails), self.state.transaction():
            self.state[key] = copy.deepcopy(value)
            if fails:
                raise DeliberateError
        if not fails:
            self.memory[key] = copy.deepcopy(value)
        self.committed(self.state.generation)

    # --- what happens to it

    @is_open
    @rule()
    def crash(self) -> None:
        """The process is gone, and its lock with it; what was not synced is lost."""
        assert self.state is not None
        inside.kill(self.state)
        self.state = None

    @is_closed
    @precondition(lambda self: self.copies > 1 and self.kept)
    @rule(data=st.data(), how=st.sampled_from(["flip", "cut", "empty", "delete"]))
    def damage_one_copy(self, data: st.DataObject, how: str) -> None:
        """One copy's newest slot is damaged: nothing is lost."""
        slots = [slot.path for slot in redundict.check(self.path).generations[0].slots]
        if len(slots) == self.copies:
            self.harm(data.draw(st.sampled_from(slots)), how)
            self.worn = True

    @is_closed
    @has_history
    @rule(how=st.sampled_from(["flip", "cut", "empty"]), mended=st.booleans())
    def damage_the_newest(self, how: str, mended: bool) -> None:
        """Every copy of the newest is damaged: the one before it loads, perhaps after a repair."""
        for slot in redundict.check(self.path).generations[0].slots:
            self.harm(slot.path, how)
        del self.kept[self.last]
        self.damaged = True
        if mended:
            self.repair()

    def harm(self, slot: str, how: str) -> None:
        if how == "flip":
            damage.flip(slot, 0)
        elif how == "delete":
            os.remove(slot)
        else:
            damage.truncate(slot, 0 if how == "empty" else os.path.getsize(slot) // 2)
        self.age()

    @is_closed
    @precondition(lambda self: self.kept)
    @rule()
    def repair(self) -> None:
        last, newest = self.last, self.kept[self.last]
        done = redundict.repair(self.path)
        assert done.report.state is StoreState.HEALTHY
        numbers = sorted(generation.number for generation in done.report.generations)
        assert numbers[-1] == (done.committed or last)
        for number in numbers:
            if number > last:
                self.ever[number], self.keeps[number] = copy.deepcopy(newest), self.keeps[last]
        self.kept = {number: self.ever[number] for number in numbers}
        self.damaged = self.worn = False

    @is_closed
    @has_history
    @rule()
    def rollback_from_outside(self) -> None:
        before = sorted(self.kept)[-2]
        self.memory = copy.deepcopy(self.kept[before])
        self.committed(redundict.rollback(self.path), self.keeps[self.last], spare=before)
        self.worn = False

    # --- other processes

    @is_open
    @rule()
    def second_writer(self) -> None:
        with pytest.raises(redundict.LockedError):
            redundict.open(self.path, copies=self.copies, keep=self.keep, history="recent")

    @is_open
    @precondition(lambda self: self.kept)
    @rule(value=VALUES)
    def writer_past_the_lock(self, value: Any) -> None:
        """The lock file is gone, another writer commits: ours is told, and nothing is lost."""
        assert self.state is not None
        os.remove(f"{self.path}.lock")
        with redundict.open(
            self.path, copies=self.copies, keep=self.keep, history="recent"
        ) as other:
            other["other"] = [value, self.last]
            theirs = dict(other)
            number = other.sync()
        self.state["mine"] = True
        with pytest.raises(redundict.ConflictError):
            self.state.sync()
        assert self.state.reload() == number
        self.memory, self.afresh = copy.deepcopy(theirs), False
        self.committed(number)
        self.crash()  # its lock was on the file that is gone

    # --- what always holds

    @invariant()
    def a_reader_sees_the_last_generation(self) -> None:
        if self.kept and hasattr(self, "copies"):
            self.age()
            assert redundict.load(self.path) == self.kept[self.last]

    @invariant()
    def every_generation_that_is_kept_loads(self) -> None:
        if self.kept and hasattr(self, "copies"):
            report = redundict.check(self.path)
            numbers = [generation.number for generation in report.generations]
            assert report.generation == numbers[0] == self.last
            assert self.kept.keys() <= set(numbers)
            if not (self.damaged or self.worn):
                assert self.resized or sorted(numbers) == sorted(self.kept)
                assert self.resized or report.state is StoreState.HEALTHY
            for number in numbers:
                assert redundict.load(self.path, number) == self.ever[number]

    @invariant()
    def memory_is_as_the_program_left_it(self) -> None:
        assert self.state is None or self.state == self.memory


class DeliberateError(Exception):
    """What makes a transaction fail."""


def _failing(fails: bool) -> Any:
    return pytest.raises(DeliberateError) if fails else warnings.catch_warnings()


EXAMPLES = hypothesis.settings.default.max_examples * 3 // 5

StoreMachine.TestCase.settings = hypothesis.settings(
    max_examples=int(os.environ.get("REDUNDICT_MODEL_EXAMPLES", EXAMPLES)),
    stateful_step_count=30,
    deadline=None,
    derandomize="REDUNDICT_MODEL_EXAMPLES" not in os.environ,
    suppress_health_check=list(hypothesis.HealthCheck),
)
TestStoreAgreesWithItsModel = StoreMachine.TestCase
