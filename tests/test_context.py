"""The codec ``context``: what its options do, that it is exact, and how it fails."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import constriction
import numpy as np
import pytest
import reference_context
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from locations import ROOT
from numpy.typing import NDArray
from PIL import Image, ImageFile

import pillow_sdc
from pillow_sdc.errors import CorruptFileError, ModelUnavailableError, OptionError, UnsupportedFileError
from pillow_sdc.format import container
from pillow_sdc.format.codecs import ContextCodec, PaletteCodec
from pillow_sdc.format.context import codec as context
from pillow_sdc.format.context import payload as context_payload
from pillow_sdc.format.context import stream as context_stream
from pillow_sdc.format.context import weights as context_weights
from pillow_sdc.format.context.stream import STEP_UNIT
from pillow_sdc.format.context.weighting import from_weighted, to_weighted
from pillow_sdc.progress import UNCOUNTED, Steps
from pillow_sdc.runtime.threads import single_threaded_blas

VARIANTS = [ContextCodec(trellis=trellis, weighted=stretch) for trellis in (False, True) for stretch in (False, True)]
every_variant = pytest.mark.parametrize("codec", VARIANTS, ids=lambda c: f"trellis{c.trellis:d}-weighted{c.weighted:d}")


def waves(rows: int, columns: int, seed: int = 0, size: float = 1.0) -> NDArray[np.float32]:
    """Latents that are smooth here and rough there, as those of photographs are."""
    random = np.random.default_rng(seed)
    y, x, channel = np.arange(rows)[:, None], np.arange(columns), np.arange(4)[:, None, None]
    smooth = np.sin(0.31 * x + 0.17 * y + 1.3 * channel)
    return (size * (1.1 * smooth + random.normal(0, 0.4, (4, rows, columns)))).astype(np.float32)


def mse(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    return float(np.mean((first - second) ** 2))


@every_variant
def test_the_noise_variance_is_the_error(codec: ContextCodec) -> None:
    latents = waves(40, 40)
    for step in (1000, 2500, 5000):
        decoded = codec.decode(codec.encode_with_step(latents, step), 40, 40)
        assert decoded.noise_variance == pytest.approx(mse(decoded.latents, latents), rel=0.2)


@every_variant
@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(1, 7),
    columns=st.integers(1, 7),
    step=st.one_of(st.integers(1, 16383), st.sampled_from([1, 16383])),
    size=st.sampled_from([0.0, 1.0, 8.0, 1e30]),
    seed=st.integers(0, 99),
)
def test_the_reference_decoder_reads_the_same(
    codec: ContextCodec, rows: int, columns: int, step: int, size: float, seed: int
) -> None:
    latents = waves(rows, columns, seed, size)
    payload = codec.encode_with_step(latents, step)
    decoded = codec.decode(payload, rows, columns)
    expected, noise_variance = reference_context.decode(payload, rows, columns)
    np.testing.assert_array_equal(decoded.latents, np.array(expected).astype(np.float32))
    assert decoded.noise_variance == noise_variance
    # Half a step and, along a trellis, half a step more, on each side; twice that where it was weighted.
    clamped = latents.clip(-context_payload.MAX_LATENT, context_payload.MAX_LATENT)
    assert np.abs(decoded.latents - clamped).max() <= 2.5 * step * STEP_UNIT + 1e-5


@every_variant
def test_constriction_agrees_about_the_length(codec: ContextCodec) -> None:
    latents, step = waves(32, 32), 2500
    payload = codec.encode_with_step(latents, step)
    encoder = constriction.stream.queue.RangeEncoder()
    for start, frequency in context_stream._coded_intervals(
        context_payload.quantise(latents, codec.head(step)), context_payload.entropy_model(codec.head(step)), UNCOUNTED
    ):
        probabilities = np.array([start, frequency, 2**16 - start - frequency], np.float32) / 2**16
        encoder.encode(1, constriction.stream.model.Categorical(probabilities, perfect=True))
    assert len(payload) - 3 == pytest.approx(4 * len(encoder.get_compressed()), rel=0.005)


def test_threads_and_blas_do_not_matter() -> None:
    script = """
