"""Crops and photographs for the decoder's trainings."""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from . import running
from .labelled import KINDS, Pool, labelled_crops, labelled_photographs
from .networks import Decoder
from .photographs import AlteredCrops, read_photos, split
from .precision import mixed_precision
from .running import Run
from .teacher import Teacher, own_encoder

SIDE, CROPS = 16, 4
TOGETHER = 16
"""Number of crops that are quantised as one square."""
KEPT, FIRST, EVERY = 3200, 25, 12
"""Crops in the pool, times that it is added to before the first step, and steps between later additions."""
OWN = 0.4
"""Fraction of the crops encoded by our own encoder in place of the teacher."""
DYED, VEILED, GRAINY = 0.6, 0.25, 0.5
"""Fractions of the crops in other colours, near to one colour, and with a sensor's noise. Without the first, purple and
deep blue were wrong by ten levels and more; without the last, so were all smooth places of uncompressed pictures, whose
latents a little noise changes much."""

JUDGED = 6
"""Photographs of those held out that each evaluation decodes."""


def parser(description: str | None, steps: int) -> argparse.ArgumentParser:
    """Return the command line parser of the decoder's trainings."""
    parser = running.parser(description, steps)
    parser.add_argument("--encoder", type=Path, metavar="SAFETENSORS", help="our own, in place of the package's")
    parser.add_argument("--side", type=int, default=SIDE, help="of a crop, in latents")
    parser.add_argument("--crops", type=int, default=CROPS, help="in a step")
    return parser


class DecoderCrops:
    """Labelled crops without end, and the photographs that are held out."""

    def __init__(self, arguments: argparse.Namespace, run: Run[Decoder]) -> None:
        self.teacher = Teacher(arguments.teacher, run.device)
        training, self.held_out = split(read_photos(arguments.photos))
        self.workers: int = arguments.workers
        self._labelled = labelled_crops(
            AlteredCrops(training, arguments.side, dyed=DYED, veiled=VEILED, grainy=GRAINY),
            self.teacher,
            TOGETHER,
            (*run.seed, arguments.side),
            own=(OWN, own_encoder(self.teacher.device, arguments.encoder)),
            groups=arguments.times,
            workers=arguments.workers,
        )
        self._run = run
        self._times: int = arguments.times
        self._count: int = arguments.crops * arguments.times
        self._pool = Pool(KEPT * arguments.times)
        for _ in range(min(FIRST, arguments.steps)):
            self._pool.add(*next(self._labelled))

    def draw(self) -> tuple[Tensor, ...]:
        """Return the photographs, latents, variances and origins of a step's crops, as :class:`.Labelled` has them."""
        if self._run.step % EVERY == 0:
            for _ in range(self._times):
                self._pool.add(*next(self._labelled))
        return self._pool.draw(self._count)


def whole_photographs(crops: DecoderCrops, run: Run[Decoder]) -> Callable[[], dict[str, float]]:
    """Return a function that computes, by kind of latents, the PSNR of held-out photographs to the teacher's output."""
    teacher = crops.teacher
    held_out = labelled_photographs(crops.held_out[:JUDGED], teacher, crops.workers)
    pictures = [[teacher.decode(whole.latents[:, i]) for i in range(len(KINDS))] for whole in held_out]

    def evaluate() -> dict[str, float]:
        figures = dict.fromkeys(KINDS, 0.0)
        for whole, by_teacher in zip(held_out, pictures, strict=True):
            for i, kind in enumerate(KINDS):
                with torch.inference_mode(), mixed_precision(run.device):
                    decoded = run.average(whole.latents[:, i], whole.noise_variance[:, i]).float().clamp(-1, 1)
                error = (decoded - by_teacher[i]).square().mean()
                figures[kind] += (10 * torch.log10(4 / error)).item() / len(held_out)
        return figures

    return evaluate
