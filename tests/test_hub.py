"""Where parts of models are found: in directories, in the hub's cache, and on a hub that may fail.

The files need only be whole here, so those with weights hold one tensor of random bytes.
"""

import errno
import hashlib
import json
import os
import random
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hub_stand_in import COMMIT, HubStandIn, commit_of, run_against, running_hub
from safetensors.numpy import save

from pillow_sdc.errors import ModelUnavailableError
from pillow_sdc.models.diffusion import hub
from pillow_sdc.models.diffusion.layout import PARTS, PartName, Precision

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
import os
from importlib import import_module
from pathlib import Path
from pillow_sdc.errors import ModelUnavailableError
from pillow_sdc.models.diffusion import hub
from pillow_sdc.models.diffusion.layout import Precision

def report(act):
    try:
        return act()
    except ModelUnavailableError as error:
        return {"error": str(error), "cause": type(error.__cause__).__name__}

def locate(model, part, precision):
    found = hub.locate(model, part, precision)
    return {"weights": [file.name for file in found.weights], "files": [str(file) for file in found.files]}

"""


def ask(hub_url: str, home: Path, *expressions: str, **environment: str) -> list[dict[str, str]]:
    lines = [f"print(json.dumps(report(lambda: {expression})))" for expression in expressions]
    return [
        json.loads(line) for line in run_against(hub_url, home, REPORT + "\n".join(lines), **environment).splitlines()
    ]


def save_repository(directory: Path, names: list[str]) -> Path:
    for name in names:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(content_of(name))
    return directory


def content_of(name: str) -> bytes:
    content = random.Random(name).randbytes(100_000)
    if name.endswith(".safetensors"):
        return save({"tensor": np.frombuffer(content, np.uint8)})
    return b"{}" if name.endswith(".json") else content


def save_index(file: Path, *shards: str) -> None:
    weight_map = {f"tensor {number}": shard for number, shard in enumerate(shards)}
    file.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))


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
    assert vae["weights"] == ["diffusion_pytorch_model.fp16.safetensors"]
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
        *(f"locate('artist/both', '{part}', Precision.HALF)" for part in PARTS),
    )
    assert stand_in.requests == []
    assert again == root
    assert not any(".fp16." in name for part in parts for name in part["weights"])


def test_the_cache_serves_when_the_hub_is_gone_and_its_absence_is_explained(tmp_path: Path) -> None:
    with running_hub() as stand_in:
        stand_in.repositories["artist/full"] = save_repository(tmp_path / "full", SMALL_FILES + FULL)
        (before,) = ask(stand_in.url, tmp_path / "home", "locate('artist/full', 'vae', Precision.HALF)")
    assert before["weights"] == ["diffusion_pytorch_model.safetensors"]
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
    stand_in.refused["artist/gated"] = 403, "GatedRepo"
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
        (Precision.FULL, FULL + HALF, ""),
        (Precision.HALF, FULL + HALF, ".fp16"),
        (Precision.FULL, HALF, ".fp16"),
        (Precision.HALF, FULL, ""),
    ],
)
def test_a_directory_offers_the_wanted_weights_or_else_the_others(
    precision: Precision, names: list[str], variant: str, tmp_path: Path
) -> None:
    save_repository(tmp_path, SMALL_FILES + names)
    part = hub.locate(str(tmp_path), "unet", precision)
    assert part.weights == (tmp_path / "unet" / f"diffusion_pytorch_model{variant}.safetensors",)
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
def test_a_directory_without_a_part_is_refused(removed: str, part: PartName, tmp_path: Path) -> None:
    save_repository(tmp_path, [name for name in SMALL_FILES + FULL + PICKLED if name != removed])
    with pytest.raises(ModelUnavailableError, match=removed) as caught:
        hub.locate(str(tmp_path), part, Precision.FULL)
    assert_helpful(str(caught.value), str(tmp_path))


@pytest.mark.parametrize("model", ["/no/such/directory", "models", "a/b/c", "./model", "a--b/c", "nul\0"])
def test_a_name_that_is_neither_directory_nor_hub_id_is_refused(model: str) -> None:
    with pytest.raises(ModelUnavailableError, match="neither a file, nor a directory, nor the id") as caught:
        hub.locate(model, "vae", Precision.FULL)
    assert_helpful(str(caught.value), model)
    assert "sdc models fetch CompVis/stable-diffusion-v1-4" in str(caught.value)


def test_a_home_directory_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_repository(tmp_path / "models" / "mine", SMALL_FILES + FULL)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))  # which Windows asks
    part = hub.locate("~/models/mine", "vae", Precision.FULL)
    assert part.directory == tmp_path / "models" / "mine" / "vae"
    assert hub.fetch("~/models/mine", Precision.FULL) == tmp_path / "models" / "mine"
    for name in ("~/models/other", "~no such user/models"):
        with pytest.raises(ModelUnavailableError, match="neither a file, nor a directory, nor the id"):
            hub.locate(name, "vae", Precision.FULL)


# Weights in several files


SHARDED = {
    None: ("diffusion_pytorch_model.safetensors.index.json", "diffusion_pytorch_model-0000{}-of-00002.safetensors"),
    "fp16": (
        "diffusion_pytorch_model.safetensors.index.fp16.json",
        "diffusion_pytorch_model.fp16-0000{}-of-00002.safetensors",
    ),
    "fp16, as diffusers named it until 2024": (
        "diffusion_pytorch_model.safetensors.fp16.index.json",
        "diffusion_pytorch_model-0000{}-of-00002.fp16.safetensors",
    ),
}
"""The names of the index and of its files."""


def save_sharded(directory: Path, kind: str | None) -> list[str]:
    """Save a U-Net's weights in two files, and return their names and the index's."""
    index, shard = (f"unet/{name}" for name in SHARDED[kind])
    shards = [shard.format(number) for number in (1, 2)]
    save_repository(directory, shards)
    save_index(directory / index, *(Path(name).name for name in (*shards, shards[0])))
    return [index, *shards]


@pytest.mark.parametrize("kind", SHARDED)
def test_weights_in_several_files_are_found_by_their_index(kind: str | None, tmp_path: Path) -> None:
    save_repository(tmp_path, SMALL_FILES)
    index, *shards = save_sharded(tmp_path, kind)
    for precision in Precision:
        part = hub.locate(str(tmp_path), "unet", precision)
        assert part.weights == tuple(tmp_path / name for name in shards)
        assert part.files == (tmp_path / "unet/config.json", tmp_path / index, *part.weights)


def test_the_wanted_variant_goes_before_the_number_of_files(tmp_path: Path) -> None:
    save_repository(tmp_path, [*SMALL_FILES, "unet/diffusion_pytorch_model.safetensors"])
    shards = save_sharded(tmp_path, "fp16")[1:]
    full, half = (hub.locate(str(tmp_path), "unet", precision).weights for precision in Precision)
    assert full == (tmp_path / "unet/diffusion_pytorch_model.safetensors",)
    assert half == tuple(tmp_path / name for name in shards)
    (tmp_path / shards[1]).unlink()
    assert hub.locate(str(tmp_path), "unet", Precision.HALF).weights == full


def test_a_file_that_the_index_names_and_that_is_not_there_is_named(tmp_path: Path) -> None:
    save_repository(tmp_path, SMALL_FILES)
    index, first, _ = save_sharded(tmp_path, None)
    (tmp_path / first).unlink()
    with pytest.raises(ModelUnavailableError, match=f"it has no {first}, which {index} names"):
        hub.locate(str(tmp_path), "unet", Precision.FULL)


@pytest.mark.parametrize(
    "name",
    [
        "../vae/model.safetensors",
        "/etc/passwd",
        "..",
        "a\\b.safetensors",
        "C:b.safetensors",
        "*.safetensors",
        "b.bin",
        "",
    ],
)
def test_an_index_that_names_other_files_than_weights_in_its_folder_is_refused(name: str, tmp_path: Path) -> None:
    save_repository(tmp_path, SMALL_FILES + FULL[3:])
    save_index(tmp_path / "unet/diffusion_pytorch_model.safetensors.index.json", "fine.safetensors", name)
    with pytest.raises(ModelUnavailableError, match="which is not a safetensors file in its folder"):
        hub.locate(str(tmp_path), "unet", Precision.FULL)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"weight_map": []}', '{"weight_map": {}}', '{"weight_map": {"a": 1}}']
)
def test_an_index_that_is_none_is_refused(content: str, tmp_path: Path) -> None:
    save_repository(tmp_path, SMALL_FILES)
    (tmp_path / "unet/diffusion_pytorch_model.safetensors.index.json").write_text(content)
    with pytest.raises(ModelUnavailableError, match=r"index\.json is "):
        hub.locate(str(tmp_path), "unet", Precision.FULL)


@pytest.mark.parametrize("kind", SHARDED)
def test_of_weights_in_several_files_those_that_the_index_names_are_downloaded(
    kind: str | None, stand_in: HubStandIn, tmp_path: Path
) -> None:
    repository = save_repository(tmp_path / "sharded", SMALL_FILES + FULL[3:] + PICKLED)
    names = save_sharded(repository, kind)
    for other in SHARDED.keys() - {kind}:
        if other is None or kind is None:
            save_sharded(repository, other)
    save_repository(repository, ["unet/diffusion_pytorch_model-00003-of-00003.safetensors"])
    stand_in.repositories["artist/sharded"] = repository
    precision = "FULL" if kind is None else "HALF"
    (unet,) = ask(stand_in.url, tmp_path / "home", f"locate('artist/sharded', 'unet', Precision.{precision})")
    assert stand_in.downloads() == {"model_index.json", "unet/config.json", *names}
    stand_in.requests.clear()
    (again,) = ask(stand_in.url, tmp_path / "home", f"locate('artist/sharded', 'unet', Precision.{precision})")
    assert stand_in.requests == []
    assert again == unet


# Damage


def cache(directory: Path, hub_cache: Path, model: str = "artist/whole") -> Path:
    """Put a copy of a repository into the hub's cache as the hub does, and return the repository's folder there."""
    repository = hub_cache / "hub" / f"models--{model.replace('/', '--')}"
    for number, file in enumerate(sorted(path for path in directory.rglob("*") if path.is_file())):
        blob = repository / "blobs" / f"{number:040x}"
        link = repository / "snapshots" / COMMIT / file.relative_to(directory)
        for path in (blob, link):
            path.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(file.read_bytes())
        link.symlink_to(blob)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    return repository


@pytest.fixture
def cached(tmp_path: Path, hub_cache: Path) -> Path:
    """The folder of ``artist/whole`` in the hub's cache."""
    return cache(save_repository(tmp_path / "whole", SMALL_FILES + FULL), hub_cache)


