"""What a sync costs, counted in system calls by strace."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import Counter

import pytest

pytestmark = [
    pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed"),
    pytest.mark.skipif(sys.platform != "linux", reason="strace is Linux's"),
]

PROGRAM = """
import os, sys, redundict
def mark(text): os.write(2, text.encode())  # shows in the trace
state = redundict.open(sys.argv[1], copies=int(sys.argv[2]), keep=2)
for number in range(4):
    state["n"] = number
    state.sync()
mark("=begin=")
for number in range(10):
    state["n"] = 100 + number
    state.sync()
mark("=unchanged=")
state.sync()
mark("=end=")
"""
CALLS = "write,pwrite64,writev,fsync,fdatasync,sync,syncfs,rename,renameat,renameat2,unlink,"
CALLS += "openat,ftruncate,link,linkat,mkdir,sync_file_range,msync"


def traced(path: str, copies: int) -> tuple[str, str]:
    """Return the trace of ten syncs in the steady state, and that of one without a change."""
    trace = path + ".trace"
    command = [sys.executable, "-c", PROGRAM, path, str(copies)]
    done = subprocess.run(
        ["strace", "-f", "-y", "-o", trace, "-e", f"trace={CALLS}", *command],
        capture_output=True,
        text=True,
        check=False,
    )
    if "PTRACE_TRACEME" in done.stderr or "ptrace" in done.stderr.lower():
        pytest.skip("strace may not trace here")
    assert done.returncode == 0, done.stderr
    with open(trace) as file:
        text = file.read()
    ten, _, rest = text.split("=begin=")[1].partition("=unchanged=")
    return ten, rest.partition("=end=")[0]


@pytest.mark.parametrize("copies", [1, 2, 3])
def test_a_sync_in_the_steady_state_is_one_data_sync_per_copy(path: str, copies: int) -> None:
    """No rename, no directory sync, no size change, and no file but the store's slots."""
    ten, none = traced(path, copies)
    calls = Counter(re.findall(r"^\d+ +(\w+)\(", ten, re.MULTILINE))
    del calls["write"]  # the marks are writes as well; below, those to slots are counted
    opened = re.findall(r'openat\(.*?"([^"]+)"', ten)
    assert calls == {
        "fdatasync": 10 * copies,
        "openat": len(opened),
    }
    assert {name[len(path) :] for name in opened} == {
        f".{copy}{index}" for copy in "abc"[:copies] for index in range(2)
    }
    assert len(re.findall(rf"write\(\d+<{re.escape(path)}\.[abc][01]>", ten)) == 10 * copies
    assert not re.findall(r"(sync|openat|state)", none)
