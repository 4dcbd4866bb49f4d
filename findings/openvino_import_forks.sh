#!/usr/bin/env bash
# `import openvino` forks the importing process, from a thread, to report the import to a web
# analytics service; unless CI=true, or `opt_in_out --opt_out` was run for this user.
# A robot's node that has the runtime among its choices is then forked while its middleware's
# threads run. Where openvino_telemetry cannot be imported, openvino works and nothing is forked.
# Guess before the run: importing a runtime starts no process and contacts nobody.
# Seen with openvino 2026.4.1, openvino-telemetry 2025.2.0, Python 3.11 (Linux, x86-64):
#   as it is: ['os.fork'], asked for a web address: True
#   without openvino_telemetry: [], asked for a web address: False
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet openvino==2026.4.1 openvino-telemetry==2025.2.0
cat > "$folder/import.py" <<'PYTHON'
import os
import sys
import time
import urllib.request

asked = os.path.join(os.environ['HOME'], 'asked')
events = []
sys.addaudithook(lambda event, _: event == 'os.fork' and events.append(event))


def no_network(request, *_, **__):
    with open(asked, 'w'):
        raise OSError('kept from the network')


urllib.request.urlopen = no_network
if sys.argv[1:] == ['without']:
    sys.modules['openvino_telemetry'] = None
import openvino  # noqa: E402

openvino.Core()
time.sleep(3)
print(f'{events}, asked for a web address: {os.path.exists(asked)}')
PYTHON
run() {
    # A home of its own: neither this user's consent nor an identifier of theirs is touched.
    mkdir -p "$folder/$1"
    env -u CI -u TF_BUILD -u JENKINS_URL HOME="$folder/$1" "$folder/venv/bin/python" "$folder/import.py" "${@:2}"
}
seen=$(run home)
without=$(run other without)
echo "as it is: $seen"
echo "without openvino_telemetry: $without"
[[ $seen == "['os.fork'"*"asked for a web address: True" ]]
[[ $without == "[], asked for a web address: False" ]]
