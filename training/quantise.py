"""Put the networks into the package: in 8 bits, in files that ONNX Runtime runs, and their checksums.

    python -m training.quantise PHOTOGRAPHS TEACHER WEIGHTS [--out FOLDER] [--float]

WEIGHTS is a folder that ``training.export`` has written. Networks that it lacks stay in the package as they are. Which
range each activation has is measured on a few of the PHOTOGRAPHS, the decoder's on latents of our own encoder and on
TEACHER's. With ``--float`` networks are written as they are, in float32, for comparison.
"""

import argparse
import hashlib
import itertools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import nn

from pillow_sdc.models.compact import CHECKSUMS, WEIGHTS
from pillow_sdc.models.compact.sessions import NETWORKS

from .networks import Decoder, Denoiser, Encoder
from .photographs import pixels, read_photos, split
from .teacher import Teacher, own_encoder

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before onnxruntime is imported

import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

PICTURES = 32
"""Number of photographs for calibration, whole: the ranges of small squares are too narrow for large pictures."""

NOISE_VARIANCES = 0.0, 0.03, 0.1, 0.3
"""Noise variances of the latents for calibrating decoder and denoiser: none, and those of codecs."""

METADATA = {"licence": "MIT", "source": "pillow-sdc, see training/MODEL_CARD.md"}

Inputs = dict[str, NDArray[np.float32]]
NetworkT = TypeVar("NetworkT", bound=nn.Module)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="folder of photographs")
    parser.add_argument("teacher", type=Path, help="diffusers directory of an AutoencoderTiny of SD v1's latent space")
    parser.add_argument("weights", type=Path, help="folder of exported weights")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    parser.add_argument("--float", action="store_true", help="write them in float32")
    arguments = parser.parse_args()
    make = in_float if arguments.float else quantised
    random = np.random.default_rng(0)
    photos, _held_out = split(read_photos(arguments.photos))
    pictures = [pixels(photos[i][None]).contiguous() for i in random.permutation(len(photos))[:PICTURES]]
    encoder, decoder, denoiser = (
        path if (path := arguments.weights / f"{name}.safetensors").exists() else None for name in NETWORKS
    )
    cpu = torch.device("cpu")
    encoders = own_encoder(cpu, encoder), Teacher(arguments.teacher, cpu).encode
    latents = [
        inputs
        for picture, encode in zip(pictures, itertools.cycle(encoders))
        for inputs in with_noise(encode(picture).numpy(), random)
    ]
    models = {}
    if encoder:
        rows = [{"pixels": picture.numpy()} for picture in pictures]
        models["encoder"] = make(with_weights(Encoder(), encoder), rows, "latents")
    if decoder:
        models["decoder"] = make(with_weights(Decoder(), decoder), latents, "pixels")
    if denoiser:
        rows = [inputs for inputs in latents if inputs["noise_variance"].all()]
        models["denoiser"] = make(with_weights(Denoiser(), denoiser), rows, "noise")
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, model in models.items():
        (arguments.out / f"{name}.onnx").write_bytes(model.SerializeToString(deterministic=True))
    files = sorted(arguments.out.glob("*.onnx"))
    lines = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files]
    (arguments.out / CHECKSUMS).write_text("".join(lines))
    print("".join(lines) + f"{sum(file.stat().st_size for file in files):,} bytes in all")


def with_noise(latents: NDArray[np.float32], random: np.random.Generator) -> Iterator[Inputs]:
    """Return latents ``(1, 4, h, w)`` with noise of each variance, as decoder and denoiser take them."""
    for variance in NOISE_VARIANCES:
        noise = random.normal(0, variance**0.5, latents.shape)
        yield {
            "latents": (latents + noise).astype(np.float32),
            "noise_variance": np.array([variance], np.float32),
        }


def with_weights(network: NetworkT, path: Path) -> NetworkT:
    """Return a network with the weights of a file."""
    network.load_state_dict(load_file(path))
    return network.eval()


class Rows(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, rows: list[Inputs]) -> None:
        self._rows = iter(rows)

    def get_next(self) -> Inputs | None:
        return next(self._rows, None)


def quantised(network: nn.Module, rows: list[Inputs], output: str) -> onnx.ModelProto:
    """Return a network in 8 bits, for pictures of any number and size.

    Between the convolutions are unsigned numbers of a range for each tensor, in them signed ones, of seven bits, of a
    range for each channel. The first and the last stay in float32, which costs little time. Without both, processors
    that add 8-bit products in 16 bits, those before VNNI, are far off: their sums saturate.

    Additions are in 8 bits, too, from the first upsampling on, where they and the conversions around them take a
    seventh of the time. Those before it take little, and their rounding would go through all that follows.

    Args:
        network: From inputs of the names in ``rows`` to one output.
        rows: Inputs, on which the ranges are measured.
        output: The name of the output.
    """
    model = exported(network, rows[0], output)
    nodes = list(model.graph.node)
    convolutions = [node.name for node in nodes if node.op_type == "Conv"]
    upsampling = next((i for i, node in enumerate(nodes) if node.op_type == "Resize"), len(nodes))
    early_additions = [node.name for node in nodes[:upsampling] if node.op_type == "Add"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "quantised.onnx"
        quantize_static(
            model,
            path,
            Rows(rows),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["Conv", "Relu", "Add"],
            nodes_to_exclude=[convolutions[0], convolutions[-1], *early_additions],
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={"CalibMovingAverage": True},
        )
        return without_origin(onnx.load(path))


def in_float(network: nn.Module, rows: list[Inputs], output: str) -> onnx.ModelProto:
    """Return a network as it is, as :func:`quantised` returns it in 8 bits."""
    return without_origin(exported(network, rows[0], output))


def exported(network: nn.Module, inputs: Inputs, output: str) -> onnx.ModelProto:
    """Return a network in float32, for pictures of any number and size."""
    dynamic = torch.export.Dim.DYNAMIC
    examples = tuple(torch.from_numpy(array).repeat(2, *[1] * (array.ndim - 1)) for array in inputs.values())
    program = torch.onnx.export(
        network,
        examples,
        input_names=list(inputs),
        output_names=[output],
        dynamo=True,
        dynamic_shapes=tuple({i: dynamic for i in range(one.ndim) if i != 1} for one in examples),
        external_data=False,
        verbose=False,
    )
    if program is None:
        raise RuntimeError("torch.onnx.export returned no program")
    return program.model_proto


def without_origin(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model without what the exporter noted about each part: stack traces, with paths of this machine."""
    graph = model.graph
    del graph.value_info[:]
    for part in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    onnx.helper.set_model_props(model, METADATA)
    onnx.checker.check_model(model, full_check=True)
    return model


if __name__ == "__main__":
    main()
