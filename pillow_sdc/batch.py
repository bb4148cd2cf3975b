"""Many pictures at once: those of one shape go through the model together, all else beside it in threads.

pictures ─ threads: convert ─▶ groups of one latent shape ─ the model ─▶ latents ─ threads: code ─▶ files
files ─ threads: read, decode ─▶ groups of one latent shape ─ the model ─▶ samples ─ threads ─▶ pictures

Files given by their paths or as bytes are opened in threads. Pictures, arrays and file objects belong to the caller:
several items may share one, and it may be closed or changed before the next. So the caller's own thread reads them.

On CUDA the model has a thread to itself. On the CPU it computes in the same threads, several groups side by side.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from os import PathLike
from threading import Semaphore
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from . import options
from .api import Source, as_picture, open_sdc, opened
from .errors import BatchError, ModelFailedError, is_full
from .registration import is_of_pillow

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from .api import Picture
    from .pipeline.stages import DecodedImage, StoredImage
    from .plugin import SdcImageFile

Item = TypeVar("Item")
Taken = TypeVar("Taken")
Prepared = TypeVar("Prepared")
Computed = TypeVar("Computed")
Result = TypeVar("Result")

BATCH_SIZE_ON_CUDA = 8
GROUPS_AHEAD = 4
"""How many groups' worth of items are prepared ahead, and may wait for others of their shape."""


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
        batch_size: The most pictures that the model takes at a time; 8 on CUDA and 1 elsewhere unless given.
        threads: How many work side by side; as many as there are cores unless given. Without CUDA the model computes
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
        lambda image, data: data,
        at_once=_is_callers,
        batch_size=batch_size,
        threads=threads,
        **save_options,
    )


