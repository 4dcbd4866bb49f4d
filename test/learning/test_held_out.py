"""What is held out: whole recordings or episodes near the share asked for, or the end of one."""

from hypothesis import given, strategies as st
import numpy as np
import pytest
from stream_agent.learning.held_out import nearest_sum, share_in_words, split, verdict_on
from stream_agent.learning.window_sampler import RecordedEpisode


def episodes_of(*lengths, names=None):
    return [RecordedEpisode(names[i] if names else f'drive_{i}',
                            {'image': np.zeros((length, 1, 1, 1))}, np.arange(length),
                            np.zeros((length, 2), np.float32))
            for i, length in enumerate(lengths)]


@pytest.mark.parametrize('lengths, names, share, held, what', [
    # By recordings: a fifth of 154 is 31.
    ([131, 23], None, 0.2, 23, 'drive_1'),
    ([131, 23, 8], None, 0.2, 31, 'drive_1, drive_2'),
    ([50, 50, 50], None, 0.2, 50, 'drive_0'),
    # Half of all would be the nearest; the end of one of them is nearer.
    ([100, 100], None, 0.2, 40, 'the end of an episode of drive_0, after a gap of 10'),
    # By episodes, where there is only one recording, or two of which one is most.
    ([120, 31, 3], 'aaa', 0.2, 31, '1 of the episodes of a'),
    ([70, 30, 40, 1], 'aaab', 0.2, 30, '1 of the episodes of a'),
    ([154], None, 0.2, 31, 'the end of an episode of drive_0, after a gap of 15'),
    ([1000, 2], None, 0.2, 200, 'the end of an episode of drive_0, after a gap of 20'),
    ([2], None, 0.2, 1, 'the end of an episode of drive_0, after a gap of 0')])
def test_frames_held_out(lengths, names, share, held, what):
    learnt, found = split(episodes_of(*lengths, names=names), share)
    assert (found.frames, found.what) == (held, what)
    total = sum(lengths)
    gap = int(what.rpartition('gap of ')[2]) if 'gap' in what else 0
    assert sum(map(len, learnt)) == total - held - gap
    assert share_in_words(found, total) == (
        f'{held} of {total:,} frames ({round(100 * held / total)} %) are held out: {what}')


def test_nothing_is_held_out_if_that_is_asked_for():
    episodes = episodes_of(3, 4)
    learnt, found = split(episodes, 0.0)
    assert learnt == episodes and not found.episodes and not found.frames


def test_one_frame_cannot_be_divided():
    with pytest.raises(ValueError) as error:
        split(episodes_of(1), 0.2)
    assert str(error.value) == ('nothing can be held out of 1 frames; give more recordings, or '
                                '--held-out 0')


@given(st.lists(st.integers(1, 40), min_size=2, max_size=8),
       st.integers(1, 3), st.floats(0.01, 0.5))
def test_never_more_than_half_and_no_frame_twice(lengths, kinds, share):
    names = [str(i % kinds) for i in range(len(lengths))]
    episodes = episodes_of(*lengths, names=names)
    # So that frames of different episodes are told apart.
    for i, episode in enumerate(episodes):
        episode.targets[:, 0], episode.targets[:, 1] = i, episode.frames
    learnt, found = split(episodes, share)
    assert learnt and found.episodes and all(map(len, [*learnt, *found.episodes]))
    assert found.frames <= max(1, sum(lengths) / 2)
    seen = np.concatenate([episode.targets for episode in [*learnt, *found.episodes]])
    assert len(np.unique(seen, axis=0)) == len(seen) >= 0.9 * sum(lengths) - 1


@given(st.lists(st.integers(1, 30), min_size=1, max_size=7), st.floats(0, 100))
def test_the_nearest_sum_is_that_of_all_subsets(sizes, wanted):
    most = sum(sizes) // 2
    chosen = nearest_sum(dict(enumerate(sizes)), wanted, most)
    sums = {sum(size for i, size in enumerate(sizes) if mask >> i & 1)
            for mask in range(2 ** len(sizes))}
    nearest = min((abs(each - wanted) for each in sums if 0 < each <= most), default=wanted)
    # Not all sums are looked at: one that rounds to what is wanted is enough.
    assert abs(sum(sizes[i] for i in chosen) - wanted) <= max(nearest, 0.5)


def test_a_negative_score_is_explained():
    _, found = split(episodes_of(80, 20), 0.2)
    assert verdict_on({'steering': 0.9, 'speed': 0.0}, found) == (
        'R2 of the steering 0.900, of the speed 0.000, on 20 frames held out: drive_1')
    assert verdict_on({'steering': -0.1}, found) == (
        'R2 of the steering -0.100, of the speed unknown (it never varies), on 20 frames held '
        'out: drive_1; an R2 below 0 is worse than always answering the mean command')
