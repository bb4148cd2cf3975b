"""Curves of rate and distortion as small SVG drawings that take their colours and fonts from the page."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .evaluation import METRICS, CurvePoint, Evaluation, Metric, Result, value_of

PLOTTED = ("psnr", "ms_ssim", "ssimulacra2", "texture_distance", "texture_fine", "laplacian_ratio")
"""Keys of the metrics that have a plot."""

WIDTH, HEIGHT = 380, 270
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 14, 40
"""Margins around the axes."""


@dataclass(frozen=True)
class Mark:
    """A point of a curve, in the drawing's units, and its tooltip."""

    x: float
    y: float
    title: str


@dataclass(frozen=True)
class Curve:
    """A codec's points, joined in the order of their rates."""

    key: str
    label: str
    marks: tuple[Mark, ...]

    @property
    def path(self) -> str:
        """The line through the points, as SVG's ``points`` want it."""
        return " ".join(f"{mark.x:.1f},{mark.y:.1f}" for mark in self.marks)


@dataclass(frozen=True)
class Tick:
    """A place on an axis, in the drawing's units, and its number."""

    place: float
    text: str


@dataclass(frozen=True)
class Plot:
    """One metric over the rate; the template draws it."""

    key: str
    title: str
    aim: str
    curves: tuple[Curve, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


def plots_of(evaluation: Evaluation) -> list[Plot]:
    """Return a plot for each of :data:`PLOTTED` that there are figures of."""
    metrics = [metric for metric in METRICS if metric.key in PLOTTED]
    plots = [_plot(evaluation, metric) for metric in metrics]
    return [plot for plot in plots if plot is not None]


def _plot(evaluation: Evaluation, metric: Metric) -> Plot | None:
    points = [point for point in evaluation.curve if _is_drawable(value_of(point, metric))]
    if not points:
        return None
    single: list[Result | CurvePoint] = [
        result for result in evaluation.means if result.key == "palette" and _is_drawable(value_of(result, metric))
    ]
    values = [value for point in (*points, *single) if (value := value_of(point, metric)) is not None]
    rates = [point.bits_per_pixel for point in (*points, *single)]
    low, high, y_numbers = _linear_axis(min(values), max(values))
    first, last, x_numbers = _logarithmic_axis(min(rates), max(rates))

    def x_of(rate: float) -> float:
        fraction = math.log(rate / first) / math.log(last / first)
        return LEFT + fraction * (WIDTH - LEFT - RIGHT)

    def y_of(value: float) -> float:
        return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - BOTTOM - TOP)

    def curve_of(key: str, same: Sequence[Result | CurvePoint]) -> Curve:
        marks = []
        for point in sorted(same, key=lambda point: point.bits_per_pixel):
            value = value_of(point, metric) or 0.0
            title = f"{point.label}: {point.bits_per_pixel:.3f} bpp, {metric.format(value)} {metric.unit}".strip()
            marks.append(Mark(x_of(point.bits_per_pixel), y_of(value), title))
        return Curve(key, same[0].label, tuple(marks))

    keys = list(dict.fromkeys(point.key for point in points))
    curves = [curve_of(key, [point for point in points if point.key == key]) for key in keys]
    curves += [curve_of("palette", [point]) for point in single]
    return Plot(
        key=metric.key,
        title=metric.heading,
        aim=f"{metric.aim} is better",
        curves=tuple(curves),
        x_ticks=tuple(Tick(x_of(number), f"{number:g}") for number in x_numbers),
        y_ticks=tuple(Tick(y_of(number), f"{number:g}".replace("-", "−")) for number in y_numbers),
    )


def _is_drawable(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _linear_axis(low: float, high: float) -> tuple[float, float, list[float]]:
    """Return both ends and the numbers of an axis; the ends are among the numbers."""
    span = (high - low) or abs(high) or 1.0
    rough = span / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    first, last = math.floor(low / step), math.ceil(high / step)
    if first == last:
        last += 1
    numbers = [round(number * step, 10) for number in range(first, last + 1)]
    return numbers[0], numbers[-1], numbers


def _logarithmic_axis(low: float, high: float) -> tuple[float, float, list[float]]:
    """Return both ends of an axis and its numbers, powers of ten times 1, 2 and 5."""
    first, last = low / 1.15, high * 1.15
    powers = range(math.floor(math.log10(first)), math.ceil(math.log10(last)) + 1)
    numbers = [round(factor * 10.0**power, 10) for power in powers for factor in (1, 2, 5)]
    return first, last, [number for number in numbers if first <= number <= last]
