"""Read and write ``.sdc`` images, photographs stored as quantised Stable Diffusion latents, through Pillow.

>>> import pillow_sdc  # registers the format
>>> from PIL import Image
>>> Image.open("photo.jpg").save("photo.sdc")  # doctest: +SKIP
>>> Image.open("photo.sdc").show()  # doctest: +SKIP

Importing this package costs little: numpy and onnxruntime, or torch and diffusers, are imported when a picture
is first coded.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from .errors import (
    BatchError,
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
from .registration import register

if TYPE_CHECKING:
    from .api import (
        SdcInfo,
        decode,
        decode_batch,
        decode_latents,
        encode,
        encode_batch,
        encode_latents,
        fetch_model,
        info,
        read_latents,
        read_preview,
    )
    from .options import Settings, configure, settings

__all__ = [
    "BatchError",
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
    "decode_batch",
    "decode_latents",
    "encode",
    "encode_batch",
    "encode_latents",
    "fetch_model",
    "info",
    "read_latents",
    "read_preview",
    "register",
    "settings",
]

__version__ = "0.1.0.dev0"

_MODULES = {
    "api": (
        "SdcInfo",
        "decode",
        "decode_batch",
        "decode_latents",
        "encode",
        "encode_batch",
        "encode_latents",
        "fetch_model",
        "info",
        "read_latents",
        "read_preview",
    ),
    "options": ("Settings", "configure", "settings"),
}
"""Where the names are that few programs need; what most do is to import the package and let Pillow do the rest."""


def __getattr__(name: str) -> object:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f".{module}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


register()
