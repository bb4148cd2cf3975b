"""What programs do with SDC files besides opening and saving them through Pillow, for one picture and for many."""

from .many import decode_batch, decode_each, encode_batch, encode_each
from .single import (
    SdcInfo,
    decode,
    decode_latents,
    encode,
    encode_file,
    encode_latents,
    fetch_model,
    info,
    read_latents,
    read_preview,
)

__all__ = [
    "SdcInfo",
    "decode",
    "decode_batch",
    "decode_each",
    "decode_latents",
    "encode",
    "encode_batch",
    "encode_each",
    "encode_file",
    "encode_latents",
    "fetch_model",
    "info",
    "read_latents",
    "read_preview",
]
