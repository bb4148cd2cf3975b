"""Codec ``context``: trellis-coded quantisation of latents, and entropy coding under a small context network.

    latents ─▶ weighting ─▶ trellis-coded quantisation ─▶ context network ─▶ range coder ─▶ payload
    payload ─▶ range decoder with context network ─▶ centroids ─▶ inverse weighting ─▶ latents, noise variance

The payload is a head of three bytes (network, step and flags) and the stream of symbols. The modules, lowest first:
:mod:`.range_coder`, :mod:`.mixtures`, :mod:`.network`, :mod:`.trellis`, :mod:`.weighting`, :mod:`.stream`,
:mod:`.head`, :mod:`.payload`.
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
"""Steps of the lowest and the highest quality, in units of :data:`.stream.STEP_UNIT`; the steps of the qualities
between form a geometric series."""

_CLOSE_ENOUGH = 0.998
"""Fraction of the byte budget at which the search stops."""
_MAX_TRIALS = 16
_LATENTS_PER_RUNG, _MAX_STRIDE = 256, 40
"""Stride of the first search through the qualities: 1 for fewer than 512 latents, 16 for 64×64, 40 for many."""


def step_of(quality: int) -> int:
    """Return the step of a quality, in units of :data:`.stream.STEP_UNIT`; below quality 1 the series continues."""
    fraction = (quality - MIN_QUALITY) / (MAX_QUALITY - MIN_QUALITY)
    return round(COARSEST * math.pow(FINEST / COARSEST, fraction))


def _ladder() -> list[int]:
    """Return the steps of all qualities, finest first, then the coarser ones of the series, then the largest step."""
    steps = map(step_of, itertools.count(MAX_QUALITY, -1))
    return [*itertools.takewhile(lambda step: step < LARGEST_STEP, steps), LARGEST_STEP]


_LADDER = _ladder()


def quality_of(step: int) -> float:
    """Return the quality of a step, to one decimal: ``target_size`` may choose a step between two qualities."""
    fraction = math.log(step / COARSEST) / math.log(FINEST / COARSEST)
    return round(MIN_QUALITY + fraction * (MAX_QUALITY - MIN_QUALITY), 1)


class ContextCodec(LatentCodec):
    """Quantised latents coded under a context network: the palette's quality in little more than half its bytes.

    Attributes:
        quality: 1 (coarsest) to 100 (finest); ``docs/quality.md`` compares them.
        trellis: Whether to use trellis-coded quantisation; if not, each latent is rounded to the nearest value.
        weighted: Whether to quantise more finely along the direction to which the decoder is most sensitive
            (:mod:`.weighting`). That lowers the pixel error for the same bytes, and raises the latent error.
    """

    number = 3
    name = "context"
    help = "ours, the same quality in little more than half the bytes"
    budget = Budget("quality", "Best quality that takes no more")

    quality: int = option(DEFAULT_QUALITY, Range(int, MIN_QUALITY, MAX_QUALITY), "Smallest to best")
    trellis: bool = variant(True)
    weighted: bool = variant(True)

    def encode(self, latents: "NDArray[np.float32]", steps: Steps = UNCOUNTED) -> bytes:
        """Return the payload of latents ``(4, h, w)``; values outside ±32 are clamped."""
        return self.encode_with_step(latents, step_of(self.quality), steps)

    def encode_steps(self, rows: int) -> int:
        """Return the number of bands."""
        return steps_of(rows)

    @staticmethod
    def decode_steps(rows: int) -> int:
        """Return the number of bands."""
        return steps_of(rows)

    def head(self, step: int) -> Head:
        """Return the head of a payload with a step of 1 to 16,383, in units of :data:`.stream.STEP_UNIT`."""
        from .weights import NEWEST

        return Head(NEWEST, step, self.trellis, self.weighted)

    def encode_with_step(self, latents: "NDArray[np.float32]", step: int, steps: Steps = UNCOUNTED) -> bytes:
        """Return the payload of latents ``(4, h, w)`` quantised with a step, in the unit of :meth:`head`."""
        from . import payload as context_payload

        return context_payload.encode(latents, self.head(step), steps)

    def reconstruct_with_step(self, latents: "NDArray[np.float32]", step: int) -> QuantisedLatents:
        """Return the result of encoding and decoding latents ``(4, h, w)`` with a step, in a fifth of the time."""
        from . import payload as context_payload

        return context_payload.reconstruct(latents, self.head(step))

    def encode_within(self, latents: "NDArray[np.float32]", payload_bytes: int, steps: Steps = UNCOUNTED) -> bytes:
        """Return the payload of latents ``(4, h, w)`` with the finest step that fits into a number of bytes.

        ``quality`` is ignored. Steps between those of the qualities are tried too, and coarser ones up to
        :data:`LARGEST_STEP`. The number of bytes is not quite monotonic in the step, least of all for small or flat
        pictures. So steps are tried in order, finest first, until one fits, and the interval before it is then
        searched. Below 512 latents (176×176 pixels) every quality is tried, so the result is never coarser than the
        best quality that fits. For more latents the search skips qualities.

        Returns:
            The payload, or the shortest one found if none fits.
        """
        from ...runtime.threads import single_threaded_blas

        trials = itertools.count()

        def encode(step: int) -> bytes:
            if next(trials):  # the caller already expects the steps of the first trial
                steps.expect(self.encode_steps(latents.shape[1]))
            with single_threaded_blas():
                return self.encode_with_step(latents, step, steps)

        stride = min(max(1, latents[0].size // _LATENTS_PER_RUNG), _MAX_STRIDE)
        too_long: list[tuple[int, bytes]] = []
        for step in [*_LADDER[:-1:stride], LARGEST_STEP]:
            payload = encode(step)
            if len(payload) <= payload_bytes:
                return _search(encode, too_long[-1], (step, payload), payload_bytes) if too_long else payload
            too_long.append((step, payload))
        return min((payload for _, payload in too_long), key=len)

    def is_met_by(self, payload: bytes) -> bool:
        """Return whether a payload's step is at least as coarse as the step of the quality."""
        return Head.of(payload).step >= step_of(self.quality)

    @staticmethod
    def decode(payload: bytes, rows: int, columns: int, steps: Steps = UNCOUNTED) -> QuantisedLatents:
        """Return the latents ``(4, rows, columns)`` of a payload."""
        from . import payload as context_payload

        return context_payload.decode(payload, rows, columns, steps)

    @classmethod
    def decode_truncated(cls, payload: bytes, rows: int, columns: int, steps: Steps = UNCOUNTED) -> QuantisedLatents:
        """Return the latents ``(4, rows, columns)`` of a truncated payload; the missing ones are zero.

        Raises:
            CorruptFileError: The payload is not the beginning of one that :meth:`encode` writes for this shape.
        """
        from . import payload as context_payload

        return context_payload.decode_truncated(payload, rows, columns, steps)

    @staticmethod
    def describe(payload: bytes) -> dict[str, Any]:
        """Return the quality, the step in SD-scaled latents, the two flags, and the number of the network."""
        from .stream import STEP_UNIT

        head = Head.of(payload)
        return {
            "quality": quality_of(head.step),
            "step": head.step * STEP_UNIT,
            "trellis": head.trellis,
            "weighted": head.weighted,
            "network": head.network,
        }


