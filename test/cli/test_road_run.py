"""The main job of policies that each drive alone: what is started, and a short one for real."""

import json
from pathlib import Path
import re
import signal
import sys

import pytest
from stream_agent.cli import run
from stream_agent.cli.own_domain import choose_domains, Domain
from stream_agent.cli.road_run import (
    COSTS, POLICIES, read_policies, RoadRun, short_names, usual_costs)
from stream_agent.cli.run import check_files, parse
from stream_agent.share import policy_file
from support.jobs import is_running, Job, ROOT, save_untrained, wait_for
import yaml

CONFIG = ROOT / 'config'


@pytest.fixture(scope='module')
def policies(tmp_path_factory):
    """Return the files of three untrained policies."""
    folder = tmp_path_factory.mktemp('policies')
    path = save_untrained(folder)
    for name in ('road_planned', 'road_sequential', 'road_smaller'):
        (folder / f'{name}.safetensors').write_bytes(path.read_bytes())
    return [str(folder / f'road_{name}.safetensors')
            for name in ('planned', 'sequential', 'smaller')]


def header(path, nodes):
    """Write what is read of a policy here: a chain of nodes behind an image."""
    graph = {'edges': [{'source': a, 'target': b} for a, b in zip(('image', *nodes), nodes)]}
    pattern = {'name': 'smaller', 'streams': []}
    text = json.dumps({'__metadata__': {
        'graph': json.dumps(graph), 'pattern': json.dumps(pattern)}}).encode()
    path.write_bytes(len(text).to_bytes(8, 'little') + text)
    return path


def test_names_are_what_the_files_do_not_share():
    assert short_names([Path('reflex_planned.x'), Path('a/reflex_smaller.x')]) == [
        'planned', 'smaller']
    assert short_names([Path('lane_sequential'), Path('lane_streaming')]) == [
        'sequential', 'streaming']
    assert short_names([Path('one'), Path('other')]) == ['one', 'other']
    assert short_names([Path('reflex_planned.x')]) == ['reflex_planned']
    with pytest.raises(ValueError, match="two policies are called 'mine'; give files with diff"):
        short_names([Path('a/mine.x'), Path('b/mine.x'), Path('yours')])


def test_the_whole_takes_the_given_periods_and_a_smaller_network_its_share(tmp_path):
    whole = header(tmp_path / 'whole', ['a', 'b', 'c', 'out'])
    small = header(tmp_path / 'small', ['a', 'out'])
    costs = tmp_path / 'costs.yaml'
    costs.write_text('{nodes: {a: 1.0, b: 3.0, c: 0.0, out: 1, other: 6.0}, overhead: 1.0}')
    found = read_policies([small, whole], costs, 6.0)
    assert [policy.periods for policy in found] == [1.5, 3.0]
    # Of nodes that cost the same, the largest network has all.
    assert [policy.periods for policy in read_policies([small, whole], None, 6.0)] == [3.0, 6.0]


def test_the_pattern_is_what_the_rollout_is_and_not_what_its_trainer_called_it():
    found = read_policies([policy_file(path) for path in POLICIES], COSTS, 6.4)
    assert [(policy.name, policy.pattern, policy.peer) for policy in found] == [
        ('planned', 'multi-rate', None), ('sequential', 'sequential', None),
        ('smaller', 'sequential', 'smaller')]
    (streaming,) = read_policies([policy_file(Path('lane_streaming'))], None, 6.4)
    assert streaming.pattern == 'streaming'


def test_costs_of_the_usual_policies_are_taken_where_they_fit_all(policies):
    assert usual_costs([policy_file(path) for path in POLICIES]) == COSTS
    assert usual_costs([policy_file(POLICIES[0])]) == COSTS
    assert usual_costs([policy_file(POLICIES[0]), Path(policies[0])]) is None


def test_what_is_not_a_policy_is_named(tmp_path):
    path = header(tmp_path / 'chain', ['a', 'out'])
    path.write_bytes(path.read_bytes().replace(b'pattern', b'natterp'))
    with pytest.raises(ValueError, match=re.escape(f'{path}')):
        read_policies([path], None, 6.0)


@pytest.mark.parametrize('text, said', [
    ('{nodes: {a: 1.0}}', "the node 'out' has no cost; give one for each of a, out"),
    ('{nodes: {a: 0.0, out: 0.0}}', 'all costs are 0 and cannot be scaled'),
    ('[1.0]', "'nodes' is missing, a map from node to seconds"),
    ('{nodes: {a: soon, out: 1.0}}', "the cost of 'a' is 'soon'; write seconds")])
