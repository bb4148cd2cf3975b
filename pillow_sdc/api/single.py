"""One picture: to bytes and back, to latents and back, and what a file says of itself."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from .. import options
from ..format import container
from ..progress import ProgressCallback
from .sources import SdcSource, as_array, as_picture, open_sdc, open_source

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray
    from PIL import Image

    from ..pipeline.encoding import EncodedFile
    from .sources import Picture


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

    def _repr_html_(self) -> str:
        """Return a table, for notebooks."""
        from .display import table

        chunks = ", ".join(f"{letter} {length:,}" for letter, length in self.chunks)
        numbers = {"file_bytes": f"{self.file_bytes:,}", "payload_bytes": f"{self.payload_bytes:,}"}
        shown = {"bits_per_pixel": f"{self.bits_per_pixel:.3f}", "chunks": chunks}
        return table({name: str(value) for name, value in (self._asdict() | numbers | shown).items()})


def encode(image: "Picture", *, progress: ProgressCallback | None = None, **save_options: Any) -> bytes:
    """Return the bytes of an ``.sdc`` file.

    Args:
        image: A picture; a uint8 array ``(H, W)`` or ``(H, W, 2, 3 or 4)``: grey or colour, with alpha or without; or
            what ``Image.open`` takes: a path, the bytes of a file, or a binary file object.
        progress: Called in this thread after each step, with the steps that are done and the steps that there are, as
            far as is known. A step is a tile of up to 768×768 pixels that the network has encoded, or 1,024 rows of
            pixels that the codec has gone through once; each trial of ``target_size`` adds steps. The last call is with
            two equal numbers. What it raises ends the work and is raised here.
        **save_options: Those of ``Image.save``: ``quality``, ``target_size``, ``codec``, ``palette_size``, ``dither``,
            ``model``, ``vae``, ``device``, ``dtype``, ``exif``, ``icc_profile``, ``xmp``, ``dpi``. Of an SDC file
            that is not loaded, or not modified since, the latents are taken from the file, without a model.

    Raises:
        TypeError: ``image`` is not one of these.
        ValueError: An option is outside its range, or the array has another shape or type.
        PIL.UnidentifiedImageError: The file is not a picture that Pillow can read (also an ``OSError``).
        OSError: The file cannot be read, the picture's mode cannot be written, or the model is unavailable or failed.
    """
    return encode_file(image, progress=progress, **save_options).data


def encode_file(image: "Picture", *, progress: ProgressCallback | None = None, **save_options: Any) -> "EncodedFile":
    """Do as :func:`encode`, and return with the file what is known of it."""
    from ..pipeline import encoding
    from ..saving import check_one_frame, checked_progress, source_image

    callback = checked_progress(progress)
    with as_picture(image) as picture:  # not ``picture.save``, which would load an SDC file first, by a model
        if save_options.get("save_all") or (save_options.get("save_all") is None and "append_images" in save_options):
            check_one_frame(picture, save_options)
        source = source_image(picture, save_options)
    return encoding.encode(encoding.prepare(source), callback)


def decode(source: SdcSource, *, progress: ProgressCallback | None = None) -> "Image.Image":
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
    with open_source(source) as fp:
        image: Any = open_sdc(fp)
        image.on_progress(progress)
        image.load()
        return cast("Image.Image", image)


def read_latents(source: SdcSource) -> "NDArray[np.float32]":
    """Return a file's latents, float32 ``(4, ⌈H/8⌉, ⌈W/8⌉)``, SD-scaled: a training sample for latent diffusion.

    Notebooks show them as pictures. No model is loaded, and the latents are the same on every machine. They take a
    quarter of a byte a pixel, and the file may be much smaller; Pillow's limit on decompression bombs does not apply.

    Raises:
        NotSdcError: The file is not an SDC file (also a ``SyntaxError``).
        OSError: The file is damaged.
    """
    from ..pipeline import decoding
    from .display import Latents

    with open_source(source) as fp:
        return decoding.read_latents(fp, container.read_layout(fp)).latents.view(Latents)


def read_preview(source: SdcSource) -> "Image.Image":
    """Return a file's picture at an eighth of its size, ``⌈W/8⌉×⌈H/8⌉``, without any model.

    Raises:
        NotSdcError: The file is not an SDC file (also a ``SyntaxError``).
        OSError: The file is damaged.
    """
    from PIL import Image

    from ..pipeline import decoding
    from ..pipeline.preview import preview_of

    with open_source(source) as fp:
        return Image.fromarray(preview_of(decoding.prepare(fp, container.read_layout(fp))))


def encode_latents(image: "Picture", *, progress: ProgressCallback | None = None) -> "NDArray[np.float32]":
    """Return the latents of a picture by the model of the current settings, before any quantisation.

    Args:
        image: A picture, an array or a file, as :func:`encode` takes them; of modes that the format lacks, what
            ``save`` would store. What full transparency hides is replaced by what costs little.
        progress: As :func:`encode` calls it.

    Returns:
        float32 ``(4, ⌈H/8⌉, ⌈W/8⌉)``, SD-scaled, which notebooks show as pictures.

    Raises:
        TypeError: ``image`` is not one of these.
        ValueError: The array has another shape or type.
        PIL.UnidentifiedImageError: The file is not a picture that Pillow can read (also an ``OSError``).
        OSError: The file cannot be read, the picture's mode would lose precision, or the model is unavailable or
            failed.
    """
    import numpy as np

    from ..pipeline import encoding
    from ..saving import converted
    from .display import Latents

    with as_picture(image) as picture:
        samples = np.asarray(converted(picture))
    return encoding.encode_latents(samples, options.settings(), progress).view(Latents)


def decode_latents(
    latents: "ArrayLike",
    *,
    size: tuple[int, int] | None = None,
    noise_variance: float = 0.0,
    progress: ProgressCallback | None = None,
) -> "Image.Image":
    """Return the picture of latents, such as those of image-to-image, by the model of the current settings.

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

    from ..format.codec import check_latents
    from ..format.codecs import QuantisedLatents
    from ..pipeline import decoding

    with np.errstate(over="ignore"):  # what is too large for float32 is refused as infinite
        checked = check_latents(as_array(latents).astype(np.float32)).astype(np.float32)
    rows, columns = checked.shape[1:]
    quantised = QuantisedLatents(checked, float(noise_variance))
    size = size or (container.PIXELS_PER_LATENT * columns, container.PIXELS_PER_LATENT * rows)
    return Image.fromarray(decoding.decode_latents(quantised, size, options.settings(), progress))


def info(source: SdcSource) -> SdcInfo:
    """Return what a file says of itself; the payload is not read.

    Raises:
        NotSdcError: The file is not an SDC file (also a ``SyntaxError``).
        OSError: The header or the chunks are damaged.
    """
    with open_source(source) as fp:
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
        model: Id of a repository on the Hugging Face hub, or a directory or file, which is checked and left where it
            is.

    Returns:
        The directory that holds the model, or its file.

    Raises:
        ModelUnavailableError: The model cannot be had (also an ``OSError``).
    """
    from .. import models

    return models.fetch_model(model)
