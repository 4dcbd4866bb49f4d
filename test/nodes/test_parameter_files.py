"""A parameter file says the same to ROS and to our tools, or is refused by ours in a sentence."""

import random

import pytest
from stream_agent.nodes.gate_node import GateNode
from stream_agent.share import check_parameter_files, ParameterFileError, ParameterFiles
from support.ros_parameters import ask_ros, shown

GATE = '/**/gate:\n  ros__parameters:\n'
ALL = '/**: {ros__parameters: {a: 0.1}}'


def own(text):
    """Return a file with the parameters of the gate."""
    return GATE + ''.join(f'    {line}\n' for line in text.split('\n'))


# Files and single parameters (-p), in their order, and who reads them.
CASES = {
    'any namespace': ([own('a: 1')], '/one/gate'),
    'no namespace': (['gate: {ros__parameters: {a: 1}}'], '/gate'),
    'no namespace, in one': (['gate: {ros__parameters: {a: 1}}'], '/one/gate'),
    'with a slash': (['/gate: {ros__parameters: {a: 1}}'], '/gate'),
    'namespace': (['one/gate: {ros__parameters: {a: 1}}'], '/one/gate'),
    'namespace with a slash': (['/one/gate: {ros__parameters: {a: 1}}'], '/one/gate'),
    'one namespace of any name': (['/*/gate: {ros__parameters: {a: 1}}'], '/one/gate'),
    'one namespace, two there': (['/*/gate: {ros__parameters: {a: 1}}'], '/one/two/gate'),
    'anybody in a namespace': (['/one/*: {ros__parameters: {a: 1}}'], '/one/gate'),
    'anybody below a namespace': (['/one/**: {ros__parameters: {a: 1}}'], '/one/two/gate'),
    'anybody': (['/*: {ros__parameters: {a: 1}}'], '/gate'),
    'stars without a slash': (['"**": {ros__parameters: {a: 1}}'], '/one/gate'),
    'nested names': (['one: {gate: {ros__parameters: {a: 1}}, b: {ros__parameters: {a: 2}}}'],
                     '/one/b'),
    'nested below a slash': (['/one/: {gate: {ros__parameters: {a: 1}}}'], '/one/gate'),
    'nested before its own': (
        ['/**: {gate: {ros__parameters: {b: 2}}, ros__parameters: {a: 1}}\nc: {}'], '/gate'),
    '/** before': ([ALL + '\n' + own('a: 0.2')], '/gate'),
    '/** after': ([own('a: 0.2') + ALL], '/gate'),
    '/** again': ([ALL, own('a: 0.2'), ALL], '/gate'),
    'two names of one': (['/gate: {ros__parameters: {a: 1}}',
                          'gate: {ros__parameters: {a: 0.5}}'], '/gate'),
    'later file': ([own('a: 1\nb: 2'), own('a: 3')], '/gate'),
    'later of a lower type': ([own('a: 1'), own('a: 0.5')], '/gate'),
    'later of a higher type': ([own('a: 0.5'), own('a: 1')], '/gate'),
    'text, then truth': ([own('a: x'), own('a: on')], '/gate'),
    'list, then value': ([own('a: [x, z]'), own('a: 5')], '/gate'),
    'value, then list': ([own('a: 5'), own('a: [x, z]')], '/gate'),
    'unset after': ([own('a: 5'), own('a: []')], '/gate'),
    'unset by a section': ([ALL, own('a: []')], '/gate'),
    'nested parameters': ([own('a: {b: 1, c: {d: 2}, e: 3}\nf: 4')], '/gate'),
    'nested, then again': ([own('a: {b: 1}'), own('a: {b: 0.5}')], '/gate'),
    'nested, then flat': ([own('a: {b: 1}'), own('a.b: 0.5')], '/gate'),
    'flat, then nested, then flat': (
        [own('a.b: 1'), own('a: {b: 0.5}'), own('a.b: 7')], '/gate'),
    'value, then nested': ([own('a: 5'), own('a: {b: 0.5}')], '/gate'),
    'numbers as keys': ([own('1: 1\n2: {3: 4}')], '/gate'),
    'odd keys': ([own('"a:b": 1\n"\u00fc": 2\n"a/b": \u00fc')], '/gate'),
    'blocks': ([own('a: |\n  5\nb: >-\n  5\nc: |-\n  yes')], '/gate'),
    'the tag of text': ([own('a: !!str 007\nb: !!str yes')], '/gate'),
    'quoted': ([own('a: "1"\nb: \'yes\'\nc: ""')], '/gate'),
    'byte order mark': (['\ufeff' + own('a: 1')], '/gate'),
    'tabs between': (['/**:\n  ros__parameters:\t{a:\t1}'], '/gate'),
    'empty': ([''], '/gate'),
    'a comment': (['# a: 1'], '/gate'),
    'empty map': (['{}'], '/gate'),
    'empty section': (['gate: {}'], '/gate'),
    'no parameters': (['/**/gate: {ros__parameters: {}}'], '/gate'),
    'end of the document': ([own('a: 1') + '...\n'], '/gate'),
    '-p after a file': ([own('a: 0.5'), '-p a:=0.7'], '/gate'),
    '-p after two sections': ([ALL, own('a: 0.5'), '-p a:=0.7'], '/gate'),
    '-p with a name': ([ALL, own('a: 0.5'), '-p gate:a:=0.7'], '/gate'),
    '-p with a name, in a namespace': ([ALL, own('a: 0.5'), '-p gate:a:=0.7'], '/one/gate'),
    '-p with dots': (['-p a.b:=1', '-p a/b:=x'], '/gate'),
    '-p with YAML': (['-p a:=[1, 2]', '-p b:="x"', '-p c:= 007', '-p d:=null # e'], '/gate'),
    '-p of nothing': (["-p a:=''", '-p b:=[]'], '/gate'),
    # Refused by ROS, too.
    'an alias': ([own('b: &a 1\nc: *a')], '/gate'),
    'merge by an alias': ([own('a: &a {b: 1}\nc: {<<: *a}')], '/gate'),
    'mixed list': ([own('a: [x, 3]')], '/gate'),
    'whole number among floats': ([own('a: [1.0, 2]')], '/gate'),
    'no value': ([own('a:\nb: 1')], '/gate'),
    'no key': ([own('"": 1')], '/gate'),
    'a list as key': ([own('? [1]\n: 1')], '/gate'),
    'a tab as indent': (['/**:\n\tros__parameters: {a: 1}'], '/gate'),
    'not YAML': (['gate: ['], '/gate'),
    'after ros__parameters': (
        ['/**: {ros__parameters: {a: 1}, gate: {ros__parameters: {b: 2}}}'], '/gate'),
    'no section': (['a: 1'], '/gate'),
    'no ros__parameters': (['gate: {a: 1}'], '/gate'),
    'no value of ros__parameters': (['gate: {ros__parameters: }'], '/gate'),
    'ros__parameters at the top': (['ros__parameters: {a: 1}'], '/gate'),
    'misspelt ros_parameters': (['gate: {ros_parameters: {a: 1}}'], '/gate'),
    'a part of a name with a star': (['ga*: {ros__parameters: {a: 1}}'], '/gate'),
    'a name with a hyphen': (['my-gate: {ros__parameters: {a: 1}}'], '/gate'),
    'a name that begins with a digit': (['7gate: {ros__parameters: {a: 1}}'], '/gate'),
    'two slashes': (['/one: {/gate: {ros__parameters: {a: 1}}}'], '/one/gate'),
    'version of YAML': (['%YAML 1.2\n---\n' + own('a: 1')], '/gate'),
    'a list for a section': (['gate: [1]'], '/gate'),
    'a list for a file': (['- 1'], '/gate'),
    '-p of a map': (['-p a:={b: 1}'], '/gate'),
    '-p that is not closed': (['-p a:=[1, 2'], '/gate'),
    '-p without a value': (['-p a:='], '/gate'),
}
# What ROS takes, but not as it seems to be meant.
REFUSED = {
    'key twice': (own('a: 1\na: 2'), "'a' is defined twice, first at "),
    'section twice': (own('a: 1') + own('b: 1'), "'/**/gate' is defined twice, first at "),
    'section twice by two names': (
        '/gate: {ros__parameters: {a: 1}}\ngate: {ros__parameters: {a: 2}}',
        "'a' is defined twice, first at "),
    'nested and flat': (own('a.b: 1\na: {b: 2}'), "'a.b' is defined twice, first at "),
    'second document': (own('a: 1') + '---\n' + own('b: 1'), 'a second document begins here'),
    'anchor': (own('a: &a 1'), 'anchors and aliases (&a) are not supported'),
    'tag': (own('a: !!float 1'), 'tags (!!float) are not supported; leave it out'),
    'merge': (own('<<: {a: 1}'), "'<<' is not the name of a parameter"),
    'list in a list': (own('a: [[1]]'), 'is not a value or a list of single values; write it'),
    'map in a list': (own('a: [{b: 1}]'), 'is not a value or a list of single values; write it'),
    'empty map': (own('b: 1\na: {}'), "ROS cannot read the map 'a'; write 'a.NAME: VALUE'"),
    'dots within a map': (own('x: {y.z: {w: 1}, v: 2}'), "write 'x.y.z.NAME: VALUE' in one line"),
    'slash within a name': ('one: {b/gate: {ros__parameters: {b: 2}}}', "within 'one'; nest "),
    'longer word': ('gate: {ros__parametersx: {a: 5}}', 'is read as ros__parameters; write it so'),
    'zero byte': (own('a: "\\0b"'), 'has a zero byte, where ROS ends it; leave it out'),
    'one value': ('1', 'has no section with ros__parameters'),
}
SCALARS = """
1 -1 +1 0x1F -0x1f 0X1f 010 08 09 0o17 0b11 1_0 1:30 1.5 .5 5. -.5 +.5 1e3 1e-3 1E+3 1e 1e999
-1e999 1e-400 1e-320 2.2250738585072014e-308 1.7976931348623159e308 0e999 0x1.8p3 0x.8 0x 1d5 1,5
nan NaN -nan nan(1) nan( inf -inf Infinity infinit .inf -.inf +.INF .nan -.nan .Nan 1.0f 007 00
yes Yes YES yEs y Y n N no No NO on On ON oN off Off OFF true True TRUE tRue false False FALSE
null ~ Null 2026-07-30 2026-02-30 9223372036854775807 9223372036854775808 -9223372036854775808
0xffffffffffffffff -0 -0.0 \u0663 1\u00b2 x=y a,b /x - -- - <<""".split()


