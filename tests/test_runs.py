"""Whole runs from one store to another, in this process: what is written, what is said of it, and how they go on."""

import dataclasses
import io
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from faulty_file_system import register, set_faults
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image
from pyarrow import parquet
from small_runs import (
    DECODING,
    ENCODING,
    SIZE,
    InlineEngine,
    InterruptedEngine,
    columns_of,
    files_of,
    make_pictures,
    make_tar,
    members_of,
    picture,
    row_of,
    rows_of,
    unfinished,
)

import pillow_sdc
from pillow_sdc import api
from pillow_sdc.jobs import manifest as manifests
from pillow_sdc.jobs.manifest import (
    PENDING,
    UNFINISHED,
    Manifest,
    ManifestRow,
    as_parquet,
    pending_path,
    read_rows,
)
from pillow_sdc.jobs.progress import Progress, ProgressListener
from pillow_sdc.jobs.runner import LOCK, run
from pillow_sdc.jobs.storage.listing import MANIFEST
from pillow_sdc.jobs.storage.stores import Store
from pillow_sdc.jobs.tasks import Conversion, Packing, Task
from pillow_sdc.jobs.worker import Worker

ALL = dataclasses.replace(ENCODING, columns=("*",))
"""All pictures of each sample of a tar shard."""

GOLDEN = (Path(__file__).parent / "golden" / "palette-rgb-200x150.sdc").read_bytes()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have attempts follow each other at once."""
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda seconds: None)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return make_pictures(tmp_path / "in", 3)


@pytest.fixture
def tar(tmp_path: Path) -> Path:
    members = [
        (f"x/{number}.{end}", data) for number in range(3) for end, data in (("cls", b"7"), ("png", picture(number)))
    ]
    make_tar(tmp_path / "in" / "a.tar", members)
    return tmp_path / "in"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rows = [{"image": {"bytes": picture(number), "path": f"{number}.png"}, "label": number} for number in range(3)]
    rows.insert(1, {"image": None, "label": 9})  # type: ignore[dict-item]
    (tmp_path / "in").mkdir()
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "in" / "a.parquet", row_group_size=2)
    return tmp_path / "in"


def done(
    source: str | Path,
    target: str | Path,
    conversion: Conversion = ENCODING,
    *,
    tasks: int | None = None,
    **options: Any,
) -> Progress:
    """Run, see that nothing is left behind and that the number of tasks is as expected, and return what was done."""
    engine = InlineEngine()
    progress = run(str(source), str(target), conversion, engine, **options)
    assert unfinished(target) == []
    assert tasks in (None, len(engine.tasks))
    return progress


def again(conversion: Conversion = ENCODING) -> Conversion:
    return dataclasses.replace(conversion, overwrite=True)


def errors_of(progress: Progress) -> dict[str, str]:
    return {row.source.rpartition("/")[2]: row.error or "" for row in progress.errors}


def is_picture(data: bytes, file_format: str = "SDC") -> bool:
    with Image.open(io.BytesIO(data)) as image:
        return (image.format, image.size) == (file_format, SIZE)


# Every way from one kind to another, and back


def test_files_become_files_and_these_files_again(pictures: Path, tmp_path: Path) -> None:
    (pictures / "deep").mkdir()
    shutil.copy(pictures / "00.png", pictures / "deep" / "a.b.png")
    (pictures / "notes.txt").write_text("no picture")
    progress = done(pictures, tmp_path / "out", tasks=1)
    assert (progress.pictures, progress.failed, progress.found) == (4, 0, 0)
    assert files_of(tmp_path / "out") == ["00.sdc", "01.sdc", "02.sdc", "deep/a.b.sdc"]
    done(tmp_path / "out", tmp_path / "back", DECODING, tasks=1)
    assert files_of(tmp_path / "back") == ["00.png", "01.png", "02.png", "deep/a.b.png"]
    for folder, file_format in (("out", "SDC"), ("back", "PNG")):
        for path in files_of(tmp_path / folder):
            assert is_picture((tmp_path / folder / path).read_bytes(), file_format)
    assert (tmp_path / "out" / "00.sdc").read_bytes() == (tmp_path / "out" / "deep" / "a.b.sdc").read_bytes()


def test_files_are_packed_into_tar_shards_and_unpacked(pictures: Path, tmp_path: Path) -> None:
    assert done(pictures, tmp_path / "out", to=Packing.TAR, shard_size=2, tasks=2).pictures == 3
    assert files_of(tmp_path / "out") == ["000000.tar", "000001.tar"]
    members = members_of((tmp_path / "out" / "000000.tar").read_bytes())
    assert list(members) == ["00.sdc", "01.sdc"]
    assert all(map(is_picture, members.values()))
    done(tmp_path / "out", tmp_path / "back", DECODING, to=Packing.FILES, tasks=2)
    assert files_of(tmp_path / "back") == ["000000/00.png", "000000/01.png", "000001/02.png"]


def test_files_are_packed_into_parquet_shards_and_unpacked(pictures: Path, tmp_path: Path) -> None:
    assert done(pictures, tmp_path / "out", to=Packing.PARQUET, shard_size=2, tasks=2).pictures == 3
    assert files_of(tmp_path / "out") == ["000000.parquet", "000001.parquet"]
    cells = columns_of((tmp_path / "out" / "000000.parquet").read_bytes())["image"]
    assert [cell["path"] for cell in cells] == ["00.sdc", "01.sdc"]
    assert all(is_picture(cell["bytes"]) for cell in cells)
    done(tmp_path / "out", tmp_path / "back", DECODING, to=Packing.FILES, tasks=2)
    assert files_of(tmp_path / "back") == ["000000/00000000.png", "000000/00000001.png", "000001/00000000.png"]


def test_tar_shards_become_tar_shards_and_these_again(tar: Path, tmp_path: Path) -> None:
    assert done(tar, tmp_path / "out", tasks=1).pictures == 3
    members = members_of((tmp_path / "out" / "a.tar").read_bytes())
    assert list(members) == [f"x/{number}.{end}" for number in range(3) for end in ("cls", "sdc")]
    assert members["x/1.cls"] == b"7"
    assert is_picture(members["x/1.sdc"])
    done(tmp_path / "out", tmp_path / "back", DECODING, tasks=1)
    members = members_of((tmp_path / "back" / "a.tar").read_bytes())
    assert is_picture(members["x/1.png"], "PNG")
    assert members["x/1.cls"] == b"7"


def test_tar_shards_become_files_in_folders_with_what_goes_along(tar: Path, tmp_path: Path) -> None:
    assert done(tar, tmp_path / "out", to=Packing.FILES, tasks=1).pictures == 3
    assert files_of(tmp_path / "out") == [f"a/x/{number}.{end}" for number in range(3) for end in ("cls", "sdc")]
    assert (tmp_path / "out" / "a" / "x" / "1.cls").read_bytes() == b"7"
    assert is_picture((tmp_path / "out" / "a" / "x" / "1.sdc").read_bytes())


def test_parquet_shards_become_parquet_shards_and_these_again(table: Path, tmp_path: Path) -> None:
    assert done(table, tmp_path / "out", tasks=1).pictures == 3
    columns = columns_of((tmp_path / "out" / "a.parquet").read_bytes())
    assert columns["label"] == [0, 9, 1, 2]
    assert columns["image"][1] is None
    assert columns["image"][2]["path"] == "1.sdc"
    assert is_picture(columns["image"][2]["bytes"])
    done(tmp_path / "out", tmp_path / "back", DECODING, tasks=1)
    assert is_picture(columns_of((tmp_path / "back" / "a.parquet").read_bytes())["image"][2]["bytes"], "PNG")


def test_parquet_shards_become_files_that_are_called_by_their_rows(table: Path, tmp_path: Path) -> None:
    assert done(table, tmp_path / "out", to=Packing.FILES, tasks=1).pictures == 3
    assert files_of(tmp_path / "out") == ["a/00000000.sdc", "a/00000002.sdc", "a/00000003.sdc"]


def test_a_parquet_shard_of_no_rows_keeps_its_columns(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    columns = pa.table({"photo": pa.array([], pa.binary()), "label": pa.array([], pa.int8())})
    parquet.write_table(columns, tmp_path / "in" / "a.parquet")
    column = dataclasses.replace(ENCODING, columns=("photo",))
    assert done(tmp_path / "in", tmp_path / "out", column, tasks=1).failed == 0
    assert parquet.read_schema(tmp_path / "out" / "a.parquet").names == ["photo", "label"]
    done(tmp_path / "in", tmp_path / "out", column, tasks=0)


def test_a_run_from_memory_to_memory_is_like_any_other() -> None:
    source = Store("memory://in")
    for number in range(2):
        source.write(f"{number}.png", picture(number), overwrite=False, through="_tmp")
    assert done("memory://in", "memory://out", to=Packing.TAR, tasks=1).pictures == 2
    assert done("memory://out/*.tar", "memory://back", DECODING, to=Packing.FILES, tasks=1).pictures == 2
    assert files_of("memory://back") == ["000000/0.png", "000000/1.png"]
    done("memory://in", "memory://out", to=Packing.TAR, tasks=0)
    assert not Store("memory://out").exists(LOCK)
    assert row_of("memory://out", "0.png").source == "memory://in/0.png"


def test_a_file_and_a_pattern_are_sources_too(pictures: Path, tmp_path: Path) -> None:
    done(pictures / "01.png", tmp_path / "out", tasks=1)
    assert files_of(tmp_path / "out") == ["01.sdc"]
    done(f"{pictures}/0[02].png", tmp_path / "out", tasks=1)
    assert files_of(tmp_path / "out") == ["00.sdc", "01.sdc", "02.sdc"]


def test_pictures_of_a_format_and_options_of_the_codec_are_as_asked_for(pictures: Path, tmp_path: Path) -> None:
    coder = dataclasses.replace(ENCODING, save_options={"codec": "context", "quality": 20})
    done(pictures, tmp_path / "out", coder)
    assert pillow_sdc.info(tmp_path / "out" / "00.sdc").codec == "context"
    done(tmp_path / "out", tmp_path / "back", dataclasses.replace(DECODING, suffix=".jpg"))
    assert is_picture((tmp_path / "back" / "00.jpg").read_bytes(), "JPEG")


@pytest.mark.parametrize("keep", [True, False])
def test_metadata_are_kept_unless_they_are_not_to_be(tmp_path: Path, keep: bool) -> None:
    (tmp_path / "in").mkdir()
    with Image.open(io.BytesIO(picture())) as image:
        image.save(tmp_path / "in" / "a.png", dpi=(300, 300))
    done(tmp_path / "in", tmp_path / "out", dataclasses.replace(ENCODING, keep_metadata=keep))
    with Image.open(tmp_path / "out" / "a.sdc") as image:
        assert ("dpi" in image.info) == keep


# The manifest


def test_the_manifest_tells_what_came_of_each_picture(pictures: Path, tmp_path: Path) -> None:
    (pictures / "bad.png").write_bytes(b"nonsense")
    before = time.time()
    progress = done(pictures, tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    assert [row.source for row in rows] == [f"{pictures}/{name}" for name in ("00.png", "01.png", "02.png", "bad.png")]
    for row in rows[:3]:
        assert row.output == Path(row.source).with_suffix(".sdc").name
        data = (tmp_path / "out" / row.output).read_bytes()
        assert (row.width, row.height) == SIZE
        assert (row.source_bytes, row.output_bytes) == (Path(row.source).stat().st_size, len(data))
        assert row.bits_per_pixel == pytest.approx(pillow_sdc.info(data).bits_per_pixel)
        assert (row.codec, row.error) == ("palette", None)
        assert row.model is not None
        assert "compact" in row.model
        assert row.seconds is not None
        assert 0 < row.seconds < time.time() - before
        assert before < row.finished < time.time()
    assert (rows[3].output, rows[3].output_bytes, rows[3].error) == (None, None, "not a picture that Pillow can read")
    assert rows[3].source_bytes == 8
    assert (progress.pictures, progress.failed) == (3, 1)
    assert progress.source_bytes == sum(row.source_bytes or 0 for row in rows[:3])
    assert progress.output_bytes == sum(row.output_bytes or 0 for row in rows[:3])
    assert progress.done == progress.total == sum(path.stat().st_size for path in pictures.iterdir())


@pytest.mark.parametrize("to", [None, Packing.TAR])
def test_files_that_were_made_just_now_are_not_read_for_the_manifest(
    pictures: Path, tmp_path: Path, to: Packing | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pillow_sdc.jobs.worker.facts_of", None)
    assert done(pictures, tmp_path / "out", to=to).pictures == 3
    row = row_of(tmp_path / "out", "00.png")
    assert (row.width, row.height, row.codec) == (*SIZE, "palette")
    assert row.bits_per_pixel == 8 * row.output_bytes / (SIZE[0] * SIZE[1])  # type: ignore[operator]


def test_the_manifest_tells_of_decoded_pictures_too(pictures: Path, tmp_path: Path) -> None:
    done(pictures, tmp_path / "out")
    done(tmp_path / "out", tmp_path / "back", DECODING)
    row = row_of(tmp_path / "back", "00.sdc")
    assert (row.output, row.codec, (row.width, row.height)) == ("00.png", "palette", SIZE)
    assert row.source_bytes == (tmp_path / "out" / "00.sdc").stat().st_size
    assert row.output_bytes == (tmp_path / "back" / "00.png").stat().st_size
    assert row.bits_per_pixel == pytest.approx(8 * (row.source_bytes or 0) / (24 * 16), rel=0.01)


def test_the_manifest_tells_what_was_left_out(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with Image.open(io.BytesIO(picture())) as image:
        image.save(tmp_path / "in" / "a.gif", save_all=True, append_images=[image.convert("L")])
        image.save(tmp_path / "in" / "b.png", exif=b"II*\0\x08\0\0\0\0\0" + bytes(70_000))
    progress = done(tmp_path / "in", tmp_path / "out")
    assert (progress.pictures, progress.remarks) == (2, 1)
    assert row_of(tmp_path / "out", "a.gif").remark == "has several frames, of which the first is taken"
    assert row_of(tmp_path / "out", "b.png").remark is None
    progress = done(tmp_path / "out", tmp_path / "back", dataclasses.replace(DECODING, suffix=".jpg"))
    assert (progress.pictures, progress.remarks) == (2, 1)
    assert row_of(tmp_path / "back", "b.sdc").remark == "left out of the JPEG file: EXIF (70,010 bytes)"
    assert row_of(tmp_path / "back", "b.sdc").output == "b.jpg"


@pytest.mark.parametrize("to", [None, Packing.FILES])
def test_the_manifest_tells_of_pictures_within_shards_and_of_these(
    tar: Path, tmp_path: Path, to: Packing | None
) -> None:
    done(tar, tmp_path / "out", to=to)
    sources = {row.source: row.output for row in rows_of(tmp_path / "out")}
    between, shard = ("/", "a") if to else ("::", "a.tar")
    expected = {f"{tar}/a.tar::x/{number}.png": f"{shard}{between}x/{number}.sdc" for number in range(3)}
    assert sources == {**expected, f"{tar}/a.tar": shard}


def test_the_manifest_tells_of_rows_of_tables_by_their_numbers(table: Path, tmp_path: Path) -> None:
    done(table, tmp_path / "out")
    sources = {row.source: row.output for row in rows_of(tmp_path / "out")}
    expected = {f"{table}/a.parquet::{number}": f"a.parquet::{number}" for number in (0, 2, 3)}
    assert sources == {**expected, f"{table}/a.parquet": "a.parquet"}


def test_rows_are_what_they_were_when_they_are_read() -> None:
    rows = [
        ManifestRow("a"),
        ManifestRow("b", "c", 1, 2, 3, 4, 0.5, "palette", "compact", 0.25, "error", 6.5, "remark"),
    ]
    assert read_rows(as_parquet(rows)) == rows
    assert read_rows(as_parquet([])) == []


def test_rows_are_written_now_and_then_so_that_few_are_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = Manifest(Store(tmp_path))
    monkeypatch.setattr(manifests, "MAX_ROWS_UNWRITTEN", 3)
    manifest.add([ManifestRow("a"), ManifestRow("b")])
    assert rows_of(tmp_path) == []
    manifest.add([ManifestRow("c")])
    assert [row.source for row in rows_of(tmp_path)] == ["a", "b", "c"]
    monkeypatch.setattr(manifests, "MAX_SECONDS_UNWRITTEN", 0.0)
    manifest.add([ManifestRow("d")])
    assert [row.source for row in rows_of(tmp_path)][-1] == "d"


def test_the_last_row_of_a_source_and_of_an_output_is_the_valid_one(tmp_path: Path) -> None:
    manifest = Manifest(Store(tmp_path))
    rows = [
        *(
            ManifestRow("a", "1"),
            ManifestRow("b", "2"),
            ManifestRow("c", "3"),
            ManifestRow("a", error="bad"),
            ManifestRow("d", "2"),
            ManifestRow("c", "4"),
        ),
        *(
            ManifestRow("e", "5", error="some failed"),
            ManifestRow("f", error="bad"),
            ManifestRow("g", error="bad"),
            ManifestRow("g", "6"),
        ),
    ]
    for row in rows:
        manifest.add([row])
        manifest.write()
    account = Manifest(Store(tmp_path)).account()
    assert account.done == {"d": "2", "c": "4", "g": "6"}
    assert account.superseded == {"a": "1", "e": "5"}
    assert account.failed == {"a", "e", "f"}


def test_a_damaged_part_of_the_manifest_is_named(pictures: Path, tmp_path: Path) -> None:
    done(pictures, tmp_path / "out")
    (part,) = (tmp_path / "out" / MANIFEST).glob("*.parquet")
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(OSError, match=f"{part.name} is damaged; remove it"):
        done(pictures, tmp_path / "out")
    part.unlink()
    assert done(pictures, tmp_path / "out", tasks=1).found == 3


def test_the_manifest_says_which_options_a_file_was_made_with(pictures: Path, tmp_path: Path) -> None:
    done(pictures, tmp_path / "out", with_quality(20))
    assert {row.options for row in rows_of(tmp_path / "out")} == {"--model compact --quality 20"}
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "00.sdc").write_bytes((tmp_path / "out" / "00.sdc").read_bytes())
    progress = done(pictures, tmp_path / "there")
    assert progress.made_with_other_options == {}  # for nobody knows
    assert [row.options for row in rows_of(tmp_path / "there")] == [None, "--model compact", "--model compact"]


@pytest.mark.parametrize(
    ("conversion", "described"),
    [
        (Conversion(decode=False), ""),
        (Conversion(decode=False, settings={"device": "cpu", "denoise_steps": 9}, overwrite=True, max_pixels=7), ""),
        (Conversion(decode=False, save_options={"palette_size": 8, "dither": 0.5}), "--dither 0.5 --palette-size 8"),
        (Conversion(decode=False, keep_metadata=False, save_options={"quality": 3}), "--quality 3 --strip"),
        (Conversion(decode=True, settings={"model": "a/b", "denoise_steps": 9}), "--denoise-steps 9 --model a/b"),
    ],
)
def test_options_that_make_files_what_they_are_are_described(
    conversion: Conversion, described: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PILLOW_SDC_MODEL", raising=False)
    assert conversion.described() == described


# Going on


def with_quality(quality: int) -> Conversion:
    return dataclasses.replace(ENCODING, save_options={"quality": quality})


@pytest.mark.parametrize("kind", ["pictures", "tar", "table"])
@pytest.mark.parametrize("to", [None, Packing.FILES])
def test_what_is_there_but_was_made_with_other_options_is_counted(
    kind: str, to: Packing | None, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    source = request.getfixturevalue(kind)
    done(source, tmp_path / "out", with_quality(20), to=to)
    assert done(source, tmp_path / "out", with_quality(20), to=to, tasks=0).made_with_other_options == {}
    progress = done(source, tmp_path / "out", with_quality(30), to=to, tasks=0)
    assert (progress.found, progress.options) == (3, "--model compact --quality 30")
    assert progress.made_with_other_options == {"--model compact --quality 20": 3}
    assert done(source, tmp_path / "out", again(with_quality(30)), to=to).made_with_other_options == {}
    assert done(source, tmp_path / "out", with_quality(30), to=to, tasks=0).made_with_other_options == {}


@pytest.mark.parametrize(("first", "then"), [(None, Packing.TAR), (Packing.TAR, Packing.PARQUET)])
def test_what_is_there_but_packed_otherwise_is_counted(
    pictures: Path, tmp_path: Path, first: Packing | None, then: Packing
) -> None:
    done(pictures, tmp_path / "out", to=first)
    progress = done(pictures, tmp_path / "out", to=then, tasks=0)
    assert progress.made_with_other_options == {f"--model compact --to {first or Packing.FILES}": 3}


@pytest.mark.parametrize("to", [None, Packing.TAR])
def test_what_a_run_made_before_it_was_cut_off_has_its_options(
    pictures: Path, tmp_path: Path, to: Packing | None
) -> None:
    engine = InterruptedEngine(0, lambda worker, task: worker.do(task))
    with pytest.raises(KeyboardInterrupt):
        run(str(pictures), str(tmp_path / "out"), with_quality(20), engine, to=to)
    for _ in range(2):
        progress = done(pictures, tmp_path / "out", with_quality(30), to=to)
        assert (progress.pictures, progress.found) == (0, 3)
        assert progress.made_with_other_options == {"--model compact --quality 20": 3}


@pytest.mark.parametrize("to", [None, Packing.TAR])
def test_a_run_that_is_cut_off_reports_the_files_that_there_are_and_no_shards(
    pictures: Path, tmp_path: Path, to: Packing | None
) -> None:
    class CutOff(InlineEngine):
        def __call__(
            self,
            tasks: Sequence[Task],
            source: Store,
            target: Store,
            conversion: Conversion,
            listener: ProgressListener,
        ) -> Iterator[tuple[Task, list[ManifestRow]]]:
            listener.begun(tasks[0])
            for _ in range(2):
                listener.converted(tasks[0], 10, 1)
            raise KeyboardInterrupt
            yield

    reports: list[Progress] = []
    with pytest.raises(KeyboardInterrupt):
        run(str(pictures), str(tmp_path / "out"), ENCODING, CutOff(), to=to, report=reports.append)
    numbers = [(report.pictures, report.done, report.source_bytes, report.output_bytes) for report in reports]
    ended = (2, 20, 20, 2) if to is None else (0, 0, 0, 0)
    assert numbers == [(0, 0, 0, 0), (1, 10, 10, 1), (2, 20, 20, 2), ended]


def test_what_is_said_of_a_task_again_or_too_late_counts_once(pictures: Path, tmp_path: Path) -> None:
    class Slow(InlineEngine):
        def __call__(
            self,
            tasks: Sequence[Task],
            source: Store,
            target: Store,
            conversion: Conversion,
            listener: ProgressListener,
        ) -> Iterator[tuple[Task, list[ManifestRow]]]:
            listener.begun(tasks[0])
            listener.converted(tasks[0], 10, 1)  # by a worker that dies
            yield from super().__call__(tasks, source, target, conversion, listener)
            listener.begun(tasks[0])
            listener.converted(tasks[0], 10, 1)

    reports: list[int] = []
    run(str(pictures), str(tmp_path / "out"), ENCODING, Slow(), report=lambda now: reports.append(now.pictures))
    assert reports == [0, 1, 1, 2, 3, 3]


@pytest.mark.parametrize("to", list(Packing))
def test_what_is_done_is_not_done_again(pictures: Path, tmp_path: Path, to: Packing) -> None:
    done(pictures, tmp_path / "out", to=to)
    before = {path: (tmp_path / "out" / path).stat().st_mtime_ns for path in files_of(tmp_path / "out")}
    progress = done(pictures, tmp_path / "out", to=to, tasks=0)
    assert (progress.pictures, progress.found, progress.total) == (0, 3, 0)
    assert {path: (tmp_path / "out" / path).stat().st_mtime_ns for path in files_of(tmp_path / "out")} == before
    assert len(rows_of(tmp_path / "out")) == 3


@pytest.mark.parametrize("to", list(Packing))
def test_new_files_are_added(pictures: Path, tmp_path: Path, to: Packing) -> None:
    done(pictures, tmp_path / "out", to=to)
    (pictures / "new.png").write_bytes(picture(9))
    assert done(pictures, tmp_path / "out", to=to, tasks=1).pictures == 1
    assert (
        row_of(tmp_path / "out", "new.png").output
        == {
            Packing.FILES: "new.sdc",
            Packing.TAR: "000001.tar::new.sdc",
            Packing.PARQUET: "000001.parquet::new.sdc",
        }[to]
    )


@pytest.mark.parametrize("to", [None, Packing.FILES])
@pytest.mark.parametrize("kind", ["tar", "table"])
def test_shards_that_are_done_are_not_done_again(
    tmp_path: Path, to: Packing | None, kind: str, request: pytest.FixtureRequest
) -> None:
    source = request.getfixturevalue(kind)
    done(source, tmp_path / "out", to=to, tasks=1)
    rows = len(rows_of(tmp_path / "out"))
    done(source, tmp_path / "out", to=to, tasks=0)
    assert len(rows_of(tmp_path / "out")) == rows
    assert done(source, tmp_path / "out", again(), to=to, tasks=1).pictures == 3


def test_shards_that_were_unpacked_are_kept_as_shards_too_if_that_is_asked_for(tar: Path, tmp_path: Path) -> None:
    done(tar, tmp_path / "out", to=Packing.FILES, tasks=1)
    assert done(tar, tmp_path / "out", tasks=1).pictures == 3
    done(tar, tmp_path / "out", tasks=0)
    assert len(files_of(tmp_path / "out")) == 7


def test_what_was_removed_is_done_again(pictures: Path, tmp_path: Path) -> None:
    done(pictures, tmp_path / "out")
    (tmp_path / "out" / "01.sdc").unlink()
    assert done(pictures, tmp_path / "out", tasks=1).pictures == 1
    assert files_of(tmp_path / "out") == ["00.sdc", "01.sdc", "02.sdc"]


def test_of_a_shard_that_became_files_those_that_were_removed_are_done_again(tar: Path, tmp_path: Path) -> None:
    done(tar, tmp_path / "out", to=Packing.FILES)
    for name in ("1.sdc", "2.cls"):
        (tmp_path / "out" / "a" / "x" / name).unlink()
    progress = done(tar, tmp_path / "out", to=Packing.FILES, tasks=1)
    assert (progress.pictures, progress.failed) == (1, 0)
    assert len(files_of(tmp_path / "out")) == 6
    done(tar, tmp_path / "out", to=Packing.FILES, tasks=0)


def test_files_that_the_manifest_does_not_know_are_taken_into_it(pictures: Path, tmp_path: Path) -> None:
    done(pictures, tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / MANIFEST)
    before = (tmp_path / "out" / "01.sdc").stat()
    progress = done(pictures, tmp_path / "out", tasks=1)
    assert (progress.pictures, progress.found, progress.failed) == (0, 3, 0)
    assert (tmp_path / "out" / "01.sdc").stat().st_mtime_ns == before.st_mtime_ns
    row = row_of(tmp_path / "out", "01.png")
    assert (row.output, row.output_bytes, row.codec, row.model) == ("01.sdc", before.st_size, "palette", None)
    assert (row.width, row.height) == SIZE
    done(pictures, tmp_path / "out", tasks=0)


def test_decoded_files_that_the_manifest_does_not_know_are_taken_into_it(pictures: Path, tmp_path: Path) -> None:
    done(pictures, tmp_path / "out")
    done(tmp_path / "out", tmp_path / "back", DECODING)
    shutil.rmtree(tmp_path / "back" / MANIFEST)
    (tmp_path / "back" / "02.png").write_bytes(picture()[:-30])
    progress = done(tmp_path / "out", tmp_path / "back", DECODING, tasks=1)
    assert (progress.pictures, progress.found, progress.failed) == (0, 2, 1)
    assert row_of(tmp_path / "back", "00.sdc").output == "00.png"
    assert errors_of(progress)["02.sdc"].startswith("02.png is there, but ")


@pytest.mark.parametrize("length", [0, 10, -1])
def test_a_damaged_file_in_the_target_is_reported_and_left(pictures: Path, tmp_path: Path, length: int) -> None:
    done(pictures, tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / MANIFEST)
    half = (tmp_path / "out" / "01.sdc").read_bytes()[:length]
    (tmp_path / "out" / "01.sdc").write_bytes(half)
    for _ in range(2):  # it does not become right by being known
        progress = done(pictures, tmp_path / "out", tasks=1)
        assert list(errors_of(progress)) == ["01.png"]
        assert errors_of(progress)["01.png"].startswith("01.sdc is there, but ")
        assert errors_of(progress)["01.png"].endswith("; remove it, or overwrite what is there")
        assert (tmp_path / "out" / "01.sdc").read_bytes() == half
    assert done(pictures, tmp_path / "out", again()).failed == 0
    done(pictures, tmp_path / "out", tasks=0)


@pytest.mark.parametrize("to", [None, Packing.TAR])
def test_what_is_there_is_replaced_if_that_is_asked_for(tmp_path: Path, to: Packing | None) -> None:
    make_tar(tmp_path / "in" / "a.tar", [("1.png", picture(1))])
    done(tmp_path / "in", tmp_path / "out")
    before = (tmp_path / "out" / "a.tar").read_bytes()
    make_tar(tmp_path / "in" / "a.tar", [("1.png", picture(2))])
    done(tmp_path / "in", tmp_path / "out", to=to, tasks=0)
    assert (tmp_path / "out" / "a.tar").read_bytes() == before
    assert done(tmp_path / "in", tmp_path / "out", again(), to=to, tasks=1).pictures == 1
    assert (tmp_path / "out" / "a.tar").read_bytes() != before


def test_relative_and_absolute_paths_are_one_source(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pictures)
    for number, source in enumerate((".", "../in", pictures, f"{pictures}/", f"file://{pictures}", "*.png")):
        done(source, "../out", tasks=int(number == 0))
    assert {row.source for row in rows_of(tmp_path / "out")} == {f"{pictures}/{number:02}.png" for number in range(3)}


def test_pictures_of_the_same_names_elsewhere_are_not_taken_for_these(pictures: Path, tmp_path: Path) -> None:
    done(pictures, tmp_path / "out")
    other = make_pictures(tmp_path / "other", 1)
    with pytest.raises(ValueError, match=r"other/00\.png would become 00\.sdc, which .*in/00\.png became already"):
        done(other, tmp_path / "out")
    done(other, tmp_path / "out", again(), tasks=1)
    with pytest.raises(ValueError, match=r"in/00\.png would become 00\.sdc, which .*other/00\.png became already"):
        done(pictures, tmp_path / "out")


def test_a_shard_that_is_there_but_of_another_source_is_reported(tar: Path, tmp_path: Path) -> None:
    done(tar, tmp_path / "out")
    before = (tmp_path / "out" / "a.tar").read_bytes()
    make_tar(tmp_path / "other" / "a.tar", [("1.png", picture(7))])
    for _ in range(2):
        assert "a.tar is there, and nothing says" in errors_of(done(tmp_path / "other", tmp_path / "out"))["a.tar"]
        assert (tmp_path / "out" / "a.tar").read_bytes() == before


# From SDC files to SDC files


@pytest.mark.parametrize("options", [{}, {"quality": 20}, {"target_size": 40}, {"codec": "uint8"}])
@pytest.mark.parametrize("kind", Packing)
def test_sdc_files_become_sdc_files_without_a_model(tmp_path: Path, kind: Packing, options: dict[str, Any]) -> None:
    stored = pillow_sdc.encode(picture(), quality=80, xmp=b"x", model="compact")
    expected = pillow_sdc.encode(stored, xmp=b"x", **options)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "0.sdc").write_bytes(stored)
    if kind is not Packing.FILES:
        done(tmp_path / "in", tmp_path / "packed", to=kind)
    source = tmp_path / ("in" if kind is Packing.FILES else "packed")
    (tmp_path / "no-model").mkdir()
    conversion = dataclasses.replace(
        ENCODING, settings={"model": str(tmp_path / "no-model"), "device": "cpu"}, save_options=options
    )
    progress = done(source, tmp_path / "out", conversion, to=Packing.FILES)
    assert (progress.pictures, progress.failed) == (1, 0)
    (name,) = files_of(tmp_path / "out")
    assert (tmp_path / "out" / name).read_bytes() == expected
    assert (expected == stored) is (not options)
    row = next(row for row in rows_of(tmp_path / "out") if row.output == name)
    assert (row.model, row.error, row.width) == (None, None, 24)


def test_of_pictures_beside_their_sdc_files_the_pictures_are_encoded(pictures: Path, tmp_path: Path) -> None:
    (pictures / "00.sdc").write_bytes(GOLDEN)
    (pictures / "other.sdc").write_bytes(GOLDEN)
    progress = done(pictures, tmp_path / "out")
    assert (progress.pictures, progress.skipped) == (4, {".sdc": 1})
    assert files_of(tmp_path / "out") == ["00.sdc", "01.sdc", "02.sdc", "other.sdc"]
    assert is_picture((tmp_path / "out" / "00.sdc").read_bytes())
    assert (tmp_path / "out" / "other.sdc").read_bytes() == GOLDEN


# Which pictures of a shard


def depth_map() -> bytes:
    """Return the file of a picture that SDC cannot hold."""
    buffer = io.BytesIO()
    Image.new("I;16", (6, 4), 1000).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("to", [None, Packing.FILES])
def test_what_lies_beside_photographs_is_kept_byte_for_byte_there_and_back(tmp_path: Path, to: Packing | None) -> None:
    rest = {"0.depth.png": depth_map(), "0.json": b"{}", "1.seg.png": picture(9), "._1.jpg": b"x", "1.webp.txt": b""}
    photographs = {"0.image.png": picture(0), "1.jpg": picture(1, "JPEG")}
    make_tar(tmp_path / "in" / "a.tar", sorted({**rest, **photographs}.items()))
    progress = done(tmp_path / "in", tmp_path / "out", to=to)
    assert (progress.pictures, progress.failed) == (2, 0)
    store = Store(tmp_path / "out")
    kept = (
        members_of(store.read("a.tar"))
        if to is None
        else {path.removeprefix("a/"): store.read(path) for path in files_of(tmp_path / "out")}
    )
    assert kept.keys() == {*rest, "0.image.sdc", "1.sdc"}
    assert rest.items() <= kept.items()
    assert is_picture(kept["0.image.sdc"])
    assert is_picture(kept["1.sdc"])
    done(tmp_path / "in", tmp_path / "out", to=to, tasks=0)
    if to is None:
        assert done(tmp_path / "out", tmp_path / "back", DECODING).pictures == 2
        back = members_of((tmp_path / "back" / "a.tar").read_bytes())
        assert back.keys() == {*rest, "0.image.png", "1.png"}
        assert rest.items() <= back.items()


def test_pictures_are_named_and_those_that_were_failures_before_are_none_any_more(tmp_path: Path) -> None:
    members = {"0.image.png": picture(), "0.depth.png": depth_map(), "0.bits": picture(1)}
    make_tar(tmp_path / "in" / "a.tar", list(members.items()))
    assert done(tmp_path / "in", tmp_path / "out", ALL).failed == 2  # the sample is left out
    named = dataclasses.replace(ENCODING, columns=("image", "bits"))
    progress = done(tmp_path / "in", tmp_path / "out", named)
    assert (progress.pictures, progress.failed) == (2, 0)
    kept = members_of((tmp_path / "out" / "a.tar").read_bytes())
    assert sorted(kept) == ["0.depth.png", "0.image.sdc", "0.sdc"]
    assert kept["0.depth.png"] == members["0.depth.png"]
    done(tmp_path / "in", tmp_path / "out", named, tasks=0)


@pytest.mark.parametrize(
    ("members", "columns", "error"),
    [
        (["0.a.png", "0.b.png"], (), "'0' has several pictures, a.png, b.png, and it is not clear .* --column"),
        (["0.png", "0.b.png"], ("jpg",), r"no sample has a member 'jpg'; there are png, b\.png"),
    ],
)
def test_a_tar_shard_of_which_it_is_not_clear_what_to_convert_is_an_error(
    tmp_path: Path, members: list[str], columns: tuple[str, ...], error: str
) -> None:
    make_tar(tmp_path / "in" / "a.tar", [(name, picture()) for name in members])
    conversion = dataclasses.replace(ENCODING, columns=columns)
    for _ in range(2):
        progress = done(tmp_path / "in", tmp_path / "out", conversion, tasks=1)
        assert (progress.pictures, progress.failed) == (0, 1)
        assert re.search(error, errors_of(progress)["a.tar"])
        assert files_of(tmp_path / "out") == []


def test_all_sdc_files_of_a_sample_are_decoded_unless_one_is_named(tmp_path: Path) -> None:
    members = {"0.left.sdc": GOLDEN, "0.right.sdc": GOLDEN, "0.png": b"kept"}
    make_tar(tmp_path / "in" / "a.tar", list(members.items()))
    assert done(tmp_path / "in", tmp_path / "out", DECODING).pictures == 2
    assert list(members_of((tmp_path / "out" / "a.tar").read_bytes())) == ["0.png", "0.left.png", "0.right.png"]
    left = dataclasses.replace(DECODING, columns=("left",))
    assert done(tmp_path / "in", tmp_path / "out2", left).pictures == 1
    assert list(members_of((tmp_path / "out2" / "a.tar").read_bytes())) == ["0.right.sdc", "0.png", "0.left.png"]


@pytest.mark.parametrize("to", [None, Packing.FILES])
def test_several_columns_of_a_table_are_converted(tmp_path: Path, to: Packing | None) -> None:
    (tmp_path / "in").mkdir()
    columns = {"left": [picture(0), None], "right": [picture(1), picture(2)], "mask": [b"a", b"b"]}
    parquet.write_table(pa.table(columns), tmp_path / "in" / "a.parquet")
    both = dataclasses.replace(ENCODING, columns=("left", "right"))
    assert done(tmp_path / "in", tmp_path / "out", both, to=to).pictures == 3
    if to is None:
        after = columns_of((tmp_path / "out" / "a.parquet").read_bytes())
        assert (after["left"][1], after["mask"]) == (None, [b"a", b"b"])
        assert all(map(is_picture, (after["left"][0], *after["right"])))
        assert row_of(tmp_path / "out", "::1.right").output == "a.parquet::1.right"
    else:
        names = ["00000000.left.sdc", "00000000.right.sdc", "00000001.right.sdc"]
        assert files_of(tmp_path / "out") == [f"a/{name}" for name in names]
    done(tmp_path / "in", tmp_path / "out", both, to=to, tasks=0)


def test_columns_are_refused_where_there_are_no_shards(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"--column names pictures of shards, and in {pictures} there are none"):
        done(pictures, tmp_path / "out", ALL)


# Failed before


BAD = b"no picture"


def make_shard(folder: Path, kind: str, pictures: Sequence[bytes]) -> Path:
    """Make a shard of pictures and what goes along, and return its folder."""
    if kind == "tar":
        members = [
            (f"{n}.{end}", data) for n, one in enumerate(pictures) for end, data in (("png", one), ("cls", b"7"))
        ]
        make_tar(folder / "a.tar", members)
    else:
        folder.mkdir(exist_ok=True)
        parquet.write_table(pa.table({"image": pictures, "label": range(len(pictures))}), folder / "a.parquet")
    return folder


def content_of(target: Path) -> dict[str, bytes]:
    return {path: (target / path).read_bytes() for path in files_of(target)}


shards = pytest.mark.parametrize("kind", ["tar", "parquet"])
ways = pytest.mark.parametrize("to", [None, Packing.FILES])


@shards
@ways
def test_a_shard_of_which_pictures_fail_is_made_anew_until_none_does(
    tmp_path: Path, kind: str, to: Packing | None
) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    make_shard(source, kind, [picture(0), BAD, BAD])
    for _ in range(2):
        assert done(source, out, to=to, tasks=1).failed == 2
        shard = row_of(out, f"a.{kind}")
        assert (shard.output, shard.error) == ("a" if to else f"a.{kind}", "2 of its pictures failed")
    make_shard(source, kind, [picture(0), picture(1), BAD])
    progress = done(source, out, to=to, tasks=1)
    assert (progress.failed, len(progress.errors)) == (1, 1)
    make_shard(source, kind, [picture(0), picture(1), picture(2)])
    assert done(source, out, to=to, tasks=1).failed == 0
    assert row_of(out, f"a.{kind}").error is None
    done(source, out, to=to, tasks=0)
    done(source, tmp_path / "expected", to=to)
    assert content_of(out) == content_of(tmp_path / "expected")


@ways
def test_what_failed_when_it_was_overwritten_is_not_taken_for_done(tmp_path: Path, to: Packing | None) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    make_shard(source, "tar", [picture(0), picture(1)])
    (source / "b.png").write_bytes(picture(2))
    done(source, out, to=to)
    before = content_of(out)
    make_shard(source, "tar", [picture(0), BAD])
    (source / "b.png").write_bytes(BAD)
    for conversion in (again(), ENCODING, ENCODING):
        assert done(source, out, conversion, to=to, tasks=2).failed == 2
    assert content_of(out)["b.sdc"] == before["b.sdc"]
    make_shard(source, "tar", [picture(0), picture(3)])
    (source / "b.png").write_bytes(picture(4))
    assert done(source, out, to=to, tasks=2).failed == 0
    done(source, out, to=to, tasks=0)
    done(source, tmp_path / "expected", to=to)
    assert content_of(out) == content_of(tmp_path / "expected")
    assert content_of(out) != before


@shards
def test_a_shard_is_not_replaced_by_one_that_lacks_more(tmp_path: Path, kind: str) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    done(make_shard(source, kind, [picture(0), BAD, picture(2)]), out)
    before = content_of(out)
    make_shard(source, kind, [BAD, picture(1), BAD])
    for _ in range(2):
        (error,) = done(source, out, tasks=1).errors
        assert error.error == (
            f"a.{kind} is kept as it is: it lacks 1 of its pictures, and now 2 failed, first "
            f"{source}/a.{kind}::0{'.png' * (kind == 'tar')}: not a picture that Pillow can read"
        )
        assert content_of(out) == before
    make_shard(source, kind, [BAD, picture(1), picture(2)])
    assert done(source, out, tasks=1).failed == 1
    assert content_of(out) != before
    (out / f"a.{kind}").unlink()  # what is not there is not kept
    assert done(make_shard(source, kind, [BAD, BAD, picture(2)]), out, tasks=1).failed == 2
    assert done(make_shard(source, kind, [BAD, BAD, BAD]), out, again(), tasks=1).failed == 3


def test_a_shard_that_cannot_be_read_any_more_leaves_the_one_that_is_there(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    done(make_shard(source, "tar", [picture(0), BAD]), out)
    before = content_of(out)
    (source / "a.tar").write_bytes((source / "a.tar").read_bytes()[:-9000])
    for conversion in (ENCODING, again(), ENCODING):
        assert "tar file" in errors_of(done(source, out, conversion, tasks=1))["a.tar"]
        assert content_of(out) == before
    make_shard(source, "tar", [picture(0), picture(1)])
    assert done(source, out, tasks=1).failed == 0


class Killed(BaseException):
    """The end of a process."""


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("conversion", [ENCODING, again(ENCODING)])
@shards
def test_a_run_that_was_killed_while_it_replaced_a_shard_is_not_taken_to_have_done_so(
    tmp_path: Path, kind: str, conversion: Conversion, before: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    make_shard(source, kind, [picture(0), BAD if conversion is ENCODING else picture(1)])
    done(source, out)
    there = content_of(out)
    make_shard(source, kind, [picture(0), picture(2)])
    publish, write, remove = Store._publish, Manifest.write, Store.remove

    def publish_and_die(store: Store, *arguments: Any) -> None:
        if not before:
            publish(store, *arguments)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Store, "_publish", publish_and_die)
        patch.setattr(Store, "remove", lambda store, path: None)
        patch.setattr(Manifest, "write", lambda manifest: None)
        with pytest.raises(Killed):
            run(str(source), str(out), conversion, InlineEngine())
    assert (Manifest.write, Store.remove) == (write, remove)
    assert (content_of(out) == there) == before
    progress = done(source, out, tasks=1)
    assert (progress.pictures, progress.failed) == (2, 0)
    done(source, out, tasks=0)
    done(source, tmp_path / "expected")
    assert content_of(out) == content_of(tmp_path / "expected")


def test_a_worker_that_died_after_it_replaced_a_shard_does_it_again(tmp_path: Path) -> None:
    class Twice(InlineEngine):
        def __call__(
            self,
            tasks: Sequence[Task],
            source: Store,
            target: Store,
            conversion: Conversion,
            listener: ProgressListener,
        ) -> Iterator[tuple[Task, list[ManifestRow]]]:
            Worker(source, target, conversion).do(tasks[0])
            yield from super().__call__(tasks, source, target, conversion, listener)

    source, out = tmp_path / "in", tmp_path / "out"
    done(make_shard(source, "tar", [picture(0), BAD]), out)
    make_shard(source, "tar", [picture(0), picture(1)])
    progress = run(str(source), str(out), ENCODING, Twice())
    assert (progress.pictures, progress.failed) == (2, 0)
    assert unfinished(out) == []
    done(source, out, tasks=0)


@pytest.mark.parametrize("to", [Packing.TAR, Packing.PARQUET])
def test_files_that_could_not_be_packed_are_tried_again(pictures: Path, tmp_path: Path, to: Packing) -> None:
    (pictures / "bad.png").write_bytes(BAD)
    assert done(pictures, tmp_path / "out", to=to, tasks=1).failed == 1
    before = content_of(tmp_path / "out")
    for _ in range(2):
        progress = done(pictures, tmp_path / "out", to=to, tasks=1)
        assert (progress.pictures, progress.failed) == (0, 1)
        assert content_of(tmp_path / "out") == before
    (pictures / "bad.png").write_bytes(picture(9))
    assert done(pictures, tmp_path / "out", to=to, tasks=1).pictures == 1
    assert files_of(tmp_path / "out") == [f"000000.{to}", f"000001.{to}"]
    done(pictures, tmp_path / "out", to=to, tasks=0)


def test_a_shard_without_pictures_that_was_removed_is_made_again(tmp_path: Path) -> None:
    make_tar(tmp_path / "in" / "a.tar", [("0.txt", b"x")])
    done(tmp_path / "in", tmp_path / "out", tasks=1)
    done(tmp_path / "in", tmp_path / "out", tasks=0)
    (tmp_path / "out" / "a.tar").unlink()
    done(tmp_path / "in", tmp_path / "out", tasks=1)
    assert files_of(tmp_path / "out") == ["a.tar"]


# Bad sources


def test_a_name_that_leads_out_of_its_folder_is_refused(tmp_path: Path) -> None:
    names = ["../up.png", "x/../../up.png", "/up.png", "a\\b.png"]
    members = [(name, picture(number)) for number, name in enumerate(names)]
    make_tar(tmp_path / "in" / "a.tar", [*members, ("../up.txt", b"up"), ("good.png", picture())])
    progress = done(tmp_path / "in", tmp_path / "out" / "deep", to=Packing.FILES)
    assert files_of(tmp_path / "out" / "deep") == ["a/good.sdc"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["deep"]
    assert {row.source.partition("::")[2]: row.error for row in progress.errors} == {
        name: f"{name.replace('png', 'sdc')!r} leads out of its folder" for name in (*names, "../up.txt")
    }
    done(tmp_path / "in", tmp_path / "out" / "deep", to=Packing.FILES, tasks=1)  # for it is not done


def test_pictures_of_a_shard_that_would_become_one_file_do_not_replace_each_other(tmp_path: Path) -> None:
    members = [
        *[("a.png", picture(1)), ("a.bmp", picture(2, "BMP")), ("a.txt", b"first")],
        *[("b.png", picture(3)), ("a.jpg", picture(4, "JPEG")), ("a.txt", b"second")],
    ]
    make_tar(tmp_path / "in" / "x.tar", members)
    for _ in range(2):
        progress = done(tmp_path / "in", tmp_path / "out", ALL, to=Packing.FILES, tasks=1)
        assert files_of(tmp_path / "out") == [f"x/{name}" for name in ("a.bmp.sdc", "a.sdc", "a.txt", "b.sdc")]
        assert (tmp_path / "out" / "x" / "a.txt").read_bytes() == b"first"
        assert {row.source.partition("::")[2]: row.error for row in progress.errors} == {
            "a.jpg": "something else in this shard becomes x/a.sdc already",
            "a.txt": "something else in this shard becomes x/a.txt already",
        }
    expected = pillow_sdc.encode(Image.open(io.BytesIO(picture(1))), **ENCODING.settings)
    assert (tmp_path / "out" / "x" / "a.sdc").read_bytes() == expected


def test_a_bad_picture_does_not_take_others_with_it(pictures: Path, tmp_path: Path) -> None:
    (pictures / "bad.png").write_bytes(picture()[:60])
    (pictures / "gone.png").symlink_to("nowhere")
    progress = done(pictures, tmp_path / "out")
    assert set(errors_of(progress)) == {"bad.png", "gone.png"}
    assert errors_of(progress)["gone.png"] == "No such file or directory"
    assert files_of(tmp_path / "out") == ["00.sdc", "01.sdc", "02.sdc"]
    (pictures / "bad.png").write_bytes(picture(9))
    progress = done(pictures, tmp_path / "out", tasks=1)
    assert (progress.pictures, progress.failed) == (1, 1)


def test_a_bad_sdc_file_does_not_take_others_with_it(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    small = pillow_sdc.encode(Image.open(io.BytesIO(picture())), **ENCODING.settings)
    for name, data in (("a", small), ("half", small[:-1]), ("none", picture())):
        (tmp_path / "in" / f"{name}.sdc").write_bytes(data)
    progress = done(tmp_path / "in", tmp_path / "out", DECODING)
    assert (progress.pictures, progress.failed) == (1, 2)
    assert errors_of(progress)["none.sdc"] == "not an SDC file, but a PNG"
    assert files_of(tmp_path / "out") == ["a.png"]


def test_a_picture_that_its_new_format_cannot_hold_is_reported(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with Image.open(io.BytesIO(picture())) as image:
        image.putalpha(7)
        (tmp_path / "in" / "a.sdc").write_bytes(pillow_sdc.encode(image, **ENCODING.settings))
    progress = done(tmp_path / "in", tmp_path / "out", dataclasses.replace(DECODING, suffix=".jpg"))
    reason = "JPEG cannot hold a picture of mode RGBA and 24×16 pixels: cannot write mode RGBA as JPEG; PNG can"
    assert errors_of(progress) == {"a.sdc": reason}
    assert files_of(tmp_path / "out") == []


@pytest.mark.parametrize(
    ("to", "expected"), [(Packing.TAR, ["a.txt", "a.sdc"]), (Packing.FILES, ["b/a.sdc", "b/a.txt", "b/c.txt"])]
)
def test_of_a_shard_a_bad_picture_is_left_out(tmp_path: Path, to: Packing, expected: list[str]) -> None:
    members = [
        ("a.png", picture()),
        ("a.txt", b"a"),
        ("c.png", b"nonsense"),
        ("c.bmp", picture(0, "BMP")),
        ("c.txt", b"c"),
    ]
    make_tar(tmp_path / "in" / "b.tar", members)
    progress = done(tmp_path / "in", tmp_path / "out", ALL, to=to)
    errors = errors_of(progress)
    assert errors["b.tar::c.png"] == "not a picture that Pillow can read"
    if to is Packing.TAR:
        assert list(members_of((tmp_path / "out" / "b.tar").read_bytes())) == expected
        assert errors["b.tar::c.bmp"] == "left out, for another picture of its sample failed"
    else:
        assert files_of(tmp_path / "out") == sorted([*expected, "b/c.bmp.sdc"])


def test_of_a_table_a_bad_picture_is_null(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    pictures = [picture(), b"nonsense", None]
    parquet.write_table(pa.table({"image": pictures, "label": [1, 2, 3]}), tmp_path / "in" / "a.parquet")
    progress = done(tmp_path / "in", tmp_path / "out")
    assert errors_of(progress) == {"a.parquet::1": "not a picture that Pillow can read"}
    columns = columns_of((tmp_path / "out" / "a.parquet").read_bytes())
    assert is_picture(columns["image"][0])
    assert (columns["image"][1:], columns["label"]) == ([None, None], [1, 2, 3])


@pytest.mark.parametrize("kind", ["tar", "table"])
def test_a_corrupt_shard_is_reported_and_the_others_are_done(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    source: Path = request.getfixturevalue(kind)
    (whole,) = source.iterdir()
    (source / f"cut{whole.suffix}").write_bytes(whole.read_bytes()[:-4000])
    for _ in range(2):
        progress = run(str(source), str(tmp_path / "out"), ENCODING, InlineEngine())
        assert list(errors_of(progress)) in ([f"cut{whole.suffix}"], [])
        assert files_of(tmp_path / "out") == [whole.name]
        assert row_of(tmp_path / "out", f"cut{whole.suffix}").error is not None
        assert progress.failed == 1


def test_of_a_corrupt_shard_that_becomes_files_those_before_the_damage_are_kept(tar: Path, tmp_path: Path) -> None:
    whole = (tar / "a.tar").read_bytes()
    (tar / "a.tar").write_bytes(whole[: whole.index(b"x/2.png") + 600])
    for number in range(2):
        progress = done(tar, tmp_path / "out", to=Packing.FILES, tasks=1)
        assert progress.pictures == 2 * (number == 0)
        assert list(errors_of(progress)) == ["a.tar"]
        assert "unexpected end of data" in errors_of(progress)["a.tar"]
        assert [path for path in files_of(tmp_path / "out") if path.endswith(".sdc")] == ["a/x/0.sdc", "a/x/1.sdc"]
    assert [row.source.rpartition("/")[2] for row in rows_of(tmp_path / "out") if row.output] == ["0.png", "1.png"]


def test_a_wrong_column_is_said(table: Path, tmp_path: Path) -> None:
    progress = done(table, tmp_path / "out", dataclasses.replace(ENCODING, columns=("label",)))
    assert errors_of(progress) == {"a.parquet": "there is no column 'label' of bytes; the columns are image, label"}
    assert files_of(tmp_path / "out") == []


def test_names_that_are_no_utf8_are_as_good_as_others(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    name = os.fsdecode(b"\xff")
    (tmp_path / "in" / f"{name}.png").write_bytes(picture())
    (tmp_path / "in" / f"{name}bad.png").write_bytes(b"nonsense")
    (tmp_path / "in" / f"{name}bad.png").chmod(0o600)
    make_tar(tmp_path / "in" / "a.tar", [(f"{name}.png", picture())])
    assert done(tmp_path / "in", tmp_path / "out", to=Packing.FILES).pictures == 2
    assert files_of(tmp_path / "out") == [f"a/{name}.sdc", f"{name}.sdc"]
    assert row_of(tmp_path / "out", "in/\\udcff.png").output == "\\udcff.sdc"
    (tmp_path / "in" / f"{name}bad.png").unlink()
    done(tmp_path / "in", tmp_path / "out", to=Packing.FILES, tasks=0)


def test_a_shard_of_nothing_but_bad_files_does_not_appear(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "bad.png").write_bytes(b"nonsense")
    for to in (Packing.TAR, Packing.PARQUET):
        for _ in range(2):
            assert done(tmp_path / "in", tmp_path / "out", to=to, tasks=1).failed == 1
            assert files_of(tmp_path / "out") == []


def test_a_source_within_its_target_is_refused(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(pictures)
    for source, target in ((pictures, pictures), (pictures, tmp_path), (tmp_path / "link", pictures)):
        with pytest.raises(ValueError, match="source and target must be apart"):
            done(source, target)
    with pytest.raises(ValueError, match="source and target must be apart"):
        done(tmp_path / "link" / "00.png", pictures)
    assert not (pictures / MANIFEST).exists()


def test_a_target_within_its_source_is_no_part_of_it(tmp_path: Path) -> None:
    make_tar(tmp_path / "a.tar", [("1.png", picture())])
    for tasks in (1, 0, 0):
        done(tmp_path, tmp_path / "out", tasks=tasks)
    assert [path for path in files_of(tmp_path) if MANIFEST not in path] == ["a.tar", "out/a.tar"]


def test_a_target_that_is_a_file_is_an_error(pictures: Path) -> None:
    with pytest.raises(OSError, match=r"00\.png"):
        done(pictures / "01.png", pictures / "00.png")
    assert is_picture((pictures / "00.png").read_bytes(), "PNG")


# Cut off


@pytest.mark.parametrize("to", list(Packing))
def test_a_run_that_was_interrupted_goes_on(tmp_path: Path, to: Packing) -> None:
    make_pictures(tmp_path / "in", 18)
    with pytest.raises(KeyboardInterrupt):
        run(str(tmp_path / "in"), str(tmp_path / "out"), ENCODING, InterruptedEngine(1), to=to, shard_size=16)
    assert len(rows_of(tmp_path / "out")) == 16
    assert unfinished(tmp_path / "out") == []
    assert done(tmp_path / "in", tmp_path / "out", to=to, shard_size=16, tasks=1).pictures == 2
    rows = rows_of(tmp_path / "out")
    assert len({row.source for row in rows}) == len(rows) == 18
    assert len(files_of(tmp_path / "out")) == (18 if to is Packing.FILES else 2)


def do(worker: Worker, task: Task) -> None:
    assert [row.error for row in worker.do(task)] == [None] * len(task.sources)


def abandoned(target: Path) -> None:
    """Leave a target as a run does that is killed: with the lock's file, and with what is not finished."""
    (target / UNFINISHED / "sdc-abc").mkdir(parents=True)
    (target / UNFINISHED / "sdc-abc" / "000001.tar").write_bytes(b"half")
    (target / UNFINISHED / ".sdc-1234.tmp").write_bytes(b"half")


