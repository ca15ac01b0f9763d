"""`commands`: history, diff, show, export, rollback and repair, as a person at night types them."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import redundict
from redundict.cli import parser as cli
from redundict.cli.exits import Exit

from . import damage, inside

ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(redundict.__file__).parents[1])}


def age_all(path: str) -> None:
    folder = os.path.dirname(path)
    for name in os.listdir(folder):
        damage.age(os.path.join(folder, name))


@pytest.fixture
def store(path: str) -> str:
    """Return a store of three generations, of which two are kept."""
    with redundict.open(path, keep=2) as state:
        state.update({"chat": {"width": 640}, "recent": ["/a", "/b"]})
        state.sync()
        state["chat"]["width"] = 800
        state.sync()
        state["recent"].insert(1, "/new")
        state["title"] = "x\x1b[2J"
    age_all(path)
    return path


def on_a_terminal(command: list[str], typed: str = "") -> tuple[int, str]:
    """Run redundict with a terminal on all three streams; return its exit code and output."""
    main, other = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "redundict", *command],
        stdin=other,
        stdout=other,
        stderr=other,
        env=ENVIRONMENT | {"TERM": "dumb"},
    ) as process:
        os.close(other)
        if typed:
            os.write(main, typed.encode())
        output = b""
        while True:
            try:
                part = os.read(main, 4096)
            except OSError:  # the other side is closed
                break
            if not part:
                break
            output += part
    os.close(main)
    return process.returncode, output.decode().replace("\r\n", "\n")


def out(capsys: pytest.CaptureFixture[str], *args: str, code: Exit = Exit.OK) -> str:
    """Return what a command prints, given that it exits as it should."""
    assert cli.main(list(args)) == code
    return capsys.readouterr().out


# --- history


def test_diff_shows_paths_values_and_nothing_else(
    capsys: pytest.CaptureFixture[str], store: str
) -> None:
    """Between the last two by default, or any two; a value cannot attack the terminal."""
    assert out(capsys, "diff", store) == "+ recent[1]: '/new'\n+ title: 'x\\x1b[2J'\n"
    reverse = out(capsys, "diff", store, "3", "2")
    assert reverse == "- recent[1]: '/new'\n- title: 'x\\x1b[2J'\n"
    assert out(capsys, "diff", store, "3") == ""
    assert cli.main(["diff", store, "0"]) == Exit.FAILED


def test_diff_refuses_what_it_would_have_to_unpickle(
    capsys: pytest.CaptureFixture[str], path: str
) -> None:
    """A pickle is not decoded to look at it."""
    with redundict.open(path, format="pickle") as state:
        for state["n"] in (1, 2):
            state.sync()
    assert cli.main(["diff", path]) == Exit.FAILED
    assert "pickle" in capsys.readouterr().err
    assert "log" not in out(capsys, "log", path)


def test_the_log_has_ages_health_and_changes(
    capsys: pytest.CaptureFixture[str], store: str
) -> None:
    """A line for each generation: how old, how large, which copies, what it changed."""
    damage.flip(f"{store}.b1", 0)
    log = out(capsys, "log", store, code=Exit.DEGRADED)
    assert re.search(r"^3 .* json +valid +valid +\+1 ~1$", log, re.MULTILINE)
    assert re.search(r"^2 .* json +valid +digest-mismatch$", log, re.MULTILINE)
    redundict.repair(store)


def test_the_log_of_a_store_in_trouble_says_so(
    capsys: pytest.CaptureFixture[str], store: str
) -> None:
    """A generation that no longer loads has no line, so that the head has to tell of it."""
    assert "state:" not in out(capsys, "log", store)
    for slot in ("a0", "b0"):
        damage.flip(f"{store}.{slot}", 0)
    log = out(capsys, "log", store, code=Exit.ROLLED_BACK)
    assert " state: rolled back\n status: The newest generation may be gone" in log
    assert f"\n action: redundict repair {store}\n" in log
    redundict.repair(store)


def test_the_log_draws_how_generations_are_spread_out(
    capsys: pytest.CaptureFixture[str], path: str
) -> None:
    """From three generations on, a line shows their ages."""
    with redundict.open(path, keep=5, history=inside.history.THINNED) as state:
        for state["n"] in range(9):
            state.sync()
    assert re.search(r"^now \|[*-]{60}\| \d+ s ago$", out(capsys, "log", path), re.MULTILINE)


# --- content


def test_show_is_exact_in_a_pipe_and_pretty_on_a_terminal(
    capsys: pytest.CaptureFixture[str], store: str
) -> None:
    """A pipe gets the payload's bytes; a person gets lines, and no escape sequences."""
    raw = subprocess.run(
        [sys.executable, "-m", "redundict", "show", store],
        capture_output=True,
        env=ENVIRONMENT,
        check=True,
    ).stdout
    assert raw == inside.load(_layout(store)).payload
    code, shown = on_a_terminal(["show", store])
    assert code == Exit.OK
    assert '\n  "chat": {\n    "width": 800\n  },\n' in shown
    assert "\x1b[2J" not in shown


