"""README.md and docs/guide.md: what they say is what the code does."""

from __future__ import annotations

import builtins
import inspect
import itertools
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import redundict
from redundict import errors
from redundict.cli.exits import Exit
from redundict.cli.parser import parser
from redundict.events import EventKind

ROOT = Path(__file__).parents[1]
CI = ROOT / ".ci" / "run"
PAGES = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/guide.md")}
README, GUIDE = PAGES.values()
FIRST_SCREEN = 50  #: Lines.
LONGEST = 125  #: Lines of README.md, which says what most readers need and no more.


def blocks(text: str) -> list[tuple[str, str]]:
    """Return each fenced block of a page: its language and its content."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def examples() -> list[object]:
    """Return each Python block of both pages with the output that the page shows."""
    found: list[object] = []
    for page, text in PAGES.items():
        for (language, code), (following, shown) in itertools.pairwise([*blocks(text), ("", "")]):
            if language == "python":
                name = f"{Path(page).stem}-{len(found) + 1}"
                output = shown if following == "text" and "print(" in code else ""
                found.append(pytest.param(code, output, id=name))
    return found


def section(page: str, title: str) -> str:
    """Return a section of a page, without its heading."""
    assert f"\n## {title}\n" in page
    return page.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def table(text: str, head: str) -> dict[str, list[str]]:
    """Return the rows of the table whose head begins so, by their first cell."""
    lines = text[text.index(f"| {head} |") :].splitlines()[2:]
    rows = [line.strip("|").split("|") for line in itertools.takewhile(bool, lines)]
    return {row[0].strip().strip("`"): [cell.strip() for cell in row[1:]] for row in rows}


def quoted(cell: str) -> list[str]:
    """Return what stands in a cell as code."""
    return re.findall(r"`([^`]+)`", cell)


def set_up_commands() -> list[str]:
    """Return the lines of the first `sh` block of the section "Set-up"."""
    [commands] = [code for language, code in blocks(section(README, "Set-up")) if language == "sh"]
    return commands.splitlines()


@pytest.mark.parametrize(("code", "shown"), examples())
def test_an_example_runs_in_an_empty_folder_and_prints_what_the_page_shows(
    code: str, shown: str
) -> None:
    """A reader who pastes a block gets the output below it, and no warning."""
    with tempfile.TemporaryDirectory() as folder:  # an example may leave half a store in it
        package = str(Path(redundict.__file__).parents[1])
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": package},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert (done.stdout, done.stderr, done.returncode) == (shown, "", 0)


def test_every_example_that_prints_is_compared() -> None:
    """No block prints something that the page does not show."""
    for text in PAGES.values():
        for (language, code), (following, _) in itertools.pairwise([*blocks(text), ("", "")]):
            if language == "python":
                assert ("print(" in code) == (following == "text"), code


def test_the_first_example_has_eight_lines() -> None:
    """The first thing a reader sees is short."""
    code = next(code for language, code in blocks(README) if language == "python")
    assert len([line for line in code.splitlines() if line]) == 8


def test_the_readme_is_short() -> None:
    """A reader gets to its end."""
    assert len(README.splitlines()) <= LONGEST


def test_the_first_screen_says_what_is_guaranteed_and_what_is_not() -> None:
    """Nobody has to scroll far to learn what the library does not do."""
    screen = "\n".join(README.splitlines()[:FIRST_SCREEN])
    parts = ("```python", "**What is guaranteed.", "**What is not.")
    in_order = [screen.index(part) for part in parts]
    assert in_order == sorted(in_order)


def test_there_are_exactly_two_set_up_commands() -> None:
    """One command installs and runs the main job, one runs the tests."""
    install, test = set_up_commands()
    assert install.startswith("python3 -m venv .venv && ")
    assert install.endswith("redundict demo")
    assert test.endswith("-m pytest")


@pytest.mark.skipif(not CI.exists(), reason="not a checkout")
def test_the_set_up_commands_are_what_ci_runs() -> None:
    """The two commands of the page are run as they stand, so they work."""
    done = subprocess.run(
        ["bash", str(CI), "--commands"], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines() == set_up_commands()


def test_the_table_of_options_is_the_signature_of_open() -> None:
    """Each option is listed in its order, with its default."""
    listed = table(section(GUIDE, "Opening a store"), "option")
    parameters = inspect.signature(redundict.open).parameters.values()
    defaults = {p.name: "" if p.default is p.empty else repr(p.default) for p in parameters}
    shown = {name: row[0].strip("`").replace('"', "'") for name, row in listed.items()}
    assert list(shown.items()) == list(defaults.items())


def test_the_table_of_errors_is_the_hierarchy() -> None:
    """Each error is listed with the built-in exceptions that it derives from."""
    listed = table(section(GUIDE, "Errors"), "class")
    kinds = {
        name: kind
        for name, kind in vars(errors).items()
        if inspect.isclass(kind)
        and issubclass(kind, errors.RedundictError)
        and kind is not errors.RedundictError
    }
    assert listed.keys() == kinds.keys()
    for name, row in listed.items():
        for base in quoted(row[0]):
            assert issubclass(kinds[name], getattr(builtins, base)), (name, base)


def test_the_table_of_errors_has_every_reason() -> None:
    """Each token that an error can carry as its reason stands beside its class."""
    listed = {
        token: name
        for name, row in table(section(GUIDE, "Errors"), "class").items()
        for token in quoted(row[1])
    }
    source = inspect.getsource(errors)
    tokens = re.findall(r'\b(?:REASON(?:: [^=]+)?|reason) ?= ?"([a-z-]+)"', source)
    exporting = re.findall(r'^    "([a-z-]+)": \(', source, re.MULTILINE)
    assert len(exporting) == 4
    base = re.search(
        r"`RedundictError`\s+itself has the reasons (.*?) \(", section(GUIDE, "Errors")
    )
    assert base is not None
    assert listed.keys() | set(quoted(base[1])) == {*tokens, *exporting}
    for token, name in listed.items():
        own = getattr(errors, name).REASON
        written = token in exporting or re.search(rf'reason="{token}"', source)
        assert own == token or written, (name, token)


def test_the_table_of_events_is_every_kind() -> None:
    """Each kind of event is listed, and nothing else is."""
    listed = table(section(GUIDE, "Recovery and events"), "`event.kind`")
    assert list(listed) == [str(kind) for kind in EventKind]


def test_the_table_of_recovery_has_only_fields_that_exist() -> None:
    """A program that reads a field of the table finds it."""
    text = section(GUIDE, "Recovery and events")
    for names in re.findall(r"^\| (`.*?`) \|", text.partition("\n\n`str(")[0], re.MULTILINE):
        for name in quoted(names):
            assert hasattr(redundict.Recovery, name), name


def test_the_methods_of_the_guide_exist() -> None:
    """Each `state.method()` of the pages is a method of a store."""
    methods = set(re.findall(r"`state\.(\w+)\(", README + GUIDE))
    assert {"sync", "sync_soon", "modify", "reload", "changed", "rollback"} <= methods
    assert [name for name in methods if not hasattr(redundict.RedunDict, name)] == []


def test_the_table_of_exit_codes_is_the_one_of_the_code() -> None:
    """Each exit code stands in the table with the meaning that `--help` gives it, in order."""
    listed = re.findall(r"^\| (\d+) \| (.*) \|$", section(GUIDE, "The command line"), re.MULTILINE)
    assert listed == [(str(code.value), code.meaning) for code in sorted(Exit)]


def test_the_commands_are_those_of_the_parser() -> None:
    """Each command of the command line is listed, and nothing else is."""
    text = section(GUIDE, "The command line")
    [commands] = [a.choices for a in parser()._actions if isinstance(a.choices, dict)]
    assert re.findall(r"^redundict (\w+) ", text, re.MULTILINE) == list(commands)
    known = {option for command in commands.values() for option in command._option_string_actions}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) <= known


@pytest.mark.parametrize("page", PAGES)
def test_every_name_of_the_package_on_a_page_exists(page: str) -> None:
    """What follows `redundict.`, and each error and warning, is in the public interface."""
    text = PAGES[page]
    names = set(re.findall(r"\bredundict\.(\w+)\b", text))
    names |= set(re.findall(r"`(\w+(?:Error|Warning))`", text))
    names |= set(re.findall(r"^from redundict import (\w+)$", text, re.MULTILINE))
    assert len(names) > 2
    assert names - set(dir(builtins)) <= set(redundict.__all__) | set(vars(errors))


@pytest.mark.parametrize("page", PAGES)
def test_every_link_of_a_page_leads_somewhere(page: str) -> None:
    """No link within the repository is broken, to a file or to a section of it."""
    links = [link for link in re.findall(r"\]\(([^)]+)\)", PAGES[page]) if "://" not in link]
    assert len(links) > 4
    for link in links:
        name, _, anchor = link.partition("#")
        target = (ROOT / page).parent / name if name else ROOT / page
        assert target.exists(), link
        if anchor:
            titles = re.findall(r"^## (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in [title.lower().replace(" ", "-") for title in titles], link


def test_the_guide_lists_its_sections_in_their_order() -> None:
    """The list at its top is the table of contents."""
    listed = re.findall(r"\[(.*?)\]\(#.*?\)", GUIDE.partition("\n## ")[0])
    assert listed == re.findall(r"^## (.*)$", GUIDE, re.MULTILINE)
