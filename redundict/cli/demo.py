"""The main job, shown on real data in a temporary folder, with what happens on disk meanwhile."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from redundict import errors, loading, mapping, recovery, report
from redundict.engine.trailer import DIGEST_BYTES
from redundict.formats.resolve import resolve

from . import render


def run(file: str | None = None) -> None:
    """Commit, tear, load, heal and roll back; `file` is a JSON object to use as data."""
    data, source = _data(file)
    with tempfile.TemporaryDirectory(prefix="redundict-demo-") as folder:
        path = os.path.join(folder, "state.json")
        print(f"The data: {source}, {len(data)} entries. The store: {path}")
        _commit(path, data)
        _lose_a_copy(path)
        _lose_a_generation(path)
        _undo_a_mistake(path)


def _commit(path: str, data: dict[str, Any]) -> None:
    _step("Commit three generations of it. Each goes to one slot of copy A and one of copy B.")
    with mapping.RedunDict(path, keep=2) as state, _shown(path):
        state["data"], state["window"] = data, {"width": 640, "height": 480}
        state.sync()
        state["window"]["width"] = 800
        state.sync()
        state["window"]["width"] = 1024
        number = state.sync()
        print(f"sync() returned {number}; of the two generations kept, it replaced the older")
    _digest(f"{path}.a0")


def _lose_a_copy(path: str) -> None:
    _step("Tear the newest slot of copy A, as a power cut in the middle of a write does.")
    with _shown(path), open(f"{path}.a0", "r+b") as slot:
        slot.truncate(os.path.getsize(slot.name) // 2)
    _long_ago(path)
    print(render.report(report.check(path)))

    _step("Open it as a program would: the newest generation loads from copy B, copy A is healed.")
    with mapping.RedunDict(path, keep=2) as state, _shown(path):
        print(f"state.generation = {state.generation}, width = {state['window']['width']}")
        print(f"state.recovery: {state.recovery}")


def _lose_a_generation(path: str) -> None:
    _step("Destroy both copies of the newest generation: the one before it loads, and says so.")
    with _shown(path):
        for copy in "ab":
            with open(f"{path}.{copy}0", "r+b") as slot:
                slot.write(b"\0" * os.path.getsize(slot.name))
    _long_ago(path)
    print(render.report(report.check(path)))

    _step("Repair: damaged slots are put aside, the generation that loads is committed again.")
    with _shown(path):
        print(render.repaired(recovery.repair(path)))


def _undo_a_mistake(path: str) -> None:
    _step("Delete something by mistake, then roll back: the old content is a new generation.")
    with mapping.RedunDict(path, keep=2) as state:
        del state["data"]
    with _shown(path):
        number = recovery.rollback(path)
    print(f"generation {number} has {len(loading.load(path)['data'])} entries again")
    print(render.log(report.check(path), {}))


def _data(file: str | None) -> tuple[dict[str, Any], str]:
    if file is not None:
        try:
            with open(file, "rb") as opened:
                return resolve("json").decode(opened.read()), file
        except errors.FormatError as error:
            loading.complete(error, path=file)
            raise
        except OSError as error:
            raise errors.unreadable(error, file) from error
    packages: dict[str, Any] = {}
    for package in metadata.distributions():
        described = package.metadata.json if package.metadata else {}
        packages[str(described.get("name", "?"))] = json.loads(json.dumps(described, default=str))
    return packages, "the metadata of the Python packages installed here"


def _long_ago(path: str) -> None:
    """Age the files, since a change within the last second is taken for a writer at work."""
    for file in Path(path).parent.iterdir():
        os.utime(file, (0, 0))


def _step(text: str) -> None:
    print(f"\n--- {text}")


@contextmanager
def _shown(path: str) -> Iterator[None]:
    """Print how the files of the store change meanwhile."""
    before = _files(path)
    yield
    after = _files(path)
    for name in sorted(before | after):
        old, new = before.get(name, b""), after.get(name, b"")
        what = "gone" if name not in after else "overwritten" if name in before else "created"
        if old != new:
            print(f"    on disk: {name} {what}, {len(old)} -> {len(new)} bytes")


def _files(path: str) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in Path(path).parent.iterdir()}


def _digest(path: str) -> None:
    content = Path(path).read_bytes()
    print(f"$ head -c -{DIGEST_BYTES} {path} | sha256sum")
    print(hashlib.sha256(content[:-DIGEST_BYTES]).hexdigest(), " -")
    print(f"$ tail -c {DIGEST_BYTES} {path}")
    print(content[-DIGEST_BYTES:].decode().strip())
