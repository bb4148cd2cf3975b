"""The SDC container, format version 1: bytes to header and chunks, and back.

``docs/format.md`` specifies the layout. This module checks every length and checksum before it relies on them. It knows
nothing of latents, models or Pillow, and gets the names of codecs from the registry. It imports only the standard
library, so that opening a file is fast.
"""

import struct
import zlib
from collections.abc import Mapping
from typing import IO, NamedTuple

from ..errors import CorruptFileError, NotSdcError, OptionError, TruncatedFileError, UnsupportedFileError
from .bounded import deflate, inflate
from .codecs import CODECS
from .signatures import kind_of

# The constants of the format. docs/format.md lists the same, and a test compares the two.
SIGNATURE = b"\x89SDC\r\n\n"
FORMAT_VERSION = 1
MAX_DIMENSION = 65535
MAX_CHUNKS = 64
MAX_METADATA_BYTES = 16 * 1024 * 1024
MAX_PAYLOAD_BYTES_PER_LATENT = 8
MAX_PAYLOAD_BYTES_FIXED = 4096
MAX_ALPHA_BYTES_PER_PIXEL = 2
MAX_ALPHA_BYTES_FIXED = 4096
PIXELS_PER_LATENT = 8
"""Side, in pixels, of the square that one latent covers."""

MODES = {0: "L", 1: "RGB", 2: "LA", 3: "RGBA"}
"""Pillow modes by the header's mode number; bit 0 means colour, bit 1 alpha."""

LATENT_SPACES = {1: "sd-v1"}
"""Latent spaces by number. They are enumerated so that a file can never name a model to download."""

PAYLOAD = ord("P")
ALPHA = ord("A")
METADATA = {"exif": ord("e"), "icc_profile": ord("i"), "xmp": ord("x"), "dpi": ord("d")}
"""Types of ancillary chunks, by the key of their content in Pillow's ``Image.info``."""

DEFLATED = {"exif": ord("f"), "icc_profile": ord("j"), "xmp": ord("y")}
"""Types of the chunks with the same content as those in :data:`METADATA`, deflated."""

_KEYS = {chunk_type: key for table in (METADATA, DEFLATED) for key, chunk_type in table.items()}
_DEFLATED = frozenset(DEFLATED.values())
_ANCILLARY_BIT = 0x20  # as in PNG: readers may skip a chunk with a lower-case type that they do not know
_HEADER = struct.Struct(f"<{len(SIGNATURE)}sBBBBHH")
_CRC = struct.Struct("<I")
_DPI = struct.Struct("<II")
_DPI_UNIT = 1000  # parts of a pixel per inch
_READ_BLOCK = 1 << 20
_MAX_VARINT_BYTES = 5

_TOO_MUCH_METADATA = f"metadata exceeds the limit of {MAX_METADATA_BYTES} bytes"

HEADER_BYTES = _HEADER.size + _CRC.size


