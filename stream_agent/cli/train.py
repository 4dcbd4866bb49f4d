"""Command line: train driving policies, in the simulator or on recordings; write their files."""

import argparse
from collections.abc import Sequence
from pathlib import Path
import signal
import sys

from stream_agent.bounded_settings import settings_fields
from stream_agent.cli.arguments import (
    add_allowed, add_computer, add_robot, add_settings, add_shared, check_computer, computer_of,
    find_graph, in_words, open_graph, positive, refuse_given, robot_settings, run_tool,
    settings_of, STOPPED)
from stream_agent.cli.command_parser import CommandParser
from stream_agent.driving.compute_model import ComputeModel
from stream_agent.learning import distributed
from stream_agent.learning.augmentation import Augmentation
from stream_agent.learning.initial_policy import InitialPolicy, load_initial, name_after
from stream_agent.learning.policy_jobs import (
    OF_COMPUTER, Outcome, PolicyJob, remove_unfinished, Result, train_all)
from stream_agent.learning.policy_sources import FromExpert, FromRecordings
from stream_agent.learning.settings import (
    CloningSchedule, FrameCrop, ImitationSchedule, RecognitionSchedule, RecordingsChoice,
    SIGNS_SCHEDULE, SIMULATOR_CROP, TrainerOptions)
from stream_agent.network.preprocessing import Preprocessing
from stream_agent.network.transforms import allow_transforms
from stream_agent.recordings.alignment import Alignment
from stream_agent.recordings.recording import Reading
from stream_agent.recordings.sources import recorded_robot
from stream_agent.share import policy_file

PATTERNS = ('streaming', 'sequential')
SIMULATOR, SIGNS, RECORDINGS = 'in the simulator', 'past signs', 'from recordings'
# What both ways to learn have, with a default of its own each.
SHARED = ('window', 'learning_rate', 'updates_per_frame')


def labels_of(pattern_names: Sequence[str]) -> list[str]:
    """Return what the policies are called, each differently: they become names of files."""
    labels: list[str] = []
    for name in pattern_names:
        kind = name if name in (*PATTERNS, *OF_COMPUTER) else 'hybrid'
        again = sum(label.split('_')[0] == kind for label in labels)
        labels.append(f'{kind}_{again + 1}' if again else kind)
    return labels


def tell(jobs: Sequence[PolicyJob], results: Sequence[Outcome], finished: bool) -> None:
    """Say which files there are now, and tidy up if no more are to come."""
    for job, result in zip(jobs, results):
        if result is None:
            print(f'{job.label}: not started')
        elif not isinstance(result, Result):
            print(f'train: {job.label}: {in_words(result)}', file=sys.stderr)
        elif result.outcome.finished:
            print(f'wrote {result.path}')
        else:
            print(f'{job.label}: stopped at step {result.outcome.step} of {result.steps}; wrote '
                  f'{result.path}, the policy as it is now')
        if isinstance(result, Result):
            for path in result.kept:
                print(f'  an earlier one is kept as {path}')
            if result.verdict:
                print(f'  {result.verdict}')
    if finished:
        # Not before: whoever repeats a stopped command has no finished policy trained again.
        remove_unfinished(jobs)
    elif not all(isinstance(result, Exception) for result in results):
        print('the same command resumes from there; with --fresh it starts anew')


def parse(args: list[str] | None) -> argparse.Namespace:
    """Read the command line; defaults are those of the shipped policies."""
    parser = CommandParser('train', __doc__)
    parser.add_argument('--graph', type=find_graph,
                        help='graph file, or the name of one that is shipped (lane)')
    add_allowed(parser)
    parser.add_argument('--init', type=Path, metavar='FILE|NAME', help='begin with a trained '
                        'policy, or a shipped one, instead of weights drawn at random: graph, '
                        'preprocessing and limits are its own, and the pattern without --pattern')
    parser.add_argument('--freeze', nargs='+', default=[], metavar='NODE', help='nodes of --init '
                        'whose weights stay as they are, with those of the edges into them; '
                        "'layer*' names several")
    parser.add_argument('--pattern', nargs='+',
                        help="'streaming', 'sequential', or the edges that stream: 'a->b,b->b'; "
                        "for an emulated computer also 'planned', what `plan` recommends, and "
                        "'smaller', the shallow nodes that fit a camera period "
                        '(streaming sequential)')
    parser.add_argument('--output', type=Path, default=Path('policies'), metavar='DIR',
                        help='folder of the checkpoints (%(default)s)')
    parser.add_argument('--workers', type=positive, default=2, metavar='N',
                        help='policies trained side by side (%(default)s)')
    parser.add_argument('--fresh', action='store_true',
                        help='start anew, even if an earlier training could be resumed, which '
                        'is set aside')
    parser.add_argument('--replace', action='store_true', help='write over an earlier policy of '
                        'that name (and --fresh over a stopped training), instead of keeping it '
                        'as NAME.1.safetensors')
    add_settings(parser, TrainerOptions, without=['learning_rate'])
    add_shared(parser, SHARED, {SIMULATOR: ImitationSchedule, SIGNS: SIGNS_SCHEDULE,
                                RECORDINGS: CloningSchedule})
    add_shared(parser, (), {SIMULATOR: SIMULATOR_CROP, SIGNS: FrameCrop, RECORDINGS: FrameCrop})
    group = parser.add_argument_group('learning in the simulator')
    add_shared(group, [item.name for item in settings_fields(ImitationSchedule)
                       if item.name not in SHARED],
               {'on a plain road': ImitationSchedule, SIGNS: SIGNS_SCHEDULE})
    add_settings(group, RecognitionSchedule)
    add_robot(group, '; with --bag its contract says which topics of recordings are read')
    add_computer(parser, 'drives in the simulator as if every node took its time, and learns what '
                 'the expert commands by then; to drive under the same timing, give the same '
                 'options to `evaluate`')
    for title, kind in (('recordings', Reading), ('alignment of frames and commands', Alignment)):
        add_settings(parser.add_argument_group(title), kind)
    group = parser.add_argument_group('learning from recordings')
    add_settings(group, RecordingsChoice)
    add_settings(group, CloningSchedule, without=SHARED)
    add_settings(group, Augmentation)
    arguments = parser.parse_args(args)
    check_way(parser, arguments)
    return arguments


