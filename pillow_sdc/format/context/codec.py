"""Codec ``context``: latents quantised along a trellis, and coded with the predictions of a small network.

    latents ─▶ stretched ─▶ quantised along a trellis ─▶ context network ─▶ range coder ─▶ payload
    payload ─▶ range coder and context network ─▶ centroids ─▶ shrunk ─▶ latents, noise variance

The payload: a byte that names the network; two bytes with the step and two flags, the lowest first; the stream of
symbols. The parts, from the bottom: :mod:`.range_coder`, :mod:`.mixtures`, :mod:`.context_network`, :mod:`.trellis`,
:mod:`.sensitivity`, :mod:`.context_stream`, :mod:`.context_head`, :mod:`.context_payload`.
"""

import itertools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ...progress import UNCOUNTED, Steps, steps_of
from ...ranges import Range
from ..codec import Budget, LatentCodec, QuantisedLatents, option, variant
from .head import LARGEST_STEP, Head

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MIN_QUALITY, MAX_QUALITY, DEFAULT_QUALITY = 1, 100, 50
COARSEST, FINEST = 10240, 819
"""Steps of the lowest and the highest quality, in :data:`.context_stream.STEP_UNIT`; between them they form a geometric
series."""

_CLOSE_ENOUGH = 0.998
"""Share of the bytes given that need not be exceeded by further search."""
_MOST_TRIALS = 16
_LATENTS_PER_RUNG, _MOST_RUNGS_APART = 256, 40
"""How far apart the qualities are that are tried: 1 for fewer than 512 latents, 16 for 64×64, 40 for many."""


def step_of(quality: int) -> int:
    """Return the step of a quality from 1 to 100, in :data:`.context_stream.STEP_UNIT`; below 1 the series goes on."""
    share = (quality - MIN_QUALITY) / (MAX_QUALITY - MIN_QUALITY)
    return round(COARSEST * math.pow(FINEST / COARSEST, share))


def _ladder() -> list[int]:
    """Return the steps of all qualities, the best first, those that follow in the series, and the largest step."""
    steps = map(step_of, itertools.count(MAX_QUALITY, -1))
    return [*itertools.takewhile(lambda step: step < LARGEST_STEP, steps), LARGEST_STEP]


_LADDER = _ladder()


def quality_of(step: int) -> float:
    """Return the quality of a step, to one decimal: ``target_size`` chooses steps between those of the qualities."""
    share = math.log(step / COARSEST) / math.log(FINEST / COARSEST)
    return round(MIN_QUALITY + share * (MAX_QUALITY - MIN_QUALITY), 1)


