"""`fistful report`: what it says, and that nothing in a folder can harm it."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from fistful.bow.balance import Balance
from fistful.bow.store import manifest
from fistful.errors import DataError, UsageError
from fistful.verbs.report import ReportConfig, report
from fistful.verbs.report.classes import ClassScores, buckets
from fistful.verbs.report.curves import smoothed
from fistful.verbs.report.inputs import open_material
from fistful.verbs.report.page_text import shown
from fistful.verbs.report.scores import headline
from fistful.verbs.report.truth import most_frequent, precision
from tests.support.folders import REPOSITORY
from tests.support.report_folders import HOSTILE, Right, make_all, make_data, make_results, make_run, make_vectors


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder of each kind, full of hostile names."""
    return make_all(tmp_path_factory.mktemp("report"))


class Read(HTMLParser):
    """What a browser would find in a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def write(out: Path, *folders: Path, **options: object) -> str:
    """Return a report's page."""
    return report(*map(str, folders), out=out, config=ReportConfig(**options)).read_text("utf-8")  # pyright: ignore[reportArgumentType]


def test_a_folder_of_folders_is_all_that_a_report_needs(everything: Path, tmp_path: Path) -> None:
    page = report(str(everything), out=tmp_path / "page.html")
    text = page.read_text("utf-8")
    for anchor in ("pictures", "scores", "comparison", "training", "words", "vectors", "labels", "classes", "made"):
        assert f'<section id="{anchor}">' in text
    assert "Three models, two test sets" in text


def test_the_page_opens_with_pictures_and_scores_follow(everything: Path, tmp_path: Path) -> None:
    text = write(tmp_path / "page.html", everything, samples=8)
    assert re.findall(r'<section id="(\w+)">', text)[:2] == ["pictures", "scores"]
    pictures = text.split('<section id="pictures">')[1].split("</section>")[0]
    shown_at_once = re.sub(r"<details>.*?</details>", "", pictures, flags=re.S)
    assert (pictures.count('<li class="card">'), shown_at_once.count('<li class="card">')) == (16, 12)
    assert pictures.count("<summary>2 more</summary>") == 2


def test_a_picture_stands_beside_its_name_its_bag_and_what_the_model_says(tmp_path: Path) -> None:
    labels = make_data(tmp_path / "pseudo", ["dog", "cat", "bird"], pseudo=True)
    truth = tmp_path / "truth.tsv"
    truth.write_text("key\tname\n" + "".join(f"k{unit}-{row}\ta dog, barking\n" for unit in range(2) for row in range(15)))
    text = write(tmp_path / "page.html", labels, truth=str(truth), samples=1)
    card = text.split('<li class="card">')[1].split("<section")[0]
    said = " ".join(re.sub(r"<[^>]+>|&nbsp;", " ", card).split())
    assert re.match(r"a dog, barking bag dog the model says ✓ right: dog 50 %( ✗ wrong: \w+ 50 %)*", said)


def test_the_page_says_in_what_runs_differ_and_nothing_where_it_is_their_seed_alone(tmp_path: Path) -> None:
    results = make_results(tmp_path / "results", {"a": Right(0.3), "b": Right(0.4)})
    a, b = make_run(tmp_path / "runs/a", text="bag"), make_run(tmp_path / "runs/b", text="bag", text_tower="words")
    seed = make_run(tmp_path / "runs/c", text="bag", seed=1)
    table = write(tmp_path / "page.html", results, a, b).split('"stay">What differs between the runs')[1].split("</table>")[0]
    said = " ".join(re.sub(r"<[^>]+>", " ", table).split())
    assert said == "; all else is equal: 50 steps of 64 samples a step run text tower a transformer b words"
    assert "What differs" not in write(tmp_path / "page.html", results, a, seed)