@pytest.mark.parametrize(
    ("name", "damage", "reason"),
    [
        ("unet/diffusion_pytorch_model.safetensors", "cut", r"is damaged or cut short \(.*\)"),
        ("unet/diffusion_pytorch_model.safetensors", "empty", r"is damaged or cut short \(.*\)"),
        ("unet/diffusion_pytorch_model.safetensors", "zeros", r"is damaged or cut short \(.*\)"),
        ("unet/diffusion_pytorch_model.safetensors", "folder", "is not a file"),
        ("unet/config.json", "cut", r"is damaged or cut short \(.*\)"),
        ("unet/config.json", "empty", r"is damaged or cut short \(.*\)"),
        ("unet/config.json", "zeros", r"is damaged or cut short \(.*\)"),
        ("model_index.json", "cut", r"is damaged or cut short \(.*\)"),
        ("model_index.json", "folder", "is not a file"),
    ],
)
def test_damaged_files_are_named_with_what_to_do(cached: Path, name: str, damage: str, reason: str) -> None:
    file = cached / "snapshots" / COMMIT / name
    content = file.read_bytes()
    if damage == "folder":
        file.unlink()
        file.mkdir()
    else:
        file.write_bytes({"cut": content[:-1], "empty": b"", "zeros": bytes(len(content))}[damage])
    mend = f"delete {cached} and fetch it again with `sdc models fetch artist/whole`, or name another"
    for act in (hub.find, hub.locate):
        with pytest.raises(ModelUnavailableError, match=f"{re.escape(str(file))} {reason}; {mend}"):
            act("artist/whole", "unet", Precision.FULL)
    with pytest.raises(ModelUnavailableError, match=f"{re.escape(str(file))} {reason}"):
        hub.parts_here("artist/whole", Precision.FULL)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "holds '', which is not a commit"),
        (b"\xff\xfe" * 20, "cannot be read"),
        (b"../../../else", "which is not a commit"),
        (COMMIT.encode() + b"\n", "which is not a commit"),
        (None, "cannot be read \\(Is a directory\\)"),
    ],
)
def test_a_reference_that_names_no_commit_is_an_error_of_its_own(
    cached: Path, content: bytes | None, reason: str
) -> None:
    reference = cached / "refs" / "main"
    reference.unlink()
    if content is None:
        reference.mkdir()
    else:
        reference.write_bytes(content)
    for act in (
        lambda: hub.find("artist/whole", "vae", Precision.FULL),
        lambda: hub.locate("artist/whole", "vae", Precision.FULL),
        lambda: hub.parts_here("artist/whole", Precision.FULL),
        lambda: hub.is_pipeline("artist/whole"),
        lambda: hub.fetch("artist/whole", Precision.FULL),
    ):
        with pytest.raises(ModelUnavailableError, match=f"refs/main .*{reason}.*; delete {cached} and fetch it again"):
            act()


