"""`mapping`: what the dict promises its user."""

from __future__ import annotations

import copy
import dataclasses
import os
import pickle
import stat
import threading
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import redundict

from . import damage


@pytest.fixture
def store(path: str) -> str:
    """Return the path of a store of two generations, {"n": 1} and {"n": 2}."""
    with redundict.open(path) as state:
        state["n"] = 1
        state.sync()
        state["n"] = 2
    return path


def slots(path: str) -> dict[str, bytes]:
    """Return the content of every file of a store, the lock's aside."""
    folder = os.path.dirname(path)
    names = sorted(name for name in os.listdir(folder) if not name.endswith(".lock"))
    return {name: damage.read(os.path.join(folder, name)) for name in names}


def test_sync_returns_the_number_of_the_generation(path: str) -> None:
    """Numbers begin at 1 and grow by one for each change."""
    with redundict.open(path) as state:
        assert state.generation == 0
        for number in range(1, 6):
            state["n"] = number
            assert state.sync() == state.generation == number


def test_a_nested_change_is_saved_too(path: str) -> None:
    """What changed is found by content, not by watching assignments."""
    with redundict.open(path) as state:
        state["chat"] = {"width": 640, "panes": [1]}
        state.sync()
        state["chat"]["panes"].append(2)
    assert redundict.load(path) == {"chat": {"width": 640, "panes": [1, 2]}}


def test_unchanged_content_is_not_written_again(store: str) -> None:
    """A sync without a change touches no file and returns the number of the last commit."""
    before = {name: os.stat(store + name).st_mtime_ns for name in (".a0", ".a1", ".b0", ".b1")}
    with redundict.open(store) as state:
        assert state.sync() == 2
        state["n"] = 3
        state["n"] = 2
        assert state.sync() == 2
    assert before == {name: os.stat(store + name).st_mtime_ns for name in before}


def test_both_copies_are_byte_identical(store: str) -> None:
    """`cmp state.json.a0 state.json.b0` agrees, for each slot."""
    content = slots(store)
    assert len(content) == 4
    assert content["state.json.a0"] == content["state.json.b0"]
    assert content["state.json.a1"] == content["state.json.b1"]


def test_defaults_are_filled_in_under_what_was_loaded(store: str) -> None:
    """A default counts where there is no value, and the caller's object is not shared."""
    defaults: dict[str, Any] = {"n": 0, "recent": []}
    with redundict.open(store, defaults=defaults) as state:
        assert state["n"] == 2
        state["recent"].append("x")
    assert defaults == {"n": 0, "recent": []}
    assert redundict.load(store) == {"n": 2, "recent": ["x"]}


def test_reload_takes_what_is_on_disk(store: str) -> None:
    """A writer goes back to its last commit, a reader sees what was committed since."""
    reader = redundict.open(store, "r")
    with redundict.open(store) as writer:
        writer["n"] = 3
        assert writer.reload() == 2
        assert writer == {"n": 2}
        writer["n"] = 4
        writer.sync()
        assert reader == {"n": 2}
        assert reader.reload() == 3
        assert reader == {"n": 4}


def test_a_reader_cannot_commit(store: str) -> None:
    """Flag r refuses what would write, and closing writes nothing."""
    before = slots(store)
    with redundict.open(store, "r") as reader:
        changes = (lambda: reader.update(n=99), lambda: reader.pop("n"), reader.clear)
        for write in (*changes, reader.sync, reader.rollback, reader.transaction().__enter__):
            with pytest.raises(redundict.ReadOnlyError) as caught:
                write()
            assert isinstance(caught.value, PermissionError)
        with pytest.raises(redundict.ReadOnlyError):
            reader["n"] = 99
        with pytest.raises(redundict.ReadOnlyError):
            del reader["n"]
        assert reader == {"n": 2}
        assert reader.reload() == 2
        assert isinstance(reader, redundict.RedunDict)
    assert slots(store) == before


def test_a_reader_takes_no_lock_and_makes_no_file(tmp_path: Path) -> None:
    """A reader works in a folder in which nothing may be made."""
    with redundict.open(tmp_path / "s") as state:
        state["n"] = 1
    os.remove(tmp_path / "s.lock")
    assert redundict.open(tmp_path / "s", "r") == {"n": 1}
    assert not (tmp_path / "s.lock").exists()


