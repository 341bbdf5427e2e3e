"""The list of tasks, and the texts of those about several words."""

from __future__ import annotations

import gzip
import itertools

import numpy as np
import pytest

from fistful.bow.draw import draw_share
from fistful.bow.lexicon import Lexicon, make_lexicon
from fistful.bow.relations import FOLDER, read_relations
from fistful.bow.sequences import ORDERS, make_texts, sequences
from fistful.bow.tasks import ALIKE, LEAST, MOST_ANSWERS, MOST_COMMON, MOST_SHARE, Predicate, Relation, Task, TextTask, atoms, composed


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    """Every fifth first lemma of the table, with its plural, past and -ing, as if captions had them."""
    table = read_relations()
    rows = gzip.decompress((FOLDER / "synsets.tsv.gz").read_bytes()).decode("ascii").splitlines()[1:]
    first = [cell.split(":")[0] for row in rows[::5] for cell in row.split("\t")[2].split()[:1]]
    forms = [form for word in dict.fromkeys(first) for form in (word, f"{word}s", f"{word}ed", f"{word}ing")]
    return make_lexicon(dict.fromkeys(forms), table, most=8_000)


@pytest.fixture(scope="module")
def tasks(lexicon: Lexicon) -> list[Task]:
    parts = atoms(lexicon, seed=0)
    return [*parts, *composed(parts, seed=0), *sequences(parts, seed=0)]


def test_there_are_two_hundred_of_the_kinds_that_were_asked_for(tasks: list[Task]) -> None:
    assert len(tasks) == 200
    n = {kind: sum(task.kind == kind for task in tasks) for kind in {task.kind for task in tasks}}
    assert n["predicate"] + n["relation"] == 60
    assert n["predicates composed"] + n["relations composed"] == 120
    assert n["bag of words"] == 8
    assert n["word order"] == 12
    assert len({str(task) for task in tasks}) == 200


def test_the_list_is_a_function_of_words_table_and_seed(lexicon: Lexicon, tasks: list[Task]) -> None:
    again = atoms(lexicon, seed=0)
    assert [str(task) for task in again] == [str(task) for task in tasks[: len(again)]]
    assert [str(task) for task in atoms(lexicon, seed=1)] != [str(task) for task in again]


def test_no_predicate_is_too_small_too_large_or_nearly_another(tasks: list[Task]) -> None:
    predicates = [task for task in tasks if isinstance(task, Predicate)]
    assert all(LEAST <= task.members.sum() <= MOST_SHARE * len(task.members) for task in predicates)
    pairs = itertools.combinations([task.members for task in predicates], 2)
    assert max((a & b).sum() / (a | b).sum() for a, b in pairs) <= ALIKE


def test_no_answer_is_right_for_many_questions_and_no_question_has_many(tasks: list[Task]) -> None:
    for task in tasks:
        if isinstance(task, Relation):
            assert len(task.answers) >= LEAST
            assert all(0 < len(right) <= MOST_ANSWERS and i not in right for i, right in task.answers.items())
            times = np.bincount([to for right in task.answers.values() for to in right])
            assert times.max() <= 2 * MOST_COMMON * len(task.answers)  # of the questions before some were left out


def test_composed_tasks_are_what_their_names_say(tasks: list[Task]) -> None:
    named = {str(task): task for task in tasks}
    joined = {" and not ": lambda a, b: a & ~b, " and ": np.logical_and, " or ": np.logical_or}
    looked_at = 0
    for task in tasks:
        if task.kind == "predicates composed":
            assert isinstance(task, Predicate)
            way = next(way for way in joined if way in str(task))
            a, b = (named[name] for name in str(task).split(way))
            assert isinstance(a, Predicate)
            assert isinstance(b, Predicate)
            assert (task.members == joined[way](a.members, b.members)).all()
            looked_at += 1
    assert looked_at >= 90


def test_a_chain_asks_what_one_relation_makes_of_the_answers_of_another(tasks: list[Task]) -> None:
    named = {str(task): task for task in tasks}
    chain = next(task for task in tasks if task.kind == "relations composed" and " of " in str(task))
    assert isinstance(chain, Relation)
    outer, inner = (named[name] for name in str(chain).split(" of "))
    assert isinstance(outer, Relation)
    assert isinstance(inner, Relation)
    for i, right in chain.answers.items():
        assert right <= {to for by in inner.answers[i] for to in outer.answers.get(by, ())}


@pytest.mark.parametrize("salt", [0, 1])
def test_texts_are_true_or_not_by_the_rule(lexicon: Lexicon, tasks: list[Task], salt: int) -> None:
    side, place = draw_share(lexicon.groups, 0.5, salt), lexicon.ids()
    for task in tasks:
        if not isinstance(task, TextTask):
            continue
        made = make_texts(task, lexicon.words, side, 64, seed=salt)
        assert len(made.texts) == len(set(made.texts)) >= 32
        assert made.labels.sum() == 0
        for text, label in zip(made.texts, made.labels.tolist(), strict=True):
            row = [place[word] for word in text.split()]
            assert side[row].all()
            assert 2 <= len(row) <= 8
            assert len(set(row)) == len(row)
            assert is_true(task, row) == (label > 0), (str(task), text)


def is_true(task: TextTask, row: list[int]) -> bool:
    counted, against = task.first[row], task.second[row]
    if task.rule == "contains":
        return bool(counted.any())
    if task.rule == "more":
        return bool(counted.sum() > against.sum())
    if task.rule == "first":
        return bool(counted[0])
    if task.rule == "before":
        return bool(counted.argmax() < against.argmax())
    return row[1] in task.answers.get(row[0], ())


def test_each_bag_of_an_order_task_is_there_in_both_orders_with_opposite_labels(lexicon: Lexicon, tasks: list[Task]) -> None:
    for task in tasks:
        if isinstance(task, TextTask) and task.rule in ORDERS:
            made = make_texts(task, lexicon.words, draw_share(lexicon.groups, 0.5, 0), 64, seed=3)
            bags = [sorted(text.split()) for text in made.texts]
            assert bags[::2] == bags[1::2]
            assert (made.labels[::2] == -made.labels[1::2]).all()


def test_few_words_give_few_tasks_and_no_error() -> None:
    small = make_lexicon(["dog", "dogs", "cat", "run"], read_relations())
    assert atoms(small, seed=0) == []
    assert composed([], seed=0) == []
    assert sequences([], seed=0) == []
