"""The tables of `bench.py`: medians, sizes at which two programs cost the same, and bounds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench_rounds import Times, median
from contestants import (
    Contestant,
    DurableRecipe,
    FastOnTwoDisks,
    FastRecipe,
    FastRedundict,
    OnTwoDisks,
    Redundict,
)
from plot import Series, svg

Found = dict[int, dict[str, Times]]  #: Times by size (bytes) and work.
Row = tuple[str, float, float]  #: What is promised, the ratio that was measured, and its bound.
WORKS: Final = ("save", "change", "no change", "load")
PAIRS: Final = ((Redundict, DurableRecipe), (FastRedundict, FastRecipe))
ON_TWO_DISKS: Final = ((OnTwoDisks, DurableRecipe), (FastOnTwoDisks, FastRecipe))
FLUSH: Final = "one flush"
FLOOR: Final = "floor"
SLOW: Final = 3.0  #: Milliseconds from which a flush is a slow one, with bounds of its own.


def costs(found: Found, work: str, name: str) -> dict[int, float]:
    """Return one contestant's medians in milliseconds, by size."""
    return {size: median(t[work][name]) for size, t in found.items() if name in t[work]}


def crossover(ours: dict[int, float], theirs: dict[int, float]) -> float | None:
    """Return the size up to which our cost is the lower one; None if it never is.

    Between two sizes, both costs are taken for straight lines on logarithmic scales; infinity if
    ours is the lower one at every size.
    """
    before = None
    for size in sorted(ours.keys() & theirs.keys()):
        ratio = ours[size] / theirs[size]
        if ratio > 1:
            if before is None:
                return None
            smaller, lower = before
            part = math.log(1 / lower) / math.log(ratio / lower)
            return float(smaller * (size / smaller) ** part)
        before = size, ratio
    return float("inf")


def shown(size: float) -> str:
    """Return a number of bytes as a person says it."""
    if size == float("inf"):
        return "every size measured"
    for unit, name in ((1e6, "MB"), (1e3, "KB")):
        if size >= unit:
            return f"{size / unit:.3g} {name}"
    return f"{size:.0f} B"


def milliseconds(time: float) -> str:
    """Return a time with three digits that count.

    >>> milliseconds(0.4567), milliseconds(45.67), milliseconds(4567.0)
    ('0.457', '45.7', '4,567')
    """
    return f"{time:,.0f}" if time >= 1000 else f"{time:.3g}"


def report(found: Found, kinds: list[type[Contestant]]) -> str:
    """Return every table, in Markdown."""
    parts = [_table(work, found, kinds) for work in WORKS]
    parts += [_crossovers(found, kinds), met(list(bounds(found, kinds)))]
    return "\n\n".join(parts)


def met(rows: list[Row]) -> str:
    """Return the table of bounds, and whether they are met."""
    lines = ["| bound | measured | at most | met |", "|---|--:|--:|---|"]
    for name, ratio, limit in rows:
        lines.append(f"| {name} | {ratio:.2f} | {limit} | {'yes' if ratio <= limit else 'no'} |")
    return "\n".join(lines)


def plots(found: Found, kinds: list[type[Contestant]], folder: str, suffix: str = "") -> None:
    """Write one picture of the cost against the size for each of two works."""
    for work, title in (("save", "Saving the whole state"), ("change", "Changing one key")):
        series = [
            Series(kind.name, costs(found, work, kind.name), dashed=not kind.durable)
            for kind in kinds
        ]
        text = svg(f"{title}, in milliseconds (dashed: does not sync)", series, shown)
        Path(folder, f"bench_{work}{suffix}.svg").write_text(text)


def bounds(found: Found, kinds: list[type[Contestant]]) -> Iterator[Row]:
    """Yield each bound with the ratio that was measured."""
    is_slow = costs(found, "save", FLUSH)[min(found)] > SLOW
    for size, works in found.items():
        ms = {name: median(times) for name, times in works["save"].items()}
        if is_slow:
            yield from _with_slow_flush(size, ms)
            continue
        yield from _saves(size, ms)
        yield from _against_peers(size, ms, kinds)
        yield from _not_saves(size, works)
    if not is_slow:
        yield from _flatness(found)


def _with_slow_flush(size: int, ms: dict[str, float]) -> Iterator[Row]:
    if size > 20_000:
        return
    for ours, recipe in PAIRS + ON_TWO_DISKS:
        if ours.name in ms and recipe.name in ms:
            label = f"save of {shown(size)}, {ours.name}"
            yield f"{label} / one flush", ms[ours.name] / ms[FLUSH], 1.15
            yield f"{label} / {recipe.name}", ms[ours.name] / ms[recipe.name], 0.5


