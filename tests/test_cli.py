"""`cli`: each command and each exit code, through a real process."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import pickle
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import redundict
from redundict import errors
from redundict.cli import exits
from redundict.cli import parser as cli
from redundict.cli.exits import Exit

from . import damage
from .inside import fail_on

READERS = ("check", "log", "diff", "show", "export", "browse")
COMMANDS = (*READERS, "rollback", "repair", "import", "demo")
#: The processes run this very package, wherever they are started.
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(redundict.__file__).parents[1])}
NO_SUCH = "nothing.json"
NOW = datetime(2026, 1, 2, tzinfo=UTC)


def run(*args: object, **options: Any) -> subprocess.CompletedProcess[Any]:
    """Run `redundict ARGS` as a process of its own."""
    options = {"capture_output": True, "text": True, "timeout": 60, "env": ENVIRONMENT} | options
    return subprocess.run(
        [sys.executable, "-m", "redundict", *map(str, args)], check=False, **options
    )


@pytest.fixture
def paste(tmp_path: Path) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """Return what runs a command line in a shell where `redundict` is on the PATH."""
    shim = tmp_path / "bin" / "redundict"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m redundict "$@"\n')
    shim.chmod(0o755)
    env = ENVIRONMENT | {"PATH": f"{shim.parent}{os.pathsep}{os.environ['PATH']}"}

    def in_a_shell(line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "-c", line], env=env, capture_output=True, text=True, timeout=60, check=False
        )

    return in_a_shell


def make(path: str, **options: Any) -> str:
    """Make a store of two generations, {"n": 1} in the slots 0 and {"n": 2} in the slots 1.

    They are an hour old, so that no reader waits for what may be a writer at work.
    """
    with redundict.open(path, **options) as state:
        for state["n"] in (1, 2):
            state.sync()
        for generation in state.generations():
            for slot in generation.slots:
                damage.age(slot.path)
    return path


def degrade(path: str) -> None:
    damage.flip(f"{path}.b1", 0)


def lose_newest(path: str) -> None:
    damage.flip(f"{path}.a1", 0)
    damage.flip(f"{path}.b1", 0)


def lose_everything(path: str) -> None:
    for slot in ("a0", "b0", "a1", "b1"):
        damage.truncate(f"{path}.{slot}", 0)


def make_newer(path: str) -> None:
    """Sign a slot as a later version of redundict would."""
    content = damage.read(f"{path}.a1").replace(b"\nredundict 1 ", b"\nredundict 2 ")
    digest = hashlib.sha256(content[:-65]).hexdigest().encode()
    damage.overwrite(f"{path}.a1", content[:-65] + digest + b"\n")


#: What can be done to a store, and what its check then exits with.
STATES: dict[str, tuple[Callable[[str], object], Exit]] = {
    "healthy": (lambda _: None, Exit.OK),
    "degraded": (degrade, Exit.DEGRADED),
    "rolled back": (lose_newest, Exit.ROLLED_BACK),
    "lost": (lose_everything, Exit.LOST),
    "newer": (make_newer, Exit.NEWER),
}


def make_as(state: str, path: str) -> Exit:
    """Make a store, do to it what `state` says, and return the exit code that fits it."""
    spoil, code = STATES[state]
    spoil(make(path))
    return code


def files(folder: str | os.PathLike[str]) -> dict[str, tuple[bytes, int]]:
    """Return the content and the time of change of every file in a folder, its own time too.

    What is in the lock file is left out: it says who held the lock last.
    """
    found = {
        entry.name: (damage.read(entry.path), entry.stat().st_mtime_ns)
        for entry in os.scandir(folder)
        if entry.is_file() and not entry.name.endswith(".lock")
    }
    return found | {".": (b"", os.stat(folder).st_mtime_ns)}


# --- exit codes


@pytest.mark.damages
@pytest.mark.parametrize("state", STATES)
def test_check_exits_with_the_code_of_the_state(path: str, state: str) -> None:
    """Each state of a store has its exit code, and a report or an error that names the store."""
    code = make_as(state, path)
    done = run("check", path)
    assert done.returncode == code
    assert path in (done.stderr if code == Exit.NEWER else done.stdout)


@pytest.mark.damages
@pytest.mark.parametrize("state", STATES)
def test_check_log_and_show_change_nothing(tmp_path: Path, path: str, state: str) -> None:
    """What only reads leaves the bytes, the names and the times of all files as they are."""
    make_as(state, path)
    before = files(tmp_path)
    for command in ("check", "log", "show"):
        run(command, path)
    assert files(tmp_path) == before


@pytest.mark.damages
@pytest.mark.parametrize(
    ("states", "code"),
    [
        (("degraded", "healthy"), Exit.DEGRADED),
        (("rolled back", "degraded"), Exit.ROLLED_BACK),
        (("lost", "none", "rolled back"), Exit.LOST),
        (("none", "healthy"), Exit.NO_STORE),
    ],
)
def test_of_several_paths_the_worst_counts(
    tmp_path: Path, states: tuple[str, ...], code: Exit
) -> None:
    """Every path is reported, whatever the one before it was, and the worst exit code is taken."""
    paths = [str(tmp_path / f"{number}.json") for number in range(len(states))]
    for path, state in zip(paths, states, strict=True):
        if state != "none":
            make_as(state, path)
    done = run("check", *paths)
    assert done.returncode == code
    assert all(path in done.stdout + done.stderr for path in paths)


def test_worst_follows_the_order_of_the_table() -> None:
    """A store that is lost is worse than one that is not there, whatever their numbers are."""
    order = list(Exit)
    assert [exits.worst(pair) for pair in itertools.pairwise(order)] == order[1:]
    assert exits.worst([Exit.LOST, Exit.NO_STORE]) is Exit.LOST


@pytest.mark.parametrize("command", ["check", "log", "show", "rollback", "repair"])
def test_a_path_without_a_store_has_its_own_code(tmp_path: Path, command: str) -> None:
    """What is not there is told from what is lost, and nothing is made there."""
    done = run(command, tmp_path / NO_SUCH)
    assert done.returncode == Exit.NO_STORE
    assert "there is no store here" in done.stderr
    assert not os.listdir(tmp_path)


@pytest.mark.damages
@pytest.mark.parametrize("command", ["show", "rollback", "repair"])
def test_a_lost_store_has_its_own_code(tmp_path: Path, path: str, command: str) -> None:
    """Where nothing loads, each command says so, names the slots and touches none of them."""
    lose_everything(make(path))
    before = files(tmp_path)
    done = run(command, path)
    assert done.returncode == Exit.LOST
    assert "state.json.a0: empty (0 bytes)" in done.stderr
    assert files(tmp_path) == before


@pytest.mark.damages
def test_show_tells_when_the_newest_generation_is_lost(path: str) -> None:
    """A script that saves what `show` writes can tell an older generation from the newest."""
    lose_newest(make(path))
    done = run("show", path)
    assert done.stdout == '{"n":1}'
    assert done.returncode == Exit.ROLLED_BACK


@pytest.mark.parametrize(
    "args",
    [
        (),
        ("mend",),
        ("check",),
        ("show", "state.json", "--generation", "two"),
        ("import", "state.json"),
        ("check", "state.json", "--copies", ".", "--copies", "."),
        ("check", ""),
        ("rollback", "state.json", "--timeout", "-1"),
        ("check", "state.json", "--watch", "-1"),
        ("check", "state.json", "--watch", "nan"),
        ("check", "state.json", "--watch", "1e300"),
    ],
    ids=" ".join,
)
def test_wrong_usage_has_its_own_code(tmp_path: Path, args: tuple[str, ...]) -> None:
    """What cannot be understood is no verdict on a store, and the help is named."""
    done = run(*args, cwd=tmp_path)
    assert done.returncode == Exit.USAGE
    assert re.search(r"^error: .+\nnext: redundict .*--help\n\Z", done.stderr, re.MULTILINE)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("import", "garbage", NO_SUCH), "not readable as json"),
        (("import", "absent", NO_SUCH), "No such file"),
        (("import", "plain.json", "state.json", "--format", "csv"), "stored as json, not as csv"),
        (("import", "nested.json", NO_SUCH, "--format", "csv"), "not storable as csv"),
        (("demo", "--file", "garbage"), "not readable as json"),
        (("demo", "--file", "absent"), "No such file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_an_operation_that_fails_has_its_own_code(
    tmp_path: Path, path: str, args: tuple[str, ...], says: str
) -> None:
    """An error says what happened, in at most three lines; no store is made or changed by it."""
    make(path)
    (tmp_path / "garbage").write_bytes(b"\x81\x81")
    (tmp_path / "plain.json").write_text('{"n": "3"}')
    (tmp_path / "nested.json").write_text('{"n": [3]}')
    done = run(*args, cwd=tmp_path)
    assert done.returncode == Exit.FAILED
    assert re.fullmatch(r"error: .*\n(safe: .*\n)?(next: .*\n)?", done.stderr)
    assert says in done.stderr
    assert redundict.load(path) == {"n": 2}
    assert not list(tmp_path.glob(f"{NO_SUCH}.[ab]?"))


@pytest.mark.parametrize("command", ["show", "check", "rollback"])
def test_an_error_is_three_lines_and_its_command_stands_alone(path: str, command: str) -> None:
    """What happened, what is safe, and a last line that can be pasted from after `next:`."""
    done = run(command, f"{make(path)}.a0")
    assert done.stderr == (
        f"error: {path}.a0: this is a file of a store, and not its name\n"
        "safe: nothing was changed\n"
        f"next: redundict check {path}\n"
    )


@pytest.mark.parametrize("fault", [ValueError, RuntimeError, KeyError])
def test_a_fault_of_the_program_is_no_wrong_usage(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    path: str,
    fault: type[Exception],
) -> None:
    """An exception that nobody foresaw is shown with its traceback, and is a failure."""

    make(path)
    fail_on(monkeypatch, "open_read", fault("unforeseen"))
    assert cli.main(["show", path]) == Exit.FAILED
    said = capsys.readouterr().err
    assert said.startswith("Traceback")
    assert "unforeseen" in said


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.no_store("s"), Exit.NO_STORE),
        (errors.no_folder("s", "d"), Exit.NO_STORE),
        (errors.no_generation("s", "gone", 7, "redundict log s"), Exit.FAILED),
        (errors.refused(FileNotFoundError(2, "No such file"), "reading"), Exit.FAILED),
        (
            errors.diverged("s", "s.b0", {"a": (7, NOW)}, "redundict repair s"),
            Exit.DIVERGED,
        ),
        (errors.conflict("s", "s.a0", 7), Exit.FAILED),
        (errors.lost("s", {}), Exit.LOST),
        (errors.newer_version("s.a0"), Exit.NEWER),
        (errors.locked("s", {}), Exit.LOCKED),
        (OSError("full"), Exit.FAILED),
    ],
    ids=lambda value: getattr(value, "reason", None) or str(value),
)
def test_each_error_has_its_exit_code(error: Exception, code: Exit) -> None:
    """A script can tell the errors apart by the exit code alone."""
    assert exits.of_error(error) is code


@pytest.mark.parametrize("command", ["rollback", "repair"])
def test_a_locked_store_has_its_own_code_and_the_holder_is_named(path: str, command: str) -> None:
    """Who is refused learns at once which process to look for."""
    make(path)
    with redundict.open(path):
        done = run(command, path)
    assert done.returncode == Exit.LOCKED
    assert f"process {os.getpid()} " in done.stderr


def test_import_into_a_locked_store_is_refused(tmp_path: Path, path: str) -> None:
    """An import is a writer like any other."""
    plain = tmp_path / "plain.json"
    plain.write_text('{"n": 3}')
    with redundict.open(make(path)):
        assert run("import", plain, path).returncode == Exit.LOCKED
    assert redundict.load(path) == {"n": 2}


def test_timeout_waits_for_the_other_writer(path: str) -> None:
    """With --timeout, a command waits and then does its work."""
    state = redundict.open(make(path))
    waiting = subprocess.Popen(
        [sys.executable, "-m", "redundict", "rollback", path, "--timeout", "60"], env=ENVIRONMENT
    )
    time.sleep(0.5)  # it would have been refused by now
    assert waiting.poll() is None
    state.close()
    assert waiting.wait(60) == Exit.OK
    assert redundict.load(path) == {"n": 1}


def test_an_interrupt_while_waiting_has_its_own_code(path: str) -> None:
    """Ctrl-C is no verdict on a store, and shows no traceback."""
    # SIGINT may be ignored where the tests run in the background, and children inherit that.
    program = (
        "import signal, sys\n"
        "from redundict.cli.parser import main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "print('ready', flush=True)\n"
        f"sys.exit(main(['rollback', {path!r}, '--timeout', '60']))\n"
    )
    with (
        redundict.open(make(path)),
        subprocess.Popen(
            [sys.executable, "-c", program],
            env=ENVIRONMENT,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as waiting,
    ):
        assert waiting.stdout
        assert waiting.stdout.readline() == "ready\n"
        time.sleep(0.3)
        waiting.send_signal(signal.SIGINT)
        _, said = waiting.communicate(timeout=60)
    assert waiting.returncode == Exit.INTERRUPTED
    assert re.fullmatch(r"error: interrupted\n", said)


# --- help


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_help_shows_the_exit_codes(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The one table of exit codes stands, whole and by number, at the end of each help."""
    with pytest.raises(SystemExit) as stopped:
        cli.main([*command.split(), "--help"])
    assert stopped.value.code == Exit.OK
    table = re.findall(
        r"^ +(\d+)  (.+)$", capsys.readouterr().out.partition("exit codes:")[2], re.MULTILINE
    )
    assert table == [(str(code.value), code.meaning) for code in sorted(Exit)]


