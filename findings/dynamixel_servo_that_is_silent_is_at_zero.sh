#!/usr/bin/env bash
# dynamixel-sdk gives position 0 for *every* servo of a synchronous read when one of them did not
# answer, even for those that did, and 0 for a silent one that is asked alone; -100 is read as
# 4294967196. Nothing is raised; a return code tells, for the synchronous read by another call.
# Guess before the run: a servo without an answer raises or has no value, others keep theirs, and a
# position below zero is below zero.
# Whoever records an arm while one cable is loose records the pose of all zeros as an observation;
# check txRxPacket()'s code in each cycle, and subtract 2**32 from values above 2**31.
# Seen with dynamixel-sdk 4.1.0, Python 3.11, at a port that answers as servos 1 and 2 do.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --only-binary :all: \
    dynamixel-sdk==4.1.0 pyserial==3.5 || {
    echo 'installation failed' >&2
    exit 3
}
cd "$folder"
echo "Versions: $(venv/bin/python --version) $(venv/bin/pip freeze | paste -sd ' ')"
venv/bin/python - <<'PYTHON'
import struct
import sys

import dynamixel_sdk

PRESENT_POSITION, LENGTH, SYNC_READ = 132, 4, 130
packets = dynamixel_sdk.PacketHandler(2.0)


class Port:
    """A port of servos by their position; it answers each read that names one of them."""

    is_using = False

    def __init__(self, positions):
        self.positions, self.waiting = positions, b''

    def writePort(self, packet):
        ids = packet[12:-2] if packet[7] == SYNC_READ else [packet[4]]
        for servo in ids:
            if servo in self.positions:
                answer = (bytes((0xFF, 0xFF, 0xFD, 0, servo, 8, 0, 0x55, 0))
                          + struct.pack('<i', self.positions[servo]))
                crc = packets.updateCRC(0, list(answer), len(answer))
                self.waiting += answer + struct.pack('<H', crc)
        return len(packet)

    def readPort(self, count):
        read, self.waiting = self.waiting[:count], self.waiting[count:]
        return list(read)

    def clearPort(self):
        self.waiting = b''

    def isPacketTimeout(self):
        return not self.waiting

    def setPacketTimeout(self, _):
        pass


def positions(port, servos):
    group = dynamixel_sdk.GroupSyncRead(port, packets, PRESENT_POSITION, LENGTH)
    for servo in servos:
        group.addParam(servo)
    code = group.txRxPacket()
    return [group.getData(servo, PRESENT_POSITION, LENGTH) for servo in servos], code


port = Port({1: -100, 2: 2048})
alone = packets.read4ByteTxRx(port, 3, PRESENT_POSITION)
answering, missing = positions(port, (1, 2)), positions(port, (1, 2, 3))
print('servos 1, 2:    expected [-100, 2048]; seen, and code:', *answering)
print('servos 1, 2, 3: expected [-100, 2048, None]; seen, and code:', *missing)
print('servo 3 alone:  expected None; seen, and code:', *alone[:2])
sys.exit((answering, missing, alone[:2]) != (
    ([2**32 - 100, 2048], 0), ([0, 0, 0], dynamixel_sdk.COMM_RX_TIMEOUT),
    (0, dynamixel_sdk.COMM_RX_TIMEOUT)))
PYTHON
