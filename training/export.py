"""Write the weights of trained networks: float16 safetensors, with which trainings start and ``training.quantise``.

    python -m training.export RUN [RUN ...] --out FOLDER

A file is named after the run's folder, as encoder, decoder or denoiser. What is kept is the averaged network.
"""

import argparse
from pathlib import Path

import torch
from safetensors.torch import save

METADATA = {"format": "pt", "licence": "MIT", "source": "pillow-sdc, see training/MODEL_CARD.md"}


def export(run: Path, out: Path) -> Path:
    """Write the weights of a run, and return where."""
    state = torch.load(run / "checkpoint.pt", "cpu", weights_only=True)
    half = {name: value.half().contiguous() for name, value in state["average"].items()}
    path = out / f"{run.name}.safetensors"
    path.write_bytes(save(half, METADATA))
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for run in arguments.runs:
        path = export(run, arguments.out)
        print(f"{path.name}, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
