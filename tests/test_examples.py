"""Each example runs as a user runs it: a new process, an empty folder, and the model that comes with the package."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tomllib
from importlib import metadata
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from environments import Environment, distributions_needed_by
from locations import ROOT
from PIL import Image

import pillow_sdc

EXAMPLES = ROOT / "examples"
NOTEBOOK = EXAMPLES / "article.ipynb"
RUN_NOTEBOOK = "import sys; from nbclient.cli import main; sys.exit(main())"
LOSSES = re.compile(r"loss from ([\d.]+) to ([\d.]+)")


def run(*command: str | Path, folder: Path) -> str:
    """Return what a Python program prints that runs in a folder, without any setting of this package."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PILLOW_SDC_")}
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


@pytest.fixture(autouse=True)
def needs_photographs() -> None:
    pytest.importorskip("skimage", reason="the examples' photographs come with scikit-image, in the group 'examples'")


def test_every_example_is_run() -> None:
    tests = Path(__file__).read_text(encoding="utf-8")
    assert [
        path.name for path in EXAMPLES.iterdir() if path.suffix in {".py", ".ipynb"} and path.name not in tests
    ] == []


def commands_of_make(target: str, *, folder: Path = ROOT, anew: bool = False) -> list[str]:
    """Return the commands by which ``make`` would make a target, if nothing was made yet or as things are."""
    make = shutil.which("make") or pytest.skip("there is no make")
    options = ["--dry-run", *(["--always-make"] if anew else [])]
    done = subprocess.run([make, *options, target], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def groups_installed_for(target: str) -> set[str]:
    """Return the dependency groups that ``make`` installs before it makes a target."""
    found = re.findall(r"-m pip install .*--group (\w+)", "\n".join(commands_of_make(target, anew=True)))
    assert found
    return set(found)


def requirements_of(group: str, groups: dict[str, list[str | dict[str, str]]]) -> list[str]:
    """Return what a dependency group names, and what those name that it includes."""
    needed = []
    for entry in groups[group]:
        needed += [entry] if isinstance(entry, str) else requirements_of(entry["include-group"], groups)
    return needed


def distributions_installed_for(target: str) -> dict[str, metadata.Distribution]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    groups = project["dependency-groups"]
    needed = chain.from_iterable(requirements_of(group, groups) for group in groups_installed_for(target))
    return distributions_needed_by([*project["project"]["dependencies"], *needed])


def test_the_demo_is_installed_without_what_only_tests_and_clusters_need() -> None:
    heavy = {"django", "ipython", "playwright", "ray"}
    assert heavy & distributions_installed_for("demo").keys() == set()
    if all(find_spec(name) for name in ("django", "IPython", "playwright", "pre_commit", "ray")):
        assert heavy <= distributions_installed_for("test").keys()


def test_nothing_is_installed_twice(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "hatch_build.py"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / ".venv").mkdir()

    def installations(target: str) -> list[str]:
        return [line for line in commands_of_make(target, folder=tmp_path) if "pip install" in line]

    assert len(installations("demo")) == 1
    assert len(installations("test")) == 2
    (tmp_path / ".venv" / ".demo").touch()
    assert installations("demo") == []
    (rest,) = installations("test")
    assert "--editable" not in rest, "the package itself is there"
    (tmp_path / ".venv" / ".installed").touch()
    assert installations("test") == installations("demo") == []


def test_help_names_every_target() -> None:
    make = shutil.which("make") or pytest.skip("there is no make")
    printed = subprocess.run([make, "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    rules = (ROOT / "Makefile").read_text(encoding="utf-8").partition(".PHONY:")[2].partition("\n")[0]
    targets = {target for target in rules.split() if re.fullmatch("[a-z-]+", target)} - {"test-other-pillows"}
    assert targets == set(re.findall("^make ([a-z-]+) ", printed, re.M))


def test_fast_tests_are_there() -> None:
    (command,) = (line for line in commands_of_make("test-fast") if "pytest" in line)
    files = re.findall(r"tests/\S+", command)
    assert len(files) > 10
    assert [file for file in files if not (ROOT / file).is_file()] == []


def test_demo(tmp_path: Path, wheel: Path) -> None:
    """With nothing but what ``make demo`` installs it shows all files, and the command that it names works."""
    from skimage.data import astronaut

    environment = Environment.create(tmp_path / "environment", shared=False)
    environment.pip("install", "--no-deps", "--no-index", str(wheel))
    environment.share(distributions_installed_for("demo"))
    progress, _, end = environment.run(str(EXAMPLES / "demo.py")).partition("\n\n")
    assert "compact" in progress.splitlines()[0]
    assert all(line.endswith(" ...") for line in progress.splitlines())

    out = environment.directory / "out"
    stems = "coffee", "coffee-40", "astronaut", "astronaut-40"
    names = {"comparison.png", *(f"{stem}{suffix}" for stem in stems for suffix in (".sdc", ".png"))}
    assert {path.name for path in out.iterdir()} == names
    assert pillow_sdc.info(out / "astronaut.sdc").codec == "palette"
    expected = pillow_sdc.encode(astronaut(), quality=40, model="compact")
    assert (out / "astronaut-40.sdc").read_bytes() == expected
    assert size_of(out / "comparison.png") == (4 * 400, 2 * 440)

    *lines, last = end.splitlines()
    assert len(lines) == 3
    assert all(f"{path.stat().st_size:,} " in end for path in out.glob("*.sdc"))
    Image.linear_gradient("L").save(environment.directory / "photo.jpg")
    program, *arguments = shlex.split(last.partition(": ")[2])
    assert environment.start(program, *arguments).returncode == 0
    assert pillow_sdc.info(environment.directory / "photo.sdc").codec == "context"


def test_round_trip(tmp_path: Path) -> None:
    from skimage.data import coffee

    photos = tmp_path / "photos"
    photos.mkdir()
    Image.fromarray(coffee()[:256, :256]).save(photos / "coffee.png")
    *_, mean = run(EXAMPLES / "round_trip.py", photos, "--model", "compact", folder=tmp_path).splitlines()
    assert float(mean.split()[-1]) > 20


def test_quick_start(tmp_path: Path) -> None:
    printed = run(EXAMPLES / "quick_start.py", folder=tmp_path)
    assert "compact" in printed
    out = tmp_path / "out"
    sizes = {path.name: path.stat().st_size for path in out.glob("*.sdc")}
    assert sizes["coffee.sdc"] < 5_000
    assert sizes["coffee-40.sdc"] < sizes["coffee.sdc"]
    assert sizes["coffee-2000.sdc"] <= 2_000
    assert size_of(out / "coffee.png") == (600, 400)
    assert size_of(out / "coffee-thumbnail.png") == size_of(out / "coffee-preview.png") == (75, 50)


def test_thumbnail_service(tmp_path: Path) -> None:
    run(EXAMPLES / "thumbnail_service.py", tmp_path / "served", folder=tmp_path)
    for name in ("astronaut", "coffee", "rocket"):
        with (
            Image.open(tmp_path / "served" / f"{name}-of-jpg-thumbnail.jpg") as expected,
            Image.open(tmp_path / "served" / f"{name}-of-sdc-thumbnail.jpg") as thumbnail,
        ):
            assert thumbnail.size == expected.size
            assert thumbnail.width >= thumbnail.height, "upright, whatever EXIF says of the upload"
            difference = np.asarray(thumbnail, float) - np.asarray(expected, float)
            assert np.abs(difference).mean() < 20


def test_data_loader(tmp_path: Path) -> None:
    printed = run(EXAMPLES / "data_loader.py", folder=tmp_path)
    assert printed.count("PhotoFolder  (4, 3, 256, 256)") == 2
    assert printed.count("LatentFolder (4, 4, 32, 32)") == 2


def test_latents_into_diffusers(tmp_path: Path) -> None:
    printed = run(EXAMPLES / "latents_into_diffusers.py", folder=tmp_path)
    assert (losses := LOSSES.search(printed)) is not None
    assert float(losses[2]) < float(losses[1])
    changed = np.load(tmp_path / "out" / "img2img-latents.npy")
    start = pillow_sdc.read_latents(tmp_path / "out" / "astronaut-256.sdc")
    assert changed.shape == (1, *start.shape)
    assert np.isfinite(changed).all()


def test_train_latents(tmp_path: Path) -> None:
    printed = run(EXAMPLES / "train_latents.py", "--steps", "60", folder=tmp_path)
    assert "SdcFiles of" in printed
    assert (losses := LOSSES.search(printed)) is not None
    assert float(losses[2]) < 0.8 * float(losses[1])


def test_train_latents_takes_shards(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (136, 136, 3), np.uint8)).save(tmp_path / "photo.sdc")
    for shard in range(2):
        with tarfile.open(tmp_path / f"{shard}.tar", "w") as archive:
            for number in range(20):
                archive.add(tmp_path / "photo.sdc", f"{number}.sdc")
    printed = run(EXAMPLES / "train_latents.py", "*.tar", "--steps", "4", folder=tmp_path)
    assert "SdcShards of *.tar" in printed
    assert "4 steps" in printed


def test_qualities(tmp_path: Path) -> None:
    printed = run(EXAMPLES / "qualities.py", folder=tmp_path)
    sizes = [int(size.replace(",", "")) for size in re.findall(r"([\d,]+) bytes", printed)]
    assert sizes == sorted(sizes[:3]) + sorted(sizes[3:6]) + sorted(sizes[6:])
    assert size_of(tmp_path / "out" / "qualities.png")[0] == 4 * 264


def test_limitations(tmp_path: Path) -> None:
    printed = run(EXAMPLES / "limitations.py", folder=tmp_path)
    assert len(re.findall(r"PSNR [\d.]+ dB", printed)) == 4
    assert size_of(tmp_path / "out" / "limitations.png")[0] == 3 * 320


def test_the_notebook_holds_no_outputs_and_is_small() -> None:
    assert NOTEBOOK.stat().st_size < 100_000
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells if cell["cell_type"] == "code")


def test_the_notebook_retraces_the_article(tmp_path: Path) -> None:
    pytest.importorskip("nbclient", reason="nbclient comes with the group 'examples'")
    pytest.importorskip("ipykernel", reason="ipykernel comes with the group 'examples'")
    (tmp_path / NOTEBOOK.name).write_bytes(NOTEBOOK.read_bytes())
    run("-c", RUN_NOTEBOOK, NOTEBOOK.name, "--output=executed", folder=tmp_path)
    outputs = [
        output
        for cell in json.loads((tmp_path / "executed.ipynb").read_text(encoding="utf-8"))["cells"]
        for output in cell.get("outputs", [])
    ]
    printed = "".join(text for output in outputs for text in output.get("text", []))
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 8

    sizes = {name: int(size.replace(",", "")) for name, size in re.findall(r"^(\w+) +([\d,]+) bytes", printed, re.M)}
    assert sizes["SDC"] < 5_000
    errors = [float(error) for error in re.findall(r"mean squared error ([\d.]+)", printed)]
    assert errors[0] < 0.001 < max(errors[1:]) < 0.04, "8 bits are all but lossless, a palette is not"
    dithered, denoised = map(float, re.search(r"PSNR ([\d.]+) dB before, ([\d.]+) dB after", printed).groups())  # type: ignore[union-attr]
    assert abs(denoised - dithered) > 0.01, "the decoder heeds the noise"
