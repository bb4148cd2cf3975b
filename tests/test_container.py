"""The container: bytes to header and chunks and back, its limits, and what damage does."""

import ast
import contextlib
import io
import os
import re
import struct
import sys
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pillow_sdc.errors import CorruptFileError, NotSdcError, SdcError, TruncatedFileError, UnsupportedFileError
from pillow_sdc.format import container
from pillow_sdc.format.codecs import CODECS, PaletteCodec, Uint8Codec
from pillow_sdc.format.container import Header
from pillow_sdc.pipeline import decoding

FORMAT = Path(__file__).parent.parent / "docs" / "format.md"
MIB = 1 << 20

headers = st.builds(
    Header,
    width=st.integers(1, container.MAX_DIMENSION),
    height=st.integers(1, container.MAX_DIMENSION),
    mode=st.sampled_from(sorted(container.MODES.values())),
    codec=st.sampled_from(sorted(CODECS.names.values())),
    latent_space=st.sampled_from(sorted(container.LATENT_SPACES.values())),
)
repetitive = st.builds(lambda part, times: part * times, st.binary(min_size=1, max_size=30), st.integers(1, 100))
resolutions = st.tuples(st.floats(0.001, 4e6), st.floats(0.001, 4e6)).map(container.pack_dpi)
metadata = st.fixed_dictionaries(
    {},
    optional={
        key: resolutions if key == "dpi" else st.binary(max_size=300) | repetitive for key in sorted(container.METADATA)
    },
)


def chunk(letter: bytes, data: bytes, length: bytes | None = None) -> bytes:
    if length is None:
        length = varint(len(data))
    return letter + length + data + struct.pack("<I", zlib.crc32(letter + length + data))


def varint(value: int) -> bytes:
    groups = bytearray()
    while value >= 0x80:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])


def head(width: int = 8, height: int = 8) -> bytes:
    return container.write(Header(width, height, "L", "uint8"), b"")[: container.HEADER_BYTES]


def small_file(codec: Uint8Codec | PaletteCodec) -> bytes:
    latents = np.linspace(-2, 2, 4 * 3 * 2, dtype=np.float32).reshape(4, 3, 2)
    file = container.write(Header(16, 17, "RGB", codec.name), codec.encode(latents), {"exif": b"Exif\0\0", "xmp": b"x"})
    return file[: container.HEADER_BYTES] + chunk(b"q", b"unknown") + file[container.HEADER_BYTES :]


def open_and_verify(file: bytes) -> None:
    fp = io.BytesIO(file)
    layout = container.read_layout(fp)
    container.read_metadata(fp, layout)
    decoding.verify(fp, layout)


every_codec = pytest.mark.parametrize("codec", [Uint8Codec(), PaletteCodec()], ids=lambda codec: codec.name)


# Round trips


@given(
    header=headers,
    payload=st.binary(max_size=4096),
    metadata=metadata,
    alpha=st.binary(min_size=1, max_size=4096),
    before=st.binary(max_size=9),
)
def test_what_is_written_is_read(
    header: Header, payload: bytes, metadata: dict[str, bytes], alpha: bytes, before: bytes
) -> None:
    if not header.has_alpha:
        alpha = b""
    fp = io.BytesIO(before + container.write(header, payload, metadata, alpha) + b"after")
    fp.seek(len(before))
    layout = container.read_layout(fp)
    assert layout.header == header
    assert container.read_chunk(fp, layout.payload) == payload
    assert container.read_metadata(fp, layout) == metadata
    assert (layout.alpha is not None) == header.has_alpha
    if layout.alpha is not None:
        assert container.read_chunk(fp, layout.alpha) == alpha
    assert len(before) + layout.size + len(b"after") == len(fp.getvalue())


@pytest.mark.parametrize("length", [0, 1, 127, 128, 16383, 16384, 2**21 - 1, 2**21])
def test_lengths_around_every_size_of_varint_are_read(length: int) -> None:
    payload = bytes(length)
    fp = io.BytesIO(container.write(Header(8192, 8192, "RGB", "uint8"), payload))
    layout = container.read_layout(fp)
    assert layout.payload.length == length
    assert layout.payload.head_length == 1 + len(varint(length))
    assert container.read_chunk(fp, layout.payload) == payload