def test_help_names_every_command() -> None:
    """`redundict --help`, as a process, lists what there is."""
    done = run("--help")
    assert done.returncode == Exit.OK
    commands, _, _ = done.stdout.partition("exit codes:")
    assert tuple(re.findall(r"^    (\w+)  ", commands, re.MULTILINE)) == COMMANDS


def test_version_is_the_package_s() -> None:
    """`redundict --version` prints the version that the package has."""
    assert run("--version").stdout == f"redundict {redundict.__version__}\n"


# --- check, log, show


def test_check_shows_every_slot_of_a_healthy_store(path: str) -> None:
    """The report names each slot with the generation it holds, and asks for nothing."""
    shown = run("check", make(path)).stdout
    rows = re.findall(r"^(state\.json\.\w+) +(\d+) .* valid$", shown, re.MULTILINE)
    assert rows == [(f"state.json.{c}{i}", str(i + 1)) for c in "ab" for i in (0, 1)]
    assert "action:" not in shown


def test_log_lists_the_generations_newest_first(path: str) -> None:
    """Each generation that loads has a line, with its number, its length and its copies."""
    done = run("log", make(path))
    assert done.returncode == Exit.OK
    assert re.findall(r"^(\d+) .* (\d+) +json +(.*)$", done.stdout, re.MULTILINE) == [
        ("2", "7", "valid  valid  ~1"),
        ("1", "7", "valid  valid"),
    ]


