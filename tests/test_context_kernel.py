"""The compiled kernel: the integers of the reference in Python, whatever the picture, the stream or the processor."""

import ctypes
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernels import computing, kernels
from locations import ROOT
from random_networks import arrays

import hatch_build
from pillow_sdc.cli import doctor
from pillow_sdc.errors import CorruptFileError
from pillow_sdc.format.codecs import ContextCodec
from pillow_sdc.format.context import kernel as context_kernel
from pillow_sdc.format.context import payload as context_payload
from pillow_sdc.format.context import stream as context_stream
from pillow_sdc.format.context import trellis
from pillow_sdc.format.context.kernel import LIBRARY, Kernel
from pillow_sdc.format.context.stream import EntropyModel, SymbolPlanes

pytestmark = pytest.mark.skipif(not LIBRARY.exists(), reason="the kernel was not built")

UNITS = 96


@cache
def network(seed: int, size: float) -> dict[str, np.ndarray]:
    return arrays(seed, UNITS, size)


def picture(random: np.random.Generator, rows: int, columns: int, deviation: float, far: bool) -> np.ndarray:
    latents = random.normal(0, deviation, (4, rows, columns))
    if far:
        latents[random.random(latents.shape) < 0.1] *= 40
    return latents.clip(-32, 32)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.one_of(
        st.tuples(st.integers(1, 12), st.integers(1, 20)),
        st.sampled_from([(1, 1), (2, 40), (129, 3), (140, 5), (1, 200)]),
    ),
    step=st.one_of(st.integers(300, 16383), st.sampled_from([1, 2, 30, 16383])),
    deviation=st.sampled_from([0.0, 0.3, 1.0, 5.0]),
    far=st.booleans(),
    seed=st.integers(0, 1000),
    weighted=st.booleans(),
    along_trellis=st.booleans(),
    size=st.sampled_from([20.0, 40.0, 127.0]),
)
def test_the_kernel_does_what_the_reference_does(
    shape: tuple[int, int],
    step: int,
    deviation: float,
    far: bool,
    seed: int,
    weighted: bool,
    along_trellis: bool,
    size: float,
) -> None:
    latents = picture(np.random.default_rng(seed), *shape, deviation, far)
    codec = ContextCodec(trellis=along_trellis, weighted=weighted)
    model = EntropyModel(network(seed % 3, size), step, weighted=weighted, trellis=along_trellis)
    with computing(None):
        symbols = context_payload.quantise(latents, codec.head(step))
        stream = context_stream.write(symbols, model)
        expected, variance = context_stream.reconstruct(symbols, model)
    for kernel in kernels():
        with computing(kernel):
            np.testing.assert_array_equal(context_payload.quantise(latents, codec.head(step)).symbols, symbols.symbols)
            assert context_stream.write(symbols, model) == stream
            for found in (context_stream.reconstruct(symbols, model), context_stream.read(stream, *shape, model)):
                np.testing.assert_array_equal(found[0], expected)
                assert found[1] == variance


def outcome(stream: bytes, rows: int, columns: int, model: EntropyModel, *, whole: bool) -> object:
    read = context_stream.read if whole else context_stream.read_truncated
    try:
        latents, variance = read(stream, rows, columns, model)
    except CorruptFileError as error:
        return str(error)
    return latents.tobytes(), variance


