"""
Damaged and odd files of every kind that is read, drawn from a seed, with what is right for each.

Written from docs/ and the formats' descriptions, without a look at the readers: whoever changes a
reader leaves the generator as it is. A reader that pairs, drops, or invents anything without a
word is found by the values. Nothing here is known to crash or stall other people's libraries.
"""

from collections.abc import Callable, Iterator
import itertools
import json
from pathlib import Path
import struct

import numpy as np
from support.odd_formats import (
    ANY, archive_arrays, bag, db3, drive, HTML, LFS, mcap, OddFile, picture, policy, policy_parts,
    REFUSED, REPOSITORY, SAID, tub, tub_records)
from support.odd_recordings import archive, archives, recordings, tubs, WHOLE

GRAPH = {'nodes': {'image': {'shape': [1, 12, 16]}, 'h1': {'shape': [8], 'activation': 'relu'},
                   'command': {'shape': [2], 'activation': 'tanh'}},
         'edges': [{'source': 'image', 'target': 'h1', 'transform': 'readout'},
                   {'source': 'h1', 'target': 'command'}], 'output': 'command'}
COSTS = {'source': 'an imagined robot', 'overhead': 0.0001,
         'nodes': {'h1': 0.002, 'command': 0.0005}}
GATE = {'/**/gate': {'ros__parameters': {'max_speed': 0.3, 'max_yaw_rate': 1.5}}}
COLUMNS = ('stamp_ns,policy,update,arrival_ns,latency,speed,yaw_rate,reference_speed,'
           'reference_yaw_rate,gated_arrival_ns,gated_speed,gated_yaw_rate,frame_arrival_ns,'
           'lateral_error')
ROWS = [[5 * 10 ** 9 + i * 33_333_333, name, 0, 5 * 10 ** 9 + i * 33_333_333 + 2_000_000, 0.002,
         0.1 + 0.001 * i, 0.01 * i, 0.5, 0.01 * i, '', '', '', 5 * 10 ** 9 + i * 33_333_333, '']
        for i in range(40) for name in ('first', 'second')]
RUN = {'date': '2026-11-30 13:03', 'machine': 'imagined', 'versions': {'Python': '3.11.7'},
       'policies': {'first': 'first.safetensors', 'second': 'second.safetensors'}, 'driving': '',
       'camera_period': 0.033333333, 'remarks': [], 'diagnostics': {}}
LIMITS, CUT_OFF = {'max_speed': 1.0, 'max_yaw_rate': 2.0}, {'crop_top': 0.25, 'crop_bottom': 0.0}
PICTURE = {'shape': [1, 60, 120], **CUT_OFF}


def csv_of(rows: list, columns: str = COLUMNS, end: str = '\n') -> bytes:
    """Return rows.csv."""
    return ''.join(line + end for line in [
        columns, *(row if isinstance(row, str) else ','.join(map(str, row)) for row in rows)
    ]).encode()


def report(folder: Path, rows: bytes | None = None, run: dict | None = None) -> Path:
    """Write what the recorder leaves: rows.csv, run.json and scene_changes.csv."""
    folder.mkdir(parents=True)
    (folder / 'rows.csv').write_bytes(csv_of(ROWS) if rows is None else rows)
    (folder / 'run.json').write_text(json.dumps(RUN if run is None else run, indent=1))
    (folder / 'scene_changes.csv').write_text('stamp_ns\n')
    return folder