class ContextCodec(LatentCodec):
    """Latents as symbols that a context network predicts: the palette's quality in little more than half its bytes.

    Attributes:
        quality: 1 (coarsest) to 100 (finest); ``docs/quality.md`` says what each gives.
        trellis: Whether latents are quantised along a trellis, or else each to the nearest value.
        stretched: Whether the direction of latent space that pictures depend on most is quantised more finely than the
            others. Pictures are then nearer to their originals for the same bytes, latents are not.
    """

    number = 3
    name = "context"
    help = "ours, the same quality in little more than half the bytes"
    budget = Budget("quality", "Best quality that takes no more")

    quality: int = option(DEFAULT_QUALITY, Range(int, MIN_QUALITY, MAX_QUALITY), "Smallest to best")
    trellis: bool = variant(True)
    stretched: bool = variant(True)

    def encode(self, latents: "NDArray[np.float32]", steps: Steps = UNCOUNTED) -> bytes:
        """Return the payload of latents ``(4, h, w)``; values outside ±32 are clamped."""
        return self.encode_with_step(latents, step_of(self.quality), steps)

    def encode_steps(self, rows: int) -> int:
        """Return how many bands there are."""
        return steps_of(rows)

    @staticmethod
    def decode_steps(rows: int) -> int:
        """Return how many bands there are."""
        return steps_of(rows)

    def head(self, step: int) -> Head:
        """Return what a payload with a step, in :data:`.context_stream.STEP_UNIT`, 1 to 16,383, begins with."""
        from .weights import NEWEST

        return Head(NEWEST, step, self.trellis, self.stretched)

    def encode_with_step(self, latents: "NDArray[np.float32]", step: int, steps: Steps = UNCOUNTED) -> bytes:
        """Return the payload of latents ``(4, h, w)`` quantised with a step as :meth:`head` takes it."""
        from . import payload as context_payload

        return context_payload.encode(latents, self.head(step), steps)

    def reconstruct_with_step(self, latents: "NDArray[np.float32]", step: int) -> QuantisedLatents:
        """Return what decoding gives back of latents ``(4, h, w)`` encoded with a step, in a fifth of the time."""
        from . import payload as context_payload

        return context_payload.reconstruct(latents, self.head(step))

    def encode_within(self, latents: "NDArray[np.float32]", payload_bytes: int, steps: Steps = UNCOUNTED) -> bytes:
        """Return the payload with the finest step of latents ``(4, h, w)`` that is no longer than so many bytes.

        Steps between those of the qualities are used, too, and coarser ones, up to :data:`LARGEST_STEP`; ``quality`` is
        not. Bytes do not always fall where the step grows: those of small pictures and flat ones waver. So steps are
        tried from the finest on until one fits. For fewer than 512 latents, such as 176×176 pixels have, these are the
        steps of all qualities, and the result is never coarser than the best quality that fits. For more latents they
        lie farther apart.

        Returns:
            The payload, or the shortest that was found where none fits.
        """
        from ...runtime.threads import single_threaded_blas

        trials = itertools.count()

        def encode(step: int) -> bytes:
            if next(trials):  # the first one's are expected already
                steps.expect(self.encode_steps(latents.shape[1]))
            with single_threaded_blas():
                return self.encode_with_step(latents, step, steps)

        apart = min(max(1, latents[0].size // _LATENTS_PER_RUNG), _MOST_RUNGS_APART)
        too_long: list[tuple[int, bytes]] = []
        for step in [*_LADDER[:-1:apart], LARGEST_STEP]:
            payload = encode(step)
            if len(payload) <= payload_bytes:
                return _search(encode, too_long[-1], (step, payload), payload_bytes) if too_long else payload
            too_long.append((step, payload))
        return min((payload for _, payload in too_long), key=len)

    def is_met_by(self, payload: bytes) -> bool:
        """Tell whether a payload's step is no finer than that of the quality."""
        return Head.of(payload).step >= step_of(self.quality)

    @staticmethod
    def decode(payload: bytes, rows: int, columns: int, steps: Steps = UNCOUNTED) -> QuantisedLatents:
        """Return the latents ``(4, rows, columns)`` of a payload."""
        from . import payload as context_payload

        return context_payload.decode(payload, rows, columns, steps)

    @classmethod
    def decode_truncated(cls, payload: bytes, rows: int, columns: int, steps: Steps = UNCOUNTED) -> QuantisedLatents:
        """Return the latents ``(4, rows, columns)`` of a payload's beginning; those that did not arrive are zero.

        Raises:
            CorruptFileError: The payload is not the beginning of one that :meth:`encode` writes for this shape.
        """
        from . import payload as context_payload

        return context_payload.decode_truncated(payload, rows, columns, steps)

    @staticmethod
    def describe(payload: bytes) -> dict[str, Any]:
        """Return quality, step, what was done to the latents, and the number of the network."""
        from .stream import STEP_UNIT

        head = Head.of(payload)
        return {
            "quality": quality_of(head.step),
            "step": head.step * STEP_UNIT,
            "trellis": head.trellis,
            "stretched": head.stretched,
            "network": head.network,
        }


def _search(
    encode: Callable[[int], bytes], too_long: tuple[int, bytes], fitting: tuple[int, bytes], most: int
) -> bytes:
    """Return the payload with the finest step found that fits, between a step that does not and one that does.

    Bytes fall about as a straight line in the logarithm of the step; the line through the ends is followed, and then
    the end that it misses is brought up to it (regula falsi, as Anderson and Björck 1973 have it).
    """
    (fine, longer), (coarse, best) = too_long, fitting
    above, below = float(len(longer) - most), _below(best, most)
    for _ in range(_MOST_TRIALS):
        if coarse - fine <= 1 or len(best) >= _CLOSE_ENOUGH * most:
            break
        share = above / (above - below)
        step = round(math.exp(math.log(fine) + share * math.log(coarse / fine)))
        step = min(max(step, fine + 1), coarse - 1)
        payload = encode(step)
        if len(payload) > most:
            excess = float(len(payload) - most)
            fine, above, below = step, excess, below * _weight(excess / above)
        else:
            room = _below(payload, most)
            coarse, best, below, above = step, payload, room, above * _weight(room / below)
    return best


def _below(payload: bytes, most: int) -> float:
    """Return how far a payload is below what it may have, as a negative number, never zero."""
    return min(float(len(payload) - most), -0.5)


def _weight(left: float) -> float:
    """Return what the far end of a line is multiplied by, after its near end has moved and so much of it is left."""
    return 1 - left if left < 1 else 0.5
