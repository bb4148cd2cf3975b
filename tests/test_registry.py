"""The registry of codecs: what it declares holds everywhere, and a new codec is known everywhere at once."""

import copy
import io
import json
import pickle
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from locations import ROOT
from PIL import Image

import pillow_sdc
from pillow_sdc import CorruptFileError, OptionError, UnsupportedFileError, configure, settings
from pillow_sdc.format.codecs import (
    CODECS,
    TARGET_SIZE,
    Budget,
    ContextCodec,
    LatentCodec,
    PaletteCodec,
    QuantisedLatents,
    Registry,
    Uint8Codec,
    option,
)
from pillow_sdc.progress import UNCOUNTED, Steps
from pillow_sdc.ranges import Range

PAGE = ROOT / "docs" / "adding_a_codec.md"
PICTURE = Image.radial_gradient("L").resize((64, 48)).convert("RGB")


@pytest.fixture
def codec_file(tmp_path: Path) -> Path:
    """The codec of the documentation, in a file of its own."""
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    path = tmp_path / "rounded_codec.py"
    path.write_text(blocks[0], encoding="utf-8")
    return path


@pytest.fixture
def new_codec(codec_file: Path, monkeypatch: pytest.MonkeyPatch) -> type[LatentCodec]:
    monkeypatch.setattr(CODECS, "_codecs", dict(CODECS._codecs))
    codec: type[LatentCodec] = runpy.run_path(str(codec_file))["RoundedCodec"]
    return codec


def saved(**options: Any) -> bytes:
    file = io.BytesIO()
    PICTURE.save(file, "SDC", model="compact", **options)
    return file.getvalue()


