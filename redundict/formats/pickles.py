"""Store a dict as a pickle. To load a pickle runs code, so a caller must name this format.

No other module of the package unpickles anything.
"""

from __future__ import annotations

import pickle

from redundict import errors

from .refusals import State, as_state, reraise_foreign, undecodable, unencodable
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
            reraise_foreign(error)
            raise unencodable(state, self.name, error, pickle.dumps) from error

    def decode(self, payload: bytes) -> State:
        """Return the state; see `Format.decode`. This runs the code that the pickle names."""
        try:
            return as_state(pickle.loads(payload), self.name)  # noqa: S301 - The caller named pickle.
        except errors.FormatError:
            raise
        except Exception as error:
            # Unpickling may raise anything; pickle's documentation names only examples.
            reraise_foreign(error)
            raise undecodable(self.name, error) from error
