#!/usr/bin/env bash
# A Zarr array that is shortened by `resize` and then lengthened again shows the rows that were cut
# off, as far as their chunk was kept, and zeros after that. h5py fills all of them with zeros.
# Guess before the run: what was cut off is gone, and new rows hold the fill value.
# Whoever drops a replay buffer's last episode and makes room for the next one has frames of the
# dropped episode before the zeros; write the fill value to the rows after a resize.
# Seen with zarr 3.1.6 (formats 2 and 3), h5py 3.16.0, Python 3.11: of 10 rows in chunks of 4, cut
# to 5 and lengthened to 10, rows 5 to 7 are back.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --only-binary :all: \
    zarr==3.1.6 h5py==3.16.0 numpy==2.4.6 || {
    echo 'installation failed' >&2
    exit 3
}
cd "$folder"
echo "Versions: $(venv/bin/python --version) $(venv/bin/pip freeze | paste -sd ' ')"
venv/bin/python - <<'PYTHON'
import sys

import h5py
import numpy as np
import zarr

rows = np.arange(1, 11, dtype=np.float32)


def cut_and_lengthen(array):
    array[:] = rows
    array.resize((5,))
    array.resize((10,))
    return array[:].tolist()


seen = [cut_and_lengthen(zarr.create_array(f'buffer{zarr_format}', shape=(10,), chunks=(4,),
                                           dtype='f4', zarr_format=zarr_format))
        for zarr_format in (2, 3)]
with h5py.File('buffer.h5', 'w') as file:
    hdf5 = cut_and_lengthen(file.create_dataset('rows', (10,), 'f4', chunks=(4,),
                                                maxshape=(None,)))
print('expected:', [1., 2., 3., 4., 5.] + [0.] * 5)
print('h5py:    ', hdf5)
print('zarr 2, 3:', *seen, sep='\n          ')
sys.exit(hdf5 != [1, 2, 3, 4, 5] + [0] * 5 or seen != [[1, 2, 3, 4, 5, 6, 7, 8, 0, 0]] * 2)
PYTHON
