import csv
import io
import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import typer
from numpy.typing import NDArray
from PIL import Image, ImageCms
from typer.testing import CliRunner

pytest.importorskip("jinja2", reason="the extra report is not installed")
pytest.importorskip("pytorch_msssim", reason="the extra report is not installed")

import pillow_sdc
from pillow_sdc.cli import app
from pillow_sdc.cli.compare import compare
from pillow_sdc.report import evaluation, figures, findings, html, metrics, peers, sheet, ssimulacra2
from pillow_sdc.report.detail import busiest
from pillow_sdc.report.evaluation import METRICS, Evaluation, Result, Scores, best
from pillow_sdc.report.metrics import Samples
from pillow_sdc.report.peers import PEERS, PeerEncoder
from pillow_sdc.report.photographs import Photograph, crop_centre, read_photograph
from pillow_sdc.report.renditions import RateTarget, Subject
from pillow_sdc.runtime import libraries

HOSTILE = "<script>alert(1)</script>\"'&{{ 7*7 }}\udcff\n.png"


def photograph(width: int = 72, height: int = 56, seed: int = 0) -> Samples:
    """Return a smooth picture with some grain."""
    generator = np.random.default_rng(seed)
    small = Image.fromarray(generator.integers(0, 255, (5, 6, 3), dtype=np.uint8))
    smooth = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC), np.float64)
    return np.clip(smooth + generator.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def evaluated() -> Evaluation:
    """Two small pictures, one of a hostile name, each judged at one quality."""
    pictures = [
        Photograph("first.png", photograph()),
        Photograph(HOSTILE.encode("utf-8", "replace").decode(), photograph(64, 64, 1)),
    ]
    with pillow_sdc.configure(model="compact", device="cpu"):
        return evaluation.evaluate(pictures, RateTarget(), [20, 60])


@pytest.fixture(scope="module")
def page(evaluated: Evaluation) -> str:
    return html.render(evaluated)


def result(key: str, scores: Scores, *, within_budget: bool = True, competes: bool = True) -> Result:
    return Result(key, key.upper(), "", 100, 0.1, scores, competes, within_budget)


# Fitting to bytes


def available(peer: peers.Peer) -> peers.Peer:
    if peer not in peers.load_peers()[0]:
        pytest.skip(f"{peer.label} cannot be written here")
    return peer


def files_of(sizes: Iterable[int]) -> PeerEncoder:
    """Return an encoder whose files have given sizes, from quality 0 on."""
    files = [bytes(size) for size in sizes]
    encoder = PeerEncoder(replace(peers.WEBP, qualities=range(len(files))), photograph())
    encoder._files = dict(enumerate(files))
    return encoder


def assert_best_of_all_is_found(encoder: PeerEncoder) -> None:
    """Hold the search against trying all qualities, for each budget at which the answer changes."""
    qualities = encoder.peer.qualities
    sizes = [len(encoder.encode(quality)) for quality in qualities]
    for budget in sorted({size - less for size in sizes for less in (0, 1)}):
        fitting = [quality for quality, size in zip(qualities, sizes, strict=True) if size <= budget]
        file = encoder.best_within(budget)
        assert file.fits == bool(fitting)
        assert file.quality == (fitting[-1] if fitting else qualities[0])
        assert file.data == encoder.encode(file.quality)


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.key)
def test_a_peers_file_is_the_best_that_fits(peer: peers.Peer) -> None:
    encoder = PeerEncoder(available(peer), photograph(64, 48))
    assert_best_of_all_is_found(encoder)
    assert encoder.decode(encoder.encode(50)).shape == (48, 64, 3)


