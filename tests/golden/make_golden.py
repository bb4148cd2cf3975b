"""Writes the golden files: small ``.sdc`` files, sound and damaged, and the results that a decoder must give.

They were written once and are frozen. The script adds files for entries that are new and leaves every file and every
existing expectation as it is; with nothing to add it fails with a message. From the repository's root:

    PYTHONPATH=. python tests/golden/make_golden.py
"""

import hashlib
import json
import lzma
import struct
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pillow_sdc.format import alpha as alpha_plane
from pillow_sdc.format import container
from pillow_sdc.format.codecs import ContextCodec, LatentCodec, PaletteCodec, Uint8Codec
from pillow_sdc.format.container import Header
from pillow_sdc.format.eight_bit import from_levels, round_levels, to_levels
from pillow_sdc.pipeline import decoding

EXIF = bytes.fromhex("4578696600004d4d002a00000008000101120003000000010001000000000000")  # orientation 1
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'
ICC_PROFILE = bytes(range(128)) + bytes(72)  # enough to need a length of two bytes; not a real profile
LONG_EXIF = EXIF + b"as long as a maker's note, " * 30
LONG_XMP = XMP.replace(b"/>", b">") + b"<rdf:li/>" * 200 + b"</x:xmpmeta>"


def waves(rows: int, columns: int, scale: float = 1.0) -> NDArray[np.float32]:
    """Return latents ``(4, rows, columns)`` of about unit variance times ``scale``: smooth waves and a rough one."""
    y, x, channel = np.arange(rows)[:, None], np.arange(columns), np.arange(4)[:, None, None]
    smooth = np.sin(0.31 * x + 0.17 * y + 1.3 * channel)
    rough = np.sin(2.7 * (columns * y + x + 1) ** 1.5 + channel)
    latents: NDArray[np.float32] = (scale * (1.1 * smooth + 0.7 * rough)).astype(np.float32)
    return latents


