#!/usr/bin/env bash
# The package tfrecord hands out the first element of a list of bytes and drops the others, even of
# those that its own writer wrote; lists of numbers come whole. RLDS has an episode in one record:
# a list of JPEGs, one for each step, beside the list of all actions.
# Guess before the run: what the writer takes as a list, the reader gives back as a list.
# Whoever reads RLDS episodes without TensorFlow gets one image for all actions; read the
# protobuf (tfrecord.example_pb2.Example) instead.
# Seen with tfrecord 1.14.4, protobuf 3.20.3, Python 3.11: 1 of 3 images, 3 of 3 actions.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --only-binary :all: \
    tfrecord==1.14.4 numpy==2.4.6 protobuf==3.20.3 crc32c==2.9.post0 || {
    echo 'installation failed' >&2
    exit 3
}
cd "$folder"
echo "Versions: $(venv/bin/python --version) $(venv/bin/pip freeze | paste -sd ' ')"
venv/bin/python - <<'PYTHON'
import sys
import types

# The package imports torch for a class that is not used here.
sys.modules['tfrecord.torch'] = types.ModuleType('tfrecord.torch')
from tfrecord import example_pb2  # noqa: E402
from tfrecord.reader import tfrecord_iterator, tfrecord_loader  # noqa: E402
from tfrecord.writer import TFRecordWriter  # noqa: E402

images, actions = [b'first', b'second', b'third'], [0.25, 0.5, 0.75]
writer = TFRecordWriter('episode.tfrecord')
writer.write({'steps/image': (images, 'byte'), 'steps/action': (actions, 'float')})
writer.close()

record, = tfrecord_iterator('episode.tfrecord')
stored = example_pb2.Example.FromString(bytes(record)).features.feature['steps/image']
read, = tfrecord_loader('episode.tfrecord', None)
print('in the file:', list(stored.bytes_list.value))
print('expected:', images, 'and', actions)
print('seen:    ', read['steps/image'], 'and', read['steps/action'].tolist())
sys.exit(list(stored.bytes_list.value) != images or read['steps/image'] != b'first'
         or read['steps/action'].tolist() != actions)
PYTHON
