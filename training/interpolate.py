"""Write a network between two, of which one was trained on from the other.

    python -m training.interpolate FIRST SECOND SHARE RUN

SHARE, 0 to 1, is the second's; RUN is a folder for ``training.export``. Such networks lie on a line along which
pictures change gradually (Wang et al. 2018, "ESRGAN", section 3.4); to train anew for each point would take hours.
"""

import argparse
from pathlib import Path

import torch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("first", "second"):
        parser.add_argument(name, type=Path)
    parser.add_argument("share", type=float)
    parser.add_argument("run", type=Path)
    arguments = parser.parse_args()
    first, second = (
        torch.load(run / "checkpoint.pt", "cpu", weights_only=True)["average"]
        for run in (arguments.first, arguments.second)
    )
    between = {name: torch.lerp(value, second[name], arguments.share) for name, value in first.items()}
    arguments.run.mkdir(parents=True, exist_ok=True)
    torch.save({"average": between}, arguments.run / "checkpoint.pt")


if __name__ == "__main__":
    main()
