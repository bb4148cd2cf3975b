"""Programs that open pictures through Pillow open ``.sdc`` unchanged, once the format is registered."""

import io
import multiprocessing
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import pillow_sdc

ORIENTATION = 0x0112


@pytest.fixture(autouse=True)
def embedded_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Choose the model that a new process loads in the least time, and that it inherits the choice of."""
    monkeypatch.setenv("PILLOW_SDC_MODEL", "compact")
    monkeypatch.setenv("PILLOW_SDC_DEVICE", "cpu")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A picture of 40×24 pixels."""
    path = tmp_path / "photo.sdc"
    samples = np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8)
    Image.fromarray(samples).save(path)
    return path


@pytest.fixture
def expected(photo: Path) -> NDArray[np.uint8]:
    """What Pillow makes of the picture."""
    with Image.open(photo) as image:
        return np.asarray(image)


def client(module: str) -> Any:
    """Import a client, or skip the test."""
    return pytest.importorskip(module, reason=f"{module.partition('.')[0]} comes with the group 'clients'")


class TestMatplotlib:
    @pytest.fixture
    def pyplot(self) -> ModuleType:
        client("matplotlib").use("Agg")
        pyplot: ModuleType = client("matplotlib.pyplot")
        return pyplot

    def test_imread_reads_it(self, pyplot: Any, photo: Path, expected: NDArray[np.uint8]) -> None:
        np.testing.assert_array_equal(pyplot.imread(photo), expected)
        with photo.open("rb") as file:
            np.testing.assert_array_equal(pyplot.imread(file), expected)

    def test_imshow_shows_it(self, pyplot: Any, photo: Path, expected: NDArray[np.uint8]) -> None:
        figure = pyplot.figure(figsize=(0.4, 0.24), dpi=100)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        with Image.open(photo) as image:
            axes.imshow(image)
        figure.canvas.draw()
        np.testing.assert_array_equal(np.asarray(figure.canvas.buffer_rgba())[:, :, :3], expected)
        pyplot.close(figure)

    def test_imsave_writes_it(self, pyplot: Any, photo: Path, expected: NDArray[np.uint8]) -> None:
        pyplot.imsave(photo, expected)
        with Image.open(photo) as image:
            assert (image.format, image.size, image.mode) == ("SDC", (40, 24), "RGBA")
            image.load()


class TestImageio:
    """It tries its plugins in turn for an extension that it does not know; ``plugin="pillow"`` spares it that."""

    @pytest.fixture(params=[{}, {"plugin": "pillow"}])
    def options(self, request: pytest.FixtureRequest) -> Any:
        return request.param

    @pytest.fixture
    def iio(self) -> Any:
        return client("imageio.v3")

    def test_it_reads_files_and_bytes(
        self, iio: Any, options: dict[str, str], photo: Path, expected: NDArray[np.uint8]
    ) -> None:
        np.testing.assert_array_equal(iio.imread(photo, **options), expected)
        np.testing.assert_array_equal(iio.imread(photo.read_bytes(), **options), expected)
        np.testing.assert_array_equal(iio.imread(photo, mode="L", **options).shape, (24, 40))
        (frame,) = iio.imiter(photo, **options)
        np.testing.assert_array_equal(frame, expected)

    def test_it_tells_properties_and_metadata(self, iio: Any, options: dict[str, str], photo: Path) -> None:
        properties = iio.improps(photo, **options)
        assert (properties.shape, properties.dtype, properties.is_batch) == ((24, 40, 3), np.uint8, False)
        metadata = iio.immeta(photo, **options)
        assert (metadata["mode"], metadata["shape"]) == ("RGB", (40, 24))
        assert metadata["sdc"]["codec"] == "palette"

    @pytest.mark.parametrize("shape", [(24, 40, 3), (24, 40)])
    def test_it_writes_files(self, iio: Any, options: dict[str, str], tmp_path: Path, shape: tuple[int, ...]) -> None:
        iio.imwrite(tmp_path / "new.sdc", np.full(shape, 99, np.uint8), quality=50, **options)
        assert pillow_sdc.info(tmp_path / "new.sdc").codec == "context"
        assert iio.imread(tmp_path / "new.sdc").shape == shape

    def test_it_writes_bytes_where_the_plugin_is_named(self, iio: Any, expected: NDArray[np.uint8]) -> None:
        data = iio.imwrite("<bytes>", expected, plugin="pillow", extension=".sdc")
        assert Image.open(io.BytesIO(data)).format == "SDC"


