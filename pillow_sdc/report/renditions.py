"""What a photograph becomes: in our codecs and at the article's stations, and in other formats at the same bytes."""

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
        competes: Whether it is a file that someone would write, or a station on the way to one.
    """

    key: str
    label: str
    note: str
    samples: Samples
    file_bytes: int
    competes: bool


@dataclass(frozen=True)
class Choice:
    """How large the file of the codec ``context`` is to be, and so the files of the peers.

    Attributes:
        quality: Its quality; then its bytes are those that peers may take.
        target_size: The bytes that it and its peers may take. With neither, they are the bytes of the palette's file.
    """

    quality: int | None = None
    target_size: int | None = None


class Subject:
    """A photograph and its latents, which are computed once; the settings that are in force decide of the model."""

    def __init__(self, photograph: Photograph) -> None:
        self.photograph = photograph
        self.latents: NDArray[np.float32] = pillow_sdc.encode_latents(photograph.samples)
        self._peers: dict[str, PeerEncoder] = {}

    def stations(self) -> Iterator[Rendition]:
        """Yield what the article shows on the way to its codec: float latents and latents of 8 bits."""
        height, width = self.photograph.samples.shape[:2]
        float_samples = np.asarray(pillow_sdc.decode_latents(self.latents, size=(width, height)))
        float_bytes = self.latents.nbytes
        yield Rendition("float", "Autoencoder alone", "float latents", float_samples, float_bytes, competes=False)
        file = self.file(Uint8Codec.name)
        picture = pillow_sdc.decode(file)
        yield Rendition("uint8", "8-bit latents", "uint8", np.asarray(picture), len(file), competes=False)

    def palette(self) -> Iterator[Rendition]:
        """Yield the article's codec before denoising and after, or at once where the model does without a denoiser."""
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

    def context(self, choice: Choice, otherwise: int) -> Rendition:
        """Return what our own codec makes of the picture, with ``otherwise`` bytes where nothing is chosen."""
        if choice.quality is not None:
            return self.context_at(choice.quality)
        size = otherwise if choice.target_size is None else choice.target_size
        envelope = container.Envelope.of(self._header(ContextCodec.name))
        file = envelope.file(ContextCodec().encode_within(self.latents, envelope.payload_room(size)))
        return self._in_context(file, "best that fits" if len(file) <= size else "its coarsest")

    def context_at(self, quality: int) -> Rendition:
        """Return what our own codec makes of the picture at a quality."""
        return self._in_context(self.file(ContextCodec.name, quality=quality), f"quality {quality}")

    def peer(self, peer: Peer, size: int) -> Rendition:
        """Return what a peer makes of the picture with ``size`` bytes, or at its lowest quality if that takes more."""
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
