"""The history: choose the generation to overwrite so that the others are spread out over time.

An application may save a bad state for an hour. If the kept generations are simply the last ones,
all of them are bad then. If their ages grow by a factor (a minute, ten minutes, an hour, a day),
one of them is older than the fault. This module is pure: it takes ages and returns a number. It
must not know slots.

Invariant: a pinned generation is never chosen.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, Literal, get_args

History = Literal["recent", "thinned"]
RECENT: Final = "recent"  #: Keep the last generations.
THINNED: Final = "thinned"  #: Keep generations that are spread out over time.
HISTORIES: Final[tuple[str, ...]] = get_args(History)
MIN_THINNED: Final = 4  #: The newest, the one before it, the one at opening, one older.
_INSTANT: Final = 1e-6  #: The smallest age in seconds; not 0, so ages have ratios.


def give_up(ages: Mapping[int, float], pinned: Collection[int]) -> int | None:
    """Return the number of the generation to overwrite.

    Each generation lies between a newer and an older one. Compare the ages of these two neighbours:
    choose the generation with the smallest factor between them, because its absence leaves the
    smallest gap. The oldest is chosen only if all between it and the newest are pinned, so the
    history keeps its full length. A clock that was set back does no harm: a generation counts as
    at least as old as every newer one.

    >>> give_up({9: 1, 8: 2, 5: 60, 4: 70, 1: 3600}, pinned={9})
    5

    Args:
        ages: The age of each generation in seconds, by its number.
        pinned: The numbers that must stay.

    Returns:
        The number; None if all are pinned.

    """
    numbers = sorted(ages, reverse=True)
    spread, oldest = [], _INSTANT
    for number in numbers:
        oldest = max(oldest, ages[number])
        spread.append(oldest)
    factors = {
        numbers[i]: spread[i + 1] / spread[i - 1]
        for i in range(1, len(numbers) - 1)
        if numbers[i] not in pinned
    }
    if factors:
        return min(factors, key=lambda number: (factors[number], number))
    return next((number for number in reversed(numbers) if number not in pinned), None)