@pytest.mark.parametrize(("images", "folded"), [(1, True), (3, False)])
def test_tables_of_classes_that_have_one_picture_each_are_folded_away(tmp_path: Path, images: int, folded: bool) -> None:
    results = make_results(tmp_path / "results", {"a": Right(0.3), "bb": Right(0.4)}, n_images=images)
    text = write(tmp_path / "page.html", results)
    tables = ("Best classes, % right, by the mean of the models", "Gained most, % right")
    folds = "".join(re.findall(r"<details>.*?</details>", text, flags=re.S))
    assert [table in text for table in tables] == [True, True]
    assert [table in folds for table in tables] == [folded, folded]


def test_the_same_input_gives_the_same_bytes_and_a_date_only_if_it_is_given(everything: Path, tmp_path: Path) -> None:
    first, again, dated = (write(tmp_path / f"{i}.html", everything, date=date) for i, date in enumerate((None, None, "1 May 2026")))
    assert first == again
    assert dated == first.replace('<p class="kicker">fistful report</p>', '<p class="kicker">fistful report · 1 May 2026</p>')


def test_hostile_names_are_text(everything: Path, tmp_path: Path) -> None:
    found = Read(write(tmp_path / "page.html", everything, truth=str(everything / "truth.tsv")))
    assert not {"script", "iframe", "object", "embed", "base", "form"} & set(found.tags)
    assert [name for name, _ in found.attributes if name.startswith("on")] == []
    outward = [value for name, value in found.attributes if name in ("src", "href", "xlink:href") and not value.startswith(("data:", "#"))]
    assert outward == []
    text = " ".join(found.texts)
    for name in HOSTILE:
        assert shown(name, 24).removesuffix(f"… ({len(name) - 24:,} characters more)") in text
    assert "\u202e" not in text
    assert "\x00" not in text
    assert max(len(part) for part in found.texts if "{" not in part) < 1_000


def test_mathematics_in_names_is_not_set(everything: Path, tmp_path: Path) -> None:
    results = make_results(tmp_path / "results", {"$x^2$": Right(0.3), "$\\frac$": Right(0.4)})
    assert "$\\frac$" in write(tmp_path / "page.html", results)


@pytest.mark.parametrize("kind", ["bags", "pseudo", "results", "runs", "vectors"])
def test_what_is_missing_is_left_out_with_a_line_that_says_what_would_fill_it(everything: Path, tmp_path: Path, kind: str) -> None:
    text = write(tmp_path / "page.html", everything / kind)
    there = {
        "bags": {"words", "pictures"},
        "pseudo": {"labels", "pictures"},
        "results": {"scores", "comparison", "classes"},
        "runs": {"training"},
        "vectors": {"vectors"},
    }[kind]
    assert set(re.findall(r'<section id="(\w+)">', text)) == there | {"made"}
    assert text.count("give the folder that <code>fistful ") == 7 - len(there - {"comparison"})


def test_folders_that_were_begun_but_have_nothing_yet_are_no_crash(tmp_path: Path) -> None:
    for name in ("bags", "label", "train", "evaluate", "vectors"):
        (tmp_path / name).mkdir()
        config = {"format": 1, "verb": name, "config": {}, "inputs": {}, "id": "0" * 16}
        (tmp_path / name / "config.json").write_text(json.dumps(config))
    text = write(tmp_path / "page.html", tmp_path)
    assert "Not finished, so not to be relied on" in text
    assert text.count("give the folder that") == 7


def test_overlapping_intervals_rank_nothing(tmp_path: Path) -> None:
    results = make_results(tmp_path / "results", {"a": Right(0.30), "b": Right(0.34)})
    runs = [make_run(tmp_path / "runs" / name, text=text) for name, text in (("a", "bag"), ("b", "caption"))]
    lines = headline(open_material([str(results), *map(str, runs)]), 1)
    assert lines == [
        "Two models, a and b, were asked to name 30 images of 10 classes (seen), from class names alone.",
        "Each was trained once, with one seed: a smoke run. It shows that the way works, and ranks nothing by itself.",
        "On seen, top-1 goes from 30.0\xa0% (a) to 34.0\xa0% (b); guessing gives 10.0\xa0%. "
        "All intervals overlap, so it does not say which model is better.",
    ]


