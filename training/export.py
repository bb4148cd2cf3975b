"""Put trained networks into the package: float16 safetensors, and their checksums.

    python -m training.export RUN [RUN ...]

A run's folder is named after its network: encoder, decoder or denoiser. What is kept is the averaged network.
"""

import argparse
import hashlib
from pathlib import Path

import torch
from safetensors.torch import save

from pillow_sdc.models.compact import CHECKSUMS, WEIGHTS

METADATA = {"format": "pt", "licence": "MIT", "source": "pillow-sdc, see training/MODEL_CARD.md"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for run in arguments.runs:
        state = torch.load(run / "checkpoint.pt", "cpu", weights_only=True)
        half = {name: value.half().contiguous() for name, value in state["average"].items()}
        (arguments.out / f"{run.name}.safetensors").write_bytes(save(half, METADATA))
    files = sorted(arguments.out.glob("*.safetensors"))
    lines = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files]
    (arguments.out / CHECKSUMS).write_text("".join(lines))
    print("".join(lines) + f"{sum(file.stat().st_size for file in files):,} bytes in all")


if __name__ == "__main__":
    main()
