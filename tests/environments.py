"""Virtual environments that tests install the wheel into, and what distributions need."""

import os
import subprocess
import sys
from collections.abc import Collection, Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

SITE_PACKAGES = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
"""Where the packages are that the tests can import."""


class Environment(NamedTuple):
    """A virtual environment."""

    directory: Path
    packages: Path

    @classmethod
    def create(cls, directory: Path, shared: bool = True, python: str = sys.executable) -> "Environment":
        """Create one that can also import what the tests can, unless it is to be bare.

        Where Python looks for modules but not for ``.pth`` files, the package that the tests import stays out of sight.
        """
        subprocess.run([python, "-m", "venv", "--without-pip", str(directory)], check=True)
        environment = cls(directory, directory)
        packages = environment.run("-c", "import sysconfig; print(sysconfig.get_path('purelib'))")
        environment = environment._replace(packages=Path(packages.strip()))
        if shared:
            (environment.packages / "shared.pth").write_text("\n".join(SITE_PACKAGES), "utf-8")
        return environment

    @property
    def python(self) -> str:
        name = "Scripts/python.exe" if os.name == "nt" else "bin/python"
        return str(self.directory / name)

    def pip(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", self.python, *arguments]
        subprocess.run(command, check=True, capture_output=True)

    def share(self, distributions: Mapping[str, metadata.Distribution]) -> None:
        """Have what distributions of the tests' environment have in ``site-packages``."""
        for distribution in distributions.values():
            for top in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
                entry, link = Path(str(distribution.locate_file(top))), self.packages / top
                if not link.exists():  # several distributions may share a folder
                    link.symlink_to(entry, target_is_directory=entry.is_dir())

    def files(self) -> set[Path]:
        return {path for path in self.directory.rglob("*") if not path.is_dir()}

    def start(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run Python in the environment's directory, with no variables for it or the package but these."""
        ours = ("PYTHON", "PILLOW_SDC_")
        variables = {name: value for name, value in os.environ.items() if not name.startswith(ours)} | variables
        command = [self.python, *arguments]
        return subprocess.run(command, cwd=self.directory, env=variables, capture_output=True, text=True)

    def run(self, *arguments: str, **variables: str) -> str:
        """Return what Python writes, which must not be a complaint."""
        done = self.start(*arguments, **variables)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout


def distributions_needed_by(
    requirements: Iterable[str], excluded: Collection[str] = ()
) -> dict[str, metadata.Distribution]:
    """Return the distributions that requirements name, and what these need in turn, by name, but for some."""
    found: dict[str, metadata.Distribution] = {}
    seen: set[tuple[str, str]] = set()
    waiting = required(requirements)
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name in excluded:
            continue
        distribution = found.setdefault(name, metadata.distribution(name))
        for extra in {"", *requirement.extras} - {extra for other, extra in seen if other == name}:
            seen.add((name, extra))
            waiting += required(distribution.requires or (), extra)
    return found


def required(requirements: Iterable[str], extra: str = "") -> list[Requirement]:
    """Return the requirements that hold here, with an extra or with none."""
    parsed = map(Requirement, requirements)
    return [each for each in parsed if each.marker is None or each.marker.evaluate({"extra": extra})]
