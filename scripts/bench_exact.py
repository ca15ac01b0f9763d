"""What `bench.py` counts, or measures once: flushes, bytes, memory, start-up, get and set.

Each is found out in a process of its own, so that no contestant's libraries weigh on another.
"""

from __future__ import annotations

import functools
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from bench_rounds import median, rounds
from contestants import Contestant, Redundict

CHECKOUT: Final = Path(__file__).resolve().parents[1]
CALLS: Final = "write,pwrite64,writev,pwritev,fsync,fdatasync,msync,sync_file_range,rename"
SYNCS: Final = ("fsync", "fdatasync", "msync")
BEGIN: Final = """
import sys; sys.path.insert(0, sys.argv[1])
import bench_rounds, contestants, os
kind = next(k for k in contestants.CONTESTANTS if k.__name__ == sys.argv[2])
state = bench_rounds.state_of(int(sys.argv[4])); c = kind(sys.argv[3])
"""
SAVES: Final = """
for n in range(5): c.save({**state, 'n': n})
os.write(2, b'=begin=')
for n in range(10): c.save({**state, 'n': 100 + n})
os.write(2, b'=end='); os._exit(0)
"""
# Not getrusage(2): what that calls the peak may be the parent's, from before the exec.
PEAK: Final = """
def status(name):
    line = next(line for line in open('/proc/self/status') if line.startswith(name))
    return int(line.split()[1]) * 1024
c.save({'warm': 'up'}); c.take(state)
open('/proc/self/clear_refs', 'w').write('5')  # the peak begins anew, see proc(5)
before = status('VmRSS:'); c.save_taken(state)
print(status('VmHWM:') - before); sys.stdout.flush(); os._exit(0)
"""


def flushes(kind: type[Contestant], folder: str) -> tuple[float, float]:
    """Return the flushes and the KB written per save of 20 KB, counted by strace."""
    with tempfile.TemporaryDirectory(dir=folder) as there:
        trace = os.path.join(there, "trace")
        strace = ["strace", "-f", "-o", trace, "-e", f"trace={CALLS}"]
        _run(*strace, *_program(BEGIN + SAVES, kind, there, 20_000))
        text = Path(trace).read_text().split("=begin=")[1].split("=end=")[0]
    lines = [line.split(None, 1)[1] for line in text.splitlines() if " " in line]
    synced = sum(line.startswith(SYNCS) for line in lines)
    ends = [line.rpartition("= ")[2] for line in lines if "write" in line.partition("(")[0]]
    return synced / 10, sum(int(end) for end in ends if end.isdigit()) / 10 / 1e3


def peak(kind: type[Contestant], folder: str, size: int) -> float:
    """Return how many bytes a save of `size` needs at its peak, above the state itself."""
    with tempfile.TemporaryDirectory(dir=folder) as there:
        return float(_run(*_program(BEGIN + PEAK, kind, there, size)))


def starting(*programs: str) -> list[float]:
    """Return the median seconds that Python takes for each program, in paired rounds."""
    calls = {
        program: functools.partial(_run, sys.executable, *program.split("|"))
        for program in programs
    }
    times = rounds(calls, 25, random.Random(0))  # noqa: S311 - an order
    return [statistics.median(times[program]) for program in programs]


def items(count: int = 200_000) -> float:
    """Return what setting and getting costs, against a subclass of dict that adds nothing."""

    class Plain(dict[Any, Any]):
        """Nothing."""

    def use(mapping: dict[Any, Any]) -> None:
        for n in range(count):
            mapping["key"] = n
            mapping["key"]

    with tempfile.TemporaryDirectory() as folder:
        ours, plain = Redundict(folder), Plain()
        calls = {"ours": lambda: use(ours.state), "plain": lambda: use(plain)}
        times = rounds(calls, 15, random.Random(0))  # noqa: S311 - an order
        ours.close()
    return median(times["ours"]) / median(times["plain"])


def counts(kinds: list[type[Contestant]], folder: str) -> str:
    """Return the table of what each contestant does for a save, and needs for it."""
    if not shutil.which("strace"):
        return "(flushes and bytes are counted by strace, which is not installed)"
    size = 10_000_000
    lines = [
        "| a save | sync calls, of 20 KB | KB written, of 20 KB | MB of memory, of 10 MB |",
        "|---|--:|--:|--:|",
    ]
    for kind in kinds:
        synced, written = flushes(kind, folder)
        memory = peak(kind, folder, size) / 1e6
        lines.append(f"| {kind.name} | {synced:.1f} | {written:.1f} | {memory:.0f} |")
    return "\n".join(lines)


def _program(program: str, kind: type[Contestant], folder: str, size: int) -> list[str]:
    scripts = str(Path(__file__).parent)
    return [sys.executable, "-c", program, scripts, kind.__name__, folder, str(size)]


def _run(*command: str) -> str:
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=CHECKOUT)  # noqa: S603 - our own
    return done.stdout
