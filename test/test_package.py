"""What an installation holds, tried on one made by pip; and the style of all Python files."""

import ast
from hashlib import sha256
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
import os
from pathlib import Path
import re
import shutil
import subprocess
import sys
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = ['config', 'launch', 'resource', 'scripts', 'stream_agent', 'studies',
           'LICENSE', 'package.xml', 'setup.cfg', 'setup.py']
FOLDERS = ['benchmark', 'launch', 'setup.py', 'stream_agent', 'studies', 'test']
EXECUTABLES = ['agent', 'camera', 'compare', 'convert', 'doctor', 'draw', 'evaluate', 'experiment',
               'expert', 'export', 'gate', 'import', 'plan', 'record', 'record_bag',
               'recorder', 'rollouts', 'simulation', 'train', 'world']


@pytest.fixture(scope='module')
def prefix(tmp_path_factory):
    """Install the package, and return where."""
    source, prefix = tmp_path_factory.mktemp('source'), tmp_path_factory.mktemp('prefix')
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name,
                            ignore=shutil.ignore_patterns('__pycache__'))
        else:
            shutil.copy2(ROOT / name, source / name)
    subprocess.run(
        [sys.executable, '-m', 'pip', 'install', '--quiet', '--no-deps', '--no-index',
         '--no-build-isolation', '--ignore-installed', '--prefix', str(prefix), str(source)],
        check=True)
    return prefix


def run(prefix, *command):
    """Run a command of the installation; returns what it prints."""
    (packages,) = prefix.glob('l*/python3*/site-packages')
    path = os.pathsep.join(filter(None, [str(packages), os.environ.get('PYTHONPATH')]))
    return subprocess.run(
        [sys.executable, *command], env={**os.environ, 'PYTHONPATH': path}, cwd=prefix,
        check=True, capture_output=True, text=True).stdout


@pytest.mark.child_process
@pytest.mark.parametrize('name', EXECUTABLES)
def test_ros_finds_every_executable(prefix, name):
    executable = prefix / 'lib' / 'stream_agent' / name
    assert executable.stat().st_mode & 0o777 == 0o755
    assert executable.read_text().startswith('#!/usr/bin/env python3\n')


@pytest.mark.child_process
@pytest.mark.parametrize('broken, said', [
    ("sys.modules['cv2'] = None", 'import of cv2 halted; None in sys.modules'),
    ('Finder.raises = ImportError("libGL.so.1: cannot open shared object file")',
     'libGL.so.1: cannot open shared object file')])
def test_an_opencv_that_cannot_be_imported_has_a_remedy(broken, said):
    code = f"""
import sys
class Finder:
    raises = None
    def find_spec(name, path=None, target=None):
        if name == 'cv2' and Finder.raises:
            raise Finder.raises
sys.meta_path.insert(0, Finder)
{broken}
from stream_agent.__main__ import main
sys.exit(main(['world']))
"""
    found = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 1
    assert found.stderr == (
        f'stream_agent world: OpenCV cannot be imported ({said}); install it by `pip install '
        'opencv-python-headless`, or by apt as python3-opencv\n')


def test_no_requirement_writes_over_an_opencv_that_is_there():
    text = (ROOT / 'setup.py').read_text()
    required = ast.literal_eval(re.search(r'install_requires=(\[.*?\])', text, re.DOTALL)[1])
    assert len(required) > 5
    assert not any('opencv' in name for name in required)
    assert "'opencv': ['opencv-python-headless']" in text


@pytest.mark.child_process
def test_no_executable_is_missing(prefix):
    found = sorted(path.name for path in (prefix / 'lib' / 'stream_agent').iterdir())
    assert found == EXECUTABLES


@pytest.mark.child_process
def test_an_executable_runs_its_command(prefix):
    executable = prefix / 'lib' / 'stream_agent' / 'train'
    assert run(prefix, str(executable), '--help').startswith('usage: train ')


@pytest.mark.child_process
def test_the_console_script_lists_the_commands(prefix):
    said = run(prefix, str(prefix / 'bin' / 'stream_agent'), '--help')
    assert said.startswith('usage: stream_agent COMMAND ...\n')
    # The former name of a command runs, but is not listed.
    assert all(f'\n  {name} ' in said for name in {*EXECUTABLES, 'run'} - {'record'})


@pytest.mark.child_process
def test_the_index_of_packages_has_an_entry(prefix):
    marker = prefix / 'share/ament_index/resource_index/packages/stream_agent'
    assert marker.read_text() == ''


@pytest.mark.child_process
@pytest.mark.parametrize('folder', ['config', 'launch'])
def test_share_holds_the_files_of_the_source(prefix, folder):
    def files(root):
        return sorted(str(path.relative_to(root)) for path in root.rglob('*')
                      if path.is_file() and path.suffix != '.pyc')
    assert files(prefix / 'share' / 'stream_agent' / folder) == files(ROOT / folder) != []


