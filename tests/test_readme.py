"""README.md: what it says is what the code does."""

from __future__ import annotations

import builtins
import contextlib
import inspect
import io
import itertools
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import redundict
from redundict.cli.parser import Exit, parser

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CI = ROOT / ".ci" / "run"
#: Each fenced block: its language and what is in it.
BLOCKS: list[tuple[str, str]] = re.findall(
    r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL
)
PYTHON = [content for language, content in BLOCKS if language == "python"]
FIRST_SCREEN = 50  #: Lines.


def run(code: str, names: dict[str, Any]) -> str:
    """Run a block as a reader would paste it, and return what it prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), names)
    return printed.getvalue()


def section(title: str) -> str:
    """Return a section of the page, without its heading."""
    return README.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def set_up_commands() -> list[str]:
    return [
        line
        for language, content in re.findall(
            r"^```(\w+)\n(.*?)^```$", section("Set-up"), re.MULTILINE | re.DOTALL
        )
        if language == "sh"
        for line in content.splitlines()
    ]


def test_the_example_has_eight_lines() -> None:
    """The first thing a reader sees is short."""
    assert len([line for line in PYTHON[0].splitlines() if line]) == 8


def test_every_example_runs_and_prints_what_the_page_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pasted one after the other, the examples run; a text block after one is what it prints."""
    room = tmp_path / "room"
    for folder in ("disk1", "disk2"):
        (room / folder).mkdir(parents=True)
    monkeypatch.chdir(room)
    names: dict[str, Any] = {}
    compared = 0
    for (language, code), (following, shown) in itertools.pairwise(BLOCKS):
        if language == "python":
            printed = run(code, names)
            assert printed == (shown if following == "text" and printed else "")
            compared += bool(printed)
    assert compared == 2
    for disk in room.glob("disk?"):  # half a store each, for who looks at one of them alone
        shutil.rmtree(disk)


def test_the_first_screen_says_what_is_guaranteed_and_what_is_not() -> None:
    """Nobody has to scroll far to learn what the library does not do."""
    screen = "\n".join(README.splitlines()[:FIRST_SCREEN])
    in_order = [
        screen.index(part) for part in (PYTHON[0], "**What is guaranteed.", "**What is not.")
    ]
    assert in_order == sorted(in_order)


def test_the_table_of_exit_codes_is_the_one_of_the_code() -> None:
    """Each exit code stands in the table with the meaning that `--help` gives it, in order."""
    table = re.findall(r"^\| (\d+) \| (.*) \|$", section("The command line"), re.MULTILINE)
    assert table == [(str(code.value), code.meaning) for code in sorted(Exit)]


def test_the_commands_are_those_of_the_parser() -> None:
    """Each command of the command line is listed, and nothing else is."""
    listed = re.findall(r"^redundict (\w+) ", section("The command line"), re.MULTILINE)
    [commands] = [a.choices for a in parser()._actions if isinstance(a.choices, dict)]
    assert listed == list(commands)


def test_there_are_exactly_two_set_up_commands() -> None:
    """One command installs and runs the main job, one runs the tests."""
    install, test = set_up_commands()
    assert install.endswith("redundict demo")
    assert test.endswith("-m pytest")


@pytest.mark.skipif(not CI.exists(), reason="not a checkout")
def test_the_set_up_commands_are_what_ci_runs() -> None:
    """The two commands of the page are run as they stand, so they work."""
    done = subprocess.run(
        ["bash", str(CI), "--commands"], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines() == set_up_commands()


def test_every_name_of_the_package_on_the_page_exists() -> None:
    """What follows `redundict.`, and each error and warning, is in the public interface."""
    names = set(re.findall(r"\bredundict\.(\w+)\b", README))
    names |= set(re.findall(r"`(\w+(?:Error|Warning))`", README))
    names |= set(re.findall(r"^from redundict import (\w+)$", README, re.MULTILINE))
    assert len(names) > 15
    names -= set(dir(builtins))
    assert names <= set(redundict.__all__)


def test_every_error_is_on_the_page() -> None:
    """A reader learns the name of each error that can reach a program."""
    errors = {name for name in redundict.__all__ if name.endswith(("Error", "Warning"))}
    assert errors <= set(re.findall(r"`(\w+)`", README))


def test_every_parameter_of_open_is_on_the_page() -> None:
    """The call that shows all options shows all options."""
    shown = set(re.findall(r"^    (\w+)=", PYTHON[1], re.MULTILINE)) | {"path"}
    assert shown == set(inspect.signature(redundict.open).parameters)


def test_every_relative_link_leads_somewhere() -> None:
    """No link within the repository is broken."""
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert len(links) > 4
    assert [link for link in links if not (ROOT / link).exists()] == []
