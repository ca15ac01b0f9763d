"""`layout`: where a store's files are, and what their names say."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from .inside import Layout


def test_a_layout_is_one_folder_a_copy(tmp_path: Path) -> None:
    """A number of copies lie beside the path; a list says where each of them lies."""
    beside = Layout.of(str(tmp_path / "s"), 3, 2)
    assert beside.folders == (str(tmp_path),) * 3
    apart = Layout.of(str(tmp_path / "s"), [tmp_path, tmp_path / "other"], 5)
    assert apart.folders == (str(tmp_path), str(tmp_path / "other"))
    assert (apart.copies, apart.keep, apart.name) == (2, 5, "s")
    assert apart.lock_path == str(tmp_path / "s.lock")
    assert apart.slot_path(1, 4) == str(tmp_path / "other" / "s.b4")


def test_a_layout_stays_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path means the folder one was in when the store was opened."""
    monkeypatch.chdir(tmp_path)
    layout = Layout.of("s", ["here", "there"], 2)
    monkeypatch.chdir("/")
    assert layout.path == str(tmp_path / "s")
    assert layout.slot_path(1, 0) == str(tmp_path / "there" / "s.b0")


@pytest.mark.parametrize(
    ("copies", "keep", "error", "why"),
    [
        (0, 2, ValueError, "copies must be 1 to 26, not 0"),
        (-1, 2, ValueError, "copies must be 1 to 26"),
        (27, 2, ValueError, "copies must be 1 to 26, not 27"),
        ([], 2, ValueError, "copies must be 1 to 26, not 0"),
        (["a", "a"], 2, ValueError, "copies names the same folder twice"),
        (["a", "b/../a"], 2, ValueError, "copies names the same folder twice"),
        (2, 1, ValueError, "keep must be 2 to 1000, not 1"),
        (2, 1001, ValueError, "keep must be 2 to 1000, not 1001"),
        ("folder", 2, TypeError, "copies is a number or a list of folders, not 'folder'"),
        (b"folder", 2, TypeError, "copies is a number or a list of folders, not b'folder'"),
        (Path("folder"), 2, TypeError, "copies is a number or a list of folders, not "),
    ],
)
def test_a_layout_that_cannot_be_is_refused(
    copies: Any, keep: int, error: type[Exception], why: str
) -> None:
    """A folder is no list of folders, and every number has its range."""
    with pytest.raises(error) as caught:
        Layout.of("s", copies, keep)
    assert str(caught.value).startswith(why)


@pytest.mark.parametrize("ends", [(1, 2), (26, 1000)])
def test_the_ends_of_each_range_are_taken(ends: tuple[int, int]) -> None:
    """What is just within a limit is a layout."""
    layout = Layout.of("s", *ends)
    assert (layout.copies, layout.keep) == ends


NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1)


@given(NAMES.filter(lambda name: name not in (".", "..")), st.integers(0, 25), st.integers(0, 9999))
@example("s.a0", 1, 1)
@example("s.*[a]", 0, 0)
@example("s\n", 0, 0)
def test_a_slots_name_says_which_it_is(name: str, copy: int, index: int) -> None:
    """What a slot is called is read back, for any name of a store."""
    layout = Layout.of(f"/folder/{name}", 26, 2)
    found = os.path.basename(layout.slot_path(copy, index))
    assert layout.parse(found) == (copy, index)


@pytest.mark.parametrize(
    "name",
    [
        "s",
        "s.lock",
        "s.a",
        "s.0",
        "s.A0",
        "s.a00",
        "s.a01",
        "s.a-1",
        "s.a10000",
        "s.aa0",
        "s.a0\n",
        "s.a0.new",
        "s.a0.aside-20260101T000000Z",
        "xs.a0",
        "sxa0",
        "s.a٣",
        "s.ä0",
        ".a0",
        "",
    ],
)
def test_other_names_are_no_slots(name: str) -> None:
    """What lies beside a store is not taken for a part of it."""
    assert Layout.of("/folder/s", 2, 2).parse(name) is None


def test_a_command_can_be_pasted() -> None:
    """Spaces and quotes in a path reach the command line as they are."""
    layout = Layout.of("/a folder/it's", 2, 2)
    command = layout.command("rollback", "--to", "3")
    assert shlex.split(command) == ["redundict", "rollback", "/a folder/it's", "--to", "3"]


def test_a_command_names_the_folders_where_they_are_not_beside_the_path() -> None:
    """A store on several disks is found again by the command that is suggested."""
    layout = Layout.of("/one/s", ["/one", "/the other"], 2)
    words = shlex.split(layout.command("check"))
    assert words == ["redundict", "check", "/one/s", "--copies=/one", "--copies=/the other"]
