"""Many pictures at once: those of one shape go through the model together, all else beside it in threads.

pictures ─ threads: convert ─▶ groups of one latent shape ─ the model ─▶ latents ─ threads: code ─▶ files
files ─ threads: read, decode ─▶ groups of one latent shape ─ the model ─▶ samples ─ threads ─▶ pictures
"""

import os
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from PIL import Image

from . import options
from .errors import BatchError, ModelFailedError
from .operations import Source, opened
from .registration import FORMAT

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .container import Header
    from .image_codec import DecodedImage, StoredImage
    from .plugin import SaveOptions, SdcImageFile

Item = TypeVar("Item")
Prepared = TypeVar("Prepared")
Computed = TypeVar("Computed")
Result = TypeVar("Result")

BATCH_SIZE_ON_CUDA = 8
GROUPS_AHEAD = 4
"""How many groups' worth of items are prepared ahead, and may wait for others of their shape."""


def encode_batch(
    images: "Iterable[Image.Image | NDArray[np.uint8]]", *, batch_size: int | None = None, **save_options: Any
) -> list[bytes]:
    """Return the bytes of an ``.sdc`` file for each picture, in their order.

    Args:
        images: Pictures of any sizes and modes, or uint8 arrays, as :func:`pillow_sdc.encode` takes them. An iterator
            is read as the work goes on.
        batch_size: The most pictures that the model takes at a time; 8 on CUDA and 1 elsewhere unless given.
        **save_options: Those of ``Image.save``, the same for all.

    Raises:
        BatchError: Some pictures failed; it holds the files of the others, and what went wrong.
        ValueError: ``batch_size`` is less than 1.
    """
    from . import image_codec
    from .models import get_models
    from .plugin import converted
    from .plugin import save_options as checked

    def prepare(image: "Image.Image | NDArray[np.uint8]") -> "tuple[Hashable, _Picture]":
        import numpy as np

        if not isinstance(image, Image.Image):
            image_codec.mode_of(image)  # refuses what is no picture
            image = Image.fromarray(image)
        given = checked(image, save_options)
        samples = np.asarray(converted(image))
        header = image_codec.header_of(samples, given.codec, given.metadata)
        return header.latent_shape, _Picture(header, samples, given)

    def compute(pictures: "Sequence[_Picture]") -> "list[NDArray[np.float32]]":
        models = get_models(pictures[0].given.settings)
        return image_codec.encode_latents_together([picture.samples for picture in pictures], models)

    def finish(picture: "_Picture", latents: "NDArray[np.float32]") -> bytes:
        codec, target_size, _, metadata = picture.given
        return image_codec.write(picture.header, latents, picture.samples, codec, metadata, target_size)

    changes: Any = {name: save_options[name] for name in ("model", "device", "dtype") if name in save_options}
    settings = options.override(options.settings(), changes)
    work: _Work[Any, _Picture, NDArray[np.float32], bytes] = _Work(prepare, compute, finish)
    return work.done(images, _batch_size(batch_size, settings))


def decode_batch(sources: Iterable[Source], *, batch_size: int | None = None) -> list[Image.Image]:
    """Return the pictures of ``.sdc`` files, loaded, in their order.

    Args:
        sources: Paths, bytes or file objects, as :func:`pillow_sdc.decode` takes them. An iterator is read as the work
            goes on.
        batch_size: The most pictures that the model takes at a time; 8 on CUDA and 1 elsewhere unless given.

    Raises:
        BatchError: Some files failed; it holds the pictures of the others, and what went wrong.
        ValueError: ``batch_size`` is less than 1.
    """
    from . import image_codec
    from .models import get_models

    settings = options.settings()

    def prepare(source: Source) -> "tuple[Hashable, _File]":
        with opened(source) as fp:
            image: Any = Image.open(fp, formats=[FORMAT])
            stored = image.read_stored()
        return stored.header.latent_shape, _File(image, stored)

    def compute(files: "Sequence[_File]") -> "list[DecodedImage]":
        stored = [file.stored for file in files]
        return image_codec.decode(stored, get_models(settings), settings.denoise_steps)

    def finish(file: "_File", picture: "DecodedImage") -> Image.Image:
        file.image.load_decoded(picture, get_models(settings))
        return file.image

    work: _Work[Source, _File, DecodedImage, Image.Image] = _Work(prepare, compute, finish)
    return work.done(sources, _batch_size(batch_size, settings))


