"""Settings dataclasses on the command line: every field is an option, and its range is kept."""

import argparse
import ast
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from importlib import import_module
from pathlib import Path

import pytest
from stream_agent.bounded_settings import (
    allowed_values, check, choice, file_path, free_text, is_allowed, numbers_allowed, quantity,
    settings_fields, SettingsError, several)
from stream_agent.cli import (
    compare, convert, draw, evaluate, export, import_network, plan, rollouts, run, train, world)
from stream_agent.cli.arguments import (
    add_settings, add_shared, option_of, refuse_given, renamed, settings_of)
from stream_agent.cli.command_parser import CommandParser
from stream_agent.doctor import options as doctor
from stream_agent.driving.compute_model import ComputeModel
from stream_agent.driving.disturbed_timeline import Disturbance
from stream_agent.engine.settings import EngineSettings
from stream_agent.learning.augmentation import Augmentation
from stream_agent.learning.settings import (
    CloningSchedule, FrameCrop, ImitationSchedule, RecognitionSchedule, RecordingsChoice,
    TrainerOptions)
from stream_agent.recordings.alignment import Alignment
from stream_agent.recordings.recording import Reading
from stream_agent.simulation.session import SessionSchedule

PACKAGE = Path(__file__).parents[2] / 'stream_agent'
# The command of every settings dataclass, what it has to be given besides, and what is no option.
COMMANDS: list[tuple[type, Callable, list[str], tuple[str, ...]]] = [
    *((kind, train.parse, [], ()) for kind in (
        TrainerOptions, ImitationSchedule, RecognitionSchedule, CloningSchedule, FrameCrop,
        RecordingsChoice, Reading, Alignment, Augmentation, ComputeModel)),
    *((kind, evaluate.parse, [], ()) for kind in (
        evaluate.EvaluateOptions, evaluate.EmulatedOptions, ComputeModel, Disturbance)),
    *((kind, compare.parse, ['--bag', 'a', '--policy', 'b'], without) for kind, without in (
        (compare.CompareOptions, ()), (EngineSettings, ('precision',)), (Reading, ()),
        (Alignment, ('shortest',)), (compare.EffectOptions, ()), (ComputeModel, ()))),
    (convert.ConvertOptions, convert.parse, ['a', '--output', 'b'], ()),
    (draw.DrawOptions, draw.parse, ['lane'], ()),
    (export.ExportOptions, export.parse, ['a', '--output', 'b'], ()),
    *((kind, import_network.parse, ['a.onnx'], ()) for kind in (
        import_network.ImportOptions, import_network.DrivingOptions)),
    (plan.PlanOptions, plan.parse, ['lane'], ()),
    (rollouts.RolloutOptions, rollouts.parse, ['lane'], ()),
    *((kind, run.parse, [], ()) for kind in (
        run.RunOptions, run.ShadowOptions, run.RoadOptions)),
    (doctor.DoctorOptions, doctor.parse, [], ())]
OPTIONS = [(item, parse, args) for kind, parse, args, without in COMMANDS
           for item in settings_fields(kind) if item.name not in without]
# ROS parameters, none of which is an option, but for a few of the simulation's.
PARAMETERS = {'AgentSettings', 'BaseSettings', 'CameraSettings', 'ExpertSettings',
              'FrameFilterSettings', 'GateSettings', 'InputSettings', 'ListenerSettings',
              'OutputSettings', 'RecordBagSettings', 'RecorderSettings', 'RosSettings',
              'SessionSchedule', 'SimulationSettings'}


def settings_classes() -> dict[str, type]:
    """Return the settings dataclasses of the package, found in its files."""
    found = {}
    for path in sorted(PACKAGE.rglob('*.py')):
        tree = ast.parse(path.read_text())
        modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        if not modules & {'stream_agent.bounded_settings', 'stream_agent.images'}:
            continue
        name = '.'.join(path.relative_to(PACKAGE.parent).with_suffix('').parts)
        module = import_module(name)
        found |= {kind.__name__: kind for kind in vars(module).values()
                  if is_dataclass(kind) and isinstance(kind, type) and kind.__module__ == name
                  and any(item.metadata for item in fields(kind))}
    return found


CLASSES = settings_classes()


def described(value: object) -> str:
    return getattr(value, 'name', '') or getattr(value, '__module__', '').split('.')[-1]


def test_no_settings_dataclass_is_without_its_command_or_node():
    assert set(CLASSES) == PARAMETERS | {kind.__name__ for kind, *_ in COMMANDS}


@pytest.mark.parametrize('name', CLASSES)
def test_every_setting_says_what_it_means_and_allows_its_default(name):
    for item in settings_fields(CLASSES[name]):
        assert item.metadata['meaning'].strip()
        assert item.metadata.keys() & {'unit', 'among', 'type'}
        assert is_allowed(item, item.default), item.name
        if 'unit' in item.metadata:
            assert item.metadata['low'] < item.metadata['high']


def help_of(parse, args, capsys):
    with pytest.raises(SystemExit) as stop:
        parse([*args, '--help'])
    assert stop.value.code == 0
    return ' '.join(capsys.readouterr().out.split())


