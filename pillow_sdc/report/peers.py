"""Other formats at the same number of bytes: the peers of a comparison."""

import bisect
import io
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from typing import Any

import numpy as np
from PIL import Image

from .metrics import Samples


@dataclass(frozen=True)
class Peer:
    """A format to compare with.

    Attributes:
        key: Name in files of figures.
        label: Name for people.
        pillow_format: Pillow's name of it.
        save_options: Pillow's, besides the quality: the encoder's best effort within a second.
        dip: Largest fraction of a file's bytes by which a file of lower quality may be larger, since sizes are not
            quite monotonic in the quality. Above what was measured on photographs, drawings, text, noise and gradients
            of 1×1 to 256×256 pixels (AVIF and HEIC: 130×130). If infinite, all qualities are tried.
        qualities: The format's qualities, without duplicates and lossless ones.
        shrink: A function that makes a file smaller without loss.
        reduction: Factor by which the picture is reduced before encoding, and enlarged after decoding, with Lanczos'
            filter.
        plugin: Module of the Pillow plugin for the format, if Pillow does not support it itself.
        package: Package that installs the plugin.
    """

    key: str
    label: str
    pillow_format: str
    save_options: dict[str, Any] = field(default_factory=dict)
    dip: float = math.inf
    qualities: range = range(101)
    shrink: Callable[[bytes], bytes] | None = None
    reduction: int = 1
    plugin: str | None = None
    package: str | None = None


@dataclass(frozen=True)
class PeerFile:
    """A file of a peer: its bytes, its quality, and whether it is within the budget."""

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


JPEG = Peer("jpeg", "JPEG", "JPEG", {"optimize": True}, dip=0.1, qualities=range(1, 101), shrink=optimise_jpeg)
WEBP = Peer("webp", "WebP", "WEBP", {"method": 6}, dip=0.3)
AVIF = Peer("avif", "AVIF", "AVIF", {"speed": 4}, dip=0.2)
AVIF_AT_HALF_SIZE = replace(AVIF, key="avif-half", label="AVIF at half size", reduction=2)
"""The usual way to very small AVIF files: at full size the lowest quality takes 2,300 bytes for 512×512 pixels."""
JXL = Peer(
    "jxl",
    "JPEG XL",
    "JXL",
    {"effort": 7},
    dip=math.inf,  # a checkerboard takes a ninth of the bytes from some quality on
    qualities=range(100),
    plugin="pillow_jxl",
    package="pillow-jxl-plugin",
)
HEIC = Peer("heic", "HEIC", "HEIF", dip=0.2, plugin="pillow_heif", package="pillow-heif")
PEERS = (JPEG, WEBP, AVIF, AVIF_AT_HALF_SIZE, JXL, HEIC)


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
        picture = Image.fromarray(samples)
        self._size = picture.size
        self._picture = _resized(picture, (-(-picture.width // peer.reduction), -(-picture.height // peer.reduction)))
        self._files: dict[int, bytes] = {}

    def best_within(self, size: int) -> PeerFile:
        """Return the file of the highest quality that takes at most ``size`` bytes, or else of the lowest quality.

        The search goes downwards from a quality whose file is so large that no higher quality can fit.

        Raises:
            OSError: The format cannot hold this picture.
        """
        qualities = self.peer.qualities
        too_large = size * (1 + self.peer.dip)
        end = bisect.bisect_right(qualities, too_large, key=lambda quality: len(self.encode(quality)))
        fitting = (quality for quality in reversed(qualities[:end]) if len(self.encode(quality)) <= size)
        quality = next(fitting, None)
        if quality is None:
            return PeerFile(self.encode(qualities[0]), qualities[0], fits=False)
        return PeerFile(self.encode(quality), quality, fits=True)

    def encode(self, quality: int) -> bytes:
        """Return the file of a quality."""
        if quality not in self._files:
            file = io.BytesIO()
            try:
                self._picture.save(file, self.peer.pillow_format, quality=quality, **self.peer.save_options)
            except Exception as error:  # plugins raise various errors, for instance for a picture that is too large
                raise OSError(f"{self.peer.label} cannot hold this picture: {error}") from error
            data = file.getvalue()
            self._files[quality] = self.peer.shrink(data) if self.peer.shrink else data
        return self._files[quality]

    def decode(self, data: bytes) -> Samples:
        """Return the samples of one of the files, at the size of the picture."""
        return np.asarray(_resized(Image.fromarray(decode(data)), self._size))


def decode(data: bytes) -> Samples:
    """Return the samples of a peer's file, at the size that they have there."""
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB"))


def _resized(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    return picture if picture.size == size else picture.resize(size, Image.Resampling.LANCZOS)
