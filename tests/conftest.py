"""Models and pictures that several test modules share."""

import subprocess
import sys
from pathlib import Path

import pytest
from locations import ROOT, SHARED


@pytest.fixture(scope="session")
def tiny_pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved Stable Diffusion pipeline with random weights."""
    from tiny_pipeline import save_tiny_pipeline

    return save_tiny_pipeline(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def taesd() -> Path:
    """The directory of TAESD, a small trained autoencoder of SD v1's latent space."""
    directory = SHARED / "models" / "taesd"
    if not directory.is_dir():
        pytest.skip(f"TAESD is not in {directory}")
    return directory


@pytest.fixture(scope="session")
def dev_photos() -> list[Path]:
    """Photographs of 512×512 pixels."""
    photos = sorted((SHARED / "data" / "dev").glob("*.png"))
    if not photos:
        pytest.skip(f"there are no photographs in {SHARED / 'data' / 'dev'}")
    return photos


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home of the Hugging Face hub's caches, in force in this process."""
    home = tmp_path / "hf_home"
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(home))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(home / "hub"))
    return home


@pytest.fixture(scope="session")
def source_distribution(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution."""
    directory = tmp_path_factory.mktemp("sdist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(directory)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (source,) = directory.glob("*.tar.gz")
    return source


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory, source_distribution: Path) -> Path:
    """The wheel, built as an index would have it built: from the source distribution."""
    directory = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", str(directory)]
    subprocess.run([*command, str(source_distribution)], check=True, capture_output=True)
    (wheel,) = directory.glob("*.whl")
    return wheel
