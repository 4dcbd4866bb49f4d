"""The fault state: what brings a fault on, and what ends it (G3, G8)."""

from enum import Enum

LATCH_AFTER = 3
CLEAR_AFTER = 10


class Fault(Enum):
    """
    Whether policy commands are withheld for what came before them.

    NONE: they pass. TRANSIENT: until ten good ones came in a row. LATCHED: until a reset.
    """

    NONE = 'none'
    TRANSIENT = 'transient'
    LATCHED = 'latched'


class Faults:
    """
    The state machine of faults; every policy command is one event of it.

    Only a good command ends a row of invalid ones, and only good ones in a row clear a
    transient fault: a command that is stale or from the future says nothing for the policy.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """End any fault, on someone's word."""
        self.state = Fault.NONE
        self._invalid = 0
        self._good = 0

    def note_invalid(self) -> None:
        """Note a command that is not finite."""
        self._invalid += 1
        self._good = 0
        if self.state is not Fault.LATCHED:
            self.state = Fault.LATCHED if self._invalid >= LATCH_AFTER else Fault.TRANSIENT

    def note_unusable(self) -> None:
        """Note a command that is finite, but too old or from the future."""
        self._good = 0

    def note_good(self) -> None:
        """Note a command that could have been passed on; the tenth clears a transient fault."""
        self._invalid = 0
        self._good += 1
        if self.state is Fault.TRANSIENT and self._good >= CLEAR_AFTER:
            self.state = Fault.NONE
