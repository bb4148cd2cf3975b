"""The training recipe from a folder of pictures to weights that the package loads, at toy size."""

import itertools
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from diffusers import AutoencoderTiny
from locations import ROOT
from PIL import Image
from safetensors.torch import load_file, save_file

from pillow_sdc.format.context.network import RIGHT_ABOVE, CodedLatents, ContextNetwork, wavefronts
from pillow_sdc.models import compact
from pillow_sdc.models.compact import CHECKSUMS, sessions
from pillow_sdc.pipeline import preview

PHOTOGRAPHS = 3


def run(module: object, *arguments: object) -> str:
    command = [sys.executable, "-m", f"training.{module}", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder of pictures of clouds, and an untrained teacher, shallow where the students need not be like it."""
    folder = tmp_path_factory.mktemp("training")
    (folder / "photographs").mkdir()
    random = np.random.default_rng(0)
    for i in range(PHOTOGRAPHS):
        samples = random.integers(0, 256, (9, 11, 3), np.uint8)
        cloud = Image.fromarray(samples).resize((259, 245), Image.Resampling.BICUBIC)
        cloud.save(folder / "photographs" / f"{i}.webp")
    torch.manual_seed(0)
    AutoencoderTiny(
        encoder_block_out_channels=(64, 64, 64, 64),
        decoder_block_out_channels=(64, 64, 64, 64),
        num_encoder_blocks=(1, 1, 3, 3),
        num_decoder_blocks=(3, 3, 3, 1),
    ).save_pretrained(folder / "teacher")
    return folder / "photographs", folder / "teacher"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of weights as ``training.export`` writes it, of networks that were not trained."""
    from training.networks import Decoder, Denoiser, Encoder

    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(1)
    for name, network in (("encoder", Encoder()), ("decoder", Decoder()), ("denoiser", Denoiser())):
        for values in network.parameters():
            if values.ndim == 4:
                torch.nn.init.kaiming_normal_(values)
        save_file(
            {part: values.half().contiguous() for part, values in network.state_dict().items()},
            folder / f"{name}.safetensors",
        )
    return folder


def test_photographs_are_read_and_the_last_held_out(data: tuple[Path, Path]) -> None:
    from training.photographs import read_photos, split

    training, held_out = split(read_photos(data[0]))
    assert (len(training), len(held_out)) == (PHOTOGRAPHS - 1, 1)
    assert {photo.shape for photo in training + held_out} == {(240, 256, 3)}
    with Image.open(data[0] / f"{PHOTOGRAPHS - 1}.webp") as last:
        np.testing.assert_array_equal(held_out[0], np.asarray(last)[:240, :256])


def test_altered_crops_are_cut_from_photographs_large_enough() -> None:
    from training.photographs import AlteredCrops

    photo = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    too_small = np.zeros((25, 120, 3), np.uint8)
    copies = AlteredCrops([too_small, photo], 8).draw(20, np.random.default_rng(0))
    assert copies.shape == (20, 64, 64, 3)
    assert len({copy.tobytes() for copy in copies}) == len(copies)
    assert copies.mean() == pytest.approx(photo.mean(), abs=20)
    assert copies.std(axis=(1, 2, 3)).min() > 20
    assert AlteredCrops([photo[:60]], 8).draw(20, np.random.default_rng(0)).shape == copies.shape  # enlarged


def test_upright_crops_stay_upright() -> None:
    from training.photographs import AlteredCrops

    falling = np.broadcast_to(np.linspace(255, 0, 90)[:, None, None], (90, 120, 3)).astype(np.uint8)
    for turned, kept in ((True, False), (False, True)):
        copies = AlteredCrops([falling], 8, turned=turned).draw(20, np.random.default_rng(0)).astype(int)
        assert bool(np.all(copies[:, :8].mean((1, 2, 3)) > copies[:, -8:].mean((1, 2, 3)))) == kept


def test_dyed_crops_have_colours_that_the_photograph_has_not() -> None:
    from training.photographs import AlteredCrops, dye

    random = np.random.default_rng(0)
    reddish = np.array([180, 90, 60], np.uint8) + random.integers(0, 10, (90, 120, 3), np.uint8)
    channels = [copy.mean((0, 1)).argmax() for copy in AlteredCrops([reddish], 8, dyed=1.0).draw(40, random)]
    assert set(channels) == {0, 1, 2}
    assert {copy.mean((0, 1)).argmax() for copy in AlteredCrops([reddish], 8).draw(40, random)} == {0}
    grey = dye(np.full((4, 4, 3), 128, np.uint8), random).astype(int)
    assert np.ptp(grey, axis=-1).max() <= 2


def test_veiled_crops_are_nearer_to_one_colour() -> None:
    from training.photographs import AlteredCrops, veil

    random = np.random.default_rng(0)
    photo = random.integers(0, 256, (90, 120, 3), np.uint8)
    spreads = [veil(photo, random).std((0, 1)).mean() for _ in range(40)]
    assert max(spreads) < photo.std((0, 1)).mean()
    assert min(spreads) < 8
    assert len({round(float(veil(photo, random).mean()) / 40) for _ in range(40)}) >= 4  # of any brightness
    plain, veiled = (AlteredCrops([photo], 8, veiled=share).draw(40, random) for share in (0.0, 1.0))
    assert veiled.std((1, 2)).mean() < 0.7 * plain.std((1, 2)).mean()


def test_grainy_crops_have_noise_of_several_strengths_and_keep_their_colour() -> None:
    from training.photographs import AlteredCrops, grain

    random = np.random.default_rng(0)
    grey = np.full((90, 90, 3), (100, 120, 140), np.uint8)
    grainy = [grain(grey, random).astype(float) for _ in range(40)]
    deviations = [copy.std((0, 1)).mean() for copy in grainy]
    assert min(deviations) < 1.5
    assert 7 < max(deviations) < 14
    for copy in grainy:
        np.testing.assert_allclose(copy.mean((0, 1)), grey[0, 0], atol=1.5)
    copies = AlteredCrops([grey], 8, grainy=0.5).draw(40, random)
    assert 8 < sum(np.ptp(copy[..., 0]) > 0 for copy in copies) < 32


def test_a_pool_replaces_old_rows_by_new_ones() -> None:
    from training.labelled import Pool

    torch.manual_seed(0)
    pool = Pool(10)
    for first in (0, 6):
        pool.add(torch.arange(first, first + 6), torch.arange(first, first + 6).float()[:, None])
    numbers, same = pool.draw(400)
    torch.testing.assert_close(numbers.float()[:, None], same)
    kept = set(numbers.tolist())
    assert len(kept) == 10
    assert set(range(6, 12)) < kept < set(range(12))
    for _ in range(20):
        pool.add(torch.arange(100, 105), torch.zeros(5, 1))
    numbers, _ = pool.draw(400)
    assert numbers.min() >= 100


def test_jobs_are_done_in_order_whoever_does_them() -> None:
    from training.workers import in_order

    for workers in (0, 2):
        squares = in_order(np.square, itertools.count(), workers)
        assert list(itertools.islice(squares, 20)) == [i * i for i in range(20)]


def test_crops_are_labelled_with_what_teacher_and_codecs_make_of_them(data: tuple[Path, Path]) -> None:
    from training.labelled import SIDE, TOGETHER, labelled_crops, labelled_photographs, noisy_batch
    from training.photographs import AlteredCrops, numbered_crops, pixels, read_photos
    from training.teacher import Teacher

    teacher, photo = Teacher(data[1], torch.device("cpu")), read_photos(data[0])[0]
    photos = AlteredCrops([photo], SIDE)
    crops, ahead = (next(labelled_crops(photos, teacher, TOGETHER, (3,), workers=workers)) for workers in (0, 1))
    for one, same in zip(crops, ahead, strict=True):
        torch.testing.assert_close(one, same, atol=0, rtol=0)
    whole, drawn = labelled_photographs([photo], teacher)[0], numbered_crops(photos, TOGETHER, (3, 0), 0)
    for labelled, shown in ((crops, drawn), (whole, photo[None])):
        np.testing.assert_array_equal(labelled.photo.numpy(), shown)
        expected = teacher.encode(pixels(shown))
        torch.testing.assert_close(labelled.latents[:, 0], expected, atol=0.02, rtol=0.02)
        errors = (labelled.latents - labelled.latents[:, :1]).square().mean((2, 3, 4))
        assert torch.all((errors == 0) == (labelled.noise_variance == 0))
        assert torch.all(errors <= 3 * labelled.noise_variance + 1e-4)
        assert not labelled.own.any()

    torch.manual_seed(0)
    repeated = (part[:1].repeat(24, *[1] * (part.ndim - 1)) for part in (crops.latents, crops.noise_variance))
    noisy, noise_variance = noisy_batch(*repeated)
    for variance, kind in zip(crops.noise_variance[0], crops.latents[0], strict=True):
        chosen = noise_variance == variance
        assert 2 < chosen.sum() < 14
        torch.testing.assert_close(noisy[chosen], kind.expand_as(noisy[chosen]), atol=0, rtol=0)


@pytest.mark.parametrize("exported", [False, True])
def test_a_share_of_the_crops_is_encoded_by_our_own_encoder(
    exported: bool, data: tuple[Path, Path], weights: Path
) -> None:
    from training.labelled import labelled_crops
    from training.networks import Encoder
    from training.photographs import AlteredCrops, pixels, read_photos
    from training.teacher import Teacher, own_encoder

    teacher, cpu = Teacher(data[1], torch.device("cpu")), torch.device("cpu")
    encode = own_encoder(cpu, weights / "encoder.safetensors" if exported else None)
    picture = torch.rand(1, 3, 16, 24)
    if exported:
        network = Encoder()
        network.load_state_dict(load_file(weights / "encoder.safetensors"))
        torch.testing.assert_close(encode(picture), network(picture), atol=0.05, rtol=0.05)
    else:
        expected = compact.CompactAutoencoder("cpu").encode(picture.numpy())
        np.testing.assert_array_equal(encode(picture).numpy(), expected)
    photos = AlteredCrops(read_photos(data[0]), 8)
    crops = labelled_crops(photos, teacher, 1, (0,), own=(0.5, encode), groups=2)
    owns = []
    for labelled in itertools.islice(crops, 12):
        encoded = (encode if labelled.own.all() else teacher.encode)(pixels(labelled.photo))
        torch.testing.assert_close(labelled.latents[:, 0], encoded, atol=0.05, rtol=0.05)
        owns.append(labelled.own.item())
    assert owns[::2] == owns[1::2]  # encoded at once
    assert set(owns) == {True, False}


def test_the_trainings_start_from_exported_weights(data: tuple[Path, Path], weights: Path, tmp_path: Path) -> None:
    start = weights / "denoiser.safetensors"
    run("train_denoiser", *data, tmp_path / "denoiser", "--steps", 1, "--learning-rate", 0, "--start", start)
    run("export", tmp_path / "denoiser", "--out", tmp_path / "weights")
    expected = load_file(start)
    for name, tensor in load_file(tmp_path / "weights" / start.name).items():
        torch.testing.assert_close(tensor, expected.pop(name), atol=0, rtol=0)
    assert not expected


def test_steps_of_muon_have_singular_values_near_one() -> None:
    from training.running import Muon, orthogonal

    generator = torch.Generator().manual_seed(0)
    for shape in ((24, 90), (90, 24)):
        update = orthogonal(torch.randn(shape, generator=generator), Muon.COEFFICIENTS, Muon.ITERATIONS)
        values = torch.linalg.svdvals(update)
        assert 0.5 < values.min() <= values.max() < 1.5
    weights = torch.nn.Parameter(torch.zeros(3, 4))
    weights.grad = torch.randn(3, 4, generator=generator)
    muon = Muon([weights], weight_decay=0)
    muon.param_groups[0]["lr"] = 0.1
    muon.step()
    assert (weights * weights.grad).sum() < 0
    assert weights.square().mean().sqrt().item() == pytest.approx(0.1 * 0.2, rel=0.3)


def test_layers_that_learn_from_each_other_have_the_same_shapes(data: tuple[Path, Path]) -> None:
    from training import features
    from training.networks import Encoder
    from training.teacher import Teacher

    torch.manual_seed(0)
    teacher, encoder = Teacher(data[1], torch.device("cpu")), Encoder()
    pixels = torch.rand(2, 3, 32, 48)
    with features.watched(teacher.encoder_layers, features.LAYERS) as theirs:
        teacher.encode(pixels)
    with features.watched(encoder.layers, features.LAYERS) as ours:
        encoder(pixels)
    encoder(pixels)  # no longer watched
    assert [one.shape for one in ours] == [one.shape for one in theirs]
    assert len(ours) == 8

    wanted = [one.bfloat16() for one in theirs]
    assert features.distance(theirs, wanted).item() < 1e-4
    assert features.distance([torch.zeros_like(one) for one in theirs], wanted).item() >= 1
    distance = features.distance(ours, wanted)
    distance.backward()
    assert distance.item() > 0.01
    assert encoder.layers[0].weight.grad.abs().max() > 0
    assert features.weight(0) > features.weight(0.5) > features.weight(0.9) == 0


def test_trained_networks_are_exported(data: tuple[Path, Path], tmp_path: Path) -> None:
    from training import networks

    names = ("encoder", "denoiser")
    for name in names:
        run(f"train_{name}", *data, tmp_path / name, "--steps", 1)
    run("train_denoiser", *data, tmp_path / "denoiser", "--steps", 2)  # goes on from the first's checkpoint
    assert len((tmp_path / "denoiser" / "log.jsonl").read_text().splitlines()) == 2
    run("export", *(tmp_path / name for name in names), "--out", tmp_path / "weights")
    assert {path.name for path in (tmp_path / "weights").iterdir()} == {f"{name}.safetensors" for name in names}
    for name, network in zip(names, (networks.Encoder(), networks.Denoiser()), strict=True):
        average = torch.load(tmp_path / name / "checkpoint.pt", weights_only=True)["average"]
        network.load_state_dict(load_file(tmp_path / "weights" / f"{name}.safetensors"))
        for part, values in network.state_dict().items():
            torch.testing.assert_close(values, average[part].half().float(), atol=0, rtol=0)


def test_networks_are_quantised_for_the_package(
    data: tuple[Path, Path], weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training.networks import Decoder, Denoiser, Encoder

    folder, again = tmp_path / "package", tmp_path / "again"
    run("quantise", *data, weights, "--out", folder)
    names = set(sessions.NETWORKS)
    assert {path.name for path in folder.iterdir()} == {CHECKSUMS, *(f"{name}.onnx" for name in names)}

    random = np.random.default_rng(1)
    with Image.open(data[0] / "0.webp") as picture:
        samples = np.asarray(picture.convert("RGB"), np.float32)[:240, :248]
    pixels = np.stack([samples[:72, :40], samples[-72:, -40:]]).transpose(0, 3, 1, 2) / 127.5 - 1
    encoder, decoder, denoiser = Encoder(), Decoder(), Denoiser()
    for name, network in (("encoder", encoder), ("decoder", decoder), ("denoiser", denoiser)):
        network.load_state_dict(load_file(weights / f"{name}.safetensors"))
    with torch.inference_mode():
        latents = encoder(torch.from_numpy(pixels))
        variance = torch.tensor([0.03, 0.1])
        noise = torch.from_numpy(random.standard_normal(latents.shape, np.float32))
        noisy = latents + variance.sqrt()[:, None, None, None] * noise
        expected = {
            "encoder": latents,
            "decoder": decoder(noisy, variance),
            "denoiser": denoiser(noisy, variance),
        }
    given = {name: {"latents": noisy.numpy(), "noise_variance": variance.numpy()} for name in names}
    given["encoder"] = {"pixels": pixels}
    monkeypatch.setattr(sessions, "WEIGHTS", folder)
    monkeypatch.setattr(sessions, "_sessions", {})
    for name, right in expected.items():
        output = sessions.run(name, "cpu", 1, given[name])
        assert output.shape == right.shape
        error = np.mean((output - right.numpy()) ** 2)
        assert error < 0.12 * right.var().item()

    for name in names:
        model = onnx.load(folder / f"{name}.onnx")
        for tensor in model.graph.initializer:
            tensor.ClearField("raw_data")
        text = model.SerializeToString()
        for path in (ROOT, sys.prefix, sys.base_prefix, tempfile.gettempdir(), ".py"):
            assert str(path).encode() not in text

    (tmp_path / "fewer").mkdir()
    for name in ("encoder", "decoder"):
        (tmp_path / "fewer" / f"{name}.safetensors").write_bytes((weights / f"{name}.safetensors").read_bytes())
    run("quantise", *data, tmp_path / "fewer", "--out", again)
    assert {path.stem for path in again.glob("*.onnx")} == {"encoder", "decoder"}
    for path in again.glob("*.onnx"):
        assert path.read_bytes() == (folder / path.name).read_bytes()


def test_the_decoder_is_distilled_unit_by_unit(data: tuple[Path, Path], tmp_path: Path) -> None:
    from training.distil_decoder import UNITS
    from training.networks import Decoder

    teacher = AutoencoderTiny.from_pretrained(data[1]).decoder
    student = Decoder()
    assert sum(UNITS, ()) == tuple(range(len(teacher.layers))) == tuple(range(len(student.layers)))
    theirs = ours = torch.zeros(1, 4, 2, 3)
    for unit in UNITS:
        for i in unit:
            theirs, ours = teacher.layers[i](theirs), student.layers[i](ours)
        assert ours.shape == theirs.shape
    assert student(torch.zeros(1, 4, 2, 3), torch.zeros(1)).shape == (1, 3, 16, 24)

    run("distil_decoder", *data, tmp_path / "decoder", "--steps", 2, "--side", 4, "--crops", 1)
    logged = json.loads((tmp_path / "decoder" / "log.jsonl").read_text())
    assert {"units", "picture", "clean", "palette", "context"} <= logged.keys()


def test_a_unit_that_is_the_teachers_has_no_error() -> None:
    from training.distil_decoder import relative_error

    before, added = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 8, 8)
    assert relative_error(before + added, before + added, before) == 0
    assert relative_error(before, before + added, before) == pytest.approx(1, rel=0.1)
    assert relative_error(torch.zeros_like(added), 5 * added) == pytest.approx(1, rel=0.1)


def test_the_distilled_decoder_is_tuned_towards_the_photograph(data: tuple[Path, Path], tmp_path: Path) -> None:
    small = "--steps", 1, "--side", 4, "--crops", 1, "--learning-rate", 0
    run("distil_decoder", *data, tmp_path / "decoder", *small)
    run("export", tmp_path / "decoder", "--out", tmp_path)
    start = "--start", tmp_path / "decoder.safetensors"
    logged = {}
    for name, weights in (("both", (1, 1)), ("close", (1, 0)), ("contrasty", (0, 1))):
        options = "--closeness", *[weights[0]] * 5, "--contrast", *[weights[1]] * 3
        run("tune_decoder", *data, tmp_path / name, *small, *start, *options)
        logged[name] = json.loads((tmp_path / name / "log.jsonl").read_text())
    assert (logged["close"]["contrast"], logged["contrasty"]["closeness"]) == (0, 0)
    assert logged["both"]["closeness"] == logged["close"]["closeness"] > 0
    assert logged["both"]["contrast"] == logged["contrasty"]["contrast"] > 0


def test_layers_that_paint_stand_still(data: tuple[Path, Path], tmp_path: Path) -> None:
    small = "--steps", 2, "--side", 4, "--crops", 1
    run("distil_decoder", *data, tmp_path / "decoder", *small)
    run("export", tmp_path / "decoder", "--out", tmp_path)
    start = tmp_path / "decoder.safetensors"
    run("tune_decoder", *data, tmp_path / "tuned", *small, "--start", start, "--trained", 3)
    run("export", tmp_path / "tuned", "--out", tmp_path)
    before, after = load_file(start), load_file(tmp_path / "tuned.safetensors")
    changed = {name.rpartition(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert {"layers.0", "layers.2.first", "cleaning.5"} <= changed
    assert not any(name.startswith("layers.") and int(name.split(".")[1]) >= 3 for name in changed)


def test_pictures_as_sharp_as_their_originals_have_no_contrast_distance() -> None:
    from training.losses import contrast_distance, laplacian_pyramid

    original = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    distances = [
        contrast_distance(laplacian_pyramid(other), laplacian_pyramid(original), (1.0, 0.5)).item()
        for other in (original, original.roll((8, 16), (2, 3)), 0.5 * original)
    ]
    assert distances[0] == 0
    assert distances[1] < distances[2]
    pyramids = laplacian_pyramid(0.5 * original), laplacian_pyramid(original)
    fine, coarse, both = (contrast_distance(*pyramids, weights).item() for weights in ((1.0,), (0.0, 1.0), (1.0, 0.5)))
    assert coarse > 0
    assert both == pytest.approx(fine + coarse / 2)


RECIPE = """
[encoder]
module = "train_encoder"
seed = 1
steps = 1
[distilled]
module = "distil_decoder"
encoder = "encoder"
steps = 1
side = 4
crops = 1
[decoder]
module = "tune_decoder"
start = "distilled"
encoder = "encoder"
steps = 1
side = 4
crops = 1
contrast = [0.0, 1.0, 1.0]
[denoiser]
module = "train_denoiser"
steps = 1
"""


def test_a_recipe_is_followed_from_photographs_to_the_package(
    data: tuple[Path, Path], weights: Path, tmp_path: Path
) -> None:
    recipe, runs, out = tmp_path / "recipe.toml", tmp_path / "runs", tmp_path / "package"
    recipe.write_text(RECIPE)
    photographs = tmp_path / "photographs"
    shutil.copytree(data[0], photographs)
    lines = "file repository path licence", "0.webp a/b 0.webp CC0", "1.webp a/b 1.webp CC0", "2.webp c/d 2.webp MIT"
    (photographs / "SOURCES.tsv").write_text("".join(f"{line}\n".replace(" ", "\t") for line in lines))
    given = "--given", f"denoiser={weights / 'denoiser.safetensors'}"
    command = "reproduce", photographs, data[1], "--runs", runs, "--recipe", recipe, "--out", out, *given
    assert "distilled: 1 steps" in run(*command)
    names = {"encoder", "distilled", "decoder", "denoiser"}
    assert {path.stem for path in (runs / "weights").iterdir()} == names
    assert {path.stem for path in out.glob("*.onnx")} == set(sessions.NETWORKS)
    kept = load_file(runs / "weights" / "denoiser.safetensors")
    assert all(torch.equal(kept[part], values) for part, values in load_file(weights / "denoiser.safetensors").items())
    record = json.loads((runs / "record.json").read_text())
    assert record["photographs"] == {"count": 3, "sources": [["a/b", "CC0", 2], ["c/d", "MIT", 1]]}
    assert record["stages"]["denoiser"] is None
    assert {"step", "closeness", "clean", "hours"} <= record["stages"]["decoder"].keys()

    networks = {path.name: path.read_bytes() for path in out.glob("*.onnx")}
    assert "steps" not in run(*command)  # all is done already
    assert {path.name: path.read_bytes() for path in out.glob("*.onnx")} == networks


def test_a_recipe_ends_where_a_stage_fails(data: tuple[Path, Path], tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.replace("seed = 1", 'learning-rate = "much"'))
    failures: list[tuple[list[str], str]] = [
        ([], r"train_encoder .* failed; see .*output\.log"),
        (["--given", "x=y"], "'x=y' is not STAGE="),
    ]
    for words, reason in failures:
        options = ["--runs", tmp_path / "runs", "--recipe", recipe, "--out", tmp_path / "package", *words]
        command = [sys.executable, "-m", "training.reproduce", *map(str, [*data, *options])]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode != 0
        assert re.search(reason, done.stderr)
    assert not (tmp_path / "package").exists()
    assert "invalid float value: 'much'" in (tmp_path / "runs" / "encoder" / "output.log").read_text()


def test_the_model_card_is_made_of_recipe_record_and_text() -> None:
    from training.card import CARD, card

    assert card() == CARD.read_text(encoding="utf-8"), "run python -m training.card"


def test_the_context_network_sees_only_what_was_coded_before() -> None:
    from training.context_model import ContextModel

    network = ContextModel(hidden=8)
    values = torch.randn(1, 4, 12, 12, generator=torch.Generator().manual_seed(0))
    changed = values.clone()
    changed[0, 2, 6, 6] += 0.5
    inputs = torch.tensor([0.5]), torch.zeros(1)
    difference = (network(changed, *inputs) - network(values, *inputs))[0].abs().sum(1)
    touched = {tuple(place) for place in difference.nonzero().tolist()}
    assert touched
    for channel, row, column in touched:
        later_here = (row, column) == (6, 6) and channel > 2
        assert later_here or 3 * row + column > 3 * 6 + 6
        assert row != 7 or column >= 6 - RIGHT_ABOVE


def test_the_context_network_in_integers_is_the_one_that_was_trained() -> None:
    from training.context_model import REFERENCE_STEP, ContextModel

    torch.manual_seed(0)
    network = ContextModel(hidden=16)
    for parameter in network.parameters():
        parameter.data = torch.randn_like(parameter) * 0.3
    values = (torch.randn(1, 4, 9, 13) * 32).round() / 32
    for step, weighted in ((0.3, False), (0.6, True), (1.1, True)):
        inputs = torch.tensor([step]), torch.tensor([weighted])
        expected = network(values, *inputs)[0].permute(0, 2, 3, 1).detach().numpy() * 1024
        frozen = ContextNetwork(network.frozen(), round(np.log(step / REFERENCE_STEP) * 256), weighted=weighted)
        seen = CodedLatents(9, 13)
        for ys, xs in wavefronts(9, 13):
            sums = frozen.window_sums(seen.windows(ys, xs))
            for channel in range(4):
                outputs = frozen.outputs(channel, sums[:, channel], seen.at(ys, xs))
                np.testing.assert_array_equal(outputs, expected[channel, ys, xs])
                seen.put(channel, ys, xs, values[0, channel, ys, xs].double().numpy())


def test_the_context_network_s_bits_are_those_of_its_mixture() -> None:
    from training.context_model import bits

    # A single logistic distribution of scale 0.5 around 0.3, whose bins of width 0.4 have known probabilities.
    mixtures = torch.tensor([50.0, 0.3, 0.0, np.log(0.5), 0.0])[:, None, None].expand(1, 4, 5, 1, 1)
    values = torch.tensor([-0.4, 0.0, 0.4, 2.4])[None, :, None, None]
    expected = []
    for value in (-0.4, 0.0, 0.4, 2.4):
        upper, lower = (1 / (1 + np.exp(-(value + side * 0.2 - 0.3) / 0.5)) for side in (1, -1))
        expected.append(-np.log2(upper - lower))
    np.testing.assert_allclose(bits(mixtures, values, torch.tensor([0.4])).flatten(), expected, rtol=1e-4)


def test_the_context_network_is_trained(data: tuple[Path, Path], tmp_path: Path) -> None:
    run("train_context", *data, tmp_path / "context", "--steps", 2)
    last = json.loads((tmp_path / "context" / "log.jsonl").read_text().splitlines()[-1])
    assert last["bits_at_0.35"] > last["bits_at_1.0"] > 0
    assert last["order_0_bits_at_0.35"] >= last["order_0_bits_at_1.0"]


def test_the_preview_is_fitted(data: tuple[Path, Path]) -> None:
    printed = run("fit_preview", *data)
    assert printed.count("[") == 1 + len(preview.WEIGHTS)
    assert len(re.findall(r"held out, .*: -?\d+\.\d\d dB from quarters", printed)) == 4
