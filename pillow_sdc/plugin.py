"""Pillow's side of SDC, in the order in which Pillow calls it: open, decode, save, encode.

Importing this module imports neither numpy nor torch; ``open`` reads the header and the metadata alone. Registering is
done by :mod:`pillow_sdc.registration`, which imports this module when it is first needed.
"""

import io
import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import IO, TYPE_CHECKING, Any

from PIL import Image, ImageFile

from . import options
from .errors import OptionError, TruncatedFileError
from .format import container
from .format.codecs import CODECS, TARGET_SIZE
from .originals import KEEPS_PAYLOAD, Info, Original
from .pipeline.resaving import Unmodified
from .progress import UNCOUNTED, ProgressCallback, Steps
from .registration import DECODER, ENCODER, FORMAT, PREVIEW_DECODER, is_of_pillow, is_opened_sdc

if TYPE_CHECKING:
    from .pipeline.decoding import DecodedImage, StoredImage
    from .pipeline.encoding import EncodeOptions, SourceImage

_CONVERTED = {"1": "L", "La": "LA", **dict.fromkeys(("P", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"), "RGB")}
_CONVERTED |= {"PA": "RGBA", "RGBa": "RGBA"}
"""What modes that the format lacks are stored as, unless they would lose precision."""

_CONVERSIONS = {
    "I": ", which holds 8 bits a sample; convert the picture to mode L first, one of 16 bits with"
    " image.convert('I').point(lambda value: value / 256).convert('L')",
    "F": ", which holds 8 bits a sample; convert the picture to mode L first, one of values from 0 to 1 with"
    " image.point(lambda value: value * 255).convert('L')",
}
"""What to do with modes that would lose precision, by their first letter."""

_DRAFT_SCALES = 8, 4

_EXIF_PREFIX = b"Exif\0\0"


class SdcImageFile(ImageFile.ImageFile):
    """An opened ``.sdc`` file.

    ``info["sdc"]`` tells the codec and the latent space, whether saving the picture as it is now keeps the file's
    payload, and after loading what decoded the picture: the model, its device, the number of denoising steps and the
    noise variance they started from.
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
            metadata["exif"] = _EXIF_PREFIX + metadata["exif"].removeprefix(_EXIF_PREFIX)
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
            return _unmodified(self, _stored_mode(self)) is not None
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


def checked_progress(given: Any) -> ProgressCallback | None:
    """Return a callback for progress, or ``None``.

    Raises:
        OptionError: It is neither.
    """
    if given is not None and not callable(given):
        raise OptionError(f"progress is {given!r}; it must be a function of two numbers, or None")
    callback: ProgressCallback | None = given
    return callback


def save_all(im: Image.Image, fp: IO[bytes], filename: str | bytes) -> None:
    """Write a picture of one frame.

    Raises:
        OSError: There are several.
    """
    check_one_frame(im, im.encoderinfo)
    save(im, fp, filename)


def check_one_frame(im: Image.Image, given: Mapping[str, Any]) -> None:
    """Refuse to write several frames.

    Raises:
        OSError: There are several.
    """
    frames = getattr(im, "n_frames", 1) + sum(
        getattr(other, "n_frames", 1) for other in given.get("append_images") or ()
    )
    if frames > 1:
        raise OSError(f"cannot write {frames} frames as SDC: a file holds one picture")


def source_image(im: Image.Image, given: Mapping[str, Any]) -> "SourceImage":
    """Return a picture with the options that ``save`` was given, all checked, for the pipeline to encode.

    Raises:
        OptionError: An option or the size is outside its range.
        CorruptFileError: The picture is that of an SDC file, not loaded, and the file is damaged.
        OSError: The mode would lose precision.
    """
    import numpy as np

    from .pipeline.encoding import SourceImage

    options, mode = save_options(im, given), _stored_mode(im)
    envelope = container.Envelope.of(container.Header(*im.size, mode, options.codec.name), options.metadata)
    content = _unmodified(im, mode)
    return SourceImage(options, envelope, np.asarray(_in_mode(im, mode)) if content is None else content)


def _unmodified(im: Image.Image, mode: str) -> Unmodified | None:
    """Return what a picture's own SDC file holds, if the picture to be stored is what loading that file gives.

    Raises:
        CorruptFileError: The picture is not loaded, and its file is damaged.
    """
    opened: Any = im
    return opened.unmodified() if is_opened_sdc(im) and im.mode == mode else None


def converted(im: Image.Image) -> Image.Image:
    """Return the picture, loaded, in the mode that it is stored in; transparency of any kind becomes alpha.

    Raises:
        OSError: The mode would lose precision.
    """
    return _in_mode(im, _stored_mode(im))


def _in_mode(im: Image.Image, mode: str) -> Image.Image:
    im.load()
    return im if im.mode == mode else im.convert(mode)


def _stored_mode(im: Image.Image) -> str:
    mode = _CONVERTED.get(im.mode, im.mode)
    if mode not in container.MODES.values():
        raise OSError(f"cannot write mode {im.mode} as SDC{_CONVERSIONS.get(im.mode[:1], '')}")
    return f"{mode}A" if _has_transparency(im) and not mode.endswith("A") else mode


def _has_transparency(im: Image.Image) -> bool:
    """Tell whether a colour or a palette is transparent; what other modes have in their info says nothing of them."""
    transparency = im.info.get("transparency")
    if im.mode in ("1", "L"):
        return isinstance(transparency, int)
    if im.mode == "RGB":
        return isinstance(transparency, tuple) and len(transparency) == len(im.mode)
    return im.mode == "P" and im.has_transparency_data


def save_options(im: Image.Image, given: Mapping[str, Any]) -> "EncodeOptions":
    """Return the options that ``save`` was given for a picture, and what settings and the picture itself add to them.

    Raises:
        OptionError: An option is outside its range.
    """
    from .pipeline.encoding import EncodeOptions

    settings = save_settings(given)
    names = {*CODECS.options, TARGET_SIZE}
    asked = frozenset(given.keys() & {"codec", *names})
    if not asked:  # what save was given of a codec holds as a whole
        given = {**given, **settings.codec_options}
    codec = CODECS.choose(given)
    codec_options = {name: given[name] for name in names if name in given}
    target_size = _checked_target_size(codec_options.pop(TARGET_SIZE)) if TARGET_SIZE in codec_options else None
    return EncodeOptions(codec(**codec_options), asked, target_size, settings, _metadata(im, given))


def save_settings(given: Mapping[str, Any]) -> options.Settings:
    """Return the settings that hold for a picture: those in force, changed by what ``save`` was given.

    Raises:
        OptionError: One that it was given is outside its range.
    """
    changes: Any = {name: given[name] for name in ("model", "device", "dtype") if name in given}
    return options.override(options.settings(), changes)


def _checked_target_size(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise OptionError(f"{TARGET_SIZE} is {value!r}; it must be a positive number of bytes")
    return int(value)


def _metadata(im: Image.Image, options: Mapping[str, Any]) -> dict[str, bytes]:
    """Collect what ``save`` was given; a colour profile also from the picture itself, as AVIF's plugin does.

    The picture's own profile is left out where it describes sRGB, which a file without a profile means anyway.
    """
    given = {key: options[key] for key in container.METADATA if options.get(key) is not None}
    if "dpi" in given:
        given["dpi"] = _dpi(given["dpi"])
    if "exif" in given:
        given["exif"] = exif_bytes(given["exif"])
    for key, value in given.items():
        if not isinstance(value, bytes | bytearray | memoryview):
            raise OptionError(f"{key} is a {type(value).__name__}; it must be bytes")
    # The profile of ink or of Lab does not describe the colours that these become.
    own_profile = im.info.get("icc_profile") if im.mode not in ("CMYK", "LAB") else None
    if isinstance(own_profile, bytes):  # a TIFF can make it anything
        if "icc_profile" not in options:
            given["icc_profile"] = own_profile
        if given.get("icc_profile") == own_profile and _describes_srgb(own_profile):
            del given["icc_profile"]
    metadata = {key: bytes(given[key]) for key in container.METADATA if given.get(key)}  # in one order, whoever gave it
    if "exif" in metadata:
        metadata["exif"] = metadata["exif"].removeprefix(_EXIF_PREFIX)
    return metadata


def _describes_srgb(profile: bytes) -> bool:
    from .colour_profiles import describes_srgb  # not before there is a profile: it imports littlecms

    return describes_srgb(profile)


def exif_bytes(exif: Any) -> Any:
    """Return an ``Image.Exif`` as bytes, none if it is empty; anything else as it is."""
    if not is_of_pillow(exif, "Exif"):
        return exif
    data = exif.tobytes()
    return b"" if data == Image.Exif().tobytes() else data


def _dpi(dpi: Any) -> bytes:
    if not isinstance(dpi, tuple | list) or len(dpi) != 2 or not all(isinstance(value, Real) for value in dpi):
        raise OptionError(f"dpi is {dpi!r}; it must be a pair of numbers")
    if not any(dpi):
        return b""  # as Pillow reads it from a BMP whose resolution is unknown
    try:
        return container.pack_dpi((float(dpi[0]), float(dpi[1])))
    except ValueError as error:
        raise OptionError(str(error)) from None


class SdcEncoder(ImageFile.PyEncoder):
    """Encodes a whole picture before it writes the first byte."""

    _pushes_fd = True

    def encode(self, bufsize: int) -> tuple[int, int, bytes]:
        """Return the whole file."""
        from .pipeline import encoding

        prepared, progress = self.args
        data = encoding.encode(prepared, progress).data
        return len(data), 1, data
