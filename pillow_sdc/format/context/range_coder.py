"""A range coder (Martin 1979): symbols of known distributions to bytes, within a fraction of a byte of their entropy.

Each symbol has an interval of [0, 2¹⁶), its start and frequency from the cumulative distribution. The coder's interval
[low, low + width) narrows to the corresponding part of itself. Its leading bytes are written as soon as they are
settled; a carry may still propagate through bytes already written, as in Schindler's and LZMA's coders. Frequencies
have 16 bits and the width 48 to 56, so rounding costs nothing measurable.

The stream ends as early as possible: the decoder reads zeros past the end, and the encoder ends with the number in the
final interval that has the most trailing zero bytes, and drops these.
"""

from collections.abc import Iterable
from typing import NamedTuple

from ...errors import CorruptFileError, TruncatedFileError

PRECISION = 16
"""Bits of frequencies: those of an alphabet sum to 2¹⁶."""

_BITS = 56
TOP = 1 << _BITS
"""Width of the interval at the start."""
_BOTTOM = TOP >> 8
_LEADING = _BITS // 8
"""Number of bytes that the decoder reads ahead."""

DAMAGED = "the payload's symbols are damaged"


def encode(intervals: Iterable[tuple[int, int]]) -> bytes:
    """Return the stream of symbols, each given by its interval ``(start, frequency)`` of [0, 2¹⁶).

    Every frequency must be positive, and no interval may end beyond 2¹⁶.
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
    return terminate(out, low, width)


def terminate(out: bytearray, low: int, width: int) -> bytes:
    """Return the whole stream, from the bytes written so far and the interval after the last symbol."""
    end = _shortest_in(low, low + width)
    if end >= TOP:
        _carry(out)
        end -= TOP
    return bytes(out + end.to_bytes(_LEADING, "big")).rstrip(b"\0")


class DecoderState(NamedTuple):
    """State of a decoder.

    Attributes:
        next: Index of the next byte to read.
        width: Width of the interval.
        offset: Distance of the stream's number from the low end of the interval.
    """

    next: int
    width: int
    offset: int


class Decoder:
    """Reads symbols: for each, get the :meth:`target`, find the interval that contains it, and :meth:`consume` that."""

    def __init__(self, stream: bytes) -> None:
        self._stream = stream
        self._unit = 0
        self.state = DecoderState(_LEADING, TOP, int.from_bytes(stream[:_LEADING].ljust(_LEADING, b"\0"), "big"))

    @property
    def state(self) -> "DecoderState":
        """The state; after it is set, decoding continues from there."""
        return DecoderState(self._next, self._width, self._offset)

    @state.setter
    def state(self, state: "DecoderState") -> None:
        self._next, self._width, self._offset = state

    def target(self) -> int:
        """Return a number in [0, 2¹⁶) that lies in the interval of the next symbol.

        Raises:
            CorruptFileError: The stream is not one that :func:`encode` writes.
        """
        self._unit = self._width >> PRECISION
        target = self._offset // self._unit
        if target >> PRECISION:
            raise CorruptFileError(DAMAGED)
        return target

    def consume(self, start: int, frequency: int) -> None:
        """Advance past the symbol with this interval, the one that contains :meth:`target`."""
        self._offset -= self._unit * start
        self._width = self._unit * frequency
        while self._width < _BOTTOM:
            byte = self._stream[self._next] if self._next < len(self._stream) else 0
            self._next += 1
            self._offset = self._offset << 8 | byte
            self._width <<= 8

    @property
    def beyond_end(self) -> bool:
        """Whether the next symbol depends on bytes past the end of the stream, which are taken as zeros."""
        return self._next > len(self._stream)

    def check_end(self) -> None:
        """Check that the stream ends here, in the same way as :func:`encode` ends it.

        Raises:
            CorruptFileError: It does not.
        """
        read = self._stream[self._next - _LEADING : self._next].ljust(_LEADING, b"\0")
        number = int.from_bytes(read, "big")
        low = (number - self._offset) % TOP
        if (
            number != _shortest_in(low, low + self._width) % TOP
            or len(self._stream) > self._next
            or self._stream.endswith(b"\0")
        ):
            raise CorruptFileError("the payload does not end where its symbols do")


class TruncatedDecoder(Decoder):
    """Reads a stream whose end is missing, as far as the symbols are certain."""

    def target(self) -> int:
        """Return a number in [0, 2¹⁶) that lies in the interval of the next symbol.

        Raises:
            TruncatedFileError: The next symbol depends on missing bytes.
            CorruptFileError: The stream is not one that :func:`encode` writes.
        """
        if self.beyond_end:
            raise TruncatedFileError("the payload ends within its symbols")
        return super().target()


def _shortest_in(low: int, high: int) -> int:
    """Return the number in [low, high) with the most trailing zero bytes."""
    for bits in range(_BITS, -1, -8):
        number = -(-low >> bits) << bits
        if number < high:
            return number
    raise ValueError(f"nothing lies in [{low}, {high})")


def _carry(out: bytearray) -> None:
    """Add one to the last byte written, and to those before it while they overflow."""
    last = len(out) - 1
    while out[last] == 0xFF:
        out[last] = 0
        last -= 1
    out[last] += 1