@pytest.fixture(scope='module')
def arguments(tmp_path_factory):
    """Return the ROS arguments of files, which are written, and of single parameters."""
    folder = tmp_path_factory.mktemp('files')

    def written(texts):
        words = []
        for text in texts:
            if text.startswith('-p '):
                words += ['-p', text[3:]]
                continue
            path = folder / f'{len(list(folder.iterdir()))}.yaml'
            path.write_text(text)
            words += ['--params-file', str(path)]
        return words
    return written


def read_by_us(words, process):
    """Return what our reader makes of ROS arguments, or its sentence."""
    try:
        files = ParameterFiles.of_arguments(['--ros-args', *words])
    except ParameterFileError as error:
        return f'refused: {error}'
    return {name: shown(given.value) for name, given in files.given(process).items()}


@pytest.mark.child_process
def test_our_reader_reads_what_ros_reads(arguments):
    questions = [(arguments(texts), process) for texts, process in CASES.values()]
    answers = dict(zip(CASES, ask_ros(questions), strict=True))
    for name, question in zip(CASES, questions):
        found = read_by_us(*question)
        if isinstance(answers[name], str):
            assert isinstance(found, str), name
        else:
            assert found == answers[name], name
    refused = [name for name, answer in answers.items() if isinstance(answer, str)]
    assert refused == list(CASES)[list(CASES).index('an alias'):]


