"""The golden files: the results that every reader must give for sound and damaged files, now and later."""

import hashlib
import importlib.util
import io
import json
import re
import shutil
import struct
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import reference_decoder
from kernels import computing, kernels
from PIL import Image, UnidentifiedImageError

import pillow_sdc
from pillow_sdc.format import alpha as alpha_plane
from pillow_sdc.format import container
from pillow_sdc.format.codecs import CODECS, Uint8Codec
from pillow_sdc.format.eight_bit import STEP, round_levels, to_levels
from pillow_sdc.pipeline import decoding

GOLDEN = Path(__file__).parent / "golden"
DAMAGED = GOLDEN / "damaged"
FORMAT = Path(__file__).parent.parent / "docs" / "format.md"
SOUND_EXPECTED: dict[str, dict[str, Any]] = json.loads((GOLDEN / "expected.json").read_text("utf-8"))
DAMAGED_EXPECTED: dict[str, dict[str, str]] = json.loads((DAMAGED / "expected.json").read_text("utf-8"))

sound = pytest.mark.parametrize("name", SOUND_EXPECTED)
damaged = pytest.mark.parametrize("name", DAMAGED_EXPECTED)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sound_file(name: str) -> bytes:
    return (GOLDEN / f"{name}.sdc").read_bytes()


def damaged_file(name: str) -> bytes:
    return (DAMAGED / f"{name}.sdc").read_bytes()


def load_make_golden() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_golden", GOLDEN / "make_golden.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_file_has_an_expectation() -> None:
    assert {path.stem for path in GOLDEN.glob("*.sdc")} == set(SOUND_EXPECTED)
    assert {path.stem for path in DAMAGED.glob("*.sdc")} == set(DAMAGED_EXPECTED)


def test_every_codec_and_mode_has_files() -> None:
    found = {(expected["codec"], expected["mode"]) for expected in SOUND_EXPECTED.values()}
    assert found == {(codec, mode) for codec in CODECS.names.values() for mode in container.MODES.values()}


@sound
def test_package_reads_the_header(name: str) -> None:
    expected = SOUND_EXPECTED[name]
    layout = container.read_layout(io.BytesIO(sound_file(name)))
    for field, value in layout.header._asdict().items():
        assert value == expected[field]
    assert "".join(chr(chunk.type) for chunk in layout.chunks) == expected["chunks"]
    assert layout.size == expected["size"]


@sound
def test_package_reads_the_metadata(name: str) -> None:
    fp = io.BytesIO(sound_file(name))
    metadata = container.read_metadata(fp, container.read_layout(fp))
    assert {key: sha256(value) for key, value in metadata.items()} == SOUND_EXPECTED[name]["metadata_sha256"]


@sound
def test_package_decodes_the_latents(name: str) -> None:
    expected = SOUND_EXPECTED[name]
    fp = io.BytesIO(sound_file(name))
    layout = container.read_layout(fp)
    quantised = decoding.read_latents(fp, layout)
    assert quantised.latents.dtype == np.float32
    assert quantised.latents.shape == (4, *layout.header.latent_shape)
    assert repr(quantised.noise_variance) == expected["noise_variance"]
    if expected["codec"] == "context":
        assert sha256(quantised.latents.astype("<f4").tobytes()) == expected["latents_sha256"]
    else:
        levels = round_levels(to_levels(quantised.latents))
        assert sha256(levels.tobytes()) == expected["levels_sha256"]
        np.testing.assert_array_equal(quantised.latents, ((levels - 127.5) * STEP).astype(np.float32))
    np.testing.assert_array_equal(pillow_sdc.read_latents(sound_file(name)), quantised.latents)


@pytest.mark.parametrize("name", [name for name in SOUND_EXPECTED if SOUND_EXPECTED[name]["codec"] == "context"])
def test_kernel_and_reference_decode_the_latents(name: str) -> None:
    expected = SOUND_EXPECTED[name]
    fp = io.BytesIO(sound_file(name))
    layout = container.read_layout(fp)
    for kernel in (None, *kernels()):
        with computing(kernel):
            quantised = decoding.read_latents(fp, layout)
        assert repr(quantised.noise_variance) == expected["noise_variance"]
        assert sha256(quantised.latents.astype("<f4").tobytes()) == expected["latents_sha256"]


@sound
def test_package_decodes_the_alpha_plane(name: str) -> None:
    fp = io.BytesIO(sound_file(name))
    layout = container.read_layout(fp)
    alpha = decoding.prepare(fp, layout).alpha
    if layout.header.has_alpha:
        assert alpha is not None
        assert alpha.shape == layout.header.size[::-1]
        assert sha256(alpha.tobytes()) == SOUND_EXPECTED[name]["alpha_sha256"]
    else:
        assert alpha is None


def test_every_kind_of_alpha_has_a_file() -> None:
    heads = set()
    for name in SOUND_EXPECTED:
        fp = io.BytesIO(sound_file(name))
        chunk = container.read_layout(fp).alpha
        if chunk is not None:
            data = container.read_chunk(fp, chunk)
            heads.add(tuple(data[: 1 + (data[0] == alpha_plane.PARTIAL)]))
    partial = {(alpha_plane.PARTIAL, predictor) for predictor in range(4)}
    assert heads == {(alpha_plane.CONSTANT,), (alpha_plane.RECTANGLE,), (alpha_plane.BINARY,)} | partial


