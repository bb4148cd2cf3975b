"""PyTorch's data loader takes latents and pixels straight from ``.sdc`` files and from shards of them."""

import io
import json
import logging
import multiprocessing
import pickle
import re
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import fsspec
import numpy as np
import pyarrow as pa
import pytest
import torch
from locations import ROOT
from numpy.typing import NDArray
from PIL import Image
from pyarrow import parquet
from torch import distributed
from torch.utils.data import DataLoader

import pillow_sdc
from pillow_sdc.datasets import SdcFiles, SdcShards
from pillow_sdc.errors import CorruptFileError, ModelUnavailableError, NotSdcError
from pillow_sdc.jobs.manifest import ManifestRow
from pillow_sdc.jobs.progress import ProgressListener
from pillow_sdc.jobs.runner import run
from pillow_sdc.jobs.storage.stores import Store
from pillow_sdc.jobs.tasks import Conversion, Packing, Task
from pillow_sdc.jobs.worker import Worker

WIDTH, HEIGHT = 40, 24
LATENTS, PIXELS = (4, 3, 5), (3, HEIGHT, WIDTH)
SHARDS, A_SHARD = 5, 4
COUNT = SHARDS * A_SHARD
METHODS = [method for method in ("fork", "spawn") if method in multiprocessing.get_all_start_methods()]


class Archive(NamedTuple):
    """The same pictures as files and in shards.

    Attributes:
        files: Folder of ``.sdc`` files, some of them in a folder within.
        tar: Folder of tar shards, with a caption, a table of facts and a class beside each picture.
        parquet: Folder of Parquet files, with columns of these.
    """

    files: Path
    tar: Path
    parquet: Path

    def shards(self, kind: str) -> Path:
        return self.tar if kind == "tar" else self.parquet


def in_this_process(
    tasks: Sequence[Task], source: Store, target: Store, conversion: Conversion, listener: ProgressListener
) -> Iterator[tuple[Task, list[ManifestRow]]]:
    """Do what ``sdc batch`` has its workers do."""
    worker = Worker(source, target, conversion, threads=1)
    yield from ((task, worker.do(task)) for task in tasks)


def convert(source: Path, target: Path, **options: Any) -> None:
    conversion = Conversion(decode=False, settings={"model": "compact", "device": "cpu"})
    assert run(str(source), str(target), conversion, in_this_process, **options).failed == 0


