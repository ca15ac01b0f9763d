"""Evidence: what somebody may still want is put aside before anything is written there."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

import redundict
from redundict import StoreState
from redundict.cli import parser as cli
from redundict.cli.exits import Exit

from . import damage, inside

pytestmark = pytest.mark.damages


def edit(slot: str, old: bytes, new: bytes) -> bytes:
    """Change a payload as an editor does, and return all that the file holds then."""
    content = damage.read(slot).replace(old, new, 1)
    Path(slot).write_bytes(content)
    damage.age(slot)
    return content


def aside(path: str) -> list[bytes]:
    """Return what lies in the files that were put aside."""
    folder = Path(path).parent
    return [p.read_bytes() for p in sorted(folder.glob("*.aside-*"))]


@pytest.fixture
def store(path: str) -> str:
    """Return a store of two generations, the newest in a1 and b1."""
    with redundict.open(path, keep=2) as state:
        for state["theme"] in ("light", "dark"):
            state.sync()
    return path


@pytest.mark.parametrize("slot", ["a1", "b1", "a0", "b0"])
def test_an_edit_by_hand_is_put_aside_before_it_is_overwritten(store: str, slot: str) -> None:
    """Healing the slot, or a commit into it, would destroy the work of a person."""
    edited = edit(f"{store}.{slot}", b'{"theme":"', b'{"theme":"very ')
    with redundict.open(store, keep=2) as state:
        for state["n"] in range(3):
            state.sync()
    assert aside(store) == [edited]
    assert redundict.load(store) == {"theme": "dark", "n": 2}


@pytest.mark.parametrize(
    "cut",
    [
        lambda content: content[: content.index(b"\n")],  # the trailer is gone
        lambda content: content.replace(b"\n\n", b"")[:-1],  # so is the padding; an editor's habit
    ],
)
def test_an_edit_without_the_trailer_is_recognised(store: str, cut: object) -> None:
    """Many editors drop trailing lines."""
    edited = cut(damage.read(f"{store}.a1").replace(b"dark", b"blue"))
    Path(f"{store}.a1").write_bytes(edited)
    damage.age(f"{store}.a1")
    assert "edited by hand?" in redundict.check(store).flaws["state.json.a1"].reason
    redundict.open(store, keep=2).close()
    assert aside(store) == [edited]


def test_check_asks_whether_a_slot_was_edited(
    store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The person who edited a file learns why it does not load, and what was done with it."""
    edit(f"{store}.a1", b"dark", b"blue")
    assert cli.main(["check", store]) == Exit.DEGRADED
    assert "state.json.a1  -" in (said := capsys.readouterr().out)
    assert "edited by hand? Its payload still decodes" in said
    state = redundict.open(store, keep=2)
    assert state.recovery
    assert list(state.recovery.aside) == ["state.json.a1"]
    assert "edited by hand?" in str(state.recovery)
    assert f"put aside as {Path(state.recovery.aside['state.json.a1']).name}" in str(state.recovery)
    state.close()
    assert cli.main(["check", store]) == Exit.OK
    assert "put aside: " in capsys.readouterr().out


def test_a_torn_victim_is_written_again_without_ceremony(store: str) -> None:
    """An interrupted commit leaves nothing that anybody wants."""
    torn = damage.read(f"{store}.a0")
    Path(f"{store}.a0").write_bytes(b'{"theme":"light","mo' + torn[20:])
    damage.age(f"{store}.a0")
    with redundict.open(store, keep=2) as state:
        state["n"] = 1
    assert aside(store) == []


def test_what_may_be_the_newest_state_is_put_aside(store: str) -> None:
    """If both copies of the newest generation are damaged, an older one loads; the bytes stay."""
    for copy in "ab":
        damage.flip(f"{store}.{copy}1", 3)
    damaged = [damage.read(f"{store}.{copy}1") for copy in "ab"]
    with pytest.warns(redundict.RedundancyWarning):
        state = redundict.open(store, keep=2)
    with state:
        state["n"] = 1
        state.sync()
        assert aside(store) == damaged


