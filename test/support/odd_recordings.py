"""Odd and damaged recordings, tubs, and archives, with what is right for each; see odd_files."""

from collections.abc import Callable, Iterator
import io
from pathlib import Path
import sqlite3
from typing import Any

import numpy as np
from support.odd_formats import (
    ANY, archive_arrays, bag, COMMANDS, compressed, db3, drive, FRAMES, HTML, IMAGES, LFS, mcap,
    Message, metadata, OddFile, old_tub, PERIOD_NS, picture, READ, record, REFUSED, SAID,
    START_NS, tub, tub_records, TYPES)

WHOLE: dict[Any, Any] = {i: i for i in range(FRAMES)}


def without(*frames: int) -> dict:
    """Return the right commands where those of some frames cannot be known."""
    return {i: None if i in frames else i for i in range(FRAMES)}


def second_half(messages: list[Message], **by: int) -> list[Message]:
    """Return a drive whose later half has other times [ns]."""
    return [m if m.index < FRAMES // 2 else m._replace(
        **{name: getattr(m, name) + amount for name, amount in by.items()}) for m in messages]


def of(topic: str, change: Callable[[Message], Message], frames=range(FRAMES)) -> Callable:
    """Return a change to a drive's messages on one topic."""
    return lambda messages, random: [
        change(m) if m.topic == topic and m.index in frames else m for m in messages]


