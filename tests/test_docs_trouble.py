"""`docs/trouble.md`: the commands, typed in order on such a store, print what the page shows."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import redundict

from .inside import set_clock

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "trouble.md").read_text(encoding="utf-8")
PATH = os.pathsep.join(("/usr/local/bin", "/usr/bin", "/bin"))
USER = 1000

pytestmark = [
    pytest.mark.damages,
    pytest.mark.skipif(not shutil.which("stat") or os.name == "nt", reason="needs the GNU tools"),
    pytest.mark.filterwarnings("ignore::redundict.RedundancyWarning"),
]

Save = Callable[..., None]


@pytest.fixture
def save(monkeypatch: pytest.MonkeyPatch) -> Save:
    """Return a function that saves themes in a store, one every half an hour until now."""
    now = datetime.now(UTC) - timedelta(hours=5, minutes=35)

    def save_all(path: str, themes: Iterable[str], **options: object) -> None:
        nonlocal now
        with monkeypatch.context() as patch:
            set_clock(patch, lambda: now)
            with redundict.open(path, keep=2, **options) as state:
                for state["theme"] in themes:
                    now += timedelta(minutes=30)
                    state.sync()

    return save_all


def diverge(save: Save) -> None:
    """Write to each of two disks while the other one is away."""
    os.mkdir("disk1"), os.mkdir("disk2")
    save("disk1/state.json", ["light", "dark"], copies=["disk1", "disk2"])
    for here, away, themes in (("1", "2", ["pink"]), ("2", "1", ["grey", "blue"])):
        os.rename(f"disk{away}", "away")
        os.mkdir(f"disk{away}")
        save(f"disk{here}/state.json", themes)
        os.rmdir(f"disk{away}")
        os.rename("away", f"disk{away}")


def back_up(save: Save) -> None:
    """Back a store up, and write more to it."""
    save("state.json", ["light", "dark", "pink"])
    os.mkdir("backup")
    for name in ("a0", "a1", "b0", "b1"):
        shutil.copy2(f"state.json.{name}", "backup")
    save("state.json", ["grey", "blue", "black"])


def save_two(save: Save) -> None:
    """Save two generations."""
    save("state.json", ["light", "dark"])


def give_away(save: Save) -> None:
    """Give a store to a user."""
    if os.name == "nt" or os.geteuid() != 0:
        pytest.skip("needs root")
    save_two(save)
    for file in Path().glob("state.json.*"):
        os.chmod(file, 0o640)
        os.chown(file, USER, USER)


BUILT = {
    "The copies have diverged": diverge,
    "Half of a backup was restored": back_up,
    "Hard links joined the copies": save_two,
    "Root repairs a user's store": give_away,
    "A slot was edited by hand": save_two,
}  #: The store of each section, before its first command.


def transcript(title: str) -> list[tuple[str, str]]:
    """Return each command of a section, and what it is said to print."""
    section = TEXT.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"^```console\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    return re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", "".join(blocks), re.MULTILINE)


def typed(command: str, folder: Path) -> str:
    """Type a command into a shell, in a folder; return what a terminal would show."""
    (tools := folder.with_name("tools")).mkdir(exist_ok=True)
    (tool := tools / "redundict").write_text(f'#!/bin/sh\nexec {sys.executable} -m redundict "$@"')
    tool.chmod(0o755)
    package = os.fspath(Path(redundict.__file__).parents[1])
    environment = {"PATH": f"{tools}{os.pathsep}{PATH}", "PYTHONPATH": package, "TZ": "UTC"}
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=60,
    )
    return done.stdout


def without_times(text: str) -> str:
    """Return a text with the same times everywhere, and columns that are not aligned."""
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "2026-01-02 03:04:05", text)
    text = re.sub(r"\.aside-\d{8}T\d{6}Z", ".aside-20260102T030405Z", text)
    text = re.sub(r"\b\d s\b", "0 s", text)
    return "\n".join(re.sub("  +", "  ", line).rstrip() for line in text.strip().splitlines())


@pytest.mark.parametrize("title", BUILT)
def test_a_store_in_trouble_prints_what_the_page_shows(
    title: str, save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person compares the screen with the page at night, and both are the same."""
    (folder := tmp_path / "srv").mkdir()
    monkeypatch.chdir(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", redundict.RedundancyWarning)
        BUILT[title](save)
    for command, shown in transcript(title):
        printed = typed(command, folder).replace(os.fspath(folder), "/srv")
        assert without_times(printed) == without_times(shown), command


def test_every_section_has_the_three_commands_and_a_store() -> None:
    """No section of the page goes untested."""
    assert re.findall(r"^## (.*)$", TEXT, re.MULTILINE) == list(BUILT)
    for title in BUILT:
        verbs = {command.split()[1] for command, _ in transcript(title) if "redundict" in command}
        assert verbs >= {"check", "log", "repair"}
