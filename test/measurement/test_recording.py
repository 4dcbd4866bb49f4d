from concurrent.futures import ThreadPoolExecutor
import gc
import os
from pathlib import Path
import subprocess
import sys
import time

import pytest
from stream_agent.measurement.recording import (
    HEADERS, line_to_row, make_folder, read_changes, read_description, read_rows, RecordingError,
    row_to_line, ROWS_FILE, Writer)
from support.recordings import ns, winding_road

NOW = time.struct_time((2026, 11, 21, 2, 50, 7, 5, 325, 0))


@pytest.fixture
def rows():
    return winding_road({'agent': {'latency': 3e-3, 'noise': 0.01, 'lost': 0.2}}, 4.0, 'agent')[0]


def same(row, other):
    """Compare rows that may hold nan, to the nine digits that are written."""
    return all(a == pytest.approx(b, rel=1e-8, nan_ok=True) if isinstance(a, (float, tuple))
               else a == b for a, b in zip(row, other))


def test_what_is_written_is_read_again(tmp_path, rows):
    writer = Writer(tmp_path, 1000)
    writer.put_rows(rows)
    writer.put_change(ns(1))
    writer.describe({'machine': 'this one'})
    assert writer.close(5.0)
    again = read_rows(tmp_path)
    assert len(again) == len(rows)
    assert all(map(same, again, rows))
    assert [row.stamp_ns for row in again] == [row.stamp_ns for row in rows]
    assert read_changes(tmp_path) == [ns(1)]
    assert read_description(tmp_path) == {'machine': 'this one'}
    assert (writer.written, writer.dropped) == (len(rows) + 1, 0)


@pytest.mark.slow
def test_rows_reach_the_disk_within_a_second(tmp_path, rows):
    writer = Writer(tmp_path, 1000)
    writer.put_rows(rows)
    time.sleep(1.0)
    assert len(read_rows(tmp_path)) == len(rows)
    writer.close(5.0)


def test_a_torn_last_line_is_left_out(tmp_path, rows):
    writer = Writer(tmp_path, 1000)
    writer.put_rows(rows)
    writer.close(5.0)
    path = tmp_path / ROWS_FILE
    path.write_text(path.read_text()[:-4])
    assert len(read_rows(tmp_path)) == len(rows) - 1


@pytest.mark.real_time
def test_a_blocked_disk_blocks_nobody(tmp_path, rows):
    """A pipe that nobody reads takes 64 KiB and then nothing more, like a hung disk."""
    os.mkfifo(tmp_path / ROWS_FILE)
    reader = os.open(tmp_path / ROWS_FILE, os.O_RDONLY | os.O_NONBLOCK)
    writer = Writer(tmp_path, queue_size=1000)
    slowest = 0.0
    # A full collection of all that the tests have imported takes longer than the limit below.
    gc.collect()
    for _ in range(40):
        for row in rows:
            start = time.perf_counter()
            writer.put_rows([row])
            slowest = max(slowest, time.perf_counter() - start)
        time.sleep(0.02)
    start = time.perf_counter()
    assert not writer.close(timeout=0.5)
    assert time.perf_counter() - start < 1.0
    assert slowest < 0.02
    assert writer.written < 1000
    assert writer.dropped == 40 * len(rows) - writer.written
    assert writer.error == 'the disk did not answer within 0.5 s'
    os.close(reader)


def test_the_oldest_rows_are_dropped(tmp_path, rows):
    writer = Writer(tmp_path, queue_size=10)
    writer.put_rows(rows)
    writer.close(5.0)
    assert writer.dropped == read_description(tmp_path)['dropped'] == len(rows) - 10
    assert [row.stamp_ns for row in read_rows(tmp_path)] == [row.stamp_ns for row in rows[-10:]]


def test_a_full_disk_is_named_and_what_is_missing_counted(rows):
    writer = Writer(Path('/proc/self'), queue_size=10)
    writer.put_rows(rows[:5])
    assert not writer.close(5.0)
    assert writer.error == "'/proc/self': No such file or directory"


def on_a_small_disk(folder, code):
    """Run code, in a process of its own, to which a file of 5,000 bytes is a full disk."""
    done = subprocess.run([sys.executable, '-c', f"""
import resource, sys, time
sys.path[:0] = {[str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]!r}
from pathlib import Path
from stream_agent.measurement.recording import read_description, read_rows, Writer
from support.recordings import winding_road

rows = winding_road({{'agent': {{'latency': 3e-3}}}}, 4.0)[0]
folder = Path({str(folder)!r})
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, resource.RLIM_INFINITY))
writer = Writer(folder, 1000)
{code}"""], capture_output=True, text=True)
    assert not done.stderr
    return done.stdout.splitlines()