def test_intervals_apart_are_a_hint_and_guessing_is_called_so(tmp_path: Path) -> None:
    results = make_results(tmp_path / "results", {"a": Right(0.12), "b": Right(0.34)})
    lines = headline(open_material([str(results)]), 1)
    assert lines[1] == "How many seeds stand behind a model is not known here; with one each, this is a smoke run."
    assert lines[2].endswith(
        "Intervals do not overlap for b over a: a hint, to be checked with more seeds. Not told apart from guessing: a."
    )


def test_seeds_of_one_configuration_are_counted(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "runs" / f"s{seed}", seed=seed) for seed in range(3)]
    results = make_results(tmp_path / "results", {f"s{seed}": Right(0.3) for seed in range(3)})
    lines = headline(open_material([str(results), *map(str, runs)]), 1)
    assert lines[1] == "Seeds behind a configuration: 3. Compare configurations over their seeds, not single models."


def test_models_of_one_name_are_told_apart_by_their_results_folder(tmp_path: Path) -> None:
    first, second = (make_results(tmp_path / name, {"bags": Right(share)}) for name, share in (("r1", 0.2), ("r2", 0.4)))
    assert open_material([str(first), str(second)]).models() == ["bags (r1)", "bags (r2)"]
    assert "Two models, one test set" in write(tmp_path / "page.html", first, second)


def test_one_model_measured_on_two_sets_in_two_folders_keeps_its_name(tmp_path: Path) -> None:
    folders = [make_results(tmp_path / name, {"bags": Right(0.2)}, sets=(name,)) for name in ("r1", "r2")]
    assert open_material([*map(str, folders)]).models() == ["bags"]
    assert "One model, two test sets" in write(tmp_path / "page.html", *folders)


def test_a_data_folder_without_samples_yet_shows_its_words(tmp_path: Path) -> None:
    data = make_data(tmp_path / "bags", ["dog", "cat"])
    for path in [*(data / "index").iterdir(), data / "manifest.json"]:
        path.unlink()
    assert set(re.findall(r'<section id="(\w+)">', write(tmp_path / "page.html", data))) == {"words", "made"}


def test_retrieval_and_tagging_are_shown_as_they_are(tmp_path: Path) -> None:
    results = make_results(tmp_path / "results", {"bags": Right(0.2)})
    found = json.loads((results / "results.json").read_text())
    found["results"][0] |= {"task": "zeroshot_retrieval", "metrics": {"image_retrieval_recall@1": 0.25, "tags_words": 1200, "x": None}}
    (results / "results.json").write_text(json.dumps(found))
    text = write(tmp_path / "page.html", results)
    assert re.search(r"image retrieval recall@1</th>\s*<td>25.0", text)
    assert re.search(r"tags words</th>\s*<td>1,200", text)


def test_the_words_cut_most_come_with_what_is_left_of_them(tmp_path: Path) -> None:
    data = make_data(tmp_path / "bags", ["dog", "cat", "bird"], n=30, rule=Balance(rule="cap", threshold=15))
    text = write(tmp_path / "page.html", data)
    rows = re.findall(r'<th scope="row"><bdi>(\w+)</bdi></th><td>([\d.,]+)</td><td>([\d.]+)</td><td>([\d.]+)</td>', text)
    assert rows == [("dog", "60", "0.250", "15"), ("cat", "30", "0.500", "15"), ("bird", "20", "0.750", "15")]


@pytest.mark.parametrize("rule", [Balance(), Balance(rule="budget", n_words=2), Balance(rule="cap", threshold=5, level="pair")])
def test_rules_without_keep_probabilities_of_words_are_shown_too(tmp_path: Path, rule: Balance) -> None:
    text = write(tmp_path / "page.html", make_data(tmp_path / "bags", ["dog", "cat", "bird"], rule=rule))
    assert "words cut most" not in text
    assert '<section id="words">' in text


