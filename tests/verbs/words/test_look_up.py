"""`fistful words`: looking words and classes up before anything is trained."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fistful.bow.balance import Balance
from fistful.bow.vocabulary import Limits
from fistful.bow.words import Analyzer, WordOptions
from fistful.errors import UsageError
from fistful.pipelines.bags import BagOptions, BagsConfig, bags
from fistful.pipelines.count import CountConfig, count
from fistful.pipelines.engine.stage import Running
from fistful.pipelines.vectors import VectorOptions, VectorsConfig, vectors
from fistful.verbs.words.look_up import WordReport, WordsConfig, words
from fistful.verbs.words.table import words_json, words_text
from tests.support.folders import fistful, rows

QUIET = Running(progress=False, max_bad_fraction=1.0)
CAPTIONS = ["a dog and a cat", "the dog runs", "a dog sleeps", "a red missile", "the red sunglasses", "a cat", "the cat in 3d", "zebra"]
"""df: cat 3, dog 3, red 2, missile, runs, sleeps, sunglasses, zebra 1."""


@pytest.fixture
def counts(tmp_path: Path, captioned_tar: Callable[..., Path]) -> Path:
    """What `fistful count` writes of CAPTIONS."""
    return count(str(captioned_tar("data.tar", CAPTIONS)), out=tmp_path / "counts", config=CountConfig(running=QUIET))


@pytest.fixture
def bagged(tmp_path: Path, counts: Path) -> Path:
    """What `fistful bags` makes of CAPTIONS."""
    config = BagsConfig(limits=Limits(min_count=1), balance=Balance(rule="cap", threshold=1), bags=BagOptions(seed=7), running=QUIET)
    return bags(str(tmp_path / "data.tar"), counts=counts, out=tmp_path / "bags", config=config)


def look(folder: Path, *asked: str, **options: object) -> WordReport:
    options.setdefault("limits", Limits(min_count=1) if folder.name == "counts" else None)
    return words(folder, *asked, config=WordsConfig(**options))  # pyright: ignore[reportArgumentType]


def names_file(tmp_path: Path, *names: str) -> str:
    path = tmp_path / "names.txt"
    path.write_text("".join(name + "\n" for name in names))
    return str(path)


def test_a_word_has_its_counts_its_place_and_its_keep_probability(counts: Path):
    (fact,) = look(counts, "dog", balance=Balance(rule="cap", threshold=1)).facts
    assert (fact.word, fact.status, fact.tf, fact.df, fact.rank) == ("dog", "known", 3, 3, 2)  # cat comes first: equal df, by word
    assert fact.keep == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("asked", "status", "why"),
    [
        ("the", "stop_word", "the: a stop word, left out when counting; fistful count --stop-words keeps them"),
        ("3d", "not_alphabetic", "3d: not only letters, so no word"),
        ("dogg", "never_seen", "dogg: never seen in the captions; spelt alike: dog"),
        ("xylophone", "never_seen", "xylophone: never seen in the captions"),
        ("zebra", "too_rare", "zebra: counted 1 time in 1 sample, below --min-count 2"),
    ],
)
def test_a_word_that_is_not_there_has_its_reason(counts: Path, asked: str, status: str, why: str):
    found = look(counts, asked, limits=Limits(min_count=2))
    assert [fact.status for fact in found.facts] == [status]
    assert why in words_text(found).splitlines()


def test_a_word_beyond_the_largest_vocabulary_says_so(counts: Path):
    found = look(counts, "zebra", limits=Limits(min_count=1, max_words=3))
    assert "zebra: counted 1 time in 1 sample, beyond --max-words 3" in words_text(found)


def test_a_word_shorter_than_the_captions_were_asked_for_says_so(tmp_path: Path, counts: Path):
    config = CountConfig(words=WordOptions(min_length=4), running=QUIET)
    count(str(tmp_path / "data.tar"), out=tmp_path / "long", config=config)
    assert [fact.status for fact in look(tmp_path / "long", "dog", limits=Limits(min_count=1)).facts] == ["too_short"]


def test_words_are_read_as_captions_are_in_lower_case_and_one_by_one(counts: Path):
    found = look(counts, "Red Missile", "don't")
    assert [(fact.asked, fact.word, fact.status) for fact in found.facts] == [
        ("Red Missile", "red", "known"),
        ("Red Missile", "missile", "known"),
        ("don't", "do", "stop_word"),
        ("don't", "n't", "not_alphabetic"),
    ]


def test_a_dropped_word_is_known_and_said_to_be_dropped(counts: Path):
    found = look(counts, "cat", balance=Balance(rule="top_k", threshold=1))
    assert (found.facts[0].status, found.facts[0].keep) == ("dropped", 0.0)
    assert "dropped by this rule" in words_text(found)


def test_a_phrase_is_looked_up_as_the_one_word_that_it_is(tmp_path: Path, captioned_tar: Callable[..., Path]):
    options = WordOptions(phrases="red missile\n", deny="cat\n")
    tar = str(captioned_tar("data.tar", CAPTIONS))
    counts = count(tar, out=tmp_path / "counts", config=CountConfig(words=options, running=QUIET))
    assert [(fact.word, fact.status, fact.df) for fact in look(counts, "Red missile", "the red", "cat").facts] == [
        ("red missile", "known", 1),
        ("the", "stop_word", 0),
        ("red", "known", 1),
        ("cat", "denied", 0),
    ]
    covers = look(counts, classes=names_file(tmp_path, "red missile", "missile", "dog")).classes
    assert [(c.words, c.cover) for c in covers] == [(("red missile",), "all"), (("missile",), "none"), (("dog",), "all")]


def test_explaining_a_text_agrees_with_analysing_it(data_root: Path):
    import gzip

    import pyarrow as pa

    with gzip.open(data_root / "captions" / "laion-alttext.csv.gz", "rt", encoding="utf-8") as file:
        lines = [next(file).strip() for _ in range(2_000)]
    for options in (WordOptions(), WordOptions(phrases="new york\nfor sale\nthe best\n", deny="new york\n")):
        analyzer = Analyzer(options)
        analysed = [[analyzer.words[i] for i in row] for row in analyzer.analyse(pa.array(lines))]
        assert analysed == [[word for word, fault in analyzer.explain(line) if fault is None] for line in lines]
    assert "for sale" in analyzer.words


def test_classes_are_covered_wholly_partly_or_not_at_all(counts: Path, tmp_path: Path):
    names = names_file(tmp_path, "cat", "red fox", "walrus", "the of", "dog")
    found = look(counts, classes=names, balance=Balance(rule="top_k", threshold=1))
    assert [(c.name, c.cover, c.missing, c.dropped) for c in found.classes] == [
        ("cat", "none", (), ("cat",)),
        ("red fox", "some", ("fox",), ()),
        ("walrus", "none", ("walrus",), ()),
        ("the of", "none", (), ()),
        ("dog", "all", (), ()),
    ]
    text = words_text(found)
    assert "5 classes: of 1 all words are learnt, of 1 some, of 3 none" in text
    assert "  the of (has no word: only stop words or signs)" in text


def test_classes_with_the_same_learnt_words_cannot_be_told_apart(counts: Path, tmp_path: Path):
    names = names_file(tmp_path, "dog", "a dog", "red panda", "red fox", "cat")
    found = look(counts, classes=names)
    assert [(c.shared, c.twins) for c in found.classes] == [
        (("a dog (1)",), ("a dog (1)",)),
        (("dog (0)",), ("dog (0)",)),
        ((), ("red fox (3)",)),
        ((), ("red panda (2)",)),
        ((), ()),
    ]
    lines = words_text(found).splitlines()
    assert lines[lines.index("names of the same words, which no bag tells apart:") + 1] == "  a dog (1) = dog (0)"
    assert lines[lines.index("told apart only by words that are not learnt:") + 1] == "  red fox (3) = red panda (2)"


def test_imagenet_has_two_names_twice(counts: Path):
    found = look(counts, classes="imagenet1k")
    assert len(found.classes) == 1_000
    assert sorted({c.name for c in found.classes if c.shared}) == ["missile", "sunglasses"]


def test_classes_of_an_evaluation_set_are_taken_from_it(counts: Path, tmp_path: Path):
    from tests.support.pictures import picture

    for name in ("dog", "sun_glasses"):
        (tmp_path / "set" / name).mkdir(parents=True)
        (tmp_path / "set" / name / "0.png").write_bytes(picture())
    assert [c.name for c in look(counts, classes=str(tmp_path / "set")).classes] == ["dog", "sun glasses"]


def test_classes_are_covered_by_pictures_by_text_alone_or_not_at_all(counts: Path, bagged: Path, tmp_path: Path):
    """Few pictures, whose captions were counted among many more captions, and word vectors of all of them."""
    text = tmp_path / "text.tsv"
    text.write_text(
        "caption\tn\n" + "".join(f"{line}\t1\n" for line in ["a red fox and a dog", "the fox", "a walrus", "blue fish", "a cat"] * 2)
    )
    sources = [str(tmp_path / "data.tar"), str(text)]
    counted = count(*sources, out=tmp_path / "all", config=CountConfig(running=QUIET))
    made = vectors(
        *sources,
        counts=counted,
        out=tmp_path / "vectors",
        config=VectorsConfig(limits=Limits(min_count=1), vectors=VectorOptions(dim=4), running=QUIET),
    )
    names = names_file(tmp_path, "dog", "red dog", "fox", "red fox", "walrus", "dog walrus", "zebra", "of the")
    found = look(made, classes=names, pictures=(str(bagged),))
    assert [(c.name, c.source, c.pictures) for c in found.classes] == [
        ("dog", "pictures", 3),
        ("red dog", "pictures", 2),
        ("fox", "text", 0),
        ("red fox", "text", 0),
        ("walrus", "neither", 0),  # it stands beside no other word, so that its vector says nothing
        ("dog walrus", "neither", 0),
        ("zebra", "pictures", 1),
        ("of the", "neither", 0),
    ]
    lines = words_text(found).splitlines()
    place = lines.index("3 are covered by pictures, 2 by text alone, 3 not at all")
    assert lines[place + 1 : place + 4] == ["covered by text alone:", "  fox", "  red fox"]
    assert [entry["source"] for entry in json.loads(words_json(found))["classes"]][:3] == ["pictures", "pictures", "text"]
    twice = look(counted, classes=names, pictures=(str(bagged), str(bagged)), limits=Limits(min_count=1)).classes
    assert [c.pictures for c in twice][:2] == [6, 4]
    assert [c.source for c in twice][4] == "text"  # counts alone do not say what stands beside it
    assert {c.source for c in look(made, classes=names).classes} == {None}


@pytest.mark.parametrize(
    ("options", "type_this"),
    [
        ({"classes": "imagenet1k", "pictures": ("a", "b")}, "type --pictures a --pictures b --pictures {bags}"),
        ({"sample": ("a.tsv",)}, "type --sample a.tsv --sample {bags}"),
        ({}, "type fistful words {bags}, for words looks into one at a time"),
    ],
)
def test_a_folder_is_not_taken_for_a_word(counts: Path, bagged: Path, options: dict[str, object], type_this: str):
    with pytest.raises(UsageError) as error:
        look(counts, "dog", str(bagged), **options)
    said = f"{bagged}: is a folder, and was taken for a word to look up in {counts}; "
    assert str(error.value) == said + type_this.format(bags=bagged)


def test_a_word_may_be_called_like_a_folder_of_pictures(counts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("dog").mkdir()
    assert [fact.df for fact in look(counts, "dog").facts] == [3]
    with pytest.raises(UsageError, match=r"^dog: is a folder, and was taken for a word .*; type --sample data.tar --sample dog$"):
        look(counts, "dog", sample=("data.tar",))


def test_pictures_of_an_unfinished_folder_are_not_counted(counts: Path, bagged: Path, tmp_path: Path):
    (bagged / "manifest.json").unlink()
    with pytest.raises(UsageError, match=r"bags: is not finished \(no manifest.json\)"):
        look(counts, classes=names_file(tmp_path, "dog"), pictures=(str(bagged),))


def test_captions_without_pictures_cover_nothing_by_pictures(counts: Path, tmp_path: Path):
    (tmp_path / "a.tsv").write_text("caption\tn\na dog\t1\n")
    config = BagsConfig(limits=Limits(min_count=1), running=QUIET)
    pictureless = bags(str(tmp_path / "a.tsv"), counts=counts, out=tmp_path / "text", config=config)
    names = names_file(tmp_path, "dog")
    assert [c.source for c in look(counts, classes=names, pictures=(str(pictureless),)).classes] == ["text"]


def test_pictures_that_cannot_be_compared_are_refused(counts: Path, bagged: Path, tmp_path: Path):
    names = names_file(tmp_path, "dog")
    with pytest.raises(UsageError, match=r"--pictures .*/counts: has no index/; expected a folder that fistful bags or label wrote"):
        look(counts, classes=names, pictures=(str(counts),))
    config = CountConfig(words=WordOptions(min_length=4), running=QUIET)
    long = count(str(tmp_path / "data.tar"), out=tmp_path / "long", config=config)
    with pytest.raises(UsageError, match=r"--pictures .*/bags: its captions became words in another way"):
        words(long, config=WordsConfig(classes=names, pictures=(str(bagged),)))
    with pytest.raises(UsageError, match=r"--pictures bags: says what covers classes; give --classes too"):
        WordsConfig(pictures=("bags",))


def test_bags_of_a_folder_are_shown_as_it_wrote_them(bagged: Path):
    found = look(bagged, show=100)
    assert found.tried is not None
    import tarfile

    with tarfile.open(bagged / "shards" / "00000.tar") as tar:
        texts = {name[:-4]: tar.extractfile(name).read().decode() for name in tar.getnames() if name.endswith(".txt")}  # pyright: ignore[reportOptionalMemberAccess]
    assert {bag.key: " ".join(bag.balanced) for bag in found.tried.shown} == texts
    assert len(texts) == len(CAPTIONS) == found.tried.n_samples


def test_bags_of_caption_files_are_those_that_fistful_bags_would_write(counts: Path, bagged: Path, tmp_path: Path):
    # the folder's seed is 7, the default 0: both ways must agree where the seeds do
    config = BagsConfig(limits=Limits(min_count=1), balance=Balance(rule="cap", kept=0.6), running=QUIET)
    written = bags(str(tmp_path / "data.tar"), counts=counts, out=tmp_path / "other", config=config)
    own = look(written, show=100).tried
    before = look(counts, sample=(str(tmp_path / "data.tar"),), balance=Balance(rule="cap", kept=0.6), show=100).tried
    assert own is not None
    assert before is not None
    assert [bag.balanced for bag in before.shown] == [bag.balanced for bag in own.shown]
    assert before.kept_fraction == own.kept_fraction
    assert len(rows(written, "index")) == before.n_samples


def test_whole_samples_left_out_by_level_pair_are_shown_as_left_out(bagged: Path):
    found = look(bagged, balance=Balance(rule="cap", kept=0.2, level="pair"), show=100)
    assert found.tried is not None
    assert found.kept_expected is None
    out = [bag for bag in found.tried.shown if not bag.stays]
    assert len(out) == found.tried.n_out > 0
    assert "  balanced  (left out)" in words_text(found)


def test_words_are_not_dropped_where_whole_samples_are_thinned_out(counts: Path, tmp_path: Path):
    found = look(counts, "cat", classes=names_file(tmp_path, "cat", "dog"), balance=Balance(rule="top_k", threshold=1, level="pair"))
    assert [(c.cover, c.dropped) for c in found.classes] == [("all", ()), ("all", ())]
    assert (found.facts[0].status, found.facts[0].keep) == ("known", 0.0)
    assert "dropped by this rule" not in words_text(found)


def test_a_budget_shows_that_many_words(bagged: Path):
    found = look(bagged, balance=Balance(rule="budget", n_words=1), show=100)
    assert found.tried is not None
    assert {len(bag.balanced) for bag in found.tried.shown} == {1}
    assert "weight" in words_text(found)


def test_without_a_question_there_is_an_overview(counts: Path):
    text = words_text(look(counts))
    assert text.splitlines()[0] == f"{counts}: 8 words of 8 counted (--min-count 1), from 8 samples"
    assert text.splitlines()[5].split() == ["cat", "3", "3", "37.50%", "1", "1"]


def test_json_says_all_that_text_says(counts: Path, tmp_path: Path):
    value = json.loads(words_json(look(counts, "dog", classes=names_file(tmp_path, "dog", "walrus"))))
    assert value["facts"][0]["df"] == 3
    assert [entry["cover"] for entry in value["classes"]] == ["all", "none"]


def test_a_folder_of_bags_keeps_its_vocabulary(bagged: Path):
    with pytest.raises(UsageError, match="has its vocabulary already; expected a folder that fistful count wrote"):
        look(bagged, limits=Limits(min_count=2))


def test_a_call_at_fault_says_what_to_do(counts: Path, tmp_path: Path):
    with pytest.raises(UsageError, match=r"has no vocabulary.parquet; expected a folder that fistful count or bags wrote"):
        look(tmp_path)
    with pytest.raises(UsageError, match="no such file; expected imagenet1k, a file of names, or an evaluation set"):
        look(counts, classes="imagenet")
    with pytest.raises(UsageError, match="--show -1: expected 0 or more"):
        WordsConfig(show=-1)
    empty = tmp_path / "empty.tsv"
    empty.write_text("caption\n\n")
    with pytest.raises(UsageError, match="has no row with a caption"):
        look(counts, sample=(str(empty),))


def test_the_command_line_prints_a_table(counts: Path):
    done = fistful("words", counts, "dog", "--min-count", "1", "--rule", "cap", "--threshold", "1")
    assert done.returncode == 0, done.stderr
    assert "dog    3   3      37.50%     2  0.3333" in done.stdout


def test_verbs_are_functions_of_the_package_each_time_they_are_asked_for(counts: Path):
    import subprocess
    import sys

    code = f"import fistful\nfor _ in range(2): print(fistful.words({str(counts)!r}, 'dog').facts[0].df, len(fistful.doctor()) > 3)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["3 True", "3 True"], done.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "found 0 names, expected one or more, one on each line"),
        ("name\n", "found 0 names, expected one or more, one on each line"),
        ("id\tword\n0\tdog\n", "its first row has the columns 'id', 'word', expected one called name"),
    ],
)
def test_a_file_of_classes_without_names_is_refused_under_its_options_name(counts: Path, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "names.tsv").write_text(text)
    with pytest.raises(UsageError) as error:
        look(counts, classes=str(tmp_path / "names.tsv"))
    assert str(error.value).startswith(f"--classes {tmp_path}/names.tsv: {message}")
