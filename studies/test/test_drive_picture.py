"""The README's moving picture: what is shown is what was driven."""

from copy import copy
from io import BytesIO

import numpy as np
from PIL import Image
import pytest
from stream_agent.drawing.plot_style import BLUE, VERMILION
from stream_agent.driving.compute_model import ComputeModel
from stream_agent.driving.drives import drive_together, Trial
from stream_agent.driving.evaluation import timed
from stream_agent.network.checkpoint import load_policy
from stream_agent.share import share_folder
from stream_agent.simulation.settings import read_settings
from studies.drive_picture import (
    COLUMN, films, GAP, LARGEST_FILE, MAP_HEIGHT, MAP_TOP, percent, pictures,
    PICTURES_A_SECOND, POLICIES, rgb, SHOWN, written)

CONFIG = share_folder() / 'config'
SECONDS = 8.0


@pytest.fixture(scope='module')
def settings():
    return read_settings(CONFIG / 'robots' / 'reflex.yaml')


@pytest.fixture(scope='module')
def found(settings):
    return films(settings, SECONDS)


def test_the_films_are_the_drives_that_evaluate_judges(settings, found):
    computer = ComputeModel(costs=CONFIG / 'graphs' / 'reflex_costs.yaml', pass_periods=6.4)
    paths = [str(CONFIG / 'policies' / f'reflex_{name}.safetensors') for name in POLICIES]
    trial = Trial(settings, (1_000_000,), SECONDS + 1.0, pushes=1.5)
    one = timed(paths, computer, settings.period)[1]
    policy = load_policy(one.name)
    alone, = drive_together(policy.network, policy.preprocessing, policy.limits, one.timeline,
                            trial)
    figures, film = found['sequential']
    assert film.right == alone.right and len(film.right) > 100
    assert film.lateral_errors == alone.lateral_errors
    assert figures == one.figures
    assert film.shots[-1].score == film.score == np.mean(film.right)
    assert [shot.right for shot in film.shots if shot.right is not None] == film.right


def test_an_image_is_shown_from_its_answer_to_the_next(found):
    period = 1 / 60
    film = found['sequential'][1]
    ages = np.array([shot.age for shot in film.shots[60:]]) / period
    # A pass takes 6.4 periods: with the seventh image after its own the answer is in force, and
    # the next one is out 6.4 periods later.
    assert ages.min() == pytest.approx(7) and ages.max() == pytest.approx(13)
    same = [first.pixels is second.pixels
            for first, second in zip(film.shots[60:], film.shots[61:])]
    assert 1 - np.mean(same) == pytest.approx(1 / 6.4, rel=0.05)
    # What fits the period is out before the next image comes.
    assert {round(shot.age / period, 3) for shot in found['smaller'][1].shots[1:]} == {1.0}


def test_the_path_is_coloured_as_it_was_judged(settings, found):
    def share(film, number, colour):
        picture, = pictures(settings, {'planned': (found['planned'][0], film)}, [number])
        assert picture.size == (840, 544)
        shown = picture.crop((GAP // 2, MAP_TOP, GAP // 2 + COLUMN, MAP_TOP + MAP_HEIGHT))
        return (np.asarray(shown) == rgb(colour)).all(-1).mean()

    film = found['planned'][1]
    number = next(i for i, shot in enumerate(film.shots) if i > 150 and shot.right is not None)
    for right, colour, other in ((True, BLUE, VERMILION), (False, VERMILION, BLUE)):
        drawn = copy(film)
        drawn.shots = [shot._replace(right=right) for shot in film.shots]
        assert share(drawn, number, colour) > 0.002 and share(drawn, number, other) == 0


def test_a_share_is_written_as_percent():
    assert percent(0.729) == '73 %' and percent(float('nan')) == '–'


def test_a_file_that_would_be_too_large_has_fewer_greys():
    random = np.random.default_rng(0)
    noise = [Image.fromarray(random.integers(0, 256, (400, 400), np.uint8)).convert('RGB')
             for _ in range(30)]
    small, large = written(noise[:1]), written(noise)
    colours = [len(Image.open(BytesIO(file)).convert('RGB').getcolors())
               for file in (small, large)]
    assert colours[0] > colours[1]


def test_the_shipped_picture_is_small_and_whole():
    path = share_folder() / 'docs' / 'images' / 'drive.gif'
    picture = Image.open(path)
    assert path.stat().st_size <= LARGEST_FILE and picture.size == (840, 544)
    assert picture.n_frames == SHOWN * PICTURES_A_SECOND
    assert picture.info['duration'] == 1000 / PICTURES_A_SECOND
