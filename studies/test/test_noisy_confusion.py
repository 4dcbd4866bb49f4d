"""Temporal confusion matrices against what is counted by hand, and by a loop over frames."""

import numpy as np
import pytest
from stream_agent.graph_files.graph_file import graph_from_data
from stream_agent.network.rollout_network import RolloutNetwork
from studies.noisy.confusion import (
    count, partners, read_confusion, temporal_confusion, TemporalConfusion)
from studies.noisy.datasets import DataError, Images
from studies.noisy.task import pattern_named, shortened, Stills, WindowOutputs

pytestmark = pytest.mark.usefixtures('one_thread')


def test_counts_by_hand():
    told = np.array([[0, 1], [0, 0], [2, 1]])
    counts = count(told, np.array([0, 0, 1]), 3)
    assert counts.tolist() == [[[2, 0, 0], [0, 0, 1], [0, 0, 0]],
                               [[1, 1, 0], [0, 1, 0], [0, 0, 0]]]
    new, old = TemporalConfusion(counts, counts[:, ::-1], np.array([1, 2])).accuracies()
    assert new == pytest.approx([2 / 3, 2 / 3])
    # Rows reversed: class 2 is told 0 twice and 1 once, then 0 and 1; class 1 is told 2, then 1.
    assert old == pytest.approx([0, 1 / 3])


def test_every_item_has_another_partner():
    others = partners(50, seed=3)
    assert sorted(others) == list(range(50))
    assert (others != np.arange(50)).all()


@pytest.mark.parametrize('rollout, late, steps', [
    ('sequential', 0, [2 * k for k in range(1, 9)]), ('streaming', 1, list(range(1, 10)))])
def test_a_network_that_tells_what_it_sees_is_late_by_its_rollout(rollout, late, steps):
    """Two layers that pass the brightest of three pixels on: old until the answer, then new."""
    graph = graph_from_data({
        'nodes': {'image': {'shape': [1, 1, 3]}, 'seen': {'shape': [3]}, 'out': {'shape': [3]}},
        'edges': [{'source': 'image', 'target': 'seen', 'transform': 'dense'},
                  {'source': 'seen', 'target': 'out', 'transform': 'dense'}]})
    network = RolloutNetwork(graph, pattern_named(graph, rollout))
    for name, weight in network.named_parameters():
        weight.data.zero_()
        if name.endswith('weight'):
            weight.data.fill_diagonal_(1)
    labels = np.arange(30) % 3
    pixels = (255 * np.eye(3, dtype=np.uint8)[labels]).reshape(30, 1, 1, 3)
    clips = Stills(Images(pixels, labels))
    outputs = WindowOutputs(graph, network.pattern)
    found = temporal_confusion(network, outputs, clips, deviation=0.0, classes=3, seed=5)
    assert found.steps.tolist() == steps
    before, after = labels, labels[partners(30, 5)]
    wanted = np.array([[np.sum((after == new) & (before == told)) for told in range(3)]
                       for new in range(3)])
    for delay in range(outputs.window):
        shown = np.diag(np.bincount(after)) if delay >= late else wanted
        assert (found.new[delay] == shown).all()
        assert (found.old[delay] == (wanted.T if delay >= late
                                     else np.diag(np.bincount(before)))).all()


def test_matrices_come_back_from_their_file(tmp_path):
    found = TemporalConfusion(np.ones((2, 3, 3), int), np.zeros((2, 3, 3), int), np.arange(2))
    found.write(tmp_path / 'a.npz')
    again = read_confusion(tmp_path / 'a.npz')
    assert (again.added_to(found).new == 2).all() and (again.steps == [0, 1]).all()
    np.savez(tmp_path / 'b.npz', new=found.new)
    with pytest.raises(DataError, match="it has no array 'old'; it has new"):
        read_confusion(tmp_path / 'b.npz')


def test_a_part_of_the_clips_is_spread_over_all():
    clips = Stills(Images(np.arange(90, dtype=np.uint8).reshape(90, 1, 1, 1), np.arange(90)))
    part = shortened(clips, 10)
    assert part.labels.tolist() == part.cut(np.arange(10), 3)[:, 0, 0, 0, 0].tolist()
    assert part.labels[0] == 0 and part.labels[-1] == 89 and len(set(part.labels)) == 10
    assert shortened(clips, 90) is clips
