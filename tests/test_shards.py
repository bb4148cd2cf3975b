"""Tar and Parquet files with pictures in them, and which files and shards are to be done."""

import dataclasses
import gzip
import io
import itertools
import json
import os
import random
import string
import tarfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path, PurePath
from typing import Any

import hypothesis
import pyarrow as pa
import pytest
from hypothesis import strategies
from PIL import Image
from pyarrow import parquet
from small_runs import DECODING, ENCODING, make_tar, members_of

from pillow_sdc.errors import CorruptFileError
from pillow_sdc.jobs.manifest import Account
from pillow_sdc.jobs.planning import choose, plan
from pillow_sdc.jobs.storage import parquet as parquet_shards
from pillow_sdc.jobs.storage import tar as tar_shards
from pillow_sdc.jobs.storage.listing import Entry
from pillow_sdc.jobs.storage.members import Members
from pillow_sdc.jobs.storage.parquet import COLUMN, ParquetShard
from pillow_sdc.jobs.storage.samples import LONGEST_FILE, Sample
from pillow_sdc.jobs.storage.stores import Store
from pillow_sdc.jobs.storage.tar import TarShard
from pillow_sdc.jobs.tasks import Conversion, Packing, Task

STORE = Store("memory://in")


def wanted(path: PurePath) -> bool:
    return path.suffix in (".png", ".jpg")


def read_tar(data: bytes, count: int = 16, members: Members | None = None) -> list[Sample]:
    """Return the samples of a tar file, with all pictures unless others are asked for."""
    file = io.BytesIO(data)
    return [sample for samples in tar_shards.read(file, members or Members(wanted), count) for sample in samples]


def read_parquet(data: bytes, *columns: str) -> list[Sample]:
    return [sample for samples in parquet_shards.read(io.BytesIO(data), columns, 16) for sample in samples]


def tar_of(tmp_path: Path, *names: str) -> bytes:
    """Return a tar file of which each member holds its own name."""
    return make_tar(tmp_path / "a.tar", [(name, name.encode()) for name in names]).read_bytes()


def pictures_of(samples: list[Sample]) -> list[dict[str, bytes]]:
    return [{name: read() for name, read in sample.pictures.items()} for sample in samples]


def converted(samples: list[Sample], shard: Any, failing: Collection[str] = ()) -> list[Mapping[str, str]]:
    """Write samples to a shard, their pictures in capital letters."""
    names = []
    for sample in samples:
        pictures = {name: None if name in failing else read().upper() for name, read in sample.pictures.items()}
        names.append(shard.add(sample, pictures, ".sdc"))
    shard.close()
    return names


def written_tar(path: Path, samples: list[Sample], failing: Collection[str] = ()) -> bytes:
    path.unlink(missing_ok=True)
    converted(samples, TarShard(path), failing)
    return path.read_bytes()


# Tar


def test_files_of_one_name_are_a_sample_wherever_its_first_dot_is(tmp_path: Path) -> None:
    names = ["1/a.png", "1/a.json", "1/a.seg.txt", "2/a.png", "v1.0/b.x.png", "v1.0/b.y.png", "./c.png", "c.txt"]
    samples = read_tar(tar_of(tmp_path, *names))
    assert [sample.name for sample in samples] == ["1/a", "2/a", "v1.0/b", "c"]
    assert pictures_of(samples)[0] == {"1/a.png": b"1/a.png"}
    assert samples[0].rest == {"1/a.json": b"1/a.json", "1/a.seg.txt": b"1/a.seg.txt"}
    assert list(pictures_of(samples)[2]) == ["v1.0/b.x.png", "v1.0/b.y.png"]


@pytest.mark.parametrize("count", [1, 2, 3, 100])
def test_samples_come_so_many_at_a_time(tmp_path: Path, count: int) -> None:
    data = tar_of(tmp_path, *[f"{number}.{suffix}" for number in range(5) for suffix in ("png", "txt")])
    together = list(tar_shards.read(io.BytesIO(data), Members(wanted), count))
    assert [len(samples) for samples in together] == [
        len(range(start, min(start + count, 5))) for start in range(0, 5, count)
    ]
    assert [sample.name for samples in together for sample in samples] == ["0", "1", "2", "3", "4"]


def test_pictures_get_their_new_suffix_and_companions_stay_in_order(tmp_path: Path) -> None:
    names = ["./a.json", "./a.png", "./a.txt", "b.v1.png", "b.cls"]
    written = written_tar(tmp_path / "b.tar", read_tar(tar_of(tmp_path, *names)))
    assert list(members_of(written).items()) == [
        ("./a.json", b"./a.json"),
        ("./a.txt", b"./a.txt"),
        ("./a.sdc", b"./A.PNG"),
        ("b.cls", b"b.cls"),
        ("b.v1.sdc", b"B.V1.PNG"),
    ]


def test_samples_stay_samples_for_who_groups_them_as_webdataset_does(tmp_path: Path) -> None:
    names = ["./x/a.png", "./x/a.json", "./x/b.png", "./x/b.json"]
    written = members_of(written_tar(tmp_path / "b.tar", read_tar(tar_of(tmp_path, *names))))
    keys = [name[: name.index(".", name.rindex("/"))] for name in written]
    assert [(key, len(list(group))) for key, group in itertools.groupby(keys)] == [("./x/a", 2), ("./x/b", 2)]