def _saves(size: int, ms: dict[str, float]) -> Iterator[Row]:
    label, parts = f"save of {shown(size)}", ms["check"] + ms["json.dumps"] + ms["sha256"]
    ratio = {
        ours: ms[ours.name] / ms[recipe.name]
        for ours, recipe in PAIRS
        if ours.name in ms and recipe.name in ms
    }
    if size <= 200_000:
        if Redundict in ratio:
            limit = 0.75 if size <= 20_000 else 1.0
            yield f"{label} / {DurableRecipe.name}", ratio[Redundict], limit
        whole = ms[Redundict.name] / (parts + ms[FLOOR])
        yield f"{label} / (check + dumps + digest + floor)", whole, 1.3
        if FastRedundict in ratio:
            yield f"{label} / {FastRecipe.name}", ratio[FastRedundict], 0.75
    elif size >= 10_000_000 and FastRedundict in ratio:
        yield f"{label} / {FastRecipe.name}", ratio[FastRedundict], 1.0
        encoded, slowest = ms["orjson.dumps"], max(ms["sha256"], ms[FLOOR])
        ours = ms[FastRedundict.name]
        yield f"{label} / (orjson + the larger of digest, floor)", ours / (encoded + slowest), 1.25
        whole = ms["check"] + encoded + slowest
        yield f"{label} / (check + orjson + the larger of digest, floor)", ours / whole, 1.25


def _against_peers(size: int, ms: dict[str, float], kinds: list[type[Contestant]]) -> Iterator[Row]:
    """Compare with the fastest peer that syncs; the recipes have bounds of their own."""
    own = (Redundict, DurableRecipe)
    peers = [k.name for k in kinds if k.durable and not issubclass(k, own) and k.name in ms]
    if peers:
        fastest = min(peers, key=lambda name: ms[name])
        ours = min(ms[kind.name] for kind in (Redundict, FastRedundict) if kind.name in ms)
        yield f"save of {shown(size)} / the fastest peer, {fastest}", ours / ms[fastest], 1.0


def _not_saves(size: int, works: dict[str, Times]) -> Iterator[Row]:
    ms = {name: median(times) for name, times in works["no change"].items()}
    parts = ms["check"] + ms["json.dumps"] + ms["sha256"]
    ratio = ms[Redundict.name] / parts
    yield f"no change in {shown(size)} / (check + dumps + digest)", ratio, 1.1
    loads = {name: median(times) for name, times in works["load"].items()}
    ratio = loads[Redundict.name] / loads["read + digest + json.loads"]
    yield f"load of {shown(size)} / (read + digest + parse)", ratio, 1.1


def _flatness(found: Found) -> Iterator[Row]:
    for kind in (Redundict, FastRedundict):
        per_byte = [ms / s for s, ms in costs(found, "save", kind.name).items() if s >= 200_000]
        if len(per_byte) > 1:
            label = f"save, {kind.name}: most per byte / least, from 200 KB on"
            yield label, max(per_byte) / min(per_byte), 1.3


def _table(work: str, found: Found, kinds: list[type[Contestant]]) -> str:
    """Return the medians of one work, in milliseconds."""
    sizes = list(found)
    unsafe = {kind.name for kind in kinds if not kind.durable}
    names = dict.fromkeys(name for size in sizes for name in found[size][work])
    rows = [f"| {work}, ms | {' | '.join(shown(size) for size in sizes)} |"]
    rows.append("|---|" + "--:|" * len(sizes))
    for name in names:
        times = [found[size][work].get(name) for size in sizes]
        cells = [milliseconds(median(t)) if t else "" for t in times]
        mark = " (does not sync)" if name in unsafe else ""
        rows.append(f"| {name}{mark} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _crossovers(found: Found, kinds: list[type[Contestant]]) -> str:
    """Return up to which size a commit of the whole state beats each peer's of one key."""
    lines = ["| one key changed: redundict is ahead of | up to |", "|---|---|"]
    ours = costs(found, "change", FastRedundict.name) or costs(found, "change", Redundict.name)
    for kind in kinds:
        if not issubclass(kind, Redundict):
            size = crossover(ours, costs(found, "change", kind.name))
            mark = "" if kind.durable else " (does not sync)"
            lines.append(f"| {kind.name}{mark} | {'no size' if size is None else shown(size)} |")
    return "\n".join(lines)
