"""How long and on what a policy is trained in the simulator."""

from dataclasses import dataclass, replace

from stream_agent.theory.graph import GraphSpec
from stream_agent.theory.information import frames_unanswered, information_ages
from stream_agent.theory.patterns import Pattern


@dataclass(frozen=True)
class Schedule:
    """
    How long and on what a policy is trained.

    :param rounds: Times that the policy drives and then learns; the expert drives the first.
    :param environments: Courses driven side by side in a round, new ones each round.
    :param frames: Frames driven per environment and round.
    :param updates: Gradient steps after each round.
    :param last_updates: Gradient steps after the last round, more.
    :param batch: Windows in a gradient step.
    :param window: T, frames in a window.
    :param burn_in: Frames at a window's start that fill the state and bear no loss.
    :param learning_rate: At the start; falls to zero by a half cosine.
    :param updates_per_frame: Update steps for which every image is held, as on the robot.
    """

    rounds: int = 12
    environments: int = 8
    frames: int = 160
    updates: int = 60
    last_updates: int = 240
    batch: int = 16
    window: int = 24
    burn_in: int = 8
    learning_rate: float = 2e-3
    updates_per_frame: int = 1

    @property
    def all_updates(self) -> int:
        """Gradient steps of the whole training."""
        return self.rounds * self.updates + self.last_updates

    def rounds_before(self, step: int) -> int:
        """Return how many rounds have been driven when a gradient step is taken."""
        return min(self.rounds, 1 + step // self.updates) if self.updates else self.rounds


def lengthened(schedule: Schedule, graph: GraphSpec, pattern: Pattern) -> Schedule:
    """
    Return a schedule whose windows have as many answers as they have for any other rollout.

    Outputs that depend on no image yet bear no loss (SR18, section "Training": all rollouts see
    the same number of loss frames).
    """
    late = frames_unanswered(graph, pattern) // schedule.updates_per_frame
    return replace(schedule, burn_in=schedule.burn_in + late, window=schedule.window + late)


def filled(schedule: Schedule, graph: GraphSpec, pattern: Pattern) -> Schedule:
    """
    Return a schedule in which the oldest information is there, and in memory, before any loss.

    The memory of layers that take turns has a step in a round only. Frames are those that are
    taken, so neither the lateness of answers nor images that are dropped make windows longer.
    """
    updates = schedule.updates_per_frame
    burn_in = (information_ages(graph, pattern).oldest // updates
               + schedule.burn_in * max(1, graph.hyperperiod // updates))
    window = burn_in + schedule.window - schedule.burn_in
    return replace(schedule, burn_in=burn_in, window=window,
                   frames=max(schedule.frames, 2 * window))
