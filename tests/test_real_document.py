"""The main job on a real document of more than 500 KB: pycountry's table of ISO 639-3."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from importlib import resources
from typing import Any

import pytest

import redundict


@pytest.fixture(scope="module")
def languages() -> dict[str, Any]:
    text = (resources.files("pycountry") / "databases" / "iso639-3.json").read_text("utf-8")
    assert len(text.encode()) > 500_000
    table: dict[str, Any] = json.loads(text)
    return table


def test_every_generation_of_a_real_document_loads_exactly(
    path: str, languages: dict[str, Any]
) -> None:
    """Twenty changes, each synced: what `log` lists loads as it was, and sha256sum agrees."""
    history = {}
    with redundict.open(path, keep=4, history="recent") as state:
        state.update(json.loads(json.dumps(languages)))
        for change in range(20):
            entry = state["639-3"][change * 100]
            entry["name"] = f"{entry['name']} ({change})"
            del state["639-3"][-1]
            number = state.sync()
            history[number] = json.loads(json.dumps(state))
    listed = redundict.check(path).generations
    assert [generation.number for generation in listed] == [20, 19, 18, 17]
    for generation in listed:
        assert redundict.load(path, generation.number) == history[generation.number]
        assert len(generation.slots) == 2
        for slot in generation.slots:
            assert sha256sum(slot.path) == open_tail(slot.path)


def sha256sum(path: str) -> str:
    """Return the digest of all but the last 65 bytes, by coreutils where there are any."""
    if shutil.which("sha256sum"):
        command = 'head -c -65 "$1" | sha256sum'
        done = subprocess.run(
            ["sh", "-c", command, "sh", path], capture_output=True, text=True, check=True
        )
        return done.stdout.split()[0]
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()[:-65]).hexdigest()


def open_tail(path: str) -> str:
    """Return what the last 65 bytes say."""
    with open(path, "rb") as file:
        return file.read()[-65:].decode().rstrip("\n")