def test_struck_through_words_are_those_that_the_shards_lack(tmp_path: Path, captioned_tar) -> None:
    from fistful.pipelines.bags import BagsConfig, bags
    from fistful.pipelines.count import count

    source = str(captioned_tar("in/00000.tar", [f"a red dog number{'abcdefgh'[i]} runs" for i in range(8)]))
    counts = count(source, out=tmp_path / "counts")
    limits = BagsConfig().limits
    folder = bags(source, counts=counts, out=tmp_path / "bags", config=BagsConfig(limits=limits, balance=Balance(rule="cap", kept=0.5)))
    text = write(tmp_path / "page.html", folder)
    cards = re.findall(r'<ul class="words">(.*?)</ul>', text, flags=re.S)
    left = sorted(" ".join(re.findall(r'<span class="word"><bdi>(\w+)', card)) for card in cards)
    import tarfile

    with tarfile.open(folder / "shards" / "00000.tar") as tar:
        texts = [tar.extractfile(name).read().decode() for name in tar.getnames() if name.endswith(".txt")]  # pyright: ignore[reportOptionalMemberAccess]
    assert left == sorted(texts)


def test_pseudo_words_are_measured_against_true_names(tmp_path: Path) -> None:
    labels = make_data(tmp_path / "pseudo", ["dog", "cat", "bird"], pseudo=True)
    truth = tmp_path / "truth.tsv"
    truth.write_text("key\tname\n" + "".join(f"k{unit}-{row}\ta dog\n" for unit in range(2) for row in range(15)))
    others = tmp_path / "precision.json"
    others.write_text('{"nearest_caption": 0.25, "images": 30, "labels": 0.5}')
    text = write(tmp_path / "page.html", labels, truth=str(truth), precision=str(others))
    given = sum(len({row % 3, 0, row * 7 % 3}) for row in range(15))
    assert f"these pseudo-labels</bdi></th><td>{100 * 15 / given:.1f} " in text
    plain = " ".join(re.sub(r"<[^>]+>|\u00a0", " ", text).split())
    assert "right words there 40.0 % (95 % interval 25.0 to 57.0)" in plain
    assert "if the same words went to any pictures 10.0 %" in plain
    assert "nearest caption</bdi></th><td>25.0" in text
    assert "of 30 labelled pictures" in text


def test_precision_counts_pictures_not_words() -> None:
    found = precision(np.array([2, 0] * 200), np.array([2, 2] * 200), np.array([0, 1] * 400), "x")
    assert (found.share, found.effective) == (0.5, 2)
    assert found.low is not None
    assert found.low == pytest.approx(0.45, abs=0.01)  # 1.96 * .5 / sqrt(400): of 800 words it would be .465
    assert most_frequent([2, 1], [{0, 5}, {1}]).tolist() == [1, 0]


def test_classes_of_equal_frequency_stay_in_one_part() -> None:
    df = np.array([0, 3, 3, 3, 3, 10, 100])
    found = ClassScores(list("abcdefg"), np.full(7, 2), df, ["m"], np.array([[0.0, 1, 1, 0, 0, 0.5, 1]]))
    parts = buckets(found, {"m": 0})
    assert parts.names == ("tail, df 3, 4 classes", "head, df 10–100, 2 classes", "word not in the vocabulary, 1 class")
    assert [(cell.value, cell.interval) for cell in parts.rows[0].cells] == [
        ("50.0", "21.5–78.5"),
        ("75.0", "30.1–95.4"),
        ("0.0", "0.0–65.8"),
    ]


def test_smoothing_keeps_the_ends() -> None:
    assert smoothed(np.array([4.0, 2, 0, 2, 4])).tolist() == [4.0, 2.0, 4 / 3, 2.0, 4.0]


def test_the_palette_can_be_read_in_light_and_in_dark() -> None:
    css = (REPOSITORY / "fistful" / "verbs" / "report" / "page.css").read_text()
    light, dark = css.split("@media (prefers-color-scheme: dark)")[:2]
    for part in (light, dark.split("}\n}")[0]):
        colours = dict(re.findall(r"--([a-z]\w*): (#[0-9a-f]{3,6});", part))
        for name in ("ink", "muted", "accent", "bad", "good", *(f"c{i}" for i in range(8))):
            assert contrast(colours[name], colours["page"]) >= 4.5, name
        assert contrast(colours["muted"], colours["soft"]) >= 4.5