def test_without_space_the_evidence_stays_and_the_oldest_is_overwritten(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk stops neither the commit nor the search for what was lost."""
    with redundict.open(path, keep=3, history="recent") as state:
        for state["n"] in (1, 2, 3):
            state.sync()
    for copy in "ab":
        damage.flip(f"{path}.{copy}2", 3)
    damaged = damage.read(f"{path}.a2")
    with pytest.warns(redundict.RedundancyWarning):
        state = redundict.open(path, keep=3, history="recent")
    with state:
        inside.fail_on(monkeypatch, "create", errno.ENOSPC)
        state["n"] = 4
        state.sync()
        assert damage.read(f"{path}.a2") == damaged
        assert redundict.load(path) == {"n": 4}
        monkeypatch.undo()
    assert [g.number for g in redundict.check(path).generations] == [4, 2]


def test_a_slot_that_cannot_be_put_aside_is_not_overwritten(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other copy takes the commit, and the caller is told."""
    edited = edit(f"{store}.a0", b"light", b"bright")
    with redundict.open(store, keep=2) as state:
        inside.fail_on(monkeypatch, "rename", errno.EACCES)
        state["n"] = 1
        with pytest.warns(redundict.RedundancyWarning, match=r"state\.json\.a0"):
            state.sync()
        assert damage.read(f"{store}.a0") == edited
        monkeypatch.undo()
    assert edited in aside(store)


def test_at_most_three_damaged_files_stay_for_a_slot_and_none_twice(store: str) -> None:
    """Evidence does not fill the disk."""
    for word in (b"red", b"blue", b"blue", b"green", b"white"):
        newest = max(redundict.check(store).slots, key=lambda slot: slot.generation).index
        edit(f"{store}.b{newest}", b'{"theme":"dark"', b'{"theme":"' + word + b'"')
        redundict.open(store, keep=2).close()
    assert [b"blue" in aside(store)[0], b"green" in aside(store)[1], len(aside(store))] == [
        True,
        True,
        3,
    ]


def test_a_valid_file_of_another_machine_is_put_aside_and_stays(store: str, tmp_path: Path) -> None:
    """A synchroniser brings half of another machine's state: nobody knows whether it is wanted."""
    other = tmp_path / "other"
    other.mkdir()
    for name in os.listdir(tmp_path):
        if name.startswith("state.json"):
            shutil.copy(tmp_path / name, other / name)
    with redundict.open(other / "state.json", keep=2) as theirs:
        theirs["machine"] = "other"
    with redundict.open(store, keep=2) as ours:
        for ours["n"] in range(2):
            ours.sync()
    (theirs_newest,) = {
        g.slots[0].index for g in redundict.check(other / "state.json").generations[:1]
    }
    brought = damage.read(str(other / f"state.json.b{theirs_newest}"))
    ours_newest = redundict.check(store).generations[0].slots[0].index
    Path(f"{store}.b{1 - ours_newest}").write_bytes(brought)
    shutil.rmtree(other)
    assert redundict.check(store).state is StoreState.DEGRADED
    with redundict.open(store, keep=2) as state:
        assert state.recovery
        for state["n"] in range(5, 8):
            state.sync()
    assert aside(store) == [brought]
    assert redundict.load(store)["n"] == 7


@pytest.fixture
def half_restored(path: str, tmp_path: Path) -> str:
    """Return a store with half of a backup, both copies of generation 3, over generation 5 of 6."""
    with redundict.open(path, keep=2) as state:
        for state["n"] in (1, 2, 3):
            state.sync()
    old = damage.read(f"{path}.a0")
    with redundict.open(path, keep=2) as state:
        for state["n"] in (4, 5, 6):
            state.sync()
    for copy in "ab":
        Path(f"{path}.{copy}0").write_bytes(old)
        damage.age(f"{path}.{copy}0")
    return path


def test_a_repair_of_half_a_backup_ends(half_restored: str) -> None:
    """The restored slots are put aside once, and the store is healthy after one repair."""
    brought = [damage.read(f"{half_restored}.{slot}") for slot in ("a0", "b0")]
    report = redundict.check(half_restored)
    assert report.state is StoreState.DEGRADED
    assert "Was half of a backup restored?" in report.status
    done = redundict.repair(half_restored)
    assert (done.report.state, aside(half_restored)) == (StoreState.HEALTHY, brought)
    assert redundict.load(half_restored) == {"n": 6}
    assert redundict.repair(half_restored).aside == {}


def test_openings_of_half_a_backup_put_nothing_aside_until_a_commit_needs_the_slot(
    half_restored: str,
) -> None:
    """A slot that is its own source is not written again, so no copies of it add up."""
    for _ in range(3):
        with pytest.warns(redundict.RedundancyWarning, match="did not grow"):
            state = redundict.open(half_restored, keep=2)
        assert state.recovery
        assert state.recovery.healed == ()
        state.close()
    assert aside(half_restored) == []
    with pytest.warns(redundict.RedundancyWarning, match="did not grow"):
        state = redundict.open(half_restored, keep=2)
    state["n"] = 7
    state.close()
    assert len(aside(half_restored)) == 2
    assert redundict.check(half_restored).state is StoreState.HEALTHY


def test_check_of_a_slot_that_may_not_be_read_says_to_make_it_readable(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A repair would put aside what may be newer, so it is not the first advice."""
    inside.fail_on(monkeypatch, "open_read", errno.EACCES, ".b1")
    report = redundict.check(store)
    assert report.state is StoreState.ROLLED_BACK
    assert "This user may not read state.json.b1" in report.status
    assert report.action == "make state.json.b1 readable for this user, then check again"


def test_a_rollback_takes_what_was_restored_on_purpose(half_restored: str) -> None:
    """Half of a backup may be what somebody wants to go back to."""
    assert redundict.rollback(half_restored, to=3) > 6
    assert redundict.load(half_restored) == {"n": 3}
    assert redundict.check(half_restored).state is StoreState.HEALTHY


def test_an_edit_of_both_copies_is_rolled_back_and_put_aside(store: str) -> None:
    """The generation before loads, check says where the edit is, and a repair keeps it."""
    edited = [edit(f"{store}.{copy}1", b"dark", b"blue") for copy in "ab"]
    report = redundict.check(store)
    assert report.state is StoreState.ROLLED_BACK
    assert "The edit in state.json.a1 and state.json.b1 does not load" in report.status
    assert "The lock file names generation 2, which copies a and b held" in report.status
    assert redundict.repair(store).report.state is StoreState.HEALTHY
    assert aside(store) == edited
    assert redundict.load(store) == {"theme": "light"}
