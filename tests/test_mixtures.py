"""Mixtures in integers against the same in floating point."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pillow_sdc.latent_codecs import mixtures
from pillow_sdc.latent_codecs.mixtures import OUTPUT_UNIT, POSITION_UNIT, Tables

TABLES = Tables.computed()

Outputs = tuple[float, float, float, float, float]
outputs = st.tuples(
    st.floats(-7, 7), st.floats(-4, 4), st.floats(-4, 4), st.floats(np.log(0.05), 1.5), st.floats(np.log(0.05), 1.5)
)


def in_integers(values: list[Outputs]) -> mixtures.Mixtures:
    return mixtures.from_outputs(np.rint(np.array(values) / OUTPUT_UNIT).astype(np.int64), TABLES)


def below(values: Outputs, position: NDArray[np.float64]) -> NDArray[np.float64]:
    logit, *means, first, second = values
    weight = 1 / (1 + np.exp(-logit))
    parts = [1 / (1 + np.exp(-(position - m) / np.exp(s))) for m, s in zip(means, (first, second), strict=True)]
    return weight * parts[0] + (1 - weight) * parts[1]


@given(outputs)
def test_probabilities_are_those_of_the_formula(values: Outputs) -> None:
    positions = np.linspace(-6, 6, 49)
    found = mixtures.probabilities_below(
        in_integers([values]), np.rint(positions / POSITION_UNIT).astype(int)[None], TABLES
    )
    # Logits and logarithms of scales are rounded down to sixteenths, which is all that they differ by.
    np.testing.assert_allclose(found[0] / 2**24, below(values, positions), atol=0.013)


@given(st.lists(st.tuples(*[st.integers(-(2**20), 2**20)] * 5), min_size=1, max_size=5), st.integers(1, 2**14))
def test_no_symbol_is_impossible(raw: list[tuple[int, ...]], spacing: int) -> None:
    found = mixtures.from_outputs(np.array(raw), TABLES)
    edges = mixtures.middles(found)[:, None] + spacing * np.arange(-6, 7)
    starts = mixtures.cumulative_frequencies(found, edges, TABLES)
    assert starts.shape == (len(raw), 15)
    assert (starts[:, 0] == 0).all()
    assert (starts[:, -1] == 2**16).all()
    assert (np.diff(starts, axis=1) > 0).all()


def test_the_middle_is_the_mean() -> None:
    found = in_integers([(0.0, 1.0, -2.0, 0.0, 0.0), (50.0, 1.0, -2.0, 0.0, 0.0)])
    np.testing.assert_allclose(mixtures.middles(found) * POSITION_UNIT, [-0.5, 1.0], atol=0.002)


@given(outputs, st.floats(-6, 6), st.floats(0.05, 2))
def test_moments_are_those_of_the_formula(values: Outputs, lower: float, width: float) -> None:
    # What the integers stand for, so that only the summation is compared.
    found = in_integers([values])
    rounded = (
        float(np.log(found.weights[0] / (65536 - found.weights[0]))),
        *(found.means[0] * POSITION_UNIT),
        *mixtures.LOG_SCALES[found.scales[0]],
    )
    ends = np.rint(np.array([lower, lower + width]) / POSITION_UNIT).astype(int)
    mean, variance = (x[0] for x in mixtures.moments(found, ends[:1], ends[1:]))
    edges = np.linspace(*ends * POSITION_UNIT, 4001)
    masses = np.diff(below(rounded, edges))
    if masses.sum() < 1e-6:  # here the formula as it stands above has lost its digits
        return
    centres = (edges[1:] + edges[:-1]) / 2
    expected = (masses * centres).sum() / masses.sum()
    assert mean == pytest.approx(expected, abs=0.035 * width)
    assert variance == pytest.approx((masses * (centres - expected) ** 2).sum() / masses.sum(), abs=0.035 * width**2)


def test_moments_far_from_the_mean_lie_at_the_nearer_edge() -> None:
    found = in_integers([(0.0, 0.0, 0.0, -3.0, -3.0)] * 2)
    edges = np.array([[-9, -8], [8, 9]]) * round(1 / POSITION_UNIT)
    mean, variance = mixtures.moments(found, edges[:, 0], edges[:, 1])
    np.testing.assert_allclose(mean, [-8.06, 8.06], atol=0.02)
    assert (variance < 0.01).all()
