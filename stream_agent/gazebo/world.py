"""The world that Gazebo simulates: ground, surroundings, light, and the systems it needs."""

from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

from stream_agent.gazebo.meshes import GROUND_SIDE
from stream_agent.simulation.texture import Colour

Content = Mapping[str, Any]


def document(content: Content) -> str:
    """Return an SDF file; 1.10 is what Gazebo Harmonic reads."""
    root = ElementTree.Element('sdf', version='1.10')
    fill(root, content)
    ElementTree.indent(root)
    return f'<?xml version="1.0"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def fill(element: ElementTree.Element, content: Content) -> None:
    """
    Add to an element what a dictionary says.

    A key is the name of a child, ``@key`` an attribute. A value is a number, a text, a sequence
    of numbers, the dictionary of a child, or a list of dictionaries for several children.
    """
    for key, value in content.items():
        if key.startswith('@'):
            element.set(key[1:], text_of(value))
            continue
        for each in value if isinstance(value, list) else [value]:
            child = ElementTree.SubElement(element, key)
            if isinstance(each, Mapping):
                fill(child, each)
            else:
                child.text = text_of(each)


def text_of(value: Any) -> str:
    """Write a value as SDF has it."""
    if isinstance(value, bool):
        return 'true' if value else 'false'
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ' '.join(map(text_of, value))
    return f'{value:.6g}' if isinstance(value, float) else str(value)


def plugin(name: str, **content: Any) -> dict[str, Any]:
    """
    Return a system of Gazebo.

    :param name: As in C++: the class, in gz::sim::systems.
    """
    words = ''.join(f'-{letter.lower()}' if letter.isupper() else letter for letter in name)
    return {'@filename': f'gz-sim{words}-system', '@name': f'gz::sim::systems::{name}', **content}


NAME = 'course'
# A longer step halves the load against 1 ms; images and wheels have no use for a shorter one.
STEP = 0.004
GRIP = 1.2


def world_file(sky: Colour) -> str:
    """
    Return the world without a robot, as SDF.

    Beside it lie the meshes ``ground.obj``, ``beyond.obj`` and ``horizon.obj``.

    :param sky: Of what lies above the surroundings.
    """
    return document({'world': {
        '@name': NAME,
        'physics': {'@name': 'fixed_step', '@type': 'ode', 'max_step_size': STEP,
                    'real_time_factor': 1.0},
        'plugin': [
            plugin('Physics'), plugin('UserCommands'), plugin('SceneBroadcaster'),
            plugin('Sensors', render_engine='ogre2')],
        # For the robot; what the meshes show is drawn with its light.
        'scene': {'ambient': (1.0, 1.0, 1.0), 'background': shares(sky), 'shadows': False,
                  'grid': False},
        'light': {'@type': 'directional', '@name': 'sun', 'cast_shadows': False,
                  'direction': (0.0, 0.0, -1.0), 'diffuse': (0.4, 0.4, 0.4),
                  'specular': (0.0, 0.0, 0.0)},
        'model': [still('ground', ground_link()),
                  still('horizon', {'visual': visual('surroundings', 'horizon')})]}})


def ground_link() -> dict[str, Any]:
    """Return a plane to drive on, and what is seen of it."""
    flat = {'plane': {'normal': (0, 0, 1), 'size': (GROUND_SIDE, GROUND_SIDE)}}
    return {
        'collision': {'@name': 'plane', 'geometry': flat, 'surface': {'friction': {
            'ode': {'mu': GRIP, 'mu2': GRIP}}}},
        'visual': [visual('beyond', 'beyond'), visual('course', 'ground')]}


def still(name: str, link: dict[str, Any]) -> dict[str, Any]:
    """Return a model that nothing moves."""
    return {'@name': name, 'static': True, 'link': {'@name': 'link', **link}}


def visual(name: str, mesh: str) -> dict[str, Any]:
    """
    Return a mesh that shines by its own picture, and by no light.

    :param mesh: Name of its files.
    """
    nothing, picture = (0.0, 0.0, 0.0, 1.0), f'{mesh}.png'
    return {'@name': name, 'cast_shadows': False, 'geometry': {'mesh': {'uri': f'{mesh}.obj'}},
            'material': {
                'ambient': nothing, 'diffuse': nothing, 'specular': nothing,
                'emissive': (1.0, 1.0, 1.0, 1.0),
                'pbr': {'metal': {'albedo_map': picture, 'emissive_map': picture,
                                  'roughness': 1.0, 'metalness': 0.0}}}}


def shares(colour: Colour) -> tuple[float, ...]:
    """Return a colour of values to 255 as one of shares, opaque."""
    return (*(value / 255 for value in colour), 1.0)
