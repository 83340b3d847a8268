"""Programs in a process of their own: for what is kept for a process, and for how much memory something takes."""

import json
import subprocess
import sys

# The kernel's own high-water mark: getrusage would count what the parent had before the program began.
PRELUDE = """
import json, re, sys
def peak():
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
"""


def in_a_fresh_process(program, *arguments):
    """What the program prints, as JSON. It has `peak()`, the most bytes in memory so far."""
    command = [sys.executable, "-c", PRELUDE + program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
