"""The built-in latent codecs and their registry. New codecs: ``docs/adding_a_codec.md``."""

from .codec import Budget, LatentCodec, Option, QuantisedLatents, option
from .context.codec import ContextCodec
from .palette.codec import PaletteCodec
from .registry import TARGET_SIZE, Registry
from .uint8 import Uint8Codec

__all__ = [
    "CODECS",
    "TARGET_SIZE",
    "Budget",
    "ContextCodec",
    "LatentCodec",
    "Option",
    "PaletteCodec",
    "QuantisedLatents",
    "Registry",
    "Uint8Codec",
    "option",
]

CODECS = Registry(Uint8Codec, PaletteCodec, ContextCodec, default=PaletteCodec)
"""The registry. ``default`` is the codec that ``save`` uses when no option asks for another."""