@sound
def test_reference_decoder_agrees(name: str) -> None:
    expected = SOUND_EXPECTED[name]
    decoded = reference_decoder.decode(sound_file(name))
    header = decoded.header
    assert header.version == container.FORMAT_VERSION
    assert (header.width, header.height) == (expected["width"], expected["height"])
    assert CODECS.names[header.codec] == expected["codec"]
    assert container.LATENT_SPACES[header.latent_space] == expected["latent_space"]
    assert container.MODES[header.mode] == expected["mode"]
    assert decoded.size == expected["size"]
    letters = {chr(letter): key for key, letter in container.METADATA.items()}
    metadata = {letters[letter]: sha256(value) for letter, value in decoded.metadata.items()}
    assert metadata == expected["metadata_sha256"]
    values = [value for plane in decoded.values for row in plane for value in row]
    if expected["codec"] == "context":
        assert sha256(struct.pack(f"<{len(values)}f", *values)) == expected["latents_sha256"]
    else:
        assert sha256(bytes(map(int, values))) == expected["levels_sha256"]
    assert repr(decoded.noise_variance) == expected["noise_variance"]
    alpha = bytes(value for row in decoded.alpha for value in row)
    assert (sha256(alpha) if alpha else None) == expected.get("alpha_sha256")


@sound
def test_pillow_opens_and_verifies(name: str) -> None:
    expected = SOUND_EXPECTED[name]
    with Image.open(GOLDEN / f"{name}.sdc") as image:
        assert image.format == "SDC"
        assert image.size == (expected["width"], expected["height"])
        assert image.mode == expected["mode"]
        assert {key for key in container.METADATA if key in image.info} == set(expected["metadata_sha256"])
        image.verify()


@pytest.mark.parametrize("name", [name for name in SOUND_EXPECTED if SOUND_EXPECTED[name]["codec"] == "uint8"])
def test_uint8_latents_are_encoded_again_without_loss(name: str) -> None:
    latents = pillow_sdc.read_latents(sound_file(name))
    again = Uint8Codec.decode(Uint8Codec().encode(latents), *latents.shape[1:]).latents
    np.testing.assert_array_equal(again, latents)


@damaged
def test_package_refuses_damage(name: str) -> None:
    expected = DAMAGED_EXPECTED[name]
    fp = io.BytesIO(damaged_file(name))
    noticed_by = "open"
    with pytest.raises(pillow_sdc.SdcError, match=re.escape(expected["message"])) as caught:  # noqa: PT012
        layout = container.read_layout(fp)
        container.read_metadata(fp, layout)
        noticed_by = "verify"
        decoding.verify(fp, layout)
    assert type(caught.value).__name__ == expected["error"]
    assert noticed_by == expected["noticed_by"]


@damaged
def test_pillow_refuses_damage(name: str) -> None:
    expected = DAMAGED_EXPECTED[name]

    def open_and_verify() -> None:
        with Image.open(io.BytesIO(damaged_file(name))) as image:
            image.verify()

    if expected["error"] == "NotSdcError":
        with pytest.raises(UnidentifiedImageError):
            open_and_verify()
    else:
        with pytest.raises(OSError, match=re.escape(expected["message"])) as caught:
            open_and_verify()
        assert type(caught.value).__name__ == expected["error"]


BESIDE_THE_LATENTS = {
    name
    for name, expected in DAMAGED_EXPECTED.items()
    if name in ("metadata-checksum", "metadata-unknown-checksum")
    or (name.startswith("metadata-deflated") and "holds what" not in expected["message"])
    or name.startswith("metadata-resolution")
    or (name.startswith("alpha") and expected["noticed_by"] == "verify")
}


@pytest.mark.parametrize("name", sorted(DAMAGED_EXPECTED.keys() - BESIDE_THE_LATENTS))
def test_reading_latents_refuses_all_damage_but_that_of_metadata_and_alpha(name: str) -> None:
    with pytest.raises(getattr(pillow_sdc, DAMAGED_EXPECTED[name]["error"])):
        pillow_sdc.read_latents(damaged_file(name))


@damaged
def test_reference_decoder_refuses_damage(name: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        reference_decoder.decode(damaged_file(name))


def test_all_files_together_are_small() -> None:
    assert sum(path.stat().st_size for path in GOLDEN.rglob("*") if path.is_file()) < 100_000


def test_making_golden_files_again_leaves_them_as_they_are(tmp_path: Path) -> None:
    copy = shutil.copytree(GOLDEN, tmp_path / "golden")
    make_golden = load_make_golden()
    assert make_golden.add_missing(copy) == []
    for path in sorted(GOLDEN.rglob("*.sdc")) + sorted(GOLDEN.rglob("*.json")):
        assert (copy / path.relative_to(GOLDEN)).read_bytes() == path.read_bytes()


def test_making_golden_files_never_replaces_one_that_is_gone(tmp_path: Path) -> None:
    copy = shutil.copytree(GOLDEN, tmp_path / "golden")
    (copy / "uint8-l-17x9.sdc").unlink()
    with pytest.raises(FileExistsError, match="frozen"):
        load_make_golden().add_missing(copy)


def test_specification_shows_a_golden_file() -> None:
    example = FORMAT.read_text("utf-8").split("## Example")[1]
    name = re.search(r"tests/golden/([\w-]+\.sdc)", example)
    dump = re.search(r"```\n(.*?)```", example, re.DOTALL)
    assert name is not None
    assert dump is not None
    file = b"".join(bytes.fromhex(re.split(r"  +", line)[0]) for line in dump[1].splitlines())
    assert file == (GOLDEN / name[1]).read_bytes()
    stated_crc, crc_of_header = re.search(r"15 bytes above: ([0-9A-F]{8})", dump[1]), file[15:19]
    assert stated_crc is not None
    assert struct.pack("<I", int(stated_crc[1], 16)) == crc_of_header
