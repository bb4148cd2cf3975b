"""Registers the format with Pillow and with :mod:`mimetypes`, at the cost of a few entries in dictionaries and lists.

The container, the plugin and ``PIL.ImageFile``, which its classes derive from, are imported when they are first needed.
"""

import os
import sys
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

FORMAT = "SDC"
MIME_TYPE = "image/x-sdc"
DECODER = ENCODER = "sdc"
PREVIEW_DECODER = "sdc_preview"

_PLUGIN = f"{__package__}.plugin"
_SUFFIX = ".sdc"
_MIME_TYPES = os.path.join(os.path.dirname(__file__), "mime.types")  # noqa: PTH118, PTH120 - pathlib is slow to import
"""Says the same as the constants above, in the form that :mod:`mimetypes` reads."""


def register() -> None:
    """Make Pillow read and write ``.sdc`` files, and :mod:`mimetypes` know them; calling it again does no harm.

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
    Image.register_extension(FORMAT, _SUFFIX)
    Image.register_mime(FORMAT, MIME_TYPE)
    _register_mime_type()


def _register_mime_type() -> None:
    """Have :mod:`mimetypes` answer with our type, where systems say that ``.sdc`` is of StarOffice Calc.

    ``mimetypes`` reads the files of the system when it is first asked, and again at each ``init()``. So a file of ours
    becomes the last of those that it reads.
    """
    try:
        import mimetypes
        from mimetypes import add_type, knownfiles
    except ImportError:  # left out of a frozen application, or something else of that name
        return
    if _MIME_TYPES not in knownfiles:
        knownfiles.append(_MIME_TYPES)
    if mimetypes.inited:
        add_type(MIME_TYPE, _SUFFIX)


def is_of_pillow(value: object, name: str) -> bool:
    """Tell whether a value is an instance of a class of ``PIL.Image``, also if that has been imported anew since."""
    return _is_of(value, "PIL.Image", name)


def is_opened_sdc(value: object) -> bool:
    """Tell whether a value is the plugin's picture, also if Pillow, and so the plugin, has been imported anew since."""
    return _is_of(value, _PLUGIN, "SdcImageFile")


def _is_of(value: object, module: str, name: str) -> bool:
    return any((kind.__module__, kind.__name__) == (module, name) for kind in type(value).__mro__)


def _accept(prefix: bytes) -> bool:
    from .format.container import SIGNATURE, accepts

    # Of a file that is read in small pieces the prefix may be shorter than the signature; opening reads the rest.
    return accepts(prefix) or SIGNATURE.startswith(prefix)