def check_way(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Refuse options of what the policies do not learn from."""
    others: tuple[type, ...]
    if arguments.bag:
        others = ImitationSchedule, RecognitionSchedule, ComputeModel
        why = 'this has an effect only without --bag'
    else:
        others = (Reading, Alignment, RecordingsChoice, CloningSchedule, Augmentation)
        why = 'this has an effect only with --bag'
    for kind in others:
        refuse_given(parser, arguments, kind, why, SHARED)
    if arguments.freeze and not arguments.init:
        parser.error('--freeze: this keeps weights of a trained policy; add --init')
    check_computer(parser, arguments)


def source_of(arguments: argparse.Namespace) -> FromExpert | FromRecordings:
    """Return what the policies learn from; ValueError if settings contradict each other."""
    contract, reading = recorded_robot(arguments.robot, settings_of(arguments, Reading))
    if not arguments.bag:
        simulation = robot_settings(arguments.robot)
        schedule, crop = ((SIGNS_SCHEDULE, FrameCrop()) if simulation.signs else
                          (ImitationSchedule(), SIMULATOR_CROP))
        return FromExpert(
            simulation, arguments.robot or '', computer_of(arguments),
            settings_of(arguments, schedule), settings_of(arguments, crop),
            settings_of(arguments, RecognitionSchedule), contract)
    return FromRecordings(
        settings_of(arguments, RecordingsChoice), reading, settings_of(arguments, Alignment),
        settings_of(arguments, CloningSchedule), settings_of(arguments, Augmentation),
        settings_of(arguments, FrameCrop), contract)


def initial_of(arguments: argparse.Namespace) -> InitialPolicy:
    """Read the policy to begin with, and take options from it; InitError if others contradict."""
    allow_transforms(arguments.allow)
    initial = load_initial(policy_file(arguments.init), arguments.graph)
    own = initial.policy
    crop = next((one for one in own.conversions.values() if isinstance(one, Preprocessing)),
                FrameCrop())
    for name, usual, value in (('crop_top', None, crop.crop_top),
                               ('crop_bottom', 0.0, crop.crop_bottom),
                               ('updates_per_frame', 1, own.updates_per_frame)):
        if getattr(arguments, name) != usual:
            initial.check_option(f"--{name.replace('_', '-')}", getattr(arguments, name), value)
        setattr(arguments, name, value)
    return initial


def jobs_of(arguments: argparse.Namespace) -> list[PolicyJob]:
    """Return a job for every pattern; without one, for that of the policy to begin with."""
    if arguments.graph:
        open_graph(str(arguments.graph))
    graph, initial = arguments.graph, None
    patterns = arguments.pattern or ([''] if arguments.init else PATTERNS)
    labels = labels_of(patterns)
    if arguments.init:
        initial = initial_of(arguments)
        names = [name_after(initial.path, initial.label, label if pattern else '')
                 for pattern, label in zip(patterns, labels)]
        labels = labels if arguments.pattern else [initial.label]
    else:
        graph = graph or find_graph('lane')
        names = [f'{graph.stem}_{label}' for label in labels]
    source = source_of(arguments)
    return [PolicyJob(
        graph, pattern, label, name, source, arguments.output,
        settings_of(arguments, TrainerOptions, steps=0, position=position),
        tuple(arguments.allow), initial.path if initial else None, tuple(arguments.freeze),
        arguments.replace)
        for position, (pattern, label, name) in enumerate(zip(patterns, labels, names))]


def work(arguments: argparse.Namespace) -> int:
    """Train, and say where the policies are; returns the exit code."""
    jobs = jobs_of(arguments)
    results = train_all(jobs, arguments.workers, arguments.fresh)
    finished = all(isinstance(result, Result) and result.outcome.finished for result in results)
    if distributed.rank() == 0:
        tell(jobs, results, finished)
    failed = any(isinstance(result, Exception) for result in results)
    return 0 if finished else 1 if failed else STOPPED


def main(args: list[str] | None = None) -> int:
    """Train and say where the checkpoints are."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    arguments = parse(args)
    codes: list[int] = []
    try:
        failed = run_tool('train', lambda: codes.append(work(arguments)))
    except KeyboardInterrupt:
        print('\ntrain: stopped immediately; what was trained is as it was last saved',
              file=sys.stderr)
        return STOPPED
    return failed or codes[0]
