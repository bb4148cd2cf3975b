"""Renditions of a photograph: the article's intermediate steps, our codecs, and other formats at the same bytes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import pillow_sdc
from pillow_sdc.format import container
from pillow_sdc.format.codecs import CODECS, ContextCodec, PaletteCodec, Uint8Codec

from .metrics import Samples
from .peers import Peer, PeerEncoder
from .photographs import Photograph

PALETTE_BEFORE_DENOISING = "palette-before-denoising"


@dataclass(frozen=True)
class Rendition:
    """A photograph after a round trip.

    Attributes:
        key: Name in files of figures.
        label: Name for people.
        note: How it was made: a quality, a number of steps.
        samples: 8-bit RGB ``(H, W, 3)``.
        file_bytes: Bytes of the whole file, without metadata; of float latents, the bytes of the numbers.
        competes: Whether it is a file that someone would write; if not, it is an intermediate step.
    """

    key: str
    label: str
    note: str
    samples: Samples
    file_bytes: int
    competes: bool


@dataclass(frozen=True)
class RateTarget:
    """The size of the file of the codec ``context``, and so of the files of the peers.

    Attributes:
        quality: Quality of ``context``; its bytes are then the budget of the peers.
        target_size: The budget in bytes. With neither, the budget is the size of the palette's file.
    """

    quality: int | None = None
    target_size: int | None = None


class Subject:
    """A photograph and its latents, computed once with the model of the current settings."""

    def __init__(self, photograph: Photograph) -> None:
        self.photograph = photograph
        self.latents: NDArray[np.float32] = pillow_sdc.encode_latents(photograph.samples)
        self._peers: dict[str, PeerEncoder] = {}

    def intermediates(self) -> Iterator[Rendition]:
        """Yield the article's intermediate steps: float latents and 8-bit latents."""
        height, width = self.photograph.samples.shape[:2]
        float_samples = np.asarray(pillow_sdc.decode_latents(self.latents, size=(width, height)))
        float_bytes = self.latents.nbytes
        yield Rendition("float", "Autoencoder alone", "float latents", float_samples, float_bytes, competes=False)
        file = self.file(Uint8Codec.name)
        picture = pillow_sdc.decode(file)
        yield Rendition("uint8", "8-bit latents", "uint8", np.asarray(picture), len(file), competes=False)

    def palette(self) -> Iterator[Rendition]:
        """Yield the article's codec before and after denoising, or once if the model has no denoiser."""
        file = self.file(PaletteCodec.name)
        picture = pillow_sdc.decode(file)
        steps = int(picture.info["sdc"].get("denoise_steps", 0))
        if steps:
            with pillow_sdc.configure(denoise_steps=0):
                plain = np.asarray(pillow_sdc.decode(file))
            yield Rendition(
                PALETTE_BEFORE_DENOISING, "SDC palette, as stored", "no denoising", plain, len(file), competes=False
            )
        note = f"{steps} denoising steps" if steps else "no denoiser"
        yield Rendition("palette", "SDC palette", note, np.asarray(picture), len(file), competes=True)

    def context(self, target: RateTarget, default_size: int) -> Rendition:
        """Return the rendition by our own codec; without a rate target within ``default_size`` bytes."""
        if target.quality is not None:
            return self.context_at(target.quality)
        size = default_size if target.target_size is None else target.target_size
        envelope = container.Envelope.of(self._header(ContextCodec.name))
        file = envelope.file(ContextCodec().encode_within(self.latents, envelope.payload_room(size)))
        return self._in_context(file, "best that fits" if len(file) <= size else "its coarsest")

    def context_at(self, quality: int) -> Rendition:
        """Return the rendition by our own codec at a quality."""
        return self._in_context(self.file(ContextCodec.name, quality=quality), f"quality {quality}")

    def peer(self, peer: Peer, size: int) -> Rendition:
        """Return the rendition by a peer within ``size`` bytes, or at its lowest quality if that takes more."""
        encoder = self._encoder(peer)
        file = encoder.best_within(size)
        note = f"quality {file.quality}" if file.fits else f"quality {file.quality}, its lowest"
        return Rendition(peer.key, peer.label, note, encoder.decode(file.data), len(file.data), competes=True)

    def check_peer(self, peer: Peer) -> None:
        """Raise ``OSError`` if a peer cannot hold the picture at all."""
        self._encoder(peer).encode(peer.qualities[0])

    def file(self, codec: str, **codec_options: Any) -> bytes:
        """Return the ``.sdc`` file of the picture, the same that ``save`` writes."""
        return container.write(self._header(codec), CODECS.named(codec)(**codec_options).encode(self.latents))

    def _in_context(self, file: bytes, note: str) -> Rendition:
        samples = np.asarray(pillow_sdc.decode(file))
        return Rendition("context", "SDC context", note, samples, len(file), competes=True)

    def _encoder(self, peer: Peer) -> PeerEncoder:
        return self._peers.setdefault(peer.key, PeerEncoder(peer, self.photograph.samples))

    def _header(self, codec: str) -> container.Header:
        height, width = self.photograph.samples.shape[:2]
        return container.Header(width, height, "RGB", codec)