def _layout(path: str) -> Any:
    return inside.Layout.of(path, 2, 2)


def test_show_of_csv_a_literal_and_pickle_on_a_terminal(path: str) -> None:
    """CSV and a literal are shown as lines without control characters, a pickle not at all."""
    with redundict.open(path, format="csv") as state:
        state["a"] = "b\x1b[2J"
    assert on_a_terminal(["show", path]) == (Exit.OK, "a,b\\x1b[2J\n\n")
    with redundict.open(f"{path}.l", format="literal") as state:
        state["a"], state[1] = ("b\x1b[2J",), {2}
    lines = "{'a': ('b\\x1b[2J',),\n 1: {2}}\n"
    assert on_a_terminal(["show", f"{path}.l"]) == (Exit.OK, lines)
    with redundict.open(f"{path}.p", format="pickle") as state:
        state["a"] = 1
    assert "bytes of pickle" in on_a_terminal(["show", f"{path}.p"])[1]


def test_a_literal_is_read_exported_and_imported_without_its_name(
    capsys: pytest.CaptureFixture[str], path: str, tmp_path: Path
) -> None:
    """`log`, `diff`, `export` and `import` need no format for it; `--format` stores one."""
    with redundict.open(path, format="literal") as state:
        for state[(1, 2)] in ({7}, {7, 8}):
            state.sync()
    assert "~1" in out(capsys, "log", path)
    assert "[(1, 2)]: {7} -> {7, 8}" in out(capsys, "diff", path)
    found = json.loads(out(capsys, "diff", path, "--json"))
    assert found["changes"][0]["path"] == [{"repr": "(1, 2)"}]
    target = str(tmp_path / "out.txt")
    out(capsys, "export", path, target)
    other = str(tmp_path / "other")
    assert "(literal)" in out(capsys, "import", target, other, "--format", "literal")
    assert redundict.load(other) == redundict.load(path) == {(1, 2): {7, 8}}
    assert cli.main(["import", target, f"{other}.json"]) == Exit.FAILED
    assert "not storable as json" in capsys.readouterr().err


