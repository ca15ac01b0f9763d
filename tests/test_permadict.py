"""`PermaDict`: an application of the recipe changes one import, and nothing else."""

from __future__ import annotations

import collections
import inspect
import os
import pickle
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import redundict
from redundict import PermaDict

from . import damage, inside
from .recipe import PersistentDict

STATE = {"a": "1", "b": "x,y"}  #: All three formats of the recipe give it back.


def slots(path: str) -> list[str]:
    """Return the names of a store's slots."""
    folder = os.path.dirname(path)
    return sorted(name for name in os.listdir(folder) if name[-3:-1] in (".a", ".b"))


# --- signature and manners


def test_the_constructor_has_the_recipe_s_signature() -> None:
    """The names, the order, the kinds and the defaults of the parameters are the recipe's."""

    def shape(kind: type) -> list[tuple[str, Any, Any]]:
        parameters = inspect.signature(kind).parameters.values()
        return [(p.name, p.kind, p.default) for p in parameters]

    assert shape(PermaDict) == shape(PersistentDict)


def test_the_methods_of_the_recipe_are_there() -> None:
    """Each public method of the recipe can be called as it could; files are not its business."""
    of_the_recipe = {name for name in vars(PersistentDict) if not name.startswith("_")}
    for name in of_the_recipe - {"dump", "load"}:
        inspect.signature(getattr(PermaDict, name)).bind("self")


@pytest.mark.parametrize("kind", [PersistentDict, PermaDict])
def test_with_saves_and_the_dict_can_still_be_used(path: str, kind: type[Any]) -> None:
    """Leaving `with` is a sync: the dict reads, changes and syncs afterwards as before."""
    with kind(path) as state:
        state["a"] = 1
    assert state == {"a": 1}
    assert kind(path, "r") == {"a": 1}
    state["b"] = 2
    state.sync()
    state.close()
    assert kind(path, "r") == {"a": 1, "b": 2}


@pytest.mark.parametrize("kind", [PersistentDict, PermaDict])
def test_close_lets_others_write(path: str, kind: type[Any]) -> None:
    """After close, another opens the store for writing; the dict that was closed is still there."""
    first = kind(path)
    first["a"] = 1
    first.close()
    with kind(path) as second:
        second["b"] = 2
    assert first == {"a": 1}
    assert kind(path, "r") == {"a": 1, "b": 2}


@pytest.mark.parametrize("kind", [PersistentDict, PermaDict])
def test_flag_r_starts_empty_where_there_is_no_file_and_never_writes(
    tmp_path: Path, path: str, kind: type[Any]
) -> None:
    """With flag 'r', a missing file is an empty dict, and sync and close do nothing."""
    with kind(path, "r") as state:
        assert state == {}
        state["a"] = 1
        state.sync()
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("kind", [PersistentDict, PermaDict])
def test_flag_r_leaves_what_is_there_alone(path: str, kind: type[Any]) -> None:
    """With flag 'r', what was loaded can be changed in memory and stays as it is on disk."""
    with kind(path) as state:
        state["a"] = 1
    with kind(path, "r") as state:
        state["a"] = 2
    assert kind(path, "r") == {"a": 1}


@pytest.mark.parametrize("kind", [PersistentDict, PermaDict])
def test_flag_n_starts_empty(path: str, kind: type[Any]) -> None:
    """With flag 'n', nothing is loaded, and a sync replaces what was there."""
    with kind(path) as state:
        state["a"] = 1
    with kind(path, "n") as state:
        assert state == {}
        state["b"] = 2
    assert kind(path, "r") == {"b": 2}


@pytest.mark.parametrize("kind", [PersistentDict, PermaDict])
def test_what_follows_the_format_goes_over_what_was_loaded(path: str, kind: type[Any]) -> None:
    """A mapping or pairs, and keywords, win over the file; the rest of the file stays."""
    with kind(path) as state:
        state.update(a=1, b=1, c=1)
    with kind(path, "c", None, "json", {"b": 2}, c=3) as state:
        assert state == {"a": 1, "b": 2, "c": 3}
    with kind(path, "c", None, "json", [("d", 4)]) as state:
        assert state == {"a": 1, "b": 2, "c": 3, "d": 4}


