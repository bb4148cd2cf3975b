"""A file to its picture, in three stages, for one file and for many.

    file ─ prepare ─▶ latents, noise variance, alpha ─ compute ─▶ samples ─ finish ─▶ picture

:func:`prepare` reads and checks what a file holds, and needs no model. :func:`compute` has a model remove the noise and
decode the latents, of one file or of several together. To finish a picture of Pillow is the plugin's part.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..format import alpha as alpha_plane
from ..format import container
from ..format.codecs import CODECS, QuantisedLatents
from ..options import Settings
from ..progress import UNCOUNTED, CountedSteps, ProgressCallback, Steps
from . import networks
from .memory import memory_for
from .pixels import with_alpha

if TYPE_CHECKING:
    from ..models import Denoiser, Models


@dataclass(frozen=True, eq=False)
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


@dataclass(frozen=True, eq=False)
class DecodedImage:
    """A decoded picture, and how it was decoded.

    Attributes:
        stored: What it was decoded from.
        samples: uint8, shaped as the mode demands.
        model: Name of the model.
        vae: What took the place of its autoencoder; ``None`` where that is its own.
        device: Where it computed.
        denoiser: Name of what removed the noise from the latents; ``None`` where there was too little for a denoiser,
            where none was wanted, or where the decoder removes noise itself.
        denoise_steps: Evaluations of the denoiser.
    """

    stored: StoredImage
    samples: NDArray[np.uint8]
    model: str
    vae: str | None
    device: str
    denoiser: str | None
    denoise_steps: int


def counted(header: container.Header, progress: ProgressCallback | None = None) -> CountedSteps:
    """Return what counts the steps of a file's :func:`prepare` and :func:`compute`."""
    steps = CountedSteps(f"decoding {header.width}×{header.height}", progress)
    steps.expect(CODECS.named(header.codec).decode_steps(header.latent_shape[0]) + networks.tiles(header.latent_shape))
    return steps


def prepare(fp: IO[bytes], layout: container.Layout, steps: Steps = UNCOUNTED) -> StoredImage:
    """Return what a file holds.

    Raises:
        CorruptFileError: Alpha or payload is damaged.
        InsufficientMemoryError: The picture is too large for the memory.
    """
    with memory_for(layout.header.size):
        return decode_content(container.read_content(fp, layout), steps)


def prepare_truncated(fp: IO[bytes], layout: container.Layout, steps: Steps = UNCOUNTED) -> StoredImage:
    """Return what there is of a file that may end too early; latents that did not arrive are zero, a dark grey.

    Raises:
        CorruptFileError: What arrived is damaged, or too little to begin with.
        InsufficientMemoryError: The picture is too large for the memory.
    """
    header = layout.header
    payload = container.read_truncated_chunk(fp, layout.payload)
    if payload is None:
        return prepare(fp, layout, steps)
    with memory_for(header.size):
        quantised = CODECS.named(header.codec).decode_truncated(payload, *header.latent_shape, steps)
        alpha = b"" if layout.alpha is None else container.read_chunk(fp, layout.alpha)
        return StoredImage(header, quantised, _alpha(alpha, header))


def decode_content(content: container.Content, steps: Steps = UNCOUNTED) -> StoredImage:
    """Return what a file holds, of which all has been read.

    Raises:
        CorruptFileError: Alpha or payload is damaged.
        InsufficientMemoryError: The picture is too large for the memory.
    """
    header = content.header
    with memory_for(header.size):
        quantised = CODECS.named(header.codec).decode(content.payload, *header.latent_shape, steps)
        return StoredImage(header, quantised, _alpha(content.alpha, header), content)


def read_latents(fp: IO[bytes], layout: container.Layout) -> QuantisedLatents:
    """Return a file's latents alone.

    Raises:
        CorruptFileError: The payload is damaged.
        InsufficientMemoryError: The picture is too large for the memory.
    """
    header = layout.header
    with memory_for(header.size):
        payload = container.read_chunk(fp, layout.payload)
        return CODECS.named(header.codec).decode(payload, *header.latent_shape)


def verify(fp: IO[bytes], layout: container.Layout) -> None:
    """Check every checksum and the payload's structure.

    Raises:
        CorruptFileError: Something is damaged.
        InsufficientMemoryError: The picture is too large for the memory.
    """
    for chunk in layout.chunks:
        if chunk not in (layout.alpha, layout.payload):
            container.read_chunk(fp, chunk)
    prepare(fp, layout)


def compute(stored: Sequence[StoredImage], settings: Settings, steps: Steps = UNCOUNTED) -> list[DecodedImage]:
    """Return the pictures of files whose latents have one shape, computed together.

    Raises:
        ModelUnavailableError: The model cannot be loaded.
        ModelFailedError: The model failed on one of the pictures.
        InsufficientMemoryError: They are too large for the memory.
    """
    from ..models import get_models

    models, denoise_steps = get_models(settings), settings.denoise_steps
    variances = [image.quantised.noise_variance for image in stored]
    denoisers = [_denoiser_for(variance, models) if denoise_steps else None for variance in variances]
    noisy = [i for i, denoiser in enumerate(denoisers) if denoiser is not None]
    with memory_for(stored[0].header.size):
        left = np.array(variances)
        latents = np.stack([image.quantised.latents for image in stored])
        if noisy:
            denoiser = denoisers[noisy[0]]
            assert denoiser is not None  # noqa: S101 - by what is noisy
            latents[noisy] = networks.denoise(latents[noisy], left[noisy], denoiser, denoise_steps, steps)
            left[noisy] = 0.0
        samples = networks.decode(latents, left, [image.header for image in stored], models.autoencoder, steps)
        return [
            DecodedImage(
                image,
                with_alpha(picture, image.alpha),
                models.name,  # "auto" may have become another while it worked
                models.vae,
                models.device,
                None if denoiser is None else denoiser.name,
                0 if denoiser is None else denoise_steps,
            )
            for picture, image, denoiser in zip(samples, stored, denoisers, strict=True)
        ]


def decode_latents(
    quantised: QuantisedLatents, size: tuple[int, int], settings: Settings, progress: ProgressCallback | None = None
) -> NDArray[np.uint8]:
    """Return the samples ``(H, W, 3)`` of latents that are from no file.

    Args:
        quantised: SD-scaled latents ``(4, ⌈H/8⌉, ⌈W/8⌉)``, and the noise in them.
        size: Width and height to crop to.
        settings: Which model decodes.
        progress: Called after each step.

    Raises:
        ValueError: The size is not covered by so many latents.
        ModelUnavailableError: The model cannot be loaded.
        ModelFailedError: The model failed on this picture.
        InsufficientMemoryError: The picture is too large for the memory.
    """
    width, height = size
    rows, columns = quantised.latents.shape[-2:]
    header = container.Header(width, height, "RGB", CODECS.default.name)
    if header.latent_shape != (rows, columns):
        raise ValueError(f"size {width}×{height} is not covered by {columns}×{rows} latents")
    steps = CountedSteps(f"decoding latents of {width}×{height}", progress)
    steps.expect(networks.tiles(header.latent_shape))
    (decoded,) = compute([StoredImage(header, quantised)], settings, steps)
    return decoded.samples


def _alpha(content: bytes, header: container.Header) -> NDArray[np.uint8] | None:
    return alpha_plane.decode(content, *header.size) if header.has_alpha else None


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
