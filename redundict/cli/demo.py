"""The main job, shown on real data in a temporary folder, and what happens on disk meanwhile."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from typing import Any

from redundict import loading as decoding
from redundict import mapping, recovery
from redundict import report as integrity
from redundict.engine.trailer import DIGEST_BYTES
from redundict.formats import strict_json as plainjson

from . import render


def run(file: str | None = None) -> None:
    """Commit, tear, load, heal and roll back; `file` is a JSON object to use as data."""
    data, source = _data(file)
    with tempfile.TemporaryDirectory(prefix="redundict-demo-") as folder:
        path = os.path.join(folder, "state.json")
        print(f"The data: {source}, {len(data)} entries. The store: {path}")

        _step("Commit three generations of it. Each goes to one slot of copy A and one of copy B.")
        with mapping.RedunDict(path) as state, _shown(folder):
            state["data"], state["window"] = data, {"width": 640, "height": 480}
            state.sync()
            state["window"]["width"] = 800
            state.sync()
            state["window"]["width"] = 1024
            number = state.sync()
            print(f"sync() returned {number}; of the two generations kept, it replaced the older")
        _digest(os.path.join(folder, "state.json.a0"))

        _step("Tear the newest slot of copy A, as a power cut in the middle of a write does.")
        with _shown(folder), open(f"{path}.a0", "r+b") as slot:
            slot.truncate(os.path.getsize(slot.name) // 2)
        _long_ago(folder)
        print(render.report(integrity.check(path)))

        _step(
            "Open it as a program would: the newest generation loads from copy B, copy A is healed."
        )
        with mapping.RedunDict(path) as state, _shown(folder):
            print(f"state.generation = {state.generation}, width = {state['window']['width']}")
            print(f"state.recovery: {state.recovery}")

        _step("Destroy both copies of the newest generation: the one before it loads, and says so.")
        with _shown(folder):
            for copy in "ab":
                with open(f"{path}.{copy}0", "r+b") as slot:
                    slot.write(b"\0" * os.path.getsize(f"{path}.{copy}0"))
        _long_ago(folder)
        print(render.report(integrity.check(path)))

        _step("Repair: what was damaged is put aside, what loads is committed again.")
        with _shown(folder):
            print(render.repaired(recovery.repair(path)))

        _step(
            "Change something by mistake, then roll back: the old content becomes a new generation."
        )
        with mapping.RedunDict(path) as state:
            del state["data"]
        with _shown(folder):
            number = recovery.rollback(path)
        print(f"generation {number} has {len(decoding.load(path)['data'])} entries again")
        print(render.log(integrity.check(path), {}))


def _data(file: str | None) -> tuple[dict[str, Any], str]:
    if file is not None:
        with open(file, "rb") as opened:
            return plainjson.JsonFormat().decode(opened.read()), file
    packages: dict[str, Any] = {}
    for package in metadata.distributions():
        described = package.metadata.json if package.metadata else {}
        packages[str(described.get("name", "?"))] = json.loads(json.dumps(described, default=str))
    return packages, "the metadata of the Python packages installed here"


def _long_ago(folder: str) -> None:
    """Age the files: what changed within the last second is taken for a writer at work."""
    for name in os.listdir(folder):
        os.utime(os.path.join(folder, name), (0, 0))


def _step(text: str) -> None:
    print(f"\n--- {text}")


@contextmanager
def _shown(folder: str) -> Iterator[None]:
    """Print what the files in the folder became meanwhile."""
    before = _files(folder)
    yield
    after = _files(folder)
    for name in sorted(before | after):
        if name not in before:
            print(f"    on disk: {name} created, {after[name][0]} bytes")
        elif name not in after:
            print(f"    on disk: {name} gone")
        elif before[name] != after[name]:
            print(f"    on disk: {name} overwritten, {before[name][0]} -> {after[name][0]} bytes")


def _files(folder: str) -> dict[str, tuple[int, str]]:
    found = {}
    for name in os.listdir(folder):
        with open(os.path.join(folder, name), "rb") as file:
            content = file.read()
        found[name] = len(content), hashlib.sha256(content).hexdigest()
    return found


def _digest(path: str) -> None:
    with open(path, "rb") as file:
        content = file.read()
    print(f"$ head -c -{DIGEST_BYTES} {path} | sha256sum")
    print(hashlib.sha256(content[:-DIGEST_BYTES]).hexdigest(), " -")
    print(f"$ tail -c {DIGEST_BYTES} {path}")
    print(content[-DIGEST_BYTES:].decode().strip())