def _search(
    encode: Callable[[int], bytes], too_long: tuple[int, bytes], fitting: tuple[int, bytes], budget: int
) -> bytes:
    """Search between a step that does not fit and a coarser one that does; return the best payload that fits.

    The number of bytes is nearly linear in the logarithm of the step, so this is root finding by regula falsi, in the
    variant of Anderson and Björck (1973).
    """
    (fine, longer), (coarse, best) = too_long, fitting
    above, below = float(len(longer) - budget), _excess_below(best, budget)
    for _ in range(_MAX_TRIALS):
        if coarse - fine <= 1 or len(best) >= _CLOSE_ENOUGH * budget:
            break
        fraction = above / (above - below)
        step = round(math.exp(math.log(fine) + fraction * math.log(coarse / fine)))
        step = min(max(step, fine + 1), coarse - 1)
        payload = encode(step)
        if len(payload) > budget:
            excess = float(len(payload) - budget)
            fine, above, below = step, excess, below * _weight(excess / above)
        else:
            room = _excess_below(payload, budget)
            coarse, best, below, above = step, payload, room, above * _weight(room / below)
    return best


def _excess_below(payload: bytes, budget: int) -> float:
    """Return the length of a payload that fits, minus the budget: a negative number, never zero."""
    return min(float(len(payload) - budget), -0.5)


def _weight(ratio: float) -> float:
    """Return Anderson and Björck's factor for the end that stays, given the other end's new value over its old one."""
    return 1 - ratio if ratio < 1 else 0.5