class TestANewCodec:
    def test_saves_and_opens(self, new_codec: type[LatentCodec]) -> None:
        file = saved(codec="rounded")
        with Image.open(io.BytesIO(file)) as image:
            assert image.info["sdc"]["codec"] == "rounded"
            image.verify()
        with Image.open(io.BytesIO(file)) as image, pillow_sdc.configure(model="compact"):
            difference = np.asarray(image).astype(int) - np.asarray(PICTURE)
        assert np.sqrt(np.mean(difference**2)) < 20
        latents = pillow_sdc.read_latents(file)
        np.testing.assert_array_equal(latents, np.round(latents * 8) / 8)
        assert pillow_sdc.info(file).codec == "rounded"

    def test_is_chosen_by_its_options(self, new_codec: type[LatentCodec]) -> None:
        assert saved(parts=8) == saved(codec="rounded") != saved(parts=4) == saved(codec="rounded", parts=4)
        assert pillow_sdc.encode_batch([PICTURE], parts=4, model="compact") == [saved(parts=4)]

    def test_keeps_within_a_budget(self, new_codec: type[LatentCodec]) -> None:
        size = len(saved(parts=3))
        assert len(saved(codec="rounded", target_size=size)) <= size
        assert saved(codec="rounded", target_size=size) == saved(parts=3)
        assert pillow_sdc.info(saved(target_size=size)).codec == "context"  # the first that has one
        with pytest.raises(OptionError, match="target_size of 40 bytes cannot be met: the smallest file has "):
            saved(codec="rounded", target_size=40)

    def test_has_its_options_checked(self, new_codec: type[LatentCodec]) -> None:
        with pytest.raises(OptionError, match=r"^parts is 17; it must be a whole number from 1 to 16$"):
            saved(parts=17)
        with pytest.raises(OptionError, match=r"^parts is an option of the codec rounded, not of palette$"):
            saved(parts=4, codec="palette")
        with pytest.raises(OptionError, match="option of the codecs context and rounded, not of uint8"):
            saved(codec="uint8", target_size=900)
        with pytest.raises(OptionError, match="exclude each other: the size decides what the parts is"):
            saved(parts=4, target_size=900)

    def test_is_listed_and_can_be_set(self, new_codec: type[LatentCodec]) -> None:
        for refused in (lambda: saved(codec="jpeg"), lambda: configure(codec="jpeg")):
            with pytest.raises(OptionError, match="must be one of uint8, palette, context, rounded"):
                refused()
        with configure(codec="rounded"):
            assert saved() == saved(parts=8)
            assert settings().codec == "rounded"

    def test_keeps_its_payload_when_it_is_saved_again(self, new_codec: type[LatentCodec]) -> None:
        file = saved(parts=4)
        assert pillow_sdc.encode(file) == pillow_sdc.encode(file, parts=9) == file
        assert pillow_sdc.encode(file, parts=2) != file
        assert pillow_sdc.info(pillow_sdc.encode(file, codec="uint8")).codec == "uint8"

    def test_refuses_damage_and_parts_of_a_picture(
        self, new_codec: type[LatentCodec], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with pytest.raises(CorruptFileError, match="after its end"):
            new_codec.decode(new_codec().encode(np.zeros((4, 2, 2), np.float32)) + b"!", 2, 2)
        monkeypatch.setattr("PIL.ImageFile.LOAD_TRUNCATED_IMAGES", True)
        with pytest.raises(OSError, match="a payload of the codec rounded cannot be shown in part"):
            Image.open(io.BytesIO(saved(parts=4)[:-6])).load()

    def test_is_an_option_of_the_command_line(self, codec_file: Path, tmp_path: Path) -> None:
        PICTURE.save(tmp_path / "photo.png")
        script = """
import json, sys, rounded_codec
from pillow_sdc.cli import app
from typer.testing import CliRunner

def sdc(*arguments):
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200", "PILLOW_SDC_MODEL": "compact"})
    return {"code": result.exit_code, "out": result.stdout, "err": result.stderr}

print(json.dumps([
    sdc("encode", "--help"),
    sdc("encode", "photo.png", "--parts", "4", "-o", "parts.sdc"),
    sdc("encode", "photo.png", "--codec", "rounded", "--target-size", "1k", "-o", "budget.sdc"),
    sdc("info", "parts.sdc", "--json"),
    sdc("info", "parts.sdc"),
    sdc("encode", "photo.png", "--parts", "4", "--codec", "uint8"),
    sdc("encode", "photo.png", "--parts", "40"),
    sdc("batch", "photo.png", "out", "--parts", "2", "--dither", "1"),
    sdc("decode", "parts.sdc"),
    sdc("view", "parts.sdc"),
]))
"""
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=tmp_path,
            env={"PYTHONPATH": f"{ROOT}:{tmp_path}", "PATH": "", "HF_HOME": str(tmp_path / "hub")},
            capture_output=True,
            text=True,
            check=True,
        )
        shown, parts, budget, described, text, other, outside, batch, decoded, drawn = json.loads(done.stdout)
        helps = " ".join(shown["out"].replace("│", " ").split())
        assert "rounded: latents rounded to parts of one" in helps
        assert "--parts 1-16 Parts of one that latents are rounded to; chooses rounded. 8 unless given." in helps
        assert [each["code"] for each in (parts, budget, described, decoded, drawn)] == [0] * 5, done.stdout
        assert (tmp_path / "budget.sdc").stat().st_size <= 1000
        assert json.loads(described["out"])["codec"] == "rounded"
        assert json.loads(described["out"])["parameters"] == {"parts": 4}
        assert "codec    rounded: parts 4\n" in text["out"]
        assert (other["code"], batch["code"]) == (2, 2)
        assert "--parts is an option of the codec rounded, not of uint8" in other["err"]
        assert "--parts is an option of the codec rounded, not of palette" in batch["err"]
        assert outside["code"] == 2
        assert "is not a whole number from 1 to 16" in outside["err"]

    def test_is_unknown_where_it_is_not_registered(self, codec_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(CODECS, "_codecs", dict(CODECS._codecs))
            runpy.run_path(str(codec_file))
            file = saved(parts=4)
        with pytest.raises(UnsupportedFileError, match="codec number 200 is unknown to this version"):
            pillow_sdc.info(file)


class _Codec(LatentCodec):
    number = 77
    name = "test"
    help = "nothing"

    def encode(self, latents: Any, steps: Steps = UNCOUNTED) -> bytes:
        return b""

    @staticmethod
    def decode(payload: bytes, rows: int, columns: int, steps: Steps = UNCOUNTED) -> QuantisedLatents:
        return QuantisedLatents(np.zeros((4, rows, columns), np.float32), 0.0)

    @staticmethod
    def describe(payload: bytes) -> dict[str, Any]:
        return {}


class _OfTheSameNumber(_Codec):
    number = Uint8Codec.number


class _OfTheSameName(_Codec):
    name = "palette"


class _OfALargeNumber(_Codec):
    number = 256


class _WithAnotherRange(_Codec):
    quality: int = option(5, Range(int, 1, 10), "One to ten")


class _WithoutWhatItsBudgetDecides(_Codec):
    budget = Budget("quality", "Best")


class _WithQualityToo(_Codec):
    quality: int = option(20, Range(int, 1, 100), "Smallest to best")
    grain: float = option(0, Range(float, 0, 1), "Grain that is kept")


@pytest.mark.parametrize(
    ("codec", "message"),
    [
        (_OfTheSameNumber, "codec 1, 'test', is 1, 'uint8', already"),
        (_OfTheSameName, "codec 77, 'palette', is 2, 'palette', already"),
        (_OfALargeNumber, "the number of the codec test is 256; it must be from 0 to 255"),
        (_WithAnotherRange, "quality of the codec test has another range than that of context"),
        (_WithoutWhatItsBudgetDecides, "the budget of the codec test decides 'quality', not its option"),
    ],
)
def test_codecs_that_contradict_others_or_themselves_are_refused(codec: type[LatentCodec], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Registry(Uint8Codec, PaletteCodec, ContextCodec, codec, default=PaletteCodec)


def test_codecs_may_share_an_option() -> None:
    codecs = Registry(PaletteCodec, ContextCodec, _WithQualityToo, default=PaletteCodec)
    assert codecs.choose({"quality": 40}) is ContextCodec
    assert codecs.choose({"quality": 40, "grain": 1}) is _WithQualityToo
    assert codecs.choose({"quality": 40, "codec": "test"}) is _WithQualityToo
    with pytest.raises(OptionError, match="quality is an option of the codecs context and test, not of palette"):
        codecs.choose({"quality": 40, "codec": "palette"})


def test_the_simplest_codec_has_no_options_no_budget_and_no_codebook() -> None:
    codec = _Codec()
    assert codec.options == {}
    assert codec.is_met_by(b"")
    assert _WithQualityToo().is_met_by(b"") is False
    assert codec.encode_steps(9) == codec.decode_steps(9) == 0
    assert codec.codebook(b"") is None
    with pytest.raises(OptionError, match="target_size is not an option of the codec test"):
        codec.encode_within(np.zeros((4, 1, 1), np.float32), 100)


def test_codecs_are_values() -> None:
    codec = PaletteCodec(16, dither=0.5)
    assert codec == PaletteCodec(palette_size=16, dither=0.5) != PaletteCodec(16)
    assert codec != ContextCodec(16)
    assert len({codec, PaletteCodec(16, 0.5), Uint8Codec(), Uint8Codec()}) == 2
    assert repr(codec) == "PaletteCodec(palette_size=16, dither=0.5)"
    assert pickle.loads(pickle.dumps(codec)) == copy.deepcopy(codec) == codec
    with pytest.raises(AttributeError, match="PaletteCodec is immutable"):
        codec.dither = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("codec", "values", "named", "message"),
    [
        (PaletteCodec, (), {"quality": 5}, "PaletteCodec takes palette_size, dither, each once"),
        (PaletteCodec, (16, 0.5, 1), {}, "PaletteCodec takes palette_size, dither, each once"),
        (PaletteCodec, (16,), {"palette_size": 16}, "PaletteCodec takes palette_size, dither, each once"),
        (Uint8Codec, (1,), {}, "Uint8Codec takes no options"),
    ],
)
def test_codecs_take_their_own_options_alone(
    codec: type[LatentCodec], values: tuple[Any, ...], named: dict[str, Any], message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        codec(*values, **named)


@pytest.mark.parametrize("codec", list(CODECS))
def test_defaults_are_in_range_and_those_of_the_class(codec: type[LatentCodec]) -> None:
    for declared in codec.options.values():
        assert declared.range.allows(declared.default)
        assert getattr(codec(), declared.name) == declared.default


@pytest.mark.parametrize(
    ("range_", "allowed", "refused"),
    [
        (Range(int, 2, 9), [2, 9, np.int64(5)], [1, 10, 2.0, "5", None, True, np.float32(5)]),
        (Range(float, 0, 1), [0, 1, 0.5, np.float32(0.5), False], [-0.1, 1.1, float("nan"), "0", None, 1j]),
    ],
)
def test_ranges_allow_numbers_of_their_type(range_: Range, allowed: list[object], refused: list[object]) -> None:
    assert [value for value in allowed if not range_.allows(value)] == []
    assert [value for value in refused if range_.allows(value)] == []


# Documentation


def rows_of(page: str) -> list[list[str]]:
    lines = (ROOT / "docs" / page).read_text(encoding="utf-8").splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| `")]


def test_the_options_are_documented_with_their_ranges_and_defaults() -> None:
    rows = {row[0]: row for row in reversed(rows_of("options.md")) if len(row) == 4}  # the first table's
    for codec in CODECS:
        for declared in codec.options.values():
            words = str(declared.range).removeprefix("a ").replace(" from ", ", ")
            assert rows[f"`{declared.name}`"][1:3] == [words, f"{declared.default:g}"]
            assert rows[f"`{declared.name}`"][3].startswith(f"for `{codec.name}`")
    assert f"for `{CODECS.takers(TARGET_SIZE)[0].name}`" in rows["`target_size`"][3]
    assert {*re.findall(r"`\"(\w+)\"`", rows["`codec`"][1])} == {codec.name for codec in CODECS}
    assert rows["`codec`"][2] == f'`"{CODECS.default.name}"`'


def test_every_codec_has_a_row_and_a_section() -> None:
    described = {row[0] for row in rows_of("options.md") if len(row) == 3}
    sections = re.findall(r"^### Codec (\d+), `(\w+)`$", (ROOT / "docs" / "format.md").read_text("utf-8"), re.M)
    for codec in CODECS:
        assert f"`{codec.name}`" in described
        assert (str(codec.number), codec.name) in sections
