"""The law of scores: its fit on rows whose law is known, and on drives of the expert."""

import json
import math
import sys

import pytest
from stream_agent.driving.drives import RoadTask, Trial
from stream_agent.simulation.settings import SimulationSettings
from stream_agent.theory.planning.law import Scene, ScoreLaw, TASKS, Timing, WHOLE
from studies.__main__ import main
from studies.law import fitted, left_out, misses, rms, SCENE, scored
from studies.reflex import bounds
from studies.test.test_reflex_bounds import timed, TRIAL

TRUE = ScoreLaw(0.7, {WHOLE: 80.0, 'smaller': 25.0, 'frozen trunk': 60.0}, stale=4.0)
FAST = Scene(0.3, 2.0)


def data(kind, r, newest, deep, score=None, **more):
    family = kind if kind in TRUE.ceilings else WHOLE
    score = TRUE.forecast(Timing(newest, deep), FAST, family) if score is None else score
    return {'kind': kind, 'scheme': kind, 'r': r, 'newest_s': newest, 'deep_s': deep,
            'task_score': score, **more}


KNOWN = [data('sequential', r, 0.02 * r, 0.02 * r) for r in (0.2, 1.6, 6.4)] + [
    data('planned', r, 0.005 * r, 0.04 * r) for r in (0.2, 1.6, 6.4)] + [
    data(kind, r, 0.01, deep) for r in (1.6, 6.4)
    for kind, deep in (('smaller', 0.01), ('frozen trunk', 0.1))]


def test_the_law_behind_rows_is_found():
    law = fitted(scored(KNOWN), FAST)
    assert law.half == pytest.approx(TRUE.half, rel=1e-3)
    assert law.ceilings == pytest.approx(TRUE.ceilings, rel=1e-3)
    assert law.stale == pytest.approx(TRUE.stale, rel=1e-2)
    assert rms(misses(law, scored(KNOWN), FAST)) < 0.01
    assert all(rms(part) < 0.1 for part in left_out(scored(KNOWN), FAST, 'ratio').values())


def test_a_ratio_that_follows_another_law_is_missed_when_it_is_left_out():
    rows = scored([*KNOWN, data('sequential', 3.2, 0.064, 0.064, score=20.0)])
    apart = left_out(rows, FAST, 'ratio')
    expected = TRUE.forecast(Timing(0.064, 0.064), FAST) - 20.0
    assert apart[3.2] == [pytest.approx(expected, abs=0.1)]


def test_a_family_that_is_in_no_other_ratio_is_not_forecast():
    rows = scored([*KNOWN, data('narrower', 3.2, 0.02, 0.02, score=40.0)])
    assert left_out(rows, FAST, 'ratio')[3.2] == []


def test_rows_with_further_inputs_or_without_a_score_are_left_out():
    told = data('sequential', 6.4, 0.1, 0.1, score=50.0) | {'scheme': 'sequential+commands'}
    assert scored([told, data('planned', 6.4, 0.1, 0.1, score=math.nan)]) == []


def test_the_planner_has_the_scene_of_the_study():
    assert TASKS['signs'].scene == pytest.approx(SCENE)


@pytest.mark.parametrize('length', [0.6, 1.0, 5.0])
def test_outdated_commands_cost_what_the_law_says(length, monkeypatch):
    monkeypatch.setattr('stream_agent.simulation.signs.COMMAND_LENGTH', length)
    monkeypatch.setattr(sys.modules[RoadTask.__module__], 'SETTLING', length / 2)
    settings = SimulationSettings(
        rate=60.0, width_px=32, height_px=24, signs=True, target_speed=1.4, look_ahead=0.6,
        speed_time_constant=0.0, turn_time_constant=0.0)
    scheme = timed('multi-rate', 6.4)
    row = bounds.bound_row(scheme, Trial(settings, TRIAL.seeds, 20.0, 0.0, 1.0))
    scene = Scene(0.6 / 1.4, length / 1.4)
    forecast = ScoreLaw(TASKS['signs'].law.half, {WHOLE: 100.0}).forecast(
        Timing(row['newest_s'], row['deep_s']), scene)
    assert row['task_score'] == pytest.approx(forecast, abs=10.0)


def test_the_study_reads_rows_and_says_what_it_finds(tmp_path, capsys):
    for i, row in enumerate(KNOWN):
        (tmp_path / f'{i}.json').write_text(json.dumps(row))
    assert main(['law', '--rows', str(tmp_path), '--json']) == 0
    found = json.loads(capsys.readouterr().out)
    assert found['left_out']['ratio'].keys() == {'0.2', '1.6', '6.4'}
    assert found['errors']['ratio'] < 0.1
    assert found['ceilings'].keys() == TRUE.ceilings.keys()
    assert main(['law', '--rows', str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert 'ceiling frozen trunk: ' in said and 'ratio 6.4 left out: error ' in said
    assert main(['law', '--rows', str(tmp_path / 'none')]) == 1
    assert capsys.readouterr().err == (
        f"studies: --rows: '{tmp_path}/none' has no rows; make them by `python -m studies reflex "
        '--output DIR`\n')


def test_other_files_in_the_folder_are_no_rows():
    assert scored([{'accuracy': 0.9}]) == []
