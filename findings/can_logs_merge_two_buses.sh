#!/usr/bin/env bash
# python-can's Logger writes .db (SQLite) and .csv without a frame's bus, direction and CAN FD flag
# and says nothing; .asc, .blf and .log keep all three. Read back, the frames of two buses with the
# same identifier are one stream, and what was sent looks received.
# Guess before the run: the suffix chooses a format, not what is recorded.
# Whoever logs two buses of a robot (left and right drive, identifiers alike) into one .db or .csv
# cannot tell them apart again: speeds of both sides alternate; log to .asc, .blf or .log.
# Seen with python-can 4.6.1, Python 3.11: channels 0 and 1 come back as None and None.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --only-binary :all: \
    python-can==4.6.1 || {
    echo 'installation failed' >&2
    exit 3
}
cd "$folder"
echo "Versions: $(venv/bin/python --version) $(venv/bin/pip freeze | paste -sd ' ')"
venv/bin/python - <<'PYTHON'
import logging
import sys

import can

logging.disable()
frames = [can.Message(timestamp=1700000000 + side, arbitration_id=0x123, is_extended_id=False,
                      data=[side] * 12, is_fd=True, is_rx=not side, channel=side)
          for side in (0, 1)]
seen = {}
for suffix in ('blf', 'asc', 'log', 'csv', 'db'):
    with can.Logger(f'drive.{suffix}') as logger:
        for frame in frames:
            logger(frame)
    read = list(can.LogReader(f'drive.{suffix}'))
    seen[suffix] = [(frame.channel, frame.is_rx, frame.is_fd) for frame in read]
    assert [bytes(frame.data) for frame in read] == [bytes(frame.data) for frame in frames]
expected = [(frame.channel, frame.is_rx, frame.is_fd) for frame in frames]
print('(channel, received, CAN FD) of two frames')
print('expected:', expected)
for suffix, values in seen.items():
    print(f'seen: {suffix:4}', values)
kept = all(str(channel).removeprefix('can') == str(frame.channel) and rest == expected_rest
           for suffix in ('blf', 'asc', 'log')
           for (channel, *rest), (_, *expected_rest), frame in zip(seen[suffix], expected, frames))
lost = all(seen[suffix] == [(None, True, False)] * 2 for suffix in ('csv', 'db'))
sys.exit(not (kept and lost))
PYTHON
