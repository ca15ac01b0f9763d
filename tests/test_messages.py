"""Messages: what each error tells a person to do next can be done, and leads somewhere."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import pickle
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import redundict

from . import damage, inside
from .inside import Exit, command_line

ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(redundict.__file__).parents[1])}
#: Names of a store that a shell could misread.
NAMES = {
    "quotes": 'it\'s "so" $HOME `x`; #!.json',
    "plain": "state.json",
    "dash": "-n.json",
    "lines": "two\nlines\x1b[2J%d.json",
}
FORMATS = {"json", "csv", "pickle"}
OPTIONS = {
    option
    for command in inside.commands().values()
    for action in command._actions
    for option in action.option_strings
}
PROGRAMS = ("redundict", "pip", "python", "python3")

pytestmark = [
    pytest.mark.damages,
    pytest.mark.skipif(not shutil.which("sh"), reason="needs a POSIX shell"),
]


class Mine:
    """A format of an application."""

    def dumps(self, state: object) -> bytes:
        return json.dumps(state).encode()

    def loads(self, payload: bytes) -> object:
        return json.loads(payload)


def make(path: str, **options: object) -> None:
    """Make a store of two generations that are old enough not to be waited for."""
    with redundict.open(path, **options) as state:
        for state["n"] in (1, 2):
            state.sync()
    for name in os.listdir(os.path.dirname(path)):
        damage.age(os.path.join(os.path.dirname(path), name))


def write_plain(path: str, content: bytes) -> None:
    Path(path).write_bytes(content)


def spoil(path: str, *slots: str) -> None:
    make(path)
    for slot in slots:
        damage.flip(f"{path}.{slot}", 0)


def make_newer(path: str) -> None:
    make(path)
    content = damage.read(f"{path}.a1").replace(b"\nredundict 1 ", b"\nredundict 2 ")
    digest = hashlib.sha256(content[:-65]).hexdigest().encode()
    damage.overwrite(f"{path}.a1", content[:-65] + digest + b"\n")


def diverge(path: str) -> None:
    make(path)
    with redundict.open(f"{path}-other") as state:
        state["n"] = 1
        state.sync()
        state["n"] = 99
    damage.overwrite(f"{path}.b1", damage.read(f"{path}-other.b1"))


def block(path: str) -> None:
    make(path)
    os.remove(f"{path}.b1")
    os.mkdir(f"{path}.b1")


#: States in which a path can be.
STATES: dict[str, Callable[[str], object]] = {
    "nothing": lambda _: None,
    "folder": os.mkdir,
    "plain": lambda path: write_plain(path, b'{"a": 1}'),
    "broken plain": lambda path: write_plain(path, b'{"a": '),
    "empty plain": lambda path: write_plain(path, b""),
    "plain pickle": lambda path: write_plain(path, pickle.dumps({"a": 1})),
    "healthy": make,
    "one generation": lambda path: redundict.open(path).close(),
    "pickle": lambda path: make(path, format="pickle"),
    "custom format": lambda path: make(path, format=Mine()),
    "degraded": lambda path: spoil(path, "b1"),
    "rolled back": lambda path: spoil(path, "a1", "b1"),
    "lost": lambda path: spoil(path, "a0", "a1", "b0", "b1"),
    "newer": make_newer,
    "diverged": diverge,
    "blocked": block,
}
#: Commands, with PATH for the path and NEW for a file beside it.
COMMANDS = (
    "check PATH",
    "check PATH.a0",
    "check PATH.lock",
    "log PATH",
    "diff PATH",
    "diff PATH 1 7",
    "show PATH",
    "show PATH --generation 7",
    "show PATH --copies HERE --copies NEW",
    "export PATH NEW",
    "export PATH PATH.a0",
    "export PATH NEW/none",
    "import PATH PATH",
    "import PATH PATH --kind csv",
    "import PATH PATH --kind sqlitedict --allow-pickle",
    "import PATH.a0 NEW",
    "import PATH PATH --format csv",
    "repair PATH --dry-run",
    "repair PATH --prefer z",
    "rollback PATH --dry-run",
    "rollback PATH --to 7",
    "rollback PATH --to 2 --dry-run",
)


@pytest.fixture
def paste(tmp_path: Path) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """Return what runs a line in `sh`, where `redundict` is on the PATH and `pip` does nothing."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, line in (
        ("redundict", f'exec {shlex.quote(sys.executable)} -m redundict "$@"'),
        ("pip", "exit 0"),
    ):
        (folder / name).write_text(f"#!/bin/sh\n{line}\n")
        (folder / name).chmod(0o755)
    env = ENVIRONMENT | {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}

    def in_a_shell(line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "-c", line],
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=60,
            check=False,
        )

    return in_a_shell