@pytest.mark.parametrize(("width", "height"), [(64, 48), (63, 47), (1, 1), (1, 9)])
def test_avif_at_half_size_is_avif_of_half_the_sides_enlarged_again(width: int, height: int) -> None:
    samples = photograph(width, height)
    encoder = PeerEncoder(available(peers.AVIF_AT_HALF_SIZE), samples)
    data = encoder.encode(80)
    half = -(-width // 2), -(-height // 2)
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.size) == ("AVIF", half)
    small = Image.fromarray(samples).resize(half, Image.Resampling.LANCZOS)
    assert data == PeerEncoder(peers.AVIF, np.asarray(small)).encode(80)
    enlarged = Image.fromarray(peers.decode(data)).resize((width, height), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(encoder.decode(data), np.asarray(enlarged))


def test_avif_at_half_size_goes_where_avif_cannot() -> None:
    samples = photograph(160, 128)
    full, half = (PeerEncoder(available(peer), samples) for peer in (peers.AVIF, peers.AVIF_AT_HALF_SIZE))
    budget = len(full.encode(0)) - 1
    assert not full.best_within(budget).fits
    file = half.best_within(budget)
    assert file.fits
    assert metrics.psnr(samples, half.decode(file.data)) > 15


@pytest.mark.parametrize("seed", range(20))
def test_the_best_is_found_among_sizes_that_fall_now_and_then(seed: int) -> None:
    generator = np.random.default_rng(seed)
    growing = 150 * np.cumprod(generator.choice([1, 1.001, 1.02, 1.1], 100))
    dips = generator.choice([1, 1, 1, 1 / (1 + 0.9 * peers.WEBP.dip)], 100)
    assert_best_of_all_is_found(files_of(np.ceil(growing * dips).astype(int)))


def test_the_best_is_found_where_all_files_fit_and_where_none_does() -> None:
    assert_best_of_all_is_found(files_of([100]))
    assert_best_of_all_is_found(files_of([100, 98, 105]))
    assert files_of([100, 200]).best_within(10**9).quality == 1
    assert files_of([100, 200]).best_within(1).quality == 0


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.key)
def test_the_highest_and_the_lowest_quality_are_those_of_the_format(peer: peers.Peer) -> None:
    encoder = PeerEncoder(available(peer), photograph(64, 48))
    qualities = peer.qualities
    assert encoder.best_within(1).quality == qualities[0]
    assert encoder.best_within(10**6).quality == qualities[-1]
    assert len(encoder.encode(qualities[0])) < len(encoder.encode(qualities[-1]))


def test_no_quality_is_encoded_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = PeerEncoder(PEERS[0], photograph())
    saved: list[int] = []
    save = Image.Image.save
    monkeypatch.setattr(
        Image.Image, "save", lambda *args, **options: (saved.append(options["quality"]), save(*args, **options))
    )
    for size in (900, 1200, 900):
        encoder.best_within(size)
    assert len(saved) == len(set(saved)) < 25


def test_optimising_a_jpeg_never_enlarges_it_and_changes_no_pixel() -> None:
    for quality in (1, 20, 90):
        file = io.BytesIO()
        Image.fromarray(photograph()).save(file, "JPEG", quality=quality, optimize=True)
        optimised = peers.optimise_jpeg(file.getvalue())
        assert len(optimised) <= len(file.getvalue())
        assert np.array_equal(peers.decode(optimised), peers.decode(file.getvalue()))


def test_a_peer_whose_plugin_is_missing_is_left_out_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "find_spec", lambda name: None)
    available, notes = peers.load_peers()
    assert {peer.key for peer in available} <= {"jpeg", "webp", "avif", "avif-half"}
    assert "JPEG XL is left out: the package pillow-jxl-plugin is not installed." in notes
    assert any("mozjpeg" in note for note in notes)


def test_a_peer_that_fails_is_left_out_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def save(picture: Image.Image, file: io.BytesIO, name: str, **options: object) -> None:
        if name == "WEBP":
            raise RuntimeError("too large")
        original(picture, file, name, **options)

    original = Image.Image.save
    monkeypatch.setattr(Image.Image, "save", save)
    monkeypatch.setattr(evaluation, "load_peers", lambda: (list(PEERS[:2]), []))
    with pillow_sdc.configure(model="compact", device="cpu"):
        judged = evaluation.evaluate([Photograph("a.png", photograph(32, 32))], RateTarget(), [50])
    assert [each.key for each in judged.pictures[0].results][-2:] == ["context", "jpeg"]
    assert "WebP is left out of a.png: WebP cannot hold this picture: too large" in judged.notes


