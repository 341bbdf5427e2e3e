"""Prompts: what each set says of a class."""

from __future__ import annotations

import open_clip
import pytest

from fistful.bow.words import WordOptions
from fistful.errors import UsageError
from fistful.eval.sets.class_names import ClassName
from fistful.eval.tasks.prompts import build_prompts, class_words, options_for, read_templates
from fistful.training.model.own import checked
from tests.support.colours import ColourEncoder

CLASSES = [ClassName("0", "the dog's bowl", ("bowl", "dish {c}")), ClassName("1", "The Who")]


def say(name: str, *, synonyms: bool = False, own: tuple[str, ...] = ()) -> list[list[str]]:
    return build_prompts(name, CLASSES, own=own, options=WordOptions(), synonyms=synonyms).texts


def test_bare_names_bags_and_templates():
    assert say("name") == [["the dog's bowl"], ["The Who"]]
    assert say("bag") == [["dog bowl"], ["The Who"]]
    assert say("set", own=("a {c}.", "{c}")) == [["a the dog's bowl.", "the dog's bowl"], ["a The Who.", "The Who"]]


def test_synonyms_are_further_prompts_of_the_class_and_braces_in_them_stay():
    assert say("name", synonyms=True) == [["the dog's bowl", "bowl", "dish {c}"], ["The Who"]]
    assert say("set", own=("a {c}",), synonyms=True)[0] == ["a the dog's bowl", "a bowl", "a dish {c}"]


def test_the_head_is_asked_for_words_and_phrases_stay_whole():
    assert say("head", synonyms=True) == [["dog", "bowl", "dish", "c"], []]
    hydrant = [ClassName("0", "Fire hydrant", ("red fire hydrant", "hydrant"))]
    options = WordOptions(phrases="fire hydrant\n")
    found = build_prompts("head", hydrant, own=[], options=options, synonyms=True)
    assert found.texts == [["fire hydrant", "red", "hydrant"]]
    assert build_prompts("bag", hydrant, own=[], options=options, synonyms=False).texts == [["fire hydrant"]]


def test_names_become_words_as_the_captions_did_that_the_model_learnt_from():
    model, mine, others = checked(ColourEncoder(), "colours"), WordOptions(min_length=2), WordOptions(stop_words=True)
    assert options_for(model, others) == others  # it has no words, and does not say
    model.words = ["cat", "fire hydrant"]
    assert class_words(["a fire hydrant"], options_for(model, others)) == [["a", "fire hydrant"]]
    both = options_for(model, WordOptions(phrases="bird of prey\n"))
    assert class_words(["bird of prey on a fire hydrant"], both) == [["bird of prey", "fire hydrant"]]
    model.word_options = mine
    assert options_for(model, others) == mine


def test_clips_own_sets_have_80_and_7_templates():
    assert say("openai80")[1] == [template("The Who") for template in open_clip.OPENAI_IMAGENET_TEMPLATES]
    assert say("simple7")[1] == [template("The Who") for template in open_clip.SIMPLE_IMAGENET_TEMPLATES]
    assert (len(say("openai80")[0]), len(say("simple7")[0])) == (80, 7)


def test_a_file_of_templates_is_named_after_it_and_checked(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("a {c}\n\nno {c}, no {c}\n")
    found = build_prompts(str(path), CLASSES[1:], own=[], options=WordOptions(), synonyms=False)
    assert (found.name, found.texts) == ("mine", [["a The Who", "no The Who, no The Who"]])
    path.write_text("\ufeffa {c}\n", "utf-8")
    assert read_templates(path) == ["a {c}"]
    path.write_text("a {c}\na {}\n")
    with pytest.raises(UsageError, match=r"mine.txt row 2: found 'a \{\}', expected \{c\} where the class name goes"):
        read_templates(path)
    path.write_text("\n")
    with pytest.raises(UsageError, match="has no template"):
        read_templates(path)


def test_a_set_without_templates_of_its_own_says_so():
    with pytest.raises(UsageError, match="--prompts set: the data set brings no templates"):
        say("set")


def test_a_template_of_the_set_without_a_place_for_the_name_is_refused_as_in_a_file():
    with pytest.raises(UsageError, match=r"--prompts set: zeroshot_.*txt row 3: found 'a photo', expected \{c\} where the class name goes"):
        say("set", own=("a {c}", "", "a photo"))
    assert say("set", own=("a {c}", " ", "{c}"))[1] == ["a The Who", "The Who"]


def test_words_of_names_follow_the_word_options():
    assert class_words(["Golden the Retriever 2"], WordOptions()) == [["golden", "retriever"]]
    assert class_words(["Golden the Retriever"], WordOptions(stop_words=True)) == [["golden", "the", "retriever"]]