@pytest.mark.parametrize("to", [Packing.TAR, Packing.PARQUET])
def test_a_shard_that_appeared_just_before_the_end_is_taken_into_the_manifest(tmp_path: Path, to: Packing) -> None:
    make_pictures(tmp_path / "in", 4)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run(str(tmp_path / "in"), str(out), ENCODING, InterruptedEngine(1, do), to=to, shard_size=2)
    abandoned(out)
    assert len(rows_of(out)) == 2
    assert files_of(out) == [f"000000.{to}", f"000001.{to}"]
    done(tmp_path / "in", out, to=to, shard_size=2, tasks=0)
    rows = rows_of(out)
    assert sorted(row.source for row in rows) == [f"{tmp_path}/in/{number:02}.png" for number in range(4)]
    assert all(row.seconds for row in rows)


def test_rows_of_a_shard_that_never_appeared_are_forgotten(pictures: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "out")
    path = pending_path("000000.tar")
    store.write(
        path, as_parquet([ManifestRow(f"{pictures}/00.png", "000000.tar::00.sdc")]), overwrite=False, through=UNFINISHED
    )
    abandoned(tmp_path / "out")
    assert done(pictures, tmp_path / "out", to=Packing.TAR, tasks=1).pictures == 3
    assert len(rows_of(tmp_path / "out")) == 3
    assert store.find(PENDING) == []