def test_costs_that_do_not_fit_are_refused(text, said, tmp_path):
    small, costs = header(tmp_path / 'small', ['a', 'out']), tmp_path / 'costs.yaml'
    costs.write_text(text)
    with pytest.raises(ValueError, match=re.escape(f'{costs}: {said}')):
        read_policies([small], costs, 6.0)


@pytest.mark.parametrize('words, shadow, implied_by, duration', [
    ([], False, '', 75.0), (['--shadow'], True, '', 45.0),
    (['--duration', '3', '--device', 'cpu', '--allow', 'm.f'], False, '', 3.0),
    (['--checkpoint', 'lane_streaming'], True, '--checkpoint', 45.0),
    (['--baseline', 'none'], True, '--baseline', 45.0), (['--rate', '60'], True, '--rate', 45.0),
    (['--robot', 'donkeycar'], True, '--robot', 45.0),
    (['--without-launch'], True, '--without-launch', 45.0),
    (['--shadow', '--rate', '60'], True, '', 45.0)])
def test_what_was_asked_for_before_there_were_drives_alone_is_still_done(
        words, shadow, implied_by, duration):
    options = parse(words)
    assert (options.shadow, options.implied_by, options.duration) == (
        shadow, implied_by, duration)


@pytest.mark.parametrize('words, said', [
    (['--shadow', '--pass-periods', '3'], '--pass-periods: holds for policies that each drive '
     'alone; leave out this option, or --shadow'),
    (['--baseline', 'none', '--policies', 'a'], '--policies: holds for policies that each drive '
     'alone; leave out this option, or --baseline, which implies --shadow')])
def test_options_of_both_kinds_are_refused(words, said, capsys):
    with pytest.raises(SystemExit) as ended:
        parse(words)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def said_by(command):
    """Return the parameters that a command gives to its process, as YAML reads them."""
    given = [word.split(':', 1)[1].split(':=', 1) for option, word in zip(command, command[1:])
             if option == '-p']
    return {name: yaml.safe_load(value) for name, value in given}


def test_all_drive_the_same_course_and_are_pushed_alike(policies, tmp_path):
    options = parse(['--policies', *policies, '--seed', '7', '--pushes', '1.5', '--duration', '9',
                     '--output', str(tmp_path), '--params-file', str(tmp_path / 'mine.yaml')])
    (tmp_path / 'mine.yaml').write_text('/**/gate: {ros__parameters: {max_speed: 0.1}}')
    check_files(options)
    job = RoadRun(options, CONFIG)
    assert job.names == ['planned', 'sequential', 'smaller']
    for policy in job._policies:
        domain = Domain(5, {}, None, is_ours=policy.name == 'planned')
        commands = job.commands(policy, tmp_path, domain)
        assert list(commands) == ['recorder', 'gate', 'agent', 'simulation']
        simulation, agent = said_by(commands['simulation']), said_by(commands['agent'])
        assert (simulation['course_seed'], simulation['pushes'], simulation['handover']) == (
            7, 1.5, 1.0)
        assert (simulation['signs'], simulation['rate'], simulation['width_px']) == (
            True, 60.0, 64)
        assert simulation['drive_file'] == str(tmp_path / policy.name / 'drive.json')
        assert simulation['allow_foreign_listeners'] == (policy.name == 'planned')
        assert agent['checkpoint'] == str(policy.path)
        assert agent['pass_periods'] == pytest.approx(6.4)
        assert 'costs' not in agent
        # A gate of its own patience would stop what answers every 107 ms on a busy machine.
        gate = said_by(commands['gate'])
        assert gate['max_age'] == gate['command_timeout'] == pytest.approx(5 * 6.4 / 60)
        for name in ('gate', 'agent', 'recorder'):
            files = [Path(word).name for word in commands[name] if word.endswith('.yaml')]
            assert files == ['robot.yaml', 'reflex.yaml', 'mine.yaml']
            assert said_by(commands[name])['camera_period'] == pytest.approx(1 / 60)


def test_every_agent_emulates_the_same_computer(tmp_path):
    options = parse(['--policies', *map(str, POLICIES), '--output', str(tmp_path)])
    check_files(options)
    job = RoadRun(options, CONFIG)
    for policy in job._policies:
        commands = job.commands(policy, tmp_path, Domain(5, {}, None, is_ours=True))
        agent, gate = said_by(commands['agent']), said_by(commands['gate'])
        assert (agent['pass_periods'], agent['costs']) == (
            6.4, str(CONFIG / 'graphs' / 'reflex_costs.yaml'))
        assert gate['max_age'] == gate['command_timeout'] == pytest.approx(5 * 6.4 / 60)
    conditions = job.conditions()
    assert (conditions['costs'], conditions['pass_periods']) == ('reflex_costs', 6.4)
    own = {drive['name']: drive['pass_periods'] for drive in conditions['drives']}
    assert own['planned'] == own['sequential'] == 6.4 and own['smaller'] < 6.4 / 3


