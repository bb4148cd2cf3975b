"""Train a small flow-matching model on latents straight from .sdc files or shards of them.

    python examples/train_latents.py [SOURCE] [--steps N]

SOURCE is a folder of .sdc files, or a pattern of shards such as "shards/*.tar". Without it, crops of photographs that
come with scikit-image are written into ``out/latents``. Neither encoder nor decoder runs while the model is trained.

The model sees x = (1 − t)·latents + t·noise, and is to tell noise − latents from it (Lipman et al., 2023,
https://arxiv.org/abs/2210.02747). What quantisation left in a sample is noise too, of a known variance s². Where x
would hold no more noise than that, for t below s / (1 + s), the sample has nothing to teach: no t is drawn from there.
"""

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader

from pillow_sdc.datasets import SdcFiles, SdcShards

os.environ.setdefault("PILLOW_SDC_MODEL", "compact")
SIDE, CROP, BATCH = 256, 16, 16
"""Sides of the pictures in pixels and of what the model sees in latents, and samples of a batch."""


class Block(nn.Module):
    """A residual block, conditioned on the time."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.norm, self.time = nn.GroupNorm(8, width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """Return what is of the shape of ``x``, ``(n, width, h, w)``; ``time`` is ``(n, width)``."""
        inner = torch.relu(self.first(self.norm(x)) + self.time(time)[:, :, None, None])
        return x + self.second(inner)


class Velocity(nn.Module):
    """Tells noise − latents from a mixture of both."""

    def __init__(self, width: int = 48, depth: int = 3) -> None:
        super().__init__()
        self.inwards, self.outwards = nn.Conv2d(4, width, 3, padding=1), nn.Conv2d(width, 4, 3, padding=1)
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.register_buffer("frequencies", torch.pi * torch.arange(1, width // 2 + 1))

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Return noise − latents, of the shape of ``x``, ``(n, 4, h, w)``; the share of noise ``t`` is ``(n,)``."""
        angles = t[:, None] * self.frequencies
        time, hidden = torch.cat([angles.sin(), angles.cos()], dim=1), self.inwards(x)
        for block in self.blocks:
            hidden = block(hidden, time)
        return self.outwards(torch.relu(hidden))


def crop(sample: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a random square of a sample's latents, ``(4, CROP, CROP)``, and how noisy they are."""
    latents = sample["latents"]
    top, left = (int(torch.randint(side - CROP + 1, ())) for side in latents.shape[1:])
    return latents[:, top : top + CROP, left : left + CROP], sample["noise_variance"]


def batches(dataset: SdcFiles | SdcShards) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Give batches, epoch after epoch."""
    shards = dataset if isinstance(dataset, SdcShards) else None
    loader = DataLoader(dataset, BATCH, shuffle=shards is None, num_workers=1, persistent_workers=True)
    epoch = 0
    while True:
        if shards is not None:
            shards.set_epoch(epoch)
        yield from loader
        epoch += 1


def train(model: Velocity, dataset: SdcFiles | SdcShards, steps: int) -> list[float]:
    """Train for so many batches; return the losses."""
    optimiser, losses = torch.optim.AdamW(model.parameters(), 2e-3), []
    for step, (latents, variance) in zip(range(steps), batches(dataset), strict=False):
        deviation = variance.sqrt()
        least = deviation / (1 + deviation)
        t = least + (1 - least) * torch.rand(len(latents))
        noise = torch.randn_like(latents)
        share = t[:, None, None, None]
        loss = nn.functional.mse_loss(model((1 - share) * latents + share * noise, t), noise - latents)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        if (step + 1) % 20 == 0:
            print(f"step {step + 1:4}    loss {np.mean(losses[-20:]):.3f}, mean of 20")
    return losses


def own_data(folder: Path) -> Path:
    """Write pictures as .sdc files, and return their folder."""
    from skimage.data import astronaut, chelsea, coffee

    folder.mkdir(parents=True, exist_ok=True)
    for picture in (astronaut, chelsea, coffee):
        photo = Image.fromarray(picture())
        for number, left in enumerate(range(0, photo.width - SIDE + 1, SIDE // 2)):
            photo.crop((left, 0, left + SIDE, SIDE)).save(folder / f"{picture.__name__}-{number}.sdc")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="?", help="a folder of .sdc files, or a pattern of shards")
    parser.add_argument("--steps", type=int, default=120, help="batches to train on")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)  # so small a model gains nothing by more, and loses much where other programs compute
    source = arguments.source or str(own_data(Path("out", "latents")))
    in_shards = source.endswith((".tar", ".parquet"))
    dataset = SdcShards(source, shuffle_buffer=1000, transform=crop) if in_shards else SdcFiles(source, transform=crop)
    print(f"{type(dataset).__name__} of {source}")
    model = Velocity()
    losses = train(model, dataset, arguments.steps)
    print(f"{sum(each.numel() for each in model.parameters()):,} parameters, {len(losses)} steps")
    print(f"loss from {np.mean(losses[:10]):.3f} to {np.mean(losses[-10:]):.3f}, means of ten")


if __name__ == "__main__":
    main()