def test_what_the_hubs_library_stumbles_over_in_its_cache_is_damage(
    cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As its version 2.4 does over a listing in ``trees`` that is a list; other versions do not read it."""

    def stumble(*args: Any, **kwargs: Any) -> Any:
        raise AttributeError("'list' object has no attribute 'get'")

    monkeypatch.setattr("huggingface_hub.snapshot_download", stumble)
    with pytest.raises(ModelUnavailableError, match=f"cannot be read .*; delete {cached} and fetch it again"):
        hub.find("artist/whole", "vae", Precision.FULL)


def test_what_may_not_be_read_is_said_to_be_so(cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a stand-in for the system, for the superuser may read all."""
    forbidden: list[Path] = []

    def refuse(function: Callable[..., Any]) -> Callable[..., Any]:
        def act(path: Any, *args: Any, **kwargs: Any) -> Any:
            if isinstance(path, str | Path) and Path(path) in forbidden:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return function(path, *args, **kwargs)

        return act

    monkeypatch.setattr("os.stat", refuse(os.stat))
    monkeypatch.setattr("io.open", refuse(open))  # by which a Path is opened
    snapshot = cached / "snapshots" / COMMIT
    for path in (
        cached / "refs" / "main",
        snapshot,
        snapshot / "model_index.json",
        snapshot / "vae" / "config.json",
        snapshot / "vae" / "diffusion_pytorch_model.safetensors",
    ):
        forbidden[:] = [path]
        with pytest.raises(ModelUnavailableError, match=f"{path} .*Permission denied.*; let this user read {path}, or"):
            hub.find("artist/whole", "vae", Precision.FULL)


@pytest.mark.parametrize("blocked", ["hub", "hub/models--artist--whole", "hub/models--artist--whole/refs"])
def test_a_file_where_a_folder_of_the_cache_should_be_is_named(hub_cache: Path, blocked: str) -> None:
    file = hub_cache / blocked
    file.parent.mkdir(parents=True)
    file.touch()
    with pytest.raises(ModelUnavailableError, match=f"cannot be read .*; move {file} away"):
        hub.find("artist/whole", "vae", Precision.FULL)


def test_what_links_lead_to_nothing_is_lost_and_downloaded_again(stand_in: HubStandIn, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (vae,) = ask(stand_in.url, home, "locate('artist/both', 'vae', Precision.FULL)")
    (weights,) = (Path(file) for file in vae["files"] if file.endswith(".safetensors"))
    weights.resolve().unlink()
    missing, here, again = ask(
        stand_in.url,
        home,
        "hub.find('artist/both', 'vae', Precision.FULL)",
        "hub.parts_here('artist/both', Precision.FULL)",
        "locate('artist/both', 'vae', Precision.FULL)",
    )
    assert missing is None
    assert_helpful(here["error"], "artist/both")
    assert f"{weights} is a link to a file that is not there" in here["error"]
    assert again == vae


def test_a_snapshot_that_is_gone_is_lost_and_downloaded_again(stand_in: HubStandIn, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (vae,) = ask(stand_in.url, home, "locate('artist/both', 'vae', Precision.FULL)")
    (snapshot,) = (home / "hub" / "models--artist--both" / "snapshots").iterdir()
    snapshot.rename(tmp_path / "elsewhere")
    missing, here, again = ask(
        stand_in.url,
        home,
        "hub.find('artist/both', 'vae', Precision.FULL)",
        "hub.parts_here('artist/both', Precision.FULL)",
        "locate('artist/both', 'vae', Precision.FULL)",
    )
    assert missing is None
    assert f"names the snapshot {snapshot.name}, which is not there" in here["error"]
    assert again == vae


@pytest.mark.parametrize("name", ["vae/diffusion_pytorch_model.safetensors", "vae/config.json", "tokenizer/merges.txt"])
def test_a_git_lfs_pointer_is_called_that(tmp_path: Path, name: str) -> None:
    save_repository(tmp_path, SMALL_FILES + FULL)
    (tmp_path / name).write_text(
        "version https://git-lfs.github.com/spec/v1\n"
        "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n"
        "size 334643276\n"
    )
    part = name.partition("/")[0]
    pointer = (
        f"{tmp_path / name} is a Git LFS pointer, which stands for the file; run `git lfs pull` in {tmp_path / part}"
    )
    with pytest.raises(ModelUnavailableError, match=re.escape(pointer)):
        hub.fetch(str(tmp_path), Precision.FULL)


# Repositories and caches as they are found


def test_a_part_without_the_half_precision_variant_is_taken_in_full(stand_in: HubStandIn, tmp_path: Path) -> None:
    names = [HALF[2], FULL[1], FULL[3]]
    stand_in.repositories["artist/some"] = save_repository(tmp_path / "some", SMALL_FILES + names + PICKLED)
    ask(stand_in.url, tmp_path / "home", "str(hub.fetch('artist/some', Precision.HALF))")
    assert {name for name in stand_in.downloads() if name.endswith(".safetensors")} == set(names)
    stand_in.requests.clear()
    parts = ask(
        stand_in.url,
        tmp_path / "home",
        *(f"locate('artist/some', '{part}', Precision.HALF)" for part in ("unet", "text_encoder", "vae")),
    )
    assert [part["weights"] for part in parts] == [[Path(name).name] for name in names]
    assert stand_in.requests == []


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (401, "GatedRepo", "accept their terms on its hub page, and then to log in with `hf auth login`"),
        (403, "GatedRepo", "accept their terms on its hub page, and then to log in with `hf auth login`"),
        (401, "", "; log in with `hf auth login`, by a token that may read it, or name another"),
        (403, "", "; log in with `hf auth login`, by a token that may read it, or name another"),
    ],
)
def test_what_may_not_be_read_says_how_it_may(
    status: int, code: str, words: str, stand_in: HubStandIn, tmp_path: Path
) -> None:
    stand_in.refused["artist/both"] = status, code
    (refused,) = ask(stand_in.url, tmp_path / "home", "hub.fetch('artist/both', Precision.FULL)")
    assert words in refused["error"]
    assert "model 'artist/both' is not available" in refused["error"]
    assert "\n" not in refused["error"]


def test_a_repository_that_was_renamed_is_found_by_its_former_name(stand_in: HubStandIn, tmp_path: Path) -> None:
    stand_in.renamed["artist/former"] = "artist/both"
    (vae,) = ask(stand_in.url, tmp_path / "home", "locate('artist/former', 'vae', Precision.FULL)")
    assert vae["weights"] == ["diffusion_pytorch_model.safetensors"]
    stand_in.requests.clear()
    (again,) = ask(stand_in.url, tmp_path / "home", "locate('artist/former', 'vae', Precision.FULL)")
    assert again == vae
    assert stand_in.requests == []


@pytest.mark.parametrize("pin", ["v1.0", commit_of("v1.0")])
def test_a_revision_is_pinned_beside_the_main_branch(pin: str, stand_in: HubStandIn, tmp_path: Path) -> None:
    old = save_repository(tmp_path / "old", SMALL_FILES + FULL)
    (old / FULL[3]).write_bytes(save({"tensor": np.zeros(9, np.uint8)}))
    stand_in.repositories["artist/both@v1.0"] = old
    read = "Path(locate('{}', 'vae', Precision.FULL)['files'][-1]).stat().st_size"
    calls = [read.format(name) for name in ("artist/both", f"artist/both@{pin}")]
    home = tmp_path / "home"
    main, pinned = (ask(stand_in.url, home, call)[0] for call in calls)
    assert (main, pinned) == ((tmp_path / "both" / FULL[3]).stat().st_size, (old / FULL[3]).stat().st_size)
    stand_in.requests.clear()
    assert ask(stand_in.url, home, *calls) == [main, pinned]
    assert stand_in.requests == []
    (kept,) = (home / "hub").glob("models--*")
    assert {path.name for path in (kept / "snapshots").iterdir()} == {COMMIT, commit_of("v1.0")}


def test_a_revision_that_there_is_not_is_refused(stand_in: HubStandIn, tmp_path: Path) -> None:
    nothing, unknown, absent = ask(
        stand_in.url,
        tmp_path / "home",
        "hub.is_absent('artist/both@gone')",
        "hub.fetch('artist/both@gone', Precision.FULL)",
        f"hub.find('artist/both@{'1' * 40}', 'vae', Precision.FULL)",
    )
    assert nothing is True
    assert "the repository has no such revision on the hub" in unknown["error"]
    assert "sdc models fetch artist/both@gone" in unknown["error"]
    assert absent is None
    for name in ("artist/both@", "artist/both@../x", "artist/both@a//b", "artist/both@.git", "@main", "both@main"):
        with pytest.raises(ModelUnavailableError, match="nor the id of a hub repository"):
            hub.locate(name, "vae", Precision.FULL)


def test_a_cache_without_links_is_used(stand_in: HubStandIn, tmp_path: Path) -> None:
    """As on Windows, where users may not make links: the files themselves lie in the snapshot."""
    code = "vars(import_module('huggingface_hub.file_download')).update(are_symlinks_supported=lambda *_: False)"
    home = tmp_path / "home"
    _, root = ask(stand_in.url, home, code, "str(hub.fetch('artist/both', Precision.FULL))")
    assert not any(path.is_symlink() for path in Path(root).rglob("*"))
    stand_in.requests.clear()
    again, vae = ask(
        stand_in.url,
        home,
        "str(hub.fetch('artist/both', Precision.FULL))",
        "locate('artist/both', 'vae', Precision.FULL)",
        HF_HUB_OFFLINE="1",
    )
    assert (again, stand_in.requests) == (root, [])
    assert vae["weights"] == ["diffusion_pytorch_model.safetensors"]


def test_offline_what_is_here_serves_and_what_is_not_is_said_to_be_forbidden(
    stand_in: HubStandIn, tmp_path: Path
) -> None:
    ask(stand_in.url, tmp_path / "home", "locate('artist/both', 'vae', Precision.FULL)")
    stand_in.requests.clear()
    vae, unet, other = ask(
        stand_in.url,
        tmp_path / "home",
        "locate('artist/both', 'vae', Precision.FULL)",
        "locate('artist/both', 'unet', Precision.FULL)",
        "hub.is_pipeline('artist/unknown')",
        HF_HUB_OFFLINE="1",
    )
    assert vae["weights"] == ["diffusion_pytorch_model.safetensors"]
    for refused in (unet, other):
        assert "it is not on this machine, and HF_HUB_OFFLINE forbids asking the hub" in refused["error"]
    assert stand_in.requests == []


AS_ANOTHER_USER = "os.geteuid() or os.seteuid(65534)"


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="this system has no such permissions")
def test_another_users_cache_is_read_as_far_as_it_may_be(stand_in: HubStandIn) -> None:
    """By files that nobody may read, asked for by someone who is not the superuser."""
    with tempfile.TemporaryDirectory() as folder:  # pytest's own nobody else may enter
        Path(folder).chmod(0o755)
        home = Path(folder, "home")
        (vae,) = ask(stand_in.url, home, "locate('artist/both', 'vae', Precision.FULL)")
        *_, weights = (Path(file) for file in vae["files"])
        warm = "locate('artist/both', 'scheduler', Precision.FULL)"  # imports what another user may not
        blob = weights.resolve()
        *_, readable, _, found, missing = ask(
            stand_in.url,
            home,
            warm,
            f"os.chmod('{home}/hub/models--artist--both/snapshots/{COMMIT}', 0o555)",
            AS_ANOTHER_USER,
            "locate('artist/both', 'vae', Precision.FULL)",
            f"os.geteuid() == 65534 and os.seteuid(0) or os.chmod('{blob}', 0) or ({AS_ANOTHER_USER})",
            "locate('artist/both', 'vae', Precision.FULL)",
            "locate('artist/both', 'unet', Precision.FULL)",
        )
        assert readable == vae
        assert f"{weights} cannot be read (Permission denied); let this user read {weights}, or" in found["error"]
        assert "; let this user write " in missing["error"]
        assert ", or set HF_HOME to another folder, or name another" in missing["error"]
