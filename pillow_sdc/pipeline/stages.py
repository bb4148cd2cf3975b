"""The codec as a whole: samples to file and file to samples, by way of latents.

    samples ─▶ autoencoder ─▶ latents ─▶ latent codec ─▶ container ─▶ bytes
    bytes ─▶ container ─▶ latent codec ─▶ latents ─▶ denoiser ─▶ autoencoder ─▶ samples

Nothing here knows of Pillow, and models are imported when there is something for them to do. Samples are 8-bit arrays:
``(H, W)`` for mode ``L``, ``(H, W, 2)`` for ``LA``, ``(H, W, 3)`` for ``RGB`` and ``(H, W, 4)`` for ``RGBA``. Alpha
goes by the latents' side, without loss.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import InsufficientMemoryError, OptionError
from ..format import alpha as alpha_plane
from ..format import container
from ..format.codecs import CODECS, LatentCodec, QuantisedLatents
from ..progress import UNCOUNTED, CountedSteps, ProgressCallback, Steps
from .preview import preview
from .tiling import blend, count

if TYPE_CHECKING:
    from ..models import Denoiser, Models

TILE = 96
"""Side of a tile in latents: pictures up to 768 pixels are computed in one piece."""

TILE_OVERLAP = 16

_PARTS = {"exif": "EXIF", "icc_profile": "colour profile", "xmp": "XMP", "dpi": "resolution", "alpha": "alpha"}

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of Rec. ITU-R BT.601, with which Pillow converts RGB to L."""


@dataclass(frozen=True)
class DecodedImage:
    """A decoded picture and how it came about.

    Attributes:
        samples: uint8, shaped as the mode demands.
        noise_variance: Noise that quantisation left in the latents, as the codec told.
        denoiser: Name of what removed the noise from the latents; ``None`` where there was too little for a denoiser,
            where none was wanted, or where the decoder removes noise itself.
        denoise_steps: Evaluations of the denoiser.
    """

    samples: NDArray[np.uint8]
    noise_variance: float
    denoiser: str | None
    denoise_steps: int


@dataclass(frozen=True)
class StoredImage:
    """What a file holds of its picture.

    Attributes:
        header: Size, mode and codec.
        quantised: The latents, and the noise in them.
        alpha: The alpha plane ``(H, W)``, in modes that have one.
        content: The same, still coded; ``None`` where it is not that of a whole file.
    """

    header: container.Header
    quantised: QuantisedLatents
    alpha: NDArray[np.uint8] | None = None
    content: container.Content | None = None


def encode(
    samples: NDArray[np.uint8],
    codec: LatentCodec,
    models: "Models",
    metadata: Mapping[str, bytes] | None = None,
    target_size: int | None = None,
    progress: ProgressCallback | None = None,
) -> bytes:
    """Return the file of a picture.

    Args:
        samples: uint8, shaped as one of the modes demands, 1 to 65,535 pixels a side.
        codec: The latent codec, with its options.
        models: Whose autoencoder makes the latents.
        metadata: Contents of metadata chunks, by their key in :data:`container.METADATA`.
        target_size: The most bytes that the file may have, for codecs with a budget alone, whose option it decides.
        progress: Called after each step; what it raises is raised here.

    Raises:
        ValueError: The array or the metadata does not fit the format, or even the coarsest latents take more than
            ``target_size``.
        ModelUnavailableError: The model cannot be loaded.
        ModelFailedError: The model failed on this picture.
    """
    header = header_of(samples, codec, metadata or {})
    steps = counted("encoding", header.size, codec.encode_steps(header.latent_shape[0]), progress)
    with _memory_for(*header.size):
        alpha = encode_alpha(samples, header)
        latents = encode_latents(samples, models, steps)
        file = write(header, latents, alpha, codec, metadata or {}, target_size, steps)
    steps.finish()
    return file