def encode_each(
    items: Iterable[Item],
    picture_of: "Callable[[Item], tuple[Picture, Mapping[str, Any]]]",
    deliver: Callable[[Item, bytes], Result],
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
        deliver: Returns what to return for an item, of the bytes of its file.
        at_once: Tells which items' pictures are to be read in the caller's thread, before the next item is asked for.
        batch_size: As above.
        threads: As above.
        **save_options: As above.

    Raises:
        BatchError: As above.
        TypeError: As above.
        ValueError: As above.
    """
    from .models import get_models
    from .pipeline import stages
    from .plugin import converted, exif_bytes, unmodified
    from .plugin import save_options as checked

    if "progress" in save_options:
        raise TypeError("progress is for a single picture; give encode_batch an iterator, and count what it takes")
    if "exif" in save_options:  # which is read from a file, maybe, and not by several threads
        save_options["exif"] = exif_bytes(save_options["exif"])

    def take(item: Item) -> "_Picture[Item]":
        import numpy as np

        image, own_options = picture_of(item)
        with as_picture(image) as picture:
            given = checked(picture, {**save_options, **own_options})
            if (source := unmodified(picture)) is not None:
                return _Picture(item, None, given.settings, None, lambda latents: given.resaved(source))
            samples = np.asarray(converted(picture))  # a copy
        header = stages.header_of(samples, given.codec, given.metadata)

        def file_of(latents: "NDArray[np.float32]") -> bytes:
            alpha = stages.encode_alpha(samples, header)
            return stages.write(header, latents, alpha, given.codec, given.metadata, given.target_size)

        return _Picture(item, header.latent_shape, given.settings, samples, file_of)

    def prepare(picture: "_Picture[Item]") -> "tuple[Hashable, _Picture[Item]]":
        return picture.latent_shape, picture

    def compute(pictures: "Sequence[_Picture[Item]]") -> "Sequence[NDArray[np.float32] | None]":
        samples = [picture.samples for picture in pictures if picture.samples is not None]
        if not samples:  # a group, which is of one shape, is of nothing but files
            return [None] * len(pictures)
        return stages.encode_latents_together(samples, get_models(pictures[0].settings))

    def finish(picture: "_Picture[Item]", latents: "NDArray[np.float32] | None") -> Result:
        return deliver(picture.item, picture.file_of(latents))

    changes: Any = {name: save_options[name] for name in ("model", "device", "dtype") if name in save_options}
    settings = options.override(options.settings(), changes)
    work: _Work[Item, _Picture[Item], _Picture[Item], NDArray[np.float32] | None, Result]
    work = _Work(at_once, take, prepare, compute, finish)
    return _done(work, items, batch_size, threads, settings)


def decode_batch(
    sources: Iterable[Source], *, batch_size: int | None = None, threads: int | None = None
) -> "list[Image.Image]":
    """Return the pictures of ``.sdc`` files, loaded, in their order.

    These are the pictures that :func:`pillow_sdc.decode` returns, up to rounding: how many pictures and threads a model
    computes with may change some pixels, in float32 on the CPU by one level of 255.

    Args:
        sources: Paths, bytes or file objects, as :func:`pillow_sdc.decode` takes them. An iterator is read as the work
            goes on. File objects are read before the next source is asked for, and may then be closed or used again.
            Paths are opened in threads, later.
        batch_size: The most pictures that the model takes at a time; 8 on CUDA and 1 elsewhere unless given.
        threads: How many work side by side; as many as there are cores unless given. Without CUDA the model computes
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
    source_of: Callable[[Item], Source],
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
        deliver: Returns what to return for an item, of its picture.
        at_once: Tells which items' files are to be read in the caller's thread, before the next item is asked for.
        batch_size: As above.
        threads: As above.

    Raises:
        BatchError: As above.
        TypeError: As above.
        ValueError: As above.
    """
    from .models import get_models
    from .pipeline import stages

    settings = options.settings()

    def take(item: Item) -> "tuple[Item, SdcImageFile]":
        with opened(source_of(item)) as fp:
            image: Any = open_sdc(fp)
            image.read_ahead()
        return item, image

    def prepare(taken: "tuple[Item, SdcImageFile]") -> "tuple[Hashable, _File[Item]]":
        item, image = taken
        stored = image.read_stored()
        return stored.header.latent_shape, _File(item, image, stored)

    def compute(files: "Sequence[_File[Item]]") -> "list[DecodedImage]":
        stored = [file.stored for file in files]
        return stages.decode(stored, get_models(settings), settings.denoise_steps)

    def finish(file: "_File[Item]", picture: "DecodedImage") -> Result:
        file.image.load_decoded(file.stored, picture, get_models(settings))
        return deliver(file.item, file.image)

    work: _Work[Item, tuple[Item, SdcImageFile], _File[Item], DecodedImage, Result]
    work = _Work(at_once, take, prepare, compute, finish)
    return _done(work, items, batch_size, threads, settings)


def _is_callers(given: object) -> bool:
    """Tell whether a picture or a file is an object that its owner may change: anything but a path or bytes."""
    return not isinstance(given, str | PathLike | bytes)


class _Picture(NamedTuple, Generic[Item]):
    """A picture on its way to its file.

    Attributes:
        item: What it is of.
        latent_shape: Of the latents that the model makes; ``None`` where an SDC file has them already.
        settings: Those that hold for it.
        samples: What the model encodes; ``None`` likewise.
        file_of: Returns the file, given the latents that the model made.
    """

    item: Item
    latent_shape: tuple[int, int] | None
    settings: options.Settings
    samples: "NDArray[np.uint8] | None"
    file_of: Callable[[Any], bytes]


class _File(NamedTuple, Generic[Item]):
    item: Item
    image: "SdcImageFile"
    stored: "StoredImage"


def _done(
    work: "_Work[Item, Any, Any, Any, Result]",
    items: Iterable[Item],
    batch_size: int | None,
    threads: int | None,
    settings: options.Settings,
) -> list[Result]:
    from .models import get_models

    one: object = items
    if (
        isinstance(one, str | PathLike | bytes | bytearray | memoryview)
        or hasattr(one, "read")
        or is_of_pillow(one, "Image")
    ):
        raise TypeError(
            f"object of type {type(one).__name__} is a single item; give a list of such, or another iterable"
        )
    device = get_models(settings).device
    if batch_size is None:
        batch_size = BATCH_SIZE_ON_CUDA if device.startswith("cuda") else 1
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
    return work.done(items, batch_size, _Threads.suited(threads, items, device))


class _Work(Generic[Item, Taken, Prepared, Computed, Result]):
    """Items on their way through stages in threads and, between these, one in groups."""

    def __init__(
        self,
        at_once: Callable[[Item], bool],
        take: Callable[[Item], Taken],
        prepare: Callable[[Taken], tuple[Hashable, Prepared]],
        compute: Callable[[Sequence[Prepared]], Sequence[Computed]],
        finish: Callable[[Prepared, Computed], Result],
    ) -> None:
        """Take which items are taken at once, in the caller's thread, and the stages.

        ``prepare`` also tells which items may be in one group.
        """
        self._at_once, self._take, self._prepare = at_once, take, prepare
        self._compute, self._finish = compute, finish
        self._errors: dict[int, Exception] = {}
        self._results: dict[int, Result] = {}
        self._broken: BaseException | None = None
        """What went wrong with more than one item, and would with the rest."""

    def done(self, items: Iterable[Item], batch_size: int, threads: "_Threads") -> list[Result]:
        """Return the results in the order of the items."""
        with threads.pools() as (self._pool, self._model_pool):
            ahead = max(GROUPS_AHEAD * batch_size, threads.count)
            self._slots = Semaphore(ahead)
            try:
                self._submit_all(items, batch_size, ahead)
            finally:
                for _ in range(ahead):  # until all that is on its way has arrived
                    self._slots.acquire()
        if self._broken is not None:
            raise self._broken
        if self._errors:
            count = len(self._errors) + len(self._results)
            results = [self._results.get(index) for index in range(count)]
            raise BatchError(results, dict(sorted(self._errors.items())))
        return [self._results[index] for index in range(len(self._results))]

    def _submit_all(self, items: Iterable[Item], batch_size: int, ahead: int) -> None:
        groups: dict[Hashable, list[tuple[int, Prepared]]] = {}
        waiting = 0
        for index, future in self._prepared(items, ahead):
            try:
                key, prepared = future.result()
            except Exception as error:  # whatever is wrong with one item is no reason to lose the others
                self._errors[index] = error
                continue
            groups.setdefault(key, []).append((index, prepared))
            waiting += 1
            if len(groups[key]) == batch_size or waiting > ahead:
                # A full group, or, where pictures of many shapes wait, the one that is the least far from it.
                fullest = groups.pop(max(groups, key=lambda key: len(groups[key])))
                waiting -= len(fullest)
                self._submit(fullest)
            if self._broken is not None:
                return
        for group in groups.values():
            self._submit(group)

    def _prepared(self, items: Iterable[Item], ahead: int) -> "Iterator[tuple[int, Future[tuple[Hashable, Prepared]]]]":
        """Prepare items in threads, so many at a time."""
        pending: deque[tuple[int, Future[tuple[Hashable, Prepared]]]] = deque()
        for index, item in enumerate(items):
            pending.append((index, self._begun(item)))
            while pending and (len(pending) > ahead or pending[0][1].done()):
                yield pending.popleft()
        yield from pending

    def _begun(self, item: Item) -> "Future[tuple[Hashable, Prepared]]":
        if not self._at_once(item):
            return self._pool.submit(copy_context().run, lambda: self._prepare(self._take(item)))
        try:
            taken = self._take(item)
        except Exception as error:
            failed: Future[tuple[Hashable, Prepared]] = Future()
            failed.set_exception(error)
            return failed
        return self._pool.submit(copy_context().run, self._prepare, taken)

    def _submit(self, group: list[tuple[int, Prepared]]) -> None:
        for _ in group:
            self._slots.acquire()
        try:
            self._model_pool.submit(copy_context().run, self._compute_group, group)
        except BaseException:  # no thread to be had
            self._slots.release(len(group))
            raise

    def _compute_group(self, group: list[tuple[int, Prepared]]) -> None:
        """Compute a group; if that fails, because memory ran out or one item is at fault, try it in halves."""
        try:
            computed = self._compute([prepared for _, prepared in group])
        except ModelFailedError as error:
            if len(group) > 1:
                half = len(group) // 2
                self._compute_group(group[:half])
                self._compute_group(group[half:])
                return
            self._errors[group[0][0]] = error
            self._slots.release()
        except BaseException as error:
            self._broken = error
            self._slots.release(len(group))
        else:
            for (index, prepared), one in zip(group, computed, strict=True):
                self._pool.submit(copy_context().run, self._finish_one, index, prepared, one)

    def _finish_one(self, index: int, prepared: Prepared, computed: Computed) -> None:
        try:
            self._results[index] = self._finish(prepared, computed)
        except Exception as error:
            if is_full(error):
                self._broken = error
            self._errors[index] = error
        except BaseException as error:
            self._broken = error
        finally:
            self._slots.release()


@dataclass(frozen=True)
class _Threads:
    """Threads for the work.

    Attributes:
        count: How many there are.
        cores: How many cores the model's own threads may use in each; ``None`` if the model computes elsewhere, on
            CUDA, for which a thread of its own waits.
    """

    count: int
    cores: int | None

    @classmethod
    def suited(cls, count: int | None, items: Iterable[object], device: str) -> "_Threads":
        """Choose them for the items, if these can be counted, and the device.

        On the CPU pictures side by side, each on its own core, are faster than one after another on all cores: there
        is always something that a picture's own threads have to wait for.
        """
        if count is not None and count < 1:
            raise ValueError(f"threads is {count}; it must be at least 1")
        from .runtime.threads import cores

        available = cores()
        count = count or available
        if device.startswith("cuda"):
            return cls(count, None)
        if isinstance(items, Sized):
            count = min(count, max(1, len(items)))
        return cls(count, max(1, available // count))

    @contextmanager
    def pools(self) -> "Iterator[tuple[ThreadPoolExecutor, ThreadPoolExecutor]]":
        """Give the threads for codecs and Pillow, and those for the model, which may be the same."""
        from .runtime.threads import single_threaded_blas, use_cores

        with ExitStack() as stack:
            # numpy's own threads gain nothing for the small products of a codec, and would fight for the cores.
            stack.enter_context(single_threaded_blas())
            limit = None if self.cores is None else partial(use_cores, self.cores)
            pool = stack.enter_context(ThreadPoolExecutor(self.count, "pillow_sdc", limit))
            model_pool = pool if limit else stack.enter_context(ThreadPoolExecutor(1, "pillow_sdc_model"))
            yield pool, model_pool
