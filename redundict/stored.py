"""What the dict asks of a store: the seam between `mapping` and `engine`. Does nothing itself."""

from __future__ import annotations

from typing import Protocol

from .engine.newest import Loaded
from .engine.slots import Generation
from .engine.store import Outcome
from .engine.writes import Healed


class Stored(Protocol):
    """A store as bytes; `engine.store.Store` is one, and says more about each method.

    One thread at a time may call it.
    """

    generation: int
    digest: str

    def acquire(self, timeout: float) -> None:
        """Take the lock, if it is not held."""

    def read(self, generation: int | None = None) -> Loaded:
        """Return the newest generation, or `generation`; change nothing."""
        ...

    def heal(self, found: Loaded) -> tuple[Loaded, Healed | None]:
        """Stand on what was read; with the lock, repair its copies."""
        ...

    def commit(self, payload: bytes, format: str, *, even_if_unchanged: bool = False) -> Outcome:
        """Write the next generation."""
        ...

    def is_committed(self, payload: bytes, format: str) -> bool:
        """Tell whether this payload is what was last loaded or committed."""
        ...

    def is_complete(self) -> bool:
        """Tell whether every copy of the newest generation is durable."""
        ...

    def forget_content(self) -> None:
        """Let the next commit write, whatever its payload."""

    def has_changed(self) -> bool:
        """Tell whether another process has committed since."""
        ...

    def generations(self) -> list[Generation]:
        """Return the generations that load, newest first."""
        ...

    def is_held(self) -> bool:
        """Tell whether the lock is held."""
        ...

    def refuse_in_child(self) -> None:
        """Raise `TransactionError` in a child of the process that opened the store."""

    def begin_as_child(self) -> None:
        """Leave the lock to the parent process, in a child of fork."""

    def release(self) -> None:
        """Let go of the lock."""