class Header(NamedTuple):
    """The header, the fixed 19 bytes at the start of a file.

    Attributes:
        width, height: Size of the picture in pixels, 1 to 65,535.
        mode: Pillow mode, one of the values of :data:`MODES`.
        codec: Name of the latent codec of the payload, one of :data:`.codecs.CODECS`.
        latent_space: Latent space, one of the values of :data:`LATENT_SPACES`.
    """

    width: int
    height: int
    mode: str
    codec: str
    latent_space: str = "sd-v1"

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.width, self.height

    @property
    def has_alpha(self) -> bool:
        """Whether the file has an alpha chunk."""
        return self.mode.endswith("A")

    @property
    def latent_shape(self) -> tuple[int, int]:
        """Rows and columns of latents that cover the picture."""
        return -(-self.height // PIXELS_PER_LATENT), -(-self.width // PIXELS_PER_LATENT)

    @property
    def max_payload_bytes(self) -> int:
        """Largest length of a payload; a longer one is refused unread."""
        rows, columns = self.latent_shape
        return MAX_PAYLOAD_BYTES_FIXED + MAX_PAYLOAD_BYTES_PER_LATENT * rows * columns

    @property
    def max_alpha_bytes(self) -> int:
        """Largest length of an alpha chunk; a longer one is refused unread."""
        return MAX_ALPHA_BYTES_FIXED + MAX_ALPHA_BYTES_PER_PIXEL * self.width * self.height


class Chunk(NamedTuple):
    """A chunk's place in its file: type byte, position of the first byte, length of its head and of its data."""

    type: int
    position: int
    head_length: int
    length: int


class Layout(NamedTuple):
    """A file's header and its chunks, the payload last."""

    header: Header
    chunks: tuple[Chunk, ...]

    @property
    def payload(self) -> Chunk:
        """The chunk with the latents."""
        return self.chunks[-1]

    @property
    def alpha(self) -> Chunk | None:
        """The chunk with the alpha plane, in the modes with alpha."""
        return next((chunk for chunk in self.chunks if chunk.type == ALPHA), None)

    @property
    def size(self) -> int:
        """Bytes from the signature to the end of the payload."""
        return self.payload.position + self.payload.head_length + self.payload.length + _CRC.size - self._start

    @property
    def _start(self) -> int:
        return self.chunks[0].position - HEADER_BYTES


class Content(NamedTuple):
    """The picture of a file, still coded.

    Attributes:
        header: The file's header.
        payload: The latents, encoded by the codec named in the header.
        alpha: The alpha plane, encoded by :mod:`pillow_sdc.format.alpha`; empty in modes without alpha.
    """

    header: Header
    payload: bytes
    alpha: bytes = b""


def accepts(prefix: bytes) -> bool:
    """Return whether a file that begins with ``prefix`` (of any length) is an SDC file."""
    return prefix.startswith(SIGNATURE)


def check_signature(head: bytes) -> None:
    """Refuse a file without the SDC signature.

    Args:
        head: The beginning of the file: at least 16 bytes, or all of it.

    Raises:
        NotSdcError: The signature is missing (also a ``SyntaxError``); the message names the format if it is known.
    """
    if not accepts(head):
        kind = kind_of(head)
        raise NotSdcError(f"not an SDC file, but {kind}" if kind else "not an SDC file")


def write(header: Header, payload: bytes, metadata: Mapping[str, bytes] | None = None, alpha: bytes = b"") -> bytes:
    """Return the bytes of a whole file.

    Args:
        header: The file's header.
        payload: The latents, encoded by the codec named in the header.
        metadata: Contents of ancillary chunks by their key in :data:`METADATA`.
        alpha: The alpha plane, encoded by :mod:`pillow_sdc.format.alpha`; empty in modes without alpha.

    Raises:
        ValueError: A size, the payload or the metadata exceeds the format's limits, or a name is unknown.
    """
    metadata = metadata or {}
    check(header, metadata)
    for name, data, limit in (("payload", payload, header.max_payload_bytes), ("alpha", alpha, header.max_alpha_bytes)):
        if len(data) > limit:
            raise ValueError(_too_long(name, len(data), header, limit))
    if header.has_alpha != bool(alpha):
        raise ValueError(f"mode {header.mode} with {len(alpha)} bytes of alpha")
    chunks = [_metadata_chunk(key, data) for key, data in metadata.items()]
    if alpha:
        chunks.append(_chunk(ALPHA, alpha))
    head = _HEADER.pack(
        SIGNATURE,
        FORMAT_VERSION,
        _key_of(CODECS.names, header.codec),
        _key_of(LATENT_SPACES, header.latent_space),
        _key_of(MODES, header.mode),
        header.width,
        header.height,
    )
    return b"".join([head, _CRC.pack(zlib.crc32(head)), *chunks, _chunk(PAYLOAD, payload)])


def payload_room(file_bytes: int, metadata: Mapping[str, bytes], alpha: bytes = b"") -> int:
    """Return the length of the longest payload with which a file has no more than so many bytes; negative for none."""
    room = file_bytes - HEADER_BYTES - sum(bytes_beside_payload(metadata, alpha).values())
    payload = room - len(_chunk(PAYLOAD, b""))
    while payload > 0 and len(_chunk_head(PAYLOAD, payload)) + payload + _CRC.size > room:
        payload -= 1
    return payload


def bytes_beside_payload(metadata: Mapping[str, bytes], alpha: bytes = b"") -> dict[str, int]:
    """Return the bytes that each chunk but the payload's takes, by its key in :data:`METADATA`, or ``alpha``."""
    sizes = {key: len(_metadata_chunk(key, data)) for key, data in metadata.items()}
    return sizes | ({"alpha": len(_chunk(ALPHA, alpha))} if alpha else {})


def check(header: Header, metadata: Mapping[str, bytes]) -> None:
    """Refuse what :func:`write` would, before the work that a payload takes.

    Raises:
        ValueError: A size or the metadata exceeds the format's limits, or a name is not the format's.
    """
    check_size(*header.size)
    if not metadata.keys() <= METADATA.keys():
        raise ValueError(f"{min(metadata.keys() - METADATA.keys())!r} is none of {', '.join(METADATA)}")
    metadata_bytes = sum(map(len, metadata.values()))
    if metadata_bytes > MAX_METADATA_BYTES:
        raise ValueError(f"metadata of {metadata_bytes} bytes exceeds the format's limit of {MAX_METADATA_BYTES}")


def check_size(width: int, height: int) -> None:
    """Refuse a picture that is empty or too large.

    Raises:
        OptionError: A side is outside the format's range (also a ``ValueError``).
    """
    for name, value in (("width", width), ("height", height)):
        if not 1 <= value <= MAX_DIMENSION:
            raise OptionError(f"{name} {value} is outside the format's range of 1 to {MAX_DIMENSION}")


def read_layout(fp: IO[bytes]) -> Layout:
    """Read the header and the heads of all chunks, from the file's current position; skip the chunks' data.

    Raises:
        NotSdcError: The signature is missing.
        UnsupportedFileError: A newer format version, an unknown number in the header, or an unknown critical chunk.
        CorruptFileError: The file is damaged.
    """
    start = fp.tell()
    header = _read_header(fp)
    position = start + HEADER_BYTES
    chunks: list[Chunk] = []
    metadata_bytes = 0
    while not chunks or chunks[-1].type != PAYLOAD:
        if len(chunks) == MAX_CHUNKS:
            raise CorruptFileError(f"no payload among the first {MAX_CHUNKS} chunks")
        try:
            chunk = _read_chunk_head(fp, position)
        except EOFError:
            fp.seek(start)
            size = len(read_up_to(fp, position + _CRC.size - start))  # it has less
            raise TruncatedFileError(
                f"the file ends too early, after {size:,} bytes: all of the picture is missing"
            ) from None
        if chunk.type == PAYLOAD:
            if chunk.length > header.max_payload_bytes:
                raise CorruptFileError(_too_long("payload", chunk.length, header, header.max_payload_bytes))
        elif chunk.type == ALPHA and header.has_alpha:
            if chunk.length > header.max_alpha_bytes:
                raise CorruptFileError(_too_long("alpha", chunk.length, header, header.max_alpha_bytes))
            _check_unique(chunk, chunks)
        else:
            _check_ancillary(chunk, chunks)
            metadata_bytes += chunk.length
            if metadata_bytes > MAX_METADATA_BYTES:
                raise CorruptFileError(_TOO_MUCH_METADATA)
        chunks.append(chunk)
        position += chunk.head_length + chunk.length + _CRC.size
        fp.seek(position)
    layout = Layout(header, tuple(chunks))
    if header.has_alpha and layout.alpha is None:
        raise CorruptFileError(f"a picture of mode {header.mode} without an alpha chunk")
    return layout


def read_chunk(fp: IO[bytes], chunk: Chunk) -> bytes:
    """Return the data of a chunk after verifying its checksum.

    Raises:
        TruncatedFileError: The file ends within the chunk.
        CorruptFileError: The checksum does not match.
    """
    fp.seek(chunk.position)
    head, data, crc = (read_up_to(fp, length) for length in (chunk.head_length, chunk.length, _CRC.size))
    if missing := chunk.head_length + chunk.length + _CRC.size - len(head) - len(data) - len(crc):
        least = "" if chunk.type == PAYLOAD else "at least "
        raise TruncatedFileError(f"the file ends {least}{missing:,} byte{'s' if missing > 1 else ''} too early")
    if zlib.crc32(data, zlib.crc32(head)) != _CRC.unpack(crc)[0]:
        raise CorruptFileError(f"checksum of chunk {chr(chunk.type)!r} does not match: the file is damaged")
    return data


def read_content(fp: IO[bytes], layout: Layout) -> Content:
    """Return the coded picture of a file after verifying the checksums.

    Raises:
        TruncatedFileError: The file ends too early.
        CorruptFileError: A checksum does not match.
    """
    payload = read_chunk(fp, layout.payload)
    return Content(layout.header, payload, b"" if layout.alpha is None else read_chunk(fp, layout.alpha))


def read_truncated_chunk(fp: IO[bytes], chunk: Chunk) -> bytes | None:
    """Return the available data of a chunk that the end of the file cuts off; ``None`` if the chunk is complete."""
    fp.seek(chunk.position + chunk.head_length)
    data = read_up_to(fp, chunk.length + _CRC.size)
    return None if len(data) == chunk.length + _CRC.size else data[: chunk.length]


def read_metadata(fp: IO[bytes], layout: Layout) -> dict[str, bytes]:
    """Return the contents of the metadata chunks that this version knows, by their key in :data:`METADATA`.

    Raises:
        CorruptFileError: A chunk is damaged, or the contents exceed the limit.
    """
    metadata = {_KEYS[chunk.type]: read_chunk(fp, chunk) for chunk in layout.chunks if chunk.type in _KEYS}
    ancillary = [chunk for chunk in layout.chunks if chunk.type & _ANCILLARY_BIT]
    deflated = {chunk: _split_varint(metadata[_KEYS[chunk.type]]) for chunk in ancillary if chunk.type in _DEFLATED}
    if sum(deflated[chunk][0] if chunk in deflated else chunk.length for chunk in ancillary) > MAX_METADATA_BYTES:
        raise CorruptFileError(_TOO_MUCH_METADATA)
    for chunk, (length, stream) in deflated.items():
        metadata[_KEYS[chunk.type]], rest = inflate(stream, length)
        if rest:
            raise CorruptFileError(f"chunk {chr(chunk.type)!r} has {len(rest)} bytes after its deflate stream")
    if "dpi" in metadata:
        unpack_dpi(metadata["dpi"])  # refuses an invalid one
    return metadata


def read_up_to(fp: IO[bytes], length: int) -> bytes:
    """Return the next ``length`` bytes of a file, or fewer if it ends before.

    A raw file or a socket may return fewer bytes than requested before its end; only an empty read is the end. Memory
    grows with the file's content, not with the length that it claims.
    """
    blocks = []
    while length and (block := fp.read(min(length, _READ_BLOCK))):
        blocks.append(block)
        length -= len(block)
    return b"".join(blocks)


def pack_dpi(dpi: tuple[float, float]) -> bytes:
    """Return the chunk data for a resolution in pixels per inch, horizontal and vertical.

    Raises:
        ValueError: One of them is not a number from 0.001 to 4,294,967.295.
    """
    parts = [round(value * _DPI_UNIT) if 0 < value < 2**32 else 0 for value in dpi]
    if not all(0 < part < 2**32 for part in parts):
        raise ValueError(f"dpi {dpi[0]} × {dpi[1]}; each must be a number from 0.001 to 4294967.295")
    return _DPI.pack(*parts)


def unpack_dpi(data: bytes) -> tuple[float, float]:
    """Return the resolution in pixels per inch from the chunk data.

    Raises:
        CorruptFileError: The data are not two positive numbers.
    """
    if len(data) != _DPI.size or 0 in (parts := _DPI.unpack(data)):
        raise CorruptFileError("the chunk for the resolution does not hold two positive numbers")
    return parts[0] / _DPI_UNIT, parts[1] / _DPI_UNIT


def _read_header(fp: IO[bytes]) -> Header:
    head = read_up_to(fp, HEADER_BYTES)
    check_signature(head)
    if len(head) > len(SIGNATURE) and head[len(SIGNATURE)] != FORMAT_VERSION:
        # Only signature and version keep their places in later versions, so the version is checked first.
        raise UnsupportedFileError(
            f"format version {head[len(SIGNATURE)]} is not supported: this is version {FORMAT_VERSION}'s reader"
        )
    if len(head) < HEADER_BYTES:
        raise TruncatedFileError(
            f"the file ends within its header, after {len(head)} of {HEADER_BYTES} bytes: all of the picture is missing"
        )
    fields, crc = head[: _HEADER.size], head[_HEADER.size :]
    if zlib.crc32(fields) != _CRC.unpack(crc)[0]:
        raise CorruptFileError("checksum of the header does not match: the file is damaged")
    _, _, codec_id, latent_space_id, mode_id, width, height = _HEADER.unpack(fields)
    if width == 0 or height == 0:
        raise CorruptFileError(f"size {width}×{height}: the smallest picture is 1×1")
    for name, number, table in (
        ("codec", codec_id, CODECS.names),
        ("latent space", latent_space_id, LATENT_SPACES),
        ("mode", mode_id, MODES),
    ):
        if number not in table:
            raise UnsupportedFileError(f"{name} number {number} is unknown to this version")
    return Header(width, height, MODES[mode_id], CODECS.names[codec_id], LATENT_SPACES[latent_space_id])


def _read_chunk_head(fp: IO[bytes], position: int) -> Chunk:
    """Read the head of a chunk from the file's current position.

    Raises:
        EOFError: The file ends before or within the head.
        CorruptFileError: The head is damaged.
    """
    (chunk_type,) = _read(fp, 1)
    if not chr(chunk_type).isascii() or not chr(chunk_type).isalpha():
        raise CorruptFileError(f"chunk type {chunk_type:#04x} is not a letter: the file is damaged")
    length = _read(fp, 1)
    while length[-1] >= 0x80 and len(length) < _MAX_VARINT_BYTES:
        length += _read(fp, 1)
    return Chunk(chunk_type, position, 1 + len(length), _split_varint(length)[0])


def _split_varint(data: bytes) -> tuple[int, bytes]:
    """Return the varint that data begin with, and the bytes after it."""
    value = 0
    for place, byte in enumerate(data[:_MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            if byte == 0 and place:
                raise CorruptFileError("a chunk's length is padded with zeros: the file is damaged")
            return value, data[place + 1 :]
    if len(data) < _MAX_VARINT_BYTES:
        raise CorruptFileError("a chunk ends within the length of what it holds: the file is damaged")
    raise CorruptFileError("a chunk's length has more than five bytes: the file is damaged")


def _check_ancillary(chunk: Chunk, before: list[Chunk]) -> None:
    if not chunk.type & _ANCILLARY_BIT:
        raise UnsupportedFileError(f"critical chunk {chr(chunk.type)!r} is unknown to this version")
    if chunk.type in _KEYS:
        _check_unique(chunk, before)


def _check_unique(chunk: Chunk, before: list[Chunk]) -> None:
    for other in before:
        if other.type == chunk.type:
            raise CorruptFileError(f"chunk {chr(chunk.type)!r} occurs twice")
        if chunk.type in _KEYS and _KEYS.get(other.type) == _KEYS[chunk.type]:
            raise CorruptFileError(f"chunk {chr(chunk.type)!r} holds what chunk {chr(other.type)!r} holds already")


def _too_long(name: str, length: int, header: Header, limit: int) -> str:
    return f"{name} length {length} exceeds the {header.width}×{header.height} picture's limit of {limit}"


def _read(fp: IO[bytes], length: int) -> bytes:
    data = read_up_to(fp, length)
    if len(data) < length:
        raise EOFError
    return data


def _metadata_chunk(key: str, data: bytes) -> bytes:
    """Return the chunk for metadata, deflated if that is shorter."""
    plain = _chunk(METADATA[key], data)
    if key not in DEFLATED:
        return plain
    return min(plain, _chunk(DEFLATED[key], _varint(len(data)) + deflate(data)), key=len)


def _chunk(chunk_type: int, data: bytes) -> bytes:
    head = _chunk_head(chunk_type, len(data))
    return head + data + _CRC.pack(zlib.crc32(data, zlib.crc32(head)))


def _chunk_head(chunk_type: int, length: int) -> bytes:
    return bytes([chunk_type]) + _varint(length)


def _varint(value: int) -> bytes:
    groups = bytearray()
    while value >= 0x80:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)


def _key_of(table: Mapping[int, str], name: str) -> int:
    for key, value in table.items():
        if value == name:
            return key
    raise ValueError(f"{name!r} is not one of {', '.join(table.values())}")
