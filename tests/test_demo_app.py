"""`scripts/demo_app.py` on a virtual screen: killed, and started again, it comes up as it was."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import redundict

from . import damage

APP = Path(__file__).parents[1] / "scripts" / "demo_app.py"
pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, ["Xvfb", "xdotool"])) or not importlib.util.find_spec("_tkinter"),
    reason="needs Xvfb, xdotool and tkinter",
)


@pytest.fixture(scope="module")
def screen() -> Iterator[dict[str, str]]:
    """Return the environment of a process that is to show itself on a virtual screen."""
    reading, writing = os.pipe()
    command = ["Xvfb", "-displayfd", str(writing), "-screen", "0", "1000x640x24"]
    with subprocess.Popen(command, pass_fds=[writing], stderr=subprocess.DEVNULL) as server:
        os.close(writing)
        with os.fdopen(reading) as pipe:
            number = pipe.readline().strip()
        yield {**os.environ, "DISPLAY": f":{number}"}
        server.terminate()


class App:
    """The application as a process, and hands to use it."""

    def __init__(self, path: str, screen: dict[str, str]) -> None:
        self.path = path
        self.screen = screen
        self.process = subprocess.Popen([sys.executable, str(APP), "--state", path], env=screen)
        self.window = eventually(lambda: self.do("search", "--name", "redundict demo").split())[-1]

    def do(self, *arguments: str) -> str:
        done = subprocess.run(
            ["xdotool", *arguments], env=self.screen, capture_output=True, text=True, check=False
        )
        return done.stdout

    def place(self) -> list[int]:
        """Return the window's left, top, width and height."""
        found = self.do("getwindowgeometry", self.window)
        return [int(number) for number in re.findall(r"(\d+)[,x](\d+)", found) for number in number]

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def start(path: str, screen: dict[str, str]) -> Iterator[Callable[[], App]]:
    """Return what starts the application; none is left running."""
    started: list[App] = []

    def start_it() -> App:
        started.append(App(path, screen))
        return started[-1]

    yield start_it
    for app in started:
        app.kill()


def eventually(found: Callable[[], Any]) -> Any:
    until = time.monotonic() + 60
    while not (answer := found()):
        assert time.monotonic() < until
        time.sleep(0.05)
    return answer


def saved(path: str) -> dict[str, Any]:
    try:
        return redundict.load(path)
    except redundict.NotFoundError:
        return {}


def say(app: App, text: str) -> None:
    """Write a line into the chat, and wait until it is on disk, which takes a second or two."""
    app.do("mousemove", "--window", app.window, "10", "10", "type", text)
    app.do("key", "Return")
    eventually(lambda: text in saved(app.path).get("chat", {}).get("lines", ()))


def test_what_was_killed_comes_up_as_it_was(
    path: str, start: Callable[[], App], screen: dict[str, str]
) -> None:
    """Moved, resized, written to, and killed without a chance to save: nothing of it is lost."""
    app = start()
    app.do("windowsize", "--sync", app.window, "800", "500")
    app.do("windowmove", "--sync", app.window, "120", "90")
    place = app.place()
    say(app, "hello")
    state = eventually(lambda: "+120+90" in str(saved(path)) and saved(path))
    app.kill()
    again = start()
    assert eventually(lambda: again.place() == place)
    say(again, "back")  # so that the new one has saved what it came up as
    state["chat"]["lines"].append("back")
    assert saved(path)["chat"] == state["chat"]
    assert saved(path)["window"] == state["window"]


def test_a_second_window_says_that_there_is_one(
    path: str, start: Callable[[], App], screen: dict[str, str]
) -> None:
    """In a sentence, and the first one goes on."""
    app = start()
    second = subprocess.run(
        [sys.executable, str(APP), "--state", path],
        env=screen,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert second.returncode == 1
    assert f"by process {app.process.pid}" in second.stderr
    assert "Traceback" not in second.stderr
    say(app, "still here")


@pytest.mark.damages
def test_it_says_what_was_restored(path: str, start: Callable[[], App]) -> None:
    """With both copies of the newest state gone, the one before is there, and the user is told."""
    app = start()
    say(app, "one")
    say(app, "two")
    app.kill()
    for slot in redundict.check(path).slots:
        if slot.generation == redundict.check(path).generation:
            damage.flip(slot.path, 3)
    with pytest.warns(redundict.RedundancyWarning), redundict.open(path) as state:
        assert "one" in state["chat"]["lines"]
        assert "two" not in state["chat"]["lines"]
        sys.path.insert(0, str(APP.parent))
        import demo_app

        assert re.match(
            r"Your settings were restored from \d\d:\d\d on", demo_app.told(state.recovery)
        )
