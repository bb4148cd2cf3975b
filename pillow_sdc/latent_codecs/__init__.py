"""Latent codecs: latents to payload and back, and their registry."""

from ..errors import OptionError
from .context import ContextCodec
from .interfaces import LatentCodec, QuantisedLatents
from .palette import PaletteCodec
from .uint8 import Uint8Codec

__all__ = ["CODECS", "ContextCodec", "LatentCodec", "PaletteCodec", "QuantisedLatents", "Uint8Codec", "codec_by_name"]

CODECS: tuple[type[LatentCodec], ...] = (Uint8Codec, PaletteCodec, ContextCodec)
"""Every codec of format version 1."""


def codec_by_name(name: str) -> type[LatentCodec]:
    """Return the codec of a name.

    Raises:
        OptionError: There is no such codec.
    """
    for codec in CODECS:
        if codec.name == name:
            return codec
    raise OptionError(f"codec is {name!r}; it must be one of {', '.join(codec.name for codec in CODECS)}")