Paste = Callable[[str], subprocess.CompletedProcess[str]]


def actions(printed: str) -> list[str]:
    """Return what the output of a command tells to do next."""
    return re.findall(r"^(?:next| action): (.*)$", printed, re.MULTILINE)


def is_command(action: str) -> bool:
    return action.split(maxsplit=1)[0] in PROGRAMS


def assert_prose(action: str) -> None:
    """Assert that a sentence is not taken for a command, and names only what exists."""
    assert action != "nothing is said"
    assert not re.search(r"\b(redundict|pip) [a-z]", action), action
    assert set(re.findall(r"--[a-z-]+", action)) <= OPTIONS, action
    assert set(re.findall(r"format='(.*?)'", action)) <= FORMATS, action


def said_by_the_library(path: str) -> Iterator[str]:
    """Yield the actions of the errors of opening and loading."""
    for act in (
        lambda: redundict.open(path, "w").close(),
        lambda: redundict.open(path, "r").close(),
        lambda: redundict.open(path, "w", format="csv").close(),
        lambda: redundict.load(path),
        lambda: redundict.load(path, 7),
        lambda: redundict.check(path),
    ):
        with pytest.MonkeyPatch.context() as patch:
            inside.no_patience(patch)
            try:
                act()
            except redundict.RedundictError as error:
                yield error.action or "nothing is said"


def said_by_the_command_line(
    path: str, restore: Callable[[], object], capsysbinary: pytest.CaptureFixture[bytes]
) -> Iterator[str]:
    """Yield what each command says to do next, given that it is three lines and no wrong usage."""
    for number, words in enumerate(COMMANDS):
        new = f"{os.path.dirname(path)}/new{number}"
        here = os.path.dirname(path)
        names = {"PATH": path, "NEW": new, "HERE": here}
        args = [
            functools.reduce(lambda w, n: w.replace(*n), names.items(), w) for w in words.split()
        ]
        restore()
        with pytest.MonkeyPatch.context() as patch:
            inside.no_patience(patch)
            code = command_line(args)
        out, err = (text.decode(errors="replace") for text in capsysbinary.readouterr())
        assert code != Exit.USAGE, (words, err)
        assert "Traceback" not in err, (words, err)
        if code in (Exit.NO_STORE, Exit.FAILED, Exit.LOCKED, Exit.NEWER):
            assert re.search(r"^error: .+\nsafe: .+\nnext: .+\n\Z", err, re.MULTILINE), (words, err)
        yield from actions(err + out)


def follow(action: str, paste: Paste, met: tuple[str, ...] = ()) -> None:
    """Do what a message says, and what the answer says then, until nothing more is said."""
    if not is_command(action):
        assert_prose(action)
        return
    assert action not in met, f"in a circle: {[*met, action]}"
    done = paste(action)
    assert done.returncode not in (Exit.USAGE, 126, 127), (action, done.stderr)
    for refusal in ("usage:", "there is no store here"):
        assert refusal not in done.stderr, (action, done.stderr)
    assert "Traceback" not in done.stderr, (action, done.stderr)
    for said in actions(done.stderr + done.stdout):
        follow(said, paste, (*met, action))