def test_flag_n_starts_empty_and_keeps_the_old_for_rollback(store: str) -> None:
    """What was there before flag n can be rolled back to."""
    with redundict.open(store, "n", keep=2) as state:
        assert state == {}
        state["new"] = True
        assert state.sync() == 3
        assert [g.number for g in state.generations()] == [3, 2]
        state.rollback()
        assert state == {"n": 2}


def test_flag_n_commits_an_empty_state_too(store: str) -> None:
    """As in dbm, n makes an empty store even if nothing is put into it."""
    redundict.open(store, "n").close()
    assert redundict.load(store) == {}


def test_rollback_commits_the_old_content_as_a_new_generation(store: str) -> None:
    """A rollback adds to history, so another rollback undoes it."""
    with redundict.open(store) as state:
        assert state.rollback() == 3
        assert state == {"n": 1}
        assert state.rollback() == 4
        assert state == {"n": 2}
        assert state.rollback(to=3) == 5
        assert state == {"n": 1}


def test_rollback_to_what_is_not_there_changes_nothing(store: str) -> None:
    """A number that no slot holds is a typed error, on disk and in memory nothing happened."""
    before = slots(store)
    with redundict.open(store) as state:
        for number in (7, 0, -1):
            with pytest.raises(redundict.NotFoundError) as caught:
                state.rollback(to=number)
            assert caught.value.generation == number
        assert state == {"n": 2}
    assert slots(store) == before


def test_the_first_generation_has_none_before_it(path: str) -> None:
    """Rolling a store back that has one generation is a typed error."""
    with redundict.open(path) as state:
        state.sync()
        with pytest.raises(redundict.NotFoundError, match="no generation before 1"):
            state.rollback()


def test_keep_is_the_number_of_generations_that_load(path: str) -> None:
    """Of many commits, the last `keep` can be loaded, each exactly."""
    with redundict.open(path, keep=5, history="recent") as state:
        for number in range(12):
            state["n"] = number
            state.sync()
        kept = [g.number for g in state.generations()]
    assert kept == [12, 11, 10, 9, 8]
    assert [redundict.load(path, g)["n"] for g in kept] == [11, 10, 9, 8, 7]


@pytest.mark.parametrize(("copies", "keep"), [(1, 2), (3, 2), (2, 4)])
def test_copies_and_keep_say_which_files_there_are(path: str, copies: int, keep: int) -> None:
    """A store is copies times keep slots, and the lock."""
    with redundict.open(path, copies=copies, keep=keep) as state:
        for number in range(keep + 1):
            state["n"] = number
            state.sync()
    wanted = {f"state.json.{letter}{i}" for letter in "abc"[:copies] for i in range(keep)}
    assert set(slots(path)) == wanted


@pytest.mark.damages  # for who looks at one of the folders only
def test_copy_b_can_live_in_another_folder(tmp_path: Path) -> None:
    """With a list of folders, each copy has its own, and either is enough."""
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    path = folders[0] / "state.json"
    with redundict.open(path, copies=folders) as state:
        state["n"] = 1
    assert (folders[0] / "state.json.a0").read_bytes() == (
        folders[1] / "state.json.b0"
    ).read_bytes()
    os.remove(folders[0] / "state.json.a0")
    with redundict.open(path, copies=folders) as state:
        assert state == {"n": 1}
    assert redundict.check(path, copies=folders).state is redundict.StoreState.HEALTHY


@pytest.mark.parametrize("wrong", [{"copies": 0}, {"copies": 27}, {"keep": 1}, {"keep": 1001}])
def test_a_wrong_number_is_refused(path: str, wrong: dict[str, int]) -> None:
    """Too few or too many copies or generations are a ValueError before anything is made."""
    with pytest.raises(ValueError, match="must be"):
        redundict.open(path, **wrong)  # type: ignore[arg-type]
    assert os.listdir(os.path.dirname(path)) == []


