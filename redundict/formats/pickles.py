"""Store a dict as a pickle. To load a pickle runs code, so a caller must name this format.

No other module of the package unpickles anything.
"""

from __future__ import annotations

import pickle

from redundict import errors

from .refusals import ROOT, State, as_state, described, refuse_first, undecodable, unstorable
from .snapshots import undisturbed


class PickleFormat:
    """Pickle: any state that pickles."""

    name = "pickle"

    def encode(self, state: State) -> bytes:
        """Return the payload; see `Format.encode`."""
        return undisturbed(state, self._encode)

    def _encode(self, state: State) -> bytes:
        try:
            return pickle.dumps(state, pickle.HIGHEST_PROTOCOL)
        except Exception as error:
            # A __reduce__ may raise anything. In any case the state cannot be stored.
            refuse_first(state, self.name, _objection)
            raise unstorable(ROOT, f"{error}", self.name) from error

    def decode(self, payload: bytes) -> State:
        """Return the state; see `Format.decode`. This runs the code that the pickle names."""
        try:
            return as_state(pickle.loads(payload), self.name)  # noqa: S301 - The caller named pickle.
        except errors.FormatError:
            raise
        except Exception as error:
            # Unpickling may raise anything; pickle's documentation names only examples.
            raise undecodable(self.name, error) from error


def _objection(value: object) -> str:
    if type(value) in (dict, list, tuple):
        return ""  # An item in it may be at fault, and comes next.
    try:
        pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # noqa: BLE001 - A __reduce__ may raise anything.
        return f"{described(value)}: {error}"
    return ""
