"""Registers the format with Pillow at the cost of a few dictionary entries.

The container, the plugin and ``PIL.ImageFile``, which its classes derive from, are imported when they are first needed.
"""

import sys
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

FORMAT = "SDC"
DECODER = ENCODER = "sdc"
PREVIEW_DECODER = "sdc_preview"

_PLUGIN = f"{__package__}.plugin"


def register() -> None:
    """Make Pillow read and write ``.sdc`` files; calling it again does no harm.

    It is for the Pillow that is imported now. Where a program has Pillow imported anew, or reloads ``PIL.Image``, the
    start-up hook calls this again; without the hook that is the program's part.
    """
    Image: Any = import_module("PIL.Image")  # noqa: N806 - ``PIL`` itself may still have the one from before

    @cache
    def plugin() -> ModuleType:
        # Its classes derive from those of one Pillow, and each import of Pillow has its own.
        if getattr(sys.modules.get(_PLUGIN), "Image", Image) is not Image:
            sys.modules.pop(_PLUGIN, None)
        return import_module(_PLUGIN)

    def of_plugin(name: str) -> Any:
        return lambda *arguments: getattr(plugin(), name)(*arguments)

    Image.register_open(FORMAT, of_plugin("SdcImageFile"), _accept)
    Image.register_save(FORMAT, of_plugin("save"))
    Image.register_save_all(FORMAT, of_plugin("save_all"))
    Image.register_decoder(DECODER, of_plugin("SdcDecoder"))
    Image.register_decoder(PREVIEW_DECODER, of_plugin("SdcPreviewDecoder"))
    Image.register_encoder(ENCODER, of_plugin("SdcEncoder"))
    Image.register_extension(FORMAT, ".sdc")
    Image.register_mime(FORMAT, "image/x-sdc")


def is_of_pillow(value: object, name: str) -> bool:
    """Tell whether a value is an instance of a class of ``PIL.Image``, also if that has been imported anew since."""
    return any((kind.__module__, kind.__name__) == ("PIL.Image", name) for kind in type(value).__mro__)


def _accept(prefix: bytes) -> bool:
    from .container import SIGNATURE, accepts

    # Of a file that is read in small pieces the prefix may be shorter than the signature; opening reads the rest.
    return accepts(prefix) or SIGNATURE.startswith(prefix)