@pytest.mark.parametrize('name', REFUSED)
def test_what_ros_reads_otherwise_than_it_seems_is_refused(arguments, name):
    text, sentence = REFUSED[name]
    words = arguments([text])
    assert sentence in read_by_us(words, '/gate') and words[1] in read_by_us(words, '/gate')


@pytest.mark.child_process
def test_ros_takes_what_only_we_refuse(arguments):
    answers = ask_ros([(arguments([text]), '/gate') for text, _ in REFUSED.values()])
    assert [type(answer) for answer in answers] == [dict] * len(REFUSED)


@pytest.mark.child_process
def test_scalars_are_those_of_ros(arguments):
    texts = [own(f'a: {scalar}') for scalar in SCALARS] + [
        own(f'a: [{scalar}]') for scalar in SCALARS if not set(scalar) & set(',{}[]-')]
    questions = [(arguments([text]), '/gate') for text in texts]
    for question, text, answer in zip(questions, texts, ask_ros(questions), strict=True):
        assert read_by_us(*question) == answer or isinstance(answer, str), text


@pytest.mark.child_process
def test_random_files_are_read_as_ros_reads_them(arguments):
    """Held for what ours takes; what only ROS takes is in ``REFUSED``."""
    draw = random.Random(4)
    sections = ['/**', 'gate', '/gate', '/**/gate', '/one/gate', '/one/*', '/*/gate', 'agent']
    names = ['a', 'b', 'a.b', 'b.c']
    values = ['1', '0.5', 'x', 'yes', '"1"', '[1]', '[0.5, 1.5]', '[x]', '[]', '{c: 1}',
              '{b: 0.5, c: x}', '[yes]', '010', '1e999']

    def file():
        return '\n'.join(f'"{section}":\n  ros__parameters:\n' + ''.join(
            f'    {name}: {draw.choice(values)}\n'
            for name in draw.sample(names, draw.randint(1, 3)))
            for section in draw.sample(sections, draw.randint(1, 4)))

    questions = []
    for _ in range(150):
        words = arguments([file() for _ in range(draw.randint(1, 3))])
        if draw.random() < 0.3:
            words += ['-p', f'{draw.choice(["", "gate:"])}a:={draw.choice(values[:8])}']
        questions += [(words, process) for process in ('/gate', '/one/gate')]
    accepted = 0
    for question, answer in zip(questions, ask_ros(questions), strict=True):
        found = read_by_us(*question)
        if isinstance(found, dict):
            assert found == answer, [open(word).read() for word in question[0][1::2]]
            accepted += 1
        else:
            assert 'is defined twice' in found
    assert accepted > 200


def test_ros_reads_the_numbers_that_our_tools_read(make_node, tmp_path):
    path = tmp_path / 'gate.yaml'
    path.write_text('/**:\n  gate:\n    ros__parameters: {max_speed: 25e-2, stop_period: 1e-1}\n')
    arguments = ['--params-file', str(path)]
    check_parameter_files(arguments)
    gate = make_node(GateNode, *arguments)
    for name, value in ParameterFiles([path]).of('/gate').items():
        assert gate.get_parameter(name).value == value in (0.25, 0.1)
