"""The interface between the dict and its store.

`mapping`, `transactions` and `lifetime` use a store only through the Protocol `Stored`. It has no
code of its own. `engine.store.Store` implements it, and documents each method in full.
"""

from __future__ import annotations

from typing import Protocol

from .engine.newest import Loaded
from .engine.slots import Generation
from .engine.store import Outcome
from .engine.writes import Healed


class Stored(Protocol):
    """A store as bytes. Only one thread may call it at a time.

    Attributes:
        generation: The number that was last loaded or committed; 0 before the first.
        digest: The digest of that generation; '' before the first.

    """

    generation: int
    digest: str

    @property
    def length(self) -> int:
        """The bytes of the payload that was last loaded or committed; 0 if they are not known."""
        ...

    def acquire(self, timeout: float) -> None:
        """Take the lock if it is not held; wait at most `timeout` seconds."""

    def read(self, generation: int | None = None, *, anew: bool = False) -> Loaded:
        """Load the newest generation, or `generation`; change nothing."""
        ...

    def heal(self, found: Loaded) -> tuple[Loaded, Healed | None]:
        """Adopt the generation that was read; if the lock is held, heal its copies."""
        ...

    def commit(
        self, payload: bytes, format: str, *, even_if_unchanged: bool = False, spare: int = 0
    ) -> Outcome:
        """Write the next generation; return when it is durable in at least one copy.

        Args:
            payload: The encoded state.
            format: The name of its format.
            even_if_unchanged: Write the payload even if it was last loaded or committed.
            spare: The number of a generation to overwrite only if there is no other.

        """
        ...

    def is_committed(self, payload: bytes, format: str) -> bool:
        """Return True if this payload was last loaded or committed."""
        ...

    def is_complete(self) -> bool:
        """Return True if every copy of the newest generation is known to be durable."""
        ...

    def is_kept(self) -> bool:
        """Return True if no slot lost the newest generation, or a newer one was committed."""
        ...

    def forget_content(self) -> None:
        """Make the next commit write its payload even if it is unchanged."""

    def has_changed(self) -> bool:
        """Return True if another process has committed since the last load or commit."""
        ...

    def generations(self) -> list[Generation]:
        """Return the generations that load, newest first."""
        ...

    def is_held(self) -> bool:
        """Return True if the lock is held."""
        ...

    def is_inherited(self) -> bool:
        """Return True in a fork of the process that opened the store."""
        ...

    def refuse_in_child(self) -> None:
        """Raise `TransactionError` in a fork of the process that opened the store."""

    def begin_as_child(self) -> None:
        """Leave the lock to the parent process, in a child of fork."""

    def release(self) -> None:
        """Release the lock; do nothing if it is not held."""

    def abandon(self) -> None:
        """Release the lock after a failed opening, and leave no lock file behind."""
