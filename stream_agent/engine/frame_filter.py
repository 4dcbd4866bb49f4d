"""Which frames the agent steps: fresh ones of one camera, each once, in order."""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
import math
from statistics import median

import numpy as np
from stream_agent.bounded_settings import check, free_text, printable, quantity
from stream_agent.command import Command

NS = 10**9
# Intervals between frames from which the camera's period is known.
FEWEST_INTERVALS, INTERVALS = 5, 15
# Frames whose median age tells whether clocks agree (T2).
AGES = 30
# A camera's rate may differ by so much (F13), and by more for two looks, a second apart.
RATE_TOLERANCE, OFF_FOR = 0.2, 2
# Every so many bytes of two pictures are compared first.
QUICK_LOOK = 997
# A command that moves the robot is more than this [m/s, rad/s].
MOVES = 0.01
# A command that changes moves it by more than this share of what may be commanded.
SHARE_CHANGES = 1e-3


@dataclass(frozen=True)
class FrameFilterSettings:
    """The agent's patience."""

    camera_period: float = quantity(1 / 30, 's', 1e-3, 10.0, 'time between two frames')
    max_age: float = quantity(
        0.0, 's', 0.0, 60.0,
        'oldest frame that is stepped; 0: five camera periods, at least 0.2 s')
    max_lead: float = quantity(
        0.1, 's', 0.0, 10.0, 'how far the stamp of a frame may lie in the future')
    max_gap: int = quantity(
        3, '', 0, 100_000, 'missing frames that the memory outlives; a longer gap resets it')
    camera_frame: str = free_text(
        '', 'header.frame_id of the camera whose frames are stepped; empty: any, but one camera',
        'NAME')
    frozen_after: float = quantity(
        2.0, 's', 0.0, 3600.0, 'how long the robot may be told to move by images that are equal '
        'byte by byte, before it is stopped; 0: for ever')

    def __post_init__(self) -> None:
        check(self)

    @property
    def oldest(self) -> float:
        """Return the age [s] up to which a frame is stepped."""
        return self.max_age or max(5 * self.camera_period, 0.2)


class FrameFilter:
    """
    Judges frames by their stamps and senders, and counts what it refused, by reason.

    A stamp that falls back by over half a second is no late frame but a clock that was set
    back (a simulation begun again, a looped recording): the frame is accepted, after a reset.

    :ivar dropped: Frames refused, by reason; 'missed' never came, as the stamps' gaps tell.
    :ivar reasons: Why frames were refused since the last look, in words, by reason.
    """

    TIME_JUMP = 0.5

    def __init__(self, settings: FrameFilterSettings) -> None:
        self.settings = settings
        self.dropped: Counter[str] = Counter()
        self.reasons: dict[str, str] = {}
        self._last_sender: tuple[str, int | None] | None = None
        self._switched: deque[int] = deque(maxlen=2)
        self._intervals: deque[float] = deque(maxlen=INTERVALS)
        self.forget()

    def forget(self) -> None:
        """Start a new sequence of frames; what is known of the camera is kept."""
        self._last_ns: int | None = None
        # Frames without a step before the one taken last, and up to it if it has none either.
        self._missing = self._unstepped = 0

    def refuse(self, stamp_ns: int, now_ns: int, frame_id: str = '', number: int | None = None
               ) -> str:
        """
        Return why a frame is not to be stepped, and count it; '' if it is.

        :param stamp_ns: When the frame was captured [ns].
        :param now_ns: The time by the same clock [ns].
        :param frame_id: The camera's, as in the header.
        :param number: How many messages its publisher had sent, if the middleware says so.
        """
        reason, explanation = (self._by_sender(now_ns, frame_id, number)
                               or self._by_stamp(stamp_ns, now_ns) or ('', ''))
        if reason:
            self.dropped[reason] += 1
            self.reasons[reason] = explanation
        return reason

    def _by_sender(self, now_ns: int, frame_id: str, number: int | None
                   ) -> tuple[str, str] | None:
        """Refuse frames of another camera, and all while two cameras take turns (F12)."""
        chosen = self.settings.camera_frame
        if chosen and frame_id != chosen:
            return 'other camera', (
                f"frames of the camera '{printable(frame_id)}' are left out, as camera_frame is "
                f"'{chosen}'")
        last, self._last_sender = self._last_sender, (frame_id, number)
        if last is None:
            return None
        back = number is not None and last[1] is not None and number <= last[1]
        switched = frame_id != last[0] or back
        if switched:
            self._switched.append(now_ns)
        elif len(self._switched) < 2 or now_ns - self._switched[0] > NS:
            return None
        names = ' and '.join(dict.fromkeys(
            f"'{printable(name)}'" for name in (last[0], frame_id)))
        return 'two cameras', (
            f'two cameras send frames ({names}), or one was started anew; stop one, or set '
            'camera_frame or the topic image to the one that is meant')

    def _by_stamp(self, stamp_ns: int, now_ns: int) -> tuple[str, str] | None:
        """Refuse frames that are too old, too new, or not newer than the last one (F2, F3)."""
        age = (now_ns - stamp_ns) / NS
        back = 0.0 if self._last_ns is None else (self._last_ns - stamp_ns) / NS
        if age > self.settings.oldest:
            return 'stale', (
                f'frames are {age:.3g} s old where {self.settings.oldest:.3g} s are allowed; set '
                "the clocks of camera and agent alike, mind the network's load, or set max_age")
        if age < -self.settings.max_lead:
            return 'future', (
                f'frames are stamped {-age:.3g} s ahead of the clock here where '
                f'{self.settings.max_lead:.3g} s are allowed; set the clocks of camera and agent '
                'alike, or use_sim_time for all or none')
        if self._last_ns is None or back > self.TIME_JUMP or back < 0:
            return None
        if back == 0:
            return 'duplicate', ('frames have the stamp of the one before; check that the camera '
                                 'sets header.stamp anew for each')
        return 'out of order', (f'frames are {back:.3g} s older than the one before; check that '
                                'one camera sends them, by one way')

    def accept(self, stamp_ns: int, skipped: int = 0) -> bool:
        """
        Take a frame that was not refused, and count those that are missing before it.

        Frames are counted by the camera's own period, as far as it is known. The memory ages by
        the longer one of that and the declared period: a slow camera leaves no gaps (F13).

        :param skipped: Frames that were sent between the last one that was taken and this one.
        :returns: Whether the memory of frames that were stepped is too old to be used.
        """
        last_ns, self._last_ns = self._last_ns, stamp_ns
        if last_ns is None:
            return False
        elapsed, declared = (stamp_ns - last_ns) / NS, self.settings.camera_period
        period = self.period or declared
        if elapsed > 0:
            self._intervals.append(elapsed / (1 + skipped))
        self.dropped['missed'] += max(0, skipped, round(elapsed / period) - 1)
        self._missing = self._unstepped + round(elapsed / max(period, declared)) - 1
        self._unstepped = 0
        return elapsed <= 0 or self._missing > self.settings.max_gap

    def lose(self, reason: str) -> None:
        """Count the frame taken last as one that is not stepped: the memory ages by it."""
        self.dropped[reason] += 1
        self._unstepped = self._missing + 1

    @property
    def period(self) -> float | None:
        """Return the camera's period [s] by the stamps; None before some frames were taken."""
        return median(self._intervals) if len(self._intervals) >= FEWEST_INTERVALS else None