def samples_of(number: int) -> NDArray[np.uint8]:
    return np.random.default_rng(number).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def png_of(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(samples_of(number)).save(buffer, "PNG")
    return buffer.getvalue()


def write_tar(path: Path, files: dict[str, bytes], mode: Any = "w") -> None:
    with tarfile.open(path, mode) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


@pytest.fixture(autouse=True)
def embedded_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Choose the model that a new process loads in the least time, and that it inherits the choice of."""
    monkeypatch.setenv("PILLOW_SDC_MODEL", "compact")
    monkeypatch.setenv("PILLOW_SDC_DEVICE", "cpu")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """What ``sdc batch`` makes of pictures in files, in tar shards and in Parquet files."""
    folder = tmp_path_factory.mktemp("archive")
    source = {kind: folder / f"source-{kind}" for kind in ("files", "tar", "parquet")}
    for path in (*source.values(), source["files"] / "more"):
        path.mkdir()
    for shard in range(SHARDS):
        numbers = range(shard * A_SHARD, (shard + 1) * A_SHARD)
        for number in numbers:
            (source["files"] / ("more" if number % 2 else "") / f"{number:02}.png").write_bytes(png_of(number))
        tar = {}
        for number in numbers:
            facts = {"txt": f"picture {number}", "json": json.dumps({"number": number}), "cls": str(number)}
            tar |= {f"{number:02}.png": png_of(number)}
            tar |= {f"{number:02}.{suffix}": text.encode() for suffix, text in facts.items()}
        write_tar(source["tar"] / f"{shard}.tar", tar)
        rows = [
            {"txt": f"picture {number}", "cls": number, "image": {"bytes": png_of(number), "path": f"{number}.png"}}
            for number in numbers
        ]
        parquet.write_table(pa.Table.from_pylist(rows), source["parquet"] / f"{shard}.parquet")
    for kind, path in source.items():
        convert(path, folder / kind)
    return Archive(folder / "files", folder / "tar", folder / "parquet")


def paths_of(archive: Archive) -> list[Path]:
    return sorted(archive.files.rglob("*.sdc"), key=lambda path: path.relative_to(archive.files).as_posix())


def numbers_of(samples: Any) -> list[int]:
    """Return which samples there are, by what goes along with them."""
    return [int(sample["cls"]) for sample in samples]


def one(batch: Any) -> Any:
    """Return the only sample of a batch; a function of a module, for workers to find."""
    return batch[0]


def loaded(dataset: Any, workers: int, **options: Any) -> Any:
    return DataLoader(dataset, batch_size=1, collate_fn=one, num_workers=workers, **options)


def damage(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


class TestSdcFiles:
    def test_latents_are_those_that_read_latents_gives(self, archive: Archive) -> None:
        dataset = SdcFiles(archive.files)
        assert len(dataset) == COUNT
        for path, sample in zip(paths_of(archive), dataset, strict=True):
            np.testing.assert_array_equal(sample["latents"].numpy(), pillow_sdc.read_latents(path))
            assert (sample["latents"].dtype, sample["latents"].shape) == (torch.float32, LATENTS)
            assert sample["__url__"] == path.as_posix()
            assert sample["__key__"] == path.relative_to(archive.files).with_suffix("").as_posix()
            assert sample.keys() == {"__key__", "__url__", "latents", "noise_variance"}

    def test_noise_variance_is_the_latents_mean_square_error(self, tmp_path: Path) -> None:
        latents = pillow_sdc.encode_latents(picture := np.tile(samples_of(0), (8, 8, 1)))
        Image.fromarray(picture).save(tmp_path / "photo.sdc", codec="uint8")
        Image.fromarray(picture).save(tmp_path / "smaller.sdc", quality=30)
        for sample in SdcFiles(tmp_path):
            error = np.square(sample["latents"].numpy() - latents).mean()
            assert sample["noise_variance"].shape == ()
            assert sample["noise_variance"].item() == pytest.approx(error, rel=0.3)

    def test_pixels_are_those_that_decode_gives(self, archive: Archive) -> None:
        dataset = SdcFiles(archive.files, content="pixels")
        for path, sample in zip(paths_of(archive)[:3], (dataset[i] for i in range(3)), strict=True):
            pixels = sample["pixels"]
            assert (pixels.dtype, pixels.shape) == (torch.float32, PIXELS)
            assert pixels.is_contiguous()
            expected = np.asarray(pillow_sdc.decode(path)).transpose(2, 0, 1) / np.float32(127.5) - 1
            np.testing.assert_allclose(pixels.numpy(), expected, atol=1e-6)
            assert -1 <= pixels.min() < pixels.max() <= 1

    @pytest.mark.parametrize("content", ["latents", "pixels"])
    def test_tensors_are_on_the_cpu_whatever_the_default_device(self, archive: Archive, content: Any) -> None:
        dataset = SdcFiles(archive.files, content=content)
        expected = {name: value for name, value in dataset[0].items() if isinstance(value, torch.Tensor)}
        with torch.device("meta"):
            sample = dataset[0]
        for name, value in expected.items():
            np.testing.assert_array_equal(sample[name].numpy(), value.numpy())

    @pytest.mark.parametrize("mode", ["L", "LA", "RGBA"])
    def test_pixels_of_every_mode_have_three_channels(self, tmp_path: Path, mode: str) -> None:
        Image.fromarray(samples_of(0)).convert(mode).save(tmp_path / "photo.sdc")
        assert SdcFiles(tmp_path, content="pixels")[0]["pixels"].shape == PIXELS

    def test_pixels_are_decoded_by_the_settings_of_where_the_dataset_was_made(self, archive: Archive) -> None:
        with pillow_sdc.configure(model="no/such-directory"):
            dataset = SdcFiles(archive.files, content="pixels", on_error="skip")
        with pytest.raises(ModelUnavailableError):
            dataset[0]
        with pytest.raises(ModelUnavailableError):  # which is no fault of the file
            dataset.__getitems__([0, 1])

    def test_a_transform_makes_of_a_sample_what_it_likes(self, archive: Archive) -> None:
        dataset = SdcFiles(archive.files, transform=lambda sample: sample["latents"][:, :2, :2])
        batch = next(iter(DataLoader(dataset, batch_size=3)))
        np.testing.assert_array_equal(
            batch, np.stack([pillow_sdc.read_latents(path)[:, :2, :2] for path in paths_of(archive)[:3]])
        )

    def test_files_are_found_in_folders_by_patterns_and_one_by_one(self, archive: Archive) -> None:
        assert len(SdcFiles(str(archive.files / "more"))) == COUNT // 2
        assert len(SdcFiles(archive.files / "*.sdc")) == COUNT // 2
        assert len(SdcFiles(archive.files / "00.sdc")) == 1
        paths = paths_of(archive)[2:5]
        listed = SdcFiles(paths)
        assert [sample["__url__"] for sample in listed] == [path.as_posix() for path in paths]
        assert [sample["__key__"] for sample in listed] == [path.with_suffix("").as_posix() for path in paths]

    def test_listed_files_may_be_relative(self, archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(archive.files)
        dataset = SdcFiles(["00.sdc", Path("more", "01.sdc")])
        monkeypatch.chdir(ROOT)
        assert dataset[0]["latents"].shape == dataset[-1]["latents"].shape == LATENTS

    def test_files_may_be_anywhere_that_fsspec_reaches(self, archive: Archive) -> None:
        store, data = fsspec.filesystem("memory"), paths_of(archive)[0].read_bytes()
        store.pipe_file("/bucket/photos/one.sdc", data)
        for dataset in (SdcFiles("memory://bucket/photos"), SdcFiles(["memory://bucket/photos/one.sdc"])):
            np.testing.assert_array_equal(dataset[0]["latents"], pillow_sdc.read_latents(data))
        assert SdcFiles("memory://bucket")[0]["__key__"] == "photos/one"
        store.pipe_file("/two.sdc", data)
        assert SdcFiles(["memory://two.sdc"])[0]["latents"].shape == LATENTS

    def test_what_is_hidden_or_no_sdc_file_by_its_name_is_left_out(self, archive: Archive, tmp_path: Path) -> None:
        data = paths_of(archive)[0].read_bytes()
        for name in ("_DSC1.SDC", "b.sdc", "._b.sdc", ".cache/c.sdc", "_manifest/d.sdc", "e.txt"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(data)
        assert [sample["__key__"] for sample in SdcFiles(tmp_path)] == ["_DSC1", "b"]

    def test_nothing_to_read_is_an_error(self, archive: Archive, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            SdcFiles(tmp_path / "nowhere")
        with pytest.raises(FileNotFoundError):
            SdcFiles(archive.files / "*.png")
        with pytest.raises(ValueError, match=r"no file in .* is called \.sdc"):
            SdcFiles(archive.tar)
        with pytest.raises(ValueError, match=r"photo\.png is not called \.sdc"):
            SdcFiles(["photo.png"])
        with pytest.raises(ValueError, match="no files in the list"):
            SdcFiles([])
        with pytest.raises(IndexError):
            SdcFiles(archive.files)[COUNT]
        with pytest.raises(FileNotFoundError):
            SdcFiles([tmp_path / "nowhere.sdc"], on_error="skip").__getitems__([0])

    def test_arguments_are_checked(self, archive: Archive) -> None:
        with pytest.raises(ValueError, match="content is 'previews'; it must be one of latents, pixels"):
            SdcFiles(archive.files, content="previews")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="on_error is 'ignore'; it must be one of raise, skip"):
            SdcFiles(archive.files, on_error="ignore")  # type: ignore[arg-type]

    def test_a_dataset_is_pickled(self, archive: Archive) -> None:
        dataset = SdcFiles(archive.files)
        copy = pickle.loads(pickle.dumps(dataset))
        np.testing.assert_array_equal(copy[7]["latents"], dataset[7]["latents"])

    @pytest.mark.parametrize("method", METHODS)
    def test_workers_load_each_file_once(self, archive: Archive, method: str) -> None:
        latents = SdcFiles(archive.files)
        loader = DataLoader(latents, batch_size=6, shuffle=True, num_workers=2, multiprocessing_context=method)
        seen = {}
        for batch in loader:
            assert batch["latents"].shape[1:] == LATENTS
            assert batch["noise_variance"].shape == batch["latents"].shape[:1]
            seen |= dict(zip(batch["__url__"], batch["latents"], strict=True))
        assert seen.keys() == {path.as_posix() for path in paths_of(archive)}
        for path in paths_of(archive):
            np.testing.assert_array_equal(seen[path.as_posix()], pillow_sdc.read_latents(path))

    def test_workers_decode_pixels(self, archive: Archive) -> None:
        pixels = SdcFiles(archive.files, content="pixels")
        batches = list(DataLoader(pixels, batch_size=10, num_workers=2))
        assert [batch["pixels"].shape for batch in batches] == [(10, *PIXELS)] * 2
        # Workers compute with one thread each, which may round differently.
        expected = torch.stack([pixels[i]["pixels"] for i in range(10)])
        np.testing.assert_allclose(batches[0]["pixels"], expected, atol=1.01 / 127.5)


class TestCorruptFiles:
    @pytest.fixture
    def folder(self, archive: Archive, tmp_path: Path) -> Path:
        """Six files, of which those of odd numbers are corrupt, each in its way."""
        data = paths_of(archive)[0].read_bytes()
        for number, content in enumerate([data, damage(data), data, data[:-5], data, b"text"]):
            (tmp_path / f"{number}.sdc").write_bytes(content)
        return tmp_path

    def test_they_raise_an_error_that_names_them(self, folder: Path) -> None:
        dataset = SdcFiles(folder)
        for index, error in ((1, CorruptFileError), (3, CorruptFileError), (5, NotSdcError)):
            with pytest.raises(error, match=rf"{index}\.sdc: "):
                dataset[index]
        with pytest.raises(CorruptFileError, match=r"1\.sdc: "):
            list(DataLoader(dataset, batch_size=2))

    @pytest.mark.parametrize("content", ["latents", "pixels"])
    def test_a_batch_is_smaller_by_those_that_are_skipped(
        self, folder: Path, caplog: pytest.LogCaptureFixture, content: Any
    ) -> None:
        dataset = SdcFiles(folder, content=content, on_error="skip")
        with caplog.at_level(logging.WARNING, "pillow_sdc"):
            batches = list(DataLoader(dataset, batch_size=3))
        assert [batch["__key__"] for batch in batches] == [["0", "2"], ["4"]]
        warnings = [record.getMessage() for record in caplog.records if record.name == "pillow_sdc"]
        assert [re.sub(r".*/", "", text).partition(": ")[0] for text in warnings] == ["1.sdc", "3.sdc", "5.sdc"]
        assert all(text.startswith("skipped ") for text in warnings)

    def test_a_single_one_has_nothing_in_its_place(self, folder: Path) -> None:
        with pytest.raises(CorruptFileError, match=r"1\.sdc: "):
            SdcFiles(folder, on_error="skip")[1]

    def test_a_batch_of_nothing_else_is_an_error(self, folder: Path) -> None:
        with pytest.raises(CorruptFileError, match="nothing is left of a batch of 2"):
            SdcFiles(folder, on_error="skip").__getitems__([1, 3])


@pytest.mark.parametrize("kind", ["tar", "parquet"])
class TestSdcShards:
    def test_samples_are_whole(self, archive: Archive, kind: str) -> None:
        samples = list(SdcShards(archive.shards(kind)))
        assert numbers_of(samples) == list(range(COUNT))
        for number, sample in enumerate(samples):
            name = f"{number:02}.sdc"
            expected = pillow_sdc.read_latents(archive.files / ("more" if number % 2 else "") / name)
            np.testing.assert_array_equal(sample["latents"], expected)
            assert 0 < sample["noise_variance"].item() < 1
            assert sample["txt"] == f"picture {number}"
            assert sample["__url__"] == (archive.shards(kind) / f"{number // A_SHARD}.{kind}").as_posix()
            assert sample["__key__"] == (f"{number:02}" if kind == "tar" else str(number % A_SHARD))
            if kind == "tar":
                assert sample["json"] == {"number": number}
            assert sample.keys() - {"json"} == {"__key__", "__url__", "latents", "noise_variance", "txt", "cls"}

    def test_pixels_are_those_that_decode_gives(self, archive: Archive, kind: str) -> None:
        sample = next(iter(SdcShards(archive.shards(kind), content="pixels")))
        expected = np.asarray(pillow_sdc.decode(archive.files / "00.sdc")).transpose(2, 0, 1) / np.float32(127.5) - 1
        np.testing.assert_allclose(sample["pixels"], expected, atol=1e-6)

    @pytest.mark.parametrize("workers", [0, 2])
    def test_they_are_collated(self, archive: Archive, kind: str, workers: int) -> None:
        batches = list(DataLoader(SdcShards(archive.shards(kind)), batch_size=4, num_workers=workers))
        assert sum(len(batch["latents"]) for batch in batches) == COUNT
        assert batches[0]["latents"].shape == (4, *LATENTS)
        assert batches[0]["cls"].dtype == torch.int64
        assert len(batches[0]["txt"]) == 4

    @pytest.mark.parametrize("shuffle_buffer", [0, 7])
    @pytest.mark.parametrize("workers", [1, 2])
    def test_workers_give_each_sample_once(
        self, archive: Archive, kind: str, workers: int, shuffle_buffer: int
    ) -> None:
        dataset = SdcShards(archive.shards(kind), shuffle_buffer=shuffle_buffer)
        assert sorted(numbers_of(loaded(dataset, workers))) == list(range(COUNT))

    def test_workers_share_a_shard_where_there_are_too_few(self, archive: Archive, kind: str) -> None:
        dataset = SdcShards(archive.shards(kind) / f"2.{kind}", shuffle_buffer=2)
        assert sorted(numbers_of(loaded(dataset, 2))) == list(range(2 * A_SHARD, 3 * A_SHARD))

    @pytest.mark.parametrize("world_size", [2, 3, 5, 7, 40])
    def test_ranks_give_each_sample_once(self, archive: Archive, kind: str, world_size: int) -> None:
        parts = [
            numbers_of(SdcShards(archive.shards(kind), shuffle_buffer=3, rank=rank, world_size=world_size))
            for rank in range(world_size)
        ]
        assert Counter(number for part in parts for number in part) == Counter(range(COUNT))
        assert max(map(len, parts)) <= 2 * max(A_SHARD, COUNT // world_size)

    def test_ranks_with_workers_give_each_sample_once(self, archive: Archive, kind: str) -> None:
        seen = [
            number
            for rank in range(2)
            for number in numbers_of(loaded(SdcShards(archive.shards(kind), rank=rank, world_size=2), 2))
        ]
        assert Counter(seen) == Counter(range(COUNT))

    def test_it_can_be_made_wherever_torch_does_something_special(self, archive: Archive, kind: str) -> None:
        with torch.device("meta"), torch.inference_mode():
            dataset = SdcShards(archive.shards(kind), shuffle_buffer=COUNT)
        orders = []
        for epoch in range(2):
            dataset.set_epoch(epoch)
            orders.append(numbers_of(dataset))
        assert orders[0] != orders[1]
        assert sorted(orders[0]) == sorted(orders[1])

    def test_a_seed_and_an_epoch_make_an_order(self, archive: Archive, kind: str) -> None:
        def order(seed: int, epoch: int) -> list[int]:
            dataset = SdcShards(archive.shards(kind), shuffle_buffer=6, seed=seed)
            dataset.set_epoch(epoch)
            return numbers_of(dataset)

        orders = [order(seed, epoch) for seed in (0, 1) for epoch in (0, 1, 2)]
        assert orders == [order(seed, epoch) for seed in (0, 1) for epoch in (0, 1, 2)]
        assert all(sorted(numbers) == list(range(COUNT)) for numbers in orders)
        assert len(set(map(tuple, orders))) == 6
        shards = [tuple(dict.fromkeys(number // A_SHARD for number in numbers)) for numbers in orders]
        assert len(set(shards)) > 2, "shards come in another order, too"

    def test_an_epoch_reaches_workers_that_stay(self, archive: Archive, kind: str) -> None:
        dataset = SdcShards(archive.shards(kind), shuffle_buffer=6)
        copy = pickle.loads(pickle.dumps(dataset))
        loaders = loaded(dataset, 1, persistent_workers=True), loaded(copy, 1, persistent_workers=True)
        orders = []
        for epoch in (0, 1, 0):
            dataset.set_epoch(epoch)
            copy.set_epoch(epoch)
            orders.append([numbers_of(loader) for loader in loaders])
        assert orders[0] == orders[2] != orders[1]
        assert all(one == other for one, other in orders)

    def test_a_buffer_of_all_samples_mixes_all(self, archive: Archive, kind: str) -> None:
        firsts = set()
        for seed in range(12):
            dataset = SdcShards(archive.shards(kind), shuffle_buffer=100, seed=seed)
            firsts.add(numbers_of(dataset)[0])
        assert len(firsts) > 6

    def test_a_buffer_holds_no_more_than_its_size(self, archive: Archive, kind: str) -> None:
        shard = archive.shards(kind) / f"0.{kind}"
        for seed in range(20):
            order = numbers_of(SdcShards(shard, shuffle_buffer=2, seed=seed))
            assert all(number <= place + 2 for place, number in enumerate(order))

    def test_a_transform_sees_the_whole_sample(self, archive: Archive, kind: str) -> None:
        dataset = SdcShards(archive.shards(kind), transform=lambda sample: (sample["latents"], sample["cls"]))
        latents, classes = next(iter(DataLoader(dataset, batch_size=COUNT)))
        assert latents.shape == (COUNT, *LATENTS)
        assert classes.tolist() == list(range(COUNT))

    def test_shards_are_found_without_the_manifest(self, archive: Archive, kind: str) -> None:
        folder = archive.shards(kind)
        assert list((folder / "_manifest").glob("*.parquet"))
        assert len(list(SdcShards(f"{folder}/[01].{kind}"))) == 2 * A_SHARD
        listed = SdcShards([folder / f"3.{kind}", folder / f"1.{kind}"])
        assert numbers_of(listed) == [12, 13, 14, 15, 4, 5, 6, 7]

    def test_shards_may_be_anywhere_that_fsspec_reaches(self, archive: Archive, kind: str) -> None:
        store = fsspec.filesystem("memory")
        for path in archive.shards(kind).glob(f"*.{kind}"):
            store.pipe_file(f"/bucket/{kind}/{path.name}", path.read_bytes())
        assert numbers_of(SdcShards(f"memory://bucket/{kind}/*.{kind}")) == list(range(COUNT))

    def test_files_that_sdc_batch_packs_are_read(self, archive: Archive, kind: str, tmp_path: Path) -> None:
        pictures = archive.files.parent / "source-files"
        convert(pictures, tmp_path / "packed", to=Packing(kind), shard_size=9)
        samples = list(SdcShards(tmp_path / "packed"))
        assert len(samples) == COUNT
        expected = [pillow_sdc.read_latents(path) for path in paths_of(archive)]
        np.testing.assert_array_equal(np.stack([sample["latents"] for sample in samples]), np.stack(expected))

    def test_torch_distributed_says_which_part_is_whose(self, archive: Archive, kind: str) -> None:
        from torch.testing._internal.distributed.fake_pg import FakeStore

        before = SdcShards(archive.shards(kind))
        chosen = SdcShards(archive.shards(kind), rank=0, world_size=1)
        distributed.init_process_group("fake", store=FakeStore(), rank=2, world_size=3)
        try:
            dataset = SdcShards(archive.shards(kind))
            with pytest.raises(RuntimeError, match=r"after torch\.distributed is initialised"):
                iter(before)
            assert len(list(chosen)) == COUNT
        finally:
            distributed.destroy_process_group()
        assert numbers_of(dataset) == list(range(2 * A_SHARD, 3 * A_SHARD))


class TestSdcShardsArguments:
    @pytest.mark.parametrize(("rank", "world_size"), [(0, None), (None, 2), (2, 2), (-1, 2)])
    def test_a_rank_is_one_of_so_many(self, archive: Archive, rank: int | None, world_size: int | None) -> None:
        with pytest.raises(ValueError, match="both are needed, with 0 ≤ rank < world_size"):
            SdcShards(archive.tar, rank=rank, world_size=world_size)

    def test_numbers_are_not_negative(self, archive: Archive) -> None:
        for name in ("shuffle_buffer", "seed"):
            with pytest.raises(ValueError, match="both must be at least 0"):
                SdcShards(archive.tar, **{name: -1})  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="epoch is -1"):
            SdcShards(archive.tar).set_epoch(-1)

    def test_shards_are_called_so(self, archive: Archive) -> None:
        with pytest.raises(ValueError, match=r"no file in .* is called \.tar or \.tar\.gz or \.tgz or \.parquet"):
            SdcShards(archive.files / "*.sdc")
        with pytest.raises(ValueError, match=r"a\.zip is not called"):
            SdcShards(["a.zip"])


class TestTarShards:
    @pytest.fixture
    def picture(self, archive: Archive) -> bytes:
        return paths_of(archive)[0].read_bytes()

    def test_they_may_be_compressed(self, picture: bytes, tmp_path: Path) -> None:
        write_tar(tmp_path / "a.tar.gz", {"x/1.sdc": picture, "x/1.seg.TXT": b"caption", "x/1.npy": b"12"}, "w:gz")
        (sample,) = SdcShards(tmp_path)
        assert sample["__key__"] == "x/1"
        assert (sample["seg.txt"], sample["npy"]) == ("caption", b"12")

    def test_of_several_pictures_one_is_named(self, picture: bytes, archive: Archive, tmp_path: Path) -> None:
        other = paths_of(archive)[1].read_bytes()
        write_tar(tmp_path / "a.tar", {"1.sdc": picture, "1.Edited.sdc": other})
        with pytest.raises(ValueError, match=r"several SDC files in a sample: 1\.sdc, 1\.Edited\.sdc; name a column"):
            list(SdcShards(tmp_path))
        for column in ("edited.sdc", "edited"):
            (sample,) = SdcShards(tmp_path, column=column)
            np.testing.assert_array_equal(sample["latents"], pillow_sdc.read_latents(other))
            assert sample["sdc"] == picture

    def test_what_belongs_to_no_sample_is_none_and_parts_none(self, picture: bytes, tmp_path: Path) -> None:
        loose = dict.fromkeys(["LICENCE", "__meta__/0.sdc", "._1.sdc"], b"x")
        write_tar(tmp_path / "a.tar", {"1.sdc": picture, **loose, "1.txt": b"caption"})
        (sample,) = SdcShards(tmp_path)
        assert sample.keys() == {"__key__", "__url__", "latents", "noise_variance", "txt"}

    def test_corrupt_samples_raise_or_are_skipped(
        self, picture: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        corrupt = {
            "damaged": {"1.sdc": damage(picture)},
            "text": {"1.sdc": b"text"},
            "bad JSON": {"1.sdc": picture, "1.json": b"{"},
            "bad class": {"1.sdc": picture, "1.cls": b"cat"},
            "bad text": {"1.sdc": picture, "1.txt": b"\xff"},
            "no picture": {"1.txt": b"caption"},
        }
        for name, files in corrupt.items():
            write_tar(tmp_path / "a.tar", {"0.sdc": picture, **files, "2.sdc": picture})
            samples = iter(SdcShards(tmp_path))
            next(samples)
            with pytest.raises((CorruptFileError, NotSdcError), match=r"a\.tar::1: "):
                next(samples)
            caplog.clear()
            assert [sample["__key__"] for sample in SdcShards(tmp_path, on_error="skip")] == ["0", "2"], name
            (record,) = caplog.records
            assert re.match(r"skipped .*a\.tar::1: ", record.getMessage()), name

    def test_a_damaged_shard_raises_or_its_rest_is_skipped(
        self, picture: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        write_tar(tmp_path / "a.tar", {f"{number}.sdc": picture for number in range(4)})
        write_tar(tmp_path / "b.tar", {"4.sdc": picture})
        data = (tmp_path / "a.tar").read_bytes()
        (tmp_path / "a.tar").write_bytes(data[: 2 * (512 + 512 * -(-len(picture) // 512)) + 600])
        with pytest.raises(CorruptFileError, match=r"a\.tar: damaged tar file: unexpected end of data"):
            list(SdcShards(tmp_path))
        assert [sample["__key__"] for sample in SdcShards(tmp_path, on_error="skip")] == ["0", "4"]
        (record,) = caplog.records
        assert re.match(r"skipped .*a\.tar: damaged tar file", record.getMessage())


class TestParquetFiles:
    def test_a_row_without_a_picture_is_corrupt(
        self, archive: Archive, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        picture = paths_of(archive)[0].read_bytes()
        parquet.write_table(pa.table({"image": [picture, None], "label": [1, 2]}), tmp_path / "a.parquet")
        with pytest.raises(CorruptFileError, match=r"a\.parquet::1: there is no picture in it"):
            list(SdcShards(tmp_path))
        (sample,) = SdcShards(tmp_path, on_error="skip")
        assert sample["label"] == 1
        assert "a.parquet::1" in caplog.text

    def test_a_column_is_named(self, archive: Archive, tmp_path: Path) -> None:
        first, second = (path.read_bytes() for path in paths_of(archive)[:2])
        parquet.write_table(pa.table({"before": [first], "after": [second]}), tmp_path / "a.parquet")
        (sample,) = SdcShards(tmp_path, column="after")
        np.testing.assert_array_equal(sample["latents"], pillow_sdc.read_latents(second))
        assert sample["before"] == first
        with pytest.raises(ValueError, match="no column 'later' of bytes; the columns are before, after"):
            list(SdcShards(tmp_path, column="later", on_error="skip"))

    def test_a_column_does_not_hide_what_samples_call_their_own(self, archive: Archive, tmp_path: Path) -> None:
        picture = paths_of(archive)[0].read_bytes()
        parquet.write_table(pa.table({"image": [picture], "latents": [1]}), tmp_path / "a.parquet")
        with pytest.raises(ValueError, match="has a column 'latents', which"):
            list(SdcShards(tmp_path))

    def test_a_damaged_file_raises_or_is_skipped(self, archive: Archive, tmp_path: Path) -> None:
        (tmp_path / "a.parquet").write_bytes((archive.parquet / "0.parquet").read_bytes()[:-9])
        (tmp_path / "b.parquet").write_bytes((archive.parquet / "1.parquet").read_bytes())
        with pytest.raises(CorruptFileError, match=r"a\.parquet: damaged Parquet file"):
            list(SdcShards(tmp_path))
        assert numbers_of(SdcShards(tmp_path, on_error="skip")) == [4, 5, 6, 7]


class TestHuggingFaceDatasets:
    @pytest.fixture
    def hugging_face(self) -> Any:
        return pytest.importorskip("datasets", reason="datasets comes with the group 'clients'")

    @pytest.fixture
    def image_folder(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What the documentation says for ``imagefolder`` to know the suffix, until the end of a test."""
        from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder

        monkeypatch.setattr(ImageFolder, "EXTENSIONS", [*ImageFolder.EXTENSIONS, ".sdc"])

    def check(self, dataset: Any, archive: Archive, paths: Sequence[Path]) -> None:
        """Check that pictures are decoded by Pillow, and that latents can be had in their place."""
        from datasets import Image as ImageFeature

        assert len(dataset) == len(paths)
        assert isinstance(dataset.features["image"], ImageFeature)
        image = dataset[1]["image"]
        assert image.format == "SDC"
        np.testing.assert_array_equal(np.asarray(image), np.asarray(pillow_sdc.decode(paths[1])))

        undecoded = dataset.cast_column("image", ImageFeature(decode=False))
        latents = undecoded.map(with_latents, remove_columns="image").with_format("torch")
        assert latents[0]["latents"].dtype == torch.float32
        np.testing.assert_array_equal(
            np.stack([row["latents"] for row in latents]), np.stack([pillow_sdc.read_latents(path) for path in paths])
        )

    def test_parquet_files_of_sdc_batch_hold_pictures(
        self, hugging_face: Any, archive: Archive, tmp_path: Path
    ) -> None:
        convert(archive.files.parent / "source-files", tmp_path / "packed", to=Packing.PARQUET, shard_size=9)
        files = f"{tmp_path}/packed/*.parquet"
        dataset = hugging_face.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path))
        assert dataset.column_names == ["image"]
        self.check(dataset, archive, paths_of(archive))

    def test_columns_stay_beside_the_pictures(self, hugging_face: Any, archive: Archive, tmp_path: Path) -> None:
        files = f"{archive.parquet}/*.parquet"
        dataset = hugging_face.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path))
        assert dataset["txt"] == [f"picture {number}" for number in range(COUNT)]
        numbered = [archive.files / ("more" if number % 2 else "") / f"{number:02}.sdc" for number in range(COUNT)]
        self.check(dataset.cast_column("image", hugging_face.Image()), archive, numbered)

    def test_rows_can_be_streamed(self, hugging_face: Any, archive: Archive) -> None:
        files = f"{archive.parquet}/*.parquet"
        dataset = hugging_face.load_dataset("parquet", data_files=files, split="train", streaming=True)
        first = next(iter(dataset.cast_column("image", hugging_face.Image(decode=False)).map(with_latents)))
        np.testing.assert_array_equal(first["latents"], pillow_sdc.read_latents(archive.files / "00.sdc"))

    @pytest.mark.usefixtures("image_folder")
    def test_imagefolder_takes_folders(self, hugging_face: Any, archive: Archive, tmp_path: Path) -> None:
        for path in paths_of(archive):
            target = tmp_path / "photos" / ("odd" if path.parent.name == "more" else "even") / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
        folder = str(tmp_path / "photos")
        dataset = hugging_face.load_dataset(
            "imagefolder", data_dir=folder, split="train", cache_dir=str(tmp_path / "cache")
        )
        assert dataset.features["label"].names == ["even", "odd"]
        self.check(dataset, archive, sorted((tmp_path / "photos").rglob("*.sdc")))


def with_latents(row: Any) -> Any:
    image = row["image"]
    return {"latents": pillow_sdc.read_latents(image["bytes"] or image["path"])}
