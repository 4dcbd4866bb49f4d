#!/usr/bin/env bash
# pyproj turns heights above the ellipsoid into heights above sea level by leaving them as they are
# where the geoid's grid is not installed, and its wheel installs none: no error, no warning. Only
# the operation's description says 'ballpark'. only_best=True, which should raise where the best
# transformation known to PROJ cannot be used, changes nothing; allow_ballpark=False raises.
# Guess before the run: a transformation that cannot be made raises, as for unknown systems.
# Whoever converts a GPS receiver's altitude for a map or an autopilot is wrong by the geoid's
# height, -106 to 85 m; pass allow_ballpark=False.
# Seen with pyproj 3.7.2 (its own PROJ, network off by default), Python 3.11: 500 m stay 500 m at
# 48 N 8 E, where the geoid is about 48 m above the ellipsoid.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --only-binary :all: \
    pyproj==3.7.2 || {
    echo 'installation failed' >&2
    exit 3
}
cd "$folder"
echo "Versions: $(venv/bin/python --version) $(venv/bin/pip freeze | paste -sd ' ')"
venv/bin/python - <<'PYTHON'
import sys
import warnings

import pyproj

warnings.simplefilter('error')


def height(**options):
    # WGS 84 with ellipsoidal height to WGS 84 with height above EGM96.
    transformer = pyproj.Transformer.from_crs('EPSG:4979', 'EPSG:9707', always_xy=True, **options)
    return transformer.transform(8., 48., 500.)[2], transformer.description


pyproj.network.set_network_enabled(False)
seen, description = height()
best, _ = height(only_best=True)
try:
    exact, _ = height(allow_ballpark=False)
except pyproj.exceptions.ProjError as error:
    exact = error
print('expected: an error, or about 452 m')
print(f'seen:     {seen} m by "{description}"')
print('with only_best=True:', best)
print('with allow_ballpark=False:', exact)
sys.exit(seen != 500 or 'ballpark' not in description or best != 500 
         or not isinstance(exact, pyproj.exceptions.ProjError))
PYTHON