class CameraWatch:
    """
    Notices what no single frame shows: a frozen or changed picture, a wrong rate, a wrong clock.

    :param period: Returns the camera's period [s] by the stamps, or None.
    """

    def __init__(self, settings: FrameFilterSettings, period: Callable[[], float | None]) -> None:
        self._settings, self._period = settings, period
        self._ages: deque[float] = deque(maxlen=AGES)
        self._last: tuple[int, np.ndarray] | None = None
        self._format: tuple | None = None
        self._rate_is_off = 0
        #: For how long [s] the robot has been told to move while the picture stood still.
        self.still = 0.0

    @property
    def age(self) -> float:
        """How old frames are when they arrive [s]: the median of the last 30; NaN before that."""
        return median(self._ages) if len(self._ages) == AGES else math.nan

    @property
    def is_frozen(self) -> bool:
        """Whether no command that moves the robot may follow from the picture (F10)."""
        return 0 < self._settings.frozen_after <= self.still

    def changed(self, *kind: str | int) -> str:
        """Return how encoding, width and height differ from the last frame's (F8); '' if not."""
        last, self._format = self._format, kind
        return '' if last in (None, kind) else (
            f"images are '{kind[0]}', {kind[1]} x {kind[2]} now; they were '{last[0]}', "
            f'{last[1]} x {last[2]}')

    def see(self, pixels: np.ndarray, stamp_ns: int, age: float, moves: bool) -> None:
        """
        Look at a frame that was answered.

        :param pixels: Its bytes, as they came.
        :param age: How old it was when it arrived [s].
        :param moves: Whether the robot is told to move.
        """
        self._ages.append(age)
        last, self._last = self._last, (stamp_ns, pixels)
        if last is None or not is_same(last[1], pixels):
            self.still = 0.0
        elif moves:
            self.still += max(0.0, (stamp_ns - last[0]) / NS)

    def warnings(self) -> dict[str, str]:
        """Return what is not right, in words, by its name; asked once a second."""
        found = {}
        if self.is_frozen:
            found['frozen camera'] = (
                f'the picture has not changed for {self.still:.1f} s while the robot was told to '
                'move: it is stopped until a picture differs; start the camera anew, or set '
                'frozen_after')
        if (age := self.age) < 0 or age > 0.1:
            found['clock'] = (
                f'frames arrive {age:.3g} s after their stamp, where 0 to 0.1 s are usual; set '
                "the clocks of camera and agent alike, or check the camera driver's stamps")
        period, declared = self._period(), self._settings.camera_period
        off = period is not None and abs(declared / period - 1) > RATE_TOLERANCE
        self._rate_is_off = self._rate_is_off + 1 if off else 0
        if period is not None and self._rate_is_off > OFF_FOR:
            found['rate'] = (
                f'the camera sends {1 / period:.3g} frames a second, the policy is set to '
                f'{1 / declared:.3g}: it sees motion at another speed; set the rate of the '
                'camera, or camera_period and a policy that was trained with it')
        return found


def moves(command: Command | tuple[float, ...]) -> bool:
    """Return whether a command moves the robot: a base's, or velocities."""
    return max(map(abs, command)) > MOVES


class Changes:
    """
    Tells whether commands that may stay what they are at rest, as positions, move the robot.

    :param spans: From the least to the greatest command, of each element.
    """

    def __init__(self, spans: Sequence[float]) -> None:
        self._spans, self._last = spans, list[float]()

    def __call__(self, command: Sequence[float]) -> bool:
        """Return whether a command differs from the one before by what counts."""
        last, self._last = self._last, list(command)
        return any(abs(one - other) > SHARE_CHANGES * abs(span) for one, other, span in zip(
            command, last, self._spans))


def is_same(one: np.ndarray, other: np.ndarray) -> bool:
    """Return whether two pictures are equal byte by byte; a quick look tells most apart."""
    return (one.size == other.size and np.array_equal(one[::QUICK_LOOK], other[::QUICK_LOOK])
            and np.array_equal(one, other))
