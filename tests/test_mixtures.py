"""Mixtures in integers against the same in floating point."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pillow_sdc.format.context import mixtures
from pillow_sdc.format.context.mixtures import OUTPUT_UNIT, POSITION_UNIT

Outputs = tuple[float, float, float, float, float]
outputs = st.tuples(
    st.floats(-7, 7), st.floats(-4, 4), st.floats(-4, 4), st.floats(np.log(0.05), 1.5), st.floats(np.log(0.05), 1.5)
)


def in_integers(values: list[Outputs]) -> mixtures.Mixtures:
    return mixtures.from_outputs(np.rint(np.array(values) / OUTPUT_UNIT).astype(np.int64))


def below(values: Outputs, position: NDArray[np.float64]) -> NDArray[np.float64]:
    logit, *means, first, second = values
    weight = 1 / (1 + np.exp(-logit))
    parts = [1 / (1 + np.exp(-(position - m) / np.exp(s))) for m, s in zip(means, (first, second), strict=True)]
    return weight * parts[0] + (1 - weight) * parts[1]


@given(outputs)
def test_probabilities_are_those_of_the_formula(values: Outputs) -> None:
    positions = np.linspace(-6, 6, 49)
    found = mixtures.cdf(in_integers([values]), np.rint(positions / POSITION_UNIT).astype(int)[None])
    # Logits and logarithms of scales are rounded down to sixteenths, which is all that they differ by.
    np.testing.assert_allclose(found[0] / 2**24, below(values, positions), atol=0.013)


@given(st.lists(st.tuples(*[st.integers(-(2**20), 2**20)] * 5), min_size=1, max_size=5), st.integers(1, 2**14))
def test_no_symbol_is_impossible(raw: list[tuple[int, ...]], spacing: int) -> None:
    found = mixtures.from_outputs(np.array(raw))
    edges = mixtures.mixture_means(found)[:, None] + spacing * np.arange(-6, 7)
    starts = mixtures.cumulative_frequencies(found, edges, np.arange(1, 14), 14)
    assert starts.shape == (len(raw), 13)
    assert (np.diff(starts, axis=1, prepend=0, append=2**16) > 0).all()


def test_the_middle_is_the_mean() -> None:
    found = in_integers([(0.0, 1.0, -2.0, 0.0, 0.0), (50.0, 1.0, -2.0, 0.0, 0.0)])
    np.testing.assert_allclose(mixtures.mixture_means(found) * POSITION_UNIT, [-0.5, 1.0], atol=0.002)


@given(outputs, st.integers(-6 * 8192, 6 * 8192), st.integers(512, 16384))
def test_centroids_are_those_of_the_formula(values: Outputs, lower: int, width: int) -> None:
    # What the integers stand for, so that only the summation is compared.
    found = in_integers([values])
    rounded = (
        float(np.log(found.weights[0] / (65536 - found.weights[0]))),
        *(found.means[0] * POSITION_UNIT),
        *mixtures.LOG_SCALES[found.scales[0]],
    )
    mean, variance = (x[0] for x in mixtures.centroids(found, np.array([lower]), width))
    edges = np.linspace(lower, lower + width, 4001) * POSITION_UNIT
    masses = np.diff(below(rounded, edges))
    if masses.sum() < 3e-5 or np.exp(max(rounded[3:])) > 2 * width * POSITION_UNIT:
        return  # here the table's last digit is a good part of a mass, or its resolution one of the width
    centres = (edges[1:] + edges[:-1]) / 2
    expected = (masses * centres).sum() / masses.sum()
    assert mean == pytest.approx(expected, abs=0.05 * width * POSITION_UNIT)
    spread = (masses * (centres - expected) ** 2).sum() / masses.sum()
    assert variance == pytest.approx(spread, abs=0.05 * (width * POSITION_UNIT) ** 2)


def test_centroids_far_out_lie_in_the_middle() -> None:
    found = in_integers([(0.0, 0.0, 0.0, -3.0, -3.0)] * 2)
    mean, variance = mixtures.centroids(found, np.array([-9, 8]) * 8192, 8192)
    np.testing.assert_allclose(mean, [-8.5, 8.5])
    np.testing.assert_allclose(variance, 1 / 12)


def test_no_entry_of_a_table_is_a_matter_of_its_last_bits() -> None:
    def logistic(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return 1 / (1 + np.exp(-x))

    for table, exact in (
        (mixtures.MIXTURE_WEIGHTS, logistic(mixtures.LOGITS) * 2**16),
        (mixtures.INVERSE_SCALES, POSITION_UNIT * 256 * 2**20 * np.exp(-mixtures.LOG_SCALES)),
        (mixtures.LOGISTIC_CDF, logistic(mixtures.STANDARD_DEVIATES) * 2**24),
    ):
        np.testing.assert_array_equal(table, np.rint(exact))
        to_middle = np.abs(exact - np.floor(exact) - 0.5)
        assert (to_middle > 1e-13 * exact).all()
        assert (to_middle[exact != np.rint(exact)] / exact[exact != np.rint(exact)]).min() > 1e-12