def test_export_writes_the_payload_and_overwrites_nothing_unasked(
    capsys: pytest.CaptureFixture[str], store: str, tmp_path: Path
) -> None:
    """A generation's bytes, in a file that is whole or not there."""
    target = tmp_path / "out.json"
    assert "Generation 2" in out(capsys, "export", store, str(target), "--generation", "2")
    assert target.read_bytes() == b'{"chat":{"width":800},"recent":["/a","/b"]}'
    assert cli.main(["export", store, str(target)]) == Exit.FAILED
    assert "--force" in capsys.readouterr().err
    out(capsys, "export", store, str(target), "--force")
    assert b"title" in target.read_bytes()
    assert min(os.listdir(tmp_path)) == "out.json"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("state.json.a0", "belongs to the store itself"),
        ("state.json.c7", "belongs to the store itself"),
        ("state.json.lock", "belongs to the store itself"),
        ("folder", "no plain file"),
        ("link", "no plain file"),
        ("pipe", "no plain file"),
        ("absent/out.json", "in no folder that exists"),
    ],
)
def test_export_replaces_no_slot_and_nothing_but_a_file(
    capsys: pytest.CaptureFixture[str], store: str, tmp_path: Path, name: str, says: str
) -> None:
    """Not even with --force: a slot that is overwritten is a copy that is lost."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    os.mkfifo(tmp_path / "pipe")
    before = sorted(os.listdir(tmp_path))
    assert cli.main(["export", store, str(tmp_path / name), "--force"]) == Exit.FAILED
    assert says in capsys.readouterr().err
    assert sorted(os.listdir(tmp_path)) == before
    assert redundict.check(store).state is redundict.StoreState.HEALTHY


# --- rollback


def test_a_dry_rollback_shows_and_changes_nothing(
    capsys: pytest.CaptureFixture[str], store: str
) -> None:
    """What would change is printed, and every slot is as it was."""
    before = [damage.read(f"{store}.{slot}") for slot in ("a0", "a1", "b0", "b1")]
    shown = out(capsys, "rollback", "--dry-run", store)
    assert shown.startswith("From generation 3 to 2:\n  - recent[1]: '/new'\n")
    assert shown.endswith("Nothing was changed.\n")
    assert [damage.read(f"{store}.{slot}") for slot in ("a0", "a1", "b0", "b1")] == before


@pytest.mark.parametrize(
    ("typed", "options", "code", "generation"),
    [
        ("y\n", [], Exit.OK, 4),
        ("n\n", [], Exit.OK, 3),
        ("\n", [], Exit.OK, 3),
        ("\x04", [], Exit.OK, 3),
        ("", ["--yes"], Exit.OK, 4),
    ],
)
def test_rollback_asks_on_a_terminal(
    store: str, typed: str, options: list[str], code: Exit, generation: int
) -> None:
    """It shows the change first, and only a yes does it. A no is no failure."""
    done, shown = on_a_terminal(["rollback", *options, store], typed)
    assert done == code, shown
    assert "- recent[1]: '/new'" in shown
    assert ("Roll back? [y/N]" in shown) == (not options)
    assert ("Nothing was changed." in shown) == (generation == 3)
    assert redundict.check(store).generation == generation


def test_the_newest_is_not_rolled_back_to(capsys: pytest.CaptureFixture[str], store: str) -> None:
    """To commit it again would push the generation before out of its slot, and change nothing."""
    for options in ([], ["--dry-run"]):
        assert cli.main(["rollback", "--to", "3", *options, store]) == Exit.FAILED
        assert "generation 3 is the newest already" in capsys.readouterr().err
    assert [g.number for g in redundict.check(store).generations] == [3, 2]


def test_a_rollback_to_the_same_content_says_so(
    capsys: pytest.CaptureFixture[str], path: str
) -> None:
    """Two generations may hold the same."""
    with redundict.open(path, keep=3) as state:
        for state["n"] in (1, 2):
            state.sync()
        state.rollback()
    assert "(both hold the same)" in out(capsys, "rollback", "--to", "1", "--dry-run", path)


@pytest.mark.damages
def test_a_dry_rollback_refuses_what_a_rollback_refuses(
    capsys: pytest.CaptureFixture[str], store: str, tmp_path: Path
) -> None:
    """Copies that diverged are not rolled back, and the dry run does not say otherwise."""
    diverge(store, tmp_path / "other")
    before = [damage.read(f"{store}.{slot}") for slot in ("a0", "a1", "b0", "b1")]
    for options in (["--dry-run"], []):
        assert cli.main(["rollback", *options, store]) == Exit.DIVERGED
        assert "went on separately" in capsys.readouterr().err
    assert [damage.read(f"{store}.{slot}") for slot in ("a0", "a1", "b0", "b1")] == before


@pytest.mark.parametrize(("letter", "kept"), [("a", "mine"), ("B", "theirs")])
def test_the_copy_that_stands_is_named_by_its_letter(
    capsys: pytest.CaptureFixture[str], store: str, tmp_path: Path, letter: str, kept: str
) -> None:
    """As a slot's name or as a person writes it."""
    diverge(store, tmp_path / "other")
    out(capsys, "repair", "--prefer", letter, store)
    assert redundict.load(store)["n"] == kept


