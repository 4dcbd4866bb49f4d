"""The settings of the gate: limits, timeouts, and the type of commands to the base."""

from dataclasses import dataclass

from stream_agent.bounded_settings import check, choice, quantity, SettingsError


BASE_COMMANDS = ('twist_stamped', 'twist', 'ackermann')


@dataclass(frozen=True)
class GateSettings:
    """
    The limits and timeouts of the gate.

    A ``command_timeout`` or ``max_age`` of 0 is replaced by the number that it stands for.

    :raises SettingsError: If a number is outside its range, or two contradict each other.
    """

    camera_period: float = quantity(
        1 / 30, 's', 0.001, 1.0, 'T, the time between two frames of the camera')
    max_speed: float = quantity(
        0.5, 'm/s', 0.0, 20.0, 'greatest speed passed on, forward and backward')
    max_yaw_rate: float = quantity(
        2.0, 'rad/s', 0.0, 20.0, 'greatest yaw rate passed on, to the left and to the right')
    max_acceleration: float = quantity(
        2.5, 'm/s2', 0.01, 100.0, 'greatest change of the speed in a second')
    max_yaw_acceleration: float = quantity(
        3.2, 'rad/s2', 0.01, 1000.0, 'greatest change of the yaw rate in a second')
    stop_deceleration: float = quantity(
        2.5, 'm/s2', 0.01, 100.0, 'deceleration of a stop that the policy asks for, as it does '
        'when it is deactivated or ends')
    command_timeout: float = quantity(
        0.0, 's', 0.0, 10.0, 'time without a fresh policy command after which the robot is '
        'stopped; 0: five camera periods, at least 0.25 s')
    max_age: float = quantity(
        0.0, 's', 0.0, 10.0, 'greatest age of the frame of a policy command; '
        '0: five camera periods, at least 0.25 s')
    max_lead: float = quantity(
        0.1, 's', 0.0, 10.0, 'greatest time by which the frame of a policy command may lie in '
        'the future, as clocks of two machines differ')
    stop_period: float = quantity(
        0.1, 's', 0.02, 1.0, 'time between two zeros while the robot is stopped')
    stop_duration: float = quantity(
        2.0, 's', 0.1, 60.0, 'time after which release_after_stop ends the zeros')
    release_after_stop: bool = choice(
        False, 'stop sending some time after a stop, so that another source of a multiplexer may '
        'drive; otherwise zeros continue')
    stop_input: bool = choice(
        False, "drive only while the topic 'stop' (std_msgs/Bool) keeps saying false")
    stop_input_timeout: float = quantity(
        0.5, 's', 0.05, 10.0, 'silence of the stop input after which the robot is stopped')

    def __post_init__(self) -> None:
        check(self)
        # For how long one frame may be trusted (G1, G2).
        patience = max(5 * self.camera_period, 0.25)
        object.__setattr__(self, 'command_timeout', self.command_timeout or patience)
        object.__setattr__(self, 'max_age', self.max_age or patience)
        # A timeout within the camera's own rhythm would stop the robot between two frames.
        if self.command_timeout < 2 * self.camera_period:
            raise SettingsError(
                f'command_timeout is {self.command_timeout:g} s with a camera_period of '
                f'{self.camera_period:g} s; set it to at least two periods, '
                f'{2 * self.camera_period:g} s')
        if self.stop_duration < self.stop_period:
            raise SettingsError(
                f'stop_duration is {self.stop_duration:g} s with a stop_period of '
                f'{self.stop_period:g} s; set it to at least one period')


@dataclass(frozen=True)
class BaseSettings:
    """
    What the base takes as a command.

    :raises SettingsError: If a number is outside its range, or a word not among those allowed.
    """

    command_type: str = choice(
        BASE_COMMANDS[0], f"message of cmd_vel: {', '.join(BASE_COMMANDS)}", BASE_COMMANDS)
    wheel_base: float = quantity(0.25, 'm', 0.01, 10.0, 'between the axles, for '
                                 'ackermann and twist_steering')
    max_steering_angle: float = quantity(
        0.6, 'rad', 0.01, 1.5, 'greatest angle of the front wheels to each side, for ackermann '
        'and twist_steering')

    def __post_init__(self) -> None:
        check(self)
