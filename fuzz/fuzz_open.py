"""Open, verify and load mutated files; only the errors that Pillow's users expect may come out.

    python fuzz/fuzz_open.py [--runs N] [--seconds S] [--seed K]

Mutations know the container: most repair the checksums behind them, so that damage gets past these to the codecs. Time
is held against that of honest files of the size that a file declares, and memory, for some of the files, against that
size. A file that breaks a promise is kept in the working directory, as ``crash-SHA256.sdc``. ``fuzz_with_atheris.py``
does the same, led by what code the files reach, and ``fuzz_kernel.py`` checks the memory that the codec ``context``'s
kernel reads and writes. With ``PILLOW_SDC_KERNEL=0`` the reference in Python is held against the promises instead.
"""

import argparse
import hashlib
import io
import itertools
import random
import statistics
import struct
import sys
import time
import tracemalloc
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from unittest import mock

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile
from rich.progress import track

import pillow_sdc
from pillow_sdc import models
from pillow_sdc.format import alpha, container
from pillow_sdc.format.codecs import CODECS, ContextCodec, PaletteCodec, QuantisedLatents
from pillow_sdc.format.context import kernel as context_kernel
from pillow_sdc.models.arrays import PerPicture

GOLDEN = Path(__file__).parent.parent / "tests" / "golden"

MAX_SEED_BYTES = 20_000
MAX_PIXELS = 1 << 11
"""Pillow refuses more than twice as many. The smaller the pictures, the more of them can be tried."""

TIME_FACTOR, TIME_SLACK = 3.0, 0.05
MEMORY_PER_PIXEL, MEMORY_FIXED = 64, 64 << 20
"""What SECURITY.md promises, the model aside."""

MEASURED, WITH_COMPACT, COMPARED = 32, 16, 8
"""One file in this many has its memory measured, is decoded by the embedded model, or (if it is
of the codec ``context``) is decoded both by the compiled kernel and by the reference in Python."""

METADATA = {"exif": b"MM", "dpi": bytes(range(1, 9)), "icc_profile": bytes(99), "xmp": b"<rdf:li/>" * 9}
"""Some of which are deflated, and some not."""

SLOWEST = {codec.name: codec() for codec in CODECS} | {ContextCodec.name: ContextCodec(quality=100)}

Damage = Callable[[bytes, random.Random], bytes]


class SmallestAutoencoder:
    """Gives each latent an 8×8 square of one colour."""

    def decode(self, latents: NDArray[np.float32], noise_variance: PerPicture) -> NDArray[np.float32]:
        return latents[..., :3, :, :].repeat(8, axis=-2).repeat(8, axis=-1)


class SmallestModels:
    name, vae, device, denoiser = "smallest", None, "cpu", None
    autoencoder = SmallestAutoencoder()


def pieces_of(file: bytes) -> tuple[bytearray, list[tuple[int, bytearray]], bytes]:
    """Return a file's header without its checksum, types and data of its chunks, and what follows them."""
    header, position = bytearray(file[: container.HEADER_BYTES - 4]), container.HEADER_BYTES
    chunks: list[tuple[int, bytearray]] = []
    while position < len(file) and len(chunks) < 100:
        letter, length, shift, at = file[position], 0, 0, position + 1
        while at < len(file) and shift < 35:
            length |= (file[at] & 127) << shift
            shift, at = shift + 7, at + 1
            if file[at - 1] < 128:
                break
        chunks.append((letter, bytearray(file[at : at + length])))
        position = at + length + 4
        if letter == container.PAYLOAD:
            break
    return header, chunks, file[position:]


def joined(header: bytes, chunks: list[tuple[int, bytearray]], rest: bytes) -> bytes:
    parts = [header, struct.pack("<I", zlib.crc32(header))]
    for letter, data in chunks:
        head = bytes([letter]) + varint(len(data))
        parts += [head, data, struct.pack("<I", zlib.crc32(head + data))]
    return b"".join([*parts, rest])


def varint(value: int) -> bytes:
    groups = []
    while value >= 0x80:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])


def damaged_bytes(data: bytes, draw: random.Random) -> bytes:
    """Flip, overwrite, insert, remove or repeat some bytes."""
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 5))):
        start = draw.randrange(len(changed) + 1)
        length = min(draw.choice((1, 1, 2, 4, 16, 100)), len(changed) - start)
        match draw.randrange(6):
            case 0 if start < len(changed):
                changed[start] ^= 1 << draw.randrange(8)
            case 1:
                changed[start : start + length] = draw.randbytes(length)
            case 2:
                changed[start:start] = draw.choice((draw.randbytes(length), bytes(length), b"\xff" * length))
            case 3:
                del changed[start : start + length]
            case 4:
                changed[start:start] = changed[start : start + length]
            case 5:
                del changed[start:]
    return bytes(changed)


