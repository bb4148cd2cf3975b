#!/bin/sh
# webdataset 1.0.2 (PyPI): hidden files break samples apart, but only where the samples are in a folder.
#
# One would guess: hidden files, such as the `._a.jpg` that tar of macOS writes in front of `a.jpg` for its attributes,
# are skipped in a folder as they are at the top of the archive.
# What happens: `x/._a.jpg` is a sample with the key `x/` and the field `_a.jpg`. It ends the sample in front of it, so
# that the picture and the label of one sample come as two samples with one key, each with a part of the fields.
# Why: the expression in `base_plus_ext` that splits a path at the first dot of the file's name forbids dots in the
# name, but not slashes: where nothing is in front of the dot, it takes the folder for the name.
# Source: https://github.com/webdataset/webdataset, webdataset/tariterators.py (copied from there to
# https://github.com/huggingface/datasets, src/datasets/packaged_modules/webdataset/webdataset.py)
# Who is hurt: whoever makes shards of a folder on macOS. With `to_tuple` the training stops with an error about a
# missing field; with `handler=ignore_and_continue`, which is for single bad samples, it loses all of them.
# How to avoid it: write shards with `COPYFILE_DISABLE=1 tar --exclude .DS_Store`, or read them with
# `select_files=lambda name: not name.rpartition("/")[2].startswith(".")`.
#
# Needs python3 with venv and PyPI. Exits with 0 if the behaviour is as described, else with 1.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet webdataset==1.0.2 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import io
import sys
import tarfile
from importlib.metadata import version

import webdataset


def shown(name):
    return not name.rpartition("/")[2].startswith(".")


def samples(folder, **options):
    """The samples of an archive with two, in the order in which macOS writes it: key and fields."""
    with tarfile.open("shard.tar", "w") as archive:
        for name in ("a.cls", "a.jpg", "b.cls", "b.jpg"):
            for path in (f"{folder}._{name}", f"{folder}{name}"):
                member = tarfile.TarInfo(path)
                member.size = 4
                archive.addfile(member, io.BytesIO(b"data"))
    found = webdataset.WebDataset("shard.tar", shardshuffle=False, **options)
    return [(sample["__key__"], [field for field in sample if field[:2] != "__"]) for sample in found]


def show(title, found):
    print(title)
    for key, fields in found:
        print(f"  {key:4}{' '.join(fields)}")


top, inside, selected = samples(""), samples("x/"), samples("x/", select_files=shown)
print(f"webdataset {version('webdataset')}: keys and fields of an archive of two samples")
show("at the top", top)
show("in a folder", inside)
show("in a folder, hidden files left out", selected)
sys.exit(
    0
    if top == [("a", ["cls", "jpg"]), ("b", ["cls", "jpg"])]
    and selected == [("x/a", ["cls", "jpg"]), ("x/b", ["cls", "jpg"])]
    and inside[:4] == [("x/", ["_a.cls"]), ("x/a", ["cls"]), ("x/", ["_a.jpg"]), ("x/a", ["jpg"])]
    else 1
)
PYTHON
# Seen on 2026-11-30 with Python 3.11:
#   webdataset 1.0.2: keys and fields of an archive of two samples
#   at the top
#     a   cls jpg
#     b   cls jpg
#   in a folder
#     x/  _a.cls
#     x/a cls
#     x/  _a.jpg
#     x/a jpg
#     x/  _b.cls
#     x/b cls
#     x/  _b.jpg
#     x/b jpg
#   in a folder, hidden files left out
#     x/a cls jpg
#     x/b cls jpg