def test_mode_is_set_on_every_file(path: str) -> None:
    """The permission bits are the caller's, whatever the umask; slots made later follow."""
    for mode in (0o600, 0o640):
        with redundict.open(path, mode=mode, keep=2) as state:
            for number in range(2):
                state["mode"] = [mode, number]
                state.sync()
        modes = {stat.S_IMODE(os.stat(path + slot).st_mode) for slot in (".a0", ".b0", ".b1")}
        assert modes == {mode}


def test_a_new_slot_is_not_more_open_than_its_siblings(path: str) -> None:
    """A slot that is made without a mode takes over that of the slots which are there."""
    with redundict.open(path, mode=0o600) as state:
        state["secret"] = 1
    with redundict.open(path) as state:
        state["secret"] = 2
    os.remove(path + ".b0")
    redundict.repair(path)
    modes = {stat.S_IMODE(os.stat(path + slot).st_mode) for slot in (".a0", ".a1", ".b0", ".b1")}
    assert modes == {0o600}


# --- transactions


def test_a_transaction_is_one_generation(store: str) -> None:
    """Whatever is changed inside is committed once, as a whole, at its end."""
    with redundict.open(store) as state:
        with state.transaction() as same:
            assert same is state
            state["n"] = 3
            state["m"] = 4
        assert state.generation == 3
    assert redundict.load(store) == {"n": 3, "m": 4}


def test_an_exception_undoes_the_transaction(store: str) -> None:
    """Memory goes back to the last commit, nested changes included, and nothing is written."""
    with redundict.open(store) as state:
        state["deep"] = {"list": [1]}
        with pytest.raises(KeyError), state.transaction():
            state["deep"]["list"].append(2)
            del state["n"]
            raise KeyError
        assert state == {"n": 2, "deep": {"list": [1]}}
        assert state.generation == 3
    assert redundict.load(store) == {"n": 2, "deep": {"list": [1]}}


def test_a_state_that_cannot_be_stored_undoes_the_transaction(store: str) -> None:
    """What the format refuses at the end of a transaction is undone like any failure in it."""
    with redundict.open(store) as state:
        with pytest.raises(redundict.UnstorableError), state.transaction():
            state["set"] = {1, 2}
        assert state == {"n": 2}


def test_a_transaction_inside_a_transaction_is_part_of_it(store: str) -> None:
    """Only the outermost one commits."""
    with redundict.open(store) as state:
        with state.transaction():
            with state.transaction():
                state["inner"] = 1
            assert state.generation == 2
        assert state.generation == 3


def test_a_failure_inside_dooms_the_outer_transaction(store: str) -> None:
    """An exception swallowed between two levels does not let half of a transaction through."""
    with redundict.open(store) as state:
        with pytest.raises(redundict.TransactionError), state.transaction():
            with pytest.raises(KeyError), state.transaction():
                state["inner"] = 1
                raise KeyError
            state["outer"] = 1
        assert state == {"n": 2}
        with state.transaction():
            state["next"] = 1
    assert redundict.load(store) == {"n": 2, "next": 1}


@pytest.mark.parametrize(
    "act",
    [
        lambda state: state.sync(),
        lambda state: state.sync_soon(),
        lambda state: state.close(),
        lambda state: state.reload(),
        lambda state: state.rollback(),
        lambda state: state.modify(lambda _: None),
    ],
)
@pytest.mark.parametrize("outer", ["transaction", "modify"])
def test_nothing_else_commits_or_replaces_the_state_inside(
    store: str, act: Callable[[redundict.RedunDict], object], outer: str
) -> None:
    """Half a transaction is neither committed nor given up, not even when it was asked for."""
    with redundict.open(store) as state:

        def change(state: redundict.RedunDict) -> None:
            state["half"] = 1
            with pytest.raises(redundict.TransactionError):
                act(state)
            assert state["half"] == 1
            raise KeyError

        with pytest.raises(KeyError):
            if outer == "modify":
                state.modify(change)
            with state.transaction():
                change(state)
        assert state == {"n": 2}
        assert state.sync() == state.generation == 2
    assert redundict.load(store) == {"n": 2}


