"""Files of costs: what they may say, and what is refused."""

import pytest
from stream_agent.graph_files.graph_file import load_costs, save_costs
from stream_agent.theory.planning.costs import CostError, NodeCosts
from support.graphs import SR

COSTS = NodeCosts({'h1': 0.001, 'h2': 0.25, 'out': 3.0}, 0.5, 'a machine')


def test_costs_survive_a_file(tmp_path):
    path = tmp_path / 'costs.yaml'
    save_costs(path, COSTS)
    assert load_costs(path, SR) == COSTS


def test_costs_may_be_written_as_powers_of_ten(tmp_path):
    path = tmp_path / 'costs.yaml'
    path.write_text('nodes: {h1: 1e-3, h2: 2e-3, out: 4}')
    assert load_costs(path, SR).nodes == {'h1': 1e-3, 'h2': 2e-3, 'out': 4}


@pytest.mark.parametrize('text, sentence', [
    ('nodes: {h1: 1, h2: 1}', "the node 'out' has no cost; give one for each of h1, h2, out"),
    ('nodes: {h1: 1, h2: 1, out: 1, img: 1}',
     "'img' has a cost, but is not a computed node of the graph; these are h1, h2, out"),
    ('nodes: {h1: 1, h2: -1, out: 1}', "the cost of 'h2' is -1; write seconds, from 0 to 3600"),
    ('nodes: {h1: 1, h2: 1e999, out: 1}',
     "the cost of 'h2' is inf; write seconds, from 0 to 3600"),
    ('nodes: !!map {}', 'tags (!!map) are not supported; leave it out'),
    ('nodes: {h1: 1, h2: fast, out: 1}',
     "the cost of 'h2' is 'fast'; write seconds, from 0 to 3600"),
    ('nodes: {h1: 1, h2: 1, out: 1}\noverhead: true', 'overhead is True; write seconds, from 0 '
                                                      'to 3600'),
    ('h1: 1', "'nodes' is missing, a map from node to seconds; 'overhead' and 'source' may be "
              'given beside it'),
    ('nodes: {h1: 1, h2: 1, out: 1}\nover: 1',
     "'over' means nothing here; the keys are nodes, overhead, source")])
def test_costs_that_do_not_fit(tmp_path, text, sentence):
    path = tmp_path / 'costs.yaml'
    path.write_text(text)
    with pytest.raises(CostError) as error:
        load_costs(path, SR)
    line = ':1' if sentence.startswith('tags') else ''
    assert str(error.value) == f'{path}{line}: {sentence}'