@pytest.mark.parametrize(
    ("format", "state"),
    [
        ("json", {"naïve": "☃\n" * 3, "empty": {}}),
        ("csv", {"a": 'x,"y"\n'}),
        ("literal", {1: {2}}),
        ("pickle", {1: (2,)}),
    ],
)
def test_show_writes_the_payload_byte_for_byte(
    path: str, format: str, state: dict[Any, Any]
) -> None:
    """What `show` writes is the payload in the slot and not one byte more, in any format."""
    with redundict.open(path, format=format) as store:
        store.update(state)
        store.sync()
        [generation] = store.generations()
    shown = run("show", path, text=False).stdout
    assert shown == damage.read(f"{path}.a0")[: generation.length]
    assert len(shown) == generation.length


def test_show_writes_the_generation_that_is_asked_for(path: str) -> None:
    """An older generation can be looked at without a rollback."""
    make(path)
    assert run("show", path, "--generation", "1").stdout == '{"n":1}'
    assert run("show", path).stdout == '{"n":2}'


@pytest.mark.parametrize("args", [("show", "--generation", "99"), ("rollback", "--to", "99")])
def test_a_generation_that_is_not_there_is_not_a_store_that_is_not_there(
    path: str, args: tuple[str, ...]
) -> None:
    """A wrong number writes nothing, fails, and says which command lists the right ones."""
    done = run(*args, make(path))
    assert done.stdout == ""
    assert "no slot holds generation 99" in done.stderr
    assert f"redundict log {path}" in done.stderr
    assert done.returncode == Exit.FAILED


