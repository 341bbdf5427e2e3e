"""How words are read, and what stands above and beside them."""

from __future__ import annotations

from fistful.bow.lexicon import hypernym_members, make_lexicon, random_relations, word_relations
from fistful.bow.relations import FOLDER, read_relations


def read(word: str) -> tuple[str, str, str] | None:
    reading = read_relations().read(word)
    return reading and (reading.lemma, reading.pos, reading.form)


def test_a_word_is_read_by_rule_by_exception_or_as_it_stands() -> None:
    assert read("dogs") == ("dog", "n", "plural")
    assert read("geese") == ("goose", "n", "plural")
    assert read("went") == ("go", "v", "past")
    assert read("stopped") == ("stop", "v", "past")
    assert read("wears") == ("wear", "v", "third")
    assert read("hotter") == ("hot", "a", "comparative")
    assert read("best") == ("good", "a", "superlative")
    assert read("skateboard") == ("skateboard", "n", "base")
    assert read("bus") == ("bus", "n", "base")


def test_of_several_readings_the_one_counts_that_was_tagged_most() -> None:
    assert read("running") == ("run", "v", "ing")
    assert read("painting") in {("paint", "v", "ing"), ("painting", "n", "base")}
    assert read("left") == ("leave", "v", "past")
    assert read("saw") == ("see", "v", "past")


def test_what_the_table_does_not_know_is_not_read() -> None:
    assert [read(word) for word in ("qwerty", "paris", "ss", "", "great white shark")] == [None] * 5


def test_the_table_has_the_licence_beside_it() -> None:
    text = (FOLDER / "LICENSE").read_text("ascii")
    assert "WordNet 3.1 Copyright 2011 by Princeton University" in text
    assert "WordNet 3.0 Copyright 2006 by Princeton University" in text
    assert text.count("the same appear on ALL copies") == 2


def test_no_synset_stands_above_itself() -> None:
    table = read_relations()
    assert [i for i in range(len(table.pos)) if i in table.all_above(i)] == []


def test_relations_lead_from_base_forms_to_answers() -> None:
    words = [
        "dog",
        "dogs",
        "puppy",
        "animal",
        "hot",
        "cold",
        "go",
        "went",
        "going",
        "car",
        "auto",
        "vehicle",
        "snore",
        "sleep",
        "big",
        "bigger",
        "sofa",
        "couch",
        "chair",
    ]
    lexicon = make_lexicon(words, read_relations())
    assert lexicon.words == words
    found = {
        name: {words[i]: sorted(words[to] for to in right) for i, right in answers.items()}
        for name, answers in word_relations(lexicon).items()
    }
    assert found["synonym"] == {"car": ["auto"], "auto": ["car"], "sofa": ["couch"], "couch": ["sofa"]}
    assert found["antonym"] == {"hot": ["cold"], "cold": ["hot"]}
    assert found["hypernym"]["puppy"] == ["animal", "dog"]
    assert found["parent"]["puppy"] == ["dog"]
    assert found["hyponym"]["animal"] == ["dog", "puppy"]
    assert found["entailment"] == {"snore": ["sleep"]}
    assert found["plural"] == {"dog": ["dogs"]}
    assert found["past"] == {"go": ["went"]}
    assert found["ing"] == {"go": ["going"]}
    assert found["comparative"] == {"big": ["bigger"]}
    assert found["base"] == {"dogs": ["dog"], "went": ["go"], "going": ["go"], "bigger": ["big"]}


def test_words_of_a_lemma_or_of_a_synset_are_one_group() -> None:
    words = ["cat", "cats", "car", "auto", "cars", "sofa", "dog"]
    groups = make_lexicon(words, read_relations()).groups.tolist()
    assert groups == [0, 0, 2, 2, 2, 5, 6]


def test_an_inflected_word_is_a_member_of_what_stands_above_its_lemma() -> None:
    lexicon = make_lexicon(["dog", "dogs", "chair"], read_relations())
    members = hypernym_members(lexicon)
    assert members["animal"].tolist() == [True, True, False]
    assert members["entity"].tolist() == [True, True, True]
    assert members["dog"].tolist() == [True, True, False]


def test_relations_of_chance_are_the_same_for_a_seed() -> None:
    assert random_relations(50, 0) == random_relations(50, 0)
    assert random_relations(50, 0)["chance1"] != random_relations(50, 1)["chance1"]
    assert all(i not in right for i, right in random_relations(50, 0)["chance1"].items())
