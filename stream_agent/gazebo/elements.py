"""Elements of SDF, written as nested dictionaries."""

from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

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