def policies(folder: Path) -> Iterator[OddFile]:
    """Yield policies with odd metadata or tensors."""
    header, weights = policy_parts()
    graph = json.loads(header['__metadata__']['graph'])
    texts: dict[str, dict] = {
        'limits in words': {'limits': {**LIMITS, 'max_speed': 'fast'}},
        'limits of null': {'limits': {**LIMITS, 'max_speed': None}},
        'limits of NaN': {'limits': {**LIMITS, 'max_yaw_rate': float('nan')}},
        'negative limits': {'limits': {**LIMITS, 'max_speed': -1.0}},
        'limits of 1e300': {'limits': {**LIMITS, 'max_speed': 1e300}},
        'limits as a list': {'limits': [1.0, 2.0]}, 'a limit missing': {'limits': {}},
        'limits of true': {'limits': {**LIMITS, 'max_speed': True}},
        'a crop of .999': {'preprocessing': {**PICTURE, 'crop_top': 0.999}},
        'a crop of NaN': {'preprocessing': {**PICTURE, 'crop_bottom': float('nan')}},
        'a crop in words': {'preprocessing': {**PICTURE, 'crop_top': 'half'}},
        'another shape': {'preprocessing': {**PICTURE, 'shape': [3, 60, 120]}},
        'a shape of -1': {'preprocessing': {**PICTURE, 'shape': [1, -60, 120]}},
        'an empty graph': {'graph': {}}, 'a graph as a list': {'graph': [graph]},
        'an unknown edge in the pattern': {'pattern': {'name': 'mine', 'streams': ['a->b']}},
        'a pattern of numbers': {'pattern': {'name': 7, 'streams': [1, 2]}},
        'a node of 10 GB': {'graph': {**graph, 'nodes': {
            **graph['nodes'], 'features': {'shape': [50_000], 'activation': 'relu'},
            'memory': {'shape': [50_000], 'cell': 'gilr'}}}}}
    for fault, change in texts.items():
        path = folder / (fault.replace(' ', '_') + '.safetensors')
        path.write_bytes(policy(header | {'__metadata__': header['__metadata__'] | {
            k: json.dumps(v) for k, v in change.items()}}, weights))
        yield OddFile('policy', fault, path, {}, REFUSED)
    some = 'transforms.image-borders.weight'
    start = header[some]['data_offsets'][0]
    odd = header[some] | {'shape': [25, 1, 4, 4]}
    tensors: dict[str, tuple] = {
        'no metadata': ({k: v for k, v in header.items() if k != '__metadata__'}, weights),
        'another format': (header | {'__metadata__': {'format': 'pt'}}, weights),
        'graph not JSON': (header | {'__metadata__': header['__metadata__'] | {'graph': '{'}},
                           weights),
        'a tensor renamed': ({k + '.old' * (k == some): v for k, v in header.items()}, weights),
        'a tensor reshaped': (header | {some: odd}, weights),
        'a tensor of integers': (header | {some: header[some] | {'dtype': 'I32'}}, weights),
        'weights of NaN': (header, weights[:start] + b'\0\0\xc0\x7f' + weights[start + 4:]),
        'weights of infinity': (header, weights[:start] + b'\0\0\x80\x7f' + weights[start + 4:])}
    for fault, (head, data) in tensors.items():
        path = folder / (fault.replace(' ', '_') + '.safetensors')
        path.write_bytes(policy(head, data))
        yield OddFile('policy', fault, path, {}, REFUSED)
    path = folder / 'huge_header.safetensors'
    path.write_bytes(struct.pack('<Q', 2 ** 62) + b'{}' + weights[:1000])
    yield OddFile('policy', 'a header of 4 EB', path, {}, REFUSED)
    path = folder / 'numpy.pt'
    path.write_bytes(archive(archive_arrays()))
    yield OddFile('policy', 'a suffix of another format', path, {}, REFUSED)


