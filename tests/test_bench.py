"""`scripts/bench.py`: it runs, and what it tells follows from what it measured."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree as ET

import bench
import bench_exact
import bench_report
import bench_rounds
import block_log
import contestants
import plot
import powercut
import pytest

pytestmark = pytest.mark.exhaustive
SCRIPT = Path(__file__).parents[1] / "scripts" / "bench.py"


def test_a_small_run_measures_every_work_and_writes_what_was_asked_for(tmp_path: Path) -> None:
    """One real process: tables on its output, medians as JSON, two plots."""
    command = [sys.executable, str(SCRIPT), "--sizes", "1000", "20000", "--folder", str(tmp_path)]
    command += ["--only", "Redundict", "DurableRecipe", "Recipe", "Sqlite"]
    command += ["--json", str(tmp_path / "out.json"), "--plot", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    for heading in ("| save, ms |", "| change, ms |", "| load, ms |", "| bound |"):
        assert heading in done.stdout
    assert "recipe (does not sync)" in done.stdout
    medians = json.loads((tmp_path / "out.json").read_text())
    assert set(medians) == {"1000", "20000"}
    for works in medians.values():
        assert works["save"].keys() >= {"redundict", "durable recipe", "floor", "json.dumps"}
        assert all(time > 0 for times in works.values() for time in times.values())
    for work in ("save", "change"):
        picture = ET.parse(tmp_path / f"bench_{work}.svg")
        texts = [element.text for element in picture.iter("{http://www.w3.org/2000/svg}text")]
        assert {"redundict", "durable recipe", "recipe", "sqlite3, WAL, FULL"} <= set(texts)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # a peer's own
@pytest.mark.parametrize("kind", contestants.CONTESTANTS, ids=lambda kind: kind.__name__)
def test_a_contestant_loads_what_it_saved_and_changed(
    kind: type[contestants.Contestant], tmp_path: Path
) -> None:
    """No figure of one that does not keep the state."""
    if absent := contestants.missing(kind):
        pytest.skip(f"{absent} is not installed")
    state = bench_rounds.state_of(2000)
    with bench.contestant(kind, str(tmp_path), state) as opened:
        state["item0000003"] = {"name": "changed"}
        opened.change(state, "item0000003")
        assert opened.load() == state


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
def test_flushes_and_bytes_of_a_save_are_counted(tmp_path: Path) -> None:
    """redundict: a flush and a slot of 20 KB for each of two copies; the recipe: no flush."""
    assert bench_exact.flushes(contestants.Redundict, str(tmp_path)) == (2.0, 2 * 20.480)
    assert bench_exact.flushes(contestants.Recipe, str(tmp_path))[0] == 0.0


def test_the_memory_of_a_save_is_at_least_its_payload(tmp_path: Path) -> None:
    """What is encoded is in memory once, and the measure sees it."""
    size = 5_000_000
    assert size < bench_exact.peak(contestants.Redundict, str(tmp_path), size) < 5 * size


@pytest.mark.parametrize(
    ("ours", "theirs", "size"),
    [
        ({10: 1.0, 1000: 1.0}, {10: 2.0, 1000: 2.0}, float("inf")),
        ({10: 3.0, 1000: 9.0}, {10: 2.0, 1000: 2.0}, None),
        ({10: 1.0, 1000: 100.0}, {10: 10.0, 1000: 10.0}, 100.0),
        ({10: 1.0, 1000: 1.0, 5: 9.0}, {10: 2.0, 1000: 2.0}, float("inf")),
    ],
)
def test_the_crossover_is_where_the_lines_meet(
    ours: dict[int, float], theirs: dict[int, float], size: float | None
) -> None:
    """On logarithmic scales, between the two sizes around it; of sizes that both have."""
    assert bench_report.crossover(ours, theirs) == (size and pytest.approx(size))


def test_a_plot_of_one_point_is_a_picture() -> None:
    """What has no span is no division by zero."""
    ET.fromstring(plot.svg("a < b", [plot.Series("x", {10: 1.0})], str))


@pytest.mark.skipif(bool(powercut.unavailable()), reason=powercut.unavailable())
def test_a_slow_flush_is_slow() -> None:
    """On the disk that the mode makes, a sync takes as long as it was told to, and is counted."""
    with bench.slow_disk(20, 20) as folder:
        floor = bench.Floor(folder, 4096)
        began = time.perf_counter()
        floor.save()
        assert time.perf_counter() - began >= 0.04
        floor.close()
    assert block_log.FLUSH == (-1, b"")
