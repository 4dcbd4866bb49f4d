"""One course with one look: what a seed stands for."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
from stream_agent.simulation.camera import Camera
from stream_agent.simulation.course import Course, random_course
from stream_agent.simulation.settings import SimulationSettings
from stream_agent.simulation.texture import Appearance, draw_ground, random_appearance
from stream_agent.simulation.view import draw_panorama, Sensor, View

# Courses are small and take long to find; whoever trains comes back to them.
cached_course = lru_cache(maxsize=256)(random_course)


class Scene:
    """
    A course, and how it is seen.

    :param settings: Of which the camera, the lane and the factors on the look count here.
    :param seed: Of the course.
    :param look_seed: Of everything that is seen.
    """

    def __init__(self, settings: SimulationSettings, seed: int, look_seed: int) -> None:
        rng = np.random.default_rng([look_seed, 1])
        self.course: Course = cached_course(seed, settings.lane_width)
        self.look = scaled(random_appearance(rng) if settings.randomized else Appearance(),
                           settings)
        self.camera = jittered(settings.camera, rng) if settings.randomized else settings.camera
        self.ground = draw_ground(self.course, self.look, rng, settings.coloured)
        self.panorama = draw_panorama(self.look, rng, settings.coloured, settings.clutter)
        self.view = View(self.camera, self.ground, self.panorama)
        self.sensor = Sensor(self.view.shape, self.look, look_seed)


def scaled(look: Appearance, settings: SimulationSettings) -> Appearance:
    """Return a look with the settings' factors on noise, light and clutter."""
    return replace(
        look, noise=look.noise * settings.noise, clutter=look.clutter * settings.clutter,
        stains=look.stains * settings.clutter,
        gain=1.0 + (look.gain - 1.0) * settings.light, flicker=look.flicker * settings.light,
        slope=look.slope * settings.light, vignette=look.vignette * settings.light)


def jittered(camera: Camera, rng: np.random.Generator) -> Camera:
    """Return a camera mounted as precisely as people mount cameras."""
    return replace(camera,
                   height=camera.height * rng.uniform(0.95, 1.05),
                   forward=camera.forward + rng.uniform(-0.01, 0.01),
                   pitch=camera.pitch + rng.uniform(-0.03, 0.03),
                   yaw=camera.yaw + rng.uniform(-0.015, 0.015))