# Of texts in YAML: format, fault, text, what is right, and the value.
TEXTS: list[tuple[str, str, str, tuple, dict]] = [
    ('graph', 'a key twice', '{edges: [a->b], edges: [a->c]}', REFUSED, {}),
    ('graph', 'a second document', 'edges: [a->b]\n---\nedges: [a->c]\n', REFUSED, {}),
    ('graph', 'a tab', 'edges:\n\t- a->b\n', REFUSED, {}),
    ('graph', 'a billion names', "{edges: ['a->h{1..1000000000}', 'h{1..1000000000}->b']}",
     REFUSED, {}),
    ('graph', 'a list', '[a->b, b->c]', REFUSED, {}), ('graph', 'a number', '7', REFUSED, {}),
    ('graph', 'an include that leads out',
     '{include: ../../../../../../etc/hostname, edges: [a->b]}', REFUSED, {}),
    ('graph', 'an include of itself', '{include: an_include_of_itself.yaml, edges: [a->b]}',
     REFUSED, {}),
    ('graph', 'a cycle that never streams', '{edges: [a->b, b->c, c->b, c->d]}', ANY,
     dict.fromkeys('abcd', 1)),
    ('graph', 'a negative shape', '{nodes: {a: {shape: [-3]}, b: {shape: [2]}}, edges: [a->b]}',
     REFUSED, {}),
    ('graph', 'a shape in words', '{nodes: {a: {shape: wide}, b: {shape: [2]}}, edges: [a->b]}',
     REFUSED, {}),
    ('graph', 'an edge of null', '{edges: [a->b, null]}', REFUSED, {}),
    ('costs', 'a negative cost', '{nodes: {h1: -0.002, command: 0.0005}}', REFUSED, {}),
    ('costs', 'a cost of NaN', '{nodes: {h1: .nan, command: 0.0005}}', REFUSED, {}),
    ('costs', 'a cost in words', '{nodes: {h1: slow, command: 0.0005}}', REFUSED, {}),
    ('costs', 'a node missing', '{nodes: {h1: 0.002}}', REFUSED, {}),
    ('costs', 'a node too many', '{nodes: {h1: 0.002, command: 0.0005, h2: 1}}', REFUSED, {}),
    ('costs', 'a list', '[0.002, 0.0005]', REFUSED, {}),
    ('costs', 'milliseconds for seconds', '{nodes: {h1: 20000, command: 500}}', ANY,
     {'h1': 20000.0, 'command': 500.0})]
GATE_TEXTS: dict[str, tuple] = {
    'a misspelt section': ('{/**/gatte: {ros__parameters: {max_speed: 0.3}}}', SAID),
    'a misspelt name': ('{/**/gate: {ros__parameters: {max_sped: 0.3}}}', REFUSED),
    'ros__parameters left out': ('{/**/gate: {max_speed: 0.3}}', REFUSED),
    'a word for a number': ('{/**/gate: {ros__parameters: {max_speed: fast}}}', REFUSED),
    'a negative limit': ('{/**/gate: {ros__parameters: {max_speed: -0.3}}}', REFUSED),
    'NaN': ('{/**/gate: {ros__parameters: {max_speed: .nan}}}', REFUSED),
    '1e999': ('{/**/gate: {ros__parameters: {max_speed: 1e999}}}', REFUSED),
    'null': ('{/**/gate: {ros__parameters: {max_speed: null}}}', REFUSED),
    'a list': ('[{max_speed: 0.3}]', REFUSED), 'a word': ('max_speed', REFUSED),
    'an alias': ('{/**/gate: {ros__parameters: {max_speed: &a 0.3, max_yaw_rate: *a}}}', REFUSED)}
# Of the recorder's folders: rows.csv or run.json, and what is right.
REPORTS: dict[str, tuple] = {
    'a stamp of 10**30': (csv_of([*ROWS[:-1], [10 ** 30, *ROWS[-1][1:]]]), SAID),
    'stamps of NaN': (csv_of([['nan', *row[1:]] for row in ROWS]), REFUSED),
    'negative stamps': (csv_of([[-row[0], *row[1:]] for row in ROWS]), ANY),
    'a column missing': (csv_of([row[:-3] for row in ROWS], COLUMNS.rsplit(',', 3)[0]), SAID),
    'a column renamed': (csv_of(ROWS, COLUMNS.replace('arrival_ns', 'arrival', 1)), REFUSED),
    'words for numbers': (csv_of([[*row[:5], 'fast', *row[6:]] for row in ROWS]), REFUSED),
    'another order': (csv_of(ROWS[::-1]), ANY), 'a head only': (csv_of([]), SAID),
    'every row twice': (csv_of(ROWS + ROWS), ANY), 'no head': (csv_of(ROWS[1:], '1'), REFUSED),
    'semicolons': (csv_of(ROWS).replace(b',', b';'), REFUSED),
    'a last line cut': (csv_of(ROWS)[:-40], SAID),
    'a period of 0': (RUN | {'camera_period': 0}, REFUSED),
    'a period in words': (RUN | {'camera_period': 'short'}, REFUSED),
    'a period of NaN': (RUN | {'camera_period': float('nan')}, REFUSED),
    'policies as a number': (RUN | {'policies': 7}, ANY),
    'nothing about the run': ({}, ANY)}


