"""Asks the daemon who it is: IDENTIFY on the control socket, without a library."""

import socket
import sys

PATH = sys.argv[1] if len(sys.argv) > 1 else "/run/p2pd/p2pd.sock"

with socket.socket(socket.AF_UNIX) as daemon:
    daemon.settimeout(10)
    daemon.connect(PATH)
    # A frame: its length, then the request {type: IDENTIFY}.
    daemon.sendall(bytes([2, 0x08, 0x00]))
    answer = daemon.recv(65536)

# The frame's length may take two bytes; then {type: OK, identify: {id: ...}}.
start = 1 if answer[0] < 0x80 else 2
if answer[start : start + 2] != b"\x08\x00":
    sys.exit(f"no answer to IDENTIFY: {answer!r}")
print(f"identified, {len(answer)} bytes")
