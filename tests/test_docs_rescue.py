"""`docs/rescue.md`: its commands, typed in order with nothing but a shell, do what it says."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import redundict

from . import damage
from .inside import set_clock

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "rescue.md").read_text(encoding="utf-8")
NEEDED = ("sha256sum", "cmp", "sync", "python3")
START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
REPLACE = "Replace a damaged slot"

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, NEEDED)), reason="needs the GNU tools and python3"
)


@pytest.fixture
def store(path: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the store of the document: three generations, saved at fixed times."""
    seconds = itertools.count(-1)  # the note in the lock file comes first
    with monkeypatch.context() as patch:
        set_clock(patch, lambda: START + timedelta(seconds=next(seconds)))
        with redundict.open(path, keep=2) as state:
            for state["theme"] in ("light", "dark", "pink"):
                state.sync()
    return path


def test_it_says_how_many_generations_its_store_keeps() -> None:
    """A reader whose store has more files knows why."""
    assert "on a real store with `keep=2`" in " ".join(TEXT.split())


def commands(until: str = "", after: str = "") -> Iterator[tuple[str, str]]:
    """Yield each command of the document and what it is said to print, between two headings."""
    start = TEXT.index(f"\n## {after}\n") if after else 0
    text = TEXT[start : TEXT.index(f"\n## {until}\n") if until else None]
    for block in re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        yield from re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)


def typed(store: str, command: str) -> str:
    """Run a command as it stands, in the store's folder, with no redundict in sight."""
    environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    environment["PATH"] += os.pathsep + os.path.dirname(shutil.which("python3") or "")
    return subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=os.path.dirname(store),
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def files(store: str) -> dict[str, bytes]:
    """Return what every file beside the store holds."""
    return {path.name: path.read_bytes() for path in Path(store).parent.iterdir()}


def follow(store: str, until: str = "", after: str = "") -> int:
    """Type the commands of the document; return how many printed what it says."""
    followed = list(commands(until, after))
    for command, shown in followed:
        printed = typed(store, command)
        expected = re.escape(shown.strip()).replace("DIGEST", "[0-9a-f]{64}")
        assert re.fullmatch(expected, printed.strip()), (command, printed)
    return len(followed)


def test_every_command_prints_what_is_shown_and_the_end_is_healthy(store: str) -> None:
    """From the first copy to the last comparison, and no byte is lost on the way."""
    before = [damage.read(f"{store}.{slot}") for slot in ("a0", "a1", "b0", "b1")]
    followed = follow(store, until=REPLACE)
    damage.flip(f"{store}.a0", 5)
    followed += follow(store, after=REPLACE)
    assert followed == TEXT.count("\n$ ") > 10
    assert [damage.read(f"{store}.{slot}") for slot in ("a0", "a1", "b0", "b1")] == before
    shutil.rmtree(os.path.join(os.path.dirname(store), "aside"))
    assert redundict.load(store) == {"theme": "pink"}
    assert redundict.check(store).state is redundict.StoreState.HEALTHY
    assert Path(store).with_name("rescued.json").read_text() == '{"theme":"dark"}'


def test_the_digest_that_is_shown_twice_is_the_same(store: str) -> None:
    """What `sha256sum` prints is what the slot's last digits are."""
    computed, stored = (
        typed(store, command).split()[0]
        for command, shown in commands()
        if shown.startswith("DIGEST")
    )
    assert computed == stored


def test_rolling_back_by_hand_loads_the_one_before_and_says_so(store: str) -> None:
    """As the document says: a warning, generation 2, and whole again from the next save on."""
    follow(store, until="Roll back by hand")
    (command,) = [command for command, _ in commands() if "mkdir aside" in command]
    typed(store, command)
    with pytest.warns(redundict.RedundancyWarning, match="a newer one may have been lost"):
        state = redundict.open(store, keep=2)
    assert (state.generation, dict(state)) == (2, {"theme": "dark"})
    state["theme"] = "grey"
    state.close()
    assert redundict.check(store).state is redundict.StoreState.HEALTHY
    assert redundict.load(store) == {"theme": "grey"}
    folder = os.path.dirname(store)
    for name in ("aside", "backup"):
        shutil.rmtree(os.path.join(folder, name))


def test_check_says_of_a_rollback_by_hand_what_the_document_says(store: str) -> None:
    """Until the next save: rolled back, since what is newest may be gone."""
    follow(store, until="Take the state out")
    (command,) = [command for command, _ in commands() if "mkdir aside" in command]
    typed(store, command)
    assert redundict.check(store).state is redundict.StoreState.ROLLED_BACK
    (undo,) = [command for command, _ in commands() if command.startswith("cp -a backup/")]
    typed(store, undo)
    assert redundict.load(store) == {"theme": "pink"}
    shutil.rmtree(os.path.join(os.path.dirname(store), "aside"))


@pytest.mark.damages
def test_a_slot_is_not_replaced_by_one_that_does_not_verify(store: str) -> None:
    """The wrong way round, or with both damaged, the line changes nothing."""
    damage.flip(f"{store}.b0", 5)
    before = files(store)
    line = next(command for command, _ in commands(after=REPLACE))
    with pytest.raises(subprocess.CalledProcessError):
        typed(store, line)
    assert files(store) == before
    assert redundict.load(store) == {"theme": "pink"}


def test_what_was_put_aside_is_not_taken_for_a_slot(store: str) -> None:
    """The loops list slots only, and what a torn one ends with cannot attack a terminal."""
    Path(f"{store}.a0.aside-20260102T030405Z").write_bytes(b"old")
    Path(f"{store}.a1").write_bytes(b"a b \x1b[2J \x1b]0;x\x07 c d e f")
    for command, _ in commands(until="Take the state out"):
        printed = typed(store, command)
        if "for f in" in command:
            assert "aside" not in printed
            assert printed.replace("\n", "").isprintable()
    shutil.rmtree(Path(store).with_name("backup"))
    redundict.repair(store)
    for aside in Path(store).parent.glob("*.aside-*"):
        aside.unlink()


def test_moving_one_copy_only_changes_nothing(store: str) -> None:
    """The other copy loads and is copied back, as the document warns."""
    os.remove(f"{store}.a0")
    with redundict.open(store, keep=2) as state:
        assert state == {"theme": "pink"}


def test_a_damaged_slot_is_called_damaged(store: str) -> None:
    """The loop over all slots can tell, and so can the line of Python."""
    damage.flip(f"{store}.b1", 20)
    loops = [command for command, shown in commands() if "state.json.b1 verifies" in shown]
    assert len(loops) == 2
    for command in loops:
        assert "state.json.b1 DAMAGED" in typed(store, command)
        assert typed(store, command).count("verifies") == 3
    redundict.repair(store)
    for aside in Path(store).parent.glob("*.aside-*"):
        aside.unlink()
