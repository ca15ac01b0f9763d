"""`scripts/sweep_rate.py`, in small, and `docs/operating.md`, which has its tables."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import sweep_rate

import redundict

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "operating.md").read_text()

pytestmark = [
    pytest.mark.exhaustive,
    pytest.mark.skipif(not Path("/proc").exists(), reason="/proc"),
]


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """Return a folder with ten nested stores of 10 KB."""
    files = sweep_rate.make(str(tmp_path), 10, 10_000)
    assert len(files) == 40
    return str(tmp_path)


def test_both_programs_are_timed_over_the_same_files(folder: str) -> None:
    """Each round has a time of each, and their table has both."""
    took = sweep_rate.rounds(folder, 2)
    assert len(took) == 2
    table, ratio = sweep_rate.rates([(2.0, 1.0), (2.0, 1.5), (1.0, 1.0)], 100.0)
    assert ratio == 0.75
    assert "| redundict check | 50 | 50 | 100 |" in table


def test_what_fails_is_not_timed(folder: str) -> None:
    """A check that finds trouble, or nothing, is no measurement."""
    with pytest.raises(Exception, match="returned non-zero exit status 10"):
        sweep_rate.seconds([*sweep_rate.CHECK, f"{folder}/absent"])


def test_the_peak_of_memory_is_that_of_a_whole_process(folder: str) -> None:
    """What is seen of the main process is what a Python takes at least."""
    seen = sweep_rate.peak([folder])
    assert seen.main > 5
    assert redundict.check(f"{folder}/0/0/0.json").generation == 2


@pytest.mark.parametrize(
    "table",
    [
        sweep_rate.rates([(1.0, 1.0)], 1.0)[0],
        sweep_rate.memory(sweep_rate.Peak(1, 1), sweep_rate.Peak(1, 1), (1, 2)),
    ],
    ids=["rates", "memory"],
)
def test_the_document_has_the_tables_that_are_printed(table: str) -> None:
    """What is told is what the script measures."""
    assert table.splitlines()[0] in TEXT


def test_the_document_claims_what_was_promised() -> None:
    """The measured ratio and the measured memory keep to the script's limits."""
    assert float(re.search(r"The ratio is ([\d.]+)", TEXT)[1]) >= sweep_rate.LEAST
    few, many = (
        [float(cell) for cell in re.findall(r"\d+\.\d", line)]
        for line in TEXT.splitlines()
        if re.match(r"\| [\d,]+ \| \d", line)
    )
    assert all(now - then <= sweep_rate.MOST for then, now in zip(few, many, strict=True))


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\((?!https:)([^)#]+)", TEXT))))
def test_what_it_links_to_is_there(target: str) -> None:
    """No link to a file of the project is dead."""
    assert (ROOT / "docs" / target).exists()
