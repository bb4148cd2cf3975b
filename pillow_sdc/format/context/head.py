"""The first three bytes of a payload of the codec ``context``: the network's number, and the step with two flags."""

from typing import NamedTuple

from ...errors import CorruptFileError

LARGEST_STEP = (1 << 14) - 1
"""The largest step that a payload can hold; it is coarser than that of the lowest quality."""

HEAD_BYTES = 3

_TRELLIS, _WEIGHTED = LARGEST_STEP + 1, 2 * (LARGEST_STEP + 1)


class Head(NamedTuple):
    """The parameters that a decoder needs before it can read the symbols.

    Attributes:
        network: Number of the context network that predicts the symbols.
        step: Quantisation step, in units of :data:`.stream.STEP_UNIT`, 1 to 16,383.
        trellis: Whether trellis-coded quantisation was used; if not, each latent was rounded to the nearest value.
        weighted: Whether latents were weighted before quantisation (:mod:`.weighting`).
    """

    network: int
    step: int
    trellis: bool
    weighted: bool

    @classmethod
    def of(cls, payload: bytes) -> "Head":
        """Parse the head of a payload.

        Raises:
            CorruptFileError: The payload is too short for one, or its step is zero.
        """
        if len(payload) < HEAD_BYTES:
            raise CorruptFileError(f"payload of {len(payload)} bytes is too short for a step")
        word = int.from_bytes(payload[1:HEAD_BYTES], "little")
        step = word & LARGEST_STEP
        if not step:
            raise CorruptFileError("the payload's step is zero")
        return cls(payload[0], step, bool(word & _TRELLIS), bool(word & _WEIGHTED))

    def packed(self) -> bytes:
        """Return the head as bytes."""
        flags = (_TRELLIS if self.trellis else 0) | (_WEIGHTED if self.weighted else 0)
        return bytes([self.network]) + (self.step | flags).to_bytes(2, "little")
