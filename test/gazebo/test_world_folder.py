"""What Gazebo is told is what the embedded simulator shows: by geometry, and by pictures."""

import math
import resource
import shutil
import subprocess
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from stream_agent.bounded_settings import SettingsError
from stream_agent.cli.world import main
from stream_agent.gazebo.world_folder import read_world, WorldError, write_world
from stream_agent.simulation.settings import SimulationSettings, VEHICLES
from stream_agent.simulation.vehicle import Pose
from stream_agent.simulation.view import Scene
from support.projection import project
import yaml

SEED = 1_000_003
SETTINGS = SimulationSettings(coloured=True)
POSES = [Pose(0.3, -0.2, 0.4), Pose(1.1, 0.9, -2.0)]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Return a world that was written."""
    path = tmp_path_factory.mktemp('gazebo') / 'world'
    write_world(SETTINGS, SEED, path)
    return path


@pytest.fixture(scope='module')
def scene():
    return Scene(SETTINGS, SEED, SEED)


def numbers(element, path):
    return [float(word) for word in element.findtext(path).split()]


def turn(roll, pitch, yaw):
    """Return the rotation of an SDF pose: about the fixed x, y and z axes, in this order."""
    (a, b, c), (d, e, f) = ([g(angle) for angle in (roll, pitch, yaw)]
                            for g in (math.cos, math.sin))
    return (np.array([[c, -f, 0], [f, c, 0], [0, 0, 1]]) @ np.array(
        [[b, 0, e], [0, 1, 0], [-e, 0, b]]) @ np.array([[1, 0, 0], [0, a, -d], [0, d, a]]))


class SdfCamera:
    """A camera as SDF describes it: it looks along x, y is to its left, z up."""

    def __init__(self, folder, name='differential'):
        sensor = ElementTree.parse(folder / f'{name}.sdf').find('.//sensor[@type="camera"]')
        x, y, z, *angles = numbers(sensor, 'pose')
        self.position, self.rotation = np.array([x, y, z]), turn(*angles)
        self.width, self.height = (int(sensor.findtext(f'camera/image/{side}'))
                                   for side in ('width', 'height'))
        self.focal = 0.5 * self.width / math.tan(0.5 * numbers(sensor, 'camera/horizontal_fov')[0])

    def project(self, points, pose):
        """Return columns and rows; whole numbers are centres of pixels, as in our camera."""
        level = turn(0, 0, pose.yaw)
        seen = (points - [pose.x, pose.y, 0] - level @ self.position) @ level @ self.rotation
        ahead, left, up = seen.T
        return np.stack([0.5 * self.width - self.focal * left / ahead - 0.5,
                         0.5 * self.height - self.focal * up / ahead - 0.5], axis=1)


def read_mesh(folder, name):
    """Return vertices, their pixels in the picture, faces, and the picture."""
    rows = [line.split() for line in (folder / f'{name}.obj').read_text().splitlines()]
    vertices, texture = (np.array([row[1:] for row in rows if row[0] == kind], float)
                         for kind in ('v', 'vt'))
    faces = [[tuple(int(i) - 1 for i in word.split('/')) for word in row[1:]]
             for row in rows if row[0] == 'f']
    assert all(i == j and k == 0 for face in faces for i, j, k in face)
    material = dict(line.split(maxsplit=1) for line in (
        folder / f'{name}.mtl').read_text().splitlines())
    picture = cv2.imread(str(folder / material['map_Kd']))[:, :, ::-1]
    height, width = picture.shape[:2]
    # In OBJ files, v goes up from the picture's lower edge.
    pixels = np.stack([texture[:, 0] * width, (1 - texture[:, 1]) * height], axis=1) - 0.5
    return vertices, pixels, np.array(faces)[:, :, 0], picture


@pytest.mark.parametrize('name', VEHICLES)
@pytest.mark.parametrize('pose', POSES)
def test_points_are_seen_at_the_same_pixels(folder, scene, pose, name):
    heading = np.array([math.cos(pose.yaw), math.sin(pose.yaw), 0])
    random = np.random.default_rng(1)
    points = ([pose.x, pose.y, 0] + heading + random.uniform(-0.6, 0.6, (200, 3)) * (1, 1, 0.3))
    found = SdfCamera(folder, name).project(points, pose)
    expected = project(scene.camera, points, pose)
    assert np.isfinite(expected).all()
    assert np.abs(found - expected).max() < 0.01


def test_every_pixel_of_the_ground_is_where_it_was(folder, scene):
    vertices, pixels, faces, picture = read_mesh(folder, 'ground')
    assert np.array_equal(picture, scene.ground.pixels)
    corners = np.c_[vertices[:, :2], np.ones(len(vertices))] @ scene.ground.from_world.T
    assert np.abs(corners[:, :2] - pixels).max() < 0.01
    assert (vertices[:, 2] == 0).all()
    a, b, c, _ = vertices[faces[0]]
    assert np.cross(b - a, c - b)[2] > 0, 'the ground is seen from below'


def test_the_ground_beyond_is_lower_larger_and_of_its_colour(folder, scene):
    vertices, _, faces, picture = read_mesh(folder, 'beyond')
    assert np.abs(picture - scene.ground.beyond).max() <= 0.5
    assert (vertices[:, 2] < 0).all() and (vertices[:, 2] > -0.005).all()
    course = read_mesh(folder, 'ground')[0][:, :2]
    assert (vertices[:, :2].min(axis=0) < course.min(axis=0) - 100).all()
    assert (vertices[:, :2].max(axis=0) > course.max(axis=0) + 100).all()
    a, b, c, _ = vertices[faces[0]]
    assert np.cross(b - a, c - b)[2] > 0, 'the ground is seen from below'


@pytest.mark.parametrize('pose', POSES)
def test_a_picture_of_the_meshes_is_the_picture_of_the_scene(folder, scene, pose):
    vertices, pixels, _, picture = read_mesh(folder, 'ground')
    camera = SdfCamera(folder)
    on_ground = np.float32(pixels)
    # Of the corners some are behind the camera, so take points ahead of it.
    to_pixel = cv2.getPerspectiveTransform(np.float32(vertices[:, :2]), on_ground)
    c, s = math.cos(pose.yaw), math.sin(pose.yaw)
    ahead = np.array([[1, 0.3], [1, -0.3], [2, 1], [2, -1]]) @ [[c, s], [-s, c]] + pose[:2]
    seen = camera.project(np.c_[ahead, np.zeros(4)], pose)
    back = cv2.getPerspectiveTransform(np.float32(seen), np.float32(
        cv2.perspectiveTransform(ahead[:, None], to_pixel)[:, 0]))
    size = (camera.width, camera.height)
    found = cv2.warpPerspective(picture, back, size, None,
                                cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    # Where coarser textures do not come in yet.
    near = scene.view.bands[0].rows
    difference = cv2.absdiff(found, scene.view.render(pose))[near]
    assert difference.size > 1000
    assert difference.mean() < 0.5


def test_the_surroundings_are_seen_in_the_same_directions(folder, scene):
    vertices, pixels, faces, picture = read_mesh(folder, 'horizon')
    assert np.array_equal(picture, scene.panorama)
    around = vertices - [0, 0, scene.camera.height]
    azimuth = np.arctan2(around[:, 1], around[:, 0])
    elevation = np.arctan2(around[:, 2], np.hypot(around[:, 0], around[:, 1]))
    per_radian = picture.shape[1] / (2 * math.pi)
    # As ``View`` looks them up.
    columns = (-azimuth * per_radian - pixels[:, 0]) % picture.shape[1]
    assert np.minimum(columns, picture.shape[1] - columns).max() < 0.02
    assert np.abs((0.9 - elevation) * per_radian - pixels[:, 1]).max() < 0.02
    a, b, c, _ = np.moveaxis(around[faces], 1, 0)
    inwards = np.einsum('ij,ij->i', np.cross(b - a, c - b), a)
    assert (inwards < 0).all(), 'the surroundings are seen from outside'


def test_plates_show_what_they_show_in_the_embedded_simulator(tmp_path):
    settings = SimulationSettings(camera_pitch=0.15, signs=True)
    write_world(settings, SEED, tmp_path)
    signs = read_world(tmp_path).signs
    assert signs.command(7.0) == Scene(settings, SEED, SEED).signs.command(7.0)
    assert 'plates.obj' in (tmp_path / 'world.sdf').read_text()
    vertices, pixels, faces, picture = read_mesh(tmp_path, 'plates')
    plates = signs.first_lap()
    assert len(faces) == len(plates) > read_world(tmp_path).course.length - 1
    for face, plate in zip(faces, plates):
        # From the lower left, counterclockwise as seen from the front.
        assert np.abs(vertices[face] - plate.corners[::-1]).max() < 1e-5
        corners = pixels[face][::-1]
        assert np.ptp(corners, axis=0) == pytest.approx([64, 64], abs=0.01)
        left, top = np.rint(corners[0] + 0.5).astype(int)
        shown = picture[top:top + 64, left:left + 64, 1]
        assert np.abs(shown - plate.sprites[0][1:-1, 1:-1, 0]).max() <= 0.5


@pytest.mark.parametrize('name', VEHICLES)
def test_the_camera_does_not_see_its_robot(folder, name):
    model = ElementTree.parse(folder / f'{name}.sdf')
    mask = int(model.findtext('.//camera/visibility_mask'))
    # The two highest bits are the renderer's own, and asking for them is a warning.
    assert mask < 2 ** 30
    visuals = list(model.iter('visual'))
    assert len(visuals) >= 4
    for visual in visuals:
        assert not int(visual.findtext('visibility_flags')) & mask
    for visual in ElementTree.parse(folder / 'world.sdf').iter('visual'):
        # Gazebo's own default has all bits.
        assert visual.findtext('visibility_flags') is None


def test_what_is_bridged_is_what_is_published(folder):
    entries = [entry for name in ('bridge', 'camera')
               for entry in yaml.safe_load((folder / f'{name}.yaml').read_text())]
    topics = {entry['gz_topic_name'] for entry in entries}
    assert len(topics) == len(entries) == 7
    for name in VEHICLES:
        model = ElementTree.parse(folder / f'{name}.sdf')
        named = {element.text for element in model.iter()
                 if element.tag in ('topic', 'odom_topic', 'tf_topic', 'camera_info_topic')}
        assert topics - {'clock'} <= named
    assert {entry['gz_topic_name'] for entry in entries
            if entry['direction'] != 'GZ_TO_ROS'} == {'cmd_vel'}


@pytest.mark.parametrize('name', VEHICLES)
def test_joints_join_links_and_drives_drive_joints(folder, name):
    model = ElementTree.parse(folder / f'{name}.sdf')
    links = {link.get('name') for link in model.iter('link')}
    joints = {joint.get('name'): joint for joint in model.iter('joint')}
    for joint in joints.values():
        assert {joint.findtext('parent'), joint.findtext('child')} <= links
    driven = [element.text for element in model.iter() if element.tag.endswith('_joint')]
    assert driven and set(driven) <= set(joints)
    for link in model.iter('link'):
        names = [child.get('name') for child in link if child.get('name')]
        assert len(set(names)) == len(names), 'gz sdf -k wants names that differ in a link'
    # No link hangs in the air.
    assert {joint.findtext('child') for joint in joints.values()} | {'base_link'} == links


def test_the_world_names_files_that_are_there_and_systems_it_needs(folder):
    world = ElementTree.parse(folder / 'world.sdf')
    assert {uri.text for uri in world.iter('uri')} == {
        'ground.obj', 'beyond.obj', 'horizon.obj'}
    for visual in world.iter('visual'):
        mesh = visual.findtext('geometry/mesh/uri')
        assert (folder / mesh).exists()
        # Lit by itself alone; a lit picture is too bright in ogre2, one without normals white.
        assert numbers(visual, 'material/emissive') == [1, 1, 1, 1]
        assert numbers(visual, 'material/diffuse')[:3] == [0, 0, 0]
        picture = visual.findtext('material/pbr/metal/emissive_map')
        assert picture == mesh.replace('.obj', '.png') and (folder / picture).exists()
        assert 'vn 0 0 1' in (folder / mesh).read_text().splitlines()
        # Of grey pictures ogre2 makes no smaller copies for what is far away.
        assert cv2.imread(str(folder / picture), cv2.IMREAD_UNCHANGED).ndim == 3
    assert {plugin.get('filename') for plugin in world.iter('plugin')} == {
        f'gz-sim-{name}-system' for name in ('physics', 'user-commands', 'scene-broadcaster',
                                             'sensors')}
    assert numbers(world, './/max_step_size') == [0.004]


@pytest.mark.skipif(not shutil.which('gz'), reason='Gazebo is not installed')
@pytest.mark.parametrize('name', ['world', *VEHICLES])
def test_gazebo_has_no_objection(folder, name):
    checked = subprocess.run(['gz', 'sdf', '-k', str(folder / f'{name}.sdf')],
                             capture_output=True, text=True)
    assert (checked.stdout.strip(), checked.stderr, checked.returncode) == ('Valid.', '', 0)


def test_the_course_comes_back(folder, scene):
    course, settings, start, seed = read_world(folder)
    assert (settings, seed) == (SETTINGS, SEED)
    assert start == pytest.approx(scene.course.pose_at(0.0))
    assert np.abs(course.points - scene.course.points).max() < 1e-5
    assert np.abs(course.curvatures - scene.course.curvatures).max() < 1e-5
    assert (course.lane_width, course.length) == (scene.course.lane_width, scene.course.length)
    assert course.locate((0.5, 0.1)) == pytest.approx(scene.course.locate((0.5, 0.1)), abs=1e-4)


@pytest.mark.parametrize('name, content', [
    ('scene.yaml', 'seed: 3'), ('scene.yaml', '- 3'), ('scene.yaml', '{'),
    ('scene.yaml', '{lane_width: 1, length: 1, start: {x: 0, y: 0, yaw: 0}, settings: {rate: 0}}'),
    ('course.csv', 'x,y,heading,curvature\n1,2,3'), ('course.csv', 'x,y,heading,curvature\n'),
    ('course.csv', 'x,y,heading,curvature\n1,2,3,a\n')])
def test_a_damaged_course_is_refused(folder, tmp_path, name, content):
    for file in ('scene.yaml', 'course.csv'):
        (tmp_path / file).write_text((folder / file).read_text())
    (tmp_path / name).write_text(content)
    with pytest.raises(WorldError, match=f"{name}' .*; write the world again"):
        read_world(tmp_path)


def test_settings_that_cannot_be_simulated_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(SettingsError):
        write_world(SimulationSettings(camera_height=9.0), SEED, tmp_path / 'world')
    assert not (tmp_path / 'world').exists()


def test_a_full_disk_leaves_the_earlier_world(folder, capsys):
    before = {item.name: item.read_bytes() for item in folder.iterdir()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
        assert main(['--seed', '1000005', '--output', str(folder)]) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert capsys.readouterr().err == (
        f"world: '{folder}': File too large; make room, or give another path\n")
    assert {item.name: item.read_bytes() for item in folder.iterdir()} == before
