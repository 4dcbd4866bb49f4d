"""From how many publishers the messages of a topic come (G11, G12)."""


class Sources:
    """
    Tells the publishers of a topic apart by the sequence numbers of their messages.

    rclpy does not say which publisher a message is from, but it does say which number the message
    has among all messages of its publisher. The numbers of one publisher only grow, so a number
    that does not is another publisher's. Messages may be lost, but not change places. A few
    entries, one for each publisher, are all that is stored.
    """

    def __init__(self) -> None:
        self._heard: list[tuple[int, float]] = []

    def hear(self, number: int | None, now: float, memory: float) -> int:
        """
        Register a message, and return from how many publishers there were some recently.

        :param number: The message's sequence number; None if the middleware has none, in which
            case all messages count as those of one publisher.
        :param now: Steady time [s].
        :param memory: For how long a publisher that is silent counts [s].
        """
        self.leave(number, now, memory)
        self._heard.append((-1 if number is None else number, now))
        return len(self._heard)

    def leave(self, number: int | None, now: float, memory: float) -> None:
        """Forget the publisher of this message, the last that it sends for now."""
        self._heard = [one for one in self._heard if now - one[1] <= memory]
        if number is None:
            self._heard = []
        elif earlier := [one for one in self._heard if one[0] < number]:
            # Of several publishers that it may be from, the one with the fewest messages lost.
            self._heard.remove(max(earlier))

    def count(self, now: float, memory: float) -> int:
        """Return from how many publishers there were messages recently."""
        return sum(now - at <= memory for _, at in self._heard)