@pytest.mark.parametrize("codec", [{"codec": "palette"}, {"codec": "uint8"}, {"quality": 37}])
def test_our_files_are_those_that_save_writes(codec: dict[str, str | int]) -> None:
    samples = photograph()
    with pillow_sdc.configure(model="compact", device="cpu"):
        subject = Subject(Photograph("a", samples))
        name = str(codec.get("codec", "context"))
        options = {key: value for key, value in codec.items() if key != "codec"}
        assert subject.file(name, **options) == pillow_sdc.encode(samples, **codec)


@pytest.mark.parametrize("size", [250, 600])
def test_context_takes_no_more_than_its_target(size: int) -> None:
    samples = photograph(128, 128)
    with pillow_sdc.configure(model="compact", device="cpu"):
        rendition = Subject(Photograph("a", samples)).context(RateTarget(target_size=size), default_size=1)
        assert rendition.file_bytes == len(pillow_sdc.encode(samples, target_size=size)) <= size


def test_context_that_does_not_fit_is_as_small_as_it_can_be() -> None:
    with pillow_sdc.configure(model="compact", device="cpu"):
        subject = Subject(Photograph("a", photograph()))
        rendition = subject.context(RateTarget(target_size=30), default_size=1)
        assert 30 < rendition.file_bytes < subject.context_at(1).file_bytes
    assert rendition.note == "its coarsest"


# Metrics


def test_of_identical_pictures_every_metric_is_at_its_best() -> None:
    samples = photograph(192, 176)
    assert metrics.psnr(samples, samples) == math.inf
    assert metrics.structural_similarity(samples, samples) == pytest.approx(1)
    assert metrics.multiscale_ssim(samples, samples) == pytest.approx(1)
    assert metrics.laplacian_ratio(samples, samples) == 1
    assert metrics.texture_distances(samples, samples) == (0, 0, 0)
    assert ssimulacra2.score(samples, samples) == 100


def test_psnr_is_of_the_mean_squared_error() -> None:
    samples = np.full((16, 16, 3), 100, np.uint8)
    assert metrics.psnr(samples, samples + np.uint8(5)) == pytest.approx(10 * math.log10(255**2 / 25))


