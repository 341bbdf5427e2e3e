"""Bags: what a sample's files say, which captions stay, what repeats, and that parts written together are as if alone."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fistful.bow.balance import Balance
from fistful.bow.draw import draw_share, sample_number
from fistful.bow.store.images import ImageHeader
from fistful.bow.store.shard import end_tar, tar_bytes, tar_header, tar_headers
from fistful.bow.vocabulary import Limits
from fistful.bow.words import WordOptions
from fistful.errors import UsageError
from fistful.pipelines.bags import BagOptions, BagsConfig, BagsJob, bag_unit, bags
from fistful.pipelines.count import CountConfig, count
from fistful.pipelines.engine.stage import Running
from fistful.pipelines.read.plan import PlanOptions, plan_units
from fistful.pipelines.read.sources import SourceOptions
from fistful.pipelines.sample_writer import SampleColumns, SampleWriter
from tests.support.folders import rows
from tests.support.pictures import picture
from tests.support.strategies import make_ragged

QUIET = Running(progress=False, max_bad_fraction=0.99)


def both_jobs(source: Path, out: Path, options: BagOptions = BagOptions(), words: WordOptions = WordOptions()) -> Path:
    caption = SourceOptions(caption="1") if source.suffix == ".tsv" else SourceOptions()
    counts = count(str(source), out=out / "counts", config=CountConfig(source=caption, words=words, running=QUIET))
    config = BagsConfig(source=caption, limits=Limits(min_count=1), balance=Balance(rule="cap", kept=0.7), bags=options, running=QUIET)
    return bags(str(source), counts=counts, out=out / "bags", config=config)


def texts_of(folder: Path) -> dict[str, str]:
    with tarfile.open(folder / "shards" / "00000.tar") as tar:
        return {m.name[:-4]: tar.extractfile(m).read().decode() for m in tar if m.name.endswith(".txt")}  # pyright: ignore[reportOptionalMemberAccess]


def stats_of(folder: Path) -> dict[str, int]:
    return json.loads((folder / "stats.json").read_bytes())


TEXT = st.text(max_size=12)
SAMPLE = st.tuples(
    TEXT, st.lists(TEXT, max_size=3), st.lists(st.integers(0, 3), max_size=4), TEXT, TEXT, st.none() | st.binary(max_size=700)
)
WORDS = ["dog", 'a"b', "straße", "great white shark"]


def sink_with(samples: list[list[tuple]], pseudo: bool) -> tuple[bytes, pa.Table]:
    sink = io.BytesIO()
    writer = SampleWriter(sink, WORDS)
    number = 0
    for part in samples:
        bag = make_ragged([row[2] for row in part])
        writer.add(
            SampleColumns(
                unit=3,
                numbers=np.arange(number, number + len(part)),
                captions=pa.array([row[1] for row in part], pa.list_(pa.string())),
                words=bag,
                texts=[row[0] for row in part],
                source_keys=[row[3] for row in part],
                sources=[row[4] for row in part],
                extra="{}",
                scores=np.round(bag.values / 3, 4) if pseudo else None,
                images=[row[5] for row in part],
                extensions=["jpg"] * len(part),
                headers=[ImageHeader("JPEG", 4, 5)] * len(part),
            )
        )
        number += len(part)
    end_tar(sink)
    return sink.getvalue(), writer.index()


@given(st.lists(SAMPLE, max_size=5), st.booleans(), st.integers(0, 5))
def test_samples_are_as_json_and_tarfile_write_them_however_they_are_put_together(samples: list[tuple], pseudo: bool, cut: int) -> None:
    data, index = sink_with([samples], pseudo)
    assert sink_with([samples[:cut], samples[cut:]], pseudo) == (data, index)

    expected: dict[str, bytes] = {}
    for number, (text, captions, bag, key, source, image) in enumerate(samples):
        if image is not None:
            expected[f"00003_{number:07d}.jpg"] = image
        fields = {
            "bag": [WORDS[i] for i in bag],
            "caption": captions[0] if captions else "",
            "captions": captions,
            "extra": "{}",
            "pseudo": pseudo,
            "scores": [round(i / 3, 4) if pseudo else 1.0 for i in bag],
            "source": source,
            "source_key": key,
        }
        expected[f"00003_{number:07d}.json"] = json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()
        expected[f"00003_{number:07d}.txt"] = text.encode()
    assert data == tar_bytes(expected)
    for row, (_, captions, bag, key, _, image) in zip(index.to_pylist(), samples, strict=True):
        assert (row["captions"], row["words"], row["source_key"]) == (captions, bag, key)
        assert data[row["image_offset"] :][: row["image_size"]] == (image or b"")


@given(st.lists(st.tuples(st.from_regex(r"[a-z0-9_.]{1,99}", fullmatch=True), st.integers(0, (1 << 33) - 1)), max_size=9))
def test_headers_made_together_are_as_made_alone(files: list[tuple[str, int]]) -> None:
    names, sizes = [name for name, _ in files], [size for _, size in files]
    assert tar_headers(names, sizes) == [tar_header(name.encode(), size) for name, size in files]


CAPTIONS = [f"a red dog number {'x' * (i % 7)} beside {'y' * (i % 5)} tree" for i in range(400)]


def test_a_share_of_the_samples_keeps_its_caption(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("".join(f"{caption}\n" for caption in CAPTIONS))
    plain = both_jobs(tmp_path / "a.tsv", tmp_path / "plain")
    some = both_jobs(tmp_path / "a.tsv", tmp_path / "some", BagOptions(intact=0.25))
    full = both_jobs(tmp_path / "a.tsv", tmp_path / "full", BagOptions(intact=1.0, txt="bag"))

    thinned, mixed = list(texts_of(plain).values()), list(texts_of(some).values())
    kept = draw_share(sample_number(0, np.arange(400)), 0.25, 0)
    assert mixed == [caption if k else text for caption, text, k in zip(CAPTIONS, thinned, kept, strict=True)]
    assert list(texts_of(full).values()) == CAPTIONS
    assert (stats_of(plain)["intact"], stats_of(some)["intact"], stats_of(full)["intact"]) == (0, int(kept.sum()), 400)
    assert 60 <= kept.sum() <= 140
    assert rows(plain, "index") == rows(some, "index")


def test_a_folder_made_anew_has_nothing_of_what_lay_there_before(tmp_path: Path) -> None:
    source, caption = str(tmp_path / "a.tsv"), SourceOptions(caption="1")
    Path(source).write_text("".join(f"{caption}\n" for caption in CAPTIONS))
    counts = count(source, out=tmp_path / "counts", config=CountConfig(source=caption, running=QUIET))
    (unit,), _ = plan_units((source,), PlanOptions())
    for rule in (Balance(), Balance(rule="random", kept=0.2), Balance()):
        shutil.rmtree(tmp_path / "bags", ignore_errors=True)
        folder = bags(source, counts=counts, out=tmp_path / "bags", config=BagsConfig(source=caption, balance=rule, running=QUIET))
        texts = texts_of(folder)
        bag_unit(unit, folder, BagsJob(caption, WordOptions(), BagOptions(), folder))  # engines may keep their threads
        assert texts_of(folder) == texts


def test_the_draw_of_intact_captions_depends_on_the_sample_alone() -> None:
    samples = np.arange(10_000, dtype=np.uint64)
    drawn = draw_share(samples, 0.3, 7)
    assert (draw_share(samples[::-1], 0.3, 7)[::-1] == drawn).all()
    assert 2_800 < drawn.sum() < 3_200
    assert not draw_share(samples, 0.0, 7).any()
    assert draw_share(samples, 1.0, 7).all()
    assert (draw_share(samples, 0.3, 8) != drawn).any()


def test_repeated_images_and_captions_of_a_unit_are_counted_and_kept(tmp_path: Path) -> None:
    red, blue = picture((200, 0, 0), (40, 30)), picture((0, 0, 200), (40, 30))
    almost = blue[:-20] + bytes([blue[-20] ^ 1]) + blue[-19:]
    files = {}
    for i, data in enumerate([red, blue, red, almost, red]):
        files |= {f"{i}.png": data, f"{i}.txt": b"a dog"}
    (tmp_path / "a.tar").write_bytes(tar_bytes(files))
    (tmp_path / "b.tsv").write_text("a dog\na cat\na dog\n a dog\n")
    found = [both_jobs(tmp_path / name, tmp_path / name[0]) for name in ("a.tar", "b.tsv")]
    assert [(stats_of(folder)["kept"], stats_of(folder)["duplicates"]) for folder in found] == [(5, 2), (4, 2)]


@pytest.fixture(scope="module")
def zipf(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[set[str]]]:
    """3,000 captions of some of 26 words, the first the most frequent: the table, its counts, and each caption's words."""
    root = tmp_path_factory.mktemp("zipf")
    has = np.random.default_rng(0).random((3_000, 26)) < 0.9 / np.arange(1, 27)
    captions = [{f"qz{chr(97 + i)}" for i in np.flatnonzero(row)} for row in has]
    (root / "a.tsv").write_text("".join(" ".join(sorted(words)) + "\n" for words in captions if words))
    config = CountConfig(source=SourceOptions(caption="1"), running=QUIET)
    return root / "a.tsv", count(str(root / "a.tsv"), out=root / "counts", config=config), [words for words in captions if words]


