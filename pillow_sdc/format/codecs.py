"""Latent codecs: latents to payload and back, and the one registry of them."""

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
"""Every codec of format version 1."""
