"""The fault state: what causes a fault, and what ends it (G3, G8, G11)."""

from enum import Enum

LATCH_AFTER = 3
CLEAR_AFTER = 10


class Fault(Enum):
    """
    Whether policy commands are withheld because of earlier ones.

    NONE: they pass. TRANSIENT: until ten good ones arrive in a row. LATCHED: until a reset.
    CONTESTED: until a reset, as they came from more than one source.
    """

    NONE = 'none'
    TRANSIENT = 'transient'
    LATCHED = 'latched'
    CONTESTED = 'contested'

    @property
    def needs_reset(self) -> bool:
        """Return whether only a reset ends it."""
        return self in (Fault.LATCHED, Fault.CONTESTED)


class Faults:
    """
    The state machine of faults; every policy command is one event of it.

    Only a good command ends a row of invalid ones, and only good ones in a row clear a
    transient fault: a command that is stale or from the future proves nothing about the policy.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """End any fault, on request."""
        self.state = Fault.NONE
        self._invalid = 0
        self._good = 0

    def note_invalid(self) -> None:
        """Count a command that is not finite."""
        self._invalid += 1
        self._good = 0
        if not self.state.needs_reset:
            self.state = Fault.LATCHED if self._invalid >= LATCH_AFTER else Fault.TRANSIENT

    def note_contested(self) -> None:
        """Register that more than one source sends; it ends no fault if one of them leaves."""
        # Nobody here knows whether the right one has left.
        if not self.state.needs_reset:
            self.state = Fault.CONTESTED

    def note_unusable(self) -> None:
        """Count a command that is finite, but too old or from the future."""
        self._good = 0

    def note_good(self) -> None:
        """Count a command that could be passed on; the tenth in a row clears a transient fault."""
        self._invalid = 0
        self._good += 1
        if self.state is Fault.TRANSIENT and self._good >= CLEAR_AFTER:
            self.state = Fault.NONE
