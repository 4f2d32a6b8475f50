"""The largest amount of memory that a process of its own ever held, from the kernel's own account.
"""

from __future__ import annotations

import os
import subprocess
import sys

_REPORT = "\nprint(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"


def peak_of(program: str) -> float:
    """Peak resident size of a fresh interpreter that runs `program`, in MiB."""
    answer = subprocess.run([sys.executable, "-c", program + _REPORT], check=True,
                            capture_output=True, text=True, env=dict(os.environ))
    return int(answer.stdout.split()[-1]) / 1024
