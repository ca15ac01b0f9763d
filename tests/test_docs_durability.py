"""`docs/durability.md`: what it names is there, and its tables are those that the scripts print."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import bitrot
import evidence
import powercut
import pytest
import sharing
from peers import PROGRAMS

from . import test_crash_simulated, test_permadict_autopsy

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "durability.md").read_text()


def table(head: str) -> dict[str, list[str]]:
    """Return the rows of the table with this head, by their first cell."""
    assert head in TEXT
    lines = TEXT[TEXT.index(head) :].splitlines()[2:]
    rows = [line.strip("|").split("|") for line in lines[: lines.index("")]]
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows}


def head_of(printed: str) -> str:
    return printed.splitlines()[0]


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#]+)", TEXT))))
def test_what_it_links_to_is_there(target: str) -> None:
    """No link is dead."""
    assert (ROOT / "docs" / target).exists()


@pytest.mark.parametrize("anchor", sorted(set(re.findall(r"\]\(#([^)]+)\)", TEXT))))
def test_what_it_refers_to_is_one_of_its_sections(anchor: str) -> None:
    """No link within the page is dead."""
    titles = re.findall(r"^##+ (.*)$", TEXT, re.MULTILINE)
    assert anchor in [title.lower().replace(" ", "-") for title in titles]


def test_each_fault_has_a_test_of_its_number() -> None:
    """The list of the autopsy is numbered as its tests are."""
    listed = re.findall(r"^(\d)\. \*\*", TEXT, re.MULTILINE)
    tested = {m[1] for name in vars(test_permadict_autopsy) if (m := re.match(r"test_(\d)", name))}
    assert listed == sorted(tested) == [str(number) for number in range(1, 10)]


def test_the_evidence_is_of_what_the_command_gathers_and_nothing_went_wrong() -> None:
    """Each row of the table was tried, and its last column is zero."""
    rows = table(head_of(evidence.table([])))
    assert len(rows) == 12
    for tried, bad in rows.values():
        assert int(tried.replace(",", "")) > 0
        assert bad == "0"


def test_the_power_cuts_are_of_every_program_and_the_controls_lose() -> None:
    """redundict kept everything, and what does not sync did not."""
    rows = table(head_of(powercut.table({})))
    assert rows.keys() == PROGRAMS.keys()
    assert rows["redundict"][1:] == ["0", "0", "0"]
    for control in ("redundict, unsynced", "recipe", "overwrite"):
        assert int(rows[control][1].replace(",", "")) > 0


def test_sharing_is_every_trial_and_each_promise_was_kept() -> None:
    """What the table shows is what the script tries."""
    rows = table(head_of(sharing.table([])))
    assert len(rows) == len(sharing.trials("", 1.0, 0))
    assert {cells[-1] for cells in rows.values()} == {"yes"}


def test_the_damage_is_every_kind_and_redundict_is_intact() -> None:
    """One damaged file costs redundict nothing."""
    rows = table(head_of(bitrot.table({})))
    assert set(rows["redundict"]) == {str(bitrot.Outcome.INTACT)}
    assert rows.keys() == {bitrot.BOTH, *PROGRAMS} - {"redundict, unsynced"}


def test_the_numbers_in_the_text_are_those_of_the_code() -> None:
    """What is counted in words is counted in code."""
    assert len(test_crash_simulated.SCENARIOS) == 13
    assert "thirteen" in TEXT


def test_what_it_has_installed_can_be_installed() -> None:
    """The extra of its command is one of the package."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = set(re.findall(r"'\.\[(\w+)\]'", TEXT))
    assert extras == {"evidence"}
    assert extras <= project["optional-dependencies"].keys()
