"""A picture to its file, in three stages, for one picture and for many.

    picture, options ─ prepare ─▶ samples, envelope ─ compute ─▶ latents ─ finish ─▶ payload, file

:func:`prepare` codes the alpha plane. A picture that is unmodified since it was read from a file takes the short way:
its latents are there, or even its payload. :func:`compute` has a model make latents of samples, of one picture or of a
group together. :func:`finish` codes the latents and writes the file. Sizes, modes and metadata are checked before, when
the envelope is made.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import OptionError
from ..format import alpha as alpha_plane
from ..format.codecs import LatentCodec
from ..format.container import PIXELS_PER_LATENT, Envelope, Header
from ..options import Settings
from ..progress import UNCOUNTED, CountedSteps, ProgressCallback, Steps
from . import decoding, networks
from .memory import memory_for
from .pixels import colour_of
from .resaving import Unmodified, is_met

_PARTS = {"exif": "EXIF", "icc_profile": "colour profile", "xmp": "XMP", "dpi": "resolution", "alpha": "alpha"}
"""Names of the chunks of an envelope, for people to read."""


@dataclass(frozen=True)
class EncodeOptions:
    """How a picture is to be encoded; all of it is checked.

    Attributes:
        codec: The latent codec, with its options.
        asked: Which of ``codec``, the options of codecs and ``target_size`` were given; without any the codec is the
            default.
        target_size: The most bytes that the file may have, for codecs with a budget alone, whose option it decides.
        settings: Those that hold for this picture.
        metadata: Contents of metadata chunks, by their key in :data:`~pillow_sdc.format.container.METADATA`.
    """

    codec: LatentCodec
    asked: frozenset[str] = frozenset()
    target_size: int | None = None
    settings: Settings = field(default_factory=Settings)
    metadata: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class SourceImage:
    """A picture that is to be encoded.

    Attributes:
        options: How.
        envelope: All of the file but alpha and payload.
        content: The samples, uint8 of the shape that the envelope's mode demands; or what the picture's own file holds.
    """

    options: EncodeOptions
    envelope: Envelope
    content: NDArray[np.uint8] | Unmodified


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """A picture of which one is there: samples, latents or payload.

    Attributes:
        options: How it is to be encoded.
        envelope: All of the file but the payload.
        samples: For a model to encode.
        latents: Those of the picture's own file, ``(4, h, w)``, which are quantised anew.
        payload: That of the picture's own file, which is kept.
    """

    options: EncodeOptions
    envelope: Envelope
    samples: NDArray[np.uint8] | None = None
    latents: NDArray[np.float32] | None = None
    payload: bytes | None = None

    @property
    def header(self) -> Header:
        """Size, mode and codec of the file."""
        return self.envelope.header

    @property
    def group(self) -> Hashable:
        """What pictures have in common that :func:`compute` may be given together."""
        return None if self.samples is None else (self.header.latent_shape, self.options.settings)


class ComputedLatents(NamedTuple):
    """The result of a model for a picture.

    Attributes:
        latents: SD-scaled, ``(4, ⌈H/8⌉, ⌈W/8⌉)``; ``None`` where the payload is there.
        model: Name of the model whose encoder it was; ``None`` where none was needed.
    """

    latents: NDArray[np.float32] | None
    model: str | None


@dataclass(frozen=True)
class EncodedFile:
    """The file of a picture, and what is known of it.

    Attributes:
        header: Size, mode and codec.
        data: The bytes of the file.
        model: Name of the model whose encoder made the latents; ``None`` where they are those of the picture's file.
    """

    header: Header
    data: bytes
    model: str | None


def encode(picture: PreparedImage, progress: ProgressCallback | None = None) -> EncodedFile:
    """Return the file of one picture.

    Args:
        picture: What :func:`prepare` returned.
        progress: Called after each step; what it raises is raised here.

    Raises:
        OptionError: Even the coarsest latents take more than ``target_size`` (also a ``ValueError``).
        ModelUnavailableError: The model cannot be loaded.
        ModelFailedError: The model failed on this picture.
        InsufficientMemoryError: The picture is too large for the memory.
    """
    width, height = picture.header.size
    work = f"encoding {width}×{height}" if picture.samples is not None else f"saving {width}×{height} again"
    steps = CountedSteps(work, progress)
    steps.expect(_steps(picture))
    (computed,) = compute([picture], steps)
    encoded = finish(picture, computed, steps)
    steps.finish()
    return encoded


def _steps(picture: PreparedImage) -> int:
    if picture.payload is not None:
        return 1
    shape = picture.header.latent_shape
    return picture.options.codec.encode_steps(shape[0]) + (0 if picture.samples is None else networks.tiles(shape))


def prepare(source: SourceImage) -> PreparedImage:
    """Return a picture with all that takes no model.

    Raises:
        CorruptFileError: The picture's own file is damaged.
        UnsupportedFileError: Alpha needs LZMA, which this Python was built without.
        InsufficientMemoryError: The picture is too large for the memory.
    """
    if isinstance(source.content, Unmodified):
        return _prepare_again(source.content, source.envelope, source.options)
    samples, header = source.content, source.envelope.header
    with memory_for(header.size):
        alpha = alpha_plane.encode(samples[:, :, -1]) if header.has_alpha else b""
    return PreparedImage(source.options, source.envelope.with_alpha(alpha), samples=samples)


def _prepare_again(unmodified: Unmodified, envelope: Envelope, options: EncodeOptions) -> PreparedImage:
    """Return a picture whose file is a copy, unless the options ask for something coarser, or another codec."""
    content = unmodified.content
    envelope = envelope.with_alpha(content.alpha)
    stored = None if unmodified.is_checked else decoding.decode_content(content)
    if is_met(content, envelope, options):
        return PreparedImage(options, envelope._replace(header=content.header), payload=content.payload)
    latents = (stored or decoding.decode_content(content)).quantised.latents
    return PreparedImage(options, envelope, latents=latents)


def compute(pictures: Sequence[PreparedImage], steps: Steps = UNCOUNTED) -> list[ComputedLatents]:
    """Return the latents of pictures of one group, computed together.

    Raises:
        ModelUnavailableError: The model cannot be loaded.
        ModelFailedError: The model failed on one of the pictures.
        InsufficientMemoryError: They are too large for the memory.
    """
    samples = [picture.samples for picture in pictures if picture.samples is not None]
    if not samples:
        return [ComputedLatents(picture.latents, None) for picture in pictures]
    from ..models import get_models

    models, header = get_models(pictures[0].options.settings), pictures[0].header
    with memory_for(header.size):
        colours = [colour_of(each) for each in samples]
        latents = networks.encode(colours, header.latent_shape, models.autoencoder, steps)
    return [
        ComputedLatents(each, models.vae or models.name) for each in latents
    ]  # "auto" may have become another while it worked


def finish(picture: PreparedImage, computed: ComputedLatents, steps: Steps = UNCOUNTED) -> EncodedFile:
    """Return the file of a picture.

    Raises:
        OptionError: Even the coarsest latents take more than ``target_size`` (also a ``ValueError``).
        InsufficientMemoryError: The picture is too large for the memory.
    """
    if picture.payload is not None:
        payload = picture.payload
        steps.done()
    else:
        assert computed.latents is not None  # noqa: S101 - of a picture without payload
        payload = _payload(picture, computed.latents, steps)
    data, target_size = picture.envelope.file(payload), picture.options.target_size
    if target_size is not None and len(data) > target_size:
        raise OptionError(_too_large(len(data), target_size, len(payload), picture.envelope))
    return EncodedFile(picture.header, data, computed.model)


def encode_latents(
    samples: NDArray[np.uint8], settings: Settings, progress: ProgressCallback | None = None
) -> NDArray[np.float32]:
    """Return the SD-scaled latents ``(4, ⌈H/8⌉, ⌈W/8⌉)`` of samples, before any quantisation.

    Raises:
        ModelUnavailableError: The model cannot be loaded.
        ModelFailedError: The model failed on this picture.
        InsufficientMemoryError: The picture is too large for the memory.
    """
    from ..models import get_models

    height, width = samples.shape[:2]
    shape = -(-height // PIXELS_PER_LATENT), -(-width // PIXELS_PER_LATENT)
    steps = CountedSteps(f"encoding latents of {width}×{height}", progress)
    steps.expect(networks.tiles(shape))
    with memory_for((width, height)):
        (latents,) = networks.encode([colour_of(samples)], shape, get_models(settings).autoencoder, steps)
    return latents


def _payload(picture: PreparedImage, latents: NDArray[np.float32], steps: Steps) -> bytes:
    codec, target_size = picture.options.codec, picture.options.target_size
    with memory_for(picture.header.size):
        if target_size is None:
            return codec.encode(latents, steps)
        return codec.encode_within(latents, picture.envelope.payload_room(target_size), steps)


def _too_large(file_bytes: int, target_size: int, payload_bytes: int, envelope: Envelope) -> str:
    """Return the message for a file that takes more bytes than it may, however coarse its latents are."""
    names = [_PARTS[key] for key in envelope.chunks]
    parts = {"latents": payload_bytes, **dict(zip(names, map(len, envelope.chunks.values()), strict=True))}
    parts["header and checksums"] = file_bytes - sum(parts.values())
    listed = ", ".join(f"{name} {size}" for name, size in parts.items())
    less = f"leave out the {' or the '.join(names)}, " if names else ""
    return (
        f"target_size of {target_size} bytes cannot be met: the smallest file has {file_bytes} bytes ({listed}); "
        f"{less}make the picture smaller, or allow {file_bytes} bytes"
    )