def noise(rows: int, columns: int) -> NDArray[np.float32]:
    """Return latents whose levels are as good as random, so that deflate stores them."""
    count = 4 * rows * columns
    stream = b"".join(hashlib.sha256(i.to_bytes(4)).digest() for i in range(-(-count // 32)))[:count]
    return from_levels(np.frombuffer(stream, np.uint8).reshape(4, rows, columns))


def few(rows: int, columns: int, distinct: int) -> NDArray[np.float32]:
    """Return latents of only so many distinct vectors."""
    steps = np.arange(rows * columns).reshape(rows, columns) * 7 % distinct
    return np.stack([steps * weight / 10 - 1 for weight in (1, -2, 3, -4)]).astype(np.float32)


Alpha = Callable[[int, int], NDArray[np.uint8]]


def opaque(height: int, width: int) -> NDArray[np.uint8]:
    """Return an alpha plane that hides nothing."""
    return np.full((height, width), 255, np.uint8)


def rectangle(height: int, width: int) -> NDArray[np.uint8]:
    """Return an alpha plane of two values."""
    alpha = np.full((height, width), 3, np.uint8)
    alpha[height // 4 : height // 2, width // 3 :] = 200
    return alpha


def disc(height: int, width: int) -> NDArray[np.uint8]:
    """Return an alpha plane that is transparent outside a circle and opaque inside."""
    y, x = np.mgrid[:height, :width]
    return np.where((y - height // 2) ** 2 + (x - width // 2) ** 2 < (height // 2) ** 2, 255, 0).astype(np.uint8)


def any_values(height: int, width: int) -> NDArray[np.uint8]:
    """Return an alpha plane as good as random."""
    stream = b"".join(hashlib.sha256(i.to_bytes(4)).digest() for i in range(-(-height * width // 32)))
    return np.frombuffer(stream, np.uint8)[: height * width].reshape(height, width)


def rows_of_their_own(height: int, width: int) -> NDArray[np.uint8]:
    """Return an alpha plane that rises within rows, each row in a way of its own."""
    rises = np.cumsum(any_values(height, width) % 3, axis=1)
    return (1 + (rises + 149 * np.arange(height)[:, None]) % 254).astype(np.uint8)


def ramp(height: int, width: int) -> NDArray[np.uint8]:
    """Return an alpha plane that rises in both directions."""
    y, x = np.mgrid[:height, :width]
    return (1 + (3 * x * x // 40 + 5 * y * y // 30 + x // 3) % 254).astype(np.uint8)


def steps(height: int, width: int) -> NDArray[np.uint8]:
    """Return an alpha plane of flat patches."""
    y, x = np.mgrid[:height, :width]
    return ((x // 11 + x * y // 250) * 53 % 256).astype(np.uint8)


@dataclass(frozen=True)
class OneStep(ContextCodec):
    """The codec ``context`` with a step that no quality has."""

    step: int = 0

    def encode(self, latents: NDArray[np.float32]) -> bytes:
        """Return the payload of latents."""
        return self.encode_with_step(latents, self.step)


class Sound(NamedTuple):
    """A file that every reader must decode to the same levels."""

    width: int
    height: int
    mode: str
    codec: LatentCodec
    latents: Callable[[int, int], NDArray[np.float32]] = waves
    metadata: dict[str, bytes] | None = None
    before_payload: bytes = b""
    after: bytes = b""
    alpha: Alpha | None = None


def chunk(letter: str, data: bytes) -> bytes:
    """Return a chunk of any type."""
    return raw_chunk(letter.encode("latin-1"), varint(len(data)), data)


def raw_chunk(letter: bytes, length: bytes, data: bytes) -> bytes:
    """Return a chunk with any bytes for its length, its checksum right."""
    return letter + length + data + struct.pack("<I", zlib.crc32(letter + length + data))


def varint(value: int) -> bytes:
    """Return a length as LEB128."""
    groups = []
    while value >= 0x80:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])


def head(width: int = 8, height: int = 8, *, version: int = 1, codec: int = 1, space: int = 1, mode: int = 0) -> bytes:
    """Return a header of any numbers, its checksum right."""
    fields = struct.pack("<7sBBBBHH", b"\x89SDC\r\n\n", version, codec, space, mode, width, height)
    return fields + struct.pack("<I", zlib.crc32(fields))


def raw_deflate(data: bytes) -> bytes:
    """Return a raw deflate stream."""
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    return deflater.compress(data) + deflater.flush()


def deflated(letter: str, data: bytes) -> bytes:
    """Return a chunk of deflated metadata."""
    return chunk(letter, varint(len(data)) + raw_deflate(data))


def raw_lzma(data: bytes) -> bytes:
    """Return a raw LZMA stream."""
    settings = {"id": lzma.FILTER_LZMA1, "dict_size": 1 << 20, "lc": 0, "lp": 0, "pb": 0}
    return lzma.compress(data, lzma.FORMAT_RAW, filters=[settings])


SOUND = {
    "uint8-rgb-64x48": Sound(64, 48, "RGB", Uint8Codec()),
    "uint8-l-17x9": Sound(17, 9, "L", Uint8Codec()),
    "uint8-rgb-1x1": Sound(1, 1, "RGB", Uint8Codec()),
    "uint8-l-1x300": Sound(1, 300, "L", Uint8Codec()),
    "uint8-l-65535x1": Sound(65535, 1, "L", Uint8Codec(), lambda h, w: np.zeros((4, h, w), np.float32)),
    "uint8-rgb-clamped": Sound(80, 80, "RGB", Uint8Codec(), lambda h, w: waves(h, w, 4.0)),
    "uint8-rgb-stored": Sound(512, 512, "RGB", Uint8Codec(), noise),
    "uint8-l-followed-by-other-data": Sound(16, 16, "L", Uint8Codec(), after=b"not part of the file"),
    "palette-rgb-200x150": Sound(200, 150, "RGB", PaletteCodec()),
    "palette-l-200x150": Sound(200, 150, "L", PaletteCodec(), lambda h, w: waves(h, w, 1.5)),
    "palette-rgb-16-entries": Sound(123, 77, "RGB", PaletteCodec(palette_size=16)),
    "palette-rgb-without-dithering": Sound(123, 77, "RGB", PaletteCodec(palette_size=64, dither=0)),
    "palette-l-2-entries": Sound(64, 40, "L", PaletteCodec(palette_size=2)),
    "palette-l-4-entries": Sound(64, 40, "L", PaletteCodec(palette_size=4, dither=0.5)),
    "palette-rgb-exact": Sound(97, 65, "RGB", PaletteCodec(), lambda h, w: few(h, w, 20)),
    "palette-l-exact": Sound(100, 9, "L", PaletteCodec(), lambda h, w: few(h, w, 5)),
    "palette-rgb-9x1": Sound(9, 1, "RGB", PaletteCodec(), lambda h, w: few(h, w, 2)),
    "palette-l-1x1": Sound(1, 1, "L", PaletteCodec()),
    "palette-rgb-metadata": Sound(
        40,
        24,
        "RGB",
        PaletteCodec(),
        before_payload=chunk("e", EXIF)
        + chunk("i", ICC_PROFILE)
        + chunk("x", XMP)
        + chunk("q", b"an ancillary chunk that version 1 does not know")
        + chunk("q", b""),
    ),
    "palette-l-deflated-metadata": Sound(
        24, 16, "L", PaletteCodec(), metadata={"exif": LONG_EXIF, "icc_profile": ICC_PROFILE, "xmp": LONG_XMP}
    ),
    "uint8-rgb-deflated-metadata": Sound(
        9,
        9,
        "RGB",
        Uint8Codec(),
        metadata={"dpi": container.pack_dpi((300, 300))},
        before_payload=chunk("y", varint(len(XMP)) + raw_deflate(XMP))
        + chunk("f", varint(0) + raw_deflate(b""))
        + chunk("j", varint(3) + b"\1\3\0\xfc\xffICC"),
    ),
    "context-rgb-200x150": Sound(200, 150, "RGB", ContextCodec()),
    "context-l-100x75": Sound(100, 75, "L", ContextCodec(quality=10)),
    "context-rgb-finest": Sound(70, 50, "RGB", ContextCodec(quality=100)),
    "context-rgb-coarsest": Sound(123, 77, "RGB", ContextCodec(quality=1)),
    "context-rgb-largest-step": Sound(123, 77, "RGB", OneStep(step=16383)),
    "context-l-smallest-step": Sound(16, 9, "L", OneStep(step=1)),
    "context-rgb-without-trellis": Sound(123, 77, "RGB", ContextCodec(trellis=False)),
    "context-rgb-without-stretching": Sound(123, 77, "RGB", ContextCodec(weighted=False)),
    "context-l-plain": Sound(64, 40, "L", ContextCodec(quality=75, trellis=False, weighted=False)),
    "context-rgb-far-out": Sound(40, 40, "RGB", ContextCodec(quality=80), lambda h, w: waves(h, w, 30.0)),
    "context-rgb-clamped": Sound(30, 20, "RGB", ContextCodec(), lambda h, w: waves(h, w, 1e20)),
    "context-l-of-zeros": Sound(160, 160, "L", ContextCodec(), lambda h, w: np.zeros((4, h, w), np.float32)),
    "context-l-16x1100": Sound(16, 1100, "L", ContextCodec(quality=30)),
    "context-l-1100x9": Sound(1100, 9, "L", ContextCodec(quality=30)),
    "context-rgb-1x1": Sound(1, 1, "RGB", ContextCodec()),
    "context-rgb-9x9": Sound(9, 9, "RGB", ContextCodec()),
    "context-rgb-metadata": Sound(40, 24, "RGB", ContextCodec(), metadata={"exif": EXIF, "xmp": XMP}),
    "palette-rgba-opaque": Sound(40, 24, "RGBA", PaletteCodec(), alpha=opaque),
    "palette-la-rectangle": Sound(70, 31, "LA", PaletteCodec(), alpha=rectangle),
    "context-rgba-disc": Sound(93, 61, "RGBA", ContextCodec(), alpha=disc),
    "context-la-rows": Sound(50, 70, "LA", ContextCodec(), alpha=rows_of_their_own),
    "uint8-rgba-ramp": Sound(67, 41, "RGBA", Uint8Codec(), alpha=ramp),
    "uint8-la-steps": Sound(63, 81, "LA", Uint8Codec(), alpha=steps),
    "context-rgba-any-alpha": Sound(17, 33, "RGBA", ContextCodec(), alpha=any_values),
    "palette-rgba-metadata": Sound(
        9, 9, "RGBA", PaletteCodec(), metadata={"exif": EXIF, "dpi": container.pack_dpi((72.009, 300))}, alpha=disc
    ),
    "palette-la-1x1": Sound(1, 1, "LA", PaletteCodec(), alpha=opaque),
}


def sound_file(name: str) -> bytes:
    """Return one of :data:`SOUND`, encoded."""
    sound = SOUND[name]
    header = Header(sound.width, sound.height, sound.mode, sound.codec.name)
    payload = sound.codec.encode(sound.latents(*header.latent_shape))
    alpha = alpha_plane.encode(sound.alpha(sound.height, sound.width)) if sound.alpha else b""
    file = container.write(header, payload, sound.metadata, alpha)
    before = len(file) - len(chunk("P", payload))
    return file[:before] + sound.before_payload + file[before:] + sound.after


def expected_of(name: str, path: Path) -> dict[str, Any]:
    """Return what a reader must find in a sound file."""
    sound = SOUND[name]
    with path.open("rb") as fp:
        layout = container.read_layout(fp)
        metadata = container.read_metadata(fp, layout)
        quantised = decoding.read_latents(fp, layout)
    latents = quantised.latents
    if isinstance(sound.codec, Uint8Codec):  # lossless after rounding: take the levels from before encoding
        latents = from_levels(round_levels(to_levels(sound.latents(*layout.header.latent_shape))))
    if isinstance(sound.codec, ContextCodec):
        decoded = {"latents_sha256": hashlib.sha256(latents.tobytes()).hexdigest()}
    else:
        decoded = {"levels_sha256": hashlib.sha256(round_levels(to_levels(latents)).tobytes()).hexdigest()}
    return {
        "width": sound.width,
        "height": sound.height,
        "mode": sound.mode,
        "codec": sound.codec.name,
        "latent_space": "sd-v1",
        "chunks": "".join(chr(chunk.type) for chunk in layout.chunks),
        "size": layout.size,
        "metadata_sha256": {key: hashlib.sha256(value).hexdigest() for key, value in metadata.items()},
        **decoded,
        "noise_variance": repr(quantised.noise_variance),
        **({"alpha_sha256": hashlib.sha256(sound.alpha(sound.height, sound.width)).hexdigest()} if sound.alpha else {}),
    }


class Damaged(NamedTuple):
    """A file that every reader must refuse, the error's class, a part of its message, and when it is noticed."""

    file: bytes
    error: str
    message: str
    noticed_by: str = "open"


def damaged_files() -> dict[str, Damaged]:
    """Return every damaged file; those that are not about checksums have right ones."""
    plain = head() + chunk("P", Uint8Codec().encode(waves(1, 1)))
    picture = plain[:19] + chunk("e", EXIF) + plain[19:]
    four = [raw_deflate(bytes([level])) for level in (0, 50, 100, 200)]

    def flipped(position: int) -> bytes:
        return picture[:position] + bytes([picture[position] ^ 0x10]) + picture[position + 1 :]

    def payload(data: bytes, codec: int = 1, width: int = 8, height: int = 8) -> bytes:
        return head(width, height, codec=codec) + chunk("P", data)

    palette = bytes([1, 0]) + raw_deflate(bytes(8))
    context = ContextCodec().encode(waves(2, 2))
    not_sdc, corrupt, truncated, unsupported = (
        "NotSdcError",
        "CorruptFileError",
        "TruncatedFileError",
        "UnsupportedFileError",
    )
    mismatch = "checksum of chunk 'P' does not match"
    binary, partial = raw_lzma(b"\xf0" * 8), raw_lzma(b"\x01\x55" + b"\x80\x00" * 7)

    def alpha(data: bytes) -> bytes:
        return head(mode=2) + chunk("A", data) + plain[19:]

    exif_end = 19 + 2 + len(EXIF) + 4
    return {
        "empty": Damaged(b"", not_sdc, "not an SDC file"),
        "not-sdc": Damaged(b"\x89PNG\r\n\x1a\n" + picture[8:], not_sdc, "not an SDC file"),
        "signature-truncated": Damaged(picture[:6], not_sdc, "not an SDC file"),
        "signature-line-ends-changed": Damaged(picture.replace(b"\r\n", b"\n"), not_sdc, "not an SDC file"),
        "signature-line-feeds-changed": Damaged(b"\x89SDC\r\n\r\n" + picture[7:], not_sdc, "not an SDC file"),
        "signature-seven-bits": Damaged(b"\x09" + picture[1:], not_sdc, "not an SDC file"),
        "header-truncated": Damaged(picture[:12], truncated, "ends within its header"),
        "header-alone": Damaged(picture[:19], truncated, "too early"),
        "header-checksum": Damaged(flipped(16), corrupt, "checksum of the header"),
        "version-newer": Damaged(head(version=2) + plain[19:], unsupported, "format version 2 is not supported"),
        "version-newer-of-other-layout": Damaged(b"\x89SDC\r\n\n\x02?", unsupported, "format version 2"),
        "version-zero": Damaged(head(version=0) + plain[19:], unsupported, "format version 0 is not supported"),
        "mode-unknown": Damaged(head(mode=4) + plain[19:], unsupported, "mode number 4 is unknown"),
        "latent-space-unknown": Damaged(head(space=77) + plain[19:], unsupported, "latent space number 77 is unknown"),
        "codec-unknown": Damaged(head(codec=200) + plain[19:], unsupported, "codec number 200 is unknown"),
        "width-zero": Damaged(head(width=0) + plain[19:], corrupt, "size 0×8"),
        "height-zero": Damaged(head(height=0) + plain[19:], corrupt, "size 8×0"),
        "chunk-head-truncated": Damaged(picture[:20], truncated, "too early"),
        "chunk-type-not-a-letter": Damaged(head() + chunk("\0", b"") + plain[19:], corrupt, "0x00 is not a letter"),
        "chunk-critical-unknown": Damaged(head() + chunk("Q", b"") + plain[19:], unsupported, "critical chunk 'Q'"),
        "chunk-alpha": Damaged(head() + chunk("A", b"") + plain[19:], unsupported, "critical chunk 'A'"),
        "length-padded": Damaged(
            head() + raw_chunk(b"P", bytes([len(b"".join(four)) | 0x80, 0]), b"".join(four)),
            corrupt,
            "padded with zeros",
        ),
        "length-of-six-bytes": Damaged(
            head() + raw_chunk(b"q", b"\x81\x80\x80\x80\x80\x01", b"!") + plain[19:], corrupt, "more than five bytes"
        ),
        "length-too-long-for-the-picture": Damaged(
            head() + b"P" + varint(1 << 30), corrupt, "exceeds the 8×8 picture's limit of 4104"
        ),
        "length-too-long-for-the-file": Damaged(head() + b"P" + varint(4000) + bytes(99), truncated, "early", "verify"),
        "metadata-too-long": Damaged(
            head() + b"e" + varint((16 << 20) + 1) + bytes(99), corrupt, "metadata exceeds the limit of 16777216"
        ),
        "metadata-too-long-in-all": Damaged(
            head() + chunk("q", bytes(9)) + b"e" + varint((16 << 20) - 8), corrupt, "metadata exceeds the limit"
        ),
        "metadata-too-long-for-the-file": Damaged(head() + b"e" + varint(9999) + bytes(99), truncated, "too early"),
        "metadata-checksum": Damaged(flipped(30), corrupt, "checksum of chunk 'e'"),
        "metadata-unknown-checksum": Damaged(
            head() + chunk("q", b"abc")[:-1] + b"?" + plain[19:], corrupt, "checksum of chunk 'q'", "verify"
        ),
        "metadata-exif-twice": Damaged(head() + 2 * chunk("e", EXIF) + plain[19:], corrupt, "chunk 'e' occurs twice"),
        "metadata-deflated-twice": Damaged(
            head() + chunk("e", EXIF) + deflated("f", EXIF) + plain[19:], corrupt, "'f' holds what chunk 'e' holds"
        ),
        "metadata-deflated-and-plain": Damaged(
            head() + deflated("y", XMP) + chunk("x", XMP) + plain[19:], corrupt, "'x' holds what chunk 'y' holds"
        ),
        "metadata-deflated-without-length": Damaged(
            head() + chunk("f", b"") + plain[19:], corrupt, "ends within the length"
        ),
        "metadata-deflated-within-its-length": Damaged(
            head() + chunk("f", b"\xa0") + plain[19:], corrupt, "ends within the length"
        ),
        "metadata-deflated-length-padded": Damaged(
            head() + chunk("f", b"\xa0\0" + raw_deflate(EXIF)) + plain[19:], corrupt, "padded with zeros"
        ),
        "metadata-deflated-length-of-six-bytes": Damaged(
            head() + chunk("j", b"\x81\x80\x80\x80\x80\x01" + raw_deflate(b"!")) + plain[19:],
            corrupt,
            "more than five bytes",
        ),
        "metadata-deflated-too-long": Damaged(
            head() + chunk("y", varint((16 << 20) + 1) + raw_deflate(bytes(1 << 20))) + plain[19:],
            corrupt,
            "metadata exceeds the limit of 16777216",
        ),
        "metadata-deflated-too-long-in-all": Damaged(
            head() + chunk("q", bytes(9)) + chunk("y", varint((16 << 20) - 8) + raw_deflate(XMP)) + plain[19:],
            corrupt,
            "metadata exceeds the limit of 16777216",
        ),
        "metadata-deflated-bomb": Damaged(
            head() + chunk("y", varint(100) + raw_deflate(bytes(1 << 20))) + plain[19:],
            corrupt,
            "does not hold the 100 bytes",
        ),
        "metadata-deflated-too-short": Damaged(
            head() + chunk("f", varint(len(EXIF) + 1) + raw_deflate(EXIF)) + plain[19:],
            corrupt,
            "does not hold the 33 bytes",
        ),
        "metadata-deflated-too-small-for-its-length": Damaged(
            head() + chunk("f", varint(1 << 20) + raw_deflate(EXIF)) + plain[19:], corrupt, "cannot hold the 1048576"
        ),
        "metadata-deflated-damaged": Damaged(
            head() + chunk("j", varint(3) + b"\x07ICC") + plain[19:], corrupt, "deflate stream is damaged"
        ),
        "metadata-deflated-without-end": Damaged(
            head() + chunk("f", varint(len(EXIF)) + raw_deflate(EXIF)[:-1]) + plain[19:],
            corrupt,
            "does not hold the 32",
        ),
        "metadata-deflated-bytes-after-the-end": Damaged(
            head() + chunk("f", varint(len(EXIF)) + raw_deflate(EXIF) + b"more") + plain[19:],
            corrupt,
            "chunk 'f' has 4 bytes after its deflate stream",
        ),
        "metadata-deflated-checksum": Damaged(
            head() + deflated("f", EXIF)[:-1] + b"?" + plain[19:], corrupt, "checksum of chunk 'f'"
        ),
        "chunks-too-many": Damaged(
            head() + 64 * chunk("q", b"") + plain[19:], corrupt, "no payload among the first 64"
        ),
        "payload-missing": Damaged(picture[:exif_end], truncated, "too early"),
        "payload-truncated": Damaged(picture[:-9], truncated, "too early", "verify"),
        "payload-checksum-truncated": Damaged(picture[:-1], truncated, "too early", "verify"),
        "payload-checksum": Damaged(flipped(len(picture) - 1), corrupt, mismatch, "verify"),
        "payload-damaged": Damaged(flipped(len(picture) - 6), corrupt, mismatch, "verify"),
        "payload-marked-ancillary": Damaged(head() + chunk("p", b"".join(four)), truncated, "too early"),
        "uint8-empty": Damaged(payload(b""), corrupt, "0 bytes of deflate cannot hold", "verify"),
        "uint8-three-planes": Damaged(payload(b"".join(four[:3])), corrupt, "cannot hold the 1 bytes", "verify"),
        "uint8-plane-too-short": Damaged(
            payload(b"".join(four), width=16), corrupt, "does not hold the 2 bytes", "verify"
        ),
        "uint8-plane-too-long": Damaged(
            payload(raw_deflate(bytes(2)) + b"".join(four[1:])), corrupt, "does not hold the 1 bytes", "verify"
        ),
        "uint8-bytes-after-the-end": Damaged(
            payload(b"".join(four) + b"more"), corrupt, "4 bytes after its end", "verify"
        ),
        "deflate-bomb": Damaged(
            payload(raw_deflate(bytes(1 << 20)) + b"".join(four[1:])), corrupt, "does not hold the 1 bytes", "verify"
        ),
        "deflate-too-small-for-the-picture": Damaged(
            payload(b"".join(four), width=8192, height=8192), corrupt, "cannot hold the 1048576 bytes", "verify"
        ),
        "deflate-unknown-block": Damaged(
            payload(b"\x07" + b"".join(four)), corrupt, "deflate stream is damaged", "verify"
        ),
        "deflate-without-end": Damaged(payload(bytes([0, 1, 0, 254, 255, 7])), corrupt, "does not hold", "verify"),
        "palette-empty": Damaged(payload(b"", 2), corrupt, "too short for a palette", "verify"),
        "palette-one-byte": Damaged(payload(b"\0", 2), corrupt, "too short for a palette", "verify"),
        "palette-unknown-flag": Damaged(
            payload(b"\x01\x02" + palette[2:] + raw_deflate(b"\0"), 2), corrupt, "flags 0x02 are unknown", "verify"
        ),
        "palette-of-fewer-entries": Damaged(
            payload(b"\x02" + palette[1:] + raw_deflate(b"\0"), 2), corrupt, "does not hold the 12 bytes", "verify"
        ),
        "palette-index-outside": Damaged(
            payload(palette + raw_deflate(b"\2"), 2), corrupt, "index 2 is outside the palette of 2", "verify"
        ),
        "palette-without-indices": Damaged(payload(palette, 2), corrupt, "0 bytes of deflate cannot hold", "verify"),
        "palette-bytes-after-the-end": Damaged(
            payload(palette + raw_deflate(b"\1") + b"!", 2), corrupt, "1 bytes after its end", "verify"
        ),
        "context-empty": Damaged(payload(b"", 3), corrupt, "0 bytes is too short for a step", "verify"),
        "context-without-step": Damaged(payload(b"\x01\x00", 3), corrupt, "2 bytes is too short", "verify"),
        "context-step-zero": Damaged(payload(b"\x01\x00\xc0", 3), corrupt, "step is zero", "verify"),
        "context-network-unknown": Damaged(
            payload(b"\xc8" + context[1:], 3, 16, 16), unsupported, "context network number 200 is unknown", "verify"
        ),
        "context-zero-behind-the-end": Damaged(
            payload(context + b"\0", 3, 16, 16), corrupt, "does not end where its symbols do", "verify"
        ),
        "context-bytes-behind-the-end": Damaged(
            payload(context + b"more than enough", 3, 16, 16), corrupt, "does not end where its symbols do", "verify"
        ),
        "context-of-a-larger-picture": Damaged(
            payload(context, 3, 8, 16), corrupt, "does not end where its symbols do", "verify"
        ),
        "context-escape-too-long": Damaged(
            payload(context[:3] + b"\0" * 40 + b"\1", 3, 16, 16), corrupt, "farther out than any writer", "verify"
        ),
        "alpha-missing": Damaged(head(mode=3) + plain[19:], corrupt, "mode RGBA without an alpha chunk"),
        "alpha-twice": Damaged(
            head(mode=2) + 2 * chunk("A", b"\0\xff") + plain[19:], corrupt, "chunk 'A' occurs twice"
        ),
        "alpha-too-long-for-the-picture": Damaged(
            head(mode=2) + b"A" + varint(1 << 20),
            corrupt,
            "alpha length 1048576 exceeds the 8×8 picture's limit of 4224",
        ),
        "alpha-checksum": Damaged(
            head(mode=2) + chunk("A", b"\0\xff")[:-1] + b"?" + plain[19:], corrupt, "checksum of chunk 'A'", "verify"
        ),
        "alpha-truncated": Damaged(head(mode=2) + chunk("A", b"\0\xff")[:-3], truncated, "too early"),
        "alpha-empty": Damaged(alpha(b""), corrupt, "alpha of 0 bytes that begins with nothing", "verify"),
        "alpha-of-unknown-kind": Damaged(alpha(b"\4\0"), corrupt, "2 bytes that begins with 04 00", "verify"),
        "alpha-constant-of-two-values": Damaged(alpha(b"\0\1\2"), corrupt, "begins with 00 01", "verify"),
        "alpha-rectangle-too-short": Damaged(alpha(b"\1\0\xff\0\0"), corrupt, "begins with 01 00", "verify"),
        "alpha-rectangle-empty": Damaged(
            alpha(struct.pack("<BBBHHHH", 1, 0, 255, 3, 3, 0, 2)), corrupt, "rectangle of 0×2 at 3, 3", "verify"
        ),
        "alpha-rectangle-outside": Damaged(
            alpha(struct.pack("<BBBHHHH", 1, 0, 255, 3, 3, 6, 2)), corrupt, "rectangle of 6×2 at 3, 3", "verify"
        ),
        "alpha-stream-missing": Damaged(alpha(b"\2"), corrupt, "does not hold the 8 bytes", "verify"),
        "alpha-stream-damaged": Damaged(alpha(b"\2\1" + binary), corrupt, "LZMA stream is damaged", "verify"),
        "alpha-stream-without-end": Damaged(alpha(b"\2" + binary[:-6]), corrupt, "does not hold the 8", "verify"),
        "alpha-stream-too-short": Damaged(
            alpha(b"\2" + raw_lzma(bytes(7))), corrupt, "does not hold the 8 bytes", "verify"
        ),
        "alpha-stream-too-long": Damaged(
            alpha(b"\2" + raw_lzma(bytes(1 << 20))), corrupt, "does not hold the 8 bytes", "verify"
        ),
        "alpha-bytes-after-the-end": Damaged(
            alpha(b"\2" + binary + b"more"), corrupt, "4 bytes follow the alpha plane", "verify"
        ),
        "alpha-predictor-unknown": Damaged(alpha(b"\3\4" + partial), corrupt, "begins with 03 04", "verify"),
        "alpha-map-of-unknown-places": Damaged(
            alpha(b"\3\0" + raw_lzma(b"\xff" * 16)), corrupt, "a place that is none of", "verify"
        ),
        "alpha-values-too-few": Damaged(
            alpha(b"\3\0" + partial + raw_lzma(b"abcd")), corrupt, "does not hold the 5 bytes", "verify"
        ),
        "alpha-partial-value-opaque": Damaged(
            alpha(b"\3\0" + partial + raw_lzma(b"abcd\xff")), corrupt, "is transparent or opaque", "verify"
        ),
        "alpha-partial-value-transparent": Damaged(
            alpha(b"\3\1" + partial + raw_lzma(b"\0bcde")), corrupt, "is transparent or opaque", "verify"
        ),
        "metadata-resolution-zero": Damaged(
            head() + chunk("d", struct.pack("<II", 72000, 0)) + plain[19:], corrupt, "two positive numbers"
        ),
        "metadata-resolution-too-short": Damaged(
            head() + chunk("d", b"\1\0\0\0") + plain[19:], corrupt, "two positive numbers"
        ),
    }


def add_missing(directory: Path) -> list[str]:
    """Write the files and expectations that are not there yet, and return their names.

    Raises:
        FileExistsError: A file is there without its expectation, or an expectation without its file.
    """
    added = []
    for folder, names in ((directory, list(SOUND)), (directory / "damaged", list(damaged_files()))):
        folder.mkdir(parents=True, exist_ok=True)
        record = folder / "expected.json"
        expected: dict[str, Any] = json.loads(record.read_text("utf-8")) if record.exists() else {}
        for name in names:
            path = folder / f"{name}.sdc"
            if path.exists() != (name in expected):
                raise FileExistsError(f"{path} and {record} do not agree; golden files are frozen")
            if name in expected:
                continue
            if folder is directory:
                file = sound_file(name)
            else:
                damaged = damaged_files()[name]
                file = damaged.file
                expected[name] = damaged._asdict()
                del expected[name]["file"]
            with path.open("xb") as fp:
                fp.write(file)
            if folder is directory:
                expected[name] = expected_of(name, path)
            added.append(name)
        record.write_text(json.dumps(expected, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return added


if __name__ == "__main__":
    names = add_missing(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
    if not names:
        sys.exit("every golden file exists already; they are frozen, and none was touched")
    sys.stderr.write(f"added {', '.join(names)}\n")
