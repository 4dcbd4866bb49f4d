#!/usr/bin/env bash
# WebDataset takes a name's *first* dot for the end of the key, so frames that are named by their
# time, 1700000000.1, 1700000000.2, ..., are one sample for every whole second. TarWriter writes
# such keys without a word; the reader returns one dictionary of all frames' fields.
# Guess before the run: what is written under ten keys is read as ten samples.
# Whoever exports a recording with stamps for keys has as many samples as seconds, and a decoder
# that asks for 'jpg' finds none; write the stamp in nanoseconds, without a dot.
# Seen with webdataset 1.0.2, Python 3.11: 10 samples written, 1 read, with '0.txt' to '9.txt'.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --only-binary :all: \
    webdataset==1.0.2 numpy==2.4.6 || {
    echo 'installation failed' >&2
    exit 3
}
cd "$folder"
echo "Versions: $(venv/bin/python --version) $(venv/bin/pip freeze | paste -sd ' ')"
venv/bin/python - <<'PYTHON'
import sys

import webdataset

with webdataset.TarWriter('drive.tar') as writer:
    for tenth in range(10):
        writer.write({'__key__': f'{1700000000 + tenth / 10:.1f}', 'txt': f'frame {tenth}'})

samples = list(webdataset.WebDataset('drive.tar', shardshuffle=False))
fields = [sorted(name for name in sample if not name.startswith('__')) for sample in samples]
print("expected: 10 samples of the field ['txt']")
print(f'seen:     {len(samples)} of the fields {fields[0]}')
sys.exit(fields != [[f'{tenth}.txt' for tenth in range(10)]]
         or samples[0]['__key__'] != '1700000000')
PYTHON