def test_ssim_agrees_with_scikit_image() -> None:
    reference = pytest.importorskip("skimage.metrics").structural_similarity
    a = photograph(96, 80)
    b = np.asarray(Image.fromarray(a).resize((48, 40)).resize((96, 80)))
    lumas = [samples @ np.array([0.299, 0.587, 0.114]) for samples in (a, b)]
    expected = reference(*lumas, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
    assert metrics.structural_similarity(a, b) == pytest.approx(expected, abs=1e-4)


def blurred(samples: Samples) -> Samples:
    height, width = samples.shape[:2]
    return np.asarray(Image.fromarray(samples).reduce(4).resize((width, height), Image.Resampling.BILINEAR))


def blocky(samples: Samples) -> Samples:
    height, width = samples.shape[:2]
    return np.asarray(Image.fromarray(samples).reduce(4).resize((width, height), Image.Resampling.NEAREST))


def coarse(samples: Samples) -> Samples:
    return samples // 32 * 32 + 16


def grainy(samples: Samples) -> Samples:
    grain = np.random.default_rng(1).normal(0, 30, samples.shape)
    return np.clip(samples + grain, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("size", "change", "reference"),
    [
        ((113, 150), blurred, 25.9100),
        ((113, 150), blocky, 23.7582),
        ((113, 150), coarse, 57.0483),
        ((113, 150), grainy, 6.3898),
        ((224, 225), blurred, 57.5489),
        ((224, 225), blocky, 56.2221),
        ((225, 224), coarse, 36.7875),
        ((225, 224), grainy, -19.3210),
        ((256, 384), blurred, 72.6305),
        ((256, 384), grainy, -28.8835),
    ],
)
def test_ssimulacra2_is_that_of_the_reference(
    size: tuple[int, int], change: Callable[[Samples], Samples], reference: float
) -> None:
    """The figures are those of the program ``ssimulacra2`` of libjxl 0.11.2."""
    samples = photograph(*size)
    assert ssimulacra2.score(samples, change(samples)) == pytest.approx(reference, abs=0.1)


def test_ssimulacra2_does_not_jump_where_a_scale_gets_smaller() -> None:
    samples = photograph(225, 225)
    changed = grainy(samples)
    cropped = ssimulacra2.score(samples[:224, :224], changed[:224, :224])
    assert cropped == pytest.approx(ssimulacra2.score(samples, changed), abs=3)


def test_blur_loses_texture_and_grain_elsewhere_does_not() -> None:
    generator = np.random.default_rng(0)
    flat = np.full((96, 96, 3), 128.0)
    a, b = ((flat + generator.normal(0, 12, flat.shape)).astype(np.uint8) for _ in range(2))
    blurred = flat.astype(np.uint8)
    assert metrics.laplacian_ratio(a, b) == pytest.approx(1, abs=0.1)
    assert metrics.laplacian_ratio(a, blurred) == 0
    assert sum(metrics.texture_distances(a, b)) < 0.2 * sum(metrics.texture_distances(a, blurred))
    assert metrics.psnr(a, b) < metrics.psnr(a, blurred)


def woven(degrees: float) -> NDArray[np.float64]:
    """Return waves of a quarter of a cycle per pixel along two directions at a right angle."""
    y, x = np.mgrid[:128, :128]
    angle = np.radians(degrees)
    along = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    waves: NDArray[np.float64] = sum(np.sin(np.pi / 2 * distance) for distance in along)
    return waves[:, :, None]


def test_cross_hatch_is_a_pattern_along_rows_and_columns() -> None:
    generator = np.random.default_rng(0)
    grain = 128 + generator.normal(0, 12, (128, 128, 1)).repeat(3, axis=2)
    original = grain.astype(np.uint8)
    along_axes, along_diagonals = ((grain + 20 * woven(degrees)).astype(np.uint8) for degrees in (0, 45))
    assert metrics.cross_hatch(original, original) == 0
    assert metrics.cross_hatch(original, (128 + 0.3 * (grain - 128)).astype(np.uint8)) == pytest.approx(0, abs=0.1)
    assert (metrics.cross_hatch(original, along_axes) or 0) > 1
    assert (metrics.cross_hatch(original, along_diagonals) or 0) < -1
    assert metrics.cross_hatch(np.full_like(original, 128), along_axes) is None
    assert metrics.cross_hatch(original[:31], along_axes[:31]) is None


@pytest.mark.parametrize("size", [(1, 1), (9, 40), (30, 30), (112, 120), (113, 113)])
def test_small_and_flat_pictures_lack_the_metrics_that_they_are_too_small_for(size: tuple[int, int]) -> None:
    samples = np.full((*size, 3), 7, np.uint8)
    with pillow_sdc.configure(model="compact", device="cpu"):
        judged = evaluation.evaluate([Photograph("tiny", samples)], RateTarget(), [])
    for each in judged.pictures[0].results:
        assert each.scores.ms_ssim is None
        assert each.scores.laplacian_ratio is None
        assert (each.scores.ssim is None) == (min(size) < 11)
        assert (each.scores.texture_fine is None) == (min(size) < 28)
        assert (each.scores.ssimulacra2 is None) == (min(size) < 113)
    json.loads(figures.to_json(judged))
    assert "tiny" in html.render(judged)


# Evaluation


def test_columns_are_those_of_the_article_and_the_peers(evaluated: Evaluation) -> None:
    expected = ["float", "uint8", "palette", "context", *(peer.key for peer in peers.load_peers()[0])]
    for picture in evaluated.pictures:
        assert [each.key for each in picture.results] == expected
        palette = picture.results[2]
        assert picture.budget == palette.file_bytes
        assert all(each.file_bytes <= picture.budget for each in picture.results if each.within_budget)
    assert any("no denoiser of its own" in note for note in evaluated.notes)


def test_a_model_with_a_denoiser_shows_the_palette_before_and_after(monkeypatch: pytest.MonkeyPatch) -> None:
    from pillow_sdc.models import compact, kinds, loading

    # The embedded autoencoder with the embedded denoiser behind it, which it does not need: as quick as it gets.
    denoiser = compact.CompactDenoiser("cpu")
    monkeypatch.setattr(kinds.EmbeddedModel, "load_denoiser", lambda *given: denoiser)
    for cache in ("_models", "_networks"):
        monkeypatch.setattr(loading, cache, {})
    with pillow_sdc.configure(model="compact", device="cpu", denoise_steps=2):
        renditions = list(Subject(Photograph("a", photograph(160, 160))).palette())
    assert [each.key for each in renditions] == ["palette-before-denoising", "palette"]
    assert renditions[1].note == "2 denoising steps"
    assert not np.array_equal(renditions[0].samples, renditions[1].samples)


def test_of_a_large_picture_the_middle_is_shown_and_judged_by_what_takes_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(evaluation, "WINDOW", 128)
    samples = photograph(192, 160)
    monkeypatch.setattr(evaluation, "load_peers", lambda: ([], []))
    with pillow_sdc.configure(model="compact", device="cpu"):
        (picture,) = evaluation.evaluate([Photograph("a", samples)], RateTarget(), []).pictures
    assert np.array_equal(picture.shown, samples[16:144, 32:160])
    for each in picture.results:
        assert each.shown is not None
        assert each.shown.shape == (128, 128, 3)
        assert each.scores.ssimulacra2 == ssimulacra2.score(picture.shown, each.shown)
        assert each.scores.texture_fine == metrics.texture_distances(picture.shown, each.shown)[0]


def test_means_are_over_the_pictures(evaluated: Evaluation) -> None:
    for number, mean in enumerate(evaluated.means):
        same = [picture.results[number] for picture in evaluated.pictures]
        assert mean.file_bytes == sum(each.file_bytes for each in same) / 2
        assert mean.scores.psnr == pytest.approx(sum(each.scores.psnr or 0 for each in same) / 2)


def test_best_is_among_files_that_compete_and_fit() -> None:
    results = [
        result("float", Scores(psnr=40), competes=False),
        result("webp", Scores(psnr=30), within_budget=False),
        result("context", Scores(psnr=24)),
        result("avif", Scores(psnr=28)),
        result("jpeg", Scores()),
    ]
    winner = best(results, METRICS[0])
    assert winner is not None
    assert winner.key == "avif"


def test_of_laplacian_ratios_the_one_nearest_one_is_best() -> None:
    metric = next(metric for metric in METRICS if metric.key == "laplacian_ratio")
    results = [
        result(key, Scores(laplacian_ratio=ratio)) for key, ratio in [("a", 0.5), ("b", 1.3), ("c", 0.0), ("d", 3.0)]
    ]
    winner = best(results, metric)
    assert winner is not None
    assert winner.key == "b"


def test_findings_say_where_sdc_loses_and_where_it_gains() -> None:
    results = [
        result("context", Scores(psnr=24.1, ssimulacra2=-20.0, texture_distance=1.2)),
        result("avif", Scores(psnr=28.4, ssimulacra2=-3.0, texture_distance=2.4)),
        result("webp", Scores(psnr=31.0, texture_distance=0.1), within_budget=False),
    ]
    assert findings.losses(results) == [
        "AVIF is ahead of SDC by PSNR (28.40 dB against 24.10 dB) and SSIMULACRA2 (−3.0 against −20.0)."
    ]
    assert findings.gains(results) == ["CONTEXT is ahead of the others by texture distance (1.20 against 2.40)."]
    assert findings.over_budget(results) == "WEBP took more bytes than allowed, and cannot be best."


def test_a_detail_is_where_the_texture_is() -> None:
    samples = np.full((320, 320, 3), 90, np.uint8)
    samples[200:296, 32:128] = np.random.default_rng(0).integers(0, 255, (96, 96, 3))
    x, y = busiest(samples)
    assert abs(x * 320 - 80) <= 32
    assert abs(y * 320 - 248) <= 32


# Photographs


def test_photographs_are_upright_on_white_and_in_srgb(tmp_path: Path) -> None:
    picture = Image.new("RGBA", (20, 10), (255, 0, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "a.png", exif=exif)
    read = read_photograph(io.BytesIO((tmp_path / "a.png").read_bytes()), "a")
    assert read.samples.shape == (20, 10, 3)
    assert (read.samples == 255).all()

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (10, 200, 30)).save(file, "PNG", icc_profile=profile)
    assert np.abs(read_photograph(file, "b").samples[0, 0].astype(int) - (10, 200, 30)).max() <= 1


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_profile_counts_with_alpha_and_without(mode: str, tmp_path: Path) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    red_is_blue = srgb.replace(b"rXYZ", b"????").replace(b"bXYZ", b"rXYZ").replace(b"????", b"bXYZ")
    Image.new("RGB", (4, 4), (10, 200, 90)).convert(mode).save(tmp_path / "a.png", icc_profile=red_is_blue)
    assert np.abs(read_photograph(tmp_path / "a.png", "a").samples[0, 0].astype(int) - (90, 200, 10)).max() <= 1


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_photographs_of_more_than_8_bits_are_refused_as_save_refuses_them(mode: str, tmp_path: Path) -> None:
    Image.new(mode, (4, 4), 1000).save(tmp_path / "a.tif")
    with pytest.raises(OSError, match=f"cannot write mode {mode} as SDC"):
        read_photograph(tmp_path / "a.tif", "a")


def test_a_crop_is_the_middle_or_what_there_is() -> None:
    samples = np.arange(30 * 20 * 3, dtype=np.uint8).reshape(30, 20, 3)
    assert np.array_equal(crop_centre(Photograph("a", samples), 10).samples, samples[10:20, 5:15])
    assert crop_centre(Photograph("a", samples), 25).samples.shape == (25, 20, 3)


# Output


def test_json_and_csv_have_the_keys_that_others_rely_on(evaluated: Evaluation) -> None:
    document = json.loads(figures.to_json(evaluated))
    assert list(document) == [
        *("version", "pillow_sdc", "model", "device", "denoise_steps", "budget_rule", "notes"),
        *("pictures", "means", "curve"),
    ]
    rendition_keys = [
        *("codec", "label", "note", "file_bytes", "bits_per_pixel", "competes", "within_budget"),
        *("psnr", "ssim", "ms_ssim", "ssimulacra2"),
        *("texture_distance", "texture_fine", "texture_middle", "texture_coarse", "laplacian_ratio"),
    ]
    assert list(document["pictures"][0]) == ["picture", "width", "height", "budget_bytes", "renditions"]
    assert list(document["pictures"][0]["renditions"][0]) == list(document["means"][0]) == rendition_keys
    assert list(document["curve"][0])[:4] == ["codec", "label", "quality", "bits_per_pixel"]
    rows = list(csv.DictReader(io.StringIO(figures.to_csv(evaluated))))
    assert list(rows[0]) == ["picture", "width", "height", "budget_bytes", *rendition_keys]
    assert len(rows) == sum(len(picture.results) for picture in evaluated.pictures)
    assert rows[-1]["picture"] == evaluated.pictures[1].name


def test_an_infinite_psnr_is_null(evaluated: Evaluation) -> None:
    picture = evaluated.pictures[0]
    perfect = replace(picture.results[0], scores=Scores(psnr=math.inf))
    changed = replace(evaluated, pictures=(replace(picture, results=(perfect,)), picture))
    assert json.loads(figures.to_json(changed))["pictures"][0]["renditions"][0]["psnr"] is None
    assert "∞" in html.render(changed)


class _Elements(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_hostile_names_stay_text(page: str) -> None:
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "alert(1)</script>" not in page
    assert "{{ 7*7 }}" in page
    assert [tag for tag, _ in _Elements(page).tags].count("script") == 1


def test_the_page_names_nothing_outside_itself(page: str) -> None:
    for _, attributes in _Elements(page).tags:
        for name in ("src", "href", "srcset", "poster", "data", "action", "xlink:href"):
            value = attributes.get(name) or "#"
            assert value.startswith(("#", "data:")), value[:80]
    assert "url(" not in page
    assert "@import" not in page
    assert "default-src 'none'" in page


def test_the_page_is_valid(page: str) -> None:
    html5lib = pytest.importorskip("html5lib", reason="html5lib is not installed")
    parser = html5lib.HTMLParser(strict=True)
    parser.parse(page)
    ids = [attributes["id"] for _, attributes in _Elements(page).tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_pictures_on_the_page_are_exact(page: str, evaluated: Evaluation) -> None:
    import base64

    first = next(
        a["src"] for tag, a in _Elements(page).tags if tag == "img" and (a.get("src") or "").startswith("data:image")
    )
    assert first is not None
    decoded = Image.open(io.BytesIO(base64.b64decode(first.split(",", 1)[1])))
    assert np.array_equal(np.asarray(decoded.convert("RGB")), evaluated.pictures[0].shown)


def test_each_plot_has_a_curve_of_every_codec(evaluated: Evaluation) -> None:
    from pillow_sdc.report.plots import HEIGHT, WIDTH, plots_of

    plots = plots_of(evaluated)
    assert [plot.key for plot in plots] == [
        *("psnr", "texture_distance", "texture_fine", "laplacian_ratio")
    ]  # the pictures are too small for MS-SSIM and SSIMULACRA2
    for plot in plots:
        assert [curve.key for curve in plot.curves] == ["context", *(p.key for p in peers.load_peers()[0]), "palette"]
        for mark in (mark for curve in plot.curves for mark in curve.marks):
            assert 0 <= mark.x <= WIDTH
            assert 0 <= mark.y <= HEIGHT


def test_the_sheet_has_a_column_for_the_original_and_each_rendition(evaluated: Evaluation) -> None:
    picture = Image.open(io.BytesIO(sheet.draw_sheet(evaluated)))
    columns = 1 + len(evaluated.pictures[0].results)
    assert picture.format == "PNG"
    assert picture.width == columns * (sheet.LARGE_CELL + sheet.GAP) + sheet.GAP


# The command


@pytest.fixture
def run() -> Callable[[Iterable[object]], "object"]:
    app = typer.Typer()
    app.command()(compare)
    return lambda arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "photographs"
    folder.mkdir()
    Image.fromarray(photograph(48, 40)).save(folder / "<b>.png")
    (folder / "notes.txt").write_text("not a picture")
    return folder


def test_compare_writes_a_report_and_does_not_overwrite_it(run, folder: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    arguments = [folder, "-o", tmp_path / "report", "--model", "compact", "--device", "cpu", "--qualities", "none"]
    done = run([*arguments, "--quality", 30])
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == [
        *("index.html", "metrics.csv", "metrics.json", "sheet.png")
    ]
    document = json.loads((tmp_path / "report" / "metrics.json").read_text("utf-8"))
    assert [picture["picture"] for picture in document["pictures"]] == ["<b>.png"]
    assert document["curve"] == []
    assert "quality 30" in document["budget_rule"]

    again = run(arguments)
    assert again.exit_code == 1
    assert "--force" in again.stderr
    assert len(again.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--quality", 3, "--target-size", 100], "exclude each other"),
        (["--qualities", "1,x"], "whole numbers"),
        (["--qualities", "0,50"], "1 to 100"),
    ],
)
def test_compare_explains_misuse_in_one_line(  # type: ignore[no-untyped-def]
    run, folder: Path, tmp_path: Path, arguments: list[object], words: str
) -> None:
    done = run([folder, "-o", tmp_path / "report", *arguments])
    assert done.exit_code == 2
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "report").exists()


def test_compare_explains_a_failure_in_one_line(  # type: ignore[no-untyped-def]
    run, folder: Path, tmp_path: Path
) -> None:
    done = run([folder, "-o", tmp_path / "report", "--device", "nonsense", "--quiet"])
    assert done.exit_code == 1
    assert "nonsense" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_compare_goes_on_without_what_it_cannot_read(
    run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # type: ignore[no-untyped-def]
    (folder / "broken.png").write_bytes(b"nonsense")
    (folder / "own.sdc").touch()
    (folder / "film.mpg").touch()
    judged: list[str] = []

    def evaluate(photographs: list[Photograph], *arguments: object) -> None:
        judged.extend(photograph.name for photograph in photographs)
        raise ValueError("that is all")

    monkeypatch.setattr("pillow_sdc.report.evaluation.evaluate", evaluate)
    done = run([folder, "-o", tmp_path / "report"])
    assert done.exit_code == 1
    assert done.stderr.splitlines() == [
        "sdc: left out 3 files: 1 .mpg, 1 .sdc, 1 .txt",
        f"sdc: {folder}/broken.png: not a picture that Pillow can read",
        "sdc: that is all",
    ]
    assert judged == ["<b>.png"]


def test_compare_refuses_pictures_over_the_limit(
    run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("pillow_sdc.report.evaluation.evaluate", lambda photographs, *arguments: 1 / 0)
    for limit, reason in (("100", "--max-pixels"), ("none", "ZeroDivisionError")):
        done = run([folder, "-o", tmp_path / "report", "--quiet", "--max-pixels", limit])
        assert done.exit_code == 1
        assert reason in done.stderr


@pytest.mark.parametrize("name", ["missing.png", "notes.txt", "empty"])
def test_compare_names_what_it_cannot_read(run, folder: Path, tmp_path: Path, name: str) -> None:  # type: ignore[no-untyped-def]
    (folder / "empty").mkdir()
    done = run([folder / name, "-o", tmp_path / "report"])
    assert done.exit_code in (1, 2)
    assert name in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_compare_says_which_extra_is_missing(
    run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setitem(sys.modules, "pytorch_msssim", None)
    done = run([folder, "-o", tmp_path / "report"])
    assert done.exit_code == 2
    assert done.stderr.strip().endswith("install pillow-sdc[report]")
    assert len(done.stderr.splitlines()) == 1


def test_the_command_imports_nothing_heavy_before_it_runs() -> None:
    code = "import pillow_sdc.cli.compare, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "jinja2", "numpy", "pytorch_msssim"} & set(done.stdout.split())


@pytest.mark.skipif(not shutil.which("node"), reason="node is not installed")
def test_the_script_parses() -> None:
    node = shutil.which("node")
    assert node is not None
    subprocess.run([node, "--check", str(Path(html.__file__).with_name("script.js"))], check=True)


def test_a_broken_torch_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries, "_first_reasons", {})
    monkeypatch.setitem(libraries._USED, "torch", ("gone",))
    Image.fromarray(photograph()).save(tmp_path / "a.png")
    result = CliRunner().invoke(app, ["compare", str(tmp_path / "a.png"), "-o", str(tmp_path / "report")])
    assert result.exit_code == 1
    assert result.stderr.startswith("sdc: torch is installed, but importing it fails (")
    assert len(result.stderr.splitlines()) == 1