def test_what_a_killed_run_left_is_removed_before_the_next_begins(pictures: Path, tmp_path: Path) -> None:
    class Watching(InlineEngine):
        def __call__(
            self,
            tasks: Sequence[Task],
            source: Store,
            target: Store,
            conversion: Conversion,
            listener: ProgressListener,
        ) -> Iterator[tuple[Task, list[ManifestRow]]]:
            assert unfinished(tmp_path / "out") == []
            yield from super().__call__(tasks, source, target, conversion, listener)

    abandoned(tmp_path / "out")
    assert run(str(pictures), str(tmp_path / "out"), ENCODING, Watching()).pictures == 3


def test_a_task_whose_worker_died_after_its_shard_appeared_is_not_done_again(pictures: Path, tmp_path: Path) -> None:
    class Twice(InlineEngine):
        def __call__(
            self,
            tasks: Sequence[Task],
            source: Store,
            target: Store,
            conversion: Conversion,
            listener: ProgressListener,
        ) -> Iterator[tuple[Task, list[ManifestRow]]]:
            do(Worker(source, target, conversion), tasks[0])
            before = (tmp_path / "out" / "000000.tar").stat()
            yield from super().__call__(tasks, source, target, conversion, listener)
            assert (tmp_path / "out" / "000000.tar").stat().st_mtime_ns == before.st_mtime_ns

    progress = run(str(pictures), str(tmp_path / "out"), ENCODING, Twice(), to=Packing.TAR)
    assert (progress.pictures, progress.failed) == (3, 0)
    assert len(rows_of(tmp_path / "out")) == 3
    assert unfinished(tmp_path / "out") == []