def test_a_transaction_inside_modify_is_part_of_it(store: str) -> None:
    """What the function changed before it is not committed without what comes after."""
    with redundict.open(store) as state:

        def change(state: redundict.RedunDict) -> None:
            state["m"] = 1
            with state.transaction():
                state["n"] = 3
            assert state.generation == 2

        state.modify(change)
        assert state.generation == 3
    assert redundict.load(store) == {"n": 3, "m": 1}


# --- closing, copying


def test_a_close_that_cannot_commit_leaves_the_store_open(store: str) -> None:
    """Nothing in memory is lost: the caller mends the cause and closes again."""
    state = redundict.open(store)
    state["bad"] = {1}
    with pytest.raises(redundict.UnstorableError):
        state.close()
    state["bad"] = [1]
    state.close()
    assert redundict.load(store) == {"n": 2, "bad": [1]}


def test_leaving_with_lets_go_of_the_lock_even_if_the_commit_fails(store: str) -> None:
    """After `with`, nobody could close the store again, so others may open it."""
    with pytest.raises(redundict.UnstorableError), redundict.open(store) as state:
        state["bad"] = {1}
    with redundict.open(store) as state:
        assert state == {"n": 2}


def test_copies_and_pickles_are_plain_dicts(store: str) -> None:
    """There is one writer to a store: a copy of the dict is not another."""
    with redundict.open(store) as state:
        for twin in (
            copy.copy(state),
            copy.deepcopy(state),
            pickle.loads(pickle.dumps(state)),
            state.copy(),
        ):
            assert type(twin) is dict
            assert twin == {"n": 2}


TWINS: dict[str, Callable[[Any], Any]] = {
    "deepcopy": copy.deepcopy,
    **{
        f"pickle {protocol}": lambda value, protocol=protocol: pickle.loads(
            pickle.dumps(value, protocol)
        )
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    },
}


@pytest.mark.parametrize("twin", TWINS)
def test_a_copy_of_a_store_that_contains_itself_contains_itself(path: str, twin: str) -> None:
    """As a copy of a dict does: directly, in a list, and in an object."""
    state = redundict.open(path, format="pickle")
    state["n"] = [1]
    state["self"], state["list"], state["object"] = state, [state], types.SimpleNamespace(to=state)
    other = TWINS[twin](state)
    assert type(other) is dict
    assert other["self"] is other["list"][0] is other["object"].to is other
    assert other["n"] == [1]
    assert other["n"] is not state["n"]
    shallow = copy.copy(state)
    assert type(shallow) is dict
    assert shallow["self"] is state
    state.clear()
    state.close()


@pytest.mark.parametrize("twin", TWINS)
def test_a_store_in_a_dict_or_in_a_store_is_copied_as_a_plain_dict(path: str, twin: str) -> None:
    """An object that holds a store may be copied, too. No second writer comes of it."""
    with redundict.open(path) as outer, redundict.open(f"{path}.2") as inner:
        inner["n"] = [1]
        dict.__setitem__(outer, "inner", inner)
        for given in (outer, {"inner": inner}, types.SimpleNamespace(inner=inner)):
            made = TWINS[twin](given)
            found = made.inner if isinstance(made, types.SimpleNamespace) else made["inner"]
            assert type(found) is dict
            assert found == {"n": [1]}
            assert found["n"] is not inner["n"]
        outer.clear()


def test_asdict_needs_a_plain_dict_and_opens_nothing(path: str) -> None:
    """`dataclasses.asdict` calls the class of a dict in a field, so it is given `dict(state)`."""

    @dataclasses.dataclass
    class Holder:
        state: Any

    with redundict.open(path) as state:
        state["n"] = [1]
        before = sorted(os.listdir(os.path.dirname(path)))
        with pytest.raises(TypeError):
            dataclasses.asdict(Holder(state))
        assert dataclasses.asdict(Holder(dict(state))) == {"state": {"n": [1]}}
        assert sorted(os.listdir(os.path.dirname(path))) == before


def test_a_store_may_be_closed_in_another_thread(store: str) -> None:
    """The lock belongs to the store, not to the thread that opened it."""
    state = redundict.open(store)
    thread = threading.Thread(target=state.close)
    thread.start()
    thread.join()
    redundict.open(store).close()