def test_scikit_image_reads_and_writes_it(photo: Path, expected: NDArray[np.uint8]) -> None:
    skimage_io = client("skimage.io")
    np.testing.assert_array_equal(skimage_io.imread(photo), expected)
    assert skimage_io.imread(photo, as_gray=True).shape == (24, 40)
    skimage_io.imsave(photo, expected[:10], check_contrast=False)
    assert skimage_io.imread(photo).shape == (10, 40, 3)


class TestHuggingFaceDatasets:
    @pytest.fixture
    def datasets(self) -> Any:
        return client("datasets")

    @pytest.mark.parametrize("source", ["path", "bytes"])
    def test_images_are_decoded(self, datasets: Any, photo: Path, expected: NDArray[np.uint8], source: str) -> None:
        example = {"path": str(photo), "bytes": None} if source == "path" else photo.read_bytes()
        feature = datasets.Image()
        image = feature.decode_example(example if isinstance(example, dict) else feature.encode_example(example))
        assert image.format == "SDC"
        np.testing.assert_array_equal(np.asarray(image), expected)
        assert datasets.Image(mode="L").decode_example({"path": None, "bytes": photo.read_bytes()}).mode == "L"

    @pytest.mark.parametrize("source", ["path", "bytes"])
    def test_a_column_can_be_cast(self, datasets: Any, photo: Path, expected: NDArray[np.uint8], source: str) -> None:
        column = [str(photo) if source == "path" else photo.read_bytes()] * 3
        dataset = datasets.Dataset.from_dict({"image": column}).cast_column("image", datasets.Image())
        np.testing.assert_array_equal(np.asarray(dataset[1]["image"]), expected)
        assert [example["image"].size for example in dataset] == [(40, 24)] * 3

    def test_opened_pictures_stay_in_the_format(self, datasets: Any, photo: Path) -> None:
        with Image.open(photo) as image:
            assert datasets.Image().encode_example(image) == {"path": str(photo), "bytes": None}
        unnamed = datasets.Image().encode_example(Image.open(io.BytesIO(photo.read_bytes())))
        assert Image.open(io.BytesIO(unnamed["bytes"])).format == "SDC"

    def test_the_orientation_is_applied(self, datasets: Any, photo: Path) -> None:
        exif = Image.Exif()
        exif[ORIENTATION] = 6
        with Image.open(photo) as image:
            image.save(photo, exif=exif)
        assert datasets.Image().decode_example({"path": str(photo), "bytes": None}).size == (24, 40)


