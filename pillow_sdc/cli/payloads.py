"""What payloads say of how they were made: the parameters of their codec, as ``docs/format.md`` lays them out."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..latent_codecs.context import COARSEST, FINEST, MAX_QUALITY, MIN_QUALITY
from ..latent_codecs.context_stream import STEP_UNIT
from ..latent_codecs.eight_bit import STEP, from_levels
from ..latent_codecs.palette import read_palette


def parameters(codec: str, payload: bytes) -> dict[str, Any]:
    """Return the parameters of a payload that has been decoded before, and so is known to be whole."""
    if codec == "context":
        word = int.from_bytes(payload[1:3], "little")
        step = word & 0x3FFF
        return {
            "quality": _quality_of(step),
            "step": step * STEP_UNIT,
            "trellis": bool(word & 0x4000),
            "stretched": bool(word & 0x8000),
            "network": payload[0],
        }
    if codec == "palette":
        return {"entries": payload[0] + 1, "exact": bool(payload[1] & 1)}
    return {"step": STEP}


def palette(payload: bytes) -> NDArray[np.float32]:
    """Return the palette of a payload of that codec, SD-scaled ``(entries, 4)``, in the file's order."""
    levels, _, _ = read_palette(payload)
    return from_levels(levels)


def _quality_of(step: int) -> float:
    """Return the quality of a step, to one decimal: ``target_size`` chooses steps between those of the qualities."""
    share = math.log(step / COARSEST) / math.log(FINEST / COARSEST)
    return round(MIN_QUALITY + share * (MAX_QUALITY - MIN_QUALITY), 1)