def diverge(path: str, folder: Path) -> None:
    """Make copy B hold another generation 4 than copy A."""
    folder.mkdir()
    other = str(folder / os.path.basename(path))
    for slot in ("a0", "a1", "b0", "b1"):
        shutil.copy(f"{path}.{slot}", f"{other}.{slot}")
    for place, value in ((path, "mine"), (other, "theirs")):
        with redundict.open(place, keep=2) as state:
            state["n"] = value
    damage.overwrite(f"{path}.b1", damage.read(f"{other}.b1"))
    age_all(path)


def test_rolling_back_twice_is_where_it_began(
    capsys: pytest.CaptureFixture[str], store: str
) -> None:
    """A rollback is undone by another one, with the command that it prints."""
    state = redundict.load(store)
    shown = out(capsys, "rollback", store)
    undo = shlex.split(shown.rpartition("to undo this: ")[2])
    assert redundict.load(store) != state
    out(capsys, *undo[1:])
    assert redundict.load(store) == state


@pytest.mark.parametrize("command", ["rollback", "repair"])
def test_a_locked_store_names_its_holder(
    capsys: pytest.CaptureFixture[str], store: str, command: str
) -> None:
    """Nothing is changed under a program that is running, dry run or not."""
    with redundict.open(store):
        for options in ([], ["--dry-run"]):
            assert cli.main([command, *options, store]) == Exit.LOCKED
            assert f"process (number {os.getpid()})" in capsys.readouterr().err


# --- twenty ways to damage a store


@dataclass(frozen=True)
class Harm:
    """What is done to a store of two generations (2 in slots 0, 3 in slots 1), and what follows."""

    do: Callable[[str], object]
    code: Exit
    generation: int  #: Loads before the repair, and still after it, or once more as a new one.


def empty(*slots: str) -> Callable[[str], None]:
    return lambda path: [damage.truncate(f"{path}.{slot}", 0) for slot in slots] and None


def nul(*slots: str) -> Callable[[str], None]:
    return lambda path: [damage.overwrite(f"{path}.{s}", bytes(4096)) for s in slots] and None


def flip(*slots: str, at: int = 0) -> Callable[[str], None]:
    return lambda path: [damage.flip(f"{path}.{slot}", at) for slot in slots] and None


def cut(*slots: str) -> Callable[[str], None]:
    return lambda path: [damage.truncate(f"{path}.{slot}", 2000) for slot in slots] and None


def delete(*slots: str) -> Callable[[str], None]:
    return lambda path: [os.remove(f"{path}.{slot}") for slot in slots] and None


def append(*slots: str) -> Callable[[str], None]:
    return lambda path: (
        [damage.overwrite(f"{path}.{s}", damage.read(f"{path}.{s}") + b"more") for s in slots]
        and None
    )


def copied(source: str, target: str) -> Callable[[str], None]:
    return lambda path: damage.overwrite(f"{path}.{target}", damage.read(f"{path}.{source}"))


def linked(slot: str) -> Callable[[str], None]:
    def link(path: str) -> None:
        os.rename(f"{path}.{slot}", f"{path}.elsewhere")
        os.symlink(f"{path}.elsewhere", f"{path}.{slot}")

    return link


def foldered(slot: str) -> Callable[[str], None]:
    def folder(path: str) -> None:
        os.remove(f"{path}.{slot}")
        os.mkdir(f"{path}.{slot}")

    return folder


def swapped(path: str) -> None:
    os.rename(f"{path}.a0", f"{path}.swap")
    os.rename(f"{path}.a1", f"{path}.a0")
    os.rename(f"{path}.swap", f"{path}.a1")


