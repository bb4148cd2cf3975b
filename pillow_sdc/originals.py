"""What a picture of Pillow was loaded from, as long as it is unmodified since.

A loaded picture keeps what its file held, still coded, and a hash of the decoded pixels. As long as the pixels have
that hash, saving the picture can do without a model (:mod:`pillow_sdc.pipeline.resaving`).
"""

import threading
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from .format import container
from .pipeline.resaving import Unmodified

if TYPE_CHECKING:
    from PIL import Image

KEEPS_PAYLOAD = "keeps_payload"
"""The key of ``Image.info["sdc"]`` that says whether saving the picture as SDC keeps the file's payload."""

_DIGEST_BYTES = 16


class Original:
    """What a picture was loaded from, and the pixels that were decoded from it; nothing until it is loaded."""

    def __init__(self) -> None:
        self.reading = threading.Lock()
        """For the file of a picture that is not loaded, which has one position for all threads."""
        self._kept: tuple[container.Content, bytes] | None = None

    def keep(self, content: container.Content | None, samples: bytes) -> None:
        """Keep what a file held, and the samples that it became; ``None`` is a file that is not whole."""
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


class Info(dict[Any, Any]):
    """``Image.info`` whose report, under ``"sdc"``, says what is true of the picture at that moment.

    Only what is asked for by its key does. In all else, and in what becomes of this in copies of the picture, the
    report says that the payload is not kept, which is true of these.
    """

    def __init__(self, report: Mapping[str, Any], keeps_payload: Callable[[], bool]) -> None:
        """Take a report, which may grow, and the method that tells whether saving the picture keeps the payload."""
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
