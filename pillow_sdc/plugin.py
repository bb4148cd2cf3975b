"""Pillow's side of SDC, in the order in which Pillow calls it: open, decode, save, encode.

Importing this module imports neither numpy nor torch; ``open`` reads the header and the metadata alone.
"""

from numbers import Integral
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from PIL import Image, ImageFile

from . import container, options
from .errors import OptionError
from .registration import FORMAT

if TYPE_CHECKING:
    from .latent_codecs import LatentCodec, QuantisedLatents

_DECODER = _ENCODER = "sdc"
_PREVIEW_DECODER = "sdc_preview"
_CODEC_OPTIONS = {"palette_size": "palette", "dither": "palette", "quality": "context", "target_size": "context"}
"""The codec that each of the options belongs to, and that is chosen by it where none is named."""


class SdcImageFile(ImageFile.ImageFile):
    """An opened ``.sdc`` file.

    ``info["sdc"]`` tells the codec and the latent space, and after loading what decoded the picture: the model, its
    device, the number of denoising steps and the noise variance they started from.
    """

    format = FORMAT
    format_description = "Stable Diffusion latents"
    n_frames = 1
    is_animated = False

    _layout: container.Layout | None = None
    _report: dict[str, Any] | None = None

    def _open(self) -> None:
        fp = self._file()
        self._layout = container.read_layout(fp)
        header = self._layout.header
        self._size = header.width, header.height
        self._mode = header.mode
        self.info.update(container.read_metadata(fp, self._layout))
        self._report = {"codec": header.codec, "latent_space": header.latent_space}
        self.info["sdc"] = self._report
        self._decode_with(_DECODER)

    def draft(self, mode: str | None, size: tuple[int, int] | None) -> tuple[str, tuple[int, int, float, float]] | None:
        """Make ready to load the picture at an eighth of its size, if that is no smaller than ``size``.

        Such a picture comes straight from the latents, by a linear map and without any model.

        Returns:
            The mode, and the box of the new size that the picture fills; ``None`` where nothing changed.
        """
        if not self.tile or self._layout is None or size is None or self.size != self._layout.header.size:
            return None  # loaded already, made ready already, or a copy that has no file
        if any(own < container.PIXELS_PER_LATENT * wanted for own, wanted in zip(self.size, size, strict=True)):
            return None
        width, height = (length / container.PIXELS_PER_LATENT for length in self.size)
        rows, columns = self._layout.header.latent_shape
        self._size = columns, rows
        self._decode_with(_PREVIEW_DECODER)
        return self.mode, (0, 0, width, height)

    def verify(self) -> None:
        """Check every checksum and the payload's structure, without a model, and close the file.

        Raises:
            OSError: The file is damaged.
            RuntimeError: The file has been loaded, verified or closed before.
        """
        if getattr(self, "fp", None) is None or self._layout is None:
            raise RuntimeError("verify must be called directly after open")
        from . import image_codec

        try:
            image_codec.verify(self._file(), self._layout)
        finally:
            super().verify()

    def load_seek(self, position: int) -> None:
        """Seek; being here, it tells ``ImageFile.Parser`` to hand over the file as a whole."""
        self._file().seek(position)

    def _decode_with(self, decoder: str) -> None:
        assert self._layout is not None  # noqa: S101 - set by open
        args = self._layout, self._report
        self.tile = [ImageFile._Tile(decoder, (0, 0, *self.size), self._layout.payload.position, args)]

    def _file(self) -> IO[bytes]:
        assert self.fp is not None  # noqa: S101 - Pillow keeps it open as long as it calls these methods
        return self.fp


class SdcDecoder(ImageFile.PyDecoder):
    """Decodes a whole file; raises ``OSError`` on damage, so that a second ``load()`` raises again."""

    _pulls_fd = True

    def decode(self, buffer: "Image.DecoderInput") -> tuple[int, int]:
        """Read the payload from the file and set the picture."""
        from . import image_codec
        from .models import get_models

        layout, report = self.args
        quantised = _read_latents(self.fd, layout)  # damage is found before a model is sought
        settings = options.settings()
        models = get_models(settings)
        picture = image_codec.decode(quantised, layout.header, models, settings.denoise_steps)
        self.set_as_raw(picture.samples.tobytes())
        report.update(
            model=models.name,
            device=models.device,
            denoiser=picture.denoiser,
            denoise_steps=picture.denoise_steps,
            noise_variance=picture.noise_variance,
        )
        return -1, 0