@pytest.mark.child_process
def test_a_disk_that_is_full_for_a_while_costs_nothing(tmp_path):
    """The limit ends a write in the middle of a row, and nothing is lost once it is lifted."""
    assert on_a_small_disk(tmp_path, """
writer.put_rows(rows)
end = time.monotonic() + 10
while not writer.error and time.monotonic() < end:
    time.sleep(0.02)
torn = (folder / 'rows.csv').stat().st_size
print(writer.error, torn, len(read_rows(folder)) == writer.written, writer.dropped)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
print(writer.close(5.0), repr(writer.error), writer.dropped, len(read_rows(folder)) == len(rows))
""") == [f"'{tmp_path}': File too large 5000 True 0", "True '' 0 True"]


@pytest.mark.child_process
def test_a_disk_that_stays_full_leaves_what_was_written(tmp_path):
    """As on a full disk, the file stays as it is; the description before is left, too."""
    assert on_a_small_disk(tmp_path, """
writer.describe({'machine': 'this one'})
time.sleep(0.7)
writer.put_rows(rows)
writer.describe({'machine': 'long' * 5000})
print(writer.close(5.0), writer.error, len(rows) - writer.dropped == len(read_rows(folder)) > 20)
print(read_description(folder), sorted(path.name for path in folder.iterdir()))
""") == [
        f"False '{tmp_path}': File too large True",
        "{'machine': 'this one'} ['rows.csv', 'run.json', 'scene_changes.csv']"]


def test_names_with_commas_and_quotes_are_read_again(tmp_path, rows):
    names = ['a,b', 'say "so"', "it's", 'α β']
    writer = Writer(tmp_path, 1000)
    writer.put_rows([rows[0]._replace(policy=name) for name in names])
    assert writer.close(5.0)
    assert [row.policy for row in read_rows(tmp_path)] == names


def test_rows_do_not_follow_a_link_out_of_their_folder(tmp_path, rows):
    folder, other = tmp_path / 'recording', tmp_path / 'precious'
    folder.mkdir()
    other.write_text('mine')
    (folder / ROWS_FILE).symlink_to(other)
    (folder / '.run.json').symlink_to(other)
    writer = Writer(folder, 1000)
    writer.put_rows(rows)
    writer.describe({})
    assert not writer.close(5.0)
    assert other.read_text() == 'mine'


def test_folders_are_named_by_time_and_latest_is_the_last(tmp_path):
    first = make_folder(tmp_path / 'results', NOW)
    second = make_folder(tmp_path / 'results', NOW)
    assert (first.name, second.name) == ('2026-11-21_02-50-07', '2026-11-21_02-50-07_2')
    assert (tmp_path / 'results' / 'latest').resolve() == second


def test_a_folder_called_latest_is_left_alone(tmp_path):
    (tmp_path / 'latest' / 'mine').mkdir(parents=True)
    assert make_folder(tmp_path, NOW).is_dir()
    assert sorted(path.name for path in tmp_path.iterdir()) == ['2026-11-21_02-50-07', 'latest']


def test_runs_that_begin_in_the_same_moment_have_a_folder_each(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: make_folder(tmp_path, NOW), range(64)))
    assert len(set(folders)) == 64


def test_an_output_that_is_a_file_is_refused(tmp_path):
    output = tmp_path / 'results'
    output.write_text('')
    with pytest.raises(RecordingError) as error:
        make_folder(output)
    assert str(error.value) == (f"output '{output}': no folder can be made there (File exists); "
                                'choose one that can be written')


def test_reading_what_is_not_a_recording(tmp_path):
    path = tmp_path / ROWS_FILE
    with pytest.raises(RecordingError) as error:
        read_rows(tmp_path)
    assert str(error.value) == (
        f"'{path}': No such file or directory; give the folder of a recording")
    path.write_text('a,b\n')
    with pytest.raises(RecordingError) as error:
        read_rows(tmp_path)
    assert str(error.value) == (
        f"'{path}': the first line names the columns a,b; a recording has "
        f'{HEADERS[ROWS_FILE]}. Give the file as the recorder wrote it')
    path.write_text('')
    with pytest.raises(RecordingError, match='the first line is missing; a recording has'):
        read_rows(tmp_path)


def test_a_broken_line_is_named(tmp_path, rows):
    writer = Writer(tmp_path, 1000)
    writer.put_rows(rows[:2])
    writer.close(5.0)
    path = tmp_path / ROWS_FILE
    path.write_text(path.read_text() + ','.join(['x'] * 14) + '\n')
    with pytest.raises(RecordingError) as error:
        read_rows(tmp_path)
    assert str(error.value) == (
        f"'{path}' line 4: not a row ('x' is not a whole number from 0 to 2^63 - 1); "
        'remove the line')


def test_unknown_values_are_empty_fields(rows):
    lost = next(row for row in rows if row.arrival_ns is None)
    line = row_to_line(lost)
    assert ',,,,' in line and 'nan' not in line and 'None' not in line
    assert same(line_to_row(line.split(',')), lost)