@settings(max_examples=150, deadline=None)
@given(data=st.data(), seed=st.integers(0, 50), along_trellis=st.booleans(), whole=st.booleans())
def test_the_kernel_finds_the_same_damage(data: st.DataObject, seed: int, along_trellis: bool, whole: bool) -> None:
    rows, columns = data.draw(st.sampled_from([(6, 7), (1, 1), (131, 2)]))
    step = data.draw(st.sampled_from([300, 2000, 16383]))
    model = EntropyModel(network(0, 40.0), step, weighted=False, trellis=along_trellis)
    random = np.random.default_rng(seed)
    with computing(None):
        symbols = context_payload.quantise(
            picture(random, rows, columns, 1.0, False), ContextCodec(trellis=along_trellis).head(step)
        )
        stream = bytearray(context_stream.write(symbols, model))
    kind = data.draw(st.sampled_from(["flip", "cut", "lengthen", "random", "ones"]))
    if kind == "flip" and stream:
        stream[data.draw(st.integers(0, len(stream) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    elif kind == "cut":
        del stream[data.draw(st.integers(0, len(stream))) :]
    elif kind == "lengthen":
        stream += data.draw(st.binary(max_size=9))
    else:
        stream = bytearray(data.draw(st.binary(max_size=60)) if kind == "random" else b"\xff" * 60)
    with computing(None):
        expected = outcome(bytes(stream), rows, columns, model, whole=whole)
    for kernel in kernels():
        with computing(kernel):
            assert outcome(bytes(stream), rows, columns, model, whole=whole) == expected


def test_streams_of_symbols_with_long_escapes_find_room() -> None:
    far = np.full((4, 5, 6), 1 << 19)
    far[:, ::2] *= -1
    symbols = SymbolPlanes(far, trellis.values(far) - 2 * far)
    model = EntropyModel(network(0, 40.0), 700, weighted=False, trellis=True)
    with computing(None):
        stream = context_stream.write(symbols, model)
    assert len(stream) > 2 * far.size + 64
    for kernel in kernels():
        with computing(kernel):
            assert context_stream.write(symbols, model) == stream


def test_threads_share_a_kernel() -> None:
    kernel = Kernel()
    random = np.random.default_rng(0)
    jobs = []
    for number in range(8):
        step = 800 + 400 * number
        model = EntropyModel(network(number % 2, 40.0), step, weighted=False, trellis=True)
        with computing(None):
            symbols = context_payload.quantise(picture(random, 20, 30 - number, 1.0, False), ContextCodec().head(step))
            jobs.append((symbols, model, context_stream.write(symbols, model)))
    with computing(kernel), ThreadPoolExecutor(4) as pool:
        written = pool.map(lambda job: context_stream.write(job[0], job[1]), jobs * 5)
        assert list(written) == [stream for _, _, stream in jobs] * 5


def run(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout + done.stderr


REASON = "from pillow_sdc.format.context.kernel import selection; print(selection().reason)"


def test_the_environment_chooses() -> None:
    assert run(REASON, PILLOW_SDC_KERNEL="0").strip() == "Python, because PILLOW_SDC_KERNEL is 0"
    assert run(REASON, PILLOW_SDC_KERNEL="portable").strip() == "compiled, portable"
    assert run(REASON).strip() == f"compiled, {Kernel().paths[-1]}"


def test_an_unknown_path_leaves_the_reference_and_is_warned_of() -> None:
    said = run(REASON, PILLOW_SDC_KERNEL="x87")
    assert (
        f"PILLOW_SDC_KERNEL='x87' is not one of the paths that this processor supports: {', '.join(Kernel().paths)}"
        in said
    )
    assert said.count("the codec context runs in Python") == 1


def elsewhere(library: Path, code: str) -> str:
    """Return what Python writes where the kernel is looked for in another library."""
    return run(
        "import pathlib; from pillow_sdc.format.codecs import ContextCodec;"
        "from pillow_sdc.format.context import kernel as context_kernel;"
        f"context_kernel.LIBRARY = pathlib.Path({str(library)!r}); {code}",
        PILLOW_SDC_KERNEL="",
    )


def test_a_kernel_that_does_not_load_leaves_the_reference_and_is_warned_of_once(tmp_path: Path) -> None:
    (tmp_path / "broken").write_bytes(b"\x7fELF nothing")
    decode = f"ContextCodec.decode({ContextCodec().encode(np.ones((4, 2, 3), np.float32))!r}, 2, 3)"
    said = elsewhere(tmp_path / "broken", f"{decode}; {decode}")
    assert said.startswith(
        "the codec context runs in Python, up to 20 times as slow: the compiled kernel does not load ("
    )
    assert said.endswith("); install pillow-sdc again\n")
    assert said.count("the codec context runs in Python") == 1


def test_where_no_kernel_was_built_nothing_is_warned_of(tmp_path: Path) -> None:
    said = elsewhere(tmp_path / "absent", "print(context_kernel.selection().reason)")
    assert said == "Python: the installation found no C compiler, and has no compiled kernel\n"


@pytest.mark.parametrize(
    ("before", "after", "error", "words"),
    [
        ("VERSION = 2,", "VERSION = 3,", OSError, "has version 3, not 2"),
        ("sdc_quantise_bytes(", "sdc_quantise_size(", AttributeError, "sdc_quantise_bytes"),
    ],
)
def test_a_kernel_of_another_version_is_refused(
    tmp_path: Path, before: str, after: str, error: type[Exception], words: str
) -> None:
    compiler = hatch_build.compiler_command()
    if compiler is None:
        pytest.skip("there is no C compiler")
    source = (ROOT / "pillow_sdc" / "format" / "context" / "kernel.c").read_text("utf-8")
    assert before in source
    (tmp_path / "other.c").write_text(source.replace(before, after), "utf-8")
    assert hatch_build.compiled(tmp_path / "other.c", tmp_path / LIBRARY.name) is None
    with pytest.raises(error, match=words):
        Kernel(tmp_path / LIBRARY.name)


def test_a_network_of_other_sizes_goes_through_the_reference() -> None:
    assert Kernel().takes(network(0, 40.0))
    assert not Kernel().takes(arrays(units=8))
    symbols = context_payload.quantise(picture(np.random.default_rng(0), 5, 6, 1.0, False), ContextCodec().head(2000))
    model = EntropyModel(arrays(units=8), 2000, weighted=False, trellis=True)
    with computing(None):
        stream = context_stream.write(symbols, model)
    with computing(Kernel()):
        assert context_stream.write(symbols, model) == stream
        assert context_stream.read(stream, 5, 6, model)[1] == context_stream.reconstruct(symbols, model)[1]
        context_stream.read_truncated(stream[:9], 5, 6, model)


def test_the_doctor_says_what_computes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def line() -> str:
        context_kernel._select.cache_clear()
        doctor._Checks(debug=False).kernel()
        return " ".join(capsys.readouterr().out.split())

    monkeypatch.setenv("PILLOW_SDC_KERNEL", "portable")
    assert line() == "ok context codec compiled, portable"
    monkeypatch.setenv("PILLOW_SDC_KERNEL", "0")
    assert line() == "note context codec Python, because PILLOW_SDC_KERNEL is 0"
    monkeypatch.delenv("PILLOW_SDC_KERNEL")
    monkeypatch.setattr(context_kernel, "LIBRARY", Path(__file__))
    assert "the compiled kernel does not load" in line()
    monkeypatch.undo()
    context_kernel._select.cache_clear()


def test_the_structures_have_the_size_that_the_kernel_takes_them_to_have() -> None:
    kernel = Kernel()
    model, coder = ctypes.c_int64(), ctypes.c_int64()
    kernel._library.sdc_sizes(ctypes.byref(model), ctypes.byref(coder))
    assert (model.value, coder.value) == (
        ctypes.sizeof(context_kernel._Model),
        ctypes.sizeof(context_kernel._Coder),
    )