@given(layouts=st.lists(st.tuples(st.sampled_from(b"abcghklz"), st.binary(max_size=200)), max_size=63))
def test_unknown_ancillary_chunks_are_skipped(layouts: list[tuple[int, bytes]]) -> None:
    unknown = b"".join(chunk(bytes([letter]), data) for letter, data in layouts)
    fp = io.BytesIO(head() + unknown + chunk(b"P", b"payload"))
    layout = container.read_layout(fp)
    assert container.read_metadata(fp, layout) == {}
    assert container.read_chunk(fp, layout.payload) == b"payload"


@pytest.mark.parametrize("key", sorted(container.DEFLATED))
def test_metadata_are_deflated_where_that_is_shorter(key: str) -> None:
    for data, kinds in ((b"abc", container.METADATA), (b"abc" * 99, container.DEFLATED)):
        file = container.write(Header(8, 8, "L", "uint8"), b"", {key: data})
        layout = container.read_layout(io.BytesIO(file))
        assert layout.chunks[0].type == kinds[key]
        assert len(file) <= len(container.write(Header(8, 8, "L", "uint8"), b"")) + 6 + len(data)
        assert container.read_metadata(io.BytesIO(file), layout) == {key: data}


def test_files_without_metadata_have_the_same_bytes_as_ever() -> None:
    expected = bytes.fromhex("89534443 0d0a0a 01 01 01 01 0800 0900 81a18a4f 50 02 6162 425e9736")
    assert container.write(Header(8, 9, "RGB", "uint8"), b"ab") == expected


def test_bytes_after_the_payload_are_left_alone() -> None:
    file = small_file(Uint8Codec())
    fp = io.BytesIO(file + b"next")
    layout = container.read_layout(fp)
    assert layout.size == len(file)
    decoding.verify(fp, layout)


@pytest.mark.parametrize("prefix_length", range(20))
def test_accepts_takes_prefixes_of_any_length(prefix_length: int) -> None:
    prefix = small_file(Uint8Codec())[:prefix_length]
    assert container.accepts(prefix) == (prefix_length >= len(container.SIGNATURE))


@pytest.mark.parametrize("dpi", [(72.0, 72.0), (72.009, 300.0), (0.001, 4294967.295)])
def test_resolutions_come_back_to_a_thousandth(dpi: tuple[float, float]) -> None:
    assert container.unpack_dpi(container.pack_dpi(dpi)) == dpi


@pytest.mark.parametrize("value", [0, -1, 0.0004, 4294967.3, 1e300, float("inf"), float("nan")])
def test_resolutions_that_are_none_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match=r"dpi 72\.0 × .*; each must be a number from 0\.001"):
        container.pack_dpi((72.0, value))


@pytest.mark.parametrize(("mode", "alpha"), [("L", b"\0\xff"), ("RGBA", b"")])
def test_alpha_goes_with_the_modes_that_have_it(mode: str, alpha: bytes) -> None:
    with pytest.raises(ValueError, match=f"mode {mode} with {len(alpha)} bytes of alpha"):
        container.write(Header(8, 8, mode, "uint8"), b"", alpha=alpha)


# Damage


@every_codec
def test_every_truncation_is_noticed(codec: Uint8Codec | PaletteCodec) -> None:
    file = small_file(codec)
    open_and_verify(file)
    for length in range(len(file)):
        expected = NotSdcError if length < len(container.SIGNATURE) else TruncatedFileError
        with pytest.raises(expected):
            open_and_verify(file[:length])


