"""Trellis-coded quantisation: the best way through the trellis, and what it gains."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pillow_sdc.format.context import trellis


def entropy(symbols: np.ndarray) -> float:
    shares = np.unique(symbols, return_counts=True)[1] / symbols.size
    return float(-(shares * np.log2(shares)).sum())


def test_no_other_symbols_of_a_short_row_are_nearer() -> None:
    random = np.random.default_rng(0)
    alternatives = np.array(list(itertools.product(range(-2, 3), repeat=5)))[:, None, :]
    reachable = trellis.values(alternatives)[:, 0]
    for _ in range(30):
        row = random.uniform(-3, 3, 5).astype(np.float32)
        found = trellis.values(trellis.quantise(row[None, None], 1.0))[0, 0]
        error = ((found - row) ** 2).sum()
        assert error == pytest.approx(((reachable - row) ** 2).sum(axis=1).min(), rel=1e-5)


SHAPES = st.tuples(st.just(4), st.integers(1, 6), st.integers(1, 9))


@given(hnp.arrays(np.float32, SHAPES, elements=st.floats(-9, 9, width=32)), st.floats(0.02, 3))
def test_values_are_never_further_than_two_steps_from_the_latents(latents: np.ndarray, step: float) -> None:
    symbols = trellis.quantise(latents, step)
    assert symbols.shape == latents.shape
    distances = np.abs(trellis.values(symbols) * step - latents)
    assert distances.max() <= 2 * step * (1 + 1e-6)
    assert symbols[:, :, 0] == pytest.approx(trellis.values(symbols)[:, :, 0] / 2)


def test_the_error_is_less_than_a_plain_grid_s_for_the_same_bits() -> None:
    latents = np.random.default_rng(0).standard_normal((4, 128, 128)).astype(np.float32)
    symbols = trellis.quantise(latents, 0.3)
    error = np.mean((trellis.values(symbols) * 0.3 - latents) ** 2)
    steps = np.linspace(0.4, 0.8, 41)
    plain = [np.rint(latents / step) for step in steps]
    bits = [entropy(levels) for levels in plain]
    errors = [np.mean((levels * step - latents) ** 2) for levels, step in zip(plain, steps, strict=True)]
    same_bits = np.interp(-entropy(symbols), -np.array(bits), errors)
    assert 10 * np.log10(same_bits / error) > 0.85
