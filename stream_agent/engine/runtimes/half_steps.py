"""
The two halves of a step as functions of named tensors, for runtimes that know no graph of ours.

Of a node ``v``, a frame knows ``v`` (its value), ``v.before`` (at the frame before), and, made
ahead, ``v.next`` (at the next frame) and ``v.sum.next`` (a sum that the next frame goes on
with as ``v.sum``). What is carried from frame to frame is renamed by ``carry``.
"""

from typing import NamedTuple

from stream_agent.engine.pooling import by_rows
from stream_agent.engine.task_executor import bind_terms, BoundTask, terms_of, Values
from stream_agent.network.modules import Term
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.theory.halves import frame_tasks, FrameTasks, Task
import torch
from torch import nn, Tensor


class HalfStep(nn.Module):
    """
    Tasks as one function; tensors are (B, *shape) of their nodes, sums into cells wider.

    :param tasks: With whether each is done ahead, for the next frame.
    :param kept: Names of results that are wanted; those for the next frame are anyway.
    :param held_next: Nodes that the next frame holds.
    """

    def __init__(self, network: RolloutNetwork, tasks: list[tuple[Task, bool]], kept: set[str],
                 held_next: tuple[str, ...] = ()) -> None:
        super().__init__()
        self._network = network
        self._held_next = held_next
        self._tasks: list[tuple[BoundTask, bool]] = [
            (bind_terms(network, task, self._terms(task)), ahead) for task, ahead in tasks]
        reads: dict[str, None] = {}
        writes: dict[str, None] = {}
        for task, ahead in tasks:
            reads.update(dict.fromkeys(
                name for name in names_read(network, task, ahead, held_next)
                if name not in writes))
            writes[name_written(task, ahead)] = None
        self.eval()
        #: Names of the arguments and of the results, in order.
        self.inputs = list(reads)
        self.outputs = [name for name in writes if name in kept or name.endswith('.next')]

    def _terms(self, task: Task) -> list[Term]:
        """Return what a task sums, with modules that runtimes are fast at."""
        shapes = self._network.shapes
        return [term._replace(module=by_rows(term.module, shapes[term.source]))
                for term in terms_of(self._network, task)]

    def forward(self, *arguments: Tensor) -> tuple[Tensor, ...]:
        values = dict(zip(self.inputs, arguments))
        frames: dict[str, Values] = {'.before': {}, '': {}, '.next': {}}
        for name, value in values.items():
            node, _, suffix = name.partition('.')
            frames['' if suffix in ('', 'sum') else f'.{suffix}'][node] = value
        for run, ahead in self._tasks:
            if ahead:
                frames['.next'].update({name: frames[''][name] for name in self._held_next
                                        if name in frames['']})
                run(frames['.next'], frames[''])
            else:
                run(frames[''], frames['.before'])
        return tuple(frames['.next' if name.endswith('.next') else ''][name.partition('.')[0]]
                     for name in self.outputs)


def names_read(network: RolloutNetwork, task: Task, ahead: bool, held_next: tuple[str, ...]
               ) -> list[str]:
    """Return the tensors that a task reads."""
    own, previous = ('.next', '') if ahead else ('', '.before')
    names = []
    for source, target in task.edges:
        streams = network.pattern[source, target]
        names.append(source + (previous if streams or ahead and source in held_next else own))
    if task.begun:
        names.append(f'{task.node}.sum')
    if task.finishes and network.graph.node(task.node).cell:
        names.append(task.node + previous)
    return names


def name_written(task: Task, ahead: bool) -> str:
    """Return the tensor that a task gives."""
    return task.node + ('' if task.finishes else '.sum') + ('.next' if ahead else '')


def key_of(name: str) -> str:
    """Return what the same tensor is called in whichever frame it is seen from."""
    return name.removesuffix('.before').removesuffix('.next')


def remembered_nodes(network: RolloutNetwork) -> list[str]:
    """Return the nodes whose values a later frame may read, in the graph's order."""
    streaming = {source for (source, _), streams in network.pattern.items() if streams}
    return [node.name for node in network.graph.nodes
            if node.name in streaming or node.cell or node.period > 1]


class FrameHalves(NamedTuple):
    """
    What a frame of the schedule does.

    :param respond: Gives the output node, if it is not there already.
    :param settle: Gives what later frames need.
    :param held_next: Nodes v that the next frame holds, so that ``v.next`` is ``v``.
    """

    respond: HalfStep
    settle: HalfStep
    held_next: tuple[str, ...]


def frame_halves(network: RolloutNetwork) -> list[FrameHalves]:
    """Return the halves of every frame of the hyperperiod, frame 0 first."""
    count = network.graph.hyperperiod
    tasks = [frame_tasks(network.graph, network.pattern, frame) for frame in range(count)]
    made: dict[tuple[FrameTasks, FrameTasks], FrameHalves] = {}
    halves = []
    for frame in range(count):
        pair = tasks[frame], tasks[(frame + 1) % count]
        if pair not in made:
            made[pair] = halves_of(network, *pair)
        halves.append(made[pair])
    return halves


def halves_of(network: RolloutNetwork, now: FrameTasks, after: FrameTasks) -> FrameHalves:
    """Make the halves of a frame, from its tasks and those of the next one."""
    remembered = set(remembered_nodes(network))
    settle = HalfStep(network, [(task, False) for task in now.rest]
                      + [(task, True) for task in after.ahead], remembered, after.held)
    respond = HalfStep(network, [(task, False) for task in now.respond],
                       {*settle.inputs, *remembered, network.graph.output})
    return FrameHalves(respond, settle, after.held)


def carry(network: RolloutNetwork) -> dict[str, str]:
    """Return the names that tensors have in the next frame, by their names in this one."""
    nodes = [node.name for node in network.graph.nodes]
    return {**{name: f'{name}.before' for name in remembered_nodes(network)},
            **{f'{name}.next': name for name in nodes},
            **{f'{name}.sum.next': f'{name}.sum' for name in nodes}}


@torch.inference_mode()
def initial_values(network: RolloutNetwork, batch_size: int = 1) -> Values:
    """Return what the first frame finds after a reset, by name."""
    state = network.initial_state(batch_size).values
    first = frame_tasks(network.graph, network.pattern, 1)
    ahead = HalfStep(network, [(task, True) for task in first.ahead], set(), first.held)
    held = {f'{name}.next': state[name] for name in first.held}
    made = {**state, **held}
    made.update(zip(ahead.outputs, ahead(*(made[name] for name in ahead.inputs))))
    names = carry(network)
    return {names[name]: value for name, value in made.items() if name in names}
