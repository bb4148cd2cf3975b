"""The article's evaluation as data: photographs, their renditions, and the metrics of these."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import pillow_sdc
from pillow_sdc.format.codecs import ContextCodec
from pillow_sdc.models import get_models
from pillow_sdc.models.kinds import path_of

from . import metrics, ssimulacra2
from .metrics import Samples
from .peers import Peer, load_peers
from .photographs import Photograph, middle
from .renditions import PALETTE_BEFORE_DENOISING, RateTarget, Rendition, Subject

WINDOW = 1024
"""Side, in pixels, of the middle part of a picture that is shown, and on which slow metrics are computed."""


@dataclass(frozen=True)
class Scores:
    """The metrics of a picture; ``None`` where one does not apply.

    Attributes:
        psnr: Decibels; infinite for identical pictures.
        ssim: SSIM of luma.
        ms_ssim: MS-SSIM of RGB.
        ssimulacra2: At most 100; below about 30, differences are plain to see.
        texture_distance: Mean of the next three.
        texture_fine, texture_middle, texture_coarse: Sliced Wasserstein distances of the patches of three levels.
        laplacian_ratio: Energy of fine texture over the original's.
    """

    psnr: float | None = None
    ssim: float | None = None
    ms_ssim: float | None = None
    ssimulacra2: float | None = None
    texture_distance: float | None = None
    texture_fine: float | None = None
    texture_middle: float | None = None
    texture_coarse: float | None = None
    laplacian_ratio: float | None = None


@dataclass(frozen=True)
class Metric:
    """Name, number format and order of a metric.

    Attributes:
        key: The field of :class:`Scores`.
        label: Name in the middle of a sentence.
        unit: Unit, or nothing.
        form: Format of the number.
        badness: Maps a value to a number that is least for the best one.
        aim: Which values are better, in words.
    """

    key: str
    label: str
    unit: str
    form: str
    badness: Callable[[float], float]
    aim: str

    @property
    def title(self) -> str:
        """The label as a title begins."""
        return self.label[0].upper() + self.label[1:]

    @property
    def heading(self) -> str:
        """The title and the unit."""
        return f"{self.title}, {self.unit}" if self.unit else self.title

    def format(self, value: float) -> str:
        """Return a figure as it is printed."""
        return f"{value:{self.form}}".replace("inf", "∞").replace("-", "−")


def _fall(value: float) -> float:
    return -value


def _from_one(value: float) -> float:
    return abs(math.log(value)) if value > 0 else math.inf


METRICS = (
    Metric("psnr", "PSNR", "dB", ".2f", _fall, "higher"),
    Metric("ssim", "SSIM", "", ".3f", _fall, "higher"),
    Metric("ms_ssim", "MS-SSIM", "", ".3f", _fall, "higher"),
    Metric("ssimulacra2", "SSIMULACRA2", "", ".1f", _fall, "higher"),
    Metric("texture_distance", "texture distance", "", ".2f", float, "lower"),
    Metric("texture_fine", "fine texture distance", "", ".2f", float, "lower"),
    Metric("laplacian_ratio", "Laplacian ratio", "", ".2f", _from_one, "nearer 1"),
)


@dataclass(frozen=True)
class Result:
    """A rendition and its figures, or the means of several.

    Attributes:
        key, label, note: Those of the rendition.
        file_bytes: Bytes of the file.
        bits_per_pixel: 8 · bytes / (width · height).
        scores: The metrics.
        competes: Whether it is a file that someone would write.
        within_budget: Whether it has at most as many bytes as the budget.
        shown: Middle of the picture, 8-bit RGB ``(H, W, 3)``; ``None`` for means.
    """

    key: str
    label: str
    note: str
    file_bytes: float
    bits_per_pixel: float
    scores: Scores
    competes: bool
    within_budget: bool
    shown: Samples | None = None


@dataclass(frozen=True)
class PictureResults:
    """The results of a photograph.

    Attributes:
        name: The file's name.
        width, height: Size in pixels.
        budget: Bytes that competing files may take.
        shown: Middle of the original.
        results: The renditions, in the order of the columns.
    """

    name: str
    width: int
    height: int
    budget: int
    shown: Samples
    results: tuple[Result, ...]


@dataclass(frozen=True)
class CurvePoint:
    """Means over the photographs at one point of a curve of rate and distortion.

    Attributes:
        key, label: Those of the codec.
        quality: Quality of ``context``, whose bytes are the budget of the peers.
        bits_per_pixel, scores: Means.
    """

    key: str
    label: str
    quality: int
    bits_per_pixel: float
    scores: Scores


@dataclass(frozen=True)
class Evaluation:
    """The content of a report.

    Attributes:
        model, device: The model and its device; of a model in a directory or a file, only the name of that.
        denoise_steps: The setting.
        budget_rule: The budget of competing files, in words.
        pictures: Results of one or more photographs.
        means: Means over the photographs, of the renditions that all of them have.
        curve: Points of all codecs, grouped by codec.
        notes: What was left out, and why.
    """

    model: str
    device: str
    denoise_steps: int
    budget_rule: str
    pictures: tuple[PictureResults, ...]
    means: tuple[Result, ...]
    curve: tuple[CurvePoint, ...]
    notes: tuple[str, ...]


def evaluate(
    photographs: Sequence[Photograph],
    target: RateTarget,
    qualities: Sequence[int],
    begin: Callable[[str], None] = lambda what: None,
) -> Evaluation:
    """Evaluate photographs with the model of the current settings.

    Args:
        photographs: One or more photographs.
        target: Bytes or quality of the files that are compared.
        qualities: Qualities of ``context`` at the points of the curves; empty for no curves.
        begin: Called with the name of each step when it begins; :func:`count_steps` returns their number.

    Raises:
        OSError: The model is unavailable or failed.
    """
    settings = pillow_sdc.settings()
    models = get_models(settings)
    peers, notes = load_peers()
    pictures, points = [], []
    for photograph in photographs:
        begin(photograph.name)
        judge = _Judge(photograph)
        subject = Subject(photograph)
        able, failures = _able_peers(subject, peers)
        notes += failures
        pictures.append(_judge_picture(judge, subject, target, able))
        for quality in qualities:
            begin(f"{photograph.name}, quality {quality}")
            points.append(_judge_quality(judge, subject, quality, able))
    if not any(result.key == PALETTE_BEFORE_DENOISING for picture in pictures for result in picture.results):
        notes.insert(0, _why_no_denoising(models.name, settings.denoise_steps))
    return Evaluation(
        model=" with the autoencoder of ".join(_public_name(name) for name in (models.name, models.vae) if name),
        device=models.device,
        denoise_steps=settings.denoise_steps,
        budget_rule=_budget_rule(target),
        pictures=tuple(pictures),
        means=tuple(_means(pictures)),
        curve=tuple(_curve(points, qualities)),
        notes=tuple(notes),
    )


def count_steps(photographs: int, qualities: int) -> int:
    """Return the number of steps of :func:`evaluate`."""
    return photographs * (1 + qualities)


def best(results: Iterable[Result], metric: Metric) -> Result | None:
    """Return the best result by a metric, among competing files within the budget."""
    judged = [(value, result) for result in results if (value := value_of(result, metric)) is not None]
    fair = [(metric.badness(value), i) for i, (value, result) in enumerate(judged) if is_fair(result)]
    return judged[min(fair)[1]][1] if fair else None


def is_fair(result: Result) -> bool:
    """Return whether a result can be compared with others of the same picture."""
    return result.competes and result.within_budget


def is_ours(result: Result) -> bool:
    """Return whether a file is an ``.sdc`` file."""
    return result.key in ("palette", "context")


def value_of(result: Result | CurvePoint, metric: Metric) -> float | None:
    """Return the value of a metric."""
    value: float | None = getattr(result.scores, metric.key)
    return value


class _Judge:
    """Compares pictures with one original; slow computations on the original are done once."""

    def __init__(self, photograph: Photograph) -> None:
        self._original = photograph.samples
        self._middle = middle(photograph.samples, WINDOW)
        self._side = min(photograph.samples.shape[:2])
        self._patches: metrics.Projections | None = None
        if self._side >= metrics.SMALLEST_FOR_TEXTURE:
            self._patches = metrics.project_patches(self._middle)

    def scores(self, decoded: Samples) -> Scores:
        original = self._original
        texture = self._texture(middle(decoded, WINDOW))
        fine, mid, coarse = texture or (None, None, None)
        return Scores(
            psnr=metrics.psnr(original, decoded),
            ssim=metrics.structural_similarity(original, decoded) if self._side >= metrics.SMALLEST_FOR_SSIM else None,
            ms_ssim=metrics.multiscale_ssim(original, decoded) if self._side >= metrics.SMALLEST_FOR_MS_SSIM else None,
            ssimulacra2=self._ssimulacra2(middle(decoded, WINDOW)),
            texture_distance=sum(texture) / 3 if texture else None,
            texture_fine=fine,
            texture_middle=mid,
            texture_coarse=coarse,
            laplacian_ratio=metrics.laplacian_ratio(original, decoded) if metrics.has_texture(original) else None,
        )

    def _texture(self, decoded: Samples) -> tuple[float, float, float] | None:
        return metrics.distances_between(self._patches, metrics.project_patches(decoded)) if self._patches else None

    def _ssimulacra2(self, decoded: Samples) -> float | None:
        return ssimulacra2.score(self._middle, decoded) if self._side >= ssimulacra2.SMALLEST else None


def _able_peers(subject: Subject, peers: Sequence[Peer]) -> tuple[list[Peer], list[str]]:
    """Return the peers that can hold a picture at all, and a sentence for each that cannot."""
    able, notes = [], []
    for peer in peers:
        try:
            subject.check_peer(peer)
        except OSError as error:
            notes.append(f"{peer.label} is left out of {subject.photograph.name}: {error}")
        else:
            able.append(peer)
    return able, notes


def _judge_picture(judge: _Judge, subject: Subject, target: RateTarget, peers: Sequence[Peer]) -> PictureResults:
    photograph = subject.photograph
    height, width = photograph.samples.shape[:2]
    palette = list(subject.palette())
    context = subject.context(target, default_size=palette[-1].file_bytes)
    budget = context.file_bytes if target.quality is not None else target.target_size or palette[-1].file_bytes
    renditions = chain(subject.intermediates(), palette, [context], (subject.peer(peer, budget) for peer in peers))
    return PictureResults(
        name=photograph.name,
        width=width,
        height=height,
        budget=budget,
        shown=middle(photograph.samples, WINDOW),
        results=tuple(_judged(judge, rendition, budget) for rendition in renditions),
    )


def _judged(judge: _Judge, rendition: Rendition, budget: int) -> Result:
    height, width = rendition.samples.shape[:2]
    return Result(
        key=rendition.key,
        label=rendition.label,
        note=rendition.note,
        file_bytes=rendition.file_bytes,
        bits_per_pixel=8 * rendition.file_bytes / (width * height),
        scores=judge.scores(rendition.samples),
        competes=rendition.competes,
        within_budget=rendition.file_bytes <= budget,
        shown=middle(rendition.samples, WINDOW),
    )


def _judge_quality(judge: _Judge, subject: Subject, quality: int, peers: Sequence[Peer]) -> list[CurvePoint]:
    """Return a photograph's points: ``context`` at a quality, and each peer at the same bytes."""
    context = subject.context_at(quality)
    renditions = [context, *(subject.peer(peer, context.file_bytes) for peer in peers)]
    pixels = context.samples.shape[0] * context.samples.shape[1]
    return [
        CurvePoint(
            rendition.key, rendition.label, quality, 8 * rendition.file_bytes / pixels, judge.scores(rendition.samples)
        )
        for rendition in renditions
    ]