def test_a_reader_that_stops_early_is_no_error(path: str) -> None:
    """`redundict show PATH | head -c 1` says nothing on standard error."""
    with redundict.open(path) as state:
        state["long"] = "x" * 300_000  # more than a pipe holds
    line = f"{shlex.quote(sys.executable)} -m redundict show {shlex.quote(path)} | head -c 1"
    done = subprocess.run(
        ["sh", "-c", line], env=ENVIRONMENT, capture_output=True, check=False, timeout=60
    )
    assert (done.stdout, done.stderr) == (b"{", b"")


def test_a_reader_that_is_gone_is_no_error(path: str) -> None:
    """A report that nobody reads any more is dropped without a word."""
    make(path)
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = run("check", path, capture_output=False, stdout=writer, stderr=subprocess.PIPE)
    finally:
        os.close(writer)
    assert done.stderr == ""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("command", ["check", "show", "rollback"])
def test_a_stream_that_is_closed_is_no_error(path: str, command: str, closed: str) -> None:
    """A daemon may start it with none; the exit code is what counts then."""
    line = shlex.join([sys.executable, "-m", "redundict", command, make(path)])
    done = subprocess.run(
        ["sh", "-c", f"{line} {closed}"], env=ENVIRONMENT, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (Exit.OK, b"")


# --- rollback, repair


Paste = Callable[[str], subprocess.CompletedProcess[str]]


def test_a_rollback_is_undone_by_the_command_it_prints(path: str, paste: Paste) -> None:
    """Rolling back commits the old state as a new generation; the printed command takes it back."""
    done = run("rollback", make(path))
    assert done.returncode == Exit.OK
    assert "generation 3" in done.stdout
    assert redundict.load(path) == {"n": 1}
    undone = paste(done.stdout.partition("to undo this: ")[2])
    assert undone.returncode == Exit.OK
    assert redundict.load(path) == {"n": 2}


def test_rollback_goes_to_the_generation_that_is_named(path: str) -> None:
    """With --to, any generation that `log` lists comes back."""
    with redundict.open(path, keep=3) as state:
        for number in (1, 2, 3):
            state["n"] = number
            state.sync()
    assert run("rollback", path, "--to", "1").returncode == Exit.OK
    assert redundict.load(path) == {"n": 1}


def test_repair_puts_aside_and_heals(tmp_path: Path, path: str) -> None:
    """What was damaged is kept under another name, and the slot is whole again."""
    make(path)
    damage.flip(f"{path}.b1", 0)
    torn = damage.read(f"{path}.b1")
    done = run("repair", path)
    assert done.returncode == Exit.OK
    [aside] = tmp_path.glob("state.json.b1.aside-*")
    assert f"put aside state.json.b1 as {aside.name}" in done.stdout
    assert damage.read(str(aside)) == torn
    assert damage.read(f"{path}.b1") == damage.read(f"{path}.a1")


def test_repair_of_a_healthy_store_changes_nothing(tmp_path: Path, path: str) -> None:
    """Where there is nothing to do, repair says so and leaves all files alone."""
    make(path)
    before = files(tmp_path)
    done = run("repair", path)
    assert done.returncode == Exit.OK
    assert done.stdout.startswith("nothing to repair\n")
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    ("name", "spoil"),
    [("state.json", degrade), ('it\'s "quoted" $HOME `x`;.json', lose_newest)],
)
def test_the_action_of_a_report_mends_the_store_when_pasted(
    tmp_path: Path, paste: Paste, name: str, spoil: Callable[[str], None]
) -> None:
    """The command that a report ends with can be run as it stands, whatever the path is."""
    path = make(str(tmp_path / name))
    spoil(path)
    [action] = re.findall(r"^ action: (redundict .*)$", run("check", path).stdout, re.MULTILINE)
    assert paste(action).returncode == Exit.OK
    assert redundict.check(path).state is redundict.StoreState.HEALTHY