HARMS = {
    "an old slot is empty": Harm(empty("a1"), Exit.DEGRADED, 3),
    "a new slot is empty": Harm(empty("a0"), Exit.DEGRADED, 3),
    "a new slot is cut": Harm(cut("b0"), Exit.DEGRADED, 3),
    "a new slot is NUL": Harm(nul("a0"), Exit.DEGRADED, 3),
    "a bit of a payload": Harm(flip("b0"), Exit.DEGRADED, 3),
    "a bit of the padding": Harm(flip("a0", at=2000), Exit.DEGRADED, 3),
    "a bit of a trailer": Harm(flip("a0", at=-80), Exit.DEGRADED, 3),
    "a bit of a digest": Harm(flip("a0", at=-10), Exit.DEGRADED, 3),
    "something follows a slot": Harm(append("a0"), Exit.DEGRADED, 3),
    "a slot is deleted": Harm(delete("b0"), Exit.DEGRADED, 3),
    "a copy is deleted": Harm(delete("b0", "b1"), Exit.DEGRADED, 3),
    "a slot is a link": Harm(linked("a0"), Exit.DEGRADED, 3),
    "a slot is a folder": Harm(foldered("b0"), Exit.DEGRADED, 3),
    "a slot is a copy of another": Harm(copied("a1", "a0"), Exit.DEGRADED, 3),
    "two slots are swapped": Harm(swapped, Exit.DEGRADED, 3),
    "one of each generation": Harm(flip("a0", "b1"), Exit.DEGRADED, 3),
    "both old slots": Harm(flip("a1", "b1"), Exit.DEGRADED, 3),
    "both new slots are flipped": Harm(flip("a0", "b0"), Exit.ROLLED_BACK, 2),
    "both new slots are NUL": Harm(nul("a0", "b0"), Exit.ROLLED_BACK, 2),
    "both new slots are deleted": Harm(delete("a0", "b0"), Exit.ROLLED_BACK, 2),
    "all but one old slot": Harm(cut("a0", "b0", "b1"), Exit.ROLLED_BACK, 2),
    "all slots are empty": Harm(empty("a0", "a1", "b0", "b1"), Exit.LOST, 0),
}


@pytest.mark.damages
@pytest.mark.parametrize("name", HARMS)
def test_each_damage_has_its_head_its_code_and_an_action_that_works(
    capsys: pytest.CaptureFixture[str], store: str, name: str
) -> None:
    """The action line, pasted into a shell, makes the store healthy again; a dry run lied not."""
    harm = HARMS[name]
    backup = damage.read(f"{store}.b0")
    contents = {number: redundict.load(store, number) for number in (2, 3)}
    harm.do(store)
    age_all(store)
    head = dict(
        re.findall(r"^ *(\w+): (.*)$", out(capsys, "check", store, code=harm.code), re.MULTILINE)
    )
    states = {Exit.DEGRADED: "degraded", Exit.ROLLED_BACK: "rolled back", Exit.LOST: "lost"}
    assert head["store"] == store
    assert head["state"] == states[harm.code]
    if harm.code is Exit.LOST:
        assert "nothing loads" in head["status"]
        assert head["action"] == "restore a slot from a backup"
        assert cli.main(["repair", store]) == Exit.LOST
        damage.overwrite(f"{store}.b0", backup)
        age_all(store)
        assert redundict.load(store) == contents[3]
        out(capsys, "repair", store)
        assert "state: healthy" in out(capsys, "check", store)
        return
    assert f"generation {harm.generation} loads" in head["status"]
    would = out(capsys, "repair", "--dry-run", store, code=harm.code)
    done = pasted(head["action"])
    assert done.returncode == Exit.OK, done.stderr
    assert planned(would) == performed(done.stdout)
    assert "state: healthy" in out(capsys, "check", store)
    assert redundict.load(store) == contents[harm.generation]


def pasted(action: str) -> subprocess.CompletedProcess[str]:
    """Run an action line in a shell, as it stands."""
    redundict_here = f'redundict() {{ {shlex.quote(sys.executable)} -m redundict "$@"; }}; '
    return subprocess.run(
        ["/bin/sh", "-c", redundict_here + action],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        check=False,
    )


def planned(text: str) -> set[tuple[str, str]]:
    found = set(re.findall(r"^would (put aside|rewrite) (\S+)", text, re.MULTILINE))
    return found | set(re.findall(r"^would (commit) (the state)", text, re.MULTILINE))


def performed(text: str) -> set[tuple[str, str]]:
    found = {
        (what.replace("rewrote", "rewrite"), slot)
        for what, slot in re.findall(r"^(put aside|rewrote) (\S+)", text, re.MULTILINE)
    }
    return found | {("commit", "the state") for _ in re.findall(r"^committed", text, re.MULTILINE)}


def test_there_are_twenty_ways() -> None:
    """The table is as long as it is said to be."""
    assert len(HARMS) >= 20
    assert shutil.which("sh")