def contrast(one: str, other: str) -> float:
    """WCAG 2's contrast ratio of two colours."""

    def luminance(colour: str) -> float:
        digits = colour[1:] if len(colour) == 7 else "".join(2 * c for c in colour[1:])
        parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_word_vectors_show_which_words_are_alike(tmp_path: Path) -> None:
    angles = np.radians([0, 10, 25, 90])
    vectors = np.concatenate([np.stack([np.cos(angles), np.sin(angles)], axis=1), np.zeros((1, 2))])
    folder = make_vectors(tmp_path / "vectors", ["dog", "puppy", "cat", "car", "zebra"], vectors)
    text = write(tmp_path / "page.html", folder)
    assert "<h1><bdi>One folder of word vectors</bdi></h1>" in text
    part = text.split('<section id="vectors">')[1].split("</section>")[0]
    said = " ".join(re.sub(r"<[^>]+>|&nbsp;", " ", part).split())
    assert "words of the vocabulary 5" in said
    assert "of them with a vector 4 (80.0 %)" in said
    assert "dog puppy , cat , car" in said
    assert "car cat , puppy , dog" in said
    assert "zebra" not in said.partition("nearest first")[2]
    (folder / "vectors.npy").unlink()  # while they are made
    (folder / "stats.json").unlink()
    assert "nearest first" not in write(tmp_path / "page.html", folder)


def test_one_folder_is_one_folder(tmp_path: Path) -> None:
    data = make_data(tmp_path / "bags", ["dog", "cat"])
    assert "<h1><bdi>One data folder</bdi></h1>" in write(tmp_path / "page.html", data)


@pytest.mark.parametrize(
    ("verb", "way"),
    [
        ("count", "fistful words {} looks words up in it"),
        ("embed", "its embeddings are for search, as docs/how-to/search-by-embeddings.md shows"),
    ],
)
def test_a_folder_that_no_page_shows_says_what_reads_it(tmp_path: Path, verb: str, way: str) -> None:
    manifest.claim(tmp_path / "folder", verb, {}, {})
    with pytest.raises(UsageError) as error:
        report(str(tmp_path / "folder"), out=tmp_path / "page.html")
    said = f"{tmp_path}/folder: was written by fistful {verb}, and a page shows nothing of it; "
    assert str(error.value) == said + way.format(tmp_path / "folder")


def test_errors_are_one_line_that_says_what_to_do(everything: Path, tmp_path: Path) -> None:
    def message(error: type[Exception], *folders: object, out: object = tmp_path / "page.html", **options: object) -> str:
        with pytest.raises(error) as found:
            report(*map(str, folders), out=str(out), config=ReportConfig(**options))  # pyright: ignore[reportArgumentType]
        assert "\n" not in str(found.value)
        return str(found.value)

    wrote = "that fistful train, evaluate, quiz, bags, label or vectors wrote"
    assert message(UsageError) == f"report: no FOLDER given; expected folders {wrote}"
    assert message(UsageError, tmp_path / "no") == f"{tmp_path}/no: no such folder; expected one {wrote}"
    (tmp_path / "empty").mkdir()
    assert message(UsageError, tmp_path / "empty").startswith(f"{tmp_path}/empty: found no run, results or data in it")
    assert message(UsageError, everything, out="page") == "--out page: expected a local file that ends in .html"
    assert message(UsageError, everything, truth="no.tsv") == "--truth no.tsv: no such file; expected a TSV with the columns key and name"
    assert (
        message(UsageError, everything, images="no") == "--images no: no such folder; expected the folder of tars that fistful label read"
    )
    (tmp_path / "bad.tsv").write_text("id\tlabel\n")
    assert message(DataError, everything, truth=tmp_path / "bad.tsv").endswith(
        "columns are ['id', 'label'], expected key and name, separated by a tab"
    )
    run = make_run(tmp_path / "run")
    with open(run / "metrics.jsonl", "a") as file:
        file.write("{nonsense\n")
    assert message(DataError, run) == f"{run}/metrics.jsonl row 53: found b'{{nonsense\\n', expected a JSON object with step and loss"
    assert not (tmp_path / "page.html").exists()
