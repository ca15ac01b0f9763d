"""How `bench.py` measures: paired rounds of calls, over states of given sizes.

Every round makes each call once, in random order, so that what the machine does meanwhile meets all
alike; medians count, and ratios of medians.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

PATIENCE: Final = 2.0  #: Seconds after which a call that is slow has had rounds enough.
ENOUGH: Final = 3  #: Rounds that even the slowest gets.
State = dict[str, Any]
Times = dict[str, list[float]]  #: Seconds, by name.


def rounds(
    calls: Mapping[str, Callable[[], object]],
    count: int,
    rng: random.Random,
    prepare: Callable[[str], object] = lambda _: None,
) -> Times:
    """Make every call so often, in random order, and return how long each took.

    `prepare` is told the name of a call before each, outside of its time.
    """
    times: Times = {name: [] for name in calls}
    for _ in range(count):
        for name in rng.sample(list(calls), len(calls)):
            if sum(times[name]) > PATIENCE and len(times[name]) >= ENOUGH:
                continue
            prepare(name)
            began = time.perf_counter()
            calls[name]()
            times[name].append(time.perf_counter() - began)
    return times


def median(times: list[float]) -> float:
    """Return the median in milliseconds."""
    return statistics.median(times) * 1e3


def records(count: int) -> State:
    """Return records of some 100 bytes, ten values in each: what costs an encoder most per byte."""
    return {
        f"item{n:07}": {
            "name": f"thing number {n}",
            "at": [n % 640, n * 1.5],
            "seen": n % 3 == 0,
            "tags": ["a", "b", str(n)],
        }
        for n in range(count)
    }


def messages(count: int) -> State:
    """Return records of some 450 bytes, most of it text."""
    text = "what somebody wrote to somebody else, and got an answer to "
    return {f"item{n:07}": {"at": n * 1.5, "text": f"{n}: {text * 7}"} for n in range(count)}


SHAPES: Final = {"records": (records, 104), "messages": (messages, 467)}  #: And bytes per item.


def state_of(size: int, shape: str = "records") -> State:
    """Return a state of about `size` bytes of JSON."""
    make, each = SHAPES[shape]
    return make(max(1, size // each))