def test_workers_have_ended_before_what_they_may_be_writing_is_removed(pictures: Path, tmp_path: Path) -> None:
    ended = []

    class Lasting(InlineEngine):
        def __call__(
            self,
            tasks: Sequence[Task],
            source: Store,
            target: Store,
            conversion: Conversion,
            listener: ProgressListener,
        ) -> Iterator[tuple[Task, list[ManifestRow]]]:
            abandoned(tmp_path / "out")
            try:
                yield from super().__call__(tasks, source, target, conversion, listener)
            finally:
                ended.append((tmp_path / "out" / UNFINISHED).exists())

    reported = []

    def fail(progress: Progress) -> None:
        reported.append(progress.pictures)
        if reported.count(3) == 2:  # when the third picture is done, and when the task is
            raise RuntimeError("by who watches")

    with pytest.raises(RuntimeError, match="by who watches"):
        run(str(pictures), str(tmp_path / "out"), ENCODING, Lasting(), report=fail)
    assert ended == [True]
    assert unfinished(tmp_path / "out") == []
    assert len(rows_of(tmp_path / "out")) == 3


# Several at once, and stores that fail


@pytest.mark.parametrize("where", ["local", "memory"])
def test_a_second_run_on_a_target_is_refused_and_the_first_unharmed(pictures: Path, tmp_path: Path, where: str) -> None:
    MemoryFileSystem.store.clear()
    target = str(tmp_path / "out") if where == "local" else "memory://out"

    class Disturbed(InlineEngine):
        def __call__(
            self, tasks: Sequence[Task], source: Store, goal: Store, conversion: Conversion, listener: ProgressListener
        ) -> Iterator[tuple[Task, list[ManifestRow]]]:
            with pytest.raises(OSError, match=f"another run is writing to {target}") as caught:
                done(pictures, target)
            if where == "memory":
                about = json.loads(str(caught.value)[str(caught.value).index("{") :].partition("; if")[0])
                assert about["process"] == os.getpid()
                assert str(caught.value).endswith("if it is no more, remove memory://out/_manifest/_lock")
            yield from super().__call__(tasks, source, goal, conversion, listener)

    assert run(str(pictures), target, ENCODING, Disturbed()).pictures == 3
    assert files_of(target) == ["00.sdc", "01.sdc", "02.sdc"]
    assert len(rows_of(target)) == 3
    done(pictures, target, tasks=0)  # for the target is free again


