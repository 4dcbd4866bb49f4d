"""What is held out of recorded episodes, to tell how good a policy is on what it never saw."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from stream_agent.learning.window_sampler import RecordedEpisode

# Whole recordings or episodes may be this many times what is asked for, or as small a part of it.
TOLERANCE = 2.0
# Frames left out before the end of an episode that is held out, as neighbours are nearly equal;
# of short episodes a tenth.
GAP = 20
# Recordings that are listed by name.
MOST_NAMES = 5


class HeldOut(NamedTuple):
    """
    Episodes that show how good a policy is.

    :param what: Which they are, in words.
    """

    episodes: Sequence[RecordedEpisode] = ()
    what: str = ''

    @property
    def frames(self) -> int:
        """How many frames are held out."""
        return sum(map(len, self.episodes))


def split(episodes: Sequence[RecordedEpisode], share: float
          ) -> tuple[list[RecordedEpisode], HeldOut]:
    """
    Divide episodes into those to learn from and those that are held out.

    Whole recordings, or else whole episodes, whose frames are nearest to the share, but no more
    than half of all; if these are far from it, the end of the longest episode.

    :param share: Of all frames, 0 ... 0.5.
    :raises ValueError: If there are not two frames.
    """
    total = sum(map(len, episodes))
    if not share:
        return list(episodes), HeldOut()
    if total < 2:
        raise ValueError(f'nothing can be held out of {total} frames; give more recordings, or '
                         '--held-out 0')
    names = [episode.name for episode in episodes]
    for units in (names, list(range(len(episodes)))):
        frames: Counter = Counter()
        for unit, episode in zip(units, episodes):
            frames[unit] += len(episode)
        chosen = nearest_sum(frames, share * total, total // 2)
        found = sum(frames[unit] for unit in chosen)
        near = share * total / TOLERANCE <= found <= share * total * TOLERANCE
        if found and (near or max(map(len, episodes)) == 1):
            held = [episode for unit, episode in zip(units, episodes) if unit in chosen]
            learnt = [episode for unit, episode in zip(units, episodes) if unit not in chosen]
            listed = in_list(episode.name for episode in held)
            return learnt, HeldOut(held, listed if units is names
                                   else f'{len(held)} of the episodes of {listed}')
    return ended(episodes, max(1, min(round(share * total), total // 2)))


def ended(episodes: Sequence[RecordedEpisode], count: int
          ) -> tuple[list[RecordedEpisode], HeldOut]:
    """Hold out the last frames of the longest episode, and leave a gap before them."""
    index = max(range(len(episodes)), key=lambda i: len(episodes[i]))
    longest = episodes[index]
    first = len(longest) - count
    gap = min(GAP, len(longest) // 10, first - 1)
    learnt = list(episodes)
    learnt[index] = part(longest, slice(first - gap))
    return learnt, HeldOut([part(longest, slice(first, None))],
                           f'the end of an episode of {longest.name}, after a gap of {gap}')


def part(episode: RecordedEpisode, frames: slice) -> RecordedEpisode:
    """Return some consecutive frames of an episode."""
    return replace(episode, frames=episode.frames[frames], targets=episode.targets[frames])


def nearest_sum(sizes: Mapping, wanted: float, most: int) -> set:
    """
    Return the keys whose sizes add up to what is nearest to a number; none if all are too large.

    :param most: The largest sum.
    """
    # By which key every sum was reached first: its other keys come before that one.
    reached_by = np.full(most + 1, -1)
    reached_by[0] = len(sizes)
    keys = sorted(sizes, key=lambda key: (-sizes[key], str(key)))
    for i, key in enumerate(keys):
        if reached_by[min(max(1, round(wanted)), most)] >= 0:
            break
        size = sizes[key]
        sums = np.flatnonzero(reached_by[:max(0, most + 1 - size)] >= 0) + size
        reached_by[sums[reached_by[sums] < 0]] = i
    sums = np.flatnonzero(reached_by >= 0)
    sums = sums[sums > 0] if len(sums) > 1 else sums
    left, chosen = int(sums[np.abs(sums - wanted).argmin()]), set()
    while left:
        key = keys[reached_by[left]]
        chosen.add(key)
        left -= sizes[key]
    return chosen


def in_list(names: Iterable[str]) -> str:
    """Return the names of recordings, or how many they are."""
    distinct = sorted(set(names))
    return (', '.join(distinct) if len(distinct) <= MOST_NAMES
            else f'{len(distinct)} recordings')


def assign_folds(names: Sequence[str], lengths: Sequence[int], count: int) -> np.ndarray:
    """
    Assign every recording to a fold, so that all folds have about as many frames.

    Consecutive frames are nearly equal, so whole recordings are held out.

    :param names: Of the recording of every episode; those of one stay together.
    :param lengths: Frames of every episode.
    :returns: The fold of every episode, 0 ... count - 1.
    :raises ValueError: If there are fewer recordings than folds.
    """
    frames: Counter[str] = Counter()
    for name, length in zip(names, lengths):
        frames[name] += length
    if len(frames) < count:
        raise ValueError(f'{len(frames)} recordings cannot be divided into {count} folds; give '
                         'more recordings, or ask for fewer folds')
    totals, fold_of = np.zeros(count, int), {}
    for name in sorted(frames, key=lambda each: (-frames[each], each)):
        fold_of[name] = int(totals.argmin())
        totals[fold_of[name]] += frames[name]
    return np.array([fold_of[name] for name in names])


def share_in_words(held_out: HeldOut, total: int) -> str:
    """Say how many of all frames are held out, and which."""
    return (f'{held_out.frames:,} of {total:,} frames ({100 * held_out.frames / total:.0f} %) are '
            f'held out: {held_out.what}')


def verdict_on(scores: Mapping[str, float], held_out: HeldOut,
               names: Sequence[str] = ()) -> str:
    """
    Say R2 of the outputs, on what, and what it means if it is negative.

    :param names: Of the outputs, unless they are speed and steering.
    """
    said = {name: name for name in names} or {'steering': 'the steering', 'speed': 'the speed'}
    found = ', '.join(
        f'of {words} {scores[name]:.3f}' if name in scores else
        f'of {words} unknown (it never varies)' for name, words in said.items())
    worse = ('; an R2 below 0 is worse than always answering the mean command'
             if min(scores.values(), default=0.0) < 0 else '')
    return (f'R2 {found}, on {held_out.frames:,} frames held out: {held_out.what}{worse}')
