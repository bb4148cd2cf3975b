"""``sdc info`` and ``sdc view``: what files hold, in words and as pictures."""

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

import pillow_sdc
import pillow_sdc.cli.info as cli_info
from pillow_sdc.api import display
from pillow_sdc.cli import app, sheet
from pillow_sdc.format import container
from pillow_sdc.format.codecs import ContextCodec, PaletteCodec, Uint8Codec
from pillow_sdc.format.context.codec import LARGEST_STEP, step_of

GOLDEN = Path(__file__).parent / "golden"
FILES = sorted(path.name for path in GOLDEN.glob("*.sdc"))
KEYS = [
    "path",
    "width",
    "height",
    "mode",
    "format_version",
    "codec",
    "parameters",
    "latent_space",
    "file_bytes",
    "payload_bytes",
    "bits_per_pixel",
    "chunks",
    "noise_variance",
    "timestep",
    "latents",
]


def sdc(*args: str | os.PathLike[str], stdin: bytes = b"") -> Result:
    return CliRunner().invoke(app, [os.fspath(arg) for arg in args], input=stdin)


def described(name: str) -> dict[str, object]:
    result = sdc("info", GOLDEN / name, "--json")
    assert result.exit_code == 0
    description: dict[str, object] = json.loads(result.stdout)
    return description


@pytest.mark.parametrize("name", FILES)
def test_every_golden_file_is_described_and_drawn(name: str) -> None:
    assert list(described(name)) == KEYS
    with (GOLDEN / name).open("rb") as file:
        drawn = sheet.draw(file, name)
    assert drawn.mode == "RGB"
    assert max(drawn.size) < 2000


def test_the_description_agrees_with_the_package() -> None:
    path = GOLDEN / "palette-rgba-metadata.sdc"
    description = described(path.name)
    info, latents = pillow_sdc.info(path), pillow_sdc.read_latents(path)
    assert description["path"] == str(path)
    assert description["file_bytes"] == info.file_bytes == path.stat().st_size
    assert description["bits_per_pixel"] == info.bits_per_pixel
    assert description["chunks"] == [{"type": letter, "bytes": length} for letter, length in info.chunks]
    found = description["latents"]
    assert isinstance(found, dict)
    assert (4, found["rows"], found["columns"]) == latents.shape
    for channel, values in zip(found["channels"], latents, strict=True):
        expected = values.mean(), values.std(), values.min(), values.max()
        assert list(channel.values()) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_the_text_names_size_codec_and_latents() -> None:
    result = sdc("info", GOLDEN / "context-rgb-200x150.sdc")
    assert result.exit_code == 0
    for words in ("200×150, RGB", "bits per pixel", "context: quality ", "that of timestep", "channel 3"):
        assert words in result.stdout


def test_every_chunk_of_the_format_has_a_name() -> None:
    known = {*container.METADATA.values(), *container.DEFLATED.values(), container.ALPHA, container.PAYLOAD}
    assert set(cli_info._CHUNK_NAMES) == set(map(chr, known))


def test_sizes_of_deflated_metadata_are_those_in_the_file() -> None:
    name = "palette-l-deflated-metadata.sdc"
    stored = dict(pillow_sdc.info(GOLDEN / name).chunks)
    assert {"f", "j", "y"} <= set(stored)
    assert sum(stored.values()) < (GOLDEN / name).stat().st_size
    assert f"f {stored['f']:,} (EXIF, deflated)" in sdc("info", GOLDEN / name).stdout


def test_one_file_is_an_object_and_several_are_a_list(tmp_path: Path) -> None:
    paths = [GOLDEN / "palette-l-1x1.sdc", GOLDEN / "uint8-l-17x9.sdc"]
    assert isinstance(json.loads(sdc("info", "--json", paths[0]).stdout), dict)
    assert [entry["codec"] for entry in json.loads(sdc("info", "--json", *paths).stdout)] == ["palette", "uint8"]
    (tmp_path / "one.sdc").write_bytes(paths[0].read_bytes())
    assert len(json.loads(sdc("info", "--json", tmp_path).stdout)) == 1
    assert len(json.loads(sdc("info", "--json", tmp_path / "*.sdc").stdout)) == 1


def test_standard_input_is_named_by_a_hyphen() -> None:
    result = sdc("info", "-", "--json", stdin=(GOLDEN / "palette-l-1x1.sdc").read_bytes())
    assert json.loads(result.stdout)["path"] == "-"


