"""Where parts of models are found: in directories, in the hub's cache, and on a hub that may fail.

Only the names of files matter here, so the repositories hold random bytes.
"""

import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_stand_in import HubStandIn, run_against, running_hub

from pillow_sdc.errors import ModelUnavailableError
from pillow_sdc.models import hub
from pillow_sdc.models.hub import Precision

SMALL_FILES = [
    "model_index.json",
    "README.md",
    "feature_extractor/preprocessor_config.json",
    "safety_checker/config.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "tokenizer/merges.txt",
    "tokenizer/special_tokens_map.json",
    "tokenizer/tokenizer_config.json",
    "tokenizer/vocab.json",
    "unet/config.json",
    "vae/config.json",
]
FULL = [
    "safety_checker/model.safetensors",
    "text_encoder/model.safetensors",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
]
HALF = [name.replace(".safetensors", ".fp16.safetensors") for name in FULL]
PICKLED = [name.replace(".safetensors", ".bin") for name in FULL] + ["sd-v1-4.ckpt"]

# Prints, for each line of a test's script, the value of an expression or the error's message and the causes' names.
REPORT = """
import json
from pillow_sdc.errors import ModelUnavailableError
from pillow_sdc.models import hub
from pillow_sdc.models.hub import Precision

def report(act):
    try:
        return act()
    except ModelUnavailableError as error:
        return {"error": str(error), "cause": type(error.__cause__).__name__}

def locate(model, part, precision):
    found = hub.locate(model, part, precision)
    return {"variant": found.variant, "files": [str(file) for file in found.files]}

"""


def ask(hub_url: str, home: Path, *expressions: str, **environment: str) -> list[dict[str, str]]:
    lines = [f"print(json.dumps(report(lambda: {expression})))" for expression in expressions]
    return [
        json.loads(line) for line in run_against(hub_url, home, REPORT + "\n".join(lines), **environment).splitlines()
    ]


def save_repository(directory: Path, names: list[str]) -> Path:
    for name in names:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(random.Random(name).randbytes(100_000))
    return directory


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[HubStandIn]:
    with running_hub() as running:
        running.repositories["artist/both"] = save_repository(tmp_path / "both", SMALL_FILES + FULL + HALF + PICKLED)
        yield running


def assert_helpful(message: str, model: str) -> None:
    assert repr(model) in message
    assert "pillow_sdc.configure(model=...)" in message
    assert "PILLOW_SDC_MODEL" in message
    assert "sdc models fetch" in message
    assert "\n" not in message


