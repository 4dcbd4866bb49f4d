"""What is trained to drive: a learner whose network becomes a policy."""

from abc import abstractmethod
from typing import Any

from stream_agent.learning.learner import Learner
from stream_agent.network.checkpoint import CommandLimits
from stream_agent.network.preprocessing import Preprocessing
from stream_agent.network.rollout_network import RolloutNetwork


class DrivingLearner(Learner):
    """
    A learner whose network becomes a policy.

    :ivar steps: Gradient steps of the whole training.
    :ivar learning_rate: At the start.
    :ivar updates_per_frame: Update steps for which every image is held.
    """

    network: RolloutNetwork
    preprocessing: Preprocessing
    limits: CommandLimits
    steps: int
    learning_rate: float
    updates_per_frame: int = 1

    @abstractmethod
    def provenance(self) -> dict[str, Any]:
        """Return as JSON what the policy's file says of how its weights came about."""

    def verdict(self, provenance: dict[str, Any]) -> str:
        """Say by the provenance how good the policy is; empty if others have to find out."""
        return ''