@pytest.mark.parametrize("where", ["local", "memory"])
def test_a_run_that_fails_leaves_its_target_free(pictures: Path, tmp_path: Path, where: str) -> None:
    MemoryFileSystem.store.clear()
    target = str(tmp_path / "out") if where == "local" else "memory://out"
    with pytest.raises(KeyboardInterrupt):
        run(str(pictures), target, ENCODING, InterruptedEngine(0))
    assert done(pictures, target, tasks=1).pictures == 3


@pytest.mark.parametrize("to", list(Packing))
@pytest.mark.parametrize("protocol", ["", "memory://", "faulty://", "renaming://"])
def test_what_appears_while_pictures_are_encoded_is_not_overwritten(
    pictures: Path, protocol: str, to: Packing, monkeypatch: pytest.MonkeyPatch
) -> None:
    (pictures.parent / "register").mkdir()
    register(monkeypatch, pictures.parent / "register")
    target, encode_each = f"{protocol}{pictures.parent}/out", api.encode_each
    name = "01.sdc" if to is Packing.FILES else f"000000.{to}"

    def encode_beside_another(*arguments: Any, **options: Any) -> list[None]:
        Store(target).write(name, b"precious", overwrite=True, through=UNFINISHED)
        return encode_each(*arguments, **options)

    monkeypatch.setattr(api, "encode_each", encode_beside_another)
    progress = done(pictures, target, to=to)
    assert progress.failed == (1 if to is Packing.FILES else 3)
    assert "exists already" in next(iter(errors_of(progress).values()))
    assert Store(target).read(name) == b"precious"