def test_domains_follow_the_one_that_was_chosen(monkeypatch):
    monkeypatch.setenv('ROS_DOMAIN_ID', '3')
    assert [domain.number for domain in choose_domains(2, None, True)] == [3, 4]
    domains = choose_domains(3, 230, True)
    assert [domain.environment['ROS_DOMAIN_ID'] for domain in domains] == ['230', '231', '232']
    # They are marks of one run, which has not met another one by that.
    assert not any(domain.is_ours or domain.mark.others() for domain in domains)
    with pytest.raises(ValueError, match='3 drives need as many ROS domains, and the highest is '
                       '232; choose one up to 230'):
        choose_domains(3, 231, True)
    monkeypatch.setenv('ROS_DOMAIN_ID', 'mine')
    with pytest.raises(ValueError, match="ROS_DOMAIN_ID is 'mine'; set it to a whole number"):
        choose_domains(1, None, True)


@pytest.mark.parametrize('words, said', [
    (['--policies', 'nowhere'], "policy 'nowhere': no such file"),
    (['--policies', 'lane_streaming', '--costs', 'nowhere'], "costs 'nowhere': no such file; "
     'shipped costs are reflex_costs'),
    (['--policies', 'lane_streaming', 'lane_streaming'], 'two policies are called')])
def test_what_cannot_be_used_is_said_before_anything_starts(words, said, tmp_path, monkeypatch,
                                                            capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, 'choose_domains', None)
    assert run.main(words) == 1
    assert said in capsys.readouterr().err


@pytest.fixture
def main_job(policies, tmp_path):
    """Start the main job with untrained policies and given arguments."""
    jobs = []

    def start(*words):
        jobs.append(Job([sys.executable, '-m', 'stream_agent', 'run', '--output',
                         str(tmp_path / 'results'), '--policies', *policies, *words], tmp_path,
                        domain=False))
        return jobs[-1]

    yield start
    for job in jobs:
        job.close()


@pytest.mark.real_time
@pytest.mark.alone
def test_three_drives_at_once_end_in_one_report(main_job, tmp_path):
    job = main_job('--duration', '5')
    assert job.popen.wait(150) == 0, job.said
    folder = (tmp_path / 'results' / 'latest').resolve()
    assert f'report: {folder}/report.html' in job.said
    assert 'Emulated computer: one core on which a pass through the network takes 6.4 camera' in (
        job.said)
    found = json.loads((folder / 'run.json').read_text())
    assert [(drive['name'], drive['peer']) for drive in found['drives']] == [
        ('planned', None), ('sequential', None), ('smaller', 'smaller')]
    records = [json.loads((folder / drive['name'] / 'drive.json').read_text())
               for drive in found['drives']]
    # All are pushed alike, whatever they do.
    pushes = [record['frames']['push'] for record in records]
    assert pushes[0] == pushes[1] == pushes[2] and any(pushes[0])
    for drive, record in zip(found['drives'], records):
        assert len(record['frames']['time']) == 300
        assert drive['commands_per_frame'] == pytest.approx(1 / 6.4, abs=0.03)
        assert (folder / drive['name'] / 'report.html').exists()
        assert f'href="{drive["name"]}/report.html"' in (folder / 'report.html').read_text()
    # What is normal on a slow computer is no fault, and nobody is left behind.
    assert not re.search(r'\[(ERROR|FATAL)\]|robot is stopped|No message', job.said), job.said
    assert [drive['stops'] for drive in found['drives']] == [0, 0, 0]
    assert job.said.count(' simulation] ') == 0
    assert (folder / 'log.txt').read_text().count('driving for 5 s') == 3


@pytest.mark.real_time
@pytest.mark.alone
def test_a_signal_ends_all_drives(main_job):
    job = main_job('--duration', '60')
    children = Path(f'/proc/{job.popen.pid}/task/{job.popen.pid}/children')
    # The recorders are the last to be started.
    wait_for(lambda: len(children.read_text().split()) == 12 or job.popen.poll() is not None, 120)
    started = list(map(int, children.read_text().split()))
    job.popen.send_signal(signal.SIGINT)
    assert job.popen.wait(10) == 130, job.said
    assert not any(is_running(pid) for pid in started)
    assert 'crashed' not in job.said