def test_each_part_is_downloaded_when_it_is_first_asked_for(stand_in: HubStandIn, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (vae,) = ask(stand_in.url, home, "locate('artist/both', 'vae', Precision.HALF)")
    assert vae["variant"] == "fp16"
    downloaded = {"model_index.json", "vae/config.json", "vae/diffusion_pytorch_model.fp16.safetensors"}
    assert stand_in.downloads() == downloaded

    stand_in.requests.clear()
    same, full, is_pipeline, missing = ask(
        stand_in.url,
        home,
        "locate('artist/both', 'vae', Precision.HALF)",
        "locate('artist/both', 'vae', Precision.FULL)",
        "hub.is_pipeline('artist/both')",
        "hub.find('artist/both', 'unet', Precision.FULL)",
    )
    assert stand_in.requests == []
    assert same == full == vae
    assert is_pipeline is True
    assert missing is None

    ask(stand_in.url, home, "locate('artist/both', 'tokenizer', Precision.FULL)")
    assert stand_in.downloads() == {name for name in SMALL_FILES if name.startswith("tokenizer/")}


def test_fetching_brings_what_a_round_trip_needs_and_works_offline_from_then_on(
    stand_in: HubStandIn, tmp_path: Path
) -> None:
    (root,) = ask(stand_in.url, tmp_path / "home", "str(hub.fetch('artist/both', Precision.FULL))")
    unneeded = ("README", "feature_extractor", "safety_checker")
    assert stand_in.downloads() == {name for name in SMALL_FILES + FULL if not name.startswith(unneeded)}
    stand_in.requests.clear()
    again, *parts = ask(
        stand_in.url,
        tmp_path / "home",
        "str(hub.fetch('artist/both', Precision.FULL))",
        *(f"locate('artist/both', '{part}', Precision.HALF)" for part in hub.PARTS),
    )
    assert stand_in.requests == []
    assert again == root
    assert {part["variant"] for part in parts} == {None}


def test_the_cache_serves_when_the_hub_is_gone_and_its_absence_is_explained(tmp_path: Path) -> None:
    with running_hub() as stand_in:
        stand_in.repositories["artist/full"] = save_repository(tmp_path / "full", SMALL_FILES + FULL)
        (before,) = ask(stand_in.url, tmp_path / "home", "locate('artist/full', 'vae', Precision.HALF)")
    assert before["variant"] is None
    after, unet = ask(
        stand_in.url,
        tmp_path / "home",
        "locate('artist/full', 'vae', Precision.HALF)",
        "locate('artist/full', 'unet', Precision.HALF)",
    )
    assert after == before
    assert_helpful(unet["error"], "artist/full")
    assert "sdc models fetch artist/full" in unet["error"]
    assert unet["cause"] == "ConnectError"
    (cold,) = ask(stand_in.url, tmp_path / "cold", "hub.fetch('artist/full', Precision.FULL)", HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE" in cold["error"]
    assert cold["cause"] == "OfflineModeIsEnabled"


def test_a_download_that_broke_off_is_never_taken_for_complete(stand_in: HubStandIn, tmp_path: Path) -> None:
    name = "vae/diffusion_pytorch_model.safetensors"
    stand_in.break_offs[name] = 1
    broken, absent, vae = ask(
        stand_in.url,
        tmp_path / "home",
        "locate('artist/both', 'vae', Precision.FULL)",
        "hub.find('artist/both', 'vae', Precision.FULL)",
        "locate('artist/both', 'vae', Precision.FULL)",
    )
    assert_helpful(broken["error"], "artist/both")
    assert broken["cause"] == "ReadError"
    assert absent is None
    (weights,) = (Path(file) for file in vae["files"] if file.endswith(".safetensors"))
    original = stand_in.repositories["artist/both"] / name
    assert hashlib.sha256(weights.read_bytes()).digest() == hashlib.sha256(original.read_bytes()).digest()


def test_repositories_that_cannot_serve_are_refused_with_the_reason(stand_in: HubStandIn, tmp_path: Path) -> None:
    stand_in.repositories["artist/pickled"] = save_repository(tmp_path / "pickled", SMALL_FILES + PICKLED)
    stand_in.repositories["artist/gated"] = stand_in.repositories["artist/both"]
    stand_in.gated.add("artist/gated")
    stand_in.repositories["artist/text"] = save_repository(tmp_path / "text", ["README.md"])
    alone = ["config.json", "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin"]
    stand_in.repositories["artist/vae"] = save_repository(tmp_path / "vae", alone)
    unknown, pickled, gated, text, unet, vae, is_pipeline = ask(
        stand_in.url,
        tmp_path / "home",
        "locate('artist/unknown', 'vae', Precision.FULL)",
        "locate('artist/pickled', 'vae', Precision.FULL)",
        "locate('artist/gated', 'vae', Precision.FULL)",
        "locate('artist/text', 'vae', Precision.FULL)",
        "locate('artist/vae', 'unet', Precision.FULL)",
        "str(hub.fetch('artist/vae', Precision.HALF))",
        "hub.is_pipeline('artist/vae')",
    )
    for result, model, reason in [
        (unknown, "artist/unknown", "no such repository"),
        (pickled, "artist/pickled", "no vae/diffusion_pytorch_model.safetensors"),
        (gated, "artist/gated", "accept their terms"),
        (text, "artist/text", "neither model_index.json"),
        (unet, "artist/vae", "an autoencoder alone, without a unet"),
    ]:
        assert_helpful(result["error"], model)
        assert reason in result["error"]
    assert unknown["cause"] == "RepositoryNotFoundError"
    assert gated["cause"] == "GatedRepoError"
    assert not any(name.endswith((".bin", ".ckpt")) for name in stand_in.downloads())
    assert {file.name for file in Path(vae).iterdir()} == set(alone[:2])
    assert is_pipeline is False


@pytest.mark.parametrize(
    ("precision", "names", "variant"),
    [
        (Precision.FULL, FULL + HALF, None),
        (Precision.HALF, FULL + HALF, "fp16"),
        (Precision.FULL, HALF, "fp16"),
        (Precision.HALF, FULL, None),
    ],
)
def test_a_directory_offers_the_wanted_weights_or_else_the_others(
    precision: Precision, names: list[str], variant: str | None, tmp_path: Path
) -> None:
    save_repository(tmp_path, SMALL_FILES + names)
    part = hub.locate(str(tmp_path), "unet", precision)
    assert part.variant == variant
    assert part.directory == tmp_path / "unet"
    assert hub.fetch(str(tmp_path), precision) == tmp_path


@pytest.mark.parametrize(
    ("removed", "part"),
    [
        ("vae/config.json", "vae"),
        ("unet/diffusion_pytorch_model.safetensors", "unet"),
        ("scheduler/scheduler_config.json", "scheduler"),
        ("tokenizer/vocab.json", "tokenizer"),
    ],
)
def test_a_directory_without_a_part_is_refused(removed: str, part: hub.PartName, tmp_path: Path) -> None:
    save_repository(tmp_path, [name for name in SMALL_FILES + FULL + PICKLED if name != removed])
    with pytest.raises(ModelUnavailableError, match=removed) as caught:
        hub.locate(str(tmp_path), part, Precision.FULL)
    assert_helpful(str(caught.value), str(tmp_path))


@pytest.mark.parametrize("model", ["/no/such/directory", "models", "a/b/c", "./model", "a--b/c", "nul\0"])
def test_a_name_that_is_neither_directory_nor_hub_id_is_refused(model: str) -> None:
    with pytest.raises(ModelUnavailableError, match="neither a directory nor the id") as caught:
        hub.locate(model, "vae", Precision.FULL)
    assert_helpful(str(caught.value), model)
    assert "sdc models fetch CompVis/stable-diffusion-v1-4" in str(caught.value)
