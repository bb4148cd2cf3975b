"""Many pictures at once: those of one shape go through the model together, all else beside it in threads.

Files given by their paths or as bytes are opened in threads. Pictures, arrays and file objects belong to the caller:
several items may share one, and it may be closed or changed before the next. So the caller's own thread reads them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from .. import options
from ..registration import is_of_pillow
from .sources import SdcSource, as_picture, open_sdc, open_source

if TYPE_CHECKING:
    from PIL import Image

    from ..pipeline.batching import Stages
    from ..pipeline.decoding import DecodedImage, StoredImage
    from ..pipeline.encoding import ComputedLatents, EncodedFile, PreparedImage, SourceImage
    from ..plugin import SdcImageFile
    from .sources import Picture

Item = TypeVar("Item")
Result = TypeVar("Result")


def encode_batch(
    images: "Iterable[Picture]",
    *,
    batch_size: int | None = None,
    threads: int | None = None,
    **save_options: Any,
) -> list[bytes]:
    """Return the bytes of an ``.sdc`` file for each picture, in their order.

    These are the files that a loop of ``Image.save`` writes, up to rounding: how many pictures and threads a model
    computes with may change the last bits of latents, and so, rarely, a file. Of SDC files that are not loaded, or not
    modified since, the latents are taken from the file, without a model.

    Args:
        images: Pictures of any sizes and modes, uint8 arrays, or files, as :func:`pillow_sdc.encode` takes them. An
            iterator is read as the work goes on. Pictures, arrays and file objects are read before the next is asked
            for, and may then be closed or used again. Paths are opened in threads, later.
        batch_size: The most pictures that the model takes at a time; 8 on an accelerator and 1 on the CPU
            unless given.
        threads: How many work side by side; as many as there are cores unless given. On the CPU the model computes
            in them too, and each holds the memory that a picture takes.
        **save_options: Those of ``Image.save`` but for ``progress``, the same for all.

    Raises:
        BatchError: Some pictures failed; it holds the files of the others, and what went wrong.
        TypeError: ``images`` is a single picture or file, or ``progress`` is given, which is for single ones.
        ValueError: ``batch_size`` or ``threads`` is less than 1.
    """
    return encode_each(
        images,
        lambda image: (image, {}),
        lambda image, file: file.data,
        at_once=_is_callers,
        batch_size=batch_size,
        threads=threads,
        **save_options,
    )


def encode_each(
    items: Iterable[Item],
    picture_of: "Callable[[Item], tuple[Picture, Mapping[str, Any]]]",
    deliver: "Callable[[Item, EncodedFile], Result]",
    *,
    at_once: Callable[[Item], bool] = lambda item: False,
    batch_size: int | None = None,
    threads: int | None = None,
    **save_options: Any,
) -> list[Result]:
    """Do as :func:`encode_batch`, for items that become pictures and results beside the model.

    Args:
        items: Anything. An iterator is read as the work goes on.
        picture_of: Returns an item's picture and the options of ``Image.save`` that are for it alone; called in
            threads, as the next. If either raises, the item has failed.
        deliver: Returns what to return for an item, given its file and what is known of that.
        at_once: Tells which items' pictures are to be read in the caller's thread, before the next item is asked for.
        batch_size: As above.
        threads: As above.
        **save_options: As above.

    Raises:
        BatchError: As above.
        TypeError: As above.
        ValueError: As above.
    """
    from ..pipeline import encoding
    from ..pipeline.batching import Stages
    from ..saving import exif_bytes, save_settings, source_image

    if "progress" in save_options:
        raise TypeError("progress is for a single picture; give encode_batch an iterator, and count what it takes")
    if "exif" in save_options:  # which is read from a file, maybe, and not by several threads
        save_options["exif"] = exif_bytes(save_options["exif"])

    def take(item: Item) -> "SourceImage":
        image, own_options = picture_of(item)
        with as_picture(image) as picture:
            return source_image(picture, {**save_options, **own_options})

    def finish(item: Item, picture: "PreparedImage", computed: "ComputedLatents") -> Result:
        return deliver(item, encoding.finish(picture, computed))

    stages = Stages(take, encoding.prepare, lambda picture: picture.group, encoding.compute, finish, at_once)
    return _results(stages, items, save_settings(save_options), batch_size, threads)


def decode_batch(
    sources: Iterable[SdcSource], *, batch_size: int | None = None, threads: int | None = None
) -> "list[Image.Image]":
    """Return the pictures of ``.sdc`` files, loaded, in their order.

    These are the pictures that :func:`pillow_sdc.decode` returns, up to rounding: how many pictures and threads a model
    computes with may change some pixels, in float32 on the CPU by one level of 255.

    Args:
        sources: Paths, bytes or file objects, as :func:`pillow_sdc.decode` takes them. An iterator is read as the work
            goes on. File objects are read before the next source is asked for, and may then be closed or used again.
            Paths are opened in threads, later.
        batch_size: The most pictures that the model takes at a time; 8 on an accelerator and 1 on the CPU
            unless given.
        threads: How many work side by side; as many as there are cores unless given. On the CPU the model computes
            in them too, and each holds the memory that a picture takes.

    Raises:
        BatchError: Some files failed; it holds the pictures of the others, and what went wrong.
        TypeError: ``sources`` is a single file.
        ValueError: ``batch_size`` or ``threads`` is less than 1.
    """
    return decode_each(
        sources,
        lambda source: source,
        lambda source, image: image,
        at_once=_is_callers,
        batch_size=batch_size,
        threads=threads,
    )


def decode_each(
    items: Iterable[Item],
    source_of: Callable[[Item], SdcSource],
    deliver: "Callable[[Item, Image.Image], Result]",
    *,
    at_once: Callable[[Item], bool] = lambda item: False,
    batch_size: int | None = None,
    threads: int | None = None,
) -> list[Result]:
    """Do as :func:`decode_batch`, for items that become sources, and pictures that become results, beside the model.

    Args:
        items: Anything. An iterator is read as the work goes on.
        source_of: Returns an item's file; called in threads, as the next. If either raises, the item has failed.
        deliver: Returns what to return for an item, given its picture.
        at_once: Tells which items' files are to be read in the caller's thread, before the next item is asked for.
        batch_size: As above.
        threads: As above.

    Raises:
        BatchError: As above.
        TypeError: As above.
        ValueError: As above.
    """
    from ..pipeline import decoding
    from ..pipeline.batching import Stages

    settings = options.settings()

    def take(item: Item) -> "SdcImageFile":
        with open_source(source_of(item)) as fp:
            image: Any = open_sdc(fp)
            image.read_ahead()
        opened: SdcImageFile = image
        return opened

    def prepare(image: "SdcImageFile") -> _Opened:
        return _Opened(image, image.read_stored())

    def compute(group: Sequence[_Opened]) -> "Sequence[DecodedImage]":
        return decoding.compute([opened.stored for opened in group], settings)

    def finish(item: Item, opened: _Opened, decoded: "DecodedImage") -> Result:
        opened.image.load_decoded(decoded)
        return deliver(item, opened.image)

    stages = Stages(take, prepare, lambda opened: opened.stored.header.latent_shape, compute, finish, at_once)
    return _results(stages, items, settings, batch_size, threads)


class _Opened(NamedTuple):
    image: "SdcImageFile"
    stored: "StoredImage"


def _is_callers(given: object) -> bool:
    """Tell whether a picture or a file is an object that its owner may change: anything but a path or bytes."""
    return not isinstance(given, str | PathLike | bytes)


def _results(
    stages: "Stages[Item, Any, Any, Any, Result]",
    items: Iterable[Item],
    settings: options.Settings,
    batch_size: int | None,
    threads: int | None,
) -> list[Result]:
    from ..models import get_models
    from ..pipeline import batching

    one: object = items
    if (
        isinstance(one, str | PathLike | bytes | bytearray | memoryview)
        or hasattr(one, "read")
        or is_of_pillow(one, "Image")
    ):
        raise TypeError(
            f"object of type {type(one).__name__} is a single item; give a list of such, or another iterable"
        )
    return batching.run(stages, items, get_models(settings).device, batch_size, threads)
