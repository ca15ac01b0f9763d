"""`scripts/`: integrity check and rollback from a plain checkout, from any folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import redundict
from redundict.cli.parser import Exit

from . import damage

SCRIPTS = Path(__file__).parents[1] / "scripts"
SOURCE = Path(redundict.__file__).parent
NAMES = ("integrity_check.py", "rollback.py")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a checkout that has nothing but the package and the scripts, and says its name."""
    folder = tmp_path / "a check out"
    shutil.copytree(SCRIPTS, folder / "scripts")
    shutil.copytree(SOURCE, folder / "redundict", ignore=shutil.ignore_patterns("__pycache__"))
    with open(folder / "redundict" / "cli" / "parser.py", "a") as file:
        file.write("\nprint('this is the checkout', file=sys.stderr)\n")
    return folder


@pytest.fixture
def store(path: str) -> str:
    """Return the path of a store of two generations, {"n": 1} and {"n": 2}, an hour old."""
    with redundict.open(path) as state:
        for state["n"] in (1, 2):
            state.sync()
        for generation in state.generations():
            for slot in generation.slots:
                damage.age(slot.path)
    return path


def run(checkout: Path, name: str, *args: str) -> subprocess.CompletedProcess[str]:
    """Run a script of a checkout from the root folder, with no PYTHONPATH."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, str(checkout / "scripts" / name), *args],
        cwd="/",
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_script_runs_the_code_of_its_checkout(checkout: Path, name: str) -> None:
    """A script finds the package beside it, installed or not, and shows the exit codes in help."""
    done = run(checkout, name, "--help")
    assert done.returncode == Exit.OK
    assert done.stderr == "this is the checkout\n"
    assert Exit.LOST.meaning in done.stdout


@pytest.mark.damages
@pytest.mark.parametrize(
    ("slots", "code"),
    [
        ((), Exit.OK),
        (("b1",), Exit.DEGRADED),
        (("a1", "b1"), Exit.ROLLED_BACK),
        (("a0", "b0", "a1", "b1"), Exit.LOST),
    ],
)
def test_integrity_check_exits_as_check_does(
    checkout: Path, store: str, slots: tuple[str, ...], code: Exit
) -> None:
    """For cron: the exit code of the script is that of `redundict check`."""
    for slot in slots:
        damage.truncate(f"{store}.{slot}", 0)
    assert run(checkout, "integrity_check.py", store).returncode == code


def test_rollback_rolls_back(checkout: Path, store: str) -> None:
    """For rescue: the generation before is committed again, or the one that is named."""
    done = run(checkout, "rollback.py", store)
    assert (done.returncode, redundict.load(store)) == (Exit.OK, {"n": 1}), done.stderr
    done = run(checkout, "rollback.py", store, "--to", "2")
    assert (done.returncode, redundict.load(store)) == (Exit.OK, {"n": 2}), done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_a_script_without_a_store_says_so(checkout: Path, tmp_path: Path, name: str) -> None:
    """A wrong path and no path at all have their exit codes here too."""
    assert run(checkout, name, str(tmp_path / "nothing.json")).returncode == Exit.NO_STORE
    assert run(checkout, name).returncode == Exit.USAGE