# --- formats, and what was there before


def test_a_store_opens_only_in_its_own_format(store: str) -> None:
    """A wrong format is named, with the slot, and nothing is lost."""
    before = slots(store)
    for format in ("csv", "pickle"):
        with pytest.raises(redundict.FormatError, match="stored as json") as caught:
            redundict.open(store, format=format)
        assert caught.value.generation == 2
        assert caught.value.slot == "state.json.a1"
    assert slots(store) == before
    with redundict.open(store) as state:
        assert state == {"n": 2}


def test_pickle_is_loaded_only_if_asked_for(path: str) -> None:
    """Neither open nor load unpickles what the caller did not name as pickle."""
    with redundict.open(path, format="pickle") as state:
        state[1] = {2, 3}
    with pytest.raises(redundict.FormatError):
        redundict.load(path)
    assert redundict.load(path, format="pickle") == {1: {2, 3}}
    with redundict.open(path, format=pickle) as state:
        assert state == {1: {2, 3}}


def test_what_cannot_be_stored_is_refused_before_anything_is_written(store: str) -> None:
    """The error names the item, and the files are as they were."""
    before = slots(store)
    with redundict.open(store) as state:
        state["a"] = [0, {"b": {1: "x"}}]
        with pytest.raises(redundict.UnstorableError) as caught:
            state.sync()
        assert caught.value.item == "state['a'][1]['b']"
        assert "key 1 (int)" in str(caught.value)
        assert isinstance(caught.value, TypeError | ValueError)
        assert slots(store) == before
        del state["a"]


def test_a_plain_file_becomes_generation_1_and_stays_as_it_is(path: str) -> None:
    """What the recipe left is read, and the first sync begins the store beside it."""
    damage.overwrite(path, b'{"old": [1, 2]}')
    assert redundict.load(path) == {"old": [1, 2]}
    with redundict.open(path) as state:
        assert state == {"old": [1, 2]}
        assert state.generation == 0
        assert state.sync() == 1
    assert damage.read(path) == b'{"old": [1, 2]}'
    damage.overwrite(path, b'{"newer": "but plain"}')
    assert redundict.load(path) == {"old": [1, 2]}


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b'{"a": 1, "b"', b"\x80\x04}."])
def test_a_plain_file_that_cannot_be_read_is_not_an_empty_store(path: str, content: bytes) -> None:
    """An empty, torn or foreign file is an error, and stays as it is."""
    damage.overwrite(path, content)
    for flag in "rwc":
        with pytest.raises(redundict.FormatError) as caught:
            redundict.open(path, flag)
        assert caught.value.path == path
    assert damage.read(path) == content
    with redundict.open(path, "n") as state:
        assert state == {}


def test_a_folder_at_the_path_is_a_typed_error(path: str) -> None:
    """A path that names a folder is refused in our words."""
    os.mkdir(path)
    with pytest.raises(redundict.StorageError):
        redundict.open(path)


def test_a_missing_folder_is_a_typed_error(tmp_path: Path) -> None:
    """A store is not made where there is no folder for it."""
    with pytest.raises(redundict.NotFoundError):
        redundict.open(tmp_path / "no" / "state.json")
    assert os.listdir(tmp_path) == []


def test_copies_on_a_disk_that_is_not_mounted_are_not_an_empty_store(
    tmp_path: Path,
) -> None:
    """If no slot is found and a copy's folder is absent, its disk may be: an error, not {}."""
    (tmp_path / "one").mkdir()
    with pytest.raises(redundict.NotFoundError, match="does not exist"):
        redundict.open(
            tmp_path / "one" / "state.json", copies=[tmp_path / "one", tmp_path / "not mounted"]
        )


# --- recovery


def test_recovery_is_none_when_nothing_was_wrong(store: str) -> None:
    """A clean opening says so, for readers and for writers."""
    for flag in "rwc":
        with redundict.open(store, flag) as state:
            assert state.recovery is None