@every_codec
def test_what_is_said_of_a_file_that_was_cut_off_is_how_much_is_missing(codec: Uint8Codec | PaletteCodec) -> None:
    picture = small_file(codec)
    start = b"something before"
    layout = container.read_layout(io.BytesIO(picture))
    payload = layout.payload.position + layout.payload.head_length
    for length in range(len(container.SIGNATURE), len(picture)):
        if length < container.HEADER_BYTES:
            said = f"the file ends within its header, after {length} of 19 bytes: all of the picture is missing"
        elif length < payload:
            said = f"the file ends too early, after {length} bytes: all of the picture is missing"
        elif (missing := len(picture) - length) == 1:
            said = "the file ends 1 byte too early"
        else:
            said = f"the file ends {missing} bytes too early"
        for before in (b"", start):
            fp = io.BytesIO(before + picture[:length])
            fp.seek(len(before))
            with pytest.raises(TruncatedFileError, match=f"^{re.escape(said)}$"):
                decoding.verify(fp, container.read_layout(fp))


def test_of_a_file_that_was_cut_off_within_its_metadata_no_more_is_known_than_that_the_picture_is_missing() -> None:
    picture = container.write(container.Header(8, 8, "L", "uint8"), bytes(9), {"exif": os.urandom(400)})
    for length in range(container.HEADER_BYTES, 19 + 3 + 400 + 4 + 2):
        with pytest.raises(TruncatedFileError, match=f"after {length} bytes: all of the picture is missing$"):
            container.read_layout(io.BytesIO(picture[:length]))
    with pytest.raises(TruncatedFileError, match=r"^the file ends at least 1 byte too early$"):
        container.read_chunk(
            io.BytesIO(picture[: 19 + 3 + 400 + 3]), container.read_layout(io.BytesIO(picture)).chunks[0]
        )


