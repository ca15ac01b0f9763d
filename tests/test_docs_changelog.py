"""`CHANGELOG.md`: what it says to write exists, and what it says is gone is gone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import redundict
from redundict import errors

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
NEWEST = TEXT.split("\n## ")[1]
#: The rows of the table of what was removed or renamed: what was written, and what to write now.
RENAMED = re.findall(r"^\| (.*`.*) \| (.*) \|$", NEWEST, re.MULTILINE)


def names(text: str) -> set[str]:
    """Return the classes of errors that a text names."""
    return set(re.findall(r"\b(\w+Error)\b", text))


def test_each_error_of_the_table_is_gone_and_its_successor_is_there() -> None:
    """A program that follows the table catches something that exists."""
    old = names(" ".join(before for before, _ in RENAMED))
    new = names(" ".join(after for _, after in RENAMED))
    assert len(old) == 3
    assert [name for name in old if hasattr(errors, name)] == []
    assert [name for name in new if not hasattr(errors, name)] == []


def test_each_method_of_the_table_exists() -> None:
    """A program that follows the table calls something that exists."""
    methods = set(re.findall(r"`state\.(\w+)\(", " ".join(after for _, after in RENAMED)))
    assert methods == {"sync_soon", "modify"}
    assert [name for name in methods if not hasattr(redundict.RedunDict, name)] == []


def test_the_versions_are_in_their_order_and_this_one_is_among_them() -> None:
    """The newest entry is on top."""
    versions = re.findall(r"^## \[([\d.]+)\]", TEXT, re.MULTILINE)
    numbers = [tuple(map(int, version.split("."))) for version in versions]
    assert numbers == sorted(numbers, reverse=True)
    assert redundict.__version__ in versions


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#]+)", TEXT))))
def test_what_it_links_to_is_there(target: str) -> None:
    """No link is dead."""
    assert "://" in target or (ROOT / target).exists()
