#!/usr/bin/env python3
"""Feed the slot parser a million hostile inputs: random bytes, and real slots with parts changed.

    python scripts/fuzz.py --count 2000000

Nothing but `TrailerError` and `NewerVersion` may be raised. What is accepted is verified here once
more, with hashlib and a regular expression alone: the digest agrees, the payload is as long as the
trailer says, and nothing but newlines follows it. Some inputs are signed again after the change, so
that they get past the digest. No input may take longer than a second of processor time.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import random
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

sys.path.append(str(Path(__file__).resolve().parents[1]))

from redundict.engine import trailer

BAD: Final = ("accepted wrongly", "untyped", "too slow")
PATIENCE: Final = 1.0  #: Seconds of processor time for one input of a few kilobytes.
_TRAILER: Final = re.compile(
    rb"redundict 1 (?:[^ \n]+ )*?sha256=([0-9a-f]{64})\n\Z"
)  # the last line, once more


def slots() -> list[bytes]:
    """Return slots that verify: of every size of number, and of payloads that look like slots."""
    found: list[bytes] = []
    payloads = [b"", b"{}", b'{"a":1}' * 50, b"\n" * 9, b"\0" * 300, bytes(range(256)) * 20]
    for generation in (1, 9, 10**17, trailer.MAX_GENERATION):
        for payload in [*payloads, *found[:1]]:
            _, ending = trailer.seal(
                payload,
                generation=generation,
                format="json",
                parent=trailer.NO_PARENT,
                copies=2,
                keep=2,
            )
            found.append(payload + ending)
    return found


FIELDS: Final = (b"generation", b"length", b"format", b"written", b"parent", b"copies", b"keep")
NUMBERS: Final = (b"generation", b"length", b"copies", b"keep")
VALUES: Final = (
    *(b"0", b"1", b"-1", b"+1", b"01", b"1e3", b"nan", b"", b"\xd9\xa3", b"json", b"0" * 16),
    *(b"18446744073709551616", b"1152921504606846976", b"2026-13-45T99:99:99.999999Z"),
)


class Mutator:
    """Yields hostile inputs for ever."""

    def __init__(self, rng: random.Random, originals: list[bytes]) -> None:
        self.rng = rng
        self.originals = originals
        self._edits = (self._flip, self._replace, self._splice, self._cut, self._edit, self._edit)

    def __iter__(self) -> Iterator[bytes]:
        while True:
            yield self._noise() if self.rng.random() < 1 / 8 else self._mutant()

    def _noise(self) -> bytes:
        return self.rng.randbytes(self.rng.randrange(self.rng.choice((4, 600, 6000))))

    def _mutant(self) -> bytes:
        slot = bytearray(self.rng.choice(self.originals))
        for _ in range(self.rng.choice((1, 1, 1, 2, 3))):
            self.rng.choice(self._edits)(slot)
        if self.rng.random() < 1 / 3:
            slot[-65:] = hashlib.sha256(slot[:-65]).hexdigest().encode() + b"\n"
        return bytes(slot)

    def _near_end(self, slot: bytearray) -> int:
        reach = self.rng.choice((70, 300, 600, len(slot) + 1))
        return max(0, len(slot) - 1 - self.rng.randrange(reach))

    def _flip(self, slot: bytearray) -> None:
        for _ in range(self.rng.choice((1, 1, 2, 8)) if slot else 0):
            slot[self._near_end(slot)] ^= 1 << self.rng.randrange(8)

    def _replace(self, slot: bytearray) -> None:
        at = self._near_end(slot)
        slot[at : at + self.rng.randrange(64)] = self.rng.randbytes(self.rng.randrange(64))

    def _splice(self, slot: bytearray) -> None:
        other = self.rng.choice(self.originals)
        at = self._near_end(slot)
        slot[at:] = other[max(0, len(other) - len(slot) + at) :]

    def _cut(self, slot: bytearray) -> None:
        del slot[self._near_end(slot) :]

    def _edit(self, slot: bytearray) -> None:
        name = self.rng.choice(FIELDS)
        at = slot.rfind(name + b"=")
        end = slot.find(b" ", at)
        if at >= 0 and end >= 0:
            slot[at:end] = self.rng.choice((b"", name + b"=", name + b"=")) + self.rng.choice(
                VALUES
            )


def judge(slot: bytes) -> str:
    """Return how the parser takes an input: `rejected`, `accepted`, or what is wrong with that."""
    signed = hashlib.sha256(slot[:-65]).hexdigest().encode() + b"\n" == slot[-65:]
    try:
        trailer.parse(slot[-trailer.TAIL :], len(slot))
    except (trailer.TrailerError, trailer.NewerVersion):
        pass
    except Exception as error:  # noqa: BLE001 - of whatever type: it is what is looked for
        return f"untyped: {error!r} from parse"
    try:
        verified = trailer.verify(slot)
    except trailer.TrailerError:
        return "rejected"
    except trailer.NewerVersion:
        return "rejected" if signed else "accepted wrongly: a version without a digest"
    except Exception as error:  # noqa: BLE001
        return f"untyped: {error!r} from verify"
    return "accepted" if signed and is_as_it_says(slot, verified) else "accepted wrongly"


def is_as_it_says(slot: bytes, verified: trailer.Verified) -> bool:
    """Tell whether a slot is what the parser made of it."""
    line = slot[slot.rfind(b"\n", 0, -1) + 1 :]
    pairs = re.findall(rb" ([^ =\n]+)=([^ \n]*)", line)
    said = dict(pairs)
    length = int(said[b"length"])
    plain = all(said[name] == b"%d" % int(said[name]) for name in NUMBERS)
    return (
        _TRAILER.match(line) is not None
        and len(said) == len(pairs)
        and plain
        and verified.payload == slot[:length]
        and not slot[length : len(slot) - len(line)].strip(b"\n")
        and verified.trailer.generation == int(said[b"generation"]) > 0
        and verified.payload_digest == hashlib.sha256(slot[:length]).digest()
    )


def run(count: int, *, seed: int, tick: Callable[[], object] = lambda: None) -> dict[str, int]:
    """Try `count` inputs; return how many, what went wrong, and how many were accepted rightly."""
    counts = {"inputs": 0, **dict.fromkeys(BAD, 0), "accepted": 0, "rejected": 0}
    hostile = iter(Mutator(random.Random(seed), slots()))  # noqa: S311 - to be repeated, not secret
    for slot in itertools.islice(hostile, count):
        started = time.process_time()
        verdict, _, what = judge(slot).partition(":")
        if verdict not in BAD and time.process_time() - started > PATIENCE:
            verdict = "too slow"
        counts[verdict] += 1
        if verdict in BAD:
            print(f"input {counts['inputs']} of seed {seed}: {what}: {slot!r}", file=sys.stderr)
        counts["inputs"] += 1
        tick()
    return counts


def main() -> int:
    """Try the inputs with a progress bar, print the counts; return 1 if anything went wrong."""
    from rich.console import Console  # noqa: PLC0415 - `run` is used without it
    from rich.progress import Progress  # noqa: PLC0415

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=1_000_000, help="how many (1000000)")
    parser.add_argument("--seed", type=int, default=0, help="to repeat a run (0)")
    args = parser.parse_args()
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("hostile bytes", total=args.count)
        counts = run(args.count, seed=args.seed, tick=lambda: progress.advance(task))
    for name, number in counts.items():
        print(f"{name}: {number}")
    return int(any(counts[bad] for bad in BAD))


if __name__ == "__main__":
    sys.exit(main())
