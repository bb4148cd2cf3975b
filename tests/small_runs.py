"""What tests of whole runs share: small pictures, an engine without processes, and what a manifest says."""

import io
import random
import tarfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fsspec.core import url_to_fs
from PIL import Image
from pyarrow import parquet

from pillow_sdc.jobs.manifest import ManifestRow, read_rows
from pillow_sdc.jobs.progress import ProgressListener
from pillow_sdc.jobs.runner import Engine, run
from pillow_sdc.jobs.storage.listing import MANIFEST
from pillow_sdc.jobs.storage.stores import Store
from pillow_sdc.jobs.tasks import Conversion, Task
from pillow_sdc.jobs.worker import Worker

SIZE = 24, 16

SETTINGS = {"model": "compact", "device": "cpu"}
ENCODING = Conversion(decode=False, settings=SETTINGS)
DECODING = Conversion(decode=True, suffix=".png", settings=SETTINGS)


def picture(number: int = 0, file_format: str = "PNG") -> bytes:
    """Return the file of a small picture, of which no two are alike."""
    samples = random.Random(number).randbytes(6 * 4 * 3)
    buffer = io.BytesIO()
    Image.frombytes("RGB", (6, 4), samples).resize(SIZE).save(buffer, file_format)
    return buffer.getvalue()


def make_pictures(folder: Path, count: int) -> Path:
    """Make ``00.png`` and so on, and return the folder."""
    folder.mkdir(parents=True)
    for number in range(count):
        (folder / f"{number:02}.png").write_bytes(picture(number))
    return folder


def make_tar(path: Path, members: Sequence[tuple[str, bytes]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def members_of(data: bytes) -> dict[str, bytes]:
    """Return the files in a tar file by their names."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]


class InlineEngine:
    """Does tasks one after another in this process, by a worker as other processes have it, and counts them."""

    def __init__(self) -> None:
        self.tasks: list[Task] = []

    def __call__(
        self, tasks: Sequence[Task], source: Store, target: Store, conversion: Conversion, listener: ProgressListener
    ) -> Iterator[tuple[Task, list[ManifestRow]]]:
        worker = Worker(source, target, conversion, threads=1)
        for task in tasks:
            self.tasks.append(task)
            listener.begun(task)
            yield task, worker.do(task, partial(listener.converted, task))


class InterruptedEngine(InlineEngine):
    """Ends as if the process died, before or after it does a task."""

    def __init__(self, before: int, then: Callable[[Worker, Task], Any] = lambda worker, task: None) -> None:
        super().__init__()
        self._before, self._then = before, then

    def __call__(
        self, tasks: Sequence[Task], source: Store, target: Store, conversion: Conversion, listener: ProgressListener
    ) -> Iterator[tuple[Task, list[ManifestRow]]]:
        yield from super().__call__(tasks[: self._before], source, target, conversion, listener)
        self._then(Worker(source, target, conversion, threads=1), tasks[self._before])
        raise KeyboardInterrupt


def check_that_a_failed_shard_is_made_anew(engine: Engine, folder: Path) -> None:
    """Check, of any engine, that a shard with a bad picture fails in each run, and is replaced once that is good."""
    source, target = folder / "in", folder / "out"
    for bad in (b"nonsense", b"nonsense", picture(1)):
        make_tar(source / "a.tar", [("0.jpg", picture(0, "JPEG")), ("0.seg.png", b"mask"), ("1.png", bad)])
        progress = run(str(source), str(target), ENCODING, engine)
        is_bad = bad == b"nonsense"
        assert (progress.pictures, progress.failed) == ((1, 1) if is_bad else (2, 0))
        assert list(members_of((target / "a.tar").read_bytes())) == [
            "0.seg.png",
            "0.sdc",
            *([] if is_bad else ["1.sdc"]),
        ]
    assert run(str(source), str(target), ENCODING, engine).total == 0
    assert unfinished(target) == []


def rows_of(target: str | Path) -> list[ManifestRow]:
    """Return the rows of a manifest, as one reads them who knows nothing of this package but the documentation."""
    store = Store(target)
    paths = sorted(entry.path for entry in store.find(MANIFEST) if entry.path.endswith(".parquet"))
    return [row for path in paths if "/_" not in path for row in read_rows(store.read(path))]


def row_of(target: str | Path, end: str) -> ManifestRow:
    """Return the last row of the source whose name has an end."""
    return [row for row in rows_of(target) if row.source.endswith(end)][-1]


def files_of(target: str | Path) -> list[str]:
    """Return the names of the files in a target, without the manifest's."""
    return [path for path in _all_files(target) if not path.startswith(f"{MANIFEST}/")]


def unfinished(target: str | Path) -> list[str]:
    """Return the names of what a run has left that should be gone."""
    return [path for path in _all_files(target) if "/_tmp" in path or "/_pending" in path]


def _all_files(target: str | Path) -> list[str]:
    files, root = url_to_fs(str(target))
    files.invalidate_cache()
    return [path.removeprefix(root).lstrip("/") for path in sorted(files.find(root))]


def columns_of(data: bytes) -> dict[str, list[Any]]:
    """Return the columns of a Parquet file by their names."""
    columns: dict[str, list[Any]] = parquet.read_table(io.BytesIO(data)).to_pydict()
    return columns
