"""The world that is shipped is what the generator writes."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from stream_agent.cli.world import main
from stream_agent.gazebo.world_folder import read_world

SHIPPED = Path(__file__).parents[2] / 'config' / 'gazebo' / 'course'
FILES = sorted(path.name for path in SHIPPED.iterdir())


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp('default') / 'course'
    assert main(['--output', str(folder)]) == 0
    return folder


def test_the_same_files_are_there(written):
    assert sorted(path.name for path in written.iterdir()) == FILES
    assert {'world.sdf', 'differential.sdf', 'bicycle.sdf', 'bridge.yaml'} <= set(FILES)


@pytest.mark.parametrize('name', [name for name in FILES if not name.endswith(('.png', '.csv'))])
def test_a_file_says_the_same(written, name):
    assert (written / name).read_text() == (SHIPPED / name).read_text()


@pytest.mark.parametrize('name', [name for name in FILES if name.endswith('.png')])
def test_a_picture_shows_the_same(written, name):
    one, other = (cv2.imread(str(folder / name), cv2.IMREAD_UNCHANGED).astype(int)
                  for folder in (written, SHIPPED))
    assert one.shape == other.shape and one.ndim == 3
    # Libraries may round drawn edges otherwise.
    assert np.abs(one - other).mean() < 0.5


def test_the_course_is_the_same(written):
    one, other = (read_world(folder).course for folder in (written, SHIPPED))
    np.testing.assert_allclose(one.points, other.points, atol=2e-6)


def test_what_cannot_be_used_is_a_sentence(tmp_path, capsys):
    for text, said in (('- 1', 'has no section with ros__parameters; write it as config/'),
                       ('/**/simulation: {ros__parameters: {rate: 0.5}}', 'rate is 0.5; set it'),
                       ('{', ':1: not YAML: ')):
        (tmp_path / 'params.yaml').write_text(text)
        assert main(['--robot', str(tmp_path / 'params.yaml'),
                     '--output', str(tmp_path / 'world')]) == 1
        assert said in capsys.readouterr().err
    assert not (tmp_path / 'world').exists()
    assert main(['--robot', 'tortoise', '--output', str(tmp_path / 'world')]) == 1
    assert "world: robot: there is no 'tortoise'; shipped robots are" in capsys.readouterr().err