@pytest.mark.parametrize(
    ("state", "name"),
    [
        pytest.param(
            state, name, marks=[pytest.mark.exhaustive] * (name != "quotes" and state != "degraded")
        )
        for state in STATES
        for name in NAMES
    ],
)
@pytest.mark.filterwarnings("ignore::redundict.RedundancyWarning")
def test_what_a_message_says_to_do_can_be_done_and_ends(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes], paste: Paste, state: str, name: str
) -> None:
    """Each command behind `next:` runs as it stands in a shell, and none leads in a circle."""
    folder = tmp_path / "stores"
    folder.mkdir()
    path = str(folder / NAMES[name])
    STATES[state](path)
    kept = tmp_path / "kept"
    shutil.copytree(folder, kept)

    def restore() -> None:
        shutil.rmtree(folder)
        shutil.copytree(kept, folder)

    said = [*said_by_the_library(path), *said_by_the_command_line(path, restore, capsysbinary)]
    for action in dict.fromkeys(said):
        restore()
        follow(action, paste)


@pytest.mark.parametrize("kind", [None, "json", "csv", "pickle", "dbm", "shelve", "sqlitedict"])
def test_an_import_that_fails_says_more_than_to_name_the_kind(
    path: str, capsys: pytest.CaptureFixture[str], kind: str | None
) -> None:
    """A person who has named the kind already is told to mend the file."""
    write_plain(path, b'{"a": ')
    named = ["--kind", kind] if kind else []
    assert command_line(["import", path, path, "--allow-pickle", *named]) == Exit.FAILED
    assert actions(capsys.readouterr().err)[0].startswith("mend the file, or")


@pytest.mark.parametrize("content", [b"", b'{"a": ', b"\x80\x04"])
def test_a_plain_file_that_cannot_be_read_says_what_helps(path: str, content: bytes) -> None:
    """No command is named that would fail in turn; what is named ends the trouble."""
    write_plain(path, content)
    for act in (redundict.open, redundict.load):
        with pytest.raises(redundict.FormatError) as caught:
            act(path)
        assert caught.value.action == inside.errors.MEND_PLAIN_FILE
    os.rename(path, f"{path}-away")
    redundict.open(path).close()


def test_a_format_of_an_application_is_not_asked_for_by_its_name(path: str) -> None:
    """Only the object that wrote a store can read it: its name is no name of a format."""
    make(path, format=Mine())
    for options in ({}, {"format": "csv"}):
        with pytest.raises(redundict.FormatError) as caught:
            redundict.open(path, **options)
        assert caught.value.action == (
            "in Python, pass the object that wrote Mine as format=, if you trust its writer"
        )
    assert redundict.load(path, format=Mine()) == {"n": 2}


@pytest.mark.parametrize("fault", [TypeError, ValueError, KeyError, IndexError, RecursionError])
@pytest.mark.parametrize("command", ["show", "check", "log"])
def test_a_fault_of_redundict_is_no_wrong_usage(
    path: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fault: type[Exception],
    command: str,
) -> None:
    """It has the exit code of a failure, its traceback, and a last line that says what to do."""
    make(path)
    inside.fail_on(monkeypatch, "open_read", fault("unforeseen"))
    assert command_line([command, path]) == Exit.FAILED
    said = capsys.readouterr().err
    assert said.startswith("Traceback")
    assert f"\nerror: this is a fault of redundict: {fault.__name__}: " in said
    assert actions(said) == ["report it, with the traceback above, to the authors of redundict"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_output_is_an_error_in_three_lines(path: str) -> None:
    """What the operating system refuses the command itself is typed like any other error."""
    make(path)
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "redundict", "check", path],
            stdout=full,
            stderr=subprocess.PIPE,
            env=ENVIRONMENT,
            text=True,
            check=False,
        )
    assert done.stderr.startswith("error: the command could not go on")
    assert len(actions(done.stderr)) == 1