def test_recovery_tells_what_was_found_and_healed(store: str) -> None:
    """One bad copy of the newest generation: it loads, is healed, and the fields say so."""
    damage.flip(store + ".a1", 3)
    with redundict.open(store) as state:
        assert state == {"n": 2}
        assert state.recovery is not None
        assert state.recovery.state is redundict.StoreState.DEGRADED
        assert state.recovery.found == {
            "state.json.a1": "its content does not match its digest; edited by hand? Its payload "
            "still decodes"
        }
        assert state.recovery.healed == ("state.json.a1",)
        assert state.recovery.complete
        assert not state.recovery.newest_lost
        assert "generation 2 was loaded; healed: state.json.a1" in str(state.recovery)
    assert damage.read(store + ".a1") == damage.read(store + ".b1")


@pytest.mark.usefixtures("no_writer_is_waited_for")
def test_a_lost_generation_is_told_and_warned_of(store: str) -> None:
    """Both copies of the newest gone: the one before loads, and no caller can miss it."""
    for slot in (".a1", ".b1"):
        damage.flip(store + slot, 3)
    for flag in "rw":
        with pytest.warns(redundict.RedundancyWarning, match="may have been lost") as caught:
            state = redundict.open(store, flag)
        assert caught[0].filename == __file__
        assert state == {"n": 1}
        assert state.recovery is not None
        assert state.recovery.state is redundict.StoreState.ROLLED_BACK
        assert state.recovery.newest_lost
        assert state.generation == 1
        if flag == "w":
            state["n"] = 3
        state.close()
    assert redundict.check(store).state is redundict.StoreState.HEALTHY


@pytest.mark.usefixtures("no_writer_is_waited_for")
def test_a_reader_warns_of_what_it_could_not_heal(store: str) -> None:
    """A reader loads from the copy that verifies, says what it saw, and changes nothing."""
    damage.truncate(store + ".a1", 100)
    before = slots(store)
    with pytest.warns(redundict.RedundancyWarning, match=r"state\.json\.a1"):
        state = redundict.open(store, "r")
    assert state == {"n": 2}
    assert slots(store) == before
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        redundict.repair(store)


@pytest.mark.damages
def test_a_lost_store_is_an_error_that_names_each_slot(store: str) -> None:
    """If nothing verifies, the error lists every slot with its reason; nothing is overwritten."""
    for slot in (".a0", ".b0"):
        damage.overwrite(store + slot, b"")
    for slot in (".a1", ".b1"):
        damage.flip(store + slot, 3)
    before = slots(store)
    for flag in "rwc":
        with pytest.raises(redundict.LostError) as caught:
            redundict.open(store, flag)
        assert set(caught.value.slots) == {store + s for s in (".a0", ".a1", ".b0", ".b1")}
        assert caught.value.slots[store + ".a0"] == "empty (0 bytes)"
        assert "state.json.b1: its content does not match its digest" in str(caught.value)
    assert slots(store) == before


def test_flag_n_puts_a_lost_store_aside(store: str) -> None:
    """Starting anew destroys nothing: what does not verify gets another name."""
    for slot in (".a0", ".b0", ".a1", ".b1"):
        damage.flip(store + slot, 3)
    before = sorted(slots(store).values())
    with (
        pytest.warns(redundict.RedundancyWarning, match="put aside"),
        redundict.open(store, "n") as state,
    ):
        assert state.recovery is not None
        assert state.recovery.state is redundict.StoreState.LOST
        assert len(state.recovery.found) == 4
        state["n"] = 1
    aside = [content for name, content in slots(store).items() if ".aside-" in name]
    assert sorted(aside) == before
    assert redundict.load(store) == {"n": 1}


# --- locks


def test_a_second_writer_is_refused_at_once(store: str) -> None:
    """One writer from open to close; the error names the process, and readers are free."""
    with redundict.open(store) as state:
        with pytest.raises(redundict.LockedError) as caught:
            redundict.open(store, "w")
        assert caught.value.pid == os.getpid()
        assert isinstance(caught.value, TimeoutError)
        assert redundict.open(store, "r") == state
    redundict.open(store, "w").close()


def test_a_store_that_fails_to_open_is_not_left_locked(store: str) -> None:
    """An error while opening lets go of the lock."""
    with pytest.raises(redundict.FormatError):
        redundict.open(store, format="csv")
    redundict.open(store).close()