def decoding(header: container.Header, progress: ProgressCallback | None = None) -> CountedSteps:
    """Return what counts the steps of a picture's :func:`read` and :func:`decode`."""
    codec_steps = CODECS.named(header.codec).decode_steps(header.latent_shape[0])
    return counted("decoding", header.size, codec_steps, progress)


def counted(
    work: str, size: tuple[int, int], codec_steps: int = 0, progress: ProgressCallback | None = None
) -> CountedSteps:
    """Return what counts the steps of work on a picture: those of a codec, and the tiles of a network.

    Args:
        work: What is being done, for people to read.
        size: Of the picture, width and height in pixels.
        codec_steps: How many the codec takes.
        progress: Called after each step.
    """
    width, height = size
    steps = CountedSteps(f"{work} {width}×{height}", progress)
    rows, columns = (-(-length // container.PIXELS_PER_LATENT) for length in (height, width))
    steps.expect(codec_steps + _tiles(rows, columns))
    return steps


def _tiles(rows: int, columns: int) -> int:
    return count(rows, columns, tile=TILE, overlap=TILE_OVERLAP)


def header_of(samples: NDArray[np.uint8], codec: LatentCodec, metadata: Mapping[str, bytes]) -> container.Header:
    """Return the header of a picture's file, before any work is done for it.

    Raises:
        ValueError: The array or the metadata does not fit the format.
    """
    mode = mode_of(samples)
    height, width = samples.shape[:2]
    header = container.Header(width, height, mode, codec.name)
    container.check(header, metadata)
    return header


def encode_alpha(samples: NDArray[np.uint8], header: container.Header) -> bytes:
    """Return the content of the alpha chunk of a picture's file; nothing in modes without one."""
    return alpha_plane.encode(samples[:, :, -1]) if header.has_alpha else b""


def write(
    header: container.Header,
    latents: NDArray[np.float32],
    alpha: bytes,
    codec: LatentCodec,
    metadata: Mapping[str, bytes],
    target_size: int | None,
    steps: Steps = UNCOUNTED,
) -> bytes:
    """Return the file of a picture whose latents are there already, and whose alpha is coded.

    Raises:
        OptionError: Even the coarsest latents take more than ``target_size``, or the codec has no budget.
    """
    with _memory_for(*header.size):
        if target_size is None:
            payload = codec.encode(latents, steps)
        else:
            payload = codec.encode_within(latents, container.payload_room(target_size, metadata, alpha), steps)
    file = container.write(header, payload, metadata, alpha)
    if target_size is not None and len(file) > target_size:
        raise OptionError(_too_large(len(file), target_size, len(payload), metadata, alpha))
    return file


def _too_large(
    file_bytes: int, target_size: int, payload_bytes: int, metadata: Mapping[str, bytes], alpha: bytes
) -> str:
    """Return what is said of a file that takes more bytes than it may, however coarse its latents are."""
    beside = container.bytes_beside_payload(metadata, alpha)
    parts = {"latents": payload_bytes, **{_PARTS[key]: size for key, size in beside.items()}}
    parts["header and checksums"] = file_bytes - sum(parts.values())
    listed = ", ".join(f"{name} {size}" for name, size in parts.items())
    less = f"leave out the {' or the '.join(_PARTS[key] for key in beside)}, " if beside else ""
    return (
        f"target_size of {target_size} bytes cannot be met: the smallest file has {file_bytes} bytes ({listed}); "
        f"{less}make the picture smaller, or allow {file_bytes} bytes"
    )


def decode(
    stored: Sequence[StoredImage], models: "Models", denoise_steps: int, steps: Steps = UNCOUNTED
) -> list[DecodedImage]:
    """Return the pictures of files whose latents have one shape; they are computed together.

    Raises:
        ModelUnavailableError: The model cannot be loaded.
        ModelFailedError: The model failed on one of the pictures.
    """
    variances = [image.quantised.noise_variance for image in stored]
    denoisers = [_denoiser_for(variance, models) if denoise_steps else None for variance in variances]
    noisy = [i for i, denoiser in enumerate(denoisers) if denoiser is not None]
    with _memory_for(*stored[0].header.size):
        left = np.array(variances)
        latents = np.stack([image.quantised.latents for image in stored])
        if noisy:
            denoiser = denoisers[noisy[0]]
            assert denoiser is not None  # noqa: S101 - by what is noisy
            steps.expect(_tiles(*latents.shape[-2:]) * denoise_steps)
            latents[noisy] = _denoise(latents[noisy], left[noisy], denoiser, denoise_steps, steps)
            left[noisy] = 0.0
        samples = _decode_samples(latents, left, [image.header for image in stored], models, steps)
        return [
            DecodedImage(
                _with_alpha(picture, image.alpha),
                image.quantised.noise_variance,
                None if denoiser is None else denoiser.name,
                0 if denoiser is None else denoise_steps,
            )
            for picture, image, denoiser in zip(samples, stored, denoisers, strict=True)
        ]


def read(fp: IO[bytes], layout: container.Layout, steps: Steps = UNCOUNTED) -> StoredImage:
    """Return what a file holds, no model involved.

    Raises:
        CorruptFileError: Alpha or payload is damaged.
    """
    with _memory_for(*layout.header.size):
        return decode_content(container.read_content(fp, layout), steps)


def decode_content(content: container.Content, steps: Steps = UNCOUNTED) -> StoredImage:
    """Return what a file holds, decoded as far as that takes no model.

    Raises:
        CorruptFileError: Alpha or payload is damaged.
    """
    header = content.header
    with _memory_for(*header.size):
        quantised = CODECS.named(header.codec).decode(content.payload, *header.latent_shape, steps)
        alpha = alpha_plane.decode(content.alpha, *header.size) if header.has_alpha else None
    return StoredImage(header, quantised, alpha, content)


def decode_latents(fp: IO[bytes], layout: container.Layout, steps: Steps = UNCOUNTED) -> QuantisedLatents:
    """Return a file's latents, no model involved.

    Raises:
        CorruptFileError: The payload is damaged.
    """
    header = layout.header
    with _memory_for(*header.size):
        payload = container.read_chunk(fp, layout.payload)
        return CODECS.named(header.codec).decode(payload, *header.latent_shape, steps)


def decode_alpha(fp: IO[bytes], layout: container.Layout) -> NDArray[np.uint8] | None:
    """Return a file's alpha plane ``(H, W)``, or ``None`` if its mode has none.

    Raises:
        CorruptFileError: The chunk is damaged.
    """
    if layout.alpha is None:
        return None
    with _memory_for(*layout.header.size):
        return alpha_plane.decode(container.read_chunk(fp, layout.alpha), *layout.header.size)


def read_truncated(fp: IO[bytes], layout: container.Layout, steps: Steps = UNCOUNTED) -> StoredImage:
    """Return what there is of a file that may end too early; latents that did not arrive are zero, a dark grey.

    Raises:
        CorruptFileError: What arrived is damaged, or too little to begin with.
    """
    header = layout.header
    payload = container.read_truncated_chunk(fp, layout.payload)
    if payload is None:
        return read(fp, layout, steps)
    with _memory_for(*header.size):
        quantised = CODECS.named(header.codec).decode_truncated(payload, *header.latent_shape, steps)
    return StoredImage(header, quantised, decode_alpha(fp, layout))


def verify(fp: IO[bytes], layout: container.Layout) -> None:
    """Check every checksum and the payload's structure; no model is loaded.

    Raises:
        CorruptFileError: Something is damaged.
    """
    for chunk in layout.chunks:
        if chunk not in (layout.alpha, layout.payload):
            container.read_chunk(fp, chunk)
    decode_alpha(fp, layout)
    decode_latents(fp, layout)


def mode_of(samples: NDArray[np.uint8]) -> str:
    """Return the mode that samples are of.

    Raises:
        ValueError: They are not uint8, not shaped as any mode demands, or none at all.
    """
    channels = samples.shape[2] if samples.ndim == 3 else 1
    if samples.dtype != np.uint8 or samples.ndim not in (2, 3) or (samples.ndim == 3 and channels not in (2, 3, 4)):
        message = f"samples of shape {samples.shape} and type {samples.dtype}; expected uint8 (H, W[, 2, 3 or 4])"
        advice = "" if samples.dtype == np.uint8 else ": scale them to 0 to 255, and convert them with .astype('uint8')"
        raise ValueError(message + advice)
    if not samples.size:
        raise ValueError(f"size {samples.shape[1]}×{samples.shape[0]}: the smallest picture is 1×1")
    return ("L", "LA", "RGB", "RGBA")[channels - 1]


def encode_latents(samples: NDArray[np.uint8], models: "Models", steps: Steps = UNCOUNTED) -> NDArray[np.float32]:
    """Return the SD-scaled latents ``(4, ⌈H/8⌉, ⌈W/8⌉)`` of samples, padded at right and bottom with their edge.

    What full transparency hides is replaced by what costs little.
    """
    (latents,) = encode_latents_together([samples], models, steps)
    return latents


def encode_latents_together(
    pictures: Sequence[NDArray[np.uint8]], models: "Models", steps: Steps = UNCOUNTED
) -> list[NDArray[np.float32]]:
    """Return the latents of pictures that are covered by as many latents each, computed together."""
    colours = [_colour_of(samples) for samples in pictures]
    rows, columns = (-(-length // container.PIXELS_PER_LATENT) for length in pictures[0].shape[:2])
    autoencoder = models.autoencoder

    def encode_tile(y: slice, x: slice) -> NDArray[np.float32]:
        part = _in_pixels(y), _in_pixels(x)
        return autoencoder.encode(np.stack([_pixels(colour[part], y, x) for colour in colours]))

    bands = blend(rows, columns, encode_tile, tile=TILE, overlap=TILE_OVERLAP, steps=steps)
    return list(np.concatenate(list(bands), axis=-2))


def decode_samples(
    quantised: QuantisedLatents, header: container.Header, models: "Models", alpha: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """Return the samples of SD-scaled latents and of what noise is left in them, cropped to the header's size.

    Args:
        quantised: Latents ``(4, ⌈H/8⌉, ⌈W/8⌉)``.
        header: Which size and mode to give them.
        models: Whose autoencoder decodes.
        alpha: The alpha plane ``(H, W)``, in modes that have one.
    """
    variances = np.array([quantised.noise_variance])
    return _with_alpha(_decode_samples(quantised.latents[np.newaxis], variances, [header], models)[0], alpha)


def preview_samples(
    latents: NDArray[np.float32], header: container.Header, alpha: NDArray[np.uint8] | None = None, scale: int = 8
) -> NDArray[np.uint8]:
    """Return the picture, ``scale`` (4 or 8) times reduced in width and height; no model is involved."""
    width, height = (-(-length // scale) for length in header.size)
    samples = np.empty((height, width, len(header.mode)), np.uint8)
    colour = _samples(preview(latents, scale)[:, :height, :width], header.mode)
    samples[:, :, : colour.shape[2]] = colour
    return _with_alpha(samples, None if alpha is None else alpha_plane.reduce(alpha, scale))


def _with_alpha(samples: NDArray[np.uint8], alpha: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    """Set the last plane of samples ``(H, W, c)`` to ``alpha``; mode L has two dimensions."""
    if alpha is not None:
        samples[:, :, -1] = alpha
    return samples if samples.shape[2] > 1 else samples[:, :, 0]


def _denoiser_for(noise_variance: float, models: "Models") -> "Denoiser | None":
    """Return the denoiser if there is one and it has something to do."""
    from ..models import NoiseSchedule

    # The family's own schedule is asked first, so that no U-Net of gigabytes is loaded to say that it is not needed.
    if NoiseSchedule.scaled_linear().timestep_of(noise_variance) is None:
        return None
    denoiser = models.denoiser
    if denoiser is None or denoiser.schedule.timestep_of(noise_variance) is None:
        return None
    return denoiser


def _denoise(
    latents: NDArray[np.float32],
    noise_variances: NDArray[np.float64],
    denoiser: "Denoiser",
    denoise_steps: int,
    steps: Steps,
) -> NDArray[np.float32]:
    from ..models import denoise

    def denoise_tile(y: slice, x: slice) -> NDArray[np.float32]:
        return denoise(latents[..., y, x], noise_variances, denoiser, denoise_steps, steps)

    rows, columns = latents.shape[-2:]
    return np.concatenate(list(blend(rows, columns, denoise_tile, tile=TILE, overlap=TILE_OVERLAP)), axis=-2)


def _colour_of(samples: NDArray[np.uint8]) -> "NDArray[np.uint8] | alpha_plane.ColourShown":
    """Return what gives parts of a picture's colours, ``(h, w, 1 or 3)``."""
    has_alpha = mode_of(samples).endswith("A")
    planes = samples.reshape(*samples.shape[:2], -1)
    return alpha_plane.ColourShown(planes[:, :, :-1], planes[:, :, -1]) if has_alpha else planes


def _decode_samples(
    latents: NDArray[np.float32],
    noise_variances: NDArray[np.float64],
    headers: Sequence[container.Header],
    models: "Models",
    steps: Steps = UNCOUNTED,
) -> list[NDArray[np.uint8]]:
    """Return the samples ``(H, W, c)`` of latents ``(n, 4, h, w)``, alpha not yet set."""
    pictures = [np.empty((header.height, header.width, len(header.mode)), np.uint8) for header in headers]
    autoencoder = models.autoencoder

    def decode_tile(y: slice, x: slice) -> NDArray[np.float32]:
        return autoencoder.decode(latents[..., y, x], noise_variances)

    bands = blend(
        latents.shape[-2],
        latents.shape[-1],
        decode_tile,
        tile=TILE,
        overlap=TILE_OVERLAP,
        scale=container.PIXELS_PER_LATENT,
        steps=steps,
    )
    top = 0
    for band in bands:
        for pixels, header, picture in zip(band, headers, pictures, strict=True):
            rows = _samples(pixels[:, : header.height - top, : header.width], header.mode)
            picture[top : top + len(rows), :, : rows.shape[2]] = rows
        top += band.shape[-2]
    return pictures


@contextmanager
def _memory_for(width: int, height: int) -> Iterator[None]:
    try:
        yield
    except MemoryError as error:
        raise InsufficientMemoryError(f"not enough memory for a picture of {width}×{height}") from error


def _in_pixels(latents: slice) -> slice:
    return slice(latents.start * container.PIXELS_PER_LATENT, latents.stop * container.PIXELS_PER_LATENT)


def _pixels(colour: NDArray[np.uint8], y: slice, x: slice) -> NDArray[np.float32]:
    """Map samples ``(h, w, 1 or 3)`` to pixels ``(3, 8h, 8w)`` in [−1, 1].

    Where the picture ends within the tile, its edge is repeated.
    """
    height, width = ((s.stop - s.start) * container.PIXELS_PER_LATENT for s in (y, x))
    padding = (0, height - colour.shape[0]), (0, width - colour.shape[1]), (0, 0)
    padded = np.broadcast_to(np.pad(colour, padding, mode="edge"), (height, width, 3))
    return np.ascontiguousarray(np.moveaxis(padded.astype(np.float32) / 127.5 - 1, 2, 0))


def _samples(pixels: NDArray[np.float32], mode: str) -> NDArray[np.uint8]:
    """Map pixels ``(3, H, W)`` in [−1, 1] to a mode's samples ``(H, W, 1 or 3)``, values beyond clamped."""
    colour = np.moveaxis(pixels, 0, 2)
    planes = colour if mode.startswith("RGB") else (colour @ _LUMA)[:, :, None]
    samples: NDArray[np.uint8] = np.clip(np.round((planes + 1) * 127.5), 0, 255).astype(np.uint8)
    return samples
