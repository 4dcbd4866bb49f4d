#!/usr/bin/env bash
# Compiling a model with CPU_DENORMALS_OPTIMIZATION leaves the *calling thread* without denormals:
# from then on Python floats and NumPy arrays of the whole thread round them to zero, whoever
# computes. The property reads as one of the compiled model. With the property off nothing changes.
# Guess before the run: the option counts while that model infers.
# Seen with openvino 2026.4.1, numpy 2.4.6, Python 3.11 (Linux, x86-64):
#   False: 1e-310 halved is above 0 before compiling True, after it True
#   True: 1e-310 halved is above 0 before compiling True, after it False
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet openvino==2026.4.1 numpy==2.4.6
cat > "$folder/compile.py" <<'PYTHON'
import sys

# Without this name the import forks the process; see openvino_import_forks.sh.
sys.modules['openvino_telemetry'] = None
import numpy as np  # noqa: E402
import openvino  # noqa: E402
from openvino import opset13  # noqa: E402

tiny, half = float(sys.argv[2]), np.array([0.5])


def has_denormals():
    return tiny * 0.5 > 0 and bool((np.array([tiny]) * half)[0] > 0)


given = opset13.parameter([1, 3], np.float32)
model = openvino.Model([opset13.relu(given)], [given])
before = has_denormals()
openvino.Core().compile_model(model, 'CPU', {'CPU_DENORMALS_OPTIMIZATION': sys.argv[1] == 'True'})
print(f'{sys.argv[1]}: 1e-310 halved is above 0 before compiling {before}, after it '
      f'{has_denormals()}')
PYTHON
off=$("$folder/venv/bin/python" "$folder/compile.py" False 1e-310)
on=$("$folder/venv/bin/python" "$folder/compile.py" True 1e-310)
echo "$off"
echo "$on"
[[ $off == "False: 1e-310 halved is above 0 before compiling True, after it True" ]]
[[ $on == "True: 1e-310 halved is above 0 before compiling True, after it False" ]]