@pytest.mark.skipif(not shutil.which("bash"), reason="$'' is not in every sh")
@pytest.mark.parametrize(
    "name", ["a\x1b[2J\n state: healthy\n.json", os.fsdecode(b"\xff 'q' \\.json")]
)
def test_no_name_attacks_the_terminal_and_the_action_works_all_the_same(
    tmp_path: Path, paste: Paste, name: str
) -> None:
    """A name may hold line feeds, escapes and bytes that are no text: none reaches the terminal."""
    path = make(str(tmp_path / name))
    degrade(path)
    shown = run("check", path).stdout
    assert shown.count("state:") == 1 + shown.count("\\n state:")
    assert all(line.isprintable() for line in shown.splitlines())
    assert all(line.isprintable() for line in run("check", f"{path}.no").stderr.splitlines())
    [action] = re.findall(r"^ action: (redundict .*)$", shown, re.MULTILINE)
    assert paste(f"bash -c {shlex.quote(action)}").returncode == Exit.OK
    assert redundict.check(path).state is redundict.StoreState.HEALTHY


def test_the_action_for_copies_that_diverged_mends_them_when_pasted(
    tmp_path: Path, path: str, paste: Paste
) -> None:
    """The report of two contents under one number ends with the command that settles it."""
    make(path)
    other = make(str(tmp_path / "other.json"))
    with redundict.open(path) as state:
        state["n"] = "mine"
    with redundict.open(other) as state:
        state["n"] = "theirs"
    damage.overwrite(f"{path}.b0", damage.read(f"{other}.b0"))
    done = run("check", path)
    assert done.returncode == Exit.DEGRADED
    [action] = re.findall(r"^ action: (?:.*: )?(redundict .*)$", done.stdout, re.MULTILINE)
    assert paste(action).returncode == Exit.OK
    assert redundict.load(path) == {"n": "mine"}
    assert redundict.check(path).state is redundict.StoreState.HEALTHY


