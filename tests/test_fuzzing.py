"""The fuzzer runs with the package as it is; ``make fuzz`` runs it for longer."""

import subprocess
import sys

from locations import ROOT


def test_it_finds_nothing_in_a_moment() -> None:
    command = [sys.executable, str(ROOT / "fuzz" / "fuzz_open.py"), "--seconds", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
