"""Feed mutated payloads to the compiled kernel of the codec ``context``, built with GCC's or Clang's sanitizers.

    python fuzz/fuzz_kernel.py [--runs N] [--seed K]

All memory accesses are checked, and all arithmetic for undefined behaviour. The kernel is built for that in a temporary
folder; the installed one is not touched. Each payload goes through one of the paths that
the processor can take, and one in some goes through the reference, too, which must give the same. A payload that breaks
something is kept in the working directory, as ``crash-SHA256.payload``.
"""

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
from fuzz_open import damaged_bytes
from rich.progress import track

import hatch_build
from pillow_sdc.errors import CorruptFileError
from pillow_sdc.format.codecs import ContextCodec
from pillow_sdc.format.context import kernel as context_kernel
from pillow_sdc.format.context import payload as context_payload
from pillow_sdc.format.context.kernel import Kernel, KernelSelection
from pillow_sdc.format.context.network import BAND

ROOT = Path(__file__).resolve().parent.parent

SANITIZERS = ["-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
LIBRARY = "PILLOW_SDC_FUZZ_LIBRARY"
"""Environment variable: path of a kernel built before; if set, this process fuzzes it."""

SHAPES = [(1, 1), (1, 7), (7, 1), (2, 3), (3, 2), (4, 5), (6, 6), (3, 12), (130, 1)]
TALL = 0.01
"""Fraction of the runs with more rows than a band."""
COMPARED = 50
"""One in this many payloads also goes through the reference."""


class Payload(NamedTuple):
    rows: int
    columns: int
    data: bytes


def seeds(draw: random.Random) -> list[Payload]:
    """Return sound payloads of all shapes, of steps from the smallest to the largest."""
    noise = np.random.default_rng(draw.randrange(1 << 32))
    payloads = []
    for rows, columns in SHAPES:
        for step in (1, 40, 819, 3000, 10240, 16383):
            codec = ContextCodec(trellis=draw.random() < 0.7, weighted=draw.random() < 0.5)
            latents = draw.choice((0.1, 1.0, 9.0)) * noise.standard_normal((4, rows, columns)).astype(np.float32)
            payloads.append(Payload(rows, columns, codec.encode_with_step(latents, step)))
    return payloads


def mutated(payload: Payload, draw: random.Random) -> Payload:
    """Return a mutated payload, most of the time of the same shape, with the same network."""
    head, stream = bytearray(payload.data[:3]), payload.data[3:]
    match draw.randrange(8):
        case 0:
            stream = draw.randbytes(draw.randrange(80))
        case 1:
            stream = bytes([draw.choice((0, 1, 127, 128, 255))]) * draw.randrange(200)
        case 2:
            step = draw.choice((1, 2, 16383, draw.randrange(1, 16384)))
            head[1:] = (step | draw.randrange(4) << 14).to_bytes(2, "little")
        case _:
            stream = damaged_bytes(stream, draw)
    rows, columns = payload[:2] if draw.random() < 0.8 else draw.choice(SHAPES[:-1])
    return Payload(rows, columns, bytes(head) + stream)


def outcome(payload: Payload, kernel: Kernel | None, *, truncated: bool) -> object:
    """Return the result of decoding a payload, or the message of the error."""
    decode = ContextCodec.decode_truncated if truncated else ContextCodec.decode
    with mock.patch.object(context_kernel, "selection", return_value=KernelSelection(kernel, "")):
        try:
            decoded = decode(payload.data, payload.rows, payload.columns)
        except CorruptFileError as error:
            return str(error)
    return decoded.latents.tobytes(), decoded.noise_variance


def write_anything(kernel: Kernel, draw: random.Random) -> None:
    """Encode latents and symbols that no picture has."""
    noise = np.random.default_rng(draw.randrange(1 << 32))
    rows, columns = draw.choice(SHAPES[:-1])
    codec = ContextCodec(trellis=draw.random() < 0.5)
    latents = (draw.choice((0.0, 1.0, 1e3, 1e30)) * noise.standard_normal((4, rows, columns))).astype(np.float32)
    step = draw.choice((1, 100, 16383))
    with mock.patch.object(context_kernel, "selection", return_value=KernelSelection(kernel, "")):
        codec.encode_with_step(latents, step)
        codec.reconstruct_with_step(latents, step)
    symbols = noise.integers(-(1 << draw.randrange(1, 21)), 1 << 20, (4, rows, columns))
    kernel.write(symbols, context_payload.entropy_model(codec.head(step)))


def fuzz(library: Path, runs: int, seed: int, last: Path) -> None:
    """Decode ``runs`` payloads; the file ``last`` always contains the current one."""
    draw = random.Random(seed)
    kernels = [Kernel(library, path) for path in Kernel(library).paths]
    with mock.patch.object(context_kernel, "selection", return_value=KernelSelection(None, "")):
        payloads = seeds(draw)
    tall = [payload for payload in payloads if payload.rows > BAND]
    short = [payload for payload in payloads if payload.rows <= BAND]
    for number in track(range(runs), disable=not sys.stderr.isatty()):
        payload = mutated(draw.choice(tall if draw.random() < TALL else short), draw)
        last.write_bytes(payload.data)
        kernel, truncated = draw.choice(kernels), draw.random() < 0.3
        found = outcome(payload, kernel, truncated=truncated)
        if number % COMPARED == 0:
            if outcome(payload, None, truncated=truncated) != found:
                raise AssertionError(f"{kernel.path} and the reference differ ({payload.rows}×{payload.columns})")
            write_anything(kernel, draw)
    print(f"{runs:,} payloads through {', '.join(kernel.path for kernel in kernels)}: nothing found")


def build(folder: Path) -> dict[str, str]:
    """Compile the kernel with sanitizers; return the environment that lets Python load it."""
    compiler = hatch_build.compiler_command()
    if compiler is None:
        return {}
    library = folder / hatch_build.LIBRARY.name
    problem = hatch_build.compiled(ROOT / hatch_build.SOURCE, library, SANITIZERS)
    if problem:
        sys.exit(problem)
    named = subprocess.run([*compiler, "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    return {
        LIBRARY: str(library),
        "LD_PRELOAD": named.stdout.strip(),
        "ASAN_OPTIONS": "detect_leaks=0",  # Python's
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "PYTHONMALLOC": "malloc",  # so that streams have addresses of their own
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3000, help="payloads")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if LIBRARY in os.environ:
        library = Path(os.environ[LIBRARY])
        fuzz(library, arguments.runs, arguments.seed, library.parent / "last")
        return
    with tempfile.TemporaryDirectory() as folder:
        environment = build(Path(folder))
        if not environment:
            print("there is no C compiler, and so no kernel to fuzz")
            return
        done = subprocess.run([sys.executable, *sys.argv], env=os.environ | environment, check=False)
        last = Path(folder, "last")
        if done.returncode not in (0, -signal.SIGINT, -signal.SIGTERM) and last.exists():  # not where it was stopped
            shutil.copy(last, f"crash-{hashlib.sha256(last.read_bytes()).hexdigest()[:16]}.payload")
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