# --- import


@pytest.mark.parametrize(
    ("content", "options", "state"),
    [
        (b'{"a": [1, null]}', (), {"a": [1, None]}),
        (b"a,1\r\nb,2\r\n", (), {"a": "1", "b": "2"}),
        (b"a,1\n", ("--format", "csv"), {"a": "1"}),
        (pickle.dumps({"a": 1}), ("--allow-pickle",), {"a": 1}),
        (pickle.dumps({1: (2,)}), ("--allow-pickle", "--format", "pickle"), {1: (2,)}),
    ],
    ids=["json", "csv", "csv to csv", "pickle to json", "pickle to pickle"],
)
def test_import_makes_a_store_of_a_plain_file(
    tmp_path: Path, path: str, content: bytes, options: tuple[str, ...], state: dict[Any, Any]
) -> None:
    """A file of another program becomes a generation, and is itself left alone."""
    plain = tmp_path / "plain"
    plain.write_bytes(content)
    done = run("import", plain, path, *options)
    assert done.returncode == Exit.OK, done.stderr
    assert "Generation 1 " in done.stdout
    format = "pickle" if options[-1:] == ("pickle",) else None
    assert redundict.load(path, format=format) == state
    assert plain.read_bytes() == content


def test_import_replaces_what_the_store_held_and_rollback_brings_it_back(
    tmp_path: Path, path: str
) -> None:
    """An import is a generation like any other."""
    plain = tmp_path / "plain"
    plain.write_text('{"m": 3}')
    run("import", plain, make(path))
    assert redundict.load(path) == {"m": 3}
    redundict.rollback(path)
    assert redundict.load(path) == {"n": 2}