@every_codec
def test_every_flipped_bit_is_noticed(codec: Uint8Codec | PaletteCodec) -> None:
    file = small_file(codec)
    for position in range(8 * len(file)):
        damaged = bytearray(file)
        damaged[position // 8] ^= 1 << position % 8
        with pytest.raises(SdcError):
            open_and_verify(bytes(damaged))


def test_every_flipped_bit_is_noticed_through_pillow() -> None:
    file = small_file(PaletteCodec())
    for position in range(8 * len(file)):
        damaged = bytearray(file)
        damaged[position // 8] ^= 1 << position % 8
        with pytest.raises(OSError, match=r"\w"), Image.open(io.BytesIO(damaged)) as image:
            image.verify()


def test_checksum_of_a_chunk_covers_its_type_and_length() -> None:
    data = b"payload"
    fp = io.BytesIO(head() + b"P" + varint(len(data)) + data + struct.pack("<I", zlib.crc32(data)))
    with pytest.raises(CorruptFileError, match="checksum of chunk 'P' does not match"):
        container.read_chunk(fp, container.read_layout(fp).payload)


@given(rest=st.binary(max_size=300))
def test_arbitrary_bytes_after_a_header_raise_nothing_unforeseen(rest: bytes) -> None:
    for beginning in (b"", container.SIGNATURE, container.SIGNATURE + b"\x01", head(), head() + b"P", head() + b"e"):
        with contextlib.suppress(SdcError):
            open_and_verify(beginning + rest)


def test_a_slow_source_of_single_bytes_is_read() -> None:
    class Dripping(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(min(size or 0, 1) if self.tell() >= container.HEADER_BYTES else size)

    fp = Dripping(small_file(Uint8Codec()))
    decoding.verify(fp, container.read_layout(fp))


# Limits


@pytest.mark.parametrize(("width", "height"), [(0, 1), (1, 0), (65536, 1), (1, 65536), (-1, 1)])
def test_writing_refuses_sizes_outside_the_range(width: int, height: int) -> None:
    with pytest.raises(ValueError, match="outside the format's range of 1 to 65535"):
        container.write(Header(width, height, "L", "uint8"), b"")


@pytest.mark.parametrize(("width", "height"), [(1, 1), (65535, 1), (1, 65535), (65535, 65535)])
def test_the_smallest_and_largest_sizes_are_written_and_read(width: int, height: int) -> None:
    header = Header(width, height, "RGB", "palette")
    assert container.read_layout(io.BytesIO(container.write(header, b"?"))).header == header


def test_writing_refuses_a_payload_over_the_limit() -> None:
    limit = Header(9, 8, "L", "uint8").max_payload_bytes
    assert limit == 4096 + 8 * 2
    container.write(Header(9, 8, "L", "uint8"), bytes(limit))
    with pytest.raises(ValueError, match=f"payload length {limit + 1} exceeds the 9×8 picture's limit of {limit}"):
        container.write(Header(9, 8, "L", "uint8"), bytes(limit + 1))


def test_reading_refuses_a_payload_over_the_limit() -> None:
    with pytest.raises(CorruptFileError, match="payload length 4105 exceeds the 8×8 picture's limit of 4104"):
        container.read_layout(io.BytesIO(head() + chunk(b"P", bytes(4105))))
    container.read_layout(io.BytesIO(head() + chunk(b"P", bytes(4104))))


def test_no_codec_reaches_the_payload_limit() -> None:
    noise = np.random.default_rng(1).uniform(-4.2, 4.2, (4, 128, 128)).astype(np.float32)
    assert len(Uint8Codec().encode(noise)) < Header(1024, 1024, "RGB", "uint8").max_payload_bytes
    noise = noise[:, :1, :1]
    assert len(Uint8Codec().encode(noise)) < Header(1, 1, "RGB", "uint8").max_payload_bytes


def test_metadata_up_to_the_limit_is_written_and_read() -> None:
    metadata = {"exif": np.random.default_rng(0).bytes(container.MAX_METADATA_BYTES - 5), "xmp": b"five!"}
    fp = io.BytesIO(container.write(Header(8, 8, "L", "uint8"), b"", metadata))
    assert container.read_metadata(fp, container.read_layout(fp)) == metadata


def test_writing_refuses_metadata_over_the_limit() -> None:
    metadata = {"exif": bytes(container.MAX_METADATA_BYTES - 4), "xmp": b"five!"}
    with pytest.raises(ValueError, match="metadata of 16777217 bytes exceeds the format's limit of 16777216"):
        container.write(Header(8, 8, "L", "uint8"), b"", metadata)


@pytest.mark.parametrize("lengths", [[16 * MIB + 1], [8 * MIB, 8 * MIB + 1], [16 * MIB, 1]])
def test_reading_refuses_metadata_over_the_limit(lengths: list[int]) -> None:
    chunks = b"".join(chunk(b"q", bytes(length)) for length in lengths)
    with pytest.raises(CorruptFileError, match="metadata exceeds the limit of 16777216 bytes"):
        container.read_layout(io.BytesIO(head() + chunks + chunk(b"P", b"")))


def deflated(letter: bytes, length: int, data: bytes) -> bytes:
    """Return a chunk of metadata that says they are so long."""
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    return chunk(letter, varint(length) + deflater.compress(data) + deflater.flush())


def test_metadata_of_the_limit_are_deflated_and_come_back() -> None:
    metadata = {"exif": b"Exif" * 3 * MIB, "xmp": b"xmp!" * MIB}
    file = container.write(Header(8, 8, "L", "uint8"), b"", metadata)
    assert len(file) < 100_000
    assert container.read_metadata(io.BytesIO(file), container.read_layout(io.BytesIO(file))) == metadata


@pytest.mark.parametrize("before", [b"", chunk(b"q", bytes(9 * MIB)), deflated(b"f", 9 * MIB, bytes(9 * MIB))])
def test_reading_refuses_metadata_that_inflate_to_more_than_the_limit(before: bytes) -> None:
    length = 16 * MIB + 1 if not before else 7 * MIB + 1
    for claimed, fits in ((length, False), (length - 1, True)):
        fp = io.BytesIO(head() + before + deflated(b"y", claimed, bytes(claimed)) + chunk(b"P", b""))
        layout = container.read_layout(fp)
        if fits:
            assert container.read_metadata(fp, layout)["xmp"] == bytes(claimed)
        else:
            with pytest.raises(CorruptFileError, match="metadata exceeds the limit of 16777216 bytes"):
                container.read_metadata(fp, layout)


@pytest.mark.parametrize("claimed", [0, 100, 16 * MIB])
def test_a_bomb_in_metadata_takes_no_more_memory_than_it_claims(claimed: int) -> None:
    fp = io.BytesIO(head() + deflated(b"y", claimed, bytes(64 * MIB)) + chunk(b"P", b""))
    layout = container.read_layout(fp)
    tracemalloc.start()
    try:
        with pytest.raises(CorruptFileError, match=f"does not hold the {claimed} bytes"):
            container.read_metadata(fp, layout)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * claimed + MIB


def test_reading_refuses_more_chunks_than_the_limit() -> None:
    container.read_layout(io.BytesIO(head() + 63 * chunk(b"q", b"") + chunk(b"P", b"")))
    with pytest.raises(CorruptFileError, match="no payload among the first 64 chunks"):
        container.read_layout(io.BytesIO(head() + 64 * chunk(b"q", b"") + chunk(b"P", b"")))


@pytest.mark.parametrize("length", [b"\x81\x80\x80\x80\x80\x00", b"\xff\xff\xff\xff\xff\x01", b"\x80" * 99])
def test_reading_refuses_lengths_of_six_bytes(length: bytes) -> None:
    with pytest.raises(CorruptFileError, match="more than five bytes"):
        container.read_layout(io.BytesIO(head() + b"q" + length + bytes(99)))


@pytest.mark.parametrize("length", [b"\x80\x00", b"\x81\x00", b"\x81\x80\x00", b"\x81\x80\x80\x80\x00"])
def test_reading_refuses_lengths_that_are_not_canonical(length: bytes) -> None:
    with pytest.raises(CorruptFileError, match="padded with zeros"):
        container.read_layout(io.BytesIO(head() + chunk(b"q", bytes(length[0] & 0x7F), length) + chunk(b"P", b"")))


@pytest.mark.parametrize("letter", sorted(set(map(chr, range(65, 91))) - {"P"}))
def test_reading_refuses_unknown_critical_chunks_by_name(letter: str) -> None:
    with pytest.raises(UnsupportedFileError, match=f"critical chunk '{letter}' is unknown"):
        container.read_layout(io.BytesIO(head() + chunk(letter.encode(), b"") + chunk(b"P", b"")))


@pytest.mark.parametrize("version", [0, 2, 255])
def test_reading_refuses_other_versions_before_anything_else(version: int) -> None:
    with pytest.raises(UnsupportedFileError, match=f"format version {version} is not supported"):
        container.read_layout(io.BytesIO(container.SIGNATURE + bytes([version]) + b"anything"))


# Cost


class CountingReads:
    """A file object that counts the bytes read from it."""

    def __init__(self, fp: IO[bytes]) -> None:
        self._fp = fp
        self.seek, self.tell = fp.seek, fp.tell
        self.bytes_read = 0

    def read(self, size: int) -> bytes:
        self.bytes_read += size
        return self._fp.read(size)


def test_reading_the_layout_of_a_large_file_reads_little() -> None:
    metadata = {key: np.random.default_rng(0).bytes(MIB) for key in ("exif", "icc_profile", "xmp")}
    file = container.write(Header(8192, 8192, "RGB", "uint8"), bytes(2 * MIB), metadata)
    many = file[: container.HEADER_BYTES] + 60 * chunk(b"q", bytes(9999)) + file[container.HEADER_BYTES :]
    counting = CountingReads(io.BytesIO(many))
    assert container.read_layout(counting).size == len(many)  # type: ignore[arg-type]
    assert counting.bytes_read <= 4096


def open_in_memory(file: bytes, directory: Path) -> IO[bytes]:
    return io.BytesIO(file)


def open_on_disk(file: bytes, directory: Path) -> IO[bytes]:
    path = directory / "claim.sdc"
    path.write_bytes(file)
    return path.open("rb")


@pytest.mark.parametrize("opened", [open_in_memory, open_on_disk])
@pytest.mark.parametrize("claim", [b"P" + varint(500 * MIB), b"e" + varint(16 * MIB)], ids=["payload", "metadata"])
def test_a_claim_of_many_bytes_on_a_short_file_takes_no_memory(
    claim: bytes, opened: Callable[[bytes, Path], IO[bytes]], tmp_path: Path
) -> None:
    file = head(65535, 65535) + claim + bytes(999)
    with opened(file, tmp_path) as fp:
        started = time.perf_counter()
        tracemalloc.start()
        try:
            with pytest.raises(TruncatedFileError):  # noqa: PT012 - which of the two raises depends on the claim
                layout = container.read_layout(fp)
                decoding.verify(fp, layout)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 4 * MIB
    assert time.perf_counter() - started < 1


@pytest.mark.parametrize(("payload_bytes", "overhead"), [(100, 25), (128, 26), (4869, 26), (16383, 26), (16384, 27)])
def test_overhead_of_a_plain_picture(payload_bytes: int, overhead: int) -> None:
    file = container.write(Header(512, 512, "RGB", "palette"), bytes(payload_bytes))
    assert len(file) - payload_bytes == overhead


def test_overhead_at_512_pixels_is_never_more_than_28_bytes() -> None:
    header = Header(512, 512, "RGB", "uint8")
    longest = bytes(header.max_payload_bytes)
    assert len(container.write(header, longest)) - len(longest) <= 28


# What the specification says


def section(title: str) -> str:
    return FORMAT.read_text("utf-8").split(f"## {title}\n")[1].split("\n## ")[0]


def test_limits_of_the_specification_are_those_of_the_code() -> None:
    stated = {name: int(value) for name, value in re.findall(r"^\| `([A-Z_]+)` \| (\d+) \|", section("Limits"), re.M)}
    constants = {name: value for name, value in vars(container).items() if name.isupper() and name[0] != "_"}
    assert stated == {
        name: value for name, value in constants.items() if isinstance(value, int) and name not in ("PAYLOAD", "ALPHA")
    }


def test_header_of_the_specification_is_that_of_the_code() -> None:
    rows = re.findall(r"^\| (\d+) \| (\d+) \|", section("Header"), re.M)
    ends = [int(offset) + int(length) for offset, length in rows]
    assert [int(offset) for offset, _ in rows] == [0, *ends[:-1]]
    assert ends[-1] == container.HEADER_BYTES
    assert f"`{container.SIGNATURE.hex(' ').upper()}`" in section("Header")


def test_numbers_of_the_specification_are_those_of_the_code() -> None:
    text = section("Header")
    codecs, modes = re.search(r"\| codec \| (.*) \|", text), re.search(r"\| mode \| (.*) \|", text)
    assert codecs is not None
    assert modes is not None
    assert {int(n): name for n, name in re.findall(r"(\d) `(\w+)`", codecs[1])} == CODECS.names
    assert {int(n): name for n, name in re.findall(r"(\d) `(\w+)`", modes[1])} == container.MODES


def test_chunks_of_the_specification_are_those_of_the_code() -> None:
    stated = re.findall(r"^\| `(\w)` \| (critical|ancillary) \|", section("Chunks"), re.M)
    ancillary = {ord(letter) for letter, kind in stated if kind == "ancillary"}
    assert ancillary == {*container.METADATA.values(), *container.DEFLATED.values()}
    assert {letter for letter, kind in stated if kind == "critical"} == {chr(container.PAYLOAD), chr(container.ALPHA)}
    assert all((kind == "ancillary") == letter.islower() for letter, kind in stated)


def test_container_imports_only_the_standard_library() -> None:
    tree = ast.parse(Path(container.__file__).read_text("utf-8"))
    imported: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            imported.add((node.module or "").split(".")[0])
        elif isinstance(node, ast.ImportFrom):
            assert node.module in ("bounded", "codecs", "errors", "signatures")
    assert imported <= sys.stdlib_module_names
