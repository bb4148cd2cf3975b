#!/bin/sh
# fsspec 2026.9.0 (PyPI): members of a tar archive that are read at the same time come back with each other's bytes.
#
# One would guess: the same data are read from `tar://` as from `zip://`, however many members are read at once.
# What happens: with `tar://` whole blocks of the data belong to other members, mostly without an error, and each read
# is wrong in another place. One line of zarr is enough, without a thread of one's own.
# Why: all members of a `TarFileSystem` read from one open file with one position. A member first sets the position,
# then reads; in between a read in another thread sets it anew. zarr reads chunks at once, in threads, by
# `AsyncFileSystemWrapper` of fsspec. `ZipFileSystem` is safe because zipfile holds a lock for both steps; tarfile has
# none. Reads in one thread are right, also those that take turns between members.
# Source: https://github.com/fsspec/filesystem_spec, fsspec/implementations/tar.py and asyn_wrapper.py (whether members
# can be open at the same time was asked, and left open, in https://github.com/fsspec/filesystem_spec/pull/1065)
# Who is hurt: whoever reads arrays or pictures of one archive with zarr or with a pool of threads. Data that are not
# compressed are wrong without a word; compressed ones fail to decompress now and then.
# How to avoid it: use `zip://`, unpack the archive, open a file system for each thread, or let zarr read one chunk at a
# time: `zarr.config.set({"async.concurrency": 1})`.
#
# Needs python3 with venv and PyPI. Exits with 0 if the behaviour is as described, else with 1.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet fsspec==2026.9.0 zarr==3.1.6 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import shutil
import sys
import tarfile
from importlib.metadata import version

import numpy as np
import zarr

CHUNKS, LENGTH, READS = 64, 200_000, 20
expected = np.repeat(np.arange(CHUNKS, dtype=np.uint8), LENGTH)
zarr.create_array("archive/data.zarr", data=expected, chunks=(LENGTH,), compressors=None)
for name in ("tar", "zip"):
    shutil.make_archive("archive", name, "archive", "data.zarr")


def wrong_reads(protocol):
    """How many reads of the whole array differ from what was written, without an error."""
    array = zarr.open_array(f"{protocol}://data.zarr::archive.{protocol}", mode="r")
    wrong = 0
    for _ in range(READS):
        try:
            wrong += not np.array_equal(array[:], expected)
        except tarfile.ReadError:  # a block of the archive's end
            pass
    return wrong


print(f"fsspec {version('fsspec')}, zarr {version('zarr')}: silently wrong reads of an array, of {READS}")
found = {protocol: wrong_reads(protocol) for protocol in ("zip", "tar")}
with zarr.config.set({"async.concurrency": 1}):
    alone = wrong_reads("tar")
print(f"zip                        {found['zip']}")
print(f"tar, one chunk at a time   {alone}")
print(f"tar                        {'some' if found['tar'] else 'none'} (this time {found['tar']})")
sys.exit(0 if found["tar"] > 0 == found["zip"] == alone else 1)
PYTHON
# Seen on 2026-11-30 with Python 3.11:
#   fsspec 2026.9.0, zarr 3.1.6: silently wrong reads of an array, of 20
#   zip                        0
#   tar, one chunk at a time   0
#   tar                        some (this time 18)
