"""Saving an opened file again: its payload as it is, or its latents quantised anew, and no model in either case.

A loaded picture keeps what its file held, still coded, and a hash of the pixels that the model made of it. As long as
the pixels have that hash, the latents of the file are those of the picture, and better ones cannot be had: decoding
them by one network and encoding the pixels by another only loses.
"""

import threading
import weakref
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any, NamedTuple

from ..format import container
from ..progress import CountedSteps, ProgressCallback

if TYPE_CHECKING:
    from PIL import Image

    from ..format.codecs import LatentCodec

KEEPS_PAYLOAD = "keeps_payload"
"""The key of ``Image.info["sdc"]`` that says whether saving the picture as SDC keeps the file's payload."""

_DIGEST_BYTES = 16


class Unmodified(NamedTuple):
    """What the file of an unmodified picture holds.

    Attributes:
        content: The latents and alpha, still coded.
        is_checked: Whether they have been decoded before, and so are known to be no damage.
    """

    content: container.Content
    is_checked: bool


class Original:
    """What a picture was loaded from, and which pixels that gave; nothing until it is loaded."""

    def __init__(self) -> None:
        self.reading = threading.Lock()
        """For the file of a picture that is not loaded, which has one position for all threads."""
        self._kept: tuple[container.Content, bytes] | None = None

    def keep(self, content: container.Content | None, samples: bytes) -> None:
        """Take what a file held, and the samples that it became; ``None`` is a file that is not whole."""
        self._kept = None if content is None else (content, _digest(samples))

    def of(self, image: "Image.Image") -> Unmodified | None:
        """Return what the file held, if a loaded picture is still what was loaded."""
        if self._kept is None:
            return None
        content, digest = self._kept
        is_same = (image.mode, image.size) == (content.header.mode, content.header.size)
        return Unmodified(content, is_checked=True) if is_same and _digest(image.tobytes()) == digest else None


def _digest(samples: bytes) -> bytes:
    """Return a hash in which different pictures do not meet by chance; it takes a millisecond for 512×512 pixels."""
    from hashlib import blake2b

    return blake2b(samples, digest_size=_DIGEST_BYTES).digest()


def resaved(
    unmodified: Unmodified,
    codec: "LatentCodec",
    asked: AbstractSet[str],
    metadata: Mapping[str, bytes],
    target_size: int | None,
    progress: ProgressCallback | None = None,
) -> container.EncodedFile:
    """Return the file of an unmodified picture: a copy, unless the options ask for something coarser, or another codec.

    Args:
        unmodified: What the picture's own file holds.
        codec: The codec that is asked for, with its options.
        asked: Which of ``codec``, its options and ``target_size`` were given; without any, the codec does not matter.
        metadata: Contents of metadata chunks, by their key in :data:`container.METADATA`.
        target_size: The most bytes that the file may have.
        progress: Called after each step; a copy is one.

    Raises:
        CorruptFileError: The file is damaged.
        OptionError: Even the coarsest latents take more than ``target_size``.
        ValueError: The metadata do not fit the format.
    """
    from . import stages

    content = unmodified.content
    container.check(content.header, metadata)
    width, height = content.header.size
    steps = CountedSteps(f"saving {width}×{height} again", progress)
    stored = None if unmodified.is_checked else stages.decode_content(content)
    if _is_met(content, codec, asked, metadata, target_size):
        steps.expect(1)
        steps.done()
        file = container.write(content.header, content.payload, metadata, content.alpha)
        return container.EncodedFile(content.header, file)
    steps.expect(codec.encode_steps(content.header.latent_shape[0]))
    latents = (stored or stages.decode_content(content)).quantised.latents
    header = content.header._replace(codec=codec.name)
    file = stages.write(header, latents, content.alpha, codec, metadata, target_size, steps)
    steps.finish()
    return container.EncodedFile(header, file)


def _is_met(
    content: container.Content,
    codec: "LatentCodec",
    asked: AbstractSet[str],
    metadata: Mapping[str, bytes],
    target_size: int | None,
) -> bool:
    """Tell whether a file has what is asked for already."""
    if not asked:
        return True
    if codec.name != content.header.codec:
        return False
    if target_size is not None:
        return len(content.payload) <= container.payload_room(target_size, metadata, content.alpha)
    return asked <= {"codec"} or codec.is_met_by(content.payload)


class Info(dict[Any, Any]):
    """``Image.info`` whose report, under ``"sdc"``, says what is true of the picture at that moment.

    Only what is asked for by its key does. In all else, and in what becomes of this in copies of the picture, the
    report says that the payload is not kept, which is true of these.
    """

    def __init__(self, report: Mapping[str, Any], keeps_payload: Callable[[], bool]) -> None:
        """Take a report, which may grow, and the method that tells of the picture whether saving keeps the payload."""
        super().__init__(sdc=report)
        self._keeps_payload = weakref.WeakMethod(keeps_payload)  # the picture holds this, and must be free to go

    def __getitem__(self, key: Any) -> Any:
        value = super().__getitem__(key)
        if key != "sdc" or not isinstance(value, Mapping):
            return value
        keeps_payload = self._keeps_payload()
        return {**value, KEEPS_PAYLOAD: keeps_payload is not None and keeps_payload()}

    def get(self, key: Any, default: Any = None, /) -> Any:
        """Return the value of a key, or the default."""
        try:
            return self[key]
        except KeyError:
            return default

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)
