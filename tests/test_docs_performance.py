"""`docs/performance.md`: its tables are those of the script, and its pictures are there."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from xml.etree import ElementTree as ET

import bench_report
import pytest
from contestants import CONTESTANTS, Redundict

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "performance.md").read_text()
NAMES = {kind.name for kind in CONTESTANTS}
OTHER_PYTHONS = {"shelve, dbm.gnu", "shelve, dbm.ndbm", "shelve, dbm.sqlite3"}


def tables(start: str) -> list[dict[str, list[str]]]:
    """Return the tables whose heads begin so: the rows, by their first cell."""
    found = []
    for block in TEXT.split("\n\n"):
        if block.startswith(start):
            rows = [line.strip("|").split("|") for line in block.splitlines()[2:]]
            found.append({row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows})
    return found


def named(rows: dict[str, list[str]]) -> set[str]:
    return {row.removesuffix(" (does not sync)") for row in rows}


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#]+)\)", TEXT))))
def test_what_it_links_to_is_there(target: str) -> None:
    """No link is dead, and no picture is missing or broken."""
    file = ROOT / "docs" / target
    assert file.exists()
    if file.suffix == ".svg":
        ET.parse(file)


@pytest.mark.parametrize("work", ["save", "change"])
def test_every_contestant_is_in_the_tables_and_in_the_picture(work: str) -> None:
    """Only what this Python has no module for is left out; who does not sync is marked."""
    rows = tables(f"| {work}, ms |")[0]
    assert (
        NAMES - OTHER_PYTHONS
        <= named(rows)
        <= NAMES
        | {
            *("json.dumps", "sha256", "check", "orjson.dumps"),
            *(bench_report.FLOOR, bench_report.FLUSH),
        }
    )
    unsafe = {kind.name for kind in CONTESTANTS if not kind.durable}
    assert {row for row in rows if row.endswith(" (does not sync)")} == {
        f"{name} (does not sync)" for name in unsafe - OTHER_PYTHONS
    }
    picture = ET.parse(ROOT / "docs" / f"bench_{work}.svg")
    texts = {element.text for element in picture.iter("{http://www.w3.org/2000/svg}text")}
    assert texts >= NAMES - OTHER_PYTHONS


def test_a_bound_is_called_met_if_it_is() -> None:
    """The last cell of every bound follows from the two before it."""
    found = tables(bench_report.met([]).splitlines()[0])
    assert len(found) == 5
    for rows in found:
        assert len(rows) > 4
        for measured, limit, verdict in rows.values():
            assert verdict == ("yes" if float(measured) <= float(limit) else "no")


def test_a_save_is_two_flushes_and_the_peers_are_counted_too() -> None:
    """What is exact stands there for everybody."""
    [rows] = tables("| a save |")
    assert named(rows) == NAMES - OTHER_PYTHONS
    assert rows[Redundict.name][0] == "2.0"


def test_what_it_has_installed_can_be_installed() -> None:
    """The extra of its command is one of the package."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(re.findall(r"'\.\[(\w+)\]'", TEXT)) <= project["optional-dependencies"].keys()


def test_it_says_that_copies_are_flushed_in_turn() -> None:
    """A reader with two slow disks knows that they cost two flushes."""
    assert "Then they are flushed in turn" in " ".join(TEXT.split())


@pytest.mark.parametrize("anchor", sorted(set(re.findall(r"\]\(#([^)]+)\)", TEXT))))
def test_what_it_refers_to_below_is_one_of_its_sections(anchor: str) -> None:
    """No link within the page is dead."""
    titles = re.findall(r"^## (.*)$", TEXT, re.MULTILINE)
    assert anchor in [re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles]
