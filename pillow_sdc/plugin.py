"""Pillow's side of SDC, in the order in which Pillow calls it: open, decode, save, encode.

Importing this module imports neither numpy nor torch; ``open`` reads the header and the metadata alone.
"""

from typing import IO, TYPE_CHECKING, Any, NamedTuple

from PIL import Image, ImageFile

from . import container, options
from .errors import OptionError
from .registration import FORMAT

if TYPE_CHECKING:
    from .latent_codecs import LatentCodec

_DECODER = _ENCODER = "sdc"
_CODEC_OPTIONS = ("palette_size", "dither")


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

    def _open(self) -> None:
        fp = self._file()
        self._layout = container.read_layout(fp)
        header = self._layout.header
        self._size = header.width, header.height
        self._mode = header.mode
        self.info.update(container.read_metadata(fp, self._layout))
        report: dict[str, Any] = {
            "codec": header.codec,
            "latent_space": header.latent_space,
        }
        self.info["sdc"] = report
        extents = (0, 0, header.width, header.height)
        self.tile = [ImageFile._Tile(_DECODER, extents, self._layout.payload.position, (self._layout, report))]

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

        assert self.fd is not None  # noqa: S101 - set by Pillow, since the decoder pulls
        layout, report = self.args
        quantised = image_codec.decode_latents(self.fd, layout)  # damage is found before a model is sought
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


class _SaveOptions(NamedTuple):
    codec: "LatentCodec"
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
    codec_class = codec_by_name(given.get("codec", PaletteCodec.name))
    codec_options = {name: given[name] for name in _CODEC_OPTIONS if name in given}
    if codec_options and codec_class is not PaletteCodec:
        raise OptionError(f"{min(codec_options)} is an option of the codec palette, not of {codec_class.name}")
    changes: Any = {name: given[name] for name in ("model", "device", "dtype") if name in given}
    return _SaveOptions(codec_class(**codec_options), options.override(options.settings(), changes), _metadata(im))


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
        data = image_codec.encode(samples, save_options.codec, models, save_options.metadata)
        return len(data), 1, data


Image.register_decoder(_DECODER, SdcDecoder)
Image.register_encoder(_ENCODER, SdcEncoder)
