"""Tasks done in this process, one picture after another, each with its own progress."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from ...errors import BatchError
from ...progress import ProgressCallback
from ..manifest import ManifestRow
from ..storage.writing import undisturbed
from ..tasks import Conversion, Task
from ..worker import Files, Item, PictureOf, Worker, ends_run

if TYPE_CHECKING:
    from PIL import Image

    from ...pipeline.encoding import EncodedFile
    from ..progress import ProgressListener


class SerialEngine:
    """Does all in the caller's thread, where Ctrl-C ends it at once, but for a file that is being written."""

    def __call__(
        self, tasks: Sequence[Task], source: Files, target: Files, conversion: Conversion, listener: "ProgressListener"
    ) -> Iterator[tuple[Task, list[ManifestRow]]]:
        """Yield tasks that are done, and the results of their pictures.

        Raises:
            ModelUnavailableError: The model is not here and cannot be had.
            OSError: The disk is full.
        """
        for task in tasks:
            listener.begun(task)
            worker = _Worker(source, target, conversion, partial(listener.within, task))
            yield task, worker.do(task, partial(listener.converted, task))


class _Worker(Worker):
    """Converts pictures one by one."""

    def __init__(self, source: Files, target: Files, conversion: Conversion, within: ProgressCallback) -> None:
        super().__init__(source, target, conversion, critical_section=undisturbed)
        self._within = within

    def _encode_each(
        self, items: Sequence[Item], picture_of: PictureOf, take: "Callable[[Item, EncodedFile], None]"
    ) -> None:
        from ...api import encode_file

        def encode(item: Item, progress: ProgressCallback) -> None:
            image, options = picture_of(item)
            with image:
                file = encode_file(image, progress=progress, **self._conversion.save_options, **options)
            take(item, file)

        self._one_by_one(items, encode)

    def _decode_each(
        self, items: Sequence[Item], source_of: Callable[[Item], bytes], take: "Callable[[Item, Image.Image], None]"
    ) -> None:
        from ...api import decode

        self._one_by_one(items, lambda item, progress: take(item, decode(source_of(item), progress=progress)))

    def _one_by_one(self, items: Sequence[Item], convert: Callable[[Item, ProgressCallback], Any]) -> None:
        errors: dict[int, Exception] = {}
        for index, item in enumerate(items):
            try:
                convert(item, partial(self._progress_of, index, len(items)))
            except Exception as error:
                if ends_run(error):
                    raise
                errors[index] = error
        if errors:
            raise BatchError([None] * len(items), errors)

    def _progress_of(self, index: int, count: int, done: int, steps: int) -> None:
        self._within(index * steps + done, count * steps)
