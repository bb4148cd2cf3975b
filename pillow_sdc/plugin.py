"""Pillow's side of SDC, in the order in which Pillow calls it: open, decode, save, encode.

Importing this module imports neither numpy nor torch; ``open`` reads the header and the metadata alone. Registering is
done by :mod:`pillow_sdc.registration`, which imports this module when it is first needed.
"""

import io
import math
from typing import IO, TYPE_CHECKING, Any

from PIL import Image, ImageFile

from . import options
from .errors import TruncatedFileError
from .format import container
from .originals import KEEPS_PAYLOAD, Info, Original
from .pipeline.resaving import Unmodified
from .progress import UNCOUNTED, ProgressCallback, Steps
from .registration import DECODER, ENCODER, FORMAT, PREVIEW_DECODER
from .saving import EXIF_PREFIX, check_one_frame, checked_progress, source_image, stored_mode, unmodified

if TYPE_CHECKING:
    from .pipeline.decoding import DecodedImage, StoredImage

_DRAFT_SCALES = 8, 4


class SdcImageFile(ImageFile.ImageFile):
    """An opened ``.sdc`` file.

    ``info["sdc"]`` tells the codec and the latent space, whether saving the picture as it is now keeps the file's
    payload, and after loading what decoded the picture: the model, what took the place of its autoencoder, the device,
    the number of denoising steps and the noise variance they started from.
    """

    format = FORMAT
    format_description = "Stable Diffusion latents"
    n_frames = 1
    is_animated = False
    custom_mimetype: str | None = None

    _layout: container.Layout | None = None
    _wants_to_fit = False
    _report: dict[str, Any] | None = None
    _original: Original | None = None

    def _open(self) -> None:
        fp = self._file()
        self._layout = container.read_layout(fp)
        header = self._layout.header
        self._size = header.width, header.height
        self._mode = header.mode
        metadata: dict[str, Any] = {**container.read_metadata(fp, self._layout)}
        if "exif" in metadata:  # Pillow's JPEG plugin writes what it is given, and needs this before it
            metadata["exif"] = EXIF_PREFIX + metadata["exif"].removeprefix(EXIF_PREFIX)
        if "dpi" in metadata:
            metadata["dpi"] = container.unpack_dpi(metadata["dpi"])
        self._report = {"codec": header.codec, "latent_space": header.latent_space, KEEPS_PAYLOAD: False}
        self._original = Original()
        self.info = Info(self._report, self._keeps_payload)
        self.info.update(metadata)
        self._load_with(DECODER, self._original, None, None)

    def draft(self, mode: str | None, size: tuple[int, int] | None) -> tuple[str, tuple[int, int, float, float]] | None:
        """Make ready to load the picture at an eighth or a quarter of its size, if that is no smaller than ``size``.

        Such a picture comes straight from the latents, by a linear map and without any model. ``thumbnail`` calls
        this by itself.

        Returns:
            The mode, and the box of the new size that the picture fills; ``None`` where nothing changed.
        """
        if not self.tile or self._layout is None or size is None or self.size != self._layout.header.size:
            return None  # loaded already, made ready already, or a copy that has no file
        reductions = [own // max(1, wanted) for own, wanted in zip(self.size, size, strict=True)]
        most = max(reductions) if self._wants_to_fit else min(reductions)
        scale = next((scale for scale in _DRAFT_SCALES if scale <= most), None)
        if scale is None:
            return None
        width, height = (length / scale for length in self.size)
        self._size = math.ceil(width), math.ceil(height)
        self._load_with(PREVIEW_DECODER, scale)
        return self.mode, (0, 0, width, height)

    def thumbnail(
        self,
        size: tuple[float, float],
        resample: Image.Resampling = Image.Resampling.BICUBIC,
        reducing_gap: float | None = 2.0,
    ) -> None:
        """Make the picture a thumbnail that fits into a box, as all of Pillow's pictures do.

        Pillow asks for a draft that fills the box, of which a picture that fits into it needs only one side.
        """
        self._wants_to_fit = True
        try:
            super().thumbnail(size, resample, reducing_gap)
        finally:
            self._wants_to_fit = False

    def verify(self) -> None:
        """Check every checksum and the payload's structure, without a model, and close the file.

        Raises:
            OSError: The file is damaged.
            RuntimeError: The file has been loaded, verified or closed before.
        """
        if getattr(self, "fp", None) is None or self._layout is None:
            raise RuntimeError("verify must be called directly after open")
        from .pipeline import decoding

        try:
            decoding.verify(self._file(), self._layout)
        finally:
            super().verify()

    def load_seek(self, position: int) -> None:
        """Seek; being here, it tells ``ImageFile.Parser`` to hand over the file as a whole."""
        self._file().seek(position)

    def on_progress(self, progress: ProgressCallback | None) -> None:
        """Have ``load`` call a function as :func:`pillow_sdc.decode` does, if the picture is not loaded yet."""
        if self._layout is not None and self.tile and self.tile[0].codec_name == DECODER:
            self._load_with(DECODER, self._original, progress, None)

    def read_ahead(self) -> None:
        """Read the whole file, which others may then read, move or close; if Pillow opened it, close it.

        The picture is loaded from memory, and the file no longer needed.
        """
        assert self._layout is not None  # noqa: S101 - set by open
        file = self._file()
        file.seek(0)
        self.fp = io.BytesIO(container.read_up_to(file, self._layout.size))
        if self._exclusive_fp:
            file.close()
        self._exclusive_fp = True

    def read_stored(self) -> "StoredImage":
        """Return what the file holds of the picture, no model involved.

        Raises:
            CorruptFileError: Alpha or payload is damaged.
        """
        assert self._layout is not None  # noqa: S101 - set by open
        return _stored(self._file(), self._layout)

    def load_decoded(self, decoded: "DecodedImage") -> None:
        """Load the picture, which was decoded with others."""
        self._load_with(DECODER, self._original, None, decoded)
        self.load()

    def unmodified(self) -> Unmodified | None:
        """Return what the file holds, if the picture is what loading it gives; it need not be loaded.

        Raises:
            CorruptFileError: The picture is not loaded, and its file is damaged.
        """
        if self._original is None:
            return None  # from a pickle
        with self._original.reading:
            if self._is_unloaded():
                return self._read_unmodified()
        return None if self.tile else self._original.of(self)

    def _is_unloaded(self) -> bool:
        """Tell whether the picture is as it was opened: not loaded, closed or made ready for a draft."""
        return bool(self.tile) and self.tile[0][0] == DECODER and getattr(self, "fp", None) is not None

    def _read_unmodified(self) -> Unmodified | None:
        assert self._layout is not None  # noqa: S101 - set by open
        if self._exclusive_fp:
            self.read_ahead()  # so that, as after loading, nobody has to close the file
        try:
            return Unmodified(container.read_content(self._file(), self._layout), is_checked=False)
        except TruncatedFileError:
            if ImageFile.LOAD_TRUNCATED_IMAGES:
                return None  # its pixels are of what has arrived
            raise

    def _keeps_payload(self) -> bool:
        try:
            return unmodified(self, stored_mode(self)) is not None
        except (OSError, ValueError):  # damaged, closed, or converted to a mode that cannot be stored
            return False

    def _load_with(self, decoder: str, *args: Any) -> None:
        """Have ``load`` call a decoder with these arguments, after the layout and the report."""
        assert self._layout is not None  # noqa: S101 - set by open
        args = self._layout, self._report, *args
        self.tile = [ImageFile._Tile(decoder, (0, 0, *self.size), self._layout.payload.position, args)]

    def _file(self) -> IO[bytes]:
        assert self.fp is not None  # noqa: S101 - Pillow keeps it open as long as it calls these methods
        return self.fp


class SdcDecoder(ImageFile.PyDecoder):
    """Decodes a whole file; raises ``OSError`` on damage, so that a second ``load()`` raises again."""

    _pulls_fd = True

    def decode(self, buffer: "Image.DecoderInput") -> tuple[int, int]:
        """Read the payload from the file, unless the picture is decoded already, and set the picture."""
        from .pipeline import decoding

        layout, report, original, progress, decoded = self.args
        assert self.fd is not None  # noqa: S101 - set by Pillow, since the decoder pulls
        steps = decoding.counted(layout.header, progress)
        if decoded is None:
            stored = _stored(self.fd, layout, steps)  # damage is found before a model is sought
            (decoded,) = decoding.compute([stored], options.settings(), steps)
        samples = decoded.samples.tobytes()
        self.set_as_raw(samples)
        steps.finish()
        original.keep(decoded.stored.content, samples)
        report.update(
            model=decoded.model,
            vae=decoded.vae,
            device=decoded.device,
            denoiser=decoded.denoiser,
            denoise_steps=decoded.denoise_steps,
            noise_variance=decoded.stored.quantised.noise_variance,
        )
        return -1, 0


class SdcPreviewDecoder(ImageFile.PyDecoder):
    """Makes a picture of an eighth or a quarter of the size, as :meth:`SdcImageFile.draft` asks for it."""

    _pulls_fd = True

    def decode(self, buffer: "Image.DecoderInput") -> tuple[int, int]:
        """Read the payload from the file and set the picture."""
        from .pipeline.preview import preview_of

        layout, report, scale = self.args
        assert self.fd is not None  # noqa: S101 - set by Pillow, since the decoder pulls
        stored = _stored(self.fd, layout)
        self.set_as_raw(preview_of(stored, scale).tobytes())
        report.update(model="preview", noise_variance=stored.quantised.noise_variance)
        return -1, 0


def _stored(fp: IO[bytes], layout: container.Layout, steps: Steps = UNCOUNTED) -> "StoredImage":
    from .pipeline import decoding

    prepare = decoding.prepare_truncated if ImageFile.LOAD_TRUNCATED_IMAGES else decoding.prepare
    return prepare(fp, layout, steps)


def save(im: Image.Image, fp: IO[bytes], filename: str | bytes) -> None:
    """Write a picture to a file that Pillow has opened.

    Raises:
        OSError: The picture's mode cannot be written, or the model is unavailable or failed.
        OptionError: An option is outside its range (also a ``ValueError``).
    """
    from .pipeline import encoding

    progress = checked_progress(im.encoderinfo.get("progress"))
    prepared = encoding.prepare(source_image(im, im.encoderinfo))
    ImageFile._save(im, fp, [ImageFile._Tile(ENCODER, (0, 0, *im.size), 0, (prepared, progress))])


def save_all(im: Image.Image, fp: IO[bytes], filename: str | bytes) -> None:
    """Write a picture of one frame.

    Raises:
        OSError: There are several.
    """
    check_one_frame(im, im.encoderinfo)
    save(im, fp, filename)


class SdcEncoder(ImageFile.PyEncoder):
    """Encodes a whole picture before it writes the first byte."""

    _pushes_fd = True

    def encode(self, bufsize: int) -> tuple[int, int, bytes]:
        """Return the whole file."""
        from .pipeline import encoding

        prepared, progress = self.args
        data = encoding.encode(prepared, progress).data
        return len(data), 1, data
