"""What programs give as a picture or as a file, opened."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ..errors import NotSdcError
from ..format import container
from ..registration import FORMAT, is_of_pillow

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

SdcSource = str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes]
"""A path, the bytes of a file, or a binary file object, which is read from its start, as Pillow does."""

if TYPE_CHECKING:
    Picture = Image.Image | NDArray[np.uint8] | SdcSource
    """A picture, a uint8 array ``(H, W)`` or ``(H, W, 2, 3 or 4)``, or a file of any format that Pillow reads."""


@contextmanager
def as_picture(image: "Picture") -> "Iterator[Image.Image]":
    """Give Pillow's picture of a picture, an array or a file; a file that this opens is closed again.

    Raises:
        TypeError: ``image`` is not one of these.
        ValueError: The array has another shape or type than :func:`encode` takes.
        OSError: The file cannot be read (``UnidentifiedImageError`` if it is not a picture).
    """
    from PIL import Image

    given: Any = image
    if is_of_pillow(given, "Image"):
        yield given
    elif isinstance(given, bytes | bytearray | memoryview):
        with Image.open(io.BytesIO(given)) as picture:
            yield picture
    elif isinstance(given, str | os.PathLike) or hasattr(given, "read"):
        with Image.open(given) as picture:
            yield picture
    elif hasattr(given, "__array__") or hasattr(given, "__array_interface__"):
        samples = as_array(given)
        _check_samples(samples)
        yield Image.fromarray(samples)
    else:
        raise TypeError(
            f"object of type {type(given).__name__} is not a picture; give a picture of Pillow's, a uint8 array, a"
            " path, the bytes of a file, or a binary file object"
        )


def open_sdc(fp: IO[bytes]) -> "Image.Image":
    """Open an SDC file, given at its start, as ``Image.open`` does.

    Raises:
        PIL.UnidentifiedImageError: It is not an SDC file; the message says what it is, if that can be seen.
        OSError: It is damaged.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        container.check_signature(container.read_up_to(fp, container.HEADER_BYTES))
    except NotSdcError as error:
        raise UnidentifiedImageError(str(error)) from error
    fp.seek(0)
    return Image.open(fp, formats=[FORMAT])


@contextmanager
def open_source(source: SdcSource) -> Iterator[IO[bytes]]:
    """Give a file object at the start of a source; the caller's own is left open.

    Raises:
        TypeError: ``source`` is not a path, bytes or a file object.
        OSError: The file cannot be opened.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        yield io.BytesIO(source)
    elif isinstance(source, str | os.PathLike):
        with Path(source).open("rb") as fp:
            yield fp
    elif hasattr(source, "read"):
        try:
            source.seek(0)
        except (AttributeError, io.UnsupportedOperation):  # a pipe, say, which Pillow reads to its end, too
            source = io.BytesIO(source.read())
        yield source
    else:
        raise TypeError(
            f"object of type {type(source).__name__} is not a file; give a path, the bytes of a file, or a binary file"
            " object"
        )


def as_array(values: Any) -> "NDArray[Any]":
    """Return numbers as an array, those of a torch tensor from whatever device; torch itself is not imported."""
    import numpy as np

    torch: Any = sys.modules.get("torch")  # it is there if there is a tensor
    if torch is None or not isinstance(values, torch.Tensor):
        return np.asarray(values)
    array: NDArray[Any] = (values.float() if values.is_floating_point() else values).numpy(force=True)
    return array  # float32, for numpy has no bfloat16


def _check_samples(samples: "NDArray[Any]") -> None:
    """Refuse an array that is not a picture.

    Raises:
        ValueError: It is not uint8, not shaped as any mode demands, or empty.
    """
    channels = samples.shape[2] if samples.ndim == 3 else 1
    if samples.dtype != "uint8" or samples.ndim not in (2, 3) or (samples.ndim == 3 and channels not in (2, 3, 4)):
        message = f"samples of shape {samples.shape} and type {samples.dtype}; expected uint8 (H, W[, 2, 3 or 4])"
        advice = "" if samples.dtype == "uint8" else ": scale them to 0 to 255, and convert them with .astype('uint8')"
        raise ValueError(message + advice)
    if not samples.size:
        raise ValueError(f"size {samples.shape[1]}×{samples.shape[0]}: the smallest picture is 1×1")