def mutated(file: bytes, draw: random.Random, damage: Damage = damaged_bytes) -> bytes:
    """Return a file that resembles ``file``; most of the time its checksums are right."""
    if draw.random() < 0.1 or len(file) < container.HEADER_BYTES:
        return damage(file, draw)
    header, chunks, rest = pieces_of(file)
    for _ in range(draw.choice((1, 1, 2, 3))):
        match draw.randrange(9):
            case 0:
                side, small = draw.choice((11, 13)), draw.randrange(1, 300)
                struct.pack_into("<H", header, side, draw.choice((small, small, small, draw.randrange(1 << 16))))
            case 1:
                header[draw.choice((8, 8, 10, 10, draw.randrange(len(header))))] = draw.choice((0, 1, 2, 3, 4, 255))
            case 2 if chunks:
                letter, data = draw.choice(chunks)
                place = draw.choice((0, -1, draw.randrange(len(chunks) + 1)))
                chunks.insert(place, (draw.choice((letter, *b"AdefixyPqQ")), bytearray(data)))
            case 3 if chunks:
                del chunks[draw.randrange(len(chunks))]
            case 4:
                chunks.insert(0, (draw.choice(b"fjy"), bytearray(damage(deflated_metadata(draw), draw))))
            case _ if chunks:
                letter, data = chunks[place := draw.randrange(len(chunks))]
                chunks[place] = letter, bytearray(damage(bytes(data), draw))
    return joined(header, chunks, rest)


def deflated_metadata(draw: random.Random) -> bytes:
    """Return the data of a chunk of deflated metadata, which may hold more or less than they claim."""
    length = draw.choice((0, 9, 1 << 10, 1 << 20))
    claimed = draw.choice((length, length, length + 1, max(0, length - 1), draw.randrange(1 << 35)))
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    return varint(claimed) + deflater.compress(bytes(length)) + deflater.flush()


@cache
def seconds_of_honest_file(codec: str, mode: str, rows: int, columns: int) -> float:
    """Return the seconds that a file full of detail with this many latents takes."""
    header = container.Header(8 * columns, 8 * rows, mode, codec)
    noise = np.random.default_rng(0)
    payload = SLOWEST[codec].encode(noise.standard_normal((4, rows, columns)).astype(np.float32))
    plane = alpha.encode(noise.integers(0, 256, (8 * rows, 8 * columns), np.uint8)) if header.has_alpha else b""
    file = container.write(header, payload, alpha=plane)

    Image.MAX_IMAGE_PIXELS = None
    try:
        return statistics.median(seconds_of(file, Counter()) for _ in range(3))
    finally:
        Image.MAX_IMAGE_PIXELS = MAX_PIXELS


