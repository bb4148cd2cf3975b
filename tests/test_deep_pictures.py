"""What Pillow opens pictures of more than 8 bits as, and so what of them can be refused: the table in docs/usage.md."""

import io
import struct
import zlib

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import pillow_sdc
from pillow_sdc.jobs.pictures.opening import open_picture

SIDE = 16
PNG_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}


def samples(channels: int) -> NDArray[np.uint16]:
    ramp = np.linspace(0, 65535, SIDE * SIDE).astype(np.uint16).reshape(SIDE, SIDE, 1)
    return ramp.repeat(channels, axis=2)


def png(channels: int) -> bytes:
    """Return a PNG of 16 bits, which Pillow does not write in colour."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples(channels))
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 16, PNG_COLOUR_TYPES[channels], 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    framed = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def netpbm(channels: int, levels: int = 65536) -> bytes:
    kind = {1: 5, 3: 6}[channels]
    scaled = samples(channels) // (65536 // levels)
    return f"P{kind}\n{SIDE} {SIDE}\n{levels - 1}\n".encode() + scaled.astype(">u2").tobytes()


def by_pillow(array: NDArray[np.generic], file_format: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, file_format)
    return file.getvalue()


GREY = samples(1)[..., 0]


@pytest.mark.parametrize(
    ("file", "mode"),
    [
        (png(1), "I;16"),
        (by_pillow(GREY, "TIFF"), "I;16"),
        (by_pillow(GREY.astype(">u2"), "TIFF"), "I;16B"),
        (netpbm(1), "I"),
        (netpbm(1, 1024), "I"),
        (by_pillow(GREY.astype(np.int32), "TIFF"), "I"),
        (by_pillow(GREY.astype(np.float32), "TIFF"), "F"),
        (by_pillow(GREY.astype(np.float32), "PPM"), "F"),
    ],
)
def test_grey_of_more_than_8_bits_is_refused(file: bytes, mode: str) -> None:
    with Image.open(io.BytesIO(file)) as picture:
        assert picture.mode == mode
        with pytest.raises(
            OSError, match=f"^cannot write mode {mode} as SDC, .* convert the picture to mode L"
        ) as caught:
            pillow_sdc.encode(picture, model="compact")
        # What the message says to do is done.
        advice = str(caught.value)[str(caught.value).index("image.") :]
        converted = eval(advice, {"image": picture})  # noqa: S307 - our own
        assert converted.mode == "L"
        pillow_sdc.encode(converted, model="compact")


@pytest.mark.parametrize(("mode", "white"), [("I;16", 65535), ("I;16B", 65535), ("I", 65535), ("F", 1.0)])
def test_what_the_message_says_to_do_keeps_black_and_white(mode: str, white: float) -> None:
    type_of = {"I;16": "<u2", "I;16B": ">u2", "I": "<i4", "F": "<f4"}[mode]
    ramp = (np.linspace(0, 1, 64).reshape(8, 8) * white).astype(type_of)
    picture = Image.frombytes(mode, (8, 8), ramp.tobytes(), "raw", "F;32F" if mode == "F" else mode)
    with pytest.raises(OSError, match="cannot write mode") as caught:
        pillow_sdc.encode(picture)
    advice = str(caught.value)[str(caught.value).index("image.") :]
    converted = np.asarray(eval(advice, {"image": picture})).ravel()  # noqa: S307 - our own
    assert np.abs(converted - np.linspace(0, 255, 64)).max() <= 1


@pytest.mark.parametrize(
    ("file", "mode"),
    [(png(2), "RGBA"), (png(3), "RGB"), (png(4), "RGBA"), (netpbm(3), "RGB"), (netpbm(3, 4096), "RGB")],
)
def test_colour_of_more_than_8_bits_is_cut_by_pillow_when_it_opens_a_file(file: bytes, mode: str) -> None:
    with Image.open(io.BytesIO(file)) as picture:
        assert picture.mode == mode
        assert np.abs(np.asarray(picture)[..., :3] - (samples(3) >> 8).astype(int)).max() <= 1


def tiff(bits: int, *, planar: bool) -> bytes:
    """Return an uncompressed TIFF of three samples, interleaved or in planes of their own."""
    planes = np.moveaxis(samples(3) >> (16 - bits), 2, 0).astype(f"<u{bits // 8}")
    strips = [plane.tobytes() for plane in planes] if planar else [np.moveaxis(planes, 0, 2).tobytes()]
    tags = {256: SIDE, 257: SIDE, 259: 1, 262: 2, 277: 3, 278: SIDE, 284: 2 if planar else 1}
    count = len(tags) + 3
    data = 8 + 2 + 12 * count + 4  # where the values that do not fit into entries are
    entries = {tag: struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags.items()}
    entries[258] = struct.pack("<HHII", 258, 3, 3, data)
    starts = [data + 30 + sum(map(len, strips[:i])) for i in range(len(strips))]
    one = len(strips) == 1
    entries[273] = struct.pack("<HHII", 273, 4, len(strips), starts[0] if one else data + 6)
    entries[279] = struct.pack("<HHII", 279, 4, len(strips), len(strips[0]) if one else data + 18)
    directory = b"".join(entries[tag] for tag in sorted(entries))
    values = struct.pack("<3H", bits, bits, bits) + struct.pack("<6I", *(starts * 3)[:3], *[len(strips[0])] * 3)
    return struct.pack("<2sHIH", b"II", 42, 8, count) + directory + b"\0" * 4 + values + b"".join(strips)


@pytest.mark.parametrize(
    ("file", "is_cut"),
    [
        (png(2), True),
        (png(3), True),
        (png(4), True),
        (netpbm(3), True),
        (netpbm(3, 1024), True),
        (tiff(16, planar=False), True),
        (tiff(8, planar=False), False),
        (tiff(8, planar=True), False),
        (by_pillow(samples(3).astype(np.uint8), "PNG"), False),
        (by_pillow(samples(3).astype(np.uint8), "PPM"), False),
        (by_pillow(samples(3).astype(np.uint8), "TIFF"), False),
        (by_pillow(GREY, "PNG"), False),
    ],
)
def test_what_is_cut_to_8_bits_is_said(file: bytes, is_cut: bool) -> None:
    remark = open_picture(io.BytesIO(file), keep_metadata=True).remark
    assert (remark == "has more than 8 bits a sample, which are cut to 8") == is_cut


def test_planes_that_pillow_opens_wrongly_are_refused() -> None:
    with pytest.raises(OSError, match="wrongly if their planes are stored one after another"):
        open_picture(io.BytesIO(tiff(16, planar=True)), keep_metadata=True)
