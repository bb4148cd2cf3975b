"""Compare what the embedded networks compute on a processor without VNNI with what they compute on this one.

    python benchmarks/without_vnni.py PICTURE WEIGHTS [--side PIXELS] [--cpu MODEL] [--files FOLDER]

Processors without VNNI add pairs of 8-bit products in 16 bits, and their sums can saturate. One of them is emulated by
``qemu-x86_64`` (Debian's package qemu-user), slowly: the values are right, the time means nothing. WEIGHTS is the
folder of float weights from which ``training.quantise`` made the networks.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pillow_sdc.models.compact import WEIGHTS

NOISE_VARIANCES = 0.0, 0.03

COMPUTE = """
import sys
import numpy, onnxruntime
folder, inputs, outputs = sys.argv[1:]
given, computed = numpy.load(inputs), {}
for key in given.files:
    name, number, *_ = key.split("/")
    if (run := f"{name}/{number}") not in computed:
        feeds = {other.split("/")[2]: given[other] for other in given.files if other.startswith(run + "/")}
        session = onnxruntime.InferenceSession(f"{folder}/{name}.onnx", providers=["CPUExecutionProvider"])
        (computed[run],) = session.run(None, feeds)
numpy.savez(outputs, **computed)
"""
"""Without anything of the package, which would be slow to import in the emulator."""

Arrays = dict[str, NDArray[np.float32]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("weights", type=Path, help="folder of float weights")
    parser.add_argument("--side", type=int, default=96, help="of the square that is cut from the picture's middle")
    parser.add_argument("--cpu", default="Haswell", help="as qemu-x86_64 -cpu help names it")
    parser.add_argument("--files", type=Path, default=WEIGHTS, help="folder of .onnx files")
    arguments = parser.parse_args()
    given, exact = in_float(middle(arguments.picture, arguments.side), arguments.weights)
    here = computed([], arguments.files, given)
    there = computed(["qemu-x86_64", "-cpu", arguments.cpu], arguments.files, given)
    print(f"{'':20}{'MSE here':>12}{arguments.cpu:>12}{'PSNR here':>12}{arguments.cpu:>12}{'largest step apart':>20}")
    for run, right in exact.items():
        errors = [float(np.mean((right - outputs[run]) ** 2)) for outputs in (here, there)]
        ratios = [10 * np.log10(4 / error) for error in errors]
        apart = np.abs(here[run] - there[run]).max()
        print(f"{run:20}{errors[0]:12.6f}{errors[1]:12.6f}{ratios[0]:12.2f}{ratios[1]:12.2f}{apart:20.5f}")


def middle(path: Path, side: int) -> NDArray[np.float32]:
    """Return the pixels ``(1, 3, side, side)`` of the middle of a picture."""
    with Image.open(path) as picture:
        left, top = ((length - side) // 2 for length in picture.size)
        cut = np.asarray(picture.convert("RGB").crop((left, top, left + side, top + side)), np.float32)
    return cut.transpose(2, 0, 1)[None] / np.float32(127.5) - 1


def in_float(pixels: NDArray[np.float32], folder: Path) -> tuple[Arrays, Arrays]:
    """Return the inputs, by network, number and name, and what the networks in float32 compute from them."""
    import torch
    from safetensors.torch import load_file

    from training.networks import Decoder, Encoder

    encoder, decoder = Encoder(), Decoder()
    for network, name in ((encoder, "encoder"), (decoder, "decoder")):
        network.load_state_dict(load_file(folder / f"{name}.safetensors"))
    random = np.random.default_rng(0)
    given: Arrays = {"encoder/0/pixels": pixels}
    with torch.inference_mode():
        latents = encoder(torch.from_numpy(pixels)).numpy()
        exact: Arrays = {"encoder/0": latents}
        for i, variance in enumerate(NOISE_VARIANCES):
            noisy = (latents + random.normal(0, variance**0.5, latents.shape)).astype(np.float32)
            variances = np.array([variance], np.float32)
            given |= {f"decoder/{i}/latents": noisy, f"decoder/{i}/noise_variance": variances}
            exact[f"decoder/{i}"] = decoder(torch.from_numpy(noisy), torch.from_numpy(variances)).numpy()
    return given, exact


def computed(emulator: list[str], files: Path, given: Arrays) -> Arrays:
    """Return what the networks compute in a process of their own."""
    with tempfile.TemporaryDirectory() as folder:
        inputs, outputs = (Path(folder) / name for name in ("inputs.npz", "outputs.npz"))
        np.savez(inputs, **given)
        command = [*emulator, os.path.realpath(sys.executable), "-c", COMPUTE, str(files), str(inputs), str(outputs)]
        environment = {**os.environ, "ORT_DISABLE_TELEMETRY": "1", "PYTHONPATH": os.pathsep.join(sys.path[1:])}
        subprocess.run(command, env=environment, check=True)
        with np.load(outputs) as loaded:
            return dict(loaded)


if __name__ == "__main__":
    main()