def texts(folder: Path) -> Iterator[OddFile]:
    """Yield graphs, costs, parameter files, and what a recorder left."""
    for form, fault, text, verdicts, value in TEXTS:
        path = folder / form / (fault.replace(' ', '_') + '.yaml')
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        yield OddFile(form, fault, path, value, verdicts)
    (folder / 'parameters').mkdir()
    for fault, (text, verdicts) in GATE_TEXTS.items():
        path = folder / 'parameters' / (fault.replace(' ', '_') + '.yaml')
        path.write_text(text)
        yield OddFile('parameters', fault, path, {'max_speed': 0.3}, verdicts)
    for fault, (what, verdicts) in REPORTS.items():
        path = folder / 'report' / fault.replace(' ', '_').replace('*', '')
        report(path, *((what, None) if isinstance(what, bytes) else (None, what)))
        rows = range(len(ROWS) * (1 + (fault == 'every row twice')))
        yield OddFile('report', fault, path, {i: i for i in rows}, verdicts)


def written(data: bytes | str, name: str) -> Callable[[Path], tuple[Path, Path]]:
    """Return a writer of a single file; it gives what is read and what is damaged."""
    def write(folder: Path) -> tuple[Path, Path]:
        path = folder / name
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path, path
    return write


def within(write: Callable[[Path], Path], name: str) -> Callable[[Path], tuple[Path, Path]]:
    """Return a writer of a folder, of which one file is damaged."""
    return lambda folder: (path := write(folder / 'all'), path / name)


def database(folder: Path) -> tuple[Path, Path]:
    """Write a single .db3 file."""
    db3(folder / 'drive.db3', drive())
    return folder / 'drive.db3', folder / 'drive.db3'


def formats() -> dict[str, tuple[str, Callable[[Path], tuple[Path, Path]], dict, bool]]:
    """Return, of sound files: format, writer, value, and whether the file is text."""
    few, drove = {i: i for i in range(8)}, (lambda folder: tub(
        folder, tub_records()[:8], {'current_index': 8}))
    rows = {i: i for i in range(len(ROWS))}
    robot = (REPOSITORY / 'config/robots/donkeycar.yaml').read_text()
    return {
        'MCAP': ('recording', written(mcap(drive())[0], 'drive.mcap'), WHOLE, False),
        'SQLite': ('recording', database, WHOLE, False),
        'MCAP of a folder': ('recording', within(bag, 'drive_0.mcap'), WHOLE, False),
        'SQLite of a folder': (
            'recording', within(lambda f: bag(f, storage='sqlite3'), 'drive_0.db3'), WHOLE, False),
        'metadata.yaml': ('recording', within(bag, 'metadata.yaml'), WHOLE, True),
        'manifest.json': ('tub', within(drove, 'manifest.json'), few, True),
        'catalog': ('tub', within(drove, 'catalog_0.catalog'), few, True),
        'catalog_manifest': ('tub', within(drove, 'catalog_0.catalog_manifest'), few, True),
        'npz': ('archive', written(archive(archive_arrays()), 'drive.npz'), WHOLE, False),
        'safetensors': ('policy', written(policy(*policy_parts()), 'mine.safetensors'),
                        {**LIMITS, **CUT_OFF}, False),
        'graph': ('graph', written(json.dumps(GRAPH), 'mine.yaml'),
                  dict.fromkeys(GRAPH['nodes'], 1), True),
        'costs': ('costs', written(json.dumps(COSTS), 'mine.yaml'), COSTS['nodes'], True),
        'parameters': ('parameters', written(json.dumps(GATE), 'mine.yaml'),
                       GATE['/**/gate']['ros__parameters'], True),
        'robot file': ('parameters', written(robot, 'mine.yaml'),
                       {'max_speed': 1.0, 'max_yaw_rate': 3.0}, True),
        'rows.csv': ('report', within(report, 'rows.csv'), rows, True),
        'run.json': ('report', within(report, 'run.json'), rows, True)}


