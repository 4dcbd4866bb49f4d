"""Windows of episodes."""

import numpy as np
import pytest
from stream_agent.learning.window_sampler import Episode, Episodes


def episode(first, length):
    result = Episode()
    for i in range(first, first + length):
        result.add({'image': np.full((1, 2, 2), i, np.uint8), 'age': np.array([i], np.float32)},
                   (i / 100, -i / 100))
    return result


def test_windows_are_consecutive_frames_of_one_episode_with_their_targets():
    episodes = Episodes(window=4)
    episodes.add(episode(0, 6))
    episodes.add(episode(100, 9))
    observations, targets = episodes.sample(200, np.random.default_rng(0))
    pixels, ages = observations['image'], observations['age']
    assert pixels.shape == (200, 4, 1, 2, 2) and targets.shape == (200, 4, 2)
    assert (pixels.dtype, ages.dtype, ages.shape) == (np.uint8, np.float32, (200, 4, 1))
    indices = pixels[:, :, 0, 0, 0].astype(int)
    assert (ages[..., 0] == indices).all()
    assert (np.diff(indices, axis=1) == 1).all()
    np.testing.assert_allclose(targets[..., 0], indices / 100, atol=1e-6)
    np.testing.assert_allclose(targets[..., 1], -indices / 100, atol=1e-6)
    assert set(indices[:, 0]) == {0, 1, 2, 100, 101, 102, 103, 104, 105}


def test_episodes_shorter_than_a_window_are_left_out():
    episodes = Episodes(window=4)
    episodes.add(episode(0, 3))
    assert episodes.frames == 0
    with pytest.raises(ValueError) as error:
        episodes.sample(1, np.random.default_rng(0))
    assert str(error.value) == ('no episode has the 4 frames of a training window; '
                                'record longer ones or train with a shorter --window')
