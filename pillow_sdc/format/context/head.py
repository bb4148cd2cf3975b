"""The first three bytes of a payload of the codec ``context``: the network's number, and the step with two flags."""

from typing import NamedTuple

from ...errors import CorruptFileError

LARGEST_STEP = (1 << 14) - 1
"""The largest step that a payload can hold; it is coarser than that of the lowest quality."""

HEAD_BYTES = 3

_TRELLIS, _STRETCHED = LARGEST_STEP + 1, 2 * (LARGEST_STEP + 1)


class Head(NamedTuple):
    """What a payload says of how its symbols are to be read.

    Attributes:
        network: Number of the context network that predicts them.
        step: Of quantisation, in :data:`.context_stream.STEP_UNIT`, 1 to 16,383.
        trellis: Whether latents were quantised along a trellis, or else each to the nearest value.
        stretched: Whether they were stretched before, as :mod:`.sensitivity` says.
    """

    network: int
    step: int
    trellis: bool
    stretched: bool

    @classmethod
    def of(cls, payload: bytes) -> "Head":
        """Return the head that a payload begins with.

        Raises:
            CorruptFileError: The payload is too short for one, or its step is zero.
        """
        if len(payload) < HEAD_BYTES:
            raise CorruptFileError(f"payload of {len(payload)} bytes is too short for a step")
        word = int.from_bytes(payload[1:HEAD_BYTES], "little")
        step = word & LARGEST_STEP
        if not step:
            raise CorruptFileError("the payload's step is zero")
        return cls(payload[0], step, bool(word & _TRELLIS), bool(word & _STRETCHED))

    def packed(self) -> bytes:
        """Return the head as a payload begins with it."""
        flags = (_TRELLIS if self.trellis else 0) | (_STRETCHED if self.stretched else 0)
        return bytes([self.network]) + (self.step | flags).to_bytes(2, "little")
