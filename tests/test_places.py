"""Copies in several folders: the path alone finds them, and a copy is never mistaken for another.

Each test says what an application sees. The lists and slots on disk are the evidence.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

import redundict
from redundict import errors

from . import inside
from .inside import places

NAME = "state.json"


@pytest.fixture
def disks(tmp_path: Path) -> list[Path]:
    """Make two folders, as two disks would be."""
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    return folders


def store_on(disks: list[Path], **state: object) -> str:
    """Create a store with a copy on each disk; return its path on the first."""
    path = str(disks[0] / NAME)
    with redundict.open(path, copies=disks, keep=2) as opened:
        opened.update(state)
        opened.sync()
        opened["again"] = True
    return path


def slots_in(folder: Path) -> set[str]:
    """Return the letters of the copies that have slots in a folder."""
    return {p.name[-2] for p in folder.glob(f"{NAME}.[a-z][0-9]")}


def command(*words: object) -> int:
    """Run the command line."""
    return inside.command_line([str(word) for word in words])


# --- the file


@pytest.mark.parametrize(
    "folders", [["/one"], ["/one", "/two words/ü"], ["/a/b", "/c", "/a"], ["/one", "/\udcff"]]
)
def test_a_list_names_each_folder_relative_to_its_own(folders: list[str]) -> None:
    """What was listed is found again from any of the folders, whatever bytes its name has."""
    for own in folders:
        found = places.parse(places.encode(folders, own))
        assert [os.path.normpath(os.path.join(own, entry)) for entry in found] == folders
        assert found[folders.index(own)] == "."


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"redundict copies\na .\n",
        b"redundict copies 1\n",
        b"redundict copies 1\na .\nb ../tw",
        b"redundict copies 1\nb .\na ../two\n",
        b"redundict copies 1\na .\nc ../two\n",
        b"redundict copies 1\na .\nb \n",
        b"redundict copies 1\na .\nb \0\n",
        b"\xff" * 100,
    ],
)
def test_a_list_that_is_not_whole_is_refused(content: bytes) -> None:
    """A damaged list never names a folder."""
    with pytest.raises(ValueError, match="is damaged"):
        places.parse(content)


def test_each_folder_holds_a_list(disks: list[Path]) -> None:
    """The first line, a line for each copy, and slashes: a person can read and mend it."""
    store_on(disks)
    assert (disks[0] / "state.json.copies").read_text() == "redundict copies 1\na .\nb ../two\n"
    assert (disks[1] / "state.json.copies").read_text() == "redundict copies 1\na ../one\nb .\n"


# --- the path alone


@pytest.mark.parametrize("disk", [0, 1])
def test_the_path_on_either_disk_finds_both_copies(disks: list[Path], disk: int) -> None:
    """Library and command line find all copies from one path, and make none elsewhere."""
    store_on(disks, n=1)
    path = disks[disk] / NAME
    with redundict.open(path) as state:
        assert state.recovery is None
        state["n"] = 2
    assert redundict.load(path)["n"] == 2
    assert redundict.check(path).state == "healthy"
    assert [slots_in(folder) for folder in disks] == [{"a"}, {"b"}]
    for verb in ("check", "log", "show", "repair", "rollback"):
        assert command(verb, path) == 0, verb
    assert [slots_in(folder) for folder in disks] == [{"a"}, {"b"}]


@pytest.mark.parametrize("disk", [0, 1])
def test_show_diff_and_export_read_the_copy_on_the_other_disk(
    disks: list[Path], disk: int, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    """The copy beside the path is torn, so the newest generation is on the other disk only."""
    store_on(disks, n=1)
    path, out = disks[disk] / NAME, tmp_path / "out.json"
    (disks[disk] / f"{NAME}.{'ab'[disk]}1").write_bytes(b"torn")
    assert command("show", path) == inside.Exit.DEGRADED
    assert capsysbinary.readouterr().out == b'{"n":1,"again":true}'
    assert command("diff", path) == 0
    assert b"again" in capsysbinary.readouterr().out
    assert command("export", path, out) == inside.Exit.DEGRADED
    assert out.read_text() == '{"n":1,"again":true}'
    for folder in disks:  # of both folders, no file of the store is overwritten
        for ending in ("a0", "b1", "lock", "copies"):
            own = folder / f"{NAME}.{ending}"
            assert command("export", path, own, "--force") == inside.Exit.FAILED
    redundict.repair(path)
    for aside in tmp_path.rglob("*.aside-*"):
        aside.unlink()


@pytest.mark.parametrize("disk", [0, 1])
def test_import_writes_both_copies_from_either_path(
    disks: list[Path], disk: int, tmp_path: Path
) -> None:
    """No option names the folders, and no second set of copies begins beside the path."""
    store_on(disks, n=1)
    (tmp_path / "new.json").write_text('{"n": 2}')
    assert command("import", tmp_path / "new.json", disks[disk] / NAME) == 0
    for path in (folder / NAME for folder in disks):
        assert redundict.load(path) == {"n": 2}
    assert [slots_in(folder) for folder in disks] == [{"a"}, {"b"}]
    assert redundict.check(disks[0] / NAME).state == "healthy"


@pytest.mark.parametrize("disk", [0, 1])
def test_a_store_on_two_disks_is_imported_from_either_path(
    disks: list[Path], disk: int, tmp_path: Path
) -> None:
    """The copy beside the path is gone, so the other disk is read."""
    store_on(disks, n=1)
    for slot in disks[disk].glob(f"{NAME}.[ab]?"):
        slot.unlink()
    assert command("import", disks[disk] / NAME, tmp_path / "other.json") == 0
    assert redundict.load(tmp_path / "other.json") == {"n": 1, "again": True}
    redundict.repair(disks[0] / NAME)


@pytest.mark.parametrize("copies", [1, 2, 3])
def test_a_number_of_copies_does_not_hide_the_list(disks: list[Path], copies: int) -> None:
    """An option with a number never ends a redundancy."""
    path = store_on(disks, n=1)
    with redundict.open(path, copies=copies) as state:
        state["n"] = 2
    assert redundict.load(disks[1] / NAME)["n"] == 2
    assert redundict.check(path).state == "healthy"


def test_the_order_of_the_folders_names_the_copies_only_once(disks: list[Path]) -> None:
    """Folders in another order keep their letters, by the list or by their slots."""
    path = store_on(disks)
    for lists in (True, False):
        if not lists:
            for disk in disks:
                (disk / "state.json.copies").unlink()
        with redundict.open(path, copies=disks[::-1]) as state:
            assert state.recovery is None
            state["lists"] = lists
        assert [slots_in(folder) for folder in disks] == [{"a"}, {"b"}]


def test_a_link_to_a_folder_is_that_folder(disks: list[Path], tmp_path: Path) -> None:
    """A path through a symbolic link finds the copies, and a folder is not taken for two."""
    store_on(disks, n=1)
    (tmp_path / "deep").mkdir()
    link = tmp_path / "deep" / "link"
    link.symlink_to(disks[0])
    with redundict.open(link / NAME) as state:
        assert state.recovery is None
        state["n"] = 2
    assert redundict.load(disks[1] / NAME)["n"] == 2
    with pytest.raises(ValueError, match="same folder twice"):
        redundict.open(link / NAME, copies=[disks[0], link])


def test_a_list_without_the_folder_of_the_path_is_refused(disks: list[Path]) -> None:
    """The error shows the call that works."""
    with pytest.raises(ValueError, match=r"redundict\.open\(.*one.*copies="):
        redundict.open(disks[0].parent / NAME, copies=disks)
    with pytest.raises(ValueError, match="line feed"):
        redundict.open(disks[0] / NAME, copies=[disks[0], "a\nb"])


def test_a_new_store_does_not_create_the_folders_of_its_copies(disks: list[Path]) -> None:
    """A missing folder of copies= may be a disk that is not mounted."""
    disks[1].rmdir()
    with pytest.raises(errors.NotFoundError, match="two does not exist"):
        redundict.open(disks[0] / NAME, copies=disks)
    assert os.listdir(disks[0]) == []


# --- copied and moved


def test_a_store_that_moved_with_its_folders_is_whole(disks: list[Path], tmp_path: Path) -> None:
    """The lists are relative, so both folders can be moved or copied together."""
    store_on(disks, n=1)
    shutil.copytree(disks[0], tmp_path / "new" / "one")
    shutil.copytree(disks[1], tmp_path / "new" / "two")
    with redundict.open(tmp_path / "new" / "one" / NAME) as state:
        state["n"] = 2
    assert redundict.load(tmp_path / "new" / "two" / NAME)["n"] == 2
    assert redundict.load(disks[1] / NAME)["n"] == 1


def test_a_copied_store_never_opens_a_copy_of_the_original(
    disks: list[Path], tmp_path: Path
) -> None:
    """One folder that was copied alone is read, and reported; a writer must name the folders."""
    store_on(disks, n=1)
    clone = tmp_path / "clone"
    shutil.copytree(disks[0], clone)
    with pytest.warns(redundict.RedundancyWarning, match="differ"):
        assert redundict.load(clone / NAME)["n"] == 1
    report = redundict.check(clone / NAME)
    assert report.state == "degraded"
    assert "copies=" in (report.action or "")
    for call in (redundict.open, redundict.repair, redundict.rollback):
        with pytest.raises(errors.StorageError, match="differ"):
            call(clone / NAME)
    with redundict.open(clone / NAME, copies=[clone]) as state:
        state["n"] = 2
    with redundict.open(clone / NAME) as state:
        assert state["n"] == 2
    with redundict.open(disks[0] / NAME) as state:
        assert state.recovery is None
        assert state["n"] == 1


@pytest.mark.damages
@pytest.mark.parametrize("kind", ["empty", "damaged", "huge", "fifo", "link", "folder"])
def test_a_bad_list_stops_writers_and_no_reader(disks: list[Path], kind: str) -> None:
    """Nobody waits for it or follows it. Readers read beside the path; writers need copies=."""
    path, listed = store_on(disks, n=1), disks[0] / "state.json.copies"
    whole = listed.read_bytes()
    listed.unlink()
    if kind == "fifo":
        os.mkfifo(listed)
    elif kind == "link":
        (disks[0] / "elsewhere").write_bytes(whole)
        listed.symlink_to("elsewhere")
    elif kind == "folder":
        listed.mkdir()
    else:
        listed.write_bytes({"empty": b"", "damaged": b"x", "huge": whole * 9999}[kind])
    with pytest.warns(redundict.RedundancyWarning, match=r"state\.json\.copies"):
        assert redundict.load(path)["n"] == 1
    with pytest.raises(errors.StorageError, match=r"state\.json\.copies") as raised:
        redundict.open(path)
    assert "copies=" in (raised.value.action or "")
    if kind in ("fifo", "link", "folder"):
        with pytest.raises(errors.StorageError, match=r"state\.json\.copies cannot be written"):
            redundict.open(path, copies=disks)
    else:
        redundict.open(path, copies=disks).close()
        assert listed.read_bytes() == whole


@pytest.mark.damages
def test_a_list_of_a_newer_version_is_not_guessed_at(disks: list[Path]) -> None:
    """What a newer redundict lists may mean something else, also to a caller with copies=."""
    path = store_on(disks)
    (disks[0] / "state.json.copies").write_text("redundict copies 2\na .\n")
    for copies in (2, disks):
        with pytest.raises(errors.NewerVersionError):
            redundict.open(path, copies=copies)
    assert command("check", path) == 12


@pytest.mark.damages
def test_a_lost_list_costs_no_data(disks: list[Path]) -> None:
    """Without its list, the copy beside the path is healed there, and that is reported."""
    path = store_on(disks, n=1)
    for disk in disks:
        (disk / "state.json.copies").unlink()
    with redundict.open(path) as state:
        assert state["n"] == 1
        assert state.recovery is not None
    assert redundict.load(disks[1] / NAME)["n"] == 1


# --- away


def away(disk: Path) -> Path:
    """Take a disk away. Its mount point remains."""
    kept = disk.with_name("unplugged")
    disk.rename(kept)
    disk.mkdir()
    return kept


@pytest.mark.parametrize("mount_point", [True, False])
@pytest.mark.parametrize("by_list", [True, False])
def test_a_copy_that_is_away_is_made_nowhere_else(
    disks: list[Path], *, mount_point: bool, by_list: bool
) -> None:
    """The empty mount point is not written, the report names it, and the copy is healed later."""
    path = store_on(disks, n=1)
    disk = away(disks[1])
    if not mount_point:
        disks[1].rmdir()
    options = {"copies": disks} if by_list else {}
    with (
        pytest.warns(redundict.RedundancyWarning, match="two"),
        redundict.open(path, keep=2, **options) as state,
    ):
        state["n"] = 2
    assert slots_in(disks[0]) == {"a"}
    assert os.path.exists(disks[1]) is mount_point
    assert not mount_point or not os.listdir(disks[1])
    report = redundict.check(path)
    assert report.state != "healthy"
    assert str(disks[1]) in report.status
    assert "mount" in (report.action or "")
    assert {flaw.fault for flaw in report.flaws.values()} == {"away"}
    if mount_point:
        disks[1].rmdir()
    disk.rename(disks[1])
    with redundict.open(path, keep=2) as state:
        assert state["n"] == 2
    assert redundict.check(path).state == "healthy"
    assert redundict.load(disks[1] / NAME)["n"] == 2


def test_repair_begins_a_new_copy_on_request(disks: list[Path]) -> None:
    """A lost disk is replaced only by a repair that names its folder."""
    path = store_on(disks, n=1)
    shutil.rmtree(away(disks[1]))
    redundict.repair(path)
    assert not os.listdir(disks[1])
    assert redundict.repair(path, copies=disks).report.state == "healthy"
    assert slots_in(disks[1]) == {"b"}
    assert redundict.load(disks[1] / NAME)["n"] == 1


@pytest.mark.damages
def test_a_store_is_not_new_because_its_only_disk_is_away(disks: list[Path]) -> None:
    """A list without a slot beside it is no empty store while another folder is away."""
    path = store_on(disks, n=1)
    away(disks[1])
    for slot in disks[0].glob(f"{NAME}.a*"):
        slot.unlink()
    for copies in (2, disks):
        with pytest.raises(errors.NotFoundError, match="two"):
            redundict.open(path, copies=copies)
    assert slots_in(disks[0]) == set()


def test_a_crash_while_a_store_is_created_is_no_disk_that_is_away(disks: list[Path]) -> None:
    """The list beside the path is written last, so the next opening creates the store."""
    path = store_on(disks)
    for folder in disks:
        for slot in folder.glob(f"{NAME}.[ab]*"):
            slot.unlink()
        (folder / "state.json.lock").unlink()
    (disks[0] / "state.json.copies").unlink()
    with redundict.open(path, copies=disks) as state:
        assert state == {}
        state["n"] = 1
    assert [slots_in(folder) for folder in disks] == [{"a"}, {"b"}]


def test_the_list_beside_the_path_is_written_last(disks: list[Path]) -> None:
    """If another list cannot be written, none beside the path says that the store was created."""
    listed = disks[1] / "state.json.copies"
    listed.mkdir()
    with pytest.raises(errors.StorageError, match="cannot be written"):
        redundict.open(disks[0] / NAME, copies=disks)
    assert not (disks[0] / "state.json.copies").exists()
    listed.rmdir()
    store_on(disks)


@pytest.mark.damages
def test_a_lock_note_of_a_generation_is_no_new_store(disks: list[Path]) -> None:
    """If a note names a generation and no slot is found, no folder is filled anew."""
    path = store_on(disks)
    for folder in disks:
        for file in (*folder.glob(f"{NAME}.[ab]*"), folder / "state.json.copies"):
            file.unlink()
    with pytest.raises(errors.NotFoundError, match="two"):
        redundict.open(path, copies=disks)
    assert [slots_in(folder) for folder in disks] == [set(), set()]


# --- version 0.1


@pytest.fixture
def old(disks: list[Path]) -> str:
    """Put the copies of a store that version 0.1 wrote into two folders."""
    for disk, letter in zip(disks, "ab", strict=True):
        for slot in (Path(__file__).parent / "golden" / "v1").glob(f"grown.json.{letter}?"):
            shutil.copy(slot, disk / slot.name.replace("grown.json", NAME))
    return str(disks[0] / NAME)


@pytest.mark.parametrize("reverse", [True, False])
def test_an_old_store_gets_its_lists_when_it_is_opened(
    disks: list[Path], old: str, *, reverse: bool
) -> None:
    """Its slots say which folder holds which copy; later the path alone is enough."""
    with redundict.open(old, copies=disks[::-1] if reverse else disks, keep=2) as state:
        assert state.recovery is None
        state["n"] = 1
    assert [slots_in(folder) for folder in disks] == [{"a"}, {"b"}]
    assert redundict.check(disks[1] / NAME).state == "healthy"
    assert redundict.load(disks[1] / NAME)["n"] == 1


@pytest.mark.damages
def test_an_old_store_without_its_folders_is_not_split(disks: list[Path], old: str) -> None:
    """No copy is made beside the path while it may lie in another folder, unless repair is told."""
    for disk in disks:
        with pytest.raises(errors.StorageError, match="absent") as raised:
            redundict.open(disk / NAME)
        action = raised.value.action or ""
        assert "copies=" in action
        assert "redundict repair" in action
        assert "copies=" in (redundict.check(disk / NAME).action or "")
    assert [slots_in(folder) for folder in disks] == [{"a"}, {"b"}]
    assert redundict.repair(old).report.state == "healthy"
    redundict.open(old).close()


# --- commands


def test_a_store_on_two_disks_is_checked_once(
    disks: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """A healthy store prints nothing with --quiet, and counts once without it."""
    store_on(disks)
    for named in ([*disks], [disks[0].parent], [disk / NAME for disk in disks]):
        assert command("check", "--quiet", *named) == 0
        assert capsys.readouterr().out == ""
        assert command("check", "--json", *named) == 0
        assert len(capsys.readouterr().out.splitlines()) == 1


@pytest.mark.damages
def test_advice_names_no_folder_that_a_list_names(disks: list[Path]) -> None:
    """A pasted repair begins no copy on a mount point whose disk was taken away meanwhile."""
    path = store_on(disks)
    (disks[1] / f"{NAME}.b0").unlink()
    report = redundict.check(path)
    assert report.action == f"redundict repair {path}"
    away(disks[1])
    assert command(*report.action.split()[1:]) == 1
    assert slots_in(disks[1]) == set()


def test_export_never_writes_a_list(disks: list[Path]) -> None:
    """The list and the lock of every folder are files of the store."""
    path = store_on(disks)
    for disk in disks:
        for ending in ("copies", "lock"):
            assert command("export", path, disk / f"{NAME}.{ending}", "--force") == 5
    assert redundict.check(path).state == "healthy"


def test_a_list_named_as_the_store_is_explained(disks: list[Path]) -> None:
    """The error says whose file it is."""
    path = store_on(disks)
    with pytest.raises(errors.NotFoundError, match="file of"):
        redundict.check(f"{path}.copies")


# --- three copies


def test_a_new_folder_takes_the_free_letter(disks: list[Path], tmp_path: Path) -> None:
    """A third copy joins by repair, and the two that are there keep their letters."""
    path = store_on(disks, n=1)
    third = tmp_path / "three"
    third.mkdir()
    redundict.repair(path, copies=[third, *disks[::-1]])
    with redundict.open(path, keep=2) as state:
        state["n"] = 2
    assert [slots_in(folder) for folder in (*disks, third)] == [{"a"}, {"b"}, {"c"}]
    assert redundict.load(third / NAME)["n"] == 2


def test_a_list_that_was_away_while_the_others_changed_stops_writers(
    disks: list[Path], tmp_path: Path
) -> None:
    """A disk that returns with an older list is read beside its path, until copies= is given."""
    path = store_on(disks, n=1)
    disk = away(disks[1])
    third = tmp_path / "three"
    third.mkdir()
    everywhere = [*disks, third]
    redundict.repair(path, copies=[disks[0], third])
    disks[1].rmdir()
    disk.rename(disks[1])
    with pytest.raises(errors.StorageError, match="differ"):
        redundict.open(disks[1] / NAME)
    redundict.repair(path, copies=everywhere)
    with redundict.open(path, keep=2) as state:
        state["n"] = 2
    assert all(redundict.load(folder / NAME)["n"] == 2 for folder in everywhere)


def test_permadict_finds_the_copies(disks: list[Path]) -> None:
    """The recipe's signature has no copies=, and needs none."""
    path = store_on(disks, n=1)
    with redundict.PermaDict(path) as state:
        state["n"] = 2
    assert [slots_in(folder) for folder in disks] == [{"a"}, {"b"}]
    assert redundict.load(disks[1] / NAME)["n"] == 2
