"""What the import hook of ``autoload/`` adds to every start of Python."""

import compileall
import os
import statistics
import sysconfig
import tempfile
import venv
from pathlib import Path

import timing
from rich.console import Console
from rich.table import Table

HOOK = Path(__file__).parent.parent / "autoload"
RUNS = 301
PROGRAM = """
import os, sys, time
sys.path.append({directory!r})
start = time.perf_counter()
with open({file!r}) as file:
    exec(file.read())
print(time.perf_counter() - start)
assert type(sys.meta_path[0]).__name__ == "_Finder"
"""
"""What ``site`` does with the start-up file, in an interpreter that has not run ``site``."""


class Interpreter:
    """Python in a fresh virtual environment, which may have the hook."""

    def __init__(self, directory: Path, with_hook: bool):
        venv.create(directory, symlinks=os.name != "nt")
        self.executable = str(directory / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))
        base = {"base": str(directory), "platbase": str(directory)}
        self.packages = Path(sysconfig.get_path("purelib", "venv", base))
        if with_hook:
            for file in HOOK.iterdir():
                if file.is_file():
                    (self.packages / file.name).write_bytes(file.read_bytes())
            compileall.compile_dir(self.packages, quiet=1)  # as pip does

    def start_seconds(self) -> float:
        return timing.run([self.executable, "-c", "pass"]).seconds

    def hook_seconds(self) -> float:
        program = PROGRAM.format(directory=str(self.packages), file=str(self.packages / "pillow_sdc.pth"))
        return float(timing.run([self.executable, "-S", "-B", "-c", program]).output)


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        without, again, with_hook = (
            Interpreter(Path(directory) / name, with_hook=name == "with") for name in ("without", "again", "with")
        )
        starts = timing.in_turn(
            {
                "without the hook": without.start_seconds,
                "without the hook, another environment": again.start_seconds,
                "with the hook": with_hook.start_seconds,
            },
            RUNS,
        )
        compiled = [with_hook.hook_seconds() for _ in range(RUNS)]
        for cache in with_hook.packages.rglob("*.pyc"):
            cache.unlink()
        uncompiled = [with_hook.hook_seconds() for _ in range(RUNS)]

    reference = statistics.median(starts["without the hook"])
    table = Table("python -c pass", "median, ms", "quartiles, ms", "difference, ms", "ratio")
    for name, seconds in starts.items():
        low, median, high = (1e3 * value for value in statistics.quantiles(seconds, n=4))
        difference = median - 1e3 * reference
        table.add_row(
            name, f"{median:.2f}", f"{low:.2f} to {high:.2f}", f"{difference:+.2f}", f"{median / reference / 1e3:.3f}"
        )
    Console(width=100).print(table)
    print(f"pillow_sdc.pth in a running interpreter: {1e3 * statistics.median(compiled):.2f} ms")
    print(f"where the hook's bytecode is not cached: {1e3 * statistics.median(uncompiled):.2f} ms")


if __name__ == "__main__":
    main()