@pytest.mark.child_process
def test_the_studies_are_not_installed(prefix):
    (packages,) = prefix.glob('l*/python3*/site-packages')
    assert (packages / 'stream_agent').is_dir()
    assert not [path for path in prefix.rglob('*') if 'studies' in path.name]


@pytest.mark.child_process
def test_the_installed_package_finds_its_files(prefix):
    where = run(prefix, '-c', 'from stream_agent.share import share_folder\n'
                'print(share_folder())')
    assert where.strip() == str(prefix / 'share' / 'stream_agent')
    template = run(prefix, '-c', 'from stream_agent.measurement.report import TEMPLATE\n'
                   'print(TEMPLATE, TEMPLATE.is_file())')
    path, found = template.split()
    assert Path(path).is_relative_to(prefix) and found == 'True'


def test_one_version():
    package = ElementTree.parse(ROOT / 'package.xml').getroot()
    in_xml = package.find('version').text
    assert re.search(r"version='([^']+)'", (ROOT / 'setup.py').read_text())[1] == in_xml
    try:
        assert version('stream_agent') == in_xml
    except PackageNotFoundError:
        pass


def test_package_xml_names_every_ros_package_that_is_imported():
    package = ElementTree.parse(ROOT / 'package.xml').getroot()
    declared = {item.text for item in package.findall('exec_depend')}
    imported = set()
    for path in [*ROOT.glob('stream_agent/**/*.py'), *ROOT.glob('launch/*.py')]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                imported.add(node.module.split('.')[0])
            elif isinstance(node, ast.Import):
                imported |= {alias.name.split('.')[0] for alias in node.names}
    ros = {name for name in imported if re.fullmatch(
        r'rclpy|launch|launch_ros|ament_\w+|\w+_msgs|\w+_interfaces|std_srvs', name)}
    assert 'rclpy' in ros and ros <= declared


def test_scripts_find_what_they_import_of_the_package():
    """Benchmarks run rarely, so a name that was changed would be missed for long."""
    missing = []
    for path in sorted([*ROOT.glob('benchmark/*.py'), *ROOT.glob('launch/*.py')]):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module.startswith('stream_agent'):
                module = import_module(node.module)
                missing += [f'{path.name}: {node.module}.{alias.name}' for alias in node.names
                            if not hasattr(module, alias.name)
                            and not (module.__file__.endswith('__init__.py')
                                     and find_spec(f'{node.module}.{alias.name}'))]
    assert not missing


def rules_of_style() -> str:
    """Return what a verdict on a file depends on, apart from the file."""
    tools = {name: version(name) for name in (
        'flake8', 'flake8-docstrings', 'flake8-import-order', 'flake8-quotes', 'pycodestyle',
        'pydocstyle', 'pyflakes')}
    return f"{(ROOT / 'setup.cfg').read_text()} {tools} {sys.version}"


@pytest.mark.parametrize('folder', [*FOLDERS, 'scripts'])
def test_style(folder, request):
    """Files that were clean are checked again once they, or the rules, have changed."""
    pytest.importorskip('flake8_quotes', reason='flake8-quotes is not installed')
    pytest.importorskip('flake8_import_order', reason='flake8-import-order is not installed')
    from flake8.api import legacy as flake8
    from flake8.main.options import JobsArgument
    paths = ([ROOT / 'scripts' / name for name in EXECUTABLES] if folder == 'scripts' else
             [*(ROOT / folder).rglob('*.py')] or [ROOT / folder])
    rules = rules_of_style()
    digests = {str(path): sha256(rules.encode() + path.read_bytes()).hexdigest()
               for path in paths}
    clean = request.config.cache.get(f'style/{folder}', {})
    changed = [path for path, digest in digests.items() if clean.get(path) != digest]
    if changed:
        style = flake8.get_style_guide(config=str(ROOT / 'setup.cfg'), jobs=JobsArgument('1'))
        assert not style.check_files(changed).total_errors
    request.config.cache.set(f'style/{folder}', digests)


@pytest.mark.parametrize('linter, folders', [
    ('ament_flake8', ['stream_agent', 'launch', 'test', 'benchmark', 'setup.py']),
    ('ament_pep257', ['stream_agent', 'launch', 'test', 'benchmark']),
    # That of package.xml needs its schema from the network.
    ('ament_xmllint', ['config/sros2'])])
def test_linters_of_ros(linter, folders):
    pytest.importorskip(linter, reason=f'{linter} is not installed')
    found = subprocess.run([linter, *folders], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout[-2000:] + found.stderr[-2000:]