class TestMapOfHuggingFaceDatasets:
    """``map`` saves every picture that it has decoded again, by ``save(buffer, picture.format)`` without options."""

    @pytest.fixture
    def photos(self) -> list[bytes]:
        """Files of other options than those of ``save`` by default."""
        samples = np.random.default_rng(0).integers(0, 256, (4, 24, 40, 3), np.uint8)
        return [pillow_sdc.encode(one, quality=80) for one in samples]

    @pytest.fixture
    def dataset(self, photos: list[bytes]) -> Any:
        datasets = client("datasets")
        columns = {"image": photos, "number": list(range(len(photos)))}
        return datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())

    def stored(self, dataset: Any) -> list[bytes]:
        undecoded = dataset.cast_column("image", client("datasets").Image(decode=False))
        return [image["bytes"] for image in undecoded["image"]]

    def test_one_that_touches_another_column_keeps_the_bytes(self, dataset: Any, photos: list[bytes]) -> None:
        for count in range(1, 4):
            dataset = dataset.map(lambda row: {"number": row["number"] + 1})
            assert self.stored(dataset) == photos
            assert dataset[3]["number"] == 3 + count

    @pytest.mark.parametrize("options", [{}, {"batched": True}, {"num_proc": 2}])
    def test_one_that_reads_the_pictures_keeps_the_bytes(
        self, dataset: Any, photos: list[bytes], options: dict[str, Any]
    ) -> None:
        def read(row: Any) -> dict[str, Any]:
            images = row["image"] if isinstance(row["image"], list) else [row["image"]]
            means = [float(np.asarray(image).mean()) for image in images]
            return {"image": row["image"], "mean": means if options.get("batched") else means[0]}

        for _ in range(3):
            dataset = dataset.map(read, **options)
            assert self.stored(dataset) == photos
        assert dataset[0]["mean"] == np.asarray(pillow_sdc.decode(photos[0])).mean()

    def test_parquet_files_hold_the_same_bytes(self, dataset: Any, photos: list[bytes], tmp_path: Path) -> None:
        for number in range(3):
            path = tmp_path / f"{number}.parquet"
            dataset.map(lambda row: {"size": row["image"].size}).to_parquet(path)
            dataset = client("datasets").Dataset.from_parquet(str(path), cache_dir=str(tmp_path / "cache"))
            assert self.stored(dataset) == photos

    def test_one_that_edits_pictures_changes_just_these(self, dataset: Any, photos: list[bytes]) -> None:
        def edit(row: Any) -> Any:
            if row["number"] in (1, 2):
                row["image"].paste((255, 0, 0), (0, 0, 20, 24))
            else:
                row["image"].getpixel((0, 0))
            return row

        edited = dataset.map(edit)
        now = self.stored(edited)
        assert [one == before for one, before in zip(now, photos, strict=True)] == [True, False, False, True]
        for number in (1, 2):
            image = pillow_sdc.decode(photos[number])
            image.paste((255, 0, 0), (0, 0, 20, 24))
            assert now[number] == pillow_sdc.encode(image.copy())
        assert self.stored(edited.map(lambda row: {"size": row["image"].size})) == now

    def test_copies_and_pictures_that_it_turned_become_pngs(self, dataset: Any, photos: list[bytes]) -> None:
        datasets = client("datasets")
        exif = Image.Exif()
        exif[ORIENTATION] = 6
        turned = [pillow_sdc.encode(data, exif=exif) for data in photos]
        oriented = datasets.Dataset.from_dict({"image": turned}).cast_column("image", datasets.Image())
        for changed in (
            dataset.map(lambda row: {"image": row["image"].copy()}),
            oriented.map(lambda row: {"size": row["image"].size}),
        ):
            assert {Image.open(io.BytesIO(data)).format for data in self.stored(changed)} == {"PNG"}

    @pytest.mark.parametrize("kind", ["SDC", "PNG"])
    def test_edits_of_pictures_that_it_has_by_their_paths_are_dropped(self, tmp_path: Path, kind: str) -> None:
        datasets = client("datasets")
        path = tmp_path / f"photo.{kind.lower()}"
        Image.new("RGB", (40, 24)).save(path)
        dataset = datasets.Dataset.from_dict({"image": [str(path)]}).cast_column("image", datasets.Image())

        def edit(row: Any) -> Any:
            row["image"].paste((255, 0, 0), (0, 0, 20, 24))
            return row

        edited = dataset.map(edit).cast_column("image", datasets.Image(decode=False))
        assert edited[0]["image"] == {"bytes": None, "path": str(path)}

    def test_metadata_that_datasets_does_not_pass_on_are_lost_and_nothing_else(self, photos: list[bytes]) -> None:
        datasets = client("datasets")
        data = pillow_sdc.encode(photos[0], xmp=b"x")
        dataset = datasets.Dataset.from_dict({"image": [data]}).cast_column("image", datasets.Image())
        assert self.stored(dataset.map(lambda row: {"size": row["image"].size})) == photos[:1]


class Photos:
    """A map-style dataset, as PyTorch's data loader takes it."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        with Image.open(self.paths[index]) as image:
            return np.array(image)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_of_pytorchs_data_loader_load_it(photo: Path, expected: NDArray[np.uint8], method: str) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system cannot {method}")
    from torch.utils.data import DataLoader

    photos: Any = Photos([photo] * 6)
    loader = DataLoader(photos, batch_size=2, num_workers=2, multiprocessing_context=method)
    batches = [batch.numpy() for batch in loader]
    assert [batch.shape for batch in batches] == [(2, 24, 40, 3)] * 3
    # Workers compute with one thread each, which may round differently.
    np.testing.assert_allclose(np.concatenate(batches).astype(int), np.stack([expected] * 6).astype(int), atol=1)


class TestDjango:
    @pytest.fixture
    def clean(self) -> Any:
        """Validates an uploaded file as the picture of a form."""
        settings = client("django.conf").settings
        if not settings.configured:
            settings.configure(USE_I18N=False)
        uploaded = client("django.core.files.uploadedfile").SimpleUploadedFile
        field = client("django.forms").ImageField()
        return lambda name, data: field.clean(uploaded(name, data, "application/octet-stream"))

    def test_a_form_accepts_it(self, clean: Any, photo: Path) -> None:
        file = clean("photo.sdc", photo.read_bytes())
        assert (file.image.format, file.image.size, file.content_type) == ("SDC", (40, 24), "image/x-sdc")
        assert file.read() == photo.read_bytes()

    def test_a_form_refuses_damage(self, clean: Any, photo: Path) -> None:
        data = bytearray(photo.read_bytes())
        data[-1] ^= 1
        for damaged in (bytes(data), photo.read_bytes()[:-1], b"text"):
            with pytest.raises(client("django.core.exceptions").ValidationError, match="not an image or a corrupted"):
                clean("photo.sdc", damaged)