@pytest.mark.parametrize('kind, parse, args, without', COMMANDS, ids=described)
def test_every_setting_is_in_the_help_of_its_command(kind, parse, args, without, capsys,
                                                     monkeypatch):
    monkeypatch.setenv('COLUMNS', '1000')
    text = help_of(parse, args, capsys)
    for item in settings_fields(kind):
        option = option_of(item)
        switched_off = item.default is True
        present = f'--no-{option[2:]} ' in text if switched_off else f'{option} ' in text
        assert present == (item.name not in without), item.name
        if present:
            assert ' '.join(item.metadata['meaning'].split()) in text, item.name
            if 'unit' in item.metadata:
                assert numbers_allowed(item).split(' from ')[1] in text, item.name


@pytest.mark.parametrize('item, parse, args', [
    one for one in OPTIONS if 'unit' in one[0].metadata], ids=described)
def test_a_number_outside_its_range_is_refused_by_a_sentence_with_the_range(item, parse, args,
                                                                            capsys):
    count = len(item.default) if isinstance(item.default, tuple) else 1
    for value in (item.metadata['low'] - 1, item.metadata['high'] + max(
            1, item.metadata['high'] // 8), 'nan', 'many'):
        with pytest.raises(SystemExit) as stop:
            # With an equals sign, as a negative number would be taken for an option.
            parse([*args, *([f'{option_of(item)}={value}'] if count == 1 else
                            [option_of(item), *[f' {value}'] * count])])
        assert stop.value.code == 2
        said = capsys.readouterr().err.splitlines()[0]
        assert said.endswith(f"error: argument {option_of(item)}: '{value}' is not "
                             f'{numbers_allowed(item)}' if count == 1 else numbers_allowed(item))


@pytest.mark.parametrize('item, parse, args', [
    one for one in OPTIONS if one[0].metadata.get('among')], ids=described)
def test_another_word_is_refused(item, parse, args, capsys):
    with pytest.raises(SystemExit) as stop:
        parse([*args, option_of(item), 'qqq'])
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert "invalid choice: 'qqq'" in said
    assert all(word in said for word in item.metadata['among'])


@dataclass(frozen=True)
class Kite:
    """Something of every kind."""

    length: float = quantity(20.0, 'm', 1.0, 100.0, 'of the line')
    tails: int = quantity(2, '', 0, 9, 'how many, 100 % of them red')
    corner: tuple[float, float] = quantity((0.5, 1.0), 'm', 0.0, 3.0, 'width and height')
    wind: float | None = quantity(None, 'm/s', 0.0, 40.0, 'if it is known', whole=False)
    shape: str = choice('delta', 'of the sail', ('delta', 'box'))
    stable: bool = choice(True, 'let it fly by itself')
    lit: bool = choice(False, 'with a light')
    name: str = free_text('', 'painted on it')
    plan: Path | None = file_path(None, 'to build it by')
    colours: tuple[str, ...] = several((), 'of the sail', 'COLOUR')
    owner: str = 'set by the program'

    def __post_init__(self) -> None:
        check(self)


def kite_of(*args: str, settings=Kite, **others):
    parser = argparse.ArgumentParser()
    add_settings(parser, settings)
    return settings_of(parser.parse_args(args), settings, **others)


def test_settings_become_options_and_options_settings():
    assert kite_of() == Kite()
    assert kite_of('--length', '3', '--tails', '4', '--corner', '1', '2', '--wind', '7', '--shape',
                   'box', '--no-stable', '--lit', '--name', 'Ada', '--plan', 'a/b', '--colours',
                   'red', 'blue', owner='me') == Kite(
        3.0, 4, (1.0, 2.0), 7.0, 'box', False, True, 'Ada', Path('a/b'), ('red', 'blue'), 'me')


def test_an_instance_has_other_defaults():
    other = Kite(length=5.0, owner='me')
    assert kite_of(settings=other) == other
    assert kite_of('--tails', '1', settings=other) == Kite(length=5.0, tails=1, owner='me')


def test_what_the_fields_allow_is_said():
    said = {item.name: allowed_values(item) for item in settings_fields(Kite)}
    assert said == {
        'length': 'a number from 1 to 100 m (of the line)',
        'tails': 'a whole number from 0 to 9 (how many, 100 % of them red)',
        'corner': '2 numbers, each a number from 0 to 3 m (width and height)',
        'wind': 'a number from 0 to 40 m/s (if it is known)', 'shape': 'delta or box',
        'stable': 'true or false', 'lit': 'true or false', 'name': 'a text (painted on it)',
        'plan': 'a path (to build it by)', 'colours': 'a list of texts (of the sail)'}


@pytest.mark.parametrize('given', [
    {'length': None}, {'length': True}, {'tails': 1.0}, {'corner': (1.0,)}, {'corner': 1.0},
    {'corner': (1.0, 4.0)}, {'shape': 'round'}, {'lit': 1}, {'name': 3}, {'plan': 'a'},
    {'colours': ('red', 3)}, {'colours': 'red'}])
def test_a_value_that_is_not_allowed_is_refused(given):
    (name, value), = given.items()
    with pytest.raises(SettingsError) as error:
        Kite(**given)
    assert str(error.value).startswith(f'{name} is {value!r}; set it to ')


@pytest.mark.parametrize('args, said', [
    (['--lenght', '3'], "there is no option '--lenght'; did you mean '--length'?"),
    (['--lenght=3'], "there is no option '--lenght'; did you mean '--length'?"),
    # A part of a name is refused, too: a new option would give it another meaning.
    (['--len', '3'], "there is no option '--len'; did you mean '--length'?"),
    (['--no_stable'], "there is no option '--no_stable'; did you mean '--no-stable'?"),
    (['--shape', 'dleta'], "argument --shape: invalid choice: 'dleta'; did you mean 'delta'?"),
    (['--zzz'], "there is no option '--zzz'; options are --help, --length, --tails, --corner, "
     '--wind, --shape, --no-stable, --lit, --name, --plan, --colours'),
    (['--length'], 'argument --length: expected one argument')])
def test_a_mistake_is_a_sentence_before_all_else(args, said, capsys):
    parser = CommandParser('fly')
    add_settings(parser, Kite)
    with pytest.raises(SystemExit) as stop:
        parser.parse_args(args)
    assert stop.value.code == 2
    assert capsys.readouterr().err == (
        f'fly: error: {said}\nwith --help instead, all options are listed\n')


def test_a_misspelt_option_is_named_and_not_what_is_missing_for_it(capsys):
    with pytest.raises(SystemExit):
        world.parse(['--ouptut', 'a'])
    assert capsys.readouterr().err.startswith(
        "world: error: there is no option '--ouptut'; did you mean '--output'?\n")


def test_what_only_looks_like_an_option_is_taken():
    parser = CommandParser('fly')
    add_settings(parser, Kite)
    parser.add_argument('rest', nargs='*')
    given = parser.parse_args(['--name', '--no option', '--tails', '3', '--', '--tail'])
    assert (given.name, given.tails, given.rest) == ('--no option', 3, ['--tail'])


def test_several_values_may_come_together_or_one_by_one_instead_of_the_default():
    assert kite_of('--colours', 'red', 'blue') == kite_of('--colours', 'red', '--colours', 'blue')
    assert run.parse([]).baseline == [Path('lane_sequential')]
    assert run.parse(['--baseline', 'a', '--baseline', 'b', 'c']).baseline == [
        Path('a'), Path('b'), Path('c')]


def test_a_default_of_each_way_is_said_and_taken():
    parser = argparse.ArgumentParser()
    ways = {'at sea': Kite(length=50.0), 'on land': Kite}
    add_shared(parser, ['length', 'tails'], ways)
    text = ' '.join(parser.format_help().split())
    assert '(default 50 at sea, 20 on land; 1 to 100 m)' in text
    assert '(default 2; 0 to 9)' in text
    nothing, something = parser.parse_args([]), parser.parse_args(['--length', '9'])
    assert [settings_of(nothing, kind).length for kind in ways.values()] == [50.0, 20.0]
    assert [settings_of(something, kind).length for kind in ways.values()] == [9.0, 9.0]


def test_options_that_mean_nothing_are_refused(capsys):
    parser = CommandParser('fly')
    add_settings(parser, Kite)
    refuse_given(parser, parser.parse_args([]), Kite, 'no wind')
    for args in (['--tails', '3'], ['--no-stable'], ['--colours', 'red']):
        with pytest.raises(SystemExit):
            refuse_given(parser, parser.parse_args(args), Kite, 'no wind')
        assert capsys.readouterr().err.startswith(f'fly: error: {args[0]}: no wind\n')


def test_both_ways_to_learn_have_a_crop_of_their_own():
    arguments = [train.parse(args) for args in (
        [], ['--crop-top', '0.1'], ['--bag', 'a'], ['--bag', 'a', '--crop-top', '0.1'])]
    assert [train.source_of(one).crop.crop_top for one in arguments] == [0.25, 0.1, 0.0, 0.1]


def test_run_and_world_take_the_course_of_the_simulation():
    assert world.parse(['--output', 'a']).course_seed == SessionSchedule.course_seed
    given = run.parse(['--seed', '7'])
    assert (given.course_seed, given.duration) == (7, 75.0)
    assert run.parse(['--shadow']).duration == 45.0


def test_an_option_of_the_release_before_is_taken_with_a_warning(capsys):
    for args in (['--executor', 'packed'], ['--executor=packed']):
        given = compare.parse(['--bag', 'a', '--policy', 'b', *args])
        assert given.backend == 'packed'
        assert capsys.readouterr().err == (
            'compare: --executor is called --backend now; rename it, as the next release refuses '
            'the old name\n')
    assert renamed('compare', ['--backend', '--executors'], {'--executor': '--backend'}) == [
        '--backend', '--executors']
    assert capsys.readouterr().err == ''
