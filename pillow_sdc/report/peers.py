"""What other formats make of the bytes that a picture is given."""

import bisect
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import numpy as np
from PIL import Image

from .metrics import Samples

QUALITIES = range(1, 100)
"""Those that are tried; 100 means lossless to some plugins, and is an error to others."""


@dataclass(frozen=True)
class Peer:
    """A format to compare with.

    Attributes:
        key: Name in files of figures.
        label: Name for people.
        pillow_format: Pillow's name of it.
        save_options: Pillow's, besides the quality: the encoder's best effort within a second.
        shrink: What makes a file smaller without loss.
        plugin: Module that teaches Pillow the format, where Pillow does not know it itself.
        package: What installs the module.
    """

    key: str
    label: str
    pillow_format: str
    save_options: dict[str, Any] = field(default_factory=dict)
    shrink: Callable[[bytes], bytes] | None = None
    plugin: str | None = None
    package: str | None = None


@dataclass(frozen=True)
class PeerFile:
    """A file of a peer: its bytes, its quality, and whether it has no more bytes than were asked for."""

    data: bytes
    quality: int
    fits: bool


def optimise_jpeg(data: bytes) -> bytes:
    """Return a JPEG of the same coefficients, coded by mozjpeg if that takes less and if it is installed."""
    if not find_spec("mozjpeg_lossless_optimization"):
        return data
    import mozjpeg_lossless_optimization

    optimised: bytes = mozjpeg_lossless_optimization.optimize(data)
    return min(optimised, data, key=len)


PEERS = (
    Peer("jpeg", "JPEG", "JPEG", {"optimize": True}, shrink=optimise_jpeg),
    Peer("webp", "WebP", "WEBP", {"method": 6}),
    Peer("avif", "AVIF", "AVIF", {"speed": 4}),
    Peer("jxl", "JPEG XL", "JXL", {"effort": 7}, plugin="pillow_jxl", package="pillow-jxl-plugin"),
    Peer("heic", "HEIC", "HEIF", plugin="pillow_heif", package="pillow-heif"),
)


def load_peers() -> tuple[list[Peer], list[str]]:
    """Return the peers that can be written and read here, and a sentence for each that cannot."""
    available, notes = [], []
    for peer in PEERS:
        if peer.plugin and not find_spec(peer.plugin):
            notes.append(f"{peer.label} is left out: the package {peer.package} is not installed.")
            continue
        _register(peer)
        if peer.pillow_format not in Image.SAVE:
            notes.append(f"{peer.label} is left out: this Pillow was built without it.")
            continue
        available.append(peer)
    if not find_spec("mozjpeg_lossless_optimization"):
        notes.append(
            "JPEG files are Pillow’s own: the package mozjpeg-lossless-optimization, which would make them some percent"
            " smaller, is not installed."
        )
    return available, notes


def _register(peer: Peer) -> None:
    Image.init()
    if peer.plugin == "pillow_heif":
        import pillow_heif

        pillow_heif.register_heif_opener()
    elif peer.plugin:
        __import__(peer.plugin)


class PeerEncoder:
    """A peer's files of one picture; none is encoded twice."""

    def __init__(self, peer: Peer, samples: Samples) -> None:
        self.peer = peer
        self._picture = Image.fromarray(samples)
        self._files: dict[int, bytes] = {}

    def best_within(self, size: int) -> PeerFile:
        """Return the file of the highest quality that takes at most ``size`` bytes, or else of the lowest quality.

        Raises:
            OSError: The format cannot hold this picture.
        """
        fitting = bisect.bisect_right(QUALITIES, size, key=lambda quality: len(self.encode(quality)))
        quality = QUALITIES[max(0, fitting - 1)]
        data = self.encode(quality)
        return PeerFile(data, quality, len(data) <= size)

    def encode(self, quality: int) -> bytes:
        """Return the file of a quality."""
        if quality not in self._files:
            file = io.BytesIO()
            try:
                self._picture.save(file, self.peer.pillow_format, quality=quality, **self.peer.save_options)
            except Exception as error:  # plugins raise what they like, for instance of a picture that is too large
                raise OSError(f"{self.peer.label} cannot hold this picture: {error}") from error
            data = file.getvalue()
            self._files[quality] = self.peer.shrink(data) if self.peer.shrink else data
        return self._files[quality]


def decode(data: bytes) -> Samples:
    """Return the samples of a peer's file."""
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB"))
