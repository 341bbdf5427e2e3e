"""The page's section on texts: what a quiz found, with names that would like to do harm."""

from __future__ import annotations

from pathlib import Path

import pytest

from fistful.bow.store.files import read_json
from fistful.eval.quiz.quiz import quiz
from fistful.eval.quiz.quiz_config import QuizConfig
from fistful.verbs.report import report
from tests.support.quiz_words import common_words
from tests.support.report_folders import HOSTILE, make_run

ENCODER = "tests.support.quiz_words:WordEncoder"


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("quizzes")
    rows = [f"{word}\t{HOSTILE[0] if i % 2 else ''}\t{'late' if i < 60 else ''}" for i, word in enumerate(common_words(120))]
    (root / "own.tsv").write_text("word\tmark\ttime\n" + "\n".join(rows) + "\n")
    config = QuizConfig(tasks=str(root / "own.tsv"), progress=False)
    return quiz(ENCODER, f'{ENCODER} {{"name": "blind", "knows": false}}', out=root / "quiz", config=config)


def test_the_page_shows_each_kind_with_controls_intervals_and_differences(asked: Path, tmp_path: Path) -> None:
    page = Path(report(str(asked), out=tmp_path / "page.html")).read_text()
    assert '<section id="texts">' in page
    assert '<a href="#texts">Texts</a>' in page
    section = page.split('<section id="texts">')[1].split("</section>")[0]
    assert "predicate · 2 tasks · balanced accuracy, %" in section
    assert "(random vectors)" in section
    assert ">guessing<" in section.replace("<bdi>", ">").replace("</bdi>", "<")
    row = next(r for r in read_json(asked / "quiz.json")["kinds"] if (r["model"], r["procedure"], r["k"]) == ("bags", "linear", 16))
    assert f"{100 * row['score']:.1f}" in section
    assert f"{100 * row['score_low']:.1f}–{100 * row['score_high']:.1f}" in section
    assert "blind minus bags: predicate, 16 examples" in section
    assert "Tasks where models differ most" in section
    assert "blind cannot make" in section
    assert "<h1><bdi>Two models</bdi></h1>" in page
    assert "fistful quiz MODEL..." in page


def test_a_hostile_value_of_a_table_is_text(asked: Path, tmp_path: Path) -> None:
    page = Path(report(str(asked), out=tmp_path / "page.html")).read_text()
    assert HOSTILE[0] not in page
    assert "&lt;script&gt;hacked=1" in page


def test_a_quiz_that_was_begun_has_no_section_yet(tmp_path: Path, asked: Path) -> None:
    begun = tmp_path / "begun"
    begun.mkdir()
    (begun / "config.json").write_bytes((asked / "config.json").read_bytes())
    page = Path(report(str(begun), str(make_run(tmp_path / "run")), out=tmp_path / "page.html")).read_text()
    assert '<section id="texts">' not in page
    assert "begun" in page