@pytest.mark.parametrize(
    "rule",
    [
        Balance(),
        Balance(rule="cap", kept=0.5),
        Balance(rule="w2v", kept=0.7),
        Balance(rule="top_k", threshold=2),
        Balance(rule="random", kept=0.4),
        Balance(rule="budget", n_words=2),
        Balance(rule="cap", kept=0.2, level="pair"),
    ],
    ids=lambda rule: f"{rule.rule}-{rule.level}",
)
def test_what_balancing_is_said_to_keep_and_to_have_kept_is_so(
    zipf: tuple[Path, Path, list[set[str]]], tmp_path: Path, rule: Balance
) -> None:
    table, counts, captions = zipf
    config = BagsConfig(source=SourceOptions(caption="1"), limits=Limits(min_count=1), balance=rule, running=QUIET)
    folder = bags(str(table), counts=counts, out=tmp_path / "bags", config=config)
    stats, texts = json.loads((folder / "stats.json").read_bytes()), [text.split() for text in texts_of(folder).values()]

    n_before, n_after = sum(map(len, captions)), sum(map(len, texts))
    assert stats["kept_fraction_realised"] == pytest.approx(n_after / n_before, abs=1e-6)
    assert stats["words_in_bags"] + stats["words_thinned_out"] == n_before
    if rule.rule == "budget" or rule.level == "pair":
        assert (stats["kept_fraction_expected"], stats["effective_words_after"]) == (None, None)
        return
    drawn = (n_after - stats["bags_emptied"]) / n_before  # without the words that emptied bags kept
    assert drawn == pytest.approx(stats["kept_fraction_expected"], abs=0.02)
    often = np.unique([word for words in texts for word in words], return_counts=True)[1] / n_after
    if stats["bags_emptied"] < 30:
        assert np.exp(-(often * np.log(often)).sum()) == pytest.approx(stats["effective_words_after"], rel=0.05)