def open_verify_load(file: bytes, outcomes: Counter[str]) -> None:
    """Do what users do with a file; raise what breaks a promise."""
    chosen = zlib.crc32(file)
    ImageFile.LOAD_TRUNCATED_IMAGES = chosen % 3 == 0
    try:
        with Image.open(io.BytesIO(file), formats=["SDC"]) as image:
            image.verify()
        outcomes["verified"] += 1
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        outcomes[f"verify: {type(error).__name__}"] += 1
    try:
        with Image.open(io.BytesIO(file), formats=["SDC"]) as image:
            if chosen % 5 == 0:
                image.draft(None, (image.width // 8, image.height // 8))
            image.load()
        outcomes["loaded"] += 1
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        outcomes[f"load: {type(error).__name__}"] += 1


def check(file: bytes, outcomes: Counter[str], *, timed: bool = True) -> None:
    """Hold a file against all that is promised; if not ``timed``, against all but the time."""
    try:
        header = container.read_layout(io.BytesIO(file)).header
    except pillow_sdc.SdcError:
        header = container.Header(1, 1, "L", "uint8")
    if header.width * header.height > 2 * MAX_PIXELS:  # which Pillow refuses
        header = header._replace(width=1, height=1)
    if zlib.crc32(file) % MEASURED == 0:
        peak = memory_of(file, outcomes)
        allowed = MEMORY_PER_PIXEL * header.width * header.height + MEMORY_FIXED + 4 * len(file)
        if peak > allowed:
            raise AssertionError(f"took {peak:,} bytes of memory, more than {allowed:,}")
        return
    seconds = seconds_of(file, outcomes)
    smaller = [1 << (length.bit_length() - 1) for length in header.latent_shape]
    if timed and seconds > time_allowed(header, smaller):
        allowed = time_allowed(header, header.latent_shape)
        seconds = min(seconds, *(seconds_of(file, Counter()) for _ in range(3)))
        if seconds > allowed:
            raise AssertionError(f"took {seconds:.3f} s, more than the {allowed:.3f} s that honest files are given")


def compare(file: bytes) -> bool:
    """Decode a file's payload by the kernel and by the reference, if it is one of theirs; return whether it is."""
    kernel = context_kernel.selection().kernel
    try:
        layout = container.read_layout(io.BytesIO(file))
    except pillow_sdc.SdcError:
        return False
    header = layout.header
    if kernel is None or header.codec != "context" or header.width * header.height > 2 * MAX_PIXELS:
        return False
    start = layout.payload.position + layout.payload.head_length
    payload = file[start : start + layout.payload.length]
    for decode in (ContextCodec.decode, ContextCodec.decode_truncated):
        by_kernel = latents_or_error(decode, payload, header)
        reference = context_kernel.KernelSelection(None, "to compare")
        with mock.patch.object(context_kernel, "selection", return_value=reference):
            by_reference = latents_or_error(decode, payload, header)
        if by_kernel != by_reference:
            raise AssertionError(f"{decode.__name__}: the kernel and the reference differ")
    return True


def latents_or_error(
    decode: Callable[[bytes, int, int], QuantisedLatents], payload: bytes, header: container.Header
) -> tuple[object, ...]:
    try:
        decoded = decode(payload, *header.latent_shape)
    except pillow_sdc.SdcError as error:
        return type(error), str(error)
    return decoded.latents.tobytes(), decoded.noise_variance


def memory_of(file: bytes, outcomes: Counter[str]) -> int:
    """Return the most bytes that are taken at a time."""
    tracemalloc.start()
    try:
        open_verify_load(file, outcomes)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def seconds_of(file: bytes, outcomes: Counter[str]) -> float:
    start = time.thread_time()
    open_verify_load(file, outcomes)
    return time.thread_time() - start


def time_allowed(header: container.Header, latent_shape: Sequence[int]) -> float:
    return TIME_FACTOR * seconds_of_honest_file(header.codec, header.mode, *latent_shape) + TIME_SLACK


def seeds() -> list[bytes]:
    """Return small files of every codec, mode and kind of alpha, and the golden ones that are small."""
    noise = np.random.default_rng(0)
    codecs = [*(codec() for codec in CODECS), PaletteCodec(palette_size=3), ContextCodec(trellis=False)]
    planes = [[255], [0, 255], [0, 9, 255], range(256)]
    files = [path.read_bytes() for path in sorted(GOLDEN.rglob("*.sdc"))]
    for codec, mode, levels in itertools.product(codecs, container.MODES.values(), planes):
        width, height = (int(length) for length in noise.integers(1, 41, 2))
        header = container.Header(width, height, mode, codec.name)
        payload = codec.encode(noise.standard_normal((4, *header.latent_shape)).astype(np.float32))
        plane = alpha.encode(noise.choice(np.array(levels, np.uint8), (height, width))) if header.has_alpha else b""
        files.append(container.write(header, payload, METADATA, plane))

    def is_small(file: bytes) -> bool:
        try:
            header = container.read_layout(io.BytesIO(file)).header
        except pillow_sdc.SdcError:
            return len(file) < MAX_SEED_BYTES
        return len(file) < MAX_SEED_BYTES and header.width * header.height <= 2 * MAX_PIXELS

    return [file for file in files if is_small(file)]


def fuzz(runs: int | None, seconds: float | None, seed: int) -> Counter[str]:
    """Check a number of files, or files for a number of seconds."""
    compact, smallest = models.get_models, lambda settings: SmallestModels()
    set_up()
    draw, files, outcomes = random.Random(seed), seeds(), Counter[str]()
    end = None if seconds is None else time.monotonic() + seconds
    compact(pillow_sdc.settings()).autoencoder.decode(np.zeros((4, 1, 1), np.float32), 0.0)
    for number in track(range(runs or sys.maxsize), disable=runs is None or not sys.stderr.isatty()):
        if end is not None and time.monotonic() > end:
            break
        with_compact = number % WITH_COMPACT == 0
        models.get_models = compact if with_compact else smallest
        file = mutated(draw.choice(files), draw)
        try:
            check(file, outcomes, timed=not with_compact)
            if number % COMPARED == 0 and compare(file):
                outcomes["compared"] += 1
        except BaseException:
            Path(f"crash-{hashlib.sha256(file).hexdigest()[:16]}.sdc").write_bytes(file)
            raise
        outcomes["files"] += 1
    return outcomes


def set_up() -> None:
    """Have warnings raised, and few pixels called many."""
    warnings.simplefilter("error")
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    models.get_models = lambda settings: SmallestModels()
    for codec in SLOWEST:
        seconds_of_honest_file(codec, "RGBA", 1, 1)  # imports what is imported when it is needed
    seconds_of_honest_file.cache_clear()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, help="files")
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.runs is None and arguments.seconds is None:
        parser.error("say how many --runs, or for how many --seconds")
    for outcome, count in fuzz(arguments.runs, arguments.seconds, arguments.seed).most_common():
        print(f"{count:>9,}  {outcome}")


if __name__ == "__main__":
    main()
