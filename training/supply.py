"""Crops for the steps of decoders: small and large ones in turns, and what the teacher decodes of their latents."""

import argparse
import math
from dataclasses import dataclass

from torch import Tensor

from .labelled import SIDE, TOGETHER, Labelled, Pool, labelled_crops
from .photographs import AlteredCrops, Samples, pixels, samples
from .teacher import Teacher


@dataclass(frozen=True)
class Source:
    """Crops of one size.

    Attributes:
        side: Of a crop, in latents.
        drawn: Crops of a step.
        together: Crops that are labelled together.
        every: Steps between new crops: to label one costs more than a step.
        kept: Crops in the pool.
    """

    side: int
    drawn: int
    together: int
    every: int
    kept: int


SOURCES = Source(SIDE, 6, TOGETHER, 40, 2400), Source(40, 2, 4, 23, 800)
"""Steps take crops of these in turns. Only large ones have an inside that sees no edge, as pictures have."""

FILLED = 40
"""How often crops are labelled before the first step, lest that and those after it know only a few."""

DYED, VEILED, GRAINY = 0.6, 0.25, 0.5
"""Shares of the crops in other colours, near to one colour, and with a sensor's noise. Without the first purple cloth
and deep blue were wrong by ten levels and more; without the last every smooth place was that had not been compressed,
for a little noise moves its latents far."""


class Supply:
    """Crops for one step after another; from time to time new ones take the place of old ones."""

    def __init__(
        self,
        photos: list[Samples],
        teacher: Teacher,
        seed: tuple[int, int],
        arguments: argparse.Namespace,
        own: float = 0.0,
    ) -> None:
        """Label the first crops.

        Args:
            photos: Where the crops come from.
            teacher: Encodes and decodes them.
            seed: The crops follow from it.
            arguments: Those of :func:`~training.running.parser`.
            own: Share of the crops that the embedded encoder encodes in place of the teacher.
        """
        self._teacher, self._times = teacher, arguments.times
        self._pools = [Pool(source.kept * self._times) for source in SOURCES]
        self._crops = [
            labelled_crops(
                AlteredCrops(photos, source.side, dyed=DYED, veiled=VEILED, grainy=GRAINY),
                teacher,
                source.together,
                (*seed, source.side),
                own=own,
                groups=self._times,
                workers=arguments.workers,
            )
            for source in SOURCES
        ]
        for _ in range(min(math.ceil(FILLED / self._times), arguments.steps)):
            for which in range(len(SOURCES)):
                self._label(which)

    def draw(self, step: int) -> tuple[Labelled, Tensor, Tensor]:
        """Return crops, their pixels ``(n, 3, 8h, 8w)``, and those that the teacher decodes of their clean latents."""
        for which, source in enumerate(SOURCES):
            if step % source.every == 0:
                self._label(which)
        which = step % len(SOURCES)
        *rows, by_teacher = self._pools[which].draw(SOURCES[which].drawn * self._times)
        labelled = Labelled(*rows)
        return labelled, pixels(labelled.photo), pixels(by_teacher)

    def _label(self, which: int) -> None:
        for _ in range(self._times):
            labelled = next(self._crops[which])
            self._pools[which].add(*labelled, samples(self._teacher.decode(labelled.latents[:, 0])))
