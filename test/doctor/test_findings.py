"""The table, its order of words, and the exit code."""

import json

from stream_agent.doctor.findings import (
    error, exit_code, from_sentence, not_checked, ok, summary, table, to_data, warning)

GOOD, MEAGRE = ok('rate', '30 Hz'), not_checked('wheels', 'not asked for')
DOUBTFUL = warning('stamps', '0.150 s old on arrival (median)', 'set both clocks alike')
BAD = error('image topic', "nobody publishes '/image'", "start the camera's driver " * 8)


def test_only_an_error_is_an_exit_code():
    assert exit_code([GOOD, MEAGRE, DOUBTFUL]) == 0
    assert exit_code([GOOD, BAD]) == 1


def test_the_table_has_a_line_for_what_is_right_and_a_remedy_for_what_is_not():
    lines = table([GOOD, DOUBTFUL, BAD, MEAGRE]).splitlines()
    assert lines[0] == 'rate        OK           30 Hz'
    assert lines[1] == 'stamps      WARN         0.150 s old on arrival (median)'
    assert lines[2] == ' ' * 25 + '-> set both clocks alike'
    assert lines[3] == "image topic ERROR        nobody publishes '/image'"
    assert all(line.startswith(' ' * 28) for line in lines[5:-3])
    assert max(map(len, lines)) <= 99
    assert lines[-3:] == ['wheels      not checked  not asked for', '',
                          '1 error, 1 warning, 1 not checked']


def test_the_summary_counts():
    assert summary([GOOD]) == 'nothing is wrong'
    assert summary([BAD, BAD, DOUBTFUL]) == '2 errors, 1 warning'


def test_a_sentence_ends_with_its_remedy():
    found = from_sentence('policy', ValueError('a; b; do this'))
    assert (found.said, found.remedy) == ('a; b', 'do this')
    # What is in brackets is not the remedy.
    found = from_sentence('policy', 'a (b; c); do this, as of x (y; z)')
    assert (found.said, found.remedy) == ('a (b; c)', 'do this, as of x (y; z)')
    found = from_sentence('policy', 'just wrong')
    assert (found.said, found.remedy) == ('just wrong', '')


def test_a_program_reads_the_same():
    data = json.loads(json.dumps(to_data([GOOD, BAD])))
    assert data['exit_code'] == 1
    assert [(one['check'], one['level']) for one in data['findings']] == [
        ('rate', 'OK'), ('image topic', 'ERROR')]
    assert data['findings'][1]['remedy'] == BAD.remedy