def test_what_belongs_to_no_sample_is_kept_without_a_name_and_parts_none(tmp_path: Path) -> None:
    loose = ["LICENCE", "x/.hidden.png", "./._a.png", "__meta__/a.png", "./__x__/b.txt", "v1.0/README"]
    names = ["a.png", *loose, "a.txt", "__a__.png", "x/__b__/c.png"]
    samples = read_tar(tar_of(tmp_path, *names))
    assert [(sample.name, *sample.pictures, *sample.rest) for sample in samples] == [
        *[("", name) for name in loose],
        ("a", "a.png", "a.txt"),
        ("__a__", "__a__.png"),
        ("x/__b__/c", "x/__b__/c.png"),
    ]
    written = members_of(written_tar(tmp_path / "b.tar", samples, ["a.png"]))
    assert {name: written[name] for name in loose} == {name: name.encode() for name in loose}
    assert "a.txt" not in written


@pytest.mark.parametrize("names", [["a.png", "b.txt", "b.txt"], ["a.png", "a.txt", "LICENCE", "a.png"]])
def test_a_sample_with_two_members_of_one_name_is_refused_for_one_would_be_lost(
    tmp_path: Path, names: list[str]
) -> None:
    with pytest.raises(CorruptFileError, match=f"the sample '{names[-1][0]}' has two members called {names[-1]}"):
        read_tar(tar_of(tmp_path, *names))


def test_pictures_that_differ_in_their_suffixes_alone_stay_apart(tmp_path: Path) -> None:
    samples = read_tar(tar_of(tmp_path, "a.png", "a.jpg", "a.sdc", "a.jpg.sdc"))
    shard = TarShard(tmp_path / "b.tar")
    names = shard.add(samples[0], {"a.png": b"1", "a.jpg": b"2"}, ".sdc")
    shard.close()
    assert names == {"a.png": "a.png.sdc", "a.jpg": "a.jpg.sdc.sdc"}
    assert members_of((tmp_path / "b.tar").read_bytes()) == {
        "a.sdc": b"a.sdc",
        "a.jpg.sdc": b"a.jpg.sdc",
        "a.png.sdc": b"1",
        "a.jpg.sdc.sdc": b"2",
    }


def test_a_sample_of_which_a_picture_failed_is_left_out_with_all_of_it(tmp_path: Path) -> None:
    samples = read_tar(tar_of(tmp_path, "a.png", "a.txt", "b.jpg", "b.png", "b.txt", "c.png", "d.txt"))
    names = converted(samples, TarShard(tmp_path / "b.tar"), ["b.jpg"])
    assert list(members_of((tmp_path / "b.tar").read_bytes())) == ["a.txt", "a.sdc", "c.sdc", "d.txt"]
    assert names == [{"a.png": "a.sdc"}, {}, {"c.png": "c.sdc"}, {}]