def test_a_bad_file_is_told_and_the_others_are_described(tmp_path: Path) -> None:
    (tmp_path / "bad.sdc").write_bytes(b"something else")
    result = sdc("info", "--json", tmp_path / "bad.sdc", GOLDEN / "palette-l-1x1.sdc")
    assert result.exit_code == 1
    assert result.stderr == f"sdc: {tmp_path / 'bad.sdc'}: not an SDC file\n"
    assert len(json.loads(result.stdout)) == 1
    alone = sdc("info", "--json", tmp_path / "bad.sdc")
    assert (alone.exit_code, alone.stdout) == (1, "")


@pytest.mark.parametrize("quality", [1, 34, 50, 99, 100])
def test_the_quality_is_the_one_that_was_asked_for(quality: int) -> None:
    latents = np.zeros((4, 2, 2), np.float32)
    found = ContextCodec.describe(ContextCodec(quality=quality).encode(latents))
    assert found["quality"] == quality
    assert found["step"] == step_of(quality) / 4096
    assert found["trellis"]
    assert found["weighted"]


def test_steps_that_are_coarser_than_any_quality_have_one_below_1() -> None:
    payload = ContextCodec().encode_with_step(np.zeros((4, 2, 2), np.float32), LARGEST_STEP)
    found = ContextCodec.describe(payload)
    assert found["step"] == LARGEST_STEP / 4096
    assert -18 < found["quality"] < -17


def test_the_flags_of_the_codec_context_are_told() -> None:
    latents = np.zeros((4, 2, 2), np.float32)
    found = ContextCodec.describe(ContextCodec(trellis=False, weighted=False).encode(latents))
    assert not found["trellis"]
    assert not found["weighted"]


def test_the_palette_is_that_of_the_latents() -> None:
    latents = np.random.default_rng(0).normal(size=(4, 12, 12)).astype(np.float32)
    payload = PaletteCodec(palette_size=16, dither=0).encode(latents)
    assert PaletteCodec.describe(payload) == {"entries": 16, "exact": False}
    decoded = PaletteCodec.decode(payload, 12, 12).latents.reshape(4, -1).T
    assert {tuple(entry) for entry in PaletteCodec.codebook(payload)} == {tuple(latent) for latent in decoded}


def test_the_step_of_the_codec_uint8_is_told() -> None:
    found = Uint8Codec.describe(Uint8Codec().encode(np.zeros((4, 1, 1), np.float32)))
    assert found["step"] == pytest.approx(0.0332, rel=1e-3)


def test_view_writes_a_sheet_beside_the_source(tmp_path: Path) -> None:
    path = tmp_path / "photo.sdc"
    path.write_bytes((GOLDEN / "palette-rgb-200x150.sdc").read_bytes())
    result = sdc("view", path)
    assert result.exit_code == 0
    assert result.stdout == f"{tmp_path / 'photo-latents.png'}\n"
    with Image.open(tmp_path / "photo-latents.png") as image:
        assert image.format == "PNG"
        assert len(image.convert("L").histogram()) - image.convert("L").histogram().count(0) > 100
    assert sdc("view", path).exit_code == 1
    assert sdc("view", path, "--force").exit_code == 0


def test_the_sheet_shows_the_channels_as_they_are() -> None:
    data = pillow_sdc.encode(Image.linear_gradient("L"), codec="uint8", model="compact")
    latents = pillow_sdc.read_latents(data)
    channel = latents[1]
    grey = np.asarray(display.grey(channel))
    expected = (channel - channel.min()) / (channel.max() - channel.min()) * 255
    assert np.abs(grey - expected).max() <= 0.51
    drawn = np.asarray(sheet.draw(io.BytesIO(data), "gradient.sdc").convert("L"))
    enlarged = np.repeat(np.repeat(grey, 8, axis=0), 8, axis=1)
    windows = np.lib.stride_tricks.sliding_window_view(drawn[-256 - sheet._MARGIN : -sheet._MARGIN], (256, 256))
    assert any((window == enlarged).all() for window in windows[0])


def test_a_channel_of_a_single_value_is_grey() -> None:
    assert display.grey(np.full((3, 2), 0.7, np.float32)).getcolors() == [(6, 128)]


@pytest.mark.parametrize("arguments", [["-"], ["a.sdc", "-o", "a.jpg"]])
def test_view_is_told_of_what_it_cannot_write(arguments: list[str]) -> None:
    assert sdc("view", *arguments).exit_code == 2


def test_view_tells_of_damage_and_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "bad.sdc").write_bytes((GOLDEN / "palette-rgb-200x150.sdc").read_bytes()[:-9])
    result = sdc("view", tmp_path / "bad.sdc")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"sdc: {tmp_path / 'bad.sdc'}: ")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.sdc"]
