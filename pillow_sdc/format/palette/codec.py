"""Codec ``palette``: the article's codec, a palette of 256 latents and dithered indices, under 4.9 kB for 512×512.

    latents ─▶ 8-bit levels ─▶ palette and dithered indices ─▶ payload

The modules, lowest first: :mod:`..eight_bit`, :mod:`.dithering`, :mod:`.design`, :mod:`.stream`.
"""

from typing import TYPE_CHECKING, Any

from ...progress import UNCOUNTED, Steps, steps_of
from ...ranges import Range
from ..codec import LatentCodec, QuantisedLatents, option

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class PaletteCodec(LatentCodec):
    """Latents as indices into a palette made for the picture, with Floyd–Steinberg error diffusion.

    Attributes:
        palette_size: Largest number of palette entries, 2 to 256.
        dither: Fraction of the quantisation error that is diffused to neighbours, 0 to 1.
    """

    number = 2
    name = "palette"
    help = "the article's, a palette of latents and dithered indices"

    palette_size: int = option(256, Range(int, 2, 256), "Largest number of palette entries")
    dither: float = option(1.0, Range(float, 0, 1), "Fraction of the quantisation error that is diffused")

    def encode(self, latents: "NDArray[np.float32]", steps: Steps = UNCOUNTED) -> bytes:
        """Return the payload of latents ``(4, h, w)``; values outside ±4.23 are clamped."""
        import numpy as np

        from ..eight_bit import to_levels
        from . import stream as palette_stream
        from .design import design_palette

        values = np.moveaxis(to_levels(latents), 0, 2)
        palette, indices, exact = design_palette(values, self.palette_size, self.dither, steps)
        return palette_stream.write(palette, indices, exact=exact)

    def is_met_by(self, payload: bytes) -> bool:
        """Return whether a payload's palette has at most ``palette_size`` entries; ``dither`` does not matter."""
        from . import stream as palette_stream

        return palette_stream.entries(payload) <= self.palette_size

    def encode_steps(self, rows: int) -> int:
        """Return the number of bands in all passes of dithering."""
        from .design import PASSES

        return PASSES * steps_of(rows)

    @staticmethod
    def decode(payload: bytes, rows: int, columns: int, steps: Steps = UNCOUNTED) -> QuantisedLatents:
        """Return the latents ``(4, rows, columns)`` of a payload."""
        from . import stream as palette_stream

        return palette_stream.read(payload, rows, columns)

    @classmethod
    def decode_truncated(cls, payload: bytes, rows: int, columns: int, steps: Steps = UNCOUNTED) -> QuantisedLatents:
        """Return the latents ``(4, rows, columns)`` of a truncated payload; the missing ones are zero."""
        from . import stream as palette_stream

        return palette_stream.read_truncated(payload, rows, columns)

    @staticmethod
    def describe(payload: bytes) -> dict[str, Any]:
        """Return the number of palette entries, and whether the palette is exact: holds every latent of the picture."""
        from . import stream as palette_stream

        return {"entries": palette_stream.entries(payload), "exact": palette_stream.is_exact(payload)}

    @staticmethod
    def codebook(payload: bytes) -> "NDArray[np.float32]":
        """Return the palette, SD-scaled ``(entries, 4)``."""
        from ..eight_bit import from_levels
        from . import stream as palette_stream

        palette, _, _ = palette_stream.read_palette(payload)
        return from_levels(palette)