def among(*turns: float) -> Callable:
    """Return a change to a drive: a second publisher of these yaw rates, between the first's."""
    return lambda messages, random: sorted(messages + [
        Message(COMMANDS, at + 1, at, 0, 'stamped', turns[at // 20_000_000 % len(turns)])
        for at in range(START_NS, START_NS + FRAMES * PERIOD_NS, 20_000_000)], key=lambda m: m.log)


def half(data: bytes) -> bytes:
    """Return the first half of a message whose picture is cut, its length corrected."""
    at = data.index(b'\xff\xd8')
    jpeg = data[at:at + (len(data) - at) // 2]
    return data[:at - 4] + len(jpeg).to_bytes(4, 'little') + jpeg


def vast(data: bytes) -> bytes:
    """Return a message with a JPEG that claims 60000 x 60000 pixels."""
    at = data.index(b'\xff\xc0') + 5
    return data[:at] + b'\xea\x60\xea\x60' + data[at + 4:]


HOUR, SOME = 3_600_000_000_000, (3, 11, 17)
# Of drives in a sound file: what is changed, what is right to do, and with which value.
DRIVES: dict[str, tuple] = {
    'swapped order': (lambda m, r: [m[i] for i in r.permutation(len(m))], READ),
    'clock set back, apart': (lambda m, r: second_half(m, log=-HOUR, header=-HOUR), ANY),
    'clock set back, overlapping': (
        lambda m, r: second_half(m, log=-412_000_000, header=-412_000_000), SAID),
    'clock set ahead': (lambda m, r: second_half(m, log=HOUR, header=HOUR), ANY),
    'reception set back': (lambda m, r: second_half(m, log=-HOUR), ANY),
    'headers set ahead': (lambda m, r: second_half(m, header=HOUR), ANY),
    'headers since boot': (lambda m, r: [
        k._replace(header=k.header - START_NS + 10 ** 9) for k in m], ANY),
    'headers of zero': (lambda m, r: [k._replace(header=0) for k in m], ANY),
    'some headers of zero': (of(IMAGES, lambda m: m._replace(header=0), SOME), ANY),
    'images 1.5 s ahead': (of(IMAGES, lambda m: m._replace(header=m.header + 1_500_000_000)), ANY),
    'commands 1.5 s ahead': (
        of(COMMANDS, lambda m: m._replace(header=m.header + 1_500_000_000)), ANY),
    'stamps beyond int64': (of(IMAGES, lambda m: m._replace(log=2 ** 64 - 1), SOME), ANY),
    'NaN commands': (of(COMMANDS, lambda m: m._replace(turn=float('nan')), SOME), SAID,
                     without(*SOME)),
    'infinite commands': (of(COMMANDS, lambda m: m._replace(turn=float('inf')), SOME), SAID,
                          without(*SOME)),
    'commands of 1e300': (of(COMMANDS, lambda m: m._replace(turn=1e300), SOME), SAID,
                          without(*SOME)),
    'no commands': (lambda m, r: [k for k in m if k.topic == IMAGES], REFUSED),
    'no images': (lambda m, r: [k for k in m if k.topic == COMMANDS], REFUSED),
    'no messages': (lambda m, r: [], REFUSED),
    'one frame': (lambda m, r: m[:2], ANY, {0: 0}),
    'zeros of a second publisher': (among(0.0), ANY),
    'a constant second publisher': (among(0.3), SAID),
    'a second driver': (among(0.3, 0.35, 0.2), SAID),
    'two types, both whole': (lambda m, r: m + [
        k._replace(form='twist', log=k.log + 1) for k in m if k.topic == COMMANDS], ANY),
    'two types, in turn': (of(COMMANDS, lambda m: m._replace(form='twist'),
                              range(0, FRAMES, 2)), ANY),
    'frames twice': (lambda m, r: m + [
        k._replace(log=k.log + 1) for k in m if k.topic == IMAGES and k.index in SOME], ANY),
    'pictures cut': (of(IMAGES, lambda m: m._replace(damage=half), SOME), SAID, without(*SOME)),
    'pictures that claim 3.6 gigapixels': (
        of(IMAGES, lambda m: m._replace(damage=vast), SOME), SAID, without(*SOME)),
    'messages cut': (of(IMAGES, lambda m: m._replace(damage=lambda d: d[:30]), SOME), SAID,
                     without(*SOME)),
    'empty messages': (of(IMAGES, lambda m: m._replace(damage=lambda d: b''), SOME), SAID,
                       without(*SOME)),
    'sizes mixed': (of(IMAGES, lambda m: m._replace(form='small'), range(12)), ANY),
    'grey and colour mixed': (of(IMAGES, lambda m: m._replace(form='grey'), range(12)), ANY),
    **{f'pictures: {form}': (of(IMAGES, lambda m, form=form: m._replace(form=form)), right)
       for form, right in {'png': READ, 'grey': READ, 'rgb8': READ, 'bgr8': READ, 'rgba8': READ,
                           'mono8': READ, 'nv16': REFUSED, 'bayer_rggb8': READ,
                           '16UC1': REFUSED, 'mono8_be': ANY}.items()},
    'commands: twist': (of(COMMANDS, lambda m: m._replace(form='twist')), READ),
    'commands: big-endian': (of(COMMANDS, lambda m: m._replace(form='stamped_be')), ANY)}
JSON_CHANNEL = (record(3, 'Hssb', 90, 'log', 'jsonschema', b'{}')
                + record(4, 'HHssb', 90, 90, '/log', 'json', b'')
                + record(5, 'HIQQr', 90, 0, START_NS, START_NS, b'{"a": 1}'))
# Of MCAP files of a whole drive: how it is written, and what is right.
WRITTEN: dict[str, tuple] = {
    'without summary': ({'summary': False}, ANY), 'without index': ({'index': False}, ANY),
    'summary without channels': ({'channels': False}, ANY), 'no chunks': ({'chunk': 0}, ANY),
    'no profile': ({'profile': ''}, ANY), 'a JSON channel beside': ({'beside': JSON_CHANNEL}, ANY),
    'profile ros1': ({'profile': 'ros1', 'encoding': 'ros1'}, REFUSED),
    'messages as protobuf': ({'encoding': 'protobuf'}, REFUSED),
    'killed recorder': ({'end': False}, ANY), 'chunks by zstd': ({'compression': 'zstd'}, READ),
    'chunks by lz4': ({'compression': 'lz4'}, READ),
    'an empty topic beside': ({'also': (('/odom', TYPES['twist']),)}, ANY),
    'messages by zstd, alone': ({'each': 'zstd'}, ANY),
    'an unknown compression': ({'compression': 'brotli'}, SAID),
    'a chunk that claims 1 EB': ({'claim': 2 ** 60, 'compression': 'zstd'}, SAID),
    'a chunk that claims 3 bytes': ({'claim': 3}, SAID)}


def recordings(folder: Path, random: np.random.Generator) -> Iterator[OddFile]:
    """Yield drives with something odd in sound files, and sound drives in odd files."""
    for fault, (change, verdicts, *value) in DRIVES.items():
        storage = str(random.choice(['mcap', 'sqlite3']))
        path = bag(folder / fault.replace(' ', '_'), change(drive(), random),
                   'mcap' if 'int64' in fault else storage)
        yield OddFile('recording', fault, path, value[0] if value else WHOLE, verdicts)
    for fault, (options, verdicts) in WRITTEN.items():
        path = folder / (fault.replace(' ', '_') + '.mcap')
        path.write_bytes(mcap(drive(), **options)[0])
        yield OddFile('recording', fault, path, WHOLE, verdicts)
    path = folder / 'an_empty_topic_of_commands.mcap'
    path.write_bytes(mcap(drive()[1::2], also=((COMMANDS, TYPES['stamped']),))[0])
    yield OddFile('recording', 'an empty topic of commands', path, WHOLE, REFUSED)
    data, ends = mcap(drive())
    for place in sorted(random.integers(20, len(data) - 30, 6)):
        path = folder / f'cut_at_{place}.mcap'
        path.write_bytes(data[:place])
        yield OddFile('recording', 'cut', path, WHOLE, ANY if place > ends[-1] else SAID,
                      4 * sum(end <= place for end in ends))
    for place in random.integers(200, ends[-1] - 300, 4):
        path = folder / f'bit_at_{place}.mcap'
        path.write_bytes(data[:place] + bytes([data[place] ^ 16]) + data[place + 1:])
        yield OddFile('recording', 'bit flipped', path, WHOLE, ANY)
    yield from odd_folders(folder)
    yield from odd_databases(folder)


def odd_folders(folder: Path) -> Iterator[OddFile]:
    """Yield recordings in several files whose list of them does not agree, or that are packed."""
    first, second = drive()[:FRAMES], drive()[FRAMES:]
    files = {'drive_0.mcap': first, 'drive_1.mcap': second}
    cases: list[tuple[str, dict, dict, tuple]] = [
        ('two splits', files, {}, READ),
        ('a split missing', {'drive_0.mcap': first}, {}, SAID),
        ('a split named twice', files,
         {'relative_file_paths': ['drive_0.mcap', 'drive_1.mcap', 'drive_1.mcap']}, ANY),
        ('a split not named', files, {'relative_file_paths': ['drive_0.mcap']}, ANY),
        ('renamed', files, {'relative_file_paths': ['walk_0.mcap', 'walk_1.mcap']}, ANY),
        ('files that lead out', {}, {'relative_file_paths': ['../two_splits/drive_0.mcap']},
         REFUSED),
        ('more messages claimed', files, {'message_count': 99}, ANY),
        ('counts in words', files, {'message_count': 'many'}, ANY),
        ('no storage identifier', files, {'storage_identifier': ''}, ANY),
        ('another storage', files, {'storage_identifier': 'sqlite3'}, ANY),
        ('version 99', files, {'version': 99}, ANY),
        ('topics left out', files, {'topics_with_message_count': []}, ANY),
        ('paths as a word', files, {'relative_file_paths': 'drive_0.mcap'}, ANY),
        ('null for a start', files, {'starting_time': None, 'duration': None}, ANY)]
    for fault, there, changes, verdicts in cases:
        path = folder / fault.replace(' ', '_')
        path.mkdir()
        for name, messages in there.items():
            (path / name).write_bytes(mcap(messages)[0])
        (path / 'metadata.yaml').write_bytes(metadata(files, 'mcap', **changes))
        yield OddFile('recording', fault, path, WHOLE, verdicts)
    for fault, name, storage, options in (
            ('MCAP by zstd', 'drive_0.mcap.zstd', 'mcap', {}),
            ('SQLite by zstd', 'drive_0.db3.zstd', 'sqlite3', {}),
            ('messages by zstd', 'drive_0.mcap', 'mcap', {'each': 'zstd'})):
        path = bag(folder / fault.replace(' ', '_'), None, storage, {
            'compression_format': 'zstd', 'compression_mode': 'MESSAGE' if options else 'FILE',
            'relative_file_paths': [name]}, **options)
        if not options:
            file = path / name.removesuffix('.zstd')
            (path / name).write_bytes(compressed(file.read_bytes(), 'zstd'))
            file.unlink()
        yield OddFile('recording', fault, path, WHOLE, READ)
    path = bag(folder / 'no_metadata')
    (path / 'metadata.yaml').unlink()
    yield OddFile('recording', 'no metadata', path, WHOLE, ANY)
    (folder / 'nothing').mkdir()
    yield OddFile('recording', 'an empty folder', folder / 'nothing', {}, REFUSED)
    for name, data in (('database.mcap', b'SQLite format 3\0' + bytes(4080)),
                       ('picture.mcap', picture(3)), ('mcap.db3', mcap(drive())[0])):
        (folder / name).write_bytes(data)
        yield OddFile('recording', 'a suffix of another format', folder / name, WHOLE,
                      ANY if name == 'mcap.db3' else REFUSED)


def odd_databases(folder: Path) -> Iterator[OddFile]:
    """Yield SQLite storages with other tables or values, and one with its log beside it."""
    cases: list[tuple[str, str, dict, tuple]] = [
        ('stamps as text', '', {'timestamp': lambda stamp: f'at {stamp}'}, SAID),
        ('messages as text', '', {'data': lambda data: 'message'}, REFUSED),
        ('a table missing', 'DROP TABLE messages', {}, REFUSED),
        ('no topics', 'DELETE FROM topics', {}, REFUSED),
        ('a column renamed', 'ALTER TABLE messages RENAME COLUMN data TO payload', {}, REFUSED),
        ('negative stamps', 'UPDATE messages SET timestamp = -timestamp', {}, ANY)]
    for fault, statement, changes, verdicts in cases:
        path = folder / (fault.replace(' ', '_') + '.db3')
        db3(path, drive(), **changes)
        with sqlite3.connect(path) as base:
            base.execute(statement or 'SELECT 1')
        base.close()
        yield OddFile('recording', fault, path, WHOLE, verdicts)
    source, path = folder / 'source.db3', folder / 'log_beside.db3'
    db3(source, drive())
    base = sqlite3.connect(source, isolation_level=None)
    base.executescript('PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0;')
    rows = base.execute('SELECT * FROM messages').fetchall()
    base.executescript('DELETE FROM messages; PRAGMA wal_checkpoint(TRUNCATE);')
    base.executemany('INSERT INTO messages VALUES (?, ?, ?, ?)', rows)
    for end in ('', '-wal'):
        Path(f'{path}{end}').write_bytes(Path(f'{source}{end}').read_bytes())
    base.close()
    yield OddFile('recording', 'a write-ahead log beside', path, WHOLE, ANY)


def changed(frame: int | None = None, **keys) -> Callable[[list], list]:
    """Return a change to a tub's records: keys (`__` for `/`) of one frame or all; None: gone."""
    def change(records: list) -> list:
        for r in records if frame is None else records[frame:frame + 1]:
            for name, value in keys.items():
                r[name.replace('__', '/')] = value
                if value is None:
                    del r[name.replace('__', '/')]
        return records
    return change


CUT = '{"_index": 23, "_session_id": "23-11-14_0", "_timest'
# Of tubs: a change to the records, what is right, the value, and what else differs.
TUBS: dict[str, tuple] = {
    'a last line cut': (lambda r: [*r[:-1], CUT], SAID, without(23)),
    'a tail of zeros': (lambda r: [*r[:-1], CUT + '\0' * 200], SAID, without(23)),
    'empty lines': (lambda r: [*r[:5], '', '', *r[5:], ''], ANY, WHOLE),
    'line ends of \\r\\r\\n': (list, ANY, WHOLE, {'end': '\r\r\n'}),
    'line ends of \\r\\n': (list, ANY, WHOLE, {'end': '\r\n'}),
    'a line of another kind': (lambda r: [*r[:5], '[1, 2]', '"text"', '7', *r[5:]], SAID, WHOLE),
    'an angle missing': (changed(5, user__angle=None), SAID, without(5)),
    'an angle in words': (changed(5, user__angle='left'), SAID, without(5)),
    'an angle of NaN': (changed(5, user__angle=float('nan')), SAID, without(5)),
    'a list for an image': (changed(5, **{'cam__image_array': [5]}), SAID, without(5)),
    'no angles': (changed(user__angle=None), REFUSED, {}),
    'no images': (changed(**{'cam__image_array': None}), REFUSED, {}),
    'no stamps': (changed(_timestamp_ms=None), ANY, WHOLE),
    'a stamp missing': (changed(5, _timestamp_ms=None), ANY, without(5)),
    'stamps of zero': (changed(_timestamp_ms=0), SAID, WHOLE),
    'driven by a pilot': (changed(user__mode='pilot'), SAID, {}),
    'an image that leads out': (
        changed(5, **{'cam__image_array': '../../../outside.jpg'}), SAID, without(5)),
    'an image that is not there': (
        changed(5, **{'cam__image_array': 'nowhere.jpg'}), SAID, without(5)),
    'a clock set back by a session': (lambda r: [
        *r[:12], *(k | {'_session_id': '23-11-14_1', '_timestamp_ms':
                        k['_timestamp_ms'] - 9_000_000} for k in r[12:])], ANY, WHOLE),
    'another order': (lambda r: r[::-1], ANY, WHOLE),
    'deleted indexes': (list, ANY, without(2, 3), {'manifest': {'deleted_indexes': [2, 3]}}),
    'deleted indexes in words': (list, ANY, WHOLE, {'manifest': {'deleted_indexes': 'none'}}),
    'a catalog that is not there': (list, SAID, WHOLE, {'manifest': {
        'paths': ['catalog_0.catalog', 'catalog_1.catalog']}}),
    'a catalog that leads out': (list, ANY, WHOLE, {'manifest': {
        'paths': ['../another_order/catalog_0.catalog']}})}


def tubs(folder: Path) -> Iterator[OddFile]:
    """Yield DonkeyCar tubs."""
    (folder / 'outside.jpg').write_bytes(picture(5))
    for fault, (change, verdicts, value, *options) in TUBS.items():
        path = tub(folder / ''.join(c if c.isalnum() else '_' for c in fault),
                   change(tub_records()), **(options[0] if options else {}))
        yield OddFile('tub', fault, path, value, verdicts)
    path = tub(folder / 'link')
    (path / 'images').rename(folder / 'elsewhere')
    (path / 'images').symlink_to(folder / 'elsewhere')
    yield OddFile('tub', 'images by a link that leads out', path, WHOLE, REFUSED)
    path = tub(folder / 'pictures')
    for i, data in enumerate((b'', LFS, HTML, picture(3)[:300], bytes(500))):
        (path / f'images/{i}_cam_image_array_.jpg').write_bytes(data)
    yield OddFile('tub', 'damaged pictures', path, without(0, 1, 2, 3, 4), SAID)
    for fault, data in (('a record cut', b'{"user/angle": 0.1, "user/thr'), ('a record of null',
                        b'null'), ('an empty record', b''), ('a record of zeros', bytes(120))):
        path = old_tub(folder / fault.replace(' ', '_'))
        (path / 'record_5.json').write_bytes(data)
        yield OddFile('old tub', fault, path, without(5), SAID)
    path = old_tub(folder / 'old_pictures')
    (path / '5_cam-image_array_.jpg').unlink()
    (path / '6_cam-image_array_.jpg').unlink()
    (path / '6_cam-image_array_.jpg').symlink_to(folder / 'outside.jpg.gone')
    yield OddFile('old tub', 'a picture missing', path, without(5, 6), SAID)


Arrays = dict[str, Any]
# Of archives: a change to the arrays, what is right, and the value.
ARCHIVES: dict[str, tuple] = {
    'an array missing': (lambda a: {k: v for k, v in a.items() if k != 'offsets'}, REFUSED),
    'steering of NaN': (lambda a: a | {'steering': np.where(
        np.arange(FRAMES) == 5, np.nan, a['steering'])}, SAID, without(5)),
    'steering in words': (lambda a: a | {'steering': np.array(['left'] * FRAMES)}, REFUSED),
    'steering too short': (lambda a: a | {'steering': a['steering'][:-1]}, REFUSED),
    'a number for an array': (lambda a: a | {'throttle': np.float64(0.5)}, REFUSED),
    'offsets that fall': (lambda a: a | {'offsets': a['offsets'][::-1]}, REFUSED),
    'negative offsets': (lambda a: a | {'offsets': a['offsets'] - 100}, REFUSED),
    'offsets beyond the end': (lambda a: a | {'offsets': a['offsets'] * 1000}, REFUSED),
    'stamps set back': (lambda a: a | {'timestamp_ms': a['timestamp_ms'][::-1]}, ANY),
    'stamps as floats': (lambda a: a | {'timestamp_ms': a['timestamp_ms'] * 1.0}, ANY),
    'stamps of NaN': (lambda a: a | {'timestamp_ms': np.full(FRAMES, np.nan)}, REFUSED),
    'objects': (lambda a: a | {'run_names': np.array([{}, None], object), 'run_id': a['seq_id']},
                REFUSED),
    'no frames': (lambda a: {k: v[:k == 'offsets'] for k, v in a.items()}, REFUSED),
    'other arrays': (lambda a: {'x': np.zeros(3)}, REFUSED)}


def archive(arrays: Arrays) -> bytes:
    """Return an .npz archive; objects are pickled."""
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def archives(folder: Path, random: np.random.Generator) -> Iterator[OddFile]:
    """Yield .npz archives."""
    for fault, (change, verdicts, *value) in ARCHIVES.items():
        path = folder / (fault.replace(' ', '_') + '.npz')
        path.write_bytes(archive(change(archive_arrays())))
        yield OddFile('archive', fault, path, value[0] if value else WHOLE, verdicts)
    data = archive(archive_arrays())
    for place in random.integers(60, 900, 3):
        path = folder / f'bit_at_{place}.npz'
        path.write_bytes(data[:place] + bytes([data[place] ^ 16]) + data[place + 1:])
        yield OddFile('archive', 'bit flipped', path, WHOLE, ANY)
    big = archive_arrays() | {'jpeg': np.zeros(1, np.uint8)}
    file = io.BytesIO()
    np.savez(file, **big)
    path = folder / 'huge.npz'
    claim = file.getvalue().replace(b"'shape': (1,), }          ", b"'shape': (99999999999,), }")
    assert claim != file.getvalue()
    path.write_bytes(claim)
    yield OddFile('archive', 'a claim of 100 GB', path, WHOLE, REFUSED)