def _curve(points: Sequence[Sequence[CurvePoint]], qualities: Sequence[int]) -> Iterator[CurvePoint]:
    """Yield the means over photographs, codec by codec, of codecs that all photographs have."""
    by_codec: dict[str, dict[int, list[CurvePoint]]] = {}
    for point in chain.from_iterable(points):
        by_codec.setdefault(point.key, {quality: [] for quality in qualities})[point.quality].append(point)
    ours = by_codec.get(ContextCodec.name, {})
    for by_quality in by_codec.values():
        if any(len(by_quality[quality]) < len(ours[quality]) for quality in qualities):
            continue
        for quality, same in by_quality.items():
            rate = math.fsum(point.bits_per_pixel for point in same) / len(same)
            scores = _mean_scores([point.scores for point in same])
            yield CurvePoint(same[0].key, same[0].label, quality, rate, scores)


def _means(pictures: Sequence[PictureResults]) -> Iterator[Result]:
    """Yield the means of those renditions that all pictures have."""
    for first in pictures[0].results:
        same = [result for picture in pictures for result in picture.results if result.key == first.key]
        if len(same) < len(pictures):
            continue
        yield Result(
            key=first.key,
            label=first.label,
            note=first.note if len({result.note for result in same}) == 1 else "",
            file_bytes=math.fsum(result.file_bytes for result in same) / len(same),
            bits_per_pixel=math.fsum(result.bits_per_pixel for result in same) / len(same),
            scores=_mean_scores([result.scores for result in same]),
            competes=first.competes,
            within_budget=all(result.within_budget for result in same),
        )


def _mean_scores(all_scores: Sequence[Scores]) -> Scores:
    means = {}
    for field in dataclasses.fields(Scores):
        values = [value for scores in all_scores if (value := getattr(scores, field.name)) is not None]
        means[field.name] = math.fsum(values) / len(values) if len(values) == len(all_scores) else None
    return Scores(**means)


def _public_name(model: str) -> str:
    """Return a model's name; of a model in a directory or a file, only the name of that."""
    path = path_of(model)
    return path.resolve().name if path else model


def _budget_rule(target: RateTarget) -> str:
    if target.quality is not None:
        return f"Files compared take no more bytes than SDC context at quality {target.quality} does."
    if target.target_size is not None:
        return f"Files compared take no more than {target.target_size:,} bytes."
    return "Files compared take no more bytes than the article’s codec, SDC palette, does."


def _why_no_denoising(model: str, denoise_steps: int) -> str:
    if not denoise_steps:
        return "The palette is shown without denoising only, because denoise_steps is 0."
    if model == "compact":
        return (
            "The palette is shown once, not before and after denoising: the model compact has no denoiser of its own."
            " Its decoder is given the noise variance."
        )
    return "The palette is shown once, not before and after denoising: there was too little noise to remove."
