"""The range coder: it gives back what went in, costs the entropy, and notices what it did not write."""

import bisect
import math
from itertools import accumulate, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillow_sdc.errors import CorruptFileError
from pillow_sdc.format.context import range_coder

TOTAL = 1 << range_coder.PRECISION

Coded = tuple[list[int], int]
"""Frequencies of all symbols, and the symbol that comes."""


@st.composite
def distributions(draw: st.DrawFn) -> Coded:
    """A distribution, often a lopsided one, and one of its symbols."""
    cuts = draw(
        st.sets(st.one_of(st.integers(1, TOTAL - 1), st.sampled_from([1, 2, TOTAL - 2, TOTAL - 1])), max_size=6)
    )
    bounds = [0, *sorted(cuts), TOTAL]
    frequencies = [b - a for a, b in pairwise(bounds)]
    return frequencies, draw(st.integers(0, len(frequencies) - 1))


def encode(coded: list[Coded]) -> bytes:
    return range_coder.encode((sum(frequencies[:symbol]), frequencies[symbol]) for frequencies, symbol in coded)


def decode(stream: bytes, distributions: list[list[int]]) -> list[int]:
    decoder = range_coder.Decoder(stream)
    symbols = []
    for frequencies in distributions:
        starts = [0, *accumulate(frequencies)]
        symbol = bisect.bisect_right(starts, decoder.target()) - 1
        decoder.consume(starts[symbol], frequencies[symbol])
        symbols.append(symbol)
    decoder.check_end()
    return symbols


@given(st.lists(distributions(), max_size=200))
def test_symbols_come_back(coded: list[Coded]) -> None:
    assert decode(encode(coded), [frequencies for frequencies, _ in coded]) == [symbol for _, symbol in coded]


@given(st.lists(distributions(), max_size=200))
def test_the_stream_is_as_long_as_the_symbols_information_and_at_most_a_byte_more(coded: list[Coded]) -> None:
    bits = sum(-math.log2(frequencies[symbol] / TOTAL) for frequencies, symbol in coded)
    assert len(encode(coded)) <= bits / 8 + 1.001


def test_carries_propagate_through_bytes_already_written() -> None:
    # Always taking the upper half writes bytes of ones, through which the last symbol carries or does not.
    ascending: list[Coded] = [([1, TOTAL - 1], 1)] * 3 + [([TOTAL // 2, TOTAL // 2], 1)] * 400
    for last in (0, 1):
        coded: list[Coded] = [*ascending, ([TOTAL - 1, 1], last), ([TOTAL - 1, 1], last)]
        assert decode(encode(coded), [frequencies for frequencies, _ in coded]) == [symbol for _, symbol in coded]


def test_nothing_costs_nothing() -> None:
    assert encode([]) == b""
    assert encode([([TOTAL], 0)] * 1000) == b""
    assert encode([([TOTAL - 1, 1], 0)] * 1000) == b""


@given(st.lists(distributions(), min_size=1, max_size=60), st.binary(min_size=1, max_size=3))
def test_bytes_behind_the_end_are_noticed_unless_they_make_a_stream_of_other_symbols(
    coded: list[Coded], more: bytes
) -> None:
    stream, alphabets = encode(coded) + more, [frequencies for frequencies, _ in coded]
    try:
        others = decode(stream, alphabets)
    except CorruptFileError:
        return
    assert others != [symbol for _, symbol in coded]
    assert encode(list(zip(alphabets, others, strict=True))) == stream


@given(st.binary(max_size=40), st.lists(distributions(), max_size=100))
def test_any_stream_is_either_refused_or_the_one_that_its_symbols_have(stream: bytes, coded: list[Coded]) -> None:
    distributions = [frequencies for frequencies, _ in coded]
    try:
        symbols = decode(stream, distributions)
    except CorruptFileError:
        return
    assert encode(list(zip(distributions, symbols, strict=True))) == stream


def test_real_distributions_cost_their_entropy() -> None:
    random = np.random.default_rng(0)
    frequencies = np.maximum(1, np.round(np.exp(-0.5 * ((np.arange(31) - 15) / 3) ** 2) * 8000)).astype(int)
    frequencies[15] += TOTAL - frequencies.sum()
    probabilities = frequencies / TOTAL
    symbols = random.choice(31, 20_000, p=probabilities)
    coded = [(frequencies.tolist(), int(symbol)) for symbol in symbols]
    ideal = -np.log2(probabilities[symbols]).sum() / 8
    assert len(encode(coded)) == pytest.approx(ideal, rel=2e-4)