class SdcPreviewDecoder(ImageFile.PyDecoder):
    """Makes a picture of an eighth of the size, as :meth:`SdcImageFile.draft` asks for it."""

    _pulls_fd = True

    def decode(self, buffer: "Image.DecoderInput") -> tuple[int, int]:
        """Read the payload from the file and set the picture."""
        from . import image_codec

        layout, report = self.args
        quantised = _read_latents(self.fd, layout)
        self.set_as_raw(image_codec.preview_samples(quantised.latents, layout.header).tobytes())
        report.update(model="preview", noise_variance=quantised.noise_variance)
        return -1, 0


def _read_latents(fp: IO[bytes] | None, layout: container.Layout) -> "QuantisedLatents":
    from . import image_codec

    assert fp is not None  # noqa: S101 - set by Pillow, since the decoders pull
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        return image_codec.decode_truncated_latents(fp, layout)
    return image_codec.decode_latents(fp, layout)


class _SaveOptions(NamedTuple):
    codec: "LatentCodec"
    target_size: int | None
    settings: options.Settings
    metadata: dict[str, bytes]


def save(im: Image.Image, fp: IO[bytes], filename: str | bytes) -> None:
    """Write a picture to a file that Pillow has opened.

    Raises:
        OSError: The picture's mode cannot be written, or the model is unavailable or failed.
        OptionError: An option is outside its range (also a ``ValueError``).
    """
    if im.mode not in container.MODES.values():
        raise OSError(f"cannot write mode {im.mode} as SDC")
    args = (_save_options(im),)
    ImageFile._save(im, fp, [ImageFile._Tile(_ENCODER, (0, 0, *im.size), 0, args)])


def _save_options(im: Image.Image) -> _SaveOptions:
    from .latent_codecs import PaletteCodec, codec_by_name

    given = im.encoderinfo
    codec_options = {name: given[name] for name in _CODEC_OPTIONS if name in given}
    chosen = sorted({_CODEC_OPTIONS[name] for name in codec_options})
    codec_class = codec_by_name(given.get("codec", chosen[0] if chosen else PaletteCodec.name))
    for name in codec_options:
        if _CODEC_OPTIONS[name] != codec_class.name:
            raise OptionError(f"{name} is an option of the codec {_CODEC_OPTIONS[name]}, not of {codec_class.name}")
    target_size = _target_size(codec_options)
    changes: Any = {name: given[name] for name in ("model", "device", "dtype") if name in given}
    settings = options.override(options.settings(), changes)
    return _SaveOptions(codec_class(**codec_options), target_size, settings, _metadata(im))


def _target_size(codec_options: dict[str, Any]) -> int | None:
    """Take ``target_size`` out of a codec's options."""
    if "target_size" not in codec_options:
        return None
    target_size = codec_options.pop("target_size")
    if codec_options:
        raise OptionError("quality and target_size exclude each other: the size decides what the quality is")
    if isinstance(target_size, bool) or not isinstance(target_size, Integral) or target_size < 1:
        raise OptionError(f"target_size is {target_size!r}; it must be a positive number of bytes")
    return int(target_size)


def _metadata(im: Image.Image) -> dict[str, bytes]:
    """Collect what ``save`` was given; a colour profile also from the picture itself, as AVIF's plugin does."""
    given = {key: im.encoderinfo[key] for key in container.METADATA if im.encoderinfo.get(key) is not None}
    if isinstance(given.get("exif"), Image.Exif):
        given["exif"] = given["exif"].tobytes()
    for key, value in given.items():
        if not isinstance(value, bytes | bytearray | memoryview):
            raise OptionError(f"{key} is a {type(value).__name__}; it must be bytes")
    own_profile = im.info.get("icc_profile")
    if "icc_profile" not in im.encoderinfo and isinstance(own_profile, bytes):  # a TIFF can make it anything
        given["icc_profile"] = own_profile
    metadata = {key: bytes(value) for key, value in given.items() if value}
    if "exif" in metadata:
        metadata["exif"] = metadata["exif"].removeprefix(b"Exif\0\0")  # what JPEG needs before it, a chunk does not
    return metadata


class SdcEncoder(ImageFile.PyEncoder):
    """Encodes a whole picture before it writes the first byte."""

    _pushes_fd = True

    def encode(self, bufsize: int) -> tuple[int, int, bytes]:
        """Return the whole file."""
        import numpy as np

        from . import image_codec
        from .models import get_models

        assert self.im is not None  # noqa: S101 - set by Pillow
        (save_options,) = self.args
        samples = np.asarray(Image.Image()._new(self.im))
        models = get_models(save_options.settings)
        codec, target_size, _, metadata = save_options
        if target_size is None:
            data = image_codec.encode(samples, codec, models, metadata)
        else:
            data = image_codec.encode_within(samples, codec, models, metadata, target_size)
        return len(data), 1, data


Image.register_decoder(_DECODER, SdcDecoder)
Image.register_decoder(_PREVIEW_DECODER, SdcPreviewDecoder)
Image.register_encoder(_ENCODER, SdcEncoder)
