"""A range coder (Martin 1979): symbols of known distributions to bytes, within a fraction of a byte of their entropy.

The interval [low, low + range) narrows to each symbol's share of it. Its leading bytes leave as soon as they are
settled; a carry may still run through those that already left, as in Schindler's and LZMA's coders. Frequencies are
16-bit integers, the interval has 48 to 56 bits, so that rounding costs nothing measurable.

The last symbols take no more bytes than tell them apart: the decoder reads zeros past the end, and the encoder ends
the stream with whichever number of the final interval has the most zero bytes at its end, which are left out.
"""

from collections.abc import Iterable
from typing import NamedTuple

from ...errors import CorruptFileError, TruncatedFileError

PRECISION = 16
"""Frequencies are out of 2¹⁶."""

_BITS = 56
TOP = 1 << _BITS
"""The interval's width at the beginning."""
_BOTTOM = TOP >> 8
_LEADING = _BITS // 8
"""Bytes that the decoder reads ahead."""

DAMAGED = "the payload's symbols are damaged"


def encode(intervals: Iterable[tuple[int, int]]) -> bytes:
    """Return the stream of symbols, each given as ``(start, frequency)`` of its share of [0, 2¹⁶).

    Every frequency must be positive, and no share may end beyond 2¹⁶.
    """
    out = bytearray()
    low, width = 0, TOP
    for start, frequency in intervals:
        unit = width >> PRECISION
        low += unit * start
        width = unit * frequency
        while width < _BOTTOM:
            if low >= TOP:
                _carry(out)
                low -= TOP
            out.append(low >> (_BITS - 8))
            low = low << 8 & (TOP - 1)
            width <<= 8
    return ended(out, low, width)


def ended(out: bytearray, low: int, width: int) -> bytes:
    """Return the stream whose settled bytes are ``out``, when the interval after the last symbol is known."""
    end = _roundest(low, low + width)
    if end >= TOP:
        _carry(out)
        end -= TOP
    return bytes(out + end.to_bytes(_LEADING, "big")).rstrip(b"\0")


class DecoderState(NamedTuple):
    """How far a decoder has come.

    Attributes:
        next: Index of the byte to be read next.
        width: Of the interval.
        offset: How far the stream's number lies above the interval's low end.
    """

    next: int
    width: int
    offset: int


class Decoder:
    """Reads symbols back: ask :meth:`target`, find the symbol whose share holds it, :meth:`consume` it, and so on."""

    def __init__(self, stream: bytes) -> None:
        self._stream = stream
        self._unit = 0
        self.state = DecoderState(_LEADING, TOP, int.from_bytes(stream[:_LEADING].ljust(_LEADING, b"\0"), "big"))

    @property
    def state(self) -> "DecoderState":
        """How far the decoder has come; setting it goes on from there."""
        return DecoderState(self._next, self._width, self._offset)

    @state.setter
    def state(self, state: "DecoderState") -> None:
        self._next, self._width, self._offset = state

    def target(self) -> int:
        """Return a number in [0, 2¹⁶) that lies in the share of the next symbol.

        Raises:
            CorruptFileError: The stream is none that :func:`encode` writes.
        """
        self._unit = self._width >> PRECISION
        target = self._offset // self._unit
        if target >> PRECISION:
            raise CorruptFileError(DAMAGED)
        return target

    def consume(self, start: int, frequency: int) -> None:
        """Go on behind the symbol with this share, the one that :meth:`target` lies in."""
        self._offset -= self._unit * start
        self._width = self._unit * frequency
        while self._width < _BOTTOM:
            following = self._stream[self._next] if self._next < len(self._stream) else 0
            self._next += 1
            self._offset = self._offset << 8 | following
            self._width <<= 8

    @property
    def beyond_end(self) -> bool:
        """Whether bytes behind the stream's end, taken to be zeros, have a say in the next symbol."""
        return self._next > len(self._stream)

    def check_end(self) -> None:
        """Check that the stream ends here, and as :func:`encode` would have ended it.

        Raises:
            CorruptFileError: It does not.
        """
        read = self._stream[self._next - _LEADING : self._next].ljust(_LEADING, b"\0")
        number = int.from_bytes(read, "big")
        low = (number - self._offset) % TOP
        if (
            number != _roundest(low, low + self._width) % TOP
            or len(self._stream) > self._next
            or self._stream.endswith(b"\0")
        ):
            raise CorruptFileError("the payload does not end where its symbols do")


class TruncatedDecoder(Decoder):
    """Reads the symbols of a stream whose end is missing, as far as they are certain."""

    def target(self) -> int:
        """Return a number in [0, 2¹⁶) that lies in the share of the next symbol.

        Raises:
            TruncatedFileError: The next symbol depends on what is missing.
            CorruptFileError: The stream is none that :func:`encode` writes.
        """
        if self.beyond_end:
            raise TruncatedFileError("the payload ends within its symbols")
        return super().target()


def _roundest(low: int, high: int) -> int:
    """Return the number in [low, high) with the most zero bytes at its end."""
    for bits in range(_BITS, -1, -8):
        number = -(-low >> bits) << bits
        if number < high:
            return number
    raise ValueError(f"nothing lies in [{low}, {high})")


def _carry(out: bytearray) -> None:
    """Add one to the last byte that left, and to those before it while they overflow."""
    last = len(out) - 1
    while out[last] == 0xFF:
        out[last] = 0
        last -= 1
    out[last] += 1