def test_import_makes_a_new_store_as_open_does(tmp_path: Path, path: str) -> None:
    """A store that did not exist gets the defaults of `open`: copies, generations and history."""
    plain = tmp_path / "plain"
    plain.write_text('{"n": 1}')
    run("import", plain, path)
    other = make(str(tmp_path / "other.json"))
    kinds = {
        (slot.trailer.copies, slot.trailer.keep, slot.trailer.history)
        for store in (path, other)
        for slot in redundict.check(store).slots
        if slot.trailer
    }
    assert len(kinds) == 1


def test_import_keeps_to_the_copies_and_generations_of_the_store(tmp_path: Path, path: str) -> None:
    """A store of three copies and three generations has them still after an import."""
    plain = tmp_path / "plain"
    plain.write_text('{"m": 3}')
    make(path, copies=3, keep=3)
    assert run("import", plain, path).returncode == Exit.OK
    assert damage.read(f"{path}.a2") == damage.read(f"{path}.c2")
    assert redundict.check(path).state is redundict.StoreState.HEALTHY


def test_the_command_for_a_plain_file_works_when_pasted(path: str, paste: Paste) -> None:
    """Where there is a plain file and no store, the error ends with the command that makes one."""
    with open(path, "w") as file:
        file.write('{"n": 7}')
    done = run("check", path)
    assert done.returncode == Exit.NO_STORE
    assert paste(done.stderr.partition("next: ")[2]).returncode == Exit.OK
    assert redundict.load(path) == {"n": 7}
    assert damage.read(path) == b'{"n": 7}'


@pytest.mark.parametrize("ending", [".a0", ".b1", ".lock"])
@pytest.mark.parametrize("command", ["check", "log", "show", "rollback", "repair"])
def test_the_name_of_a_slot_leads_to_its_store(
    path: str, paste: Paste, command: str, ending: str
) -> None:
    """What the shell completes to is a file of the store; the error ends with the right command."""
    done = run(command, make(path) + ending)
    assert done.returncode == Exit.NO_STORE
    assert "a file of a store" in done.stderr
    assert f"store: {path}\n" in paste(done.stderr.partition("next: ")[2]).stdout


def test_a_pickle_can_be_imported_at_its_own_path(path: str) -> None:
    """With --allow-pickle, the file that the recipe left may be the store's own plain file."""
    damage.overwrite(path, pickle.dumps({"n": 7}))
    done = run("import", path, path, "--allow-pickle")
    assert done.returncode == Exit.OK, done.stderr
    assert redundict.load(path) == {"n": 7}


class Planted:
    """What runs a command when it is unpickled."""

    def __init__(self, target: str) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.target,)


@pytest.mark.parametrize("format", ["json", "csv", "pickle"])
def test_import_runs_no_pickle_that_was_not_allowed(tmp_path: Path, path: str, format: str) -> None:
    """Only --allow-pickle lets an imported file run code, whatever the store's format is."""
    target = tmp_path / "ran"
    damage.overwrite(str(tmp_path / "evil"), pickle.dumps({"n": Planted(str(target))}))
    done = run("import", tmp_path / "evil", path, "--format", format)
    assert not target.exists()
    assert done.returncode == Exit.FAILED