def test_rows_of_new_files_come_with_these_and_not_by_reading_them(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pillow_sdc.jobs.worker.read_layout", None)
    assert done(pictures, pictures.parent / "out").pictures == 3
    row, file = row_of(pictures.parent / "out", "01.png"), pictures.parent / "out" / "01.sdc"
    monkeypatch.undo()
    about = pillow_sdc.info(file)
    assert (row.width, row.height) == SIZE == (about.width, about.height)
    assert (row.output_bytes, row.bits_per_pixel) == (file.stat().st_size, about.bits_per_pixel)


@pytest.fixture(params=["faulty", "renaming"])
def remote(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of stand-ins of an object store and of a server of files."""
    (tmp_path / "register").mkdir()
    register(monkeypatch, tmp_path / "register")
    return f"{request.param}://{tmp_path}/out"


@pytest.mark.parametrize("to", list(Packing))
def test_a_store_that_fails_for_a_while_loses_nothing(
    pictures: Path, remote: str, to: Packing, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_faults(monkeypatch, failing={"": 2})
    assert done(pictures, remote, to=to, tasks=1).pictures == 3
    done(pictures, remote, to=to, tasks=0)
    kind, _, path = remote.partition("://")
    if to is Packing.TAR:
        assert done(f"{kind}://{path}/*.tar", f"{remote}2", DECODING, to=Packing.FILES).pictures == 3


def test_a_store_that_fails_for_too_long_is_an_error_of_its_pictures(
    pictures: Path, remote: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_faults(monkeypatch, failing={"01.sdc": 99})
    progress = done(pictures, remote)
    assert (progress.pictures, errors_of(progress)) == (2, {"01.png": "Connection reset by peer"})
    set_faults(monkeypatch)
    assert done(pictures, remote, tasks=1).pictures == 1


@pytest.mark.parametrize(
    ("to", "full"), [(None, "01.sdc"), (Packing.TAR, "000000.tar"), (Packing.PARQUET, "000000.parquet")]
)
def test_a_full_disk_ends_the_run_and_leaves_no_half_file(
    pictures: Path, remote: str, to: Packing | None, full: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_faults(monkeypatch, full=[full])
    with pytest.raises(OSError, match="No space left on device"):
        done(pictures, remote, to=to)
    assert [path for path in unfinished(remote) if "/_tmp" in path] == []
    assert files_of(remote) == (["00.sdc", "02.sdc"] if to is None else [])  # the last one was on its way already
    set_faults(monkeypatch)
    assert done(pictures, remote, to=to, tasks=1).failed == 0
    assert len({row.source for row in rows_of(remote) if row.output}) == 3


def test_a_folder_of_the_source_that_cannot_be_read_ends_the_run(
    tmp_path: Path, remote: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_pictures(tmp_path / "in", 1)
    make_pictures(tmp_path / "in" / "deep", 1)
    set_faults(monkeypatch, failing={"/in/deep": 99})
    with pytest.raises(ConnectionResetError):
        done(f"{remote.partition(':')[0]}://{tmp_path}/in", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_workers_are_given_a_models_directory_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tiny").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))  # which Windows asks
    monkeypatch.chdir(tmp_path)
    for name in ("~/tiny", "tiny", str(tmp_path / "tiny")):
        conversion = dataclasses.replace(ENCODING, settings={"model": name}).resolved()
        assert conversion.settings["model"] == str(tmp_path / "tiny")
