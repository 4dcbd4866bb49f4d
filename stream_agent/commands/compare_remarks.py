"""What a reader must know to judge the figures of a replay."""

from collections.abc import Sequence

from stream_agent.commands.compare_replay import Player

PACE_REMARKS = {
    'fast': 'Replayed as fast as possible: no frame was missed, and latency is the duration '
            'of conversion and answer alone.',
    'true': 'Replayed at true pace, one policy after the other: a policy that was busy took the '
            'newest frame when it was done. Decoding and transport are not in the latency.'}
QUANTITIES = {'yaw rate': 'yaw rates [rad/s]', 'steering angle': 'steering angles [rad]',
              'steering': 'shares -1 ... 1 of all there is'}
UNIT_REMARKS = {
    'yaw rate': '',
    'steering angle': "The recordings' commands are steering angles [rad] at the wheels: they "
                      'stand wherever a yaw rate [rad/s] is named.',
    'steering': "The recordings' commands are shares -1 ... 1 of all there is: steering stands "
                'wherever a yaw rate [rad/s] is named, throttle wherever a speed [m/s] is.'}


def remark_on_steering(players: Sequence[Player], kind: str) -> str:
    """
    Name the policies of which nobody knows whether they steer by what was recorded.

    :param kind: Of the recordings, as in ``Commands.steering``; the usual one needs no remark.
    """
    unknown = [player.name for player in players if not player.policy.steering]
    if not unknown or kind == 'yaw rate':
        return ''
    return (f'What {", ".join(unknown)} learnt to steer by is not in the file; it is taken for '
            f'{QUANTITIES[kind]}, as recorded.')


def remarks_on(player: Player, missed: int, unanswered: int, beyond: float) -> list[str]:
    """
    Say what one policy missed, and what it could not ask for.

    :param unanswered: Frames at the start of episodes.
    :param beyond: Share of the frames at which the driver asked for more.
    """
    said, limits = [], player.policy.limits
    if missed:
        said.append(f'{player.name} let {plural(missed, "frame")} pass while it was busy, '
                    'which count as lost.')
    if unanswered:
        said.append(f'{player.name} has no answer to {plural(unanswered, "frame")} at the '
                    'start of episodes, as its output did not depend on any image yet; but for '
                    "the first episode's they count as lost.")
    if beyond:
        said.append(f'{player.name} cannot ask for what the driver did in {beyond:.1%} of the '
                    f'frames: its limits are {limits.max_speed:g} and {limits.max_yaw_rate:g}.'
                    + ('' if player.policy.steering else
                       ' Check that it was trained on commands of the same units.'))
    return said


def plural(count: int, noun: str) -> str:
    """Write a number of things."""
    return f'{count} {noun}' if count == 1 else f'{count} {noun}s'
