"""``sdc thumbnail``: what file managers call."""

import io
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from locations import GOLDEN
from PIL import Image
from sdc_command import sdc

import pillow_sdc

FILE = GOLDEN / "palette-rgb-200x150.sdc"


def thumbnail(*arguments: str | Path) -> Image.Image:
    result = sdc("thumbnail", *arguments)
    assert (result.exit_code, result.output) == (0, ""), result.output
    image = Image.open(arguments[-1])
    image.load()
    assert image.format == "PNG"
    return image


@pytest.mark.parametrize(
    ("options", "size"), [((), (200, 150)), (("-s", "128"), (128, 96)), (("-s", "16"), (16, 12)), (("-s", "1"), (1, 1))]
)
def test_it_fits_and_is_never_enlarged(options: tuple[str, ...], size: tuple[int, int], tmp_path: Path) -> None:
    assert thumbnail(*options, FILE, tmp_path / "a.png").size == size


def test_it_looks_like_the_picture(tmp_path: Path) -> None:
    picture = Image.merge(
        "RGB", [Image.linear_gradient("L"), Image.new("L", (256, 256), 80), Image.radial_gradient("L")]
    )
    with pillow_sdc.configure(model="compact"):
        (tmp_path / "a.sdc").write_bytes(pillow_sdc.encode(picture, quality=80))
    for size in (16, 60, 128, 256):
        small = thumbnail("-s", str(size), tmp_path / "a.sdc", tmp_path / "a.png")
        expected = np.asarray(picture.resize((size, size), Image.Resampling.BOX), float)
        assert np.abs(np.asarray(small, float) - expected).mean() < 12


def test_it_is_turned_as_the_picture_is_to_be(tmp_path: Path) -> None:
    picture = Image.new("RGB", (64, 32))
    picture.getexif()[0x0112] = 6
    with pillow_sdc.configure(model="compact"):
        (tmp_path / "a.sdc").write_bytes(pillow_sdc.encode(picture, exif=picture.getexif()))
    assert thumbnail(tmp_path / "a.sdc", tmp_path / "a.png").size == (32, 64)


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.sdc")), ids=lambda path: path.stem)
def test_every_file_has_one_without_a_model(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILLOW_SDC_MODEL", str(tmp_path / "no model"))
    header = pillow_sdc.info(path)
    image = thumbnail(path, tmp_path / "a.png")
    assert max(image.size) == min(256, max(header.width, header.height))
    assert image.mode in (header.mode, "RGB")


def test_a_uri_is_a_path(tmp_path: Path) -> None:
    path = tmp_path / "ä b%.sdc"
    path.write_bytes(FILE.read_bytes())
    for host in ("", "localhost"):
        assert thumbnail(f"file://{host}{quote(str(path))}", tmp_path / "a.png").size == (200, 150)


@pytest.mark.parametrize("uri", ["https://example.org/a.sdc", "file://elsewhere/a.sdc"])
def test_a_uri_of_elsewhere_is_refused(uri: str, tmp_path: Path) -> None:
    result = sdc("thumbnail", uri, tmp_path / "a.png")
    assert (result.exit_code, result.stderr) == (2, f"sdc: {uri} is not on this machine\n")


def test_what_is_there_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"which the file manager has made")
    assert thumbnail(FILE, tmp_path / "a.png").size == (200, 150)


def picture_of_another_format() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [FILE.read_bytes()[:-1], FILE.read_bytes()[:20], b"", picture_of_another_format()],
    ids=["cut", "header", "empty", "png"],
)
def test_a_damaged_file_is_one_sentence_and_no_thumbnail(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.sdc").write_bytes(data)
    result = sdc("thumbnail", tmp_path / "a.sdc", tmp_path / "a.png")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"sdc: {tmp_path / 'a.sdc'}: ")
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "a.png").exists()


@pytest.mark.parametrize("size", ["0", "4097", "many"])
def test_sizes_have_limits(size: str, tmp_path: Path) -> None:
    assert sdc("thumbnail", "-s", size, FILE, tmp_path / "a.png").exit_code == 2


def test_nothing_heavy_is_imported(tmp_path: Path) -> None:
    program = f"""
import sys
from pillow_sdc.cli import app
try:
    app(["thumbnail", {str(GOLDEN / "context-rgb-200x150.sdc")!r}, {str(tmp_path / "a.png")!r}])
except SystemExit as end:
    assert not end.code
heavy = "torch", "onnxruntime", "diffusers", "transformers", "faiss", "fsspec", "rich", "urllib.request"
assert not [name for name in heavy if name in sys.modules]
"""
    subprocess.run([sys.executable, "-c", program], check=True)
    assert (tmp_path / "a.png").exists()
