#!/usr/bin/env bash
# A signal with a table of names in the DBC is decoded by cantools as a NamedSignalValue, which is
# true whatever its number, and unequal to that number; a number that the table lacks is an int. So
# `if message['brake']` holds for a released brake, and `message['brake'] == 1` never.
# Guess before the run: the value behaves like the number that it stands for (like an IntEnum).
# Whoever replaces a DBC without names by one with them inverts such conditions without an error;
# compare with the name, or decode with decode_choices=False.
# Seen with cantools 45.1.0, Python 3.11, for (released is true, pressed == 1): without names
# (False, True), with names (True, False).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --only-binary :all: \
    cantools==45.1.0 || {
    echo 'installation failed' >&2
    exit 3
}
cd "$folder"
echo "Versions: $(venv/bin/python --version) $(venv/bin/pip freeze | paste -sd ' ')"
venv/bin/python - <<'PYTHON'
import sys

import cantools

DBC = '''VERSION ""
BU_: A
BO_ 291 PEDAL: 1 A
 SG_ brake : 0|8@1+ (1,0) [0|255] "" A
'''
NAMES = 'VAL_ 291 brake 0 "released" 1 "pressed" ;\n'


def conditions(text, **options):
    database = cantools.database.load_string(text, 'dbc')
    released, pressed, unknown = (database.decode_message(291, bytes([number]), **options)['brake']
                                  for number in (0, 1, 7))
    return bool(released), pressed == 1, unknown == 7


plain, named = conditions(DBC), conditions(DBC + NAMES)
numbers = conditions(DBC + NAMES, decode_choices=False)
print('released is true, pressed == 1, a number without a name == itself')
print('without names:             ', plain)
print('with names, expected:      ', plain)
print('with names, seen:          ', named)
print('with decode_choices=False: ', numbers)
sys.exit((plain, named, numbers) != ((False, True, True), (True, False, True), plain))
PYTHON
