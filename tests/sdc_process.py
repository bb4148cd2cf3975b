"""``sdc`` as a process of its own."""

import os
import pty
import subprocess
import sys
from typing import IO

ENVIRONMENT = {**os.environ, "PILLOW_SDC_MODEL": "compact", "OMP_NUM_THREADS": "1", "TERM": "xterm", "COLUMNS": "100"}
TIMEOUT = 60

# Ctrl-C works here even where whoever runs the tests ignores it, as shells do for what runs in the background.
RUN = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
{}
from pillow_sdc.cli import app
app(prog_name="sdc")
"""


def command(*arguments: str | os.PathLike[str], first: str = "") -> list[str]:
    return [sys.executable, "-c", RUN.format(first), *map(os.fspath, arguments)]


def on_a_terminal(arguments: list[str], stdout: IO[bytes] | None = None) -> tuple[int, str]:
    """Run a command on a terminal, and return its exit code and what it printed there."""
    ours, theirs = pty.openpty()
    child = subprocess.Popen(arguments, stdin=theirs, stdout=stdout or theirs, stderr=theirs, env=ENVIRONMENT)
    os.close(theirs)
    output = b""
    while True:
        try:
            block = os.read(ours, 65536)
        except OSError:  # so Linux says that the other side is closed
            break
        if not block:
            break
        output += block
    os.close(ours)
    return child.wait(TIMEOUT), output.decode()
