"""The context codec's stream: what the decoder reads along the wavefront is what the encoder wrote in one go."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_networks import arrays

from pillow_sdc.errors import CorruptFileError
from pillow_sdc.format.context import stream as context_stream
from pillow_sdc.format.context import trellis
from pillow_sdc.format.context.stream import STEP_UNIT, EntropyModel, SymbolPlanes


def quantised(latents: np.ndarray, step: int, *, along_trellis: bool) -> SymbolPlanes:
    if along_trellis:
        symbols = trellis.quantise(latents.astype(np.float32), step * STEP_UNIT / 2)
        return SymbolPlanes(symbols, trellis.values(symbols) - 2 * symbols)
    symbols = np.rint(latents / (step * STEP_UNIT)).astype(np.int64)
    return SymbolPlanes(symbols, np.zeros_like(symbols))


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 9),
    columns=st.integers(1, 12),
    step=st.integers(64, 32767),
    deviation=st.sampled_from([0.0, 0.3, 1.0, 5.0]),
    seed=st.integers(0, 1000),
    weighted=st.booleans(),
    along_trellis=st.booleans(),
)
def test_what_is_read_is_what_was_written(
    rows: int, columns: int, step: int, deviation: float, seed: int, weighted: bool, along_trellis: bool
) -> None:
    latents = np.random.default_rng(seed).normal(0, deviation, (4, rows, columns))
    symbols = quantised(latents, step, along_trellis=along_trellis)
    model = EntropyModel(arrays(seed % 5), step, weighted=weighted, trellis=along_trellis)
    stream = context_stream.write(symbols, model)
    found, variance = context_stream.read(stream, rows, columns, model)
    reconstructed = context_stream.reconstruct(symbols, model)
    np.testing.assert_array_equal(reconstructed[0], found)
    assert reconstructed[1] == variance
    width = step * STEP_UNIT
    middles = (symbols.symbols + symbols.odd / 2) * width
    assert np.abs(found - middles).max() <= width / 2
    assert 0 < variance < width**2 / 4


@pytest.mark.parametrize("along_trellis", [False, True])
def test_bands_see_the_rows_above_them(monkeypatch: pytest.MonkeyPatch, along_trellis: bool) -> None:
    latents = np.random.default_rng(0).normal(0, 1, (4, 14, 5))
    symbols = quantised(latents, 2000, along_trellis=along_trellis)
    model = EntropyModel(arrays(), 2000, weighted=False, trellis=along_trellis)
    whole = context_stream.read(context_stream.write(symbols, model), 14, 5, model)
    monkeypatch.setattr(context_stream, "BAND", 6)
    monkeypatch.setattr(context_stream, "_CHUNK", 7)
    stream = context_stream.write(symbols, model)
    banded = context_stream.read(stream, 14, 5, model)
    # The same network saw the same: the values agree, where within their intervals included.
    np.testing.assert_array_equal(banded[0], whole[0])


def test_symbols_far_out_are_escaped() -> None:
    latents = np.zeros((4, 3, 3))
    latents[0, 1, 1], latents[3, 2, 2] = 900.0, -900.0
    model = EntropyModel(arrays(), 300, weighted=False, trellis=False)
    symbols = quantised(latents, 300, along_trellis=False)
    found, _ = context_stream.read(context_stream.write(symbols, model), 3, 3, model)
    assert np.abs(found - latents).max() < 300 * STEP_UNIT


def test_a_damaged_stream_is_found_or_read_as_other_latents() -> None:
    latents = np.random.default_rng(0).normal(0, 1, (4, 6, 6))
    model = EntropyModel(arrays(), 2000, weighted=False, trellis=True)
    stream = context_stream.write(quantised(latents, 2000, along_trellis=True), model)
    refused = 0
    for place in range(len(stream)):
        for damaged in (stream[:place], stream[:place] + bytes([stream[place] ^ 0x10]) + stream[place + 1 :]):
            try:
                found, _ = context_stream.read(damaged, 6, 6, model)
            except CorruptFileError:
                refused += 1
            else:
                assert np.isfinite(found).all()
    assert refused


def test_no_step_s_logarithm_is_a_matter_of_its_last_bits() -> None:
    exact = 256 * np.log(np.arange(1, 65536) / context_stream.REFERENCE_STEP)
    assert np.abs(exact - np.floor(exact) - 0.5).min() > 1e-7
