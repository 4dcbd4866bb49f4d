#!/usr/bin/env bash
# asammdf's `cut` adds a sample at each end of the piece that was never recorded, interpolated
# between its neighbours; `to_dataframe` has such values at the other channels' times, and some
# from before a channel's first sample. A command that was 0 or 1 is 0.5.
# Guess before the run: a cut has the recorded samples between its ends, and a table holds the last
# value or NaN.
# Whoever makes training pairs of an MDF4 log by these trains on commands that nobody gave; cut
# with include_ends=False, and pass use_interpolation=False.
# Seen with asammdf 8.8.28, numpy 2.4.6, Python 3.11: cut from 0.15 to 0.35, a command 0, 1, 0, 1
# at 0.1, 0.2, 0.3, 0.4 has samples at 0.15, 0.2, 0.3 and 0.35: 0.5, 1, 0 and 0.5.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --only-binary :all: \
    asammdf==8.8.28 numpy==2.4.6 || {
    echo 'installation failed' >&2
    exit 3
}
cd "$folder"
echo "Versions: $(venv/bin/python --version) $(venv/bin/pip freeze | paste -sd ' ')"
venv/bin/python - <<'PYTHON'
import sys

from asammdf import MDF, Signal
import numpy as np

times = np.array([0.1, 0.2, 0.3, 0.4])
log = MDF()
log.append([Signal(np.array([0., 1., 0., 1.]), times, name='command')])
log.append([Signal(np.array([7., 8.]), np.array([0.05, 0.25]), name='frame')])


def cut(**options):
    piece = log.cut(start=0.15, stop=0.35, **options).get('command')
    return dict(zip(piece.timestamps.round(6).tolist(), piece.samples.round(6).tolist()))


def table(**options):
    return log.to_dataframe(**options)['command'].round(6).tolist()


# Times of the table's rows: 0.05, 0.1, 0.2, 0.25, 0.3, 0.4.
pieces = cut(), cut(include_ends=False)
tables = table(), table(use_interpolation=False)
print('cut from 0.15 to 0.35, expected:', pieces[1], '- seen:', pieces[0])
print('commands at 0.05, 0.1, 0.2, 0.25, 0.3, 0.4: expected none for the first, 1 for the fourth')
print('seen:                          ', tables[0])
print('with use_interpolation=False:  ', tables[1])
sys.exit(pieces != ({0.15: 0.5, 0.2: 1., 0.3: 0., 0.35: 0.5}, {0.2: 1., 0.3: 0.})
         or tables[0] != [0., 0., 1., 0.5, 0., 1.])
PYTHON
