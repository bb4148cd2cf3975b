"""What programs do with SDC files besides opening and saving them through Pillow."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, cast

from . import options
from .errors import NotSdcError
from .format import container
from .progress import ProgressCallback
from .registration import FORMAT, is_of_pillow

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray
    from PIL import Image

Source = str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes]
"""A path, the bytes of a file, or a binary file object, which is read from its start, as Pillow does."""

if TYPE_CHECKING:
    Picture = Image.Image | NDArray[np.uint8] | Source
    """A picture, a uint8 array ``(H, W)`` or ``(H, W, 2, 3 or 4)``, or a file of any format that Pillow reads."""


class SdcInfo(NamedTuple):
    """What a file says of itself, read without decoding the picture.

    Attributes:
        width, height: Size in pixels.
        mode: Pillow mode.
        codec: Name of the latent codec.
        latent_space: Name of the space that the latents live in.
        file_bytes: Bytes from the signature to the payload's end, as the chunks say; truncation goes unnoticed.
        payload_bytes: Bytes of the latents' payload.
        bits_per_pixel: 8 · ``file_bytes`` / (``width`` · ``height``).
        chunks: Type letter and data length of every chunk, in the file's order.
    """

    width: int
    height: int
    mode: str
    codec: str
    latent_space: str
    file_bytes: int
    payload_bytes: int
    bits_per_pixel: float
    chunks: tuple[tuple[str, int], ...]


def encode(image: "Picture", *, progress: ProgressCallback | None = None, **save_options: Any) -> bytes:
    """Return the bytes of an ``.sdc`` file.

    Args:
        image: A picture; a uint8 array ``(H, W)`` or ``(H, W, 2, 3 or 4)``: grey or colour, with alpha or without; or
            what ``Image.open`` makes a picture of: a path, the bytes of a file, or a binary file object.
        progress: Called in this thread after each step, with the steps that are done and the steps that there are, as
            far as is known. A step is a tile of up to 768×768 pixels that the network has encoded, or 1,024 rows of
            pixels that the codec has gone through once; each trial of ``target_size`` adds steps. The last call is with
            two equal numbers. What it raises ends the work and is raised here.
        **save_options: Those of ``Image.save``: ``quality``, ``target_size``, ``codec``, ``palette_size``, ``dither``,
            ``model``, ``device``, ``dtype``, ``exif``, ``icc_profile``, ``xmp``, ``dpi``. Of an SDC file that is not
            loaded, or not modified since, the latents are taken from the file, without a model.

    Raises:
        TypeError: ``image`` is none of these.
        ValueError: An option is outside its range, or the array has another shape or type.
        PIL.UnidentifiedImageError: The file is not a picture that Pillow can read (also an ``OSError``).
        OSError: The file cannot be read, the picture's mode cannot be written, or the model is unavailable or failed.
    """
    if save_options.keys() & {"save_all", "append_images"}:
        buffer = io.BytesIO()
        with as_picture(image) as picture:
            picture.save(buffer, FORMAT, progress=progress, **save_options)
        return buffer.getvalue()
    return encode_file(image, progress=progress, **save_options).data


def encode_file(
    image: "Picture", *, progress: ProgressCallback | None = None, **save_options: Any
) -> container.EncodedFile:
    """Do as :func:`encode`, and return the file together with its header."""
    from .plugin import checked_progress, converted, unmodified
    from .plugin import save_options as checked

    with as_picture(image) as picture:
        container.check_size(*picture.size)
        callback = checked_progress(progress)
        if (source := unmodified(picture)) is not None:  # which to load would take a model
            return checked(picture, save_options).resaved(source, callback)
        import numpy as np

        from .models import get_models
        from .pipeline import stages

        picture.load()  # so that metadata are known that come after the pixels
        given = checked(picture, save_options)
        samples, models = np.asarray(converted(picture)), get_models(given.settings)
        header = stages.header_of(samples, given.codec, given.metadata)
        data = stages.encode(samples, given.codec, models, given.metadata, given.target_size, callback)
        return container.EncodedFile(header, data)


def decode(source: Source, *, progress: ProgressCallback | None = None) -> "Image.Image":
    """Return the picture of an ``.sdc`` file, loaded; ``numpy.asarray`` of it is its array.

    Args:
        source: A path, the bytes of a file, or a binary file object.
        progress: Called in this thread after each step, with the steps that are done and the steps that there are, as
            far as is known. A step is 1,024 rows of pixels that the codec has read, or a tile of up to 768×768 pixels
            that a network has computed; where a denoiser is needed, each of its evaluations for a tile adds a step. The
            last call is with two equal numbers. What it raises ends the work and is raised here.

    Raises:
        PIL.UnidentifiedImageError: The file is not an SDC file.
        OSError: The file is damaged, or the model is unavailable or failed.
        TypeError: ``source`` is not a path, bytes or a file object.
    """
    with opened(source) as fp:
        image: Any = open_sdc(fp)
        image.on_progress(progress)
        image.load()
        return cast("Image.Image", image)


def read_latents(source: Source) -> "NDArray[np.float32]":
    """Return a file's latents, float32 ``(4, ⌈H/8⌉, ⌈W/8⌉)``, SD-scaled: a training sample for latent diffusion.

    No model is loaded, and the latents are the same on every machine. They take a quarter of a byte a pixel, and the
    file may be much smaller; Pillow's limit on decompression bombs does not apply.

    Raises:
        NotSdcError: The file is not an SDC file (also a ``SyntaxError``).
        OSError: The file is damaged.
    """
    from .pipeline import stages

    with opened(source) as fp:
        return stages.decode_latents(fp, container.read_layout(fp)).latents


def read_preview(source: Source) -> "Image.Image":
    """Return a file's picture at an eighth of its size, ``⌈W/8⌉×⌈H/8⌉``, without any model.

    Raises:
        NotSdcError: The file is not an SDC file (also a ``SyntaxError``).
        OSError: The file is damaged.
    """
    from PIL import Image

    from .pipeline import stages

    with opened(source) as fp:
        layout = container.read_layout(fp)
        latents, alpha = stages.decode_latents(fp, layout).latents, stages.decode_alpha(fp, layout)
        return Image.fromarray(stages.preview_samples(latents, layout.header, alpha))


def encode_latents(image: "Picture", *, progress: ProgressCallback | None = None) -> "NDArray[np.float32]":
    """Return the latents that the model of the current settings makes of a picture, before any quantisation.

    Args:
        image: A picture, an array or a file, as :func:`encode` takes them; of modes that the format lacks, what
            ``save`` would store. What full transparency hides is replaced by what costs little.
        progress: As :func:`encode` calls it.

    Returns:
        float32 ``(4, ⌈H/8⌉, ⌈W/8⌉)``, SD-scaled.

    Raises:
        TypeError: ``image`` is none of these.
        ValueError: The array has another shape or type.
        PIL.UnidentifiedImageError: The file is not a picture that Pillow can read (also an ``OSError``).
        OSError: The file cannot be read, the picture's mode would lose precision, or the model is unavailable or
            failed.
    """
    import numpy as np

    from . import models
    from .pipeline import stages
    from .plugin import converted

    with as_picture(image) as picture:
        samples = np.asarray(converted(picture))
    steps = stages.counted("encoding latents of", (samples.shape[1], samples.shape[0]), progress=progress)
    return stages.encode_latents(samples, models.get_models(options.settings()), steps)


def decode_latents(
    latents: "ArrayLike",
    *,
    size: tuple[int, int] | None = None,
    noise_variance: float = 0.0,
    progress: ProgressCallback | None = None,
) -> "Image.Image":
    """Return the picture that the model of the current settings makes of latents, such as those of image-to-image.

    Args:
        latents: ``(4, h, w)``, SD-scaled; an array or a torch tensor of any floating-point type, on any device.
        size: Width and height to crop to, covered by as many latents; 8w×8h unless given.
        noise_variance: Noise in the latents, which is removed as it is from a file's.
        progress: As :func:`decode` calls it.

    Returns:
        A picture of mode RGB.

    Raises:
        ValueError: The latents are not ``(4, h, w)`` or not finite, or the size is not covered by so many.
        OSError: The model is unavailable or failed.
    """
    import numpy as np
    from PIL import Image

    from . import models
    from .format.codec import check_latents
    from .format.codecs import CODECS, QuantisedLatents
    from .pipeline import stages

    with np.errstate(over="ignore"):  # what is too large for float32 is refused as infinite
        checked = check_latents(_as_array(latents).astype(np.float32)).astype(np.float32)
    rows, columns = checked.shape[1:]
    full = container.PIXELS_PER_LATENT * columns, container.PIXELS_PER_LATENT * rows
    width, height = size or full
    header = container.Header(width, height, "RGB", CODECS.default.name)
    if header.latent_shape != (rows, columns):
        raise ValueError(f"size {width}×{height} is not covered by {columns}×{rows} latents")
    settings = options.settings()
    stored = stages.StoredImage(header, QuantisedLatents(checked, float(noise_variance)))
    steps = stages.counted("decoding latents of", header.size, progress=progress)
    (picture,) = stages.decode([stored], models.get_models(settings), settings.denoise_steps, steps)
    return Image.fromarray(picture.samples)


def info(source: Source) -> SdcInfo:
    """Return what a file says of itself; the payload is not read.

    Raises:
        NotSdcError: The file is not an SDC file (also a ``SyntaxError``).
        OSError: The header or the chunks are damaged.
    """
    with opened(source) as fp:
        layout = container.read_layout(fp)
    header = layout.header
    return SdcInfo(
        width=header.width,
        height=header.height,
        mode=header.mode,
        codec=header.codec,
        latent_space=header.latent_space,
        file_bytes=layout.size,
        payload_bytes=layout.payload.length,
        bits_per_pixel=header.bits_per_pixel(layout.size),
        chunks=tuple((chr(chunk.type), chunk.length) for chunk in layout.chunks),
    )


def fetch_model(model: str) -> Path:
    """Bring a model into the local cache, so that encoding and decoding with it need no network.

    Args:
        model: Id of a repository on the Hugging Face hub, or a directory, which is checked and left where it is.

    Returns:
        The directory that holds the model.

    Raises:
        ModelUnavailableError: The model cannot be had (also an ``OSError``).
    """
    from . import models

    return models.fetch_model(model)


@contextmanager
def as_picture(image: "Picture") -> "Iterator[Image.Image]":
    """Give Pillow's picture of a picture, an array or a file; a file that this opens is closed again.

    Raises:
        TypeError: ``image`` is none of these.
        ValueError: The array has another shape or type than :func:`encode` takes.
        OSError: The file cannot be read (``UnidentifiedImageError`` if it is not a picture).
    """
    from PIL import Image

    from .pipeline import stages

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
        samples = _as_array(given)
        stages.mode_of(samples)  # refuses what is no picture
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
def opened(source: Source) -> Iterator[IO[bytes]]:
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


def _as_array(values: Any) -> "NDArray[Any]":
    """Return numbers as an array, those of a torch tensor from whatever device; torch itself is not imported."""
    import numpy as np

    torch: Any = sys.modules.get("torch")  # it is there if there is a tensor
    if torch is None or not isinstance(values, torch.Tensor):
        return np.asarray(values)
    array: NDArray[Any] = (values.float() if values.is_floating_point() else values).numpy(force=True)
    return array  # float32, for numpy has no bfloat16
