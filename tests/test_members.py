"""Which members of tar shards are converted, and which names make a sample."""

import itertools
from pathlib import Path, PurePath

import pytest
from small_runs import make_tar

from pillow_sdc.jobs.storage import tar as tar_shards
from pillow_sdc.jobs.storage.members import LISTED, Members, NamedMembers, Photograph, extension_of


def is_picture(path: PurePath) -> bool:
    return path.suffix.lower() in (".png", ".jpg", ".sdc")


def chosen(members: Members, *samples: str) -> list[str]:
    """Return what is converted of samples, each of which is given by its members' extensions."""
    pictures = []
    for number, extensions in enumerate(samples):
        names = [f"x.y/{number}.{extension}" for extension in extensions.split()]
        pictures.append(" ".join(name.partition(".")[2].partition(".")[2] for name in members.pictures("key", names)))
    members.check()
    return pictures


class TestPhotograph:
    @pytest.mark.parametrize(
        ("sample", "photograph"),
        [
            ("jpg json", "jpg"),
            ("jpg seg.png", "jpg"),
            ("seg.PNG JPG", "JPG"),
            ("image.png depth.png", "image.png"),
            ("mask.png Image.jpg json", "Image.jpg"),
            ("left.jpg json", "left.jpg"),
            ("v2.final.jpg", "v2.final.jpg"),
            ("json", ""),
            ("sdc json", "sdc"),
            ("jpg sdc", "jpg"),
            ("sdc jpg.sdc jpg", "jpg"),
            ("sdc seg.png", "sdc"),
            ("seg.sdc jpg", "jpg"),
            ("image.sdc image.png depth.sdc", "image.png"),
        ],
    )
    def test_is_the_only_picture_or_that_without_a_label_or_called_image(self, sample: str, photograph: str) -> None:
        assert chosen(Photograph(is_picture), sample) == [photograph]

    @pytest.mark.parametrize("sample", ["0.jpg 1.jpg", "jpg png", "jpg JPG", "jpg image.jpg", "a.image.png b.png"])
    def test_that_is_not_clear_is_refused_by_an_error_that_names_the_pictures_and_the_option(self, sample: str) -> None:
        with pytest.raises(
            ValueError, match=r"'key' has several pictures, .*, and it is not clear .* --column"
        ) as caught:
            chosen(Photograph(is_picture), "jpg", f"{sample} json")
        assert f"pictures, {sample.lower().replace(' ', ', ')}, and" in str(caught.value)

    def test_that_is_one_of_very_many_is_refused_in_a_line_that_can_be_read(self) -> None:
        names = [f"{number}.png" for number in range(1000 + LISTED)]
        with pytest.raises(ValueError, match=r" 6\.png, 7\.png and 1,000 more, and it is not clear"):
            chosen(Photograph(is_picture), " ".join(names))

    def test_is_not_what_lies_beside_it_in_another_sample(self) -> None:
        samples = "jpg seg.png", "seg.png", "png", "left.png", "image.png json"
        assert chosen(Photograph(is_picture), *samples) == ["jpg", "", "png", "left.png", "image.png"]

    def test_that_turns_out_to_lie_beside_others_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"'seg' is the only picture of some samples, but .* --column"):
            chosen(Photograph(is_picture), "seg.png", "jpg seg.png")


class TestNamedMembers:
    @pytest.mark.parametrize(
        ("column", "sample", "named"),
        [
            ("jpg", "jpg seg.jpg json", "jpg"),
            ("JPG", "Jpg json", "Jpg"),
            ("depth.png", "image.png depth.png", "depth.png"),
            ("depth", "image.png depth.png depth.json", "depth.png"),
            ("img", "img jpg", "img"),
            ("*.jpg", "0.jpg 1.jpg jpg 1.json", "0.jpg 1.jpg"),
            ("*", "0.jpg jpg json txt", "0.jpg jpg"),
            ("[ab]", "a.jpg b.png c.png", "a.jpg b.png"),
        ],
    )
    def test_have_that_extension_or_label_or_match_a_pattern(self, column: str, sample: str, named: str) -> None:
        assert chosen(NamedMembers(is_picture, [column]), sample) == [named]

    def test_may_be_several_of_which_a_sample_need_not_have_all(self) -> None:
        members = NamedMembers(is_picture, ["left", "right.jpg", "gone"])
        samples = "left.jpg right.jpg mask.jpg", "right.jpg json", "json"
        assert chosen(members, *samples) == ["left.jpg right.jpg", "right.jpg", ""]

    def test_that_no_sample_has_are_refused_by_an_error_that_names_what_there_is(self) -> None:
        with pytest.raises(ValueError, match=r"no sample has a member 'jpeg' or 'left'; there are jpg, json, seg\.png"):
            chosen(NamedMembers(is_picture, ["jpeg", "left"]), "jpg json", "json seg.png")

    def test_of_no_samples_are_no_error(self) -> None:
        assert chosen(NamedMembers(is_picture, ["jpg"])) == []


def test_all_pictures_are_taken_unless_it_is_said_which() -> None:
    assert chosen(Members(is_picture), "0.jpg 1.jpg json") == ["0.jpg 1.jpg"]


def test_names_make_the_samples_that_webdataset_makes_of_them(tmp_path: Path) -> None:
    tariterators = pytest.importorskip("webdataset.tariterators", reason="webdataset comes with the group 'clients'")
    parts = ["a", "b.c", ".d", "__e__", "f.", "..g", "__h.i", "__j__.k"]
    names = ["/".join(some) for count in (1, 2, 3) for some in itertools.product(parts, repeat=count)]
    names = [name for name in names if "/." not in name]  # of hidden files in folders it makes odd samples
    path = make_tar(tmp_path / "a.tar", [(name, b"") for name in names])
    with path.open("rb") as file:
        files = ({**found, "__url__": ""} for found in tariterators.tar_file_iterator(file))
        theirs = [(sample.pop("__key__"), sample.keys() - {"__url__"}) for sample in tariterators.group_by_keys(files)]
    with path.open("rb") as file:
        ours = [
            (one.name, set(map(extension_of, one.rest))) for (one,) in tar_shards.read(file, Members(is_picture), 1)
        ]
    assert len(theirs) > 100
    assert [sample for sample in ours if sample[0]] == theirs
