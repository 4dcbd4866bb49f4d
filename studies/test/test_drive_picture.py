"""The README's moving picture: what is lit is what is computed."""

import numpy as np
from stream_agent.drawing.plot_style import BLUE, ORANGE
from stream_agent.network.checkpoint import load_policy
from stream_agent.share import share_folder
from studies.drive_picture import colours, pictures


def share_of(image, colour):
    """Return the share of pixels in a colour."""
    wanted = [int(colour[i:i + 2], 16) for i in (1, 3, 5)]
    return (np.asarray(image) == wanted).all(-1).mean()


def test_the_answer_lights_less_than_what_is_settled():
    policy = load_policy(share_folder() / 'config' / 'policies' / 'lane_streaming.safetensors')
    responded, settled = pictures(policy, 1_000_001, frames=1)
    assert share_of(responded, BLUE) == 0 < share_of(settled, BLUE)
    # The command's arrow is orange in both; two tiles are lit by it in the first.
    assert share_of(settled, ORANGE) < share_of(responded, ORANGE)
    assert len(colours()) <= 3 * 256
