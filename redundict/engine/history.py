"""Which old generation to give up, so that those that stay are spread out over time.

Autosave that wrote a bad state for an hour has overwritten every recent generation with it. Where
the kept generations are the last ones, the good state is gone; where their ages grow roughly by a
factor from each to the next (a minute, ten, an hour, a day), one of them is from before. Pure: ages
in, a number out. Knows no slots.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, Literal, get_args

History = Literal["recent", "thinned"]
RECENT: Final = "recent"  #: The last generations stay.
THINNED: Final = "thinned"  #: Generations stay that are spread out over time.
HISTORIES: Final[tuple[str, ...]] = get_args(History)
MIN_THINNED: Final = 4  #: The newest, the one before, the one at opening, and one from longer ago.
_INSTANT: Final = 1e-6  #: Seconds: no generation is younger, so that ages have ratios.


def give_up(ages: Mapping[int, float], pinned: Collection[int]) -> int | None:
    """Return the number of the generation to overwrite, None if all are pinned.

    `ages` are in seconds, by number. Each but the oldest stands for the span between its two
    neighbours; the one to give up is the one whose absence leaves the smallest factor between them.
    The oldest goes only if no other can, so the whole time is spanned. A clock that was set back
    does not matter: a generation counts as no younger than those after it.

    >>> give_up({9: 1, 8: 2, 5: 60, 4: 70, 1: 3600}, pinned={9})
    5
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
