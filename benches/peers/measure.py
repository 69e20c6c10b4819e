"""Runs one command and writes what it cost: `measure.py COST.json COMMAND...`.

Seconds on the clock and on the processors, and the most memory the process held (MiB), all for the whole process from
start to exit, as the kernel counted them. Mapped files count where their pages were touched. A peak below this
interpreter's own (about 10 MiB) cannot be seen: the kernel counts from before the program replaces it. What the command
prints stays untouched.
"""

import json
import os
import sys
import time

cost, command = sys.argv[1], sys.argv[2:]
start = time.perf_counter()
# posix_spawn: a forked copy of this interpreter would count into the child's peak.
child = os.posix_spawnp(command[0], command, os.environ)
_, status, usage = os.wait4(child, 0)
wall = time.perf_counter() - start
code = os.waitstatus_to_exitcode(status)
if code != 0:
    sys.exit(code if code > 0 else 1)
# Linux counts in KiB, macOS in bytes.
peak = usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
with open(cost, "w") as file:
    json.dump({"wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "peak": peak}, file)
