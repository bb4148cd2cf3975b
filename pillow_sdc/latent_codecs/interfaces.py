"""What a latent codec is, and the data that pass in and out of it."""

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from ..progress import UNCOUNTED, Steps


@dataclass(frozen=True)
class QuantisedLatents:
    """Latents as a payload gives them back.

    Attributes:
        latents: float32 ``(4, h, w)``, SD-scaled, i.e. of about unit variance.
        noise_variance: Mean square, per element, of what quantisation added to the encoder's latents, as far as the
            decoder can tell.
    """

    latents: NDArray[np.float32]
    noise_variance: float


class LatentCodec(Protocol):
    """Turns SD-scaled latents into a payload and back.

    An instance carries the encoder's options. Decoding needs none: what it must know stands in the payload.
    """

    name: ClassVar[str]
    """Name that users give to ``save(codec=...)`` and that the container has a number for."""

    def encode(self, latents: NDArray[np.float32], steps: Steps = UNCOUNTED) -> bytes:
        """Return the payload of latents ``(4, h, w)``.

        Args:
            latents: What is encoded.
            steps: Learns of each step that is done, of the ``encode_steps(h)`` that there are.

        Raises:
            ValueError: The latents are not ``(4, h, w)`` with finite values.
        """
        ...

    def is_met_by(self, payload: bytes) -> bool:
        """Tell whether a payload of this codec is no finer than the options ask for.

        To quantise its latents anew, with these options, would then cost precision or bytes, and gain nothing.
        """
        ...

    def encode_steps(self, rows: int) -> int:
        """Return how many steps :meth:`encode` takes at most."""
        ...

    @staticmethod
    def decode_steps(rows: int) -> int:
        """Return how many steps :meth:`decode` and :meth:`decode_truncated` take at most."""
        ...

    @staticmethod
    def decode(payload: bytes, rows: int, columns: int, steps: Steps = UNCOUNTED) -> QuantisedLatents:
        """Return the latents of a payload, ``(4, rows, columns)``, the same on every machine.

        Raises:
            CorruptFileError: The payload is not one that :meth:`encode` writes for this shape.
        """
        ...

    @staticmethod
    def decode_truncated(payload: bytes, rows: int, columns: int, steps: Steps = UNCOUNTED) -> QuantisedLatents:
        """Return the latents that the beginning of a payload tells, ``(4, rows, columns)``; the others are zero.

        Raises:
            CorruptFileError: The payload is not the beginning of one that :meth:`encode` writes for this shape, or
                tells nothing yet.
        """
        ...


def check_latents(latents: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return latents as float64.

    Raises:
        ValueError: They are not ``(4, h, w)`` with h, w ≥ 1, or not finite.
    """
    if latents.ndim != 3 or latents.shape[0] != 4 or latents.size == 0:
        raise ValueError(f"latents of shape {latents.shape}; expected (4, h, w)")
    if not np.isfinite(latents).all():
        raise ValueError("latents are not finite")
    return latents.astype(np.float64)
