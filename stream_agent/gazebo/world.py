"""The world that Gazebo simulates: ground, surroundings, light, and the systems it needs."""

from typing import Any
from xml.etree import ElementTree

from stream_agent.gazebo.meshes import GROUND_SIDE
from stream_agent.simulation.texture import Colour

Content = dict[str, Any]


def document(content: Content) -> str:
    """Return an SDF file; 1.10 is what Gazebo Harmonic reads."""
    root = ElementTree.Element('sdf', version='1.10')
    fill(root, content)
    ElementTree.indent(root)
    return f'<?xml version="1.0"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def fill(element: ElementTree.Element, content: Content) -> None:
    """
    Add the content of a dictionary to an element.

    A key is the name of a child, ``@key`` an attribute. A value is a number, a text, a tuple of
    numbers, the dictionary of a child, or a list of dictionaries for several children.
    """
    for key, value in content.items():
        if key.startswith('@'):
            element.set(key[1:], text_of(value))
            continue
        for each in value if isinstance(value, list) else [value]:
            child = ElementTree.SubElement(element, key)
            if isinstance(each, dict):
                fill(child, each)
            else:
                child.text = text_of(each)


def text_of(value: Any) -> str:
    """Return a value as SDF writes it."""
    if isinstance(value, bool):
        return 'true' if value else 'false'
    if isinstance(value, tuple):
        return ' '.join(map(text_of, value))
    return f'{value:.6g}' if isinstance(value, float) else str(value)


def plugin(name: str, **content: Any) -> Content:
    """Return a system of Gazebo by the name of its class in gz::sim::systems."""
    words = ''.join(f'-{letter.lower()}' if letter.isupper() else letter for letter in name)
    return {'@filename': f'gz-sim{words}-system', '@name': f'gz::sim::systems::{name}', **content}


NAME = 'course'
# [s]. It halves the load against 1 ms; images and wheels do not need a shorter one.
STEP = 0.004
GRIP = 1.2


def world_file(sky: Colour, signs: bool) -> str:
    """
    Return the world without a robot, as SDF; it shows the meshes ``write_world`` puts beside it.

    :param sky: Colour above the surroundings.
    :param signs: Whether there are plates beside the lane.
    """
    flat = {'plane': {'normal': (0, 0, 1), 'size': (GROUND_SIDE, GROUND_SIDE)}}
    ground = {
        'collision': {'@name': 'plane', 'geometry': flat, 'surface': {'friction': {
            'ode': {'mu': GRIP, 'mu2': GRIP}}}},
        'visual': [visual('beyond', 'beyond'), visual('course', 'ground')]}
    links: list[tuple[str, Content]] = [
        ('ground', ground), ('horizon', {'visual': visual('surroundings', 'horizon')})]
    if signs:
        links.append(('signs', {'visual': visual('plates', 'plates')}))
    return document({'world': {
        '@name': NAME,
        'physics': {'@name': 'fixed_step', '@type': 'ode', 'max_step_size': STEP,
                    'real_time_factor': 1.0},
        'plugin': [
            plugin('Physics'), plugin('UserCommands'), plugin('SceneBroadcaster'),
            plugin('Sensors', render_engine='ogre2')],
        # For the robot; the pictures of the meshes already include the light.
        'scene': {'ambient': (1.0, 1.0, 1.0),
                  'background': (*(value / 255 for value in sky), 1.0), 'shadows': False,
                  'grid': False},
        'light': {'@type': 'directional', '@name': 'sun', 'cast_shadows': False,
                  'direction': (0.0, 0.0, -1.0), 'diffuse': (0.4, 0.4, 0.4),
                  'specular': (0.0, 0.0, 0.0)},
        'model': [{'@name': name, 'static': True, 'link': {'@name': 'link', **link}}
                  for name, link in links]}})


def visual(name: str, mesh: str) -> Content:
    """Return a mesh, by the name of its files, that only its own picture lights."""
    nothing, picture = (0.0, 0.0, 0.0, 1.0), f'{mesh}.png'
    return {'@name': name, 'cast_shadows': False, 'geometry': {'mesh': {'uri': f'{mesh}.obj'}},
            'material': {
                'ambient': nothing, 'diffuse': nothing, 'specular': nothing,
                'emissive': (1.0, 1.0, 1.0, 1.0),
                'pbr': {'metal': {'albedo_map': picture, 'emissive_map': picture,
                                  'roughness': 1.0, 'metalness': 0.0}}}}