import hashlib, numpy, sys
from pillow_sdc.format.codecs import ContextCodec
latents = numpy.random.default_rng(0).normal(0, 1, (4, 24, 40)).astype(numpy.float32)
payload = ContextCodec().encode(latents)
decoded = ContextCodec.decode(payload, 24, 40)
print(hashlib.sha256(payload + decoded.latents.tobytes()).hexdigest(), repr(decoded.noise_variance))
"""
    said = set()
    for threads in ("1", "2"):
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
        command = [sys.executable, "-c", script]
        said.add(
            subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60).stdout
        )
    assert len(said) == 1


def logarithms_of_steps() -> NDArray[np.float64]:
    """Return the condition of the network for each step that a payload can hold, not yet rounded."""
    logarithms: NDArray[np.float64] = 256 * np.log(np.arange(1, context.LARGEST_STEP + 1) / 2457.6)
    return logarithms


def test_no_steps_logarithm_is_rounded_differently_by_different_machines() -> None:
    to_the_middle = np.abs(logarithms_of_steps() % 1 - 0.5)
    assert to_the_middle.min() > 1e-6


def test_no_sum_of_the_network_exceeds_what_float32_holds_exactly() -> None:
    for number in context_weights.CHECKSUMS:
        arrays = context_weights.network_arrays(number)
        for name in ("window", "inner0", "inner1", "last"):
            weights, bias, conditions = (
                np.abs(arrays[f"{name}.{part}"].astype(np.int64)) for part in ("weights", "bias", "conditions")
            )
            here = np.abs(arrays["here"].astype(np.int64)).sum(1) if name == "window" else 0
            logarithms = [abs(int(logarithm)) for logarithm in logarithms_of_steps().round()]
            largest = np.array([max(logarithms), max(logarithms) ** 2 // 256, 256])
            assert (127 * (weights.sum(1) + here) + bias + conditions @ largest // 256 + 1).max() < 2**24


@every_variant
def test_reconstruction_is_what_decoding_gives(codec: ContextCodec) -> None:
    latents = waves(9, 14)
    decoded = codec.decode(codec.encode_with_step(latents, 3000), 9, 14)
    reconstructed = codec.reconstruct_with_step(latents, 3000)
    np.testing.assert_array_equal(reconstructed.latents, decoded.latents)
    assert reconstructed.noise_variance == decoded.noise_variance


def test_quality_decides_the_step() -> None:
    steps = [context.step_of(quality) for quality in range(1, 101)]
    assert (steps[0], steps[-1]) == (context.COARSEST, context.FINEST)
    assert sorted(set(steps), reverse=True) == steps
    latents = waves(16, 16)
    payload = ContextCodec(quality=30).encode(latents)
    assert payload == ContextCodec().encode_with_step(latents, context.step_of(30))


def test_better_quality_takes_more_bytes_and_errs_less() -> None:
    latents = waves(24, 24)
    payloads = [ContextCodec(quality=quality).encode(latents) for quality in (10, 40, 70, 100)]
    errors = [mse(ContextCodec.decode(payload, 24, 24).latents, latents) for payload in payloads]
    assert sorted(map(len, payloads)) == list(map(len, payloads))
    assert sorted(errors, reverse=True) == errors


@pytest.mark.parametrize("quality", [0, 101, -1, 50.5, "50", None, True])
def test_a_quality_out_of_range_is_refused(quality: object) -> None:
    with pytest.raises(OptionError, match=r"quality is .*from 1 to 100"):
        ContextCodec(quality=quality)  # type: ignore[arg-type]


def flat(rows: int, columns: int) -> NDArray[np.float32]:
    """Latents of a single colour, whose bytes waver as the step grows."""
    return np.broadcast_to(np.array([1.3, 1.3, 0, 0], np.float32)[:, None, None], (4, rows, columns)).copy()


def step_in(payload: bytes) -> int:
    return int.from_bytes(payload[1:3], "little") & 0x3FFF


def lengths_of_qualities(latents: NDArray[np.float32]) -> dict[int, int]:
    with single_threaded_blas():
        return {quality: len(ContextCodec(quality=quality).encode(latents)) for quality in range(1, 101)}


@settings(max_examples=8, deadline=None, phases=[Phase.generate])
@given(st.integers(150, 3000), st.integers(0, 99))
def test_a_payload_within_a_limit_fills_it_and_never_exceeds_it(limit: int, seed: int) -> None:
    latents = waves(24, 32, seed)
    longest = ContextCodec().encode_with_step(latents, context.FINEST)
    payload = ContextCodec().encode_within(latents, limit)
    assert len(payload) <= limit
    assert len(payload) >= min(len(longest), 0.97 * limit)


@pytest.mark.parametrize("latents", [flat(1, 1), flat(4, 4), flat(9, 5), waves(1, 1), waves(2, 3), waves(7, 6)])
def test_no_quality_that_fits_is_better_than_what_is_found_for_small_pictures(latents: NDArray[np.float32]) -> None:
    lengths = lengths_of_qualities(latents)
    for limit in sorted(set(lengths.values()))[::5]:
        payload = ContextCodec().encode_within(latents, limit)
        assert len(payload) <= limit
        best = max(quality for quality, length in lengths.items() if length <= limit)
        assert step_in(payload) <= context.step_of(best)


def test_bytes_that_do_not_fall_with_the_quality_are_found() -> None:
    lengths = lengths_of_qualities(flat(4, 4))
    fewest = min(lengths.values())
    assert fewest < lengths[1] == len(ContextCodec().encode_with_step(flat(4, 4), context.LARGEST_STEP))
    assert len(ContextCodec().encode_within(flat(4, 4), fewest)) == fewest


def test_of_a_flat_picture_the_finest_of_steps_far_apart_is_found() -> None:
    latents = flat(16, 16)
    lengths = lengths_of_qualities(latents)
    fitting = [quality for quality, length in lengths.items() if length <= 18]
    assert any(lengths[quality] > 18 for quality in range(fitting[0], fitting[-1]))
    payload = ContextCodec().encode_within(latents, 18)
    assert len(payload) <= 18
    assert step_in(payload) <= context.step_of(fitting[-1])


def test_below_the_lowest_quality_bytes_go_on_falling_to_the_largest_step() -> None:
    latents = waves(32, 32)
    coarsest, largest = (
        len(ContextCodec().encode_with_step(latents, step)) for step in (context.COARSEST, context.LARGEST_STEP)
    )
    assert largest < 0.6 * coarsest
    for limit in np.linspace(largest, coarsest, 6).astype(int).tolist():
        assert 0.97 * limit < len(ContextCodec().encode_within(latents, limit)) <= limit


def test_where_nothing_fits_the_shortest_is_given() -> None:
    for latents in (waves(6, 6), flat(4, 4)):
        shortest = ContextCodec().encode_within(latents, 1)
        assert len(shortest) > 1
        assert ContextCodec().encode_within(latents, len(shortest)) == shortest
        assert len(shortest) <= len(ContextCodec().encode_with_step(latents, context.LARGEST_STEP))


@pytest.mark.parametrize(("rows", "columns", "most"), [(1, 1, 1), (16, 16, 119), (24, 24, 76), (64, 64, 25)])
def test_few_payloads_are_tried(rows: int, columns: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    encode = ContextCodec.encode_with_step

    def counted(codec: ContextCodec, latents: NDArray[np.float32], step: int, steps: Steps) -> bytes:
        tried.append(step)
        return encode(codec, latents, step, steps)

    monkeypatch.setattr(ContextCodec, "encode_with_step", counted)
    ContextCodec().encode_within(waves(rows, columns), 10 + rows * columns // 4)
    assert len(tried) <= most


def test_stretching_is_undone() -> None:
    latents = waves(9, 8).astype(np.float64)
    np.testing.assert_allclose(from_weighted(to_weighted(latents)), latents, atol=1e-12)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 300), (300, 1), (140, 33)])
def test_pictures_of_any_shape_are_read(rows: int, columns: int) -> None:
    latents = waves(rows, columns)
    decoded = ContextCodec.decode(ContextCodec(quality=60).encode(latents), rows, columns)
    assert mse(decoded.latents, latents) < 0.1


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_of_a_truncated_payload_what_arrived_is_shown(part: float) -> None:
    payload = ContextCodec(quality=50).encode(waves(24, 24))
    whole = ContextCodec.decode(payload, 24, 24)
    cut = 3 + int((len(payload) - 3) * part)
    some = ContextCodec.decode_truncated(payload[:cut], 24, 24)
    # Undone stretching mixes the channels of a place, and the last place may lack some of them.
    arrived = (some.latents == whole.latents).all(axis=0)
    assert arrived.mean() == pytest.approx(part, abs=0.12)
    assert np.abs(some.latents[:, ~arrived]).sum(axis=0).astype(bool).sum() <= 8
    assert arrived[0, : int(24 * part)].all()


def test_of_a_payload_that_is_all_there_all_is_shown() -> None:
    for codec in (ContextCodec(), PaletteCodec()):
        payload = codec.encode(waves(5, 6))
        whole, same = (
            codec.decode(payload, 5, 6),
            codec.decode_truncated(payload + bytes(9) * (codec.name == "context"), 5, 6),
        )
        np.testing.assert_array_equal(whole.latents, same.latents)
        assert whole.noise_variance == same.noise_variance


@pytest.mark.parametrize(
    ("payload", "error", "message"),
    [
        (b"", CorruptFileError, "0 bytes is too short"),
        (b"\x01\x00", CorruptFileError, "2 bytes is too short"),
        (b"\x01\x00\xc0", CorruptFileError, "step is zero"),
        (b"\x00\x00\x01", UnsupportedFileError, "context network number 0 is unknown"),
        (b"\xff\x00\x01", UnsupportedFileError, "context network number 255 is unknown"),
    ],
)
def test_a_damaged_head_is_refused(payload: bytes, error: type[OSError], message: str) -> None:
    for decode in (ContextCodec.decode, ContextCodec.decode_truncated):
        with pytest.raises(error, match=message):
            decode(payload, 2, 2)


def test_bytes_behind_the_stream_are_refused() -> None:
    payload = ContextCodec().encode(waves(3, 3))
    for more in (b"\0", b"!", bytes(8)):
        with pytest.raises(CorruptFileError, match="does not end where its symbols do"):
            ContextCodec.decode(payload + more, 3, 3)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60), st.integers(1, 4), st.integers(1, 4), st.integers(0, 3))
def test_whatever_is_read_is_finite_or_refused(stream: bytes, rows: int, columns: int, flags: int) -> None:
    payload = bytes([1, 200, flags << 6 | 3]) + stream
    try:
        decoded = ContextCodec.decode(payload, rows, columns)
    except CorruptFileError:
        return
    assert np.isfinite(decoded.latents).all()
    assert np.isfinite(decoded.noise_variance)


def test_a_network_that_was_changed_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context_weights, "FOLDER", tmp_path)
    context_weights.network_arrays.cache_clear()
    try:
        with pytest.raises(ModelUnavailableError, match=r"1\.npz is missing .*install pillow-sdc again"):
            ContextCodec().encode(waves(1, 1))
        (tmp_path / "1.npz").write_bytes(b"PK")
        with pytest.raises(ModelUnavailableError, match=r"1\.npz is damaged.*install pillow-sdc again"):
            ContextCodec().encode(waves(1, 1))
    finally:
        context_weights.network_arrays.cache_clear()


def picture(width: int = 240, height: int = 160) -> Image.Image:
    gradient = np.linspace(0, 255, height * width * 3).reshape(height, width, 3)
    return Image.fromarray(
        (gradient + np.random.default_rng(0).normal(0, 40, gradient.shape)).clip(0, 255).astype(np.uint8)
    )


def saved(**save_options: object) -> bytes:
    buffer = io.BytesIO()
    picture().save(buffer, "SDC", model="compact", device="cpu", **save_options)
    return buffer.getvalue()


def test_quality_and_target_size_choose_the_codec() -> None:
    assert pillow_sdc.info(saved()).codec == "palette"
    assert pillow_sdc.info(saved(quality=50)).codec == "context"
    assert pillow_sdc.info(saved(target_size=400)).codec == "context"
    assert pillow_sdc.info(saved(codec="context")).codec == "context"
    assert saved(codec="context") == saved(quality=context.DEFAULT_QUALITY)
    assert len(saved(quality=20)) < len(saved(quality=80))


@pytest.mark.parametrize("size", [97, 153, 154, 155, 156, 157, 400])
@pytest.mark.parametrize("exif", [b"", bytes(range(20))], ids=len)
def test_a_file_is_never_larger_than_its_target_size(size: int, exif: bytes) -> None:
    assert 0.9 * size < len(saved(target_size=size, exif=exif)) <= size


def test_a_size_that_cannot_be_met_is_refused_with_what_takes_the_room() -> None:
    random = np.random.default_rng(0)
    exif, profile = bytes(range(256)) * 3 + random.bytes(400), random.bytes(3000)
    with pytest.raises(OptionError) as caught:
        saved(target_size=2000, exif=exif, icc_profile=profile)
    message = str(caught.value)
    found = re.fullmatch(
        r"target_size of 2000 bytes cannot be met: the smallest file has (\d+) bytes \(latents (\d+), EXIF (\d+), "
        r"colour profile (\d+), header and checksums 25\); leave out the EXIF or the colour profile, "
        r"make the picture smaller, or allow (\d+) bytes",
        message,
    )
    assert found is not None, message
    smallest, latents, exif_bytes, profile_bytes, allowed = map(int, found.groups())
    assert smallest == allowed == latents + exif_bytes + profile_bytes + 25
    assert 400 < exif_bytes < len(exif)
    assert profile_bytes == len(profile) + 7  # type, two bytes of length, checksum
    assert len(saved(target_size=allowed, exif=exif, icc_profile=profile)) == allowed
    with pytest.raises(OptionError, match="cannot be met"):
        saved(target_size=allowed - 1, exif=exif, icc_profile=profile)


def test_a_size_that_the_picture_alone_exceeds_is_refused_in_the_same_way() -> None:
    with pytest.raises(
        OptionError, match=r"has (\d+) bytes \(latents \d+, header and checksums 25\); make the picture"
    ):
        saved(target_size=30)
    with pytest.raises(OptionError, match=r"alpha 8, header and checksums 25\); leave out the alpha, make the picture"):
        picture().convert("RGBA").save(io.BytesIO(), "SDC", model="compact", device="cpu", target_size=30)


def test_many_pictures_are_refused_in_the_same_way() -> None:
    with pytest.raises(pillow_sdc.BatchError, match="cannot be met: the smallest file has"):
        pillow_sdc.encode_batch([picture()], target_size=30, model="compact", device="cpu")


@pytest.mark.parametrize("size", [(8, 8), (1, 1), (40, 24), (64, 64)])
def test_target_size_is_met_wherever_a_quality_meets_it(size: tuple[int, int]) -> None:
    """Also where a better quality takes fewer bytes than a lower one."""
    image = picture(*size)

    def encode(**options: int) -> bytes:
        return pillow_sdc.encode(image, model="compact", device="cpu", **options)

    lengths = {quality: len(encode(quality=quality)) for quality in range(1, 20)}
    for quality, length in lengths.items():
        file = encode(target_size=length)
        assert len(file) <= length
        fp = io.BytesIO(file)
        payload = container.read_chunk(fp, container.read_layout(fp).payload)
        assert step_in(payload) <= context.step_of(quality)


def test_files_of_the_largest_step_are_shown_with_and_without_a_model() -> None:
    file = saved(target_size=70)
    fp = io.BytesIO(file)
    assert step_in(container.read_chunk(fp, container.read_layout(fp).payload)) > context.COARSEST
    with pillow_sdc.configure(model="compact", device="cpu"):
        shown = np.asarray(pillow_sdc.decode(file)).astype(float)
    preview = np.asarray(pillow_sdc.read_preview(file)).astype(float)
    original = np.asarray(picture()).astype(float)
    assert np.abs(shown - original).mean() < 45
    assert np.abs(preview - np.asarray(picture().reduce(8))).mean() < 45


@given(st.integers(0, 20_000))
def test_the_room_for_a_payload_is_all_used(payload_bytes: int) -> None:
    header = container.Header(512, 512, "RGB", "context")
    file_bytes = len(container.write(header, bytes(payload_bytes), {"xmp": b"xmp"}))
    envelope = container.Envelope.of(header, {"xmp": b"xmp"})
    assert envelope.payload_room(file_bytes) == payload_bytes
    assert envelope.payload_room(file_bytes - 1) < payload_bytes


@pytest.mark.parametrize(
    ("save_options", "message"),
    [
        ({"quality": 0}, "quality is 0; it must be a whole number from 1 to 100"),
        ({"quality": "high"}, "quality is 'high'"),
        ({"target_size": 0}, "target_size is 0"),
        ({"target_size": 1000.5}, "target_size is 1000.5"),
        ({"target_size": 1000, "quality": 5}, "exclude each other"),
        ({"target_size": 30}, "target_size of 30 bytes cannot be met"),
        ({"quality": 5, "codec": "palette"}, "quality is an option of the codec context, not of palette"),
        ({"target_size": 500, "codec": "uint8"}, "target_size is an option of the codec context, not of uint8"),
        ({"quality": 5, "dither": 0.5}, "not of"),
    ],
)
def test_options_that_make_no_sense_are_refused(save_options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        saved(**save_options)


@pytest.mark.parametrize("codec", ["context", "palette"])
def test_a_truncated_file_shows_what_arrived_if_pillow_is_told_to(codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file = saved(codec=codec)
    whole = np.asarray(pillow_sdc.decode(file)).astype(float)
    cut = file[: int(0.7 * len(file))]
    with pytest.raises(OSError, match="too early"):
        pillow_sdc.decode(cut)
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    np.testing.assert_array_equal(np.asarray(pillow_sdc.decode(file)), whole)
    shown = np.asarray(pillow_sdc.decode(cut)).astype(float)
    assert np.abs(shown[:8, :16] - whole[:8, :16]).mean() < 12
    assert np.abs(shown[-8:, -16:] - whole[-8:, -16:]).mean() > 25


def test_a_truncated_file_of_another_codec_says_that_it_cannot_be_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(OSError, match="uint8 cannot be shown in part"):
        pillow_sdc.decode(saved(codec="uint8")[:-30])


def test_the_documented_steps_are_those_of_the_code() -> None:
    page = (ROOT / "docs" / "rate_distortion.md").read_text("utf-8")
    rows = re.findall(r"^\| context (\d+), step ([\d.]+) \|", page, re.MULTILINE)
    assert [int(quality) for quality, _ in rows] == [5, *range(10, 91, 10), 95]
    for quality, step in rows:
        assert f"{context.step_of(int(quality)) * STEP_UNIT:.2f}" == step