def test_what_is_no_file_is_passed_by(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        for name, kind in (
            ("folder", tarfile.DIRTYPE),
            ("link.png", tarfile.SYMTYPE),
            ("hard.png", tarfile.LNKTYPE),
            ("device.png", tarfile.CHRTYPE),
            ("block.png", tarfile.BLKTYPE),
            ("pipe.png", tarfile.FIFOTYPE),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
        member = tarfile.TarInfo("a.png")
        member.size = 1
        archive.addfile(member, io.BytesIO(b"a"))
    assert pictures_of(read_tar(path.read_bytes())) == [{"a.png": b"a"}]


@pytest.mark.parametrize("file_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_all_formats_of_tar_are_read_with_names_of_any_kind(tmp_path: Path, file_format: int) -> None:
    names = ["a.png", "ä.png", "x" * 90 + ".png"]
    if file_format != tarfile.USTAR_FORMAT:
        names += ["y" * 300 + ".png", os.fsdecode(b"\xff.png")]
    with tarfile.open(tmp_path / "a.tar", "w", format=file_format) as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 3
            archive.addfile(member, io.BytesIO(b"abc"))
    samples = read_tar((tmp_path / "a.tar").read_bytes())
    assert [list(sample.pictures) for sample in samples] == [[name] for name in names]
    written = members_of(written_tar(tmp_path / "b.tar", samples))
    assert written == {name.removesuffix("png") + "sdc": b"ABC" for name in names}


def test_a_compressed_file_is_known_by_its_content(tmp_path: Path) -> None:
    data = tar_of(tmp_path, "a.png", "b.png")
    compressed = gzip.compress(data[:1000]) + gzip.compress(data[1000:])
    assert pictures_of(read_tar(compressed)) == pictures_of(read_tar(data))


def test_the_same_samples_give_the_same_bytes(tmp_path: Path) -> None:
    data = tar_of(tmp_path, "a.png", "a.txt", "b.png")
    first, second = (written_tar(tmp_path / f"{number}.tar", read_tar(data, number)) for number in (1, 2))
    assert first == second


def test_a_shard_of_nothing_is_a_tar_file(tmp_path: Path) -> None:
    assert members_of(written_tar(tmp_path / "b.tar", [])) == {}
    assert read_tar((tmp_path / "b.tar").read_bytes()) == []


def test_samples_before_the_damage_are_read(tmp_path: Path) -> None:
    data = tar_of(tmp_path, "a.png", "b.png", "c.png", "d.png")
    for length in (1024 * 3 + 100, 1024 * 3):  # within the last sample, and before it
        samples = tar_shards.read(io.BytesIO(data[:length]), Members(wanted), 16)
        assert pictures_of(list(next(samples))) == [{"a.png": b"a.png"}, {"b.png": b"b.png"}]  # c may have had more
        with pytest.raises(CorruptFileError, match="truncated tar file"):
            next(samples)


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_a_file_that_ends_too_early_is_never_taken_for_a_whole_one(
    tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    data = tar_of(tmp_path, "a.png", "a.txt", "b.png")
    whole = compress(data)
    lengths: Collection[int] = range(len(whole))
    if compress is bytes:
        lengths = {0, 1, 2, 10, 511, 512, 513, 1024, 1500, 2048, 3071, 3072, 3583}  # one empty block is an end
    for length in lengths:
        with pytest.raises(CorruptFileError, match="tar file"):
            read_tar(whole[:length])


def test_a_damaged_header_is_not_taken_for_the_end(tmp_path: Path) -> None:
    data = bytearray(tar_of(tmp_path, "a.png", "b.png", "c.png"))
    for start in (0, 1024, 2048):
        damaged = bytearray(data)
        damaged[start + 10] ^= 1
        with pytest.raises(CorruptFileError, match="damaged tar file"):
            read_tar(bytes(damaged))


def test_a_header_that_was_lost_is_not_taken_for_the_end(tmp_path: Path) -> None:
    data = bytearray(tar_of(tmp_path, "a.png", "b.png", "c.png"))
    data[1024:1536] = bytes(512)
    with pytest.raises(CorruptFileError, match="more follows its end"):
        read_tar(bytes(data))


def test_a_compressed_file_with_a_wrong_bit_is_damaged(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "a.tar", [("a.png", random.Random(0).randbytes(5000))])
    whole = gzip.compress(path.read_bytes())
    for place in (len(whole) // 2, len(whole) - 6):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        with pytest.raises(CorruptFileError, match="tar file"):
            read_tar(bytes(damaged))


def test_what_is_no_tar_file_is_damaged() -> None:
    for data in (b"", b"nonsense", random.Random(0).randbytes(5000), b"\x1f\x8bnonsense"):
        with pytest.raises(CorruptFileError, match="tar file"):
            read_tar(data)


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.DIRTYPE])
def test_a_member_that_claims_a_huge_size_is_refused_before_it_is_read(kind: bytes) -> None:
    class Endless(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            assert size is not None
            assert 0 <= size <= 1 << 20
            return super().read(size)

    member = tarfile.TarInfo("a.png")
    member.type, member.size = kind, LONGEST_FILE + 1
    file = Endless(member.tobuf() + bytes(1 << 20))
    with pytest.raises(CorruptFileError, match=r"a\.png has 268,435,457 bytes, more than 268,435,456"):
        list(tar_shards.read(file, Members(wanted), 1))


def test_a_sparse_member_that_grows_huge_is_refused() -> None:
    member = tarfile.TarInfo("a.png")
    member.size = 512
    member.pax_headers = {"GNU.sparse.size": str(1 << 40), "GNU.sparse.map": f"0,1,{(1 << 40) - 1},1"}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(member, io.BytesIO(bytes(512)))
    with pytest.raises(CorruptFileError, match="more than 268,435,456"):
        read_tar(buffer.getvalue())


letters = strategies.text(string.ascii_letters + "äß_- ", min_size=1, max_size=8)
samples_of_files = strategies.dictionaries(
    letters.map(lambda key: key.casefold()),
    strategies.dictionaries(
        strategies.sampled_from(["png", "jpg", "x.png", "json", "txt", "seg.txt", "sdc", "cls"]),
        strategies.binary(max_size=600).map(bytes.lower),
        min_size=1,
    ),
    max_size=4,
)


@hypothesis.settings(deadline=None, max_examples=40)
@hypothesis.given(samples_of_files)
def test_whatever_goes_through_a_tar_shard_comes_out(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, dict[str, bytes]]
) -> None:
    folder = tmp_path_factory.mktemp("tar")
    names = [(f"{key}.{suffix}", data) for key, those in files.items() for suffix, data in those.items()]
    samples = read_tar(make_tar(folder / "a.tar", names).read_bytes())
    assert [sample.name for sample in samples] == list(files)
    written = read_tar(written_tar(folder / "b.tar", samples))
    assert [sample.name for sample in written] == list(files)
    for before, after in zip(samples, written, strict=True):
        pictures = {data for name, data in after.rest.items() if name not in before.rest}
        assert len(after.rest) == len(before.rest) + len(before.pictures)
        assert before.rest.items() <= after.rest.items()
        assert pictures == {read().upper() for read in before.pictures.values()}


# Parquet


def parquet_of(columns: Mapping[str, Any], metadata: Mapping[str, str] | None = None, **options: Any) -> bytes:
    buffer = io.BytesIO()
    table = pa.table({name: pa.array(*column) for name, column in columns.items()})
    parquet.write_table(table.replace_schema_metadata(metadata), buffer, **options)
    return buffer.getvalue()


FIELDS = {"image": pa.binary(), "label": pa.int64()}
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
STRUCTS = [{"bytes": b"a", "path": "x/a.png"}, None, {"bytes": b"b", "path": None}, {"bytes": None, "path": "c.png"}]


def table_of(path: Path) -> pa.Table:
    return parquet.read_table(path)


def test_pictures_in_structs_are_replaced_and_all_else_is_kept(tmp_path: Path) -> None:
    labels = [1, None, 3, 4]
    metadata = {"huggingface": json.dumps({"info": {"features": {"photo": {"_type": "Image"}}}}), "own": "thing"}
    data = parquet_of({"label": [labels, pa.int16()], "photo": [STRUCTS, STRUCT]}, metadata)
    samples = read_parquet(data)
    assert pictures_of(samples) == [{"0": b"a"}, {}, {"2": b"b"}, {}]
    names = converted(samples, ParquetShard(tmp_path / "b.parquet"))
    assert names == [{"0": "0"}, {}, {"2": "2"}, {}]
    table = table_of(tmp_path / "b.parquet")
    assert table.schema.equals(parquet.read_schema(io.BytesIO(data)), check_metadata=True)
    assert table["label"].to_pylist() == labels
    assert table["photo"].to_pylist() == [
        {"bytes": b"A", "path": "x/a.sdc"},
        None,
        {"bytes": b"B", "path": None},
        {"bytes": None, "path": "c.png"},
    ]


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view()])
def test_pictures_in_bytes_are_replaced(tmp_path: Path, kind: pa.DataType) -> None:
    data = parquet_of({"png": [[b"a", None, b"b"], kind], "other": [[b"x", b"y", b"z"], pa.binary()]})
    converted(read_parquet(data, "png"), ParquetShard(tmp_path / "b.parquet"))
    table = table_of(tmp_path / "b.parquet")
    assert table.to_pydict() == {"png": [b"A", None, b"B"], "other": [b"x", b"y", b"z"]}
    assert table.schema.field("png").type == kind


def test_a_picture_that_failed_is_null_in_its_row_even_where_none_was_allowed(tmp_path: Path) -> None:
    schema = pa.schema([pa.field(name, kind, nullable=False) for name, kind in FIELDS.items()])
    buffer = io.BytesIO()
    parquet.write_table(pa.table({"image": [b"a", b"b"], "label": [1, 2]}, schema), buffer)
    samples = read_parquet(buffer.getvalue())
    shard = ParquetShard(tmp_path / "b.parquet")
    assert shard.add(samples[0], {"0": None}, ".sdc") == {}
    assert shard.add(samples[1], {"1": b"B"}, ".sdc") == {"1": "1"}
    shard.close()
    table = table_of(tmp_path / "b.parquet")
    assert table.to_pydict() == {"image": [None, b"B"], "label": [1, 2]}
    assert [field.nullable for field in table.schema] == [True, False]


def features(**kinds: Any) -> dict[str, str]:
    """Return the metadata by which Hugging Face's datasets say what a table's columns are."""
    return {"huggingface": json.dumps({"info": {"features": kinds}})}


AUDIO, IMAGE = {"_type": "Audio"}, {"_type": "Image"}
SOUNDS = [[{"bytes": b"1", "path": "a.wav"}], STRUCT]
CELLS = [[{"bytes": b"2", "path": "a.png"}], STRUCT]
BYTES = [[b"3"], pa.binary()]


@pytest.mark.parametrize(
    ("columns", "metadata", "picture"),
    [
        ({"sound": SOUNDS, "photo": CELLS, "image": BYTES}, features(sound=AUDIO, photo=IMAGE), b"2"),
        ({"sound": SOUNDS, "photo": BYTES}, features(sound=AUDIO, photo=IMAGE), b"3"),
        ({"sound": SOUNDS, "image": CELLS}, None, b"2"),
        ({"jpg": CELLS, "image": BYTES}, {"huggingface": "no JSON"}, b"3"),
        ({"jpg": CELLS, "image": BYTES}, {"huggingface": '{"info": [1]}'}, b"3"),
        ({"jpg": CELLS, "image": BYTES}, features(image={"_type": "Value", "dtype": "binary"}), b"3"),
        ({"images": [[[b"1"]], pa.list_(pa.binary())], "image": CELLS}, features(images=[IMAGE], gone=IMAGE), b"2"),
    ],
)
def test_the_pictures_are_in_the_column_that_the_table_says_or_in_image(
    columns: Mapping[str, Any], metadata: Mapping[str, str] | None, picture: bytes
) -> None:
    assert pictures_of(read_parquet(parquet_of(columns, metadata))) == [{"0": picture}]


def test_columns_are_named(tmp_path: Path) -> None:
    data = parquet_of({"sound": SOUNDS, "photo": CELLS, "image": BYTES}, features(photo=IMAGE))
    assert pictures_of(read_parquet(data, "image")) == [{"0": b"3"}]
    samples = read_parquet(data, "image", "photo", "image")
    assert pictures_of(samples) == [{"0.image": b"3", "0.photo": b"2"}]
    assert converted(samples, ParquetShard(tmp_path / "b.parquet"), ["0.photo"]) == [{"0.image": "0.image"}]
    assert table_of(tmp_path / "b.parquet").to_pylist() == [{"sound": SOUNDS[0][0], "photo": None, "image": b"3"}]


@pytest.mark.parametrize("columns", [["label"], ["missing"], ["image", "missing"]])
def test_a_column_that_holds_no_bytes_is_refused(columns: list[str]) -> None:
    data = parquet_of({"image": [[b"1"], pa.binary()], "label": [[1], pa.int64()]})
    with pytest.raises(ValueError, match=f"no column '{columns[-1]}' of bytes; the columns are image, label"):
        read_parquet(data, *columns)


@pytest.mark.parametrize(
    ("columns", "metadata", "message"),
    [
        (
            {"before": CELLS, "after": CELLS, "image": CELLS},
            features(before=IMAGE, after=IMAGE),
            "the columns before, after hold pictures; choose with --column",
        ),
        (
            {"sound": SOUNDS, "data": BYTES, "image": [["a.png"], pa.string()]},
            features(sound=AUDIO),
            r"it is not clear which column holds the pictures: of those of bytes \(sound, data\) none .*--column",
        ),
        ({"image": [["a.png"], pa.string()]}, None, r"of those of bytes \(there are none\) none is called 'image'"),
    ],
)
def test_columns_of_which_it_is_not_clear_which_is_meant_are_refused(
    columns: Mapping[str, Any], metadata: Mapping[str, str] | None, message: str
) -> None:
    data = parquet_of(columns, metadata)
    with pytest.raises(ValueError, match=message):
        read_parquet(data)
    with pytest.raises(ValueError, match=message):
        parquet_shards.no_rows(io.BytesIO(data), ())


UNLIKE = {
    "dictionary": pa.array(["a", "b", "a", None]).dictionary_encode(),
    "ordered": pa.DictionaryArray.from_arrays(pa.array([0, 1, None, 1], pa.int8()), pa.array(["a", "b"]), ordered=True),
    "large_binary": pa.array([b"a", None, b"", b"b"], pa.large_binary()),
    "string_view": pa.array(["a", None, "", "b" * 30], pa.string_view()),
    "nulls": pa.nulls(4),
    "timestamp": pa.array([1, 2, None, 3], pa.timestamp("ns", "UTC")),
    "list": pa.array([[b"1"], None, [], [None]], pa.large_list(pa.binary())),
    "map": pa.array([[("a", 1)], None, [], [("b", None)]], pa.map_(pa.string(), pa.int8())),
    "struct": pa.array([{"a": {"b": [1]}, "c": "x"}, None, {"a": None, "c": None}, {"a": {"b": None}, "c": "y"}]),
    "sound": pa.array([{"bytes": b"1", "path": "a.wav"}, None, {"bytes": None, "path": "b.wav"}, None], STRUCT),
    "uuid": pa.ExtensionArray.from_storage(pa.uuid(), pa.array([bytes([n] * 16) for n in range(4)], pa.binary(16))),
    "tensor": pa.ExtensionArray.from_storage(
        pa.fixed_shape_tensor(pa.int8(), [2]), pa.array([[n, n] for n in range(4)], pa.list_(pa.int8(), 2))
    ),
}
"""Columns that are easily changed by being read and written."""


@pytest.mark.parametrize("column", UNLIKE)
@pytest.mark.parametrize("nullable", [True, False])
def test_other_columns_come_through_unchanged(
    tmp_path: Path, column: str, nullable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_shards, "BUFFERED", 10)  # several row groups
    values = UNLIKE[column] if nullable else pa.array(range(4), pa.int16())
    fields = [pa.field("image", STRUCT), pa.field(column, values.type, nullable, {"of": "the field"})]
    table = pa.table([pa.array(STRUCTS, STRUCT), values], pa.schema(fields, {"own": "thing", **features(image=IMAGE)}))
    buffer = io.BytesIO()
    parquet.write_table(table, buffer, row_group_size=3)
    before = parquet.read_table(io.BytesIO(buffer.getvalue()))
    converted(read_parquet(buffer.getvalue()), ParquetShard(tmp_path / "b.parquet"))
    after = table_of(tmp_path / "b.parquet")
    assert after.schema.equals(before.schema, check_metadata=True)
    assert after[column].combine_chunks().equals(before[column].combine_chunks())
    assert after["image"].to_pylist()[0] == {"bytes": b"A", "path": "x/a.sdc"}


def test_other_parts_of_a_pictures_cell_come_through_unchanged(tmp_path: Path) -> None:
    kind = pa.struct([("taken", pa.timestamp("ns")), ("path", pa.large_string()), ("bytes", pa.large_binary())])
    cells = pa.array([{"taken": None, "path": "b.png", "bytes": b"a"}] * 3, kind)
    taken = pa.array([1, None, 3], pa.timestamp("ns"))
    cells = pa.StructArray.from_arrays([taken, cells.field(1), cells.field(2)], fields=list(kind))
    buffer = io.BytesIO()
    parquet.write_table(pa.table({"image": cells}), buffer)
    converted(read_parquet(buffer.getvalue()), ParquetShard(tmp_path / "b.parquet"))
    after = table_of(tmp_path / "b.parquet")["image"].combine_chunks()
    assert after.type == kind
    assert after.field(0).equals(taken)
    assert after.field(1).to_pylist() == ["b.sdc"] * 3
    assert after.field(2).to_pylist() == [b"A"] * 3


def test_a_dictionary_is_not_counted_again_for_each_row(tmp_path: Path) -> None:
    words = pa.array(["a" * 100_000, "b"] * 500).dictionary_encode()
    buffer = io.BytesIO()
    parquet.write_table(pa.table({"image": [b"a"] * 1000, "word": words}), buffer)
    converted(read_parquet(buffer.getvalue()), ParquetShard(tmp_path / "b.parquet"))
    assert parquet.ParquetFile(tmp_path / "b.parquet").num_row_groups == 1


def test_a_small_file_takes_little_more_than_its_pictures_and_keeps_statistics_of_labels(tmp_path: Path) -> None:
    picture, sound = random.Random(0).randbytes(4000), random.Random(1).randbytes(4000)
    cell = {"bytes": picture, "path": "a.png"}
    data = parquet_of(
        {"image": [[cell], STRUCT], "label": [[7], pa.int8()], "more": [[[sound]], pa.list_(pa.binary())]}
    )
    converted(read_parquet(data), ParquetShard(tmp_path / "b.parquet"))
    assert (tmp_path / "b.parquet").stat().st_size < 8000 + 3000
    group = parquet.ParquetFile(tmp_path / "b.parquet").metadata.row_group(0)
    limits = {part.path_in_schema: part.statistics and part.statistics.max for part in map(group.column, range(4))}
    assert limits == {"image.bytes": None, "image.path": "a.sdc", "label": 7, "more.list.element": None}


def test_damaged_files_are_refused() -> None:
    whole = parquet_of({"image": [[os.urandom(1000) for _ in range(20)], pa.binary()]}, compression="zstd")
    halved, flipped = whole[: len(whole) // 2], bytearray(whole)
    flipped[5000:5100] = bytes(100)
    for data in (b"", b"nonsense", halved, halved + whole[-500:]):
        with pytest.raises(CorruptFileError, match="damaged Parquet file"):
            read_parquet(data)
        with pytest.raises(CorruptFileError, match="damaged Parquet file"):
            parquet_shards.no_rows(io.BytesIO(data), ())
    with pytest.raises(CorruptFileError, match="damaged Parquet file"):
        read_parquet(bytes(flipped))


def test_rows_come_so_many_at_a_time_whatever_the_row_groups(tmp_path: Path) -> None:
    pictures = [f"{number:04}".encode() for number in range(100)]
    data = parquet_of({"image": [pictures, pa.binary()]}, row_group_size=7)
    assert parquet.ParquetFile(io.BytesIO(data)).num_row_groups == 15
    together = list(parquet_shards.read(io.BytesIO(data), (), 16))
    assert max(map(len, together)) == 16
    samples = [sample for samples in together for sample in samples]
    assert [sample.name for sample in samples] == [str(number) for number in range(100)]
    converted(samples, ParquetShard(tmp_path / "b.parquet"))
    assert table_of(tmp_path / "b.parquet")["image"].to_pylist() == pictures


def test_rows_are_written_before_there_are_too_many_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_shards, "BUFFERED", 5000)
    pictures = [bytes([97 + number % 26]) * 1000 for number in range(20)]
    samples = read_parquet(parquet_of({"image": [pictures, pa.binary()]}))
    converted(samples, ParquetShard(tmp_path / "b.parquet"))
    assert parquet.ParquetFile(tmp_path / "b.parquet").num_row_groups >= 3
    assert table_of(tmp_path / "b.parquet")["image"].to_pylist() == [data.upper() for data in pictures]


def test_a_file_of_no_rows_keeps_its_columns(tmp_path: Path) -> None:
    data = parquet_of({"photo": [[], STRUCT], "label": [[], pa.int8()]}, {"own": "thing"})
    assert read_parquet(data, "photo") == []
    shard = ParquetShard(tmp_path / "b.parquet")
    assert shard.add(parquet_shards.no_rows(io.BytesIO(data), ["photo"]), {}, ".sdc") == {}
    shard.close()
    table = table_of(tmp_path / "b.parquet")
    assert table.num_rows == 0
    assert table.schema.equals(parquet.read_schema(io.BytesIO(data)), check_metadata=True)


def test_files_become_rows_that_hold_their_names_but_for_those_that_failed(tmp_path: Path) -> None:
    samples = [Sample(name, {name: name.encode}) for name in ("x/a.png", "b.jpg", "c.v1.png")]
    names = converted(samples, ParquetShard(tmp_path / "b.parquet"), ["b.jpg"])
    assert names == [{"x/a.png": "x/a.sdc"}, {}, {"c.v1.png": "c.v1.sdc"}]
    assert table_of(tmp_path / "b.parquet")[COLUMN].to_pylist() == [
        {"bytes": b"X/A.PNG", "path": "x/a.sdc"},
        {"bytes": b"C.V1.PNG", "path": "c.v1.sdc"},
    ]


def test_a_shard_is_closed_twice_without_harm(tmp_path: Path) -> None:
    for shard in (ParquetShard(tmp_path / "a.parquet"), TarShard(tmp_path / "a.tar")):
        converted([Sample("a.png", {"a.png": b"a".upper})], shard)
        shard.close()
    assert table_of(tmp_path / "a.parquet").num_rows == 1
    assert members_of((tmp_path / "a.tar").read_bytes()) == {"a.sdc": b"A"}


def test_hugging_faces_datasets_find_pictures_in_what_is_written(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    golden = (Path(__file__).parent / "golden" / "palette-rgb-200x150.sdc").read_bytes()
    shard = ParquetShard(tmp_path / "b.parquet")
    shard.add(Sample("x/a.png", {}), {"x/a.png": golden}, ".sdc")
    shard.close()
    loaded = datasets.Dataset.from_parquet(str(tmp_path / "b.parquet"), cache_dir=str(tmp_path / "cache"))
    assert isinstance(loaded.features[COLUMN], datasets.Image)
    stored = loaded.cast_column(COLUMN, datasets.Image(decode=False))[0][COLUMN]
    assert stored == {"bytes": golden, "path": "x/a.sdc"}
    with Image.open(io.BytesIO(stored["bytes"])) as image:
        assert image.format == "SDC"


# Plans


def planned(
    *paths: str,
    conversion: Conversion = ENCODING,
    to: Packing | None = None,
    shard_size: int = 1000,
    done: Mapping[str, str] | None = None,
    superseded: Mapping[str, str] | None = None,
    failed: Collection[str] = (),
    there: Collection[str] = (),
) -> list[Task]:
    entries = [Entry(path, len(path)) for path in paths]
    outputs = [
        {f"memory://in/{source}": output for source, output in (part or {}).items()} for part in (done, superseded)
    ]
    account = Account(*outputs, {f"memory://in/{source}" for source in (*failed, *(superseded or {}))})
    chosen, _ = choose(STORE, entries, conversion)
    return plan(STORE, chosen, conversion, to=to, shard_size=shard_size, account=account, there=set(there))


def goals(tasks: list[Task]) -> list[tuple[tuple[str, ...], str, str]]:
    return [(task.sources, str(task.to), task.target) for task in tasks]


def test_files_are_taken_for_what_their_names_say() -> None:
    tasks = planned("a.PNG", "b.txt", "c.tar", "d.TGZ", "e.tar.gz", "f.parquet", "g.sdc")
    assert [(task.packing, task.sources) for task in tasks] == [
        ("files", ("a.PNG", "g.sdc")),
        ("tar", ("c.tar",)),
        ("tar", ("d.TGZ",)),
        ("tar", ("e.tar.gz",)),
        ("parquet", ("f.parquet",)),
    ]
    assert [task.target for task in tasks] == ["", "c.tar", "d.tar", "e.tar", "f.parquet"]
    assert [task.size for task in tasks] == [10, 5, 5, 8, 9]
    assert goals(planned("a.png", "g.sdc", conversion=DECODING)) == [(("g.sdc",), "files", "")]


def test_sdc_files_are_left_out_where_they_lie_beside_their_originals() -> None:
    names = "a.png", "a.sdc", "b.sdc", "deep/a.sdc", "c.tar", "c.sdc", "A.b.JPG", "A.b.sdc"
    (task, *_) = planned(*names)
    assert task.sources == ("a.png", "b.sdc", "deep/a.sdc", "c.sdc", "A.b.JPG")
    assert choose(STORE, [Entry(name, 1) for name in names], ENCODING)[1] == {".sdc": 2}
    assert goals(planned("a.png", "a.sdc", conversion=DECODING)) == [(("a.sdc",), "files", "")]


def test_nothing_to_take_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing in memory://in is a picture or a shard, by its name"):
        planned("a.txt")
    with pytest.raises(ValueError, match="nothing in memory://in is an SDC file or a shard, by its name"):
        planned("a.png", conversion=DECODING)


def test_workers_take_files_some_at_a_time() -> None:
    paths = [f"{number:03}.png" for number in range(300)]
    tasks = planned(*paths)
    assert [len(task.sources) for task in tasks] == [32] * 9 + [12]
    assert [path for task in tasks for path in task.sources] == paths
    assert sum(task.size for task in tasks) == 7 * len(paths)
    assert [len(task.sources) for task in planned(*paths[:33])] == [16, 16, 1]
    large_batches = Conversion(decode=False, batch_size=32)
    assert len(planned(*paths, conversion=large_batches)[0].sources) == 37


@pytest.mark.parametrize("to", [None, *Packing])
def test_two_files_that_would_become_one_are_refused(to: Packing | None) -> None:
    with pytest.raises(ValueError, match=r"a\.jpg and a\.png would both become a\.sdc"):
        planned("a.jpg", "a.png", to=to)


def test_two_shards_that_would_become_one_are_refused() -> None:
    with pytest.raises(ValueError, match=r"a\.tar and a\.tgz would both become a\.tar"):
        planned("a.tar", "a.tgz")
    with pytest.raises(ValueError, match=r"a\.tar and a\.parquet would both become a"):
        planned("a.parquet", "a.tar", to=Packing.FILES)


def test_files_that_would_come_among_those_of_a_shard_are_refused() -> None:
    with pytest.raises(ValueError, match=r"a/b/c\.png and what is in a\.tar would both become files in a"):
        planned("a/b/c.png", "a.tar", to=Packing.FILES)
    assert len(planned("a/b/c.png", "a.tar")) == 2


def test_a_shard_is_not_put_where_the_manifest_is() -> None:
    with pytest.raises(ValueError, match="where the manifest is"):
        planned("_manifest.tar", to=Packing.FILES)


@pytest.mark.parametrize(("path", "to"), [("a.tar", Packing.PARQUET), ("a.parquet", Packing.TAR)])
def test_shards_do_not_become_shards_of_the_other_kind(path: str, to: Packing) -> None:
    with pytest.raises(ValueError, match="make files of them first"):
        planned(path, to=to)


def test_files_are_packed_into_numbered_shards() -> None:
    paths = [f"{number}.png" for number in range(5)]
    for kind in (Packing.TAR, Packing.PARQUET):
        assert goals(planned(*paths, to=kind, shard_size=2)) == [
            (("0.png", "1.png"), kind, f"000000.{kind}"),
            (("2.png", "3.png"), kind, f"000001.{kind}"),
            (("4.png",), kind, f"000002.{kind}"),
        ]


def test_new_shards_have_numbers_above_those_that_are_there_or_will_be() -> None:
    there = ["000004.tar", "000007-01.tar", "000009.parquet", "9000009.tar", "x/000011.tar", "000012.tar.gz"]
    assert planned("a.png", to=Packing.TAR, there=there)[0].target == "000008.tar"
    assert planned("a.png", "000020.tgz", to=Packing.TAR)[0].target == "000021.tar"


def test_shards_that_are_there_are_not_left_beside_new_ones_of_the_same_pictures() -> None:
    overwriting = dataclasses.replace(ENCODING, overwrite=True)
    with pytest.raises(ValueError, match="would stand beside those that are there"):
        planned("a.png", to=Packing.TAR, conversion=overwriting, there=["000000.tar"])
    assert len(planned("a.png", to=Packing.TAR, conversion=overwriting)) == 1


def test_files_that_are_done_and_there_are_left_out() -> None:
    done = {"a.png": "a.sdc", "b.png": "b.sdc"}
    assert goals(planned("a.png", "b.png", "c.png", done=done, there=["a.sdc", "c.sdc"])) == [
        (("b.png", "c.png"), "files", "")
    ]
    again = dataclasses.replace(ENCODING, overwrite=True)
    assert len(planned("a.png", done=done, there=["a.sdc"], conversion=again)) == 1


def test_files_that_are_in_shards_are_left_out() -> None:
    done = {"a.png": "000000.tar::a.sdc", "b.png": "000001.tar::b.sdc", "c.png": "c.sdc"}
    tasks = planned("a.png", "b.png", "c.png", "d.png", to=Packing.TAR, done=done, there=["000000.tar", "000003.tar"])
    assert goals(tasks) == [(("b.png", "c.png", "d.png"), "tar", "000004.tar")]


def test_shards_that_are_done_and_there_are_left_out() -> None:
    done = {"a.tar": "a.tar", "a.tar::1.png": "a.tar::1.sdc", "b.tar": "b.tar", "b.tar::1.png": "b.tar::1.sdc"}
    tasks = planned("a.tar", "b.tar", "c.tar", done=done, there=["a.tar", "c.tar"])
    assert [task.target for task in tasks] == ["b.tar", "c.tar"]  # the worker finds that c.tar is none of this source


def test_shards_of_which_all_files_are_there_are_left_out() -> None:
    done = {"a.tar": "a", "a.tar::1.png": "a/1.sdc", "b.tar": "b", "b.tar::1.png": "b/1.sdc", "b.tar::2.png": "b/2.sdc"}
    tasks = planned("a.tar", "b.tar", "c.tar", to=Packing.FILES, done=done, there=["a/1.sdc", "b/2.sdc"])
    assert [task.target for task in tasks] == ["b", "c"]
    assert [task.target for task in planned("a.tar", done=done, there=["a/1.sdc"])] == ["a.tar"]


def test_what_failed_is_planned_again_and_may_replace_what_it_became_before() -> None:
    paths = ["a.png", "b.png", "c.png"]
    (task,) = planned(
        *paths, done={"a.png": "a.sdc"}, superseded={"b.png": "b.sdc"}, failed=["c.png"], there=["a.sdc", "b.sdc"]
    )
    assert (task.sources, task.superseded) == (("b.png", "c.png"), {"b.sdc"})
    with pytest.raises(ValueError, match=r"in/a\.png would become a\.sdc, which memory://in/x\.png became already"):
        planned("a.png", superseded={"x.png": "a.sdc"}, there=["a.sdc"])


@pytest.mark.parametrize(("to", "target"), [(None, "a.tar"), (Packing.FILES, "a")])
def test_a_shard_of_which_something_failed_is_planned_again(to: Packing | None, target: str) -> None:
    inside = {"a.tar::1.png": "a/1.sdc", "b.tar::1.png": "b/1.sdc"}
    superseded = {"a.tar": target, "a.tar::2.png": "a/2.sdc"}
    failed = ["a.tar::3.png", "x::b.tar::4.png"]
    there = ["a.tar", "b.tar", *inside.values()]
    done = {"b.tar": "b" if to else "b.tar", **inside}
    (task,) = planned("a.tar", "b.tar", to=to, done=done, superseded=superseded, failed=failed, there=there)
    assert (task.target, task.superseded, task.missing) == (target, {target, "a/2.sdc"}, 2)


def test_what_another_source_became_is_not_taken_for_this_ones() -> None:
    with pytest.raises(ValueError, match=r"in/a\.png would become a\.sdc, which memory://in/x\.png became already"):
        planned("a.png", done={"x.png": "a.sdc"}, there=["a.sdc"])
    again = dataclasses.replace(ENCODING, overwrite=True)
    assert len(planned("a.png", done={"x.png": "a.sdc"}, there=["a.sdc"], conversion=again)) == 1


def test_a_task_that_no_worker_survives_becomes_smaller_ones() -> None:
    paths = tuple(f"{number}.png" for number in range(5))
    parts = Task(paths, 23, Packing.FILES, Packing.FILES).parts()
    assert [part.sources for part in parts] == [(path,) for path in paths]
    assert sum(part.size for part in parts) == 23
    assert [part.parts() for part in parts] == [[part] for part in parts]

    task = Task(paths, 23, Packing.FILES, Packing.TAR, "000003.tar")
    assert [(part.sources, part.target) for part in task.parts()] == [
        (paths[:2], "000003-0.tar"),
        (paths[2:], "000003-1.tar"),
    ]
    assert sum(part.size for part in task.parts()) == 23
    assert [part.target for part in task.parts()[1].parts()] == ["000003-10.tar", "000003-11.tar"]
    shard = Task(("a.tar",), 23, Packing.TAR, Packing.FILES, "a")
    assert shard.parts() == [shard]
