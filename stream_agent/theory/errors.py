"""How faults of graphs are told: place, fault, remedy, nearest valid name."""

from collections.abc import Iterable
from difflib import get_close_matches
import json
from typing import Any


class GraphError(ValueError):
    """A graph that cannot be built; the message says where, what, and what would be right."""


def show(value: Any) -> str:
    """Return a value as its user wrote it, shortened."""
    if isinstance(value, str):
        text = f"'{value}'"
    else:
        text = 'empty' if value is None else json.dumps(value, default=str)
    return text if len(text) <= 60 else f'{text[:57]}...'


def nearest(name: str, choices: Iterable[str], kind: str, cutoff: float = 0.6) -> str:
    """
    Return the remedy for a name that does not exist: the nearest one, or which ones there are.

    :param kind: What the choices are, in the plural.
    :param cutoff: How near is near, from 0 to 1 for the same name.
    """
    choices = list(dict.fromkeys(choices))
    by_lower = {choice.lower(): choice for choice in choices[:2000]}
    near = get_close_matches(name.lower(), by_lower, 1, cutoff) or [
        lower for lower in by_lower if lower.endswith(f'_{name.lower()}')]
    if near:
        return f"did you mean '{by_lower[near[0]]}'?"
    if not choices:
        return f'there are no {kind}'
    more = ', ...' if len(choices) > 12 else ''
    return f"{kind} are {', '.join(choices[:12])}{more}"
