"""Read and write ``.sdc`` images, photographs stored as quantised Stable Diffusion latents, through Pillow.

>>> import pillow_sdc  # registers the format
>>> from PIL import Image
>>> Image.open("photo.jpg").save("photo.sdc")  # doctest: +SKIP
>>> Image.open("photo.sdc").show()  # doctest: +SKIP

Importing this package costs little: numpy, torch and diffusers are imported when a picture is first coded.
"""

from .errors import (
    CorruptFileError,
    InsufficientMemoryError,
    ModelFailedError,
    ModelUnavailableError,
    NotSdcError,
    OptionError,
    SdcError,
    TruncatedFileError,
    UnsupportedFileError,
)
from .operations import SdcInfo, decode, encode, encode_latents, fetch_model, info, read_latents
from .options import Settings, configure, settings
from .registration import register

__all__ = [
    "CorruptFileError",
    "InsufficientMemoryError",
    "ModelFailedError",
    "ModelUnavailableError",
    "NotSdcError",
    "OptionError",
    "SdcError",
    "SdcInfo",
    "Settings",
    "TruncatedFileError",
    "UnsupportedFileError",
    "configure",
    "decode",
    "encode",
    "encode_latents",
    "fetch_model",
    "info",
    "read_latents",
    "register",
    "settings",
]

__version__ = "0.1.0.dev0"

register()