def replaced_by_folder(path: Path) -> None:
    """Put a folder in a file's place."""
    path.unlink()
    path.mkdir()


def replaced_by_link(path: Path) -> None:
    """Put a link to nothing in a file's place."""
    path.unlink()
    path.symlink_to(path.with_name('gone'))


Damage = Callable[[bytes, np.random.Generator], bytes]
# Of any file: what becomes of its bytes, or of its place.
DAMAGES: dict[str, Damage | Callable[[Path], None]] = {
    'cut': lambda data, random: data[:random.integers(len(data) // 8, len(data) - 2)],
    'tail of zeros': lambda data, random: data[:(at := random.integers(
        len(data) // 8, len(data) - 8))] + bytes(len(data) - at),
    'empty': lambda data, random: b'', 'LFS pointer': lambda data, random: LFS,
    'HTML page': lambda data, random: HTML, 'a picture': lambda data, random: picture(3),
    'JSON of another kind': lambda data, random: b'{"hello": [1, 2, {"world": null}]}\n',
    'random bytes': lambda data, random: random.bytes(300),
    'a folder in its place': replaced_by_folder, 'a link to nothing': replaced_by_link}
OF_TEXT: dict[str, Damage] = {
    'BOM': lambda data, random: b'\xef\xbb\xbf' + data,
    'line ends of \\r\\n': lambda data, random: data.replace(b'\n', b'\r\n'),
    'UTF-16': lambda data, random: data.decode().encode('utf-16'),
    'latin-1': lambda data, random: data + '\n# für Bäume\n'.encode('latin-1'),
    'nested deeply': lambda data, random: b'[' * 4000 + b']' * 4000,
    'aliases': lambda data, random: b''.join(
        b'a%d: &a%d [%s]\n' % (i, i, b', '.join([b'*a%d' % (i - 1)] * 9) if i else b'1')
        for i in range(12)),
    'text after the end': lambda data, random: data + b'}]} ]'}


def damaged(folder: Path, random: np.random.Generator) -> Iterator[OddFile]:
    """Yield every format with every damage that any file may have."""
    for name, (form, write, value, text) in formats().items():
        for number, (fault, damage) in enumerate((DAMAGES | (OF_TEXT if text else {})).items()):
            if (name, fault) == ('robot file', 'cut'):
                continue  # in the style of lines, YAML is whole after each of them
            place = folder / name.replace(' ', '_') / str(number)
            place.mkdir(parents=True)
            given, file = write(place)
            if fault in ('a folder in its place', 'a link to nothing'):
                damage(file)                                         # type: ignore[call-arg]
            else:
                file.write_bytes(damage(file.read_bytes(), random))  # type: ignore[arg-type]
            yield OddFile(form, f'{name}: {fault}', given, value)


def odd_files(folder: Path, seed: int) -> Iterator[OddFile]:
    """Write all files into an empty folder; the places of damage follow from the seed."""
    random = np.random.default_rng(seed)
    parts = {'recordings': lambda at: recordings(at, random), 'tubs': tubs,
             'archives': lambda at: archives(at, random), 'policies': policies, 'texts': texts,
             'damaged': lambda at: damaged(at, random)}
    for name in parts:
        (folder / name).mkdir(parents=True)
    return itertools.chain.from_iterable(part(folder / name) for name, part in parts.items())