class _Picture(NamedTuple):
    header: "Header"
    samples: "NDArray[np.uint8]"
    given: "SaveOptions"


class _File(NamedTuple):
    image: "SdcImageFile"
    stored: "StoredImage"


def _batch_size(batch_size: int | None, settings: options.Settings) -> int:
    if batch_size is None:
        from .models import get_models

        return BATCH_SIZE_ON_CUDA if get_models(settings).device.startswith("cuda") else 1
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
    return batch_size


class _Work(Generic[Item, Prepared, Computed, Result]):
    """Items on their way through two stages in threads and, between these, one in groups."""

    def __init__(
        self,
        prepare: Callable[[Item], tuple[Hashable, Prepared]],
        compute: Callable[[Sequence[Prepared]], list[Computed]],
        finish: Callable[[Prepared, Computed], Result],
    ) -> None:
        """Take the stages; the first also tells which items may be in one group."""
        self._prepare, self._compute, self._finish = prepare, compute, finish
        self._errors: dict[int, Exception] = {}
        self._results: dict[int, Result] = {}

    def done(self, items: Iterable[Item], batch_size: int) -> list[Result]:
        """Return the results in the order of the items."""
        from threadpoolctl import threadpool_limits

        groups: dict[Hashable, list[tuple[int, Prepared]]] = {}
        waiting = 0
        # numpy's own threads gain nothing for the small products of a codec, and would fight with ours for the cores.
        with (
            threadpool_limits(1, user_api="blas"),
            ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="pillow_sdc") as pool,
        ):
            finishing: deque[tuple[int, Future[Result]]] = deque()
            for index, future in self._ahead(pool, items, GROUPS_AHEAD * batch_size):
                try:
                    key, prepared = future.result()
                except Exception as error:  # whatever is wrong with one item is no reason to lose the others
                    self._errors[index] = error
                    continue
                groups.setdefault(key, []).append((index, prepared))
                waiting += 1
                if len(groups[key]) == batch_size or waiting > GROUPS_AHEAD * batch_size:
                    # A full group, or, where pictures of many shapes wait, the one that is the least far from it.
                    fullest = groups.pop(max(groups, key=lambda key: len(groups[key])))
                    waiting -= len(fullest)
                    self._compute_group(fullest, pool, finishing)
                self._collect(finishing, GROUPS_AHEAD * batch_size)
            for group in groups.values():
                self._compute_group(group, pool, finishing)
            self._collect(finishing, 0)
        if self._errors:
            count = len(self._errors) + len(self._results)
            results = [self._results.get(index) for index in range(count)]
            raise BatchError(results, dict(sorted(self._errors.items())))
        return [self._results[index] for index in range(len(self._results))]

    def _ahead(
        self, pool: ThreadPoolExecutor, items: Iterable[Item], ahead: int
    ) -> "Iterator[tuple[int, Future[tuple[Hashable, Prepared]]]]":
        """Prepare so many items before the first is asked for."""
        pending: deque[tuple[int, Future[tuple[Hashable, Prepared]]]] = deque()
        for index, item in enumerate(items):
            pending.append((index, pool.submit(copy_context().run, self._prepare, item)))
            if len(pending) > ahead:
                yield pending.popleft()
        yield from pending

    def _compute_group(
        self,
        group: list[tuple[int, Prepared]],
        pool: ThreadPoolExecutor,
        finishing: "deque[tuple[int, Future[Result]]]",
    ) -> None:
        """Compute a group; if that fails, for want of memory or by fault of one item, try it in halves."""
        try:
            computed = self._compute([prepared for _, prepared in group])
        except ModelFailedError as error:
            if len(group) == 1:
                self._errors[group[0][0]] = error
                return
            half = len(group) // 2
            self._compute_group(group[:half], pool, finishing)
            self._compute_group(group[half:], pool, finishing)
            return
        for (index, prepared), one in zip(group, computed, strict=True):
            finishing.append((index, pool.submit(copy_context().run, self._finish, prepared, one)))

    def _collect(self, finishing: "deque[tuple[int, Future[Result]]]", leave: int) -> None:
        """Take results until no more than so many are still being worked on."""
        while len(finishing) > leave:
            index, future = finishing.popleft()
            try:
                self._results[index] = future.result()
            except Exception as error:
                self._errors[index] = error