@pytest.mark.parametrize("kind", [PersistentDict, PermaDict])
def test_the_attributes_of_the_recipe_are_there(path: str, kind: type[Any]) -> None:
    """`filename` is what was given, and `flag` and `format` likewise."""
    with kind(path, format="csv") as state:
        assert (state.filename, state.flag, state.format) == (path, "c", "csv")


def test_filename_stays_as_it_was_given(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative name is not made absolute in `filename`; `path` is where the store is."""
    monkeypatch.chdir(tmp_path)
    with PermaDict("state.json") as state:
        assert (state.filename, state.path) == ("state.json", path)


@pytest.mark.parametrize("mode", [0o600, 0o640])
def test_mode_sets_the_permission_bits(path: str, mode: int) -> None:
    """Every slot has the permission bits that were asked for, as the recipe's file has."""
    with PermaDict(path, "c", mode) as state:
        state["a"] = 1
        state.sync()
        state["a"] = 2
    with PersistentDict(path, "c", mode):
        pass
    modes = {stat.S_IMODE(os.stat(f"{path}.{slot}").st_mode) for slot in ("a0", "a1", "b0", "b1")}
    assert modes == {stat.S_IMODE(os.stat(path).st_mode)} == {mode}


def test_a_constructor_that_fails_lets_go_of_the_store(path: str) -> None:
    """A wrong argument after the format does not leave the store locked by nobody."""
    with pytest.raises(TypeError) as failed:
        PermaDict(path, "c", None, "json", 42)
    PermaDict(path).close()
    assert failed.value is not None  # the traceback holds the half-made dict until here


# --- the files that the recipe left


@pytest.mark.parametrize("format", ["json", "csv", "pickle"])
def test_a_plain_file_of_the_recipe_lives_on_as_generation_1(path: str, format: str) -> None:
    """What the recipe wrote is read, saved in slots at the first sync, and itself left alone."""
    with PersistentDict(path, format=format, **STATE):
        pass
    plain = damage.read(path)
    with PermaDict(path, format=format) as state:
        assert state == STATE
        assert state.generation == 0
        state.sync()
        assert state.generation == 1
        state["a"] = "2"
    assert damage.read(path) == plain
    assert redundict.load(path, format=format) == STATE | {"a": "2"}
    with PermaDict(path, format=format) as state:
        assert state == STATE | {"a": "2"}


@pytest.mark.parametrize(("left", "asked"), [("json", "csv"), ("csv", "json"), ("json", "pickle")])
def test_the_format_of_a_plain_file_is_found_out_as_the_recipe_does(
    path: str, left: str, asked: str
) -> None:
    """A file in another text format than the one asked for is read all the same."""
    with PersistentDict(path, format=left, **STATE):
        pass
    with PermaDict(path, format=asked) as state:
        assert state == STATE


@pytest.mark.parametrize("flag", ["c", "r"])
def test_a_plain_file_is_never_taken_for_a_pickle_unasked(path: str, flag: str) -> None:
    """A pickle is an error that changes nothing, unless pickle is asked for by name."""
    with PersistentDict(path, format="pickle", **STATE):
        pass
    for format in ("json", "csv"):
        with pytest.raises(redundict.FormatError, match="not readable as json"):
            PermaDict(path, flag, format=format)
    assert not slots(path)


class Planted:
    """What makes a folder when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = str(target)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.target,)


def test_a_planted_pickle_runs_only_in_the_recipe_s_place(path: str, tmp_path: Path) -> None:
    """Code in a file runs if pickle was asked for by name, and in no other case."""
    ran = tmp_path / "ran"
    damage.overwrite(path, pickle.dumps({"a": Planted(ran)}))
    for format in ("json", "csv"):
        with pytest.raises(redundict.FormatError):
            PermaDict(path, format=format)
        assert not ran.exists()
    PermaDict(path, format="pickle").close()
    assert ran.exists()


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b'{"a": 1', b"\x80\x81", b"[1]"])
def test_a_broken_plain_file_is_an_error_and_not_an_empty_dict(path: str, content: bytes) -> None:
    """What a crash of the recipe left is refused, kept, and no store is made over it."""
    damage.overwrite(path, content)
    with pytest.raises(redundict.FormatError) as refused:
        PermaDict(path)
    assert refused.value.path == path
    assert damage.read(path) == content
    assert not slots(path)


def test_slots_win_over_the_plain_file(path: str) -> None:
    """Once there is a generation, the file that the recipe left is history."""
    with PersistentDict(path, a="old"):
        pass
    with PermaDict(path) as state:
        state["a"] = "new"
    with PersistentDict(path) as old:
        old["a"] = "later, by the old program"
    assert PermaDict(path, "r") == {"a": "new"}


# --- two writers


def test_a_change_by_another_between_close_and_sync_is_a_conflict(path: str) -> None:
    """A dict that was closed does not write over what was committed since; memory is kept."""
    first = PermaDict(path)
    first["a"] = 1
    first.close()
    with PermaDict(path) as second:
        second["a"] = 2
    first["a"] = 3
    with pytest.raises(redundict.ConflictError, match="generation 2") as refused:
        first.sync()
    assert refused.value.generation == 2
    assert first == {"a": 3}
    assert redundict.load(path) == {"a": 2}
    first.reload()
    assert first == {"a": 2}
    first.close()


def test_a_second_writer_is_refused_until_close(path: str) -> None:
    """Where the recipe's writers overwrite each other, the second one here gets `LockedError`."""
    first = PermaDict(path)
    with pytest.raises(redundict.LockedError):
        PermaDict(path)
    first.close()
    PermaDict(path).close()


def test_a_sync_after_close_takes_the_lock_again(path: str) -> None:
    """From a sync to the next close, the store is locked as it is from the constructor on."""
    first = PermaDict(path)
    first.close()
    first["a"] = 1
    first.sync()
    with pytest.raises(redundict.LockedError):
        PermaDict(path)
    first.close()
    assert PermaDict(path, "r") == {"a": 1}


# --- what the recipe gets wrong


def test_the_recipe_changes_keys_and_values_and_permadict_refuses_to(path: str) -> None:
    """Where the recipe brings back "1" for 1 without a word, PermaDict says which item it is."""
    with PersistentDict(path) as old:
        old[1] = "one"
    assert PersistentDict(path) == {"1": "one"}
    state = PermaDict(path, "n")
    state[1] = "one"
    with pytest.raises(redundict.UnstorableError, match=r"key 1 \(int\)"):
        state.sync()
    assert state == {1: "one"}
    del state[1]
    state.close()


def test_a_file_that_is_no_dict_any_more_costs_the_recipe_all_and_permadict_nothing(
    path: str,
) -> None:
    """The recipe has one file and no way back; PermaDict loads the other copy."""
    with PersistentDict(path, a=1):
        pass
    with PermaDict(path) as state:
        state.sync()
    os.truncate(path, 3)
    with pytest.raises(ValueError, match="not in a supported format"):
        PersistentDict(path)
    damage.truncate(f"{path}.a0", 3)
    with PermaDict(path) as state:
        assert state == {"a": 1}
        assert state.recovery
        assert state.recovery.healed == ("state.json.a0",)


def test_a_conflict_after_close_does_not_keep_the_lock(path: str) -> None:
    """Who had closed it, and cannot save, holds up nobody else."""
    mine = redundict.PermaDict(path)
    mine.close()
    with redundict.open(path) as theirs:
        theirs["n"] = 1
    mine["n"] = 2
    with pytest.raises(redundict.ConflictError):
        mine.sync()
    with redundict.open(path) as theirs:
        assert theirs == {"n": 1}
    inside.forget(mine)


def test_what_was_settled_before_close_is_settled_again_after_it(
    path: str, writes_noted: Callable[[], list[int]]
) -> None:
    """Between close and the next sync, a holder that was killed may have written anything."""
    mine = PermaDict(path)
    mine.close()
    os.remove(path + ".lock")  # and the note with it
    written = writes_noted()
    mine["n"] = 2
    mine.sync()
    mine.close()
    assert written[:2] == [4096, 4096]


def test_a_subclass_is_stored_as_its_plain_value_with_one_warning_for_each_place(path: str) -> None:
    """An application of the recipe goes on working, and its author is told."""
    with PermaDict(path) as state:
        state["ordered"] = collections.OrderedDict(a=1)
        with pytest.warns(UserWarning, match=r"state\['ordered'\].*is stored as its plain value"):
            state.sync()
        state["n"] = 1
        state.sync()
    assert redundict.load(path) == {"ordered": {"a": 1}, "n": 1}
    assert type(redundict.load(path)["ordered"]) is dict