def test_phrases_go_with_the_counts_into_the_bags(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("Fire Engine\n")
    (tmp_path / "a.tsv").write_text("a red fire engine\nthe engine\n")
    out = both_jobs(tmp_path / "a.tsv", tmp_path, BagOptions(txt="bag"), WordOptions(phrases=str(tmp_path / "names.txt")))
    assert list(texts_of(out).values()) == ["red fire engine", "engine"]
    config = json.loads((tmp_path / "counts" / "config.json").read_bytes())
    assert config["config"]["phrases"] == "fire engine\n"
    assert json.loads((out / "config.json").read_bytes())["inputs"]["word_options"]["phrases"] == "fire engine\n"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"intact": 1.5}, "--intact 1.5: expected a share from 0 to 1"),
        ({"intact": 0.5, "txt": "caption"}, "--intact with --txt caption: every sample keeps its caption already"),
        ({"seed": -1}, "--seed -1: expected 0 or more"),
    ],
)
def test_options_that_make_no_sense_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as error:
        BagOptions(**fields)  # pyright: ignore[reportArgumentType]
    assert str(error.value) == message


def test_the_samples_that_stay_keep_their_own_pictures(tmp_path: Path) -> None:
    """Between samples that are refused for their words, which is said after pictures are read."""
    pictures = {f"{i}": picture((40 * i, 9, 9)) for i in range(6)}
    captions = dict.fromkeys(pictures, b"red dog") | {"0": b"aardvark", "3": b"zebra"}
    files = {f"{key}.{end}": data for key in pictures for end, data in (("png", pictures[key]), ("txt", captions[key]))}
    (tmp_path / "a.tar").write_bytes(tar_bytes(files))
    quiet = Running(progress=False, max_bad_fraction=0.5)
    counts = count(str(tmp_path / "a.tar"), out=tmp_path / "counts", config=CountConfig(running=quiet))
    out = bags(str(tmp_path / "a.tar"), counts=counts, out=tmp_path / "bags", config=BagsConfig(limits=Limits(min_count=2), running=quiet))
    with tarfile.open(out / "shards" / "00000.tar") as tar:
        found = {row["source_key"]: tar.extractfile(f"{row['key']}.png").read() for row in rows(out, "index")}  # pyright: ignore[reportOptionalMemberAccess]
    assert found == {key: pictures[key] for key in ("1", "2", "4", "5")}
