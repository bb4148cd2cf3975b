"""Put a trained context network into the package: its integers, in the file whose number payloads give.

    python -m training.export_context RUN NUMBER

A number that has been released must never be written again: every file that names it would be lost. What is kept is the
averaged network; its checksum belongs into ``pillow_sdc/format/context/weights.py``.
"""

import argparse
import hashlib
from pathlib import Path

import numpy as np
import torch

from pillow_sdc.format.context.weights import FOLDER

from .context_model import ContextModel


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("number", type=int)
    parser.add_argument("--out", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    network = ContextModel()
    network.load_state_dict(torch.load(arguments.run / "checkpoint.pt", "cpu", weights_only=True)["average"])
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / f"{arguments.number}.npz"
    np.savez_compressed(path, allow_pickle=False, **network.frozen())
    print(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
