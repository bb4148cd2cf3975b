"""Train the encoder to give the teacher's latents.

    python -m training.train_encoder PREPARED RUN [--steps N]

Four numbers for 64 pixels teach little. Until late in the run the encoder's inner layers are also taught to hold what
the teacher's hold at the same resolutions (Romero et al. 2015, "FitNets"), through a linear map that is then dropped.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pillow_sdc.models.compact_networks import Encoder

from .crops import PIXELS_PER_LATENT, Photograph, crops, load, pixels, stack
from .running import Run

CROPS = 6
SIDE = 24
MARGIN = 2
"""Latents at the edges of a crop that are not judged: there the teacher saw more of the photograph."""

SENSITIVE = torch.tensor([-0.52, -0.28, -0.32, 0.74])
"""The direction of latent space that matters most to decoders: about five times as much as those across it."""

FEATURES_WEIGHT = 0.3
FEATURES_UNTIL = 0.8
"""Share of the run after which the features count no more; their weight falls linearly until then."""


class Standardised(nn.Module):
    """The teacher's features with mean zero and variance one."""

    def __init__(self, samples: NDArray[np.float32]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(samples.mean(0)))
        self.register_buffer("deviation", torch.from_numpy(samples.std(0)) + 0.05)

    def forward(self, features: Tensor) -> Tensor:
        return (features - self.mean) / self.deviation


class Student(nn.Module):
    """The encoder, and maps from its features at a quarter and an eighth of the resolution to the teacher's."""

    def __init__(self, quarter: Standardised, eighth: Standardised) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.standards = nn.ModuleDict({"quarter": quarter, "eighth": eighth})
        self.maps = nn.ModuleDict()
        *_, eighth_start, last = (i for i, layer in enumerate(self.encoder.layers) if isinstance(layer, nn.Conv2d))
        self.ends = {"quarter": eighth_start, "eighth": last}
        for name, end in self.ends.items():
            inside = self.encoder.layers[end].in_channels
            self.maps[name] = nn.Conv2d(inside, len(self.standards[name].mean), 1)

    def forward(self, photo: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return latents and, by resolution, what would be the teacher's standardised features ``(n, h, w, c)``."""
        features, x, start = {}, photo, 0
        for name, end in self.ends.items():
            x = self.encoder.layers[start:end](x)
            features[name] = self.maps[name](x).permute(0, 2, 3, 1)
            start = end
        return self.encoder.layers[start:](x), features


def error(latents: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean squared error, plus that along the sensitive direction."""
    difference = (latents - teacher)[:, :, MARGIN:-MARGIN, MARGIN:-MARGIN]
    along = torch.einsum("nchw,c->nhw", difference, SENSITIVE)
    return difference.square().mean() + along.square().mean()


def sample_features(photographs: list[Photograph], name: str, spacing: int) -> Standardised:
    every = [getattr(photograph, name)[::spacing, ::spacing] for photograph in photographs]
    return Standardised(np.concatenate([values.reshape(-1, values.shape[-1]) for values in every]).astype(np.float32))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prepared", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--steps", type=int, default=12_000)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    training, held_out = load(arguments.prepared)
    student = Student(sample_features(training, "quarter", 8), sample_features(training, "eighth", 4))
    student = student.to(memory_format=torch.channels_last)
    run = Run(arguments.run, student, arguments.steps, arguments.learning_rate)
    run.resume()
    chosen = crops(training, CROPS, SIDE, np.random.default_rng([arguments.seed, run.step]))

    def losses() -> dict[str, Tensor]:
        batch = next(chosen)
        photo = pixels(np.stack([crop.cut(crop.photograph.photo, PIXELS_PER_LATENT) for crop in batch]))
        with torch.autocast("cpu", torch.bfloat16):
            latents, features = student(photo)
        named = {"latents": error(latents.float(), stack([crop.latents() for crop in batch]))}
        weight = FEATURES_WEIGHT * max(0.0, 1 - run.step / (FEATURES_UNTIL * arguments.steps))
        for name, scale in (("quarter", 2), ("eighth", 1)):
            teacher = np.stack([crop.cut(getattr(crop.photograph, name), scale) for crop in batch])
            difference = features[name].float() - student.standards[name](torch.from_numpy(teacher).float())
            margin = scale * MARGIN
            named[name] = weight * difference[:, margin:-margin, margin:-margin].square().mean()
        return named

    def evaluate() -> dict[str, float]:
        squares = []
        with torch.inference_mode():
            for photograph in held_out:
                latents = run.average.encoder(pixels(photograph.photo[None]))[0]
                squares.append((latents - torch.from_numpy(photograph.latents)).square().mean())
        return {"held_out_mse": torch.stack(squares).mean().item()}

    run.train(losses, evaluate, evaluate_every=500)


if __name__ == "__main__":
    main()
