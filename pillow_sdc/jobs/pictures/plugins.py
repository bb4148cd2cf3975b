"""Formats that Pillow reads with the plugins of other packages, which are registered when such a file is met.

``import pillow_sdc`` registers none: these are for the command line and its workers.
"""

import re
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import IO, TYPE_CHECKING, NamedTuple

from ...errors import summary_of

if TYPE_CHECKING:
    from PIL import Image

PREFIX_LENGTH = 16
"""Bytes that signatures are looked for in."""


class Plugin(NamedTuple):
    """Packages that read a format.

    Attributes:
        suffixes: Those of its files, in lower case.
        signature: Matches the first bytes of its files.
        package: What to install.
        modules: Modules of packages that will do, the best first.
        opener: The function of a module that registers the format; ``None`` if importing the module does.
    """

    suffixes: tuple[str, ...]
    signature: re.Pattern[bytes]
    package: str
    modules: tuple[str, ...]
    opener: str | None = None


PLUGINS = (
    Plugin(
        (".heic", ".heics", ".heif", ".heifs", ".hif"),
        re.compile(rb".{4}ftyp(hei[cmsx]|hev[cmsx]|mif1|msf1)", re.DOTALL),
        "pillow-heif",
        ("pillow_heif", "pi_heif"),
        "register_heif_opener",
    ),
    Plugin((".jxl",), re.compile(rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n"), "pillow-jxl-plugin", ("pillow_jxl",)),
    # Pillow reads AVIF itself from version 11.3 on, where it is built with it.
    Plugin(
        (".avif", ".avifs"),
        re.compile(rb".{4}ftypavi[fs]", re.DOTALL),
        "pillow-avif-plugin",
        ("pillow_avif",),
    ),
)


def format_of_suffix(suffix: str) -> str | None:
    """Return Pillow's name of the format that a suffix stands for, here and now; ``None`` if there is none."""
    from PIL import Image

    file_format = Image.registered_extensions().get(suffix)
    if file_format is None and (plugin := _plugin_of_suffix(suffix)) is not None and _register(plugin) is None:
        file_format = Image.registered_extensions().get(suffix)
    return file_format


def remedy(suffix: str) -> str | None:
    """Return what to do to have files with a suffix read; ``None`` if they are, or if nothing is known to read them."""
    plugin = _plugin_of_suffix(suffix)
    return None if plugin is None or format_of_suffix(suffix) is not None else _register(plugin)


def open_image(file: IO[bytes]) -> "Image.Image":
    """Open a picture as ``Image.open`` does, with the plugin that it needs.

    Raises:
        UnidentifiedImageError: It is not a picture.
        OSError: It cannot be read, or needs a plugin that is not here.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        return Image.open(file)
    except UnidentifiedImageError:
        file.seek(0)
        prefix = file.read(PREFIX_LENGTH)
        plugin = next((plugin for plugin in PLUGINS if plugin.signature.match(prefix)), None)
        if plugin is None:
            raise
        if (obstacle := _register(plugin)) is not None:
            raise OSError(f"a {plugin.suffixes[0]} file, which Pillow does not read by itself: {obstacle}") from None
    return Image.open(file)


def _plugin_of_suffix(suffix: str) -> Plugin | None:
    return next((plugin for plugin in PLUGINS if suffix in plugin.suffixes), None)


@cache
def _register(plugin: Plugin) -> str | None:
    """Register a plugin with Pillow; if that cannot be done, return what to do."""
    obstacle = f"install {plugin.package}"
    for name in plugin.modules:
        if find_spec(name) is None:
            continue
        try:
            module = import_module(name)
            if plugin.opener is not None:
                getattr(module, plugin.opener)()
        except Exception as error:  # whatever a broken installation raises
            obstacle = f"install {plugin.package} again; importing {name} fails: {summary_of(error)}"
        else:
            return None
    return obstacle
