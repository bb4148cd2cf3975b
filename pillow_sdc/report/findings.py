"""The figures in plain sentences: where SDC loses and where it gains."""

from collections.abc import Sequence

from .evaluation import METRICS, Metric, Result, best, is_fair, is_ours, value_of


def losses(results: Sequence[Result]) -> list[str]:
    """Return a sentence for each format that is better by some metric than SDC is."""
    ours, others = _sides(results)
    won = _won(others, ours)
    return [f"{winner} is ahead of SDC by {_enumerated(list(metrics))}." for winner, metrics in won.items()]


def gains(results: Sequence[Result]) -> list[str]:
    """Return a sentence for each codec of SDC that is better by some metric than all other formats are."""
    ours, others = _sides(results)
    won = _won(ours, others)
    return [f"{winner} is ahead of the others by {_enumerated(list(metrics))}." for winner, metrics in won.items()]


def over_budget(results: Sequence[Result]) -> str | None:
    """Return a sentence on the files that could not be made small enough, if there are any."""
    labels = [result.label for result in results if result.competes and not result.within_budget]
    if not labels:
        return None
    return f"{_enumerated(labels)} took more bytes than allowed, and cannot be best."


def _sides(results: Sequence[Result]) -> tuple[list[Result], list[Result]]:
    fair = [result for result in results if is_fair(result)]
    return [result for result in fair if is_ours(result)], [result for result in fair if not is_ours(result)]


def _won(winning: Sequence[Result], losing: Sequence[Result]) -> dict[str, list[str]]:
    """Return by which metrics the best of one side is better than the best of the other, by its label."""
    won: dict[str, list[str]] = {}
    for metric in METRICS:
        first, second = best(winning, metric), best(losing, metric)
        if first and second and _badness(first, metric) < _badness(second, metric):
            words = f"{metric.label} ({_figure(first, metric)} against {_figure(second, metric)})"
            won.setdefault(first.label, []).append(words)
    return won


def _badness(result: Result, metric: Metric) -> float:
    value = value_of(result, metric)
    return float("inf") if value is None else metric.badness(value)


def _figure(result: Result, metric: Metric) -> str:
    value = value_of(result, metric)
    return "" if value is None else f"{metric.format(value)} {metric.unit}".strip()


def _enumerated(words: Sequence[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