# --- copies on several disks


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[list[str]]:
    """Return two folders, one per copy, with names that a shell must quote."""
    folders = [tmp_path / "first disk", tmp_path / "o'ther"]
    for folder in folders:
        folder.mkdir()
    yield [str(folder) for folder in folders]
    for folder in folders:  # each has half a store, for whoever looks at it alone
        shutil.rmtree(folder)


def test_copies_names_the_copies_on_several_disks(disks: list[str], paste: Paste) -> None:
    """With --copies or without, check, show, rollback and a pasted repair find them all."""
    path = make(os.path.join(disks[0], "state.json"), copies=disks)
    apart = [f"--copies={folder}" for folder in disks]
    assert run("check", path).returncode == Exit.OK
    assert run("check", path, *apart).returncode == Exit.OK
    assert run("rollback", path, *apart).returncode == Exit.OK
    assert run("show", path, *apart).stdout == '{"n":1}'

    for slot in Path(disks[1]).iterdir():
        slot.unlink()
    done = run("check", path, *apart)
    assert done.returncode == Exit.DEGRADED
    [action] = re.findall(r"^ action: (?:.*: )?(redundict .*)$", done.stdout, re.MULTILINE)
    assert paste(action).returncode == Exit.OK
    report = redundict.check(path, copies=disks)
    assert report.state is redundict.StoreState.HEALTHY
    assert {os.path.dirname(slot.path) for slot in report.slots} == set(disks)


def test_import_puts_each_copy_into_its_folder(tmp_path: Path, disks: list[str]) -> None:
    """A store on two disks can be made from the command line."""
    plain = tmp_path / "plain"
    plain.write_text('{"n": 7}')
    path = os.path.join(disks[0], "state.json")
    apart = [f"--copies={folder}" for folder in disks]
    assert run("import", plain, path, *apart).returncode == Exit.OK
    copies = [
        damage.read(os.path.join(d, f"state.json.{c}0")) for d, c in zip(disks, "ab", strict=True)
    ]
    assert copies[0] == copies[1]
    assert redundict.load(path, copies=disks) == {"n": 7}


# --- demo


def test_demo_shows_the_main_job_and_leaves_nothing(tmp_path: Path) -> None:
    """The demo commits, tears, loads, heals and rolls back the data it is given, and cleans up."""
    data = tmp_path / "data.json"
    data.write_text(json.dumps({"a": 1, "b": 2, "c": 3}))
    room = tmp_path / "room"
    room.mkdir()
    done = run("demo", "--file", data, env=ENVIRONMENT | {"TMPDIR": str(room)})
    assert done.returncode == Exit.OK, done.stderr
    assert f"{data}, 3 entries" in done.stdout
    assert "state.generation = 3, width = 1024" in done.stdout
    assert "rolled back" in done.stdout
    assert "has 3 entries again" in done.stdout
    assert done.stderr == ""
    assert not os.listdir(room)


def test_demo_runs_on_the_data_of_this_machine() -> None:
    """Without a file, the demo takes the metadata of the installed Python packages."""
    done = run("demo")
    assert done.returncode == Exit.OK, done.stderr
    counted = re.search(r"installed here, (\d+) entries", done.stdout)
    assert counted
    assert int(counted[1]) > 1


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("redundict ro", {"rollback "}),
        ("redundict rollback --d", {"--dry-run "}),
        ("redundict import --kind s", {"shelve", "sqlitedict"}),
    ],
)
def test_the_shell_completes_commands_and_options(
    typed: str, offered: set[str], tmp_path: Path
) -> None:
    """What argcomplete asks for on its descriptor is what could follow."""
    pytest.importorskip("argcomplete")
    answers = tmp_path / "answers"
    shell = {
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(answers),
        "COMP_LINE": typed,
        "COMP_POINT": str(len(typed)),
    }
    subprocess.run(
        [sys.executable, "-m", "redundict"], env=ENVIRONMENT | shell, check=True, timeout=60
    )
    assert {word.rstrip() for word in answers.read_text().split("\n")} == {
        word.rstrip() for word in offered
    }
