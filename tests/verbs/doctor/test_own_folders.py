"""What `fistful doctor` finds in folders that fistful wrote, each finding provoked once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fistful.bow.store.files import write_json
from fistful.verbs.doctor.any_folder import judge_path
from fistful.verbs.doctor.finding import findings_text
from tests.support.findings import levels, make_bags, make_run, one, pair, write_tar


def test_a_healthy_data_folder_has_nothing_but_ok(tmp_path: Path, captioned_tar: Callable[..., Path]):
    folder = make_bags(tmp_path, captioned_tar)
    findings = judge_path(folder)
    assert levels(findings) == {"ok"}, findings_text(findings)
    assert one(findings, "written by fistful bags").command.startswith(f"fistful verify {folder}")
    assert "1 tar walked: 4 samples, 4 images, 4 with text; 4 images decoded" in one(findings, "walked").text


def test_embeddings_are_known(tmp_path: Path, captioned_tar: Callable[..., Path]):
    from fistful.pipelines.embed import embed

    tar = captioned_tar("a.tar", ["red", "blue"])
    folder = embed(str(tar), model="tests.support.colours:ColourEncoder", out=tmp_path / "vectors")
    findings = judge_path(folder)
    assert levels(findings) == {"ok"}, findings_text(findings)
    assert one(findings, "written by fistful embed, configuration").command.startswith(f"fistful verify {folder}")


def test_an_unfinished_folder_says_which_units_are_missing(tmp_path: Path, captioned_tar: Callable[..., Path]):
    folder = make_bags(tmp_path, captioned_tar)
    (folder / "manifest.json").unlink()
    shutil.copy(folder / "stats" / "00000.json", folder / "stats" / "00003.json")
    (folder / "logs" / "tmp").mkdir(exist_ok=True)
    (folder / "logs" / "tmp" / "00001.tar.12.ab").write_bytes(b"half")
    findings = judge_path(folder)
    assert one(findings, "unfinished (no manifest.json)").level == "warning"
    assert one(findings, "2 units done of at least 4; not done among them: 1, 2").level == "note"
    assert one(findings, "1 half-written file of killed workers").command.startswith("rm -r")


def test_files_that_are_missing_or_of_another_size_are_found(tmp_path: Path, captioned_tar: Callable[..., Path]):
    folder = make_bags(tmp_path, captioned_tar)
    (folder / "dead_letters" / "00000.parquet").unlink()
    with open(folder / "stats" / "00000.json", "ab") as file:
        file.write(b"\n")
    finding = one(judge_path(folder), "2 files other than its manifest.json says, dead_letters/00000.parquet (missing)")
    assert (finding.level, finding.command) == ("problem", f"fistful verify {folder}")


def test_lost_stats_of_a_finished_folder_are_found(tmp_path: Path, captioned_tar: Callable[..., Path]):
    folder = make_bags(tmp_path, captioned_tar)
    (folder / "stats" / "00000.json").unlink()
    assert one(judge_path(folder), "units 0 have no stats").level == "problem"


def test_shards_that_do_not_fit_index_and_sizes_are_found(tmp_path: Path, captioned_tar: Callable[..., Path]):
    folder = make_bags(tmp_path, captioned_tar)
    write_tar(folder / "shards" / "00000.tar", pair("00000_0000000"))
    finding = one(judge_path(folder), "shards, index and sizes.json do not agree")
    assert "00000.tar (1 samples, index has 4)" in finding.text
    (folder / "index" / "00000.parquet").write_bytes(b"no parquet")
    assert "index/00000.parquet (cannot be read)" in one(judge_path(folder), "do not agree").text
    (folder / "index" / "00000.parquet").unlink()
    assert "(not in the index)" in one(judge_path(folder), "do not agree").text


def test_refused_rows_and_emptied_bags_are_told(tmp_path: Path, captioned_tar: Callable[..., Path]):
    folder = make_bags(tmp_path, captioned_tar)
    stats = json.loads((folder / "stats.json").read_bytes())
    write_json(folder, "stats.json", {**stats, "rows": 10, "kept": 4, "refused": {"no_caption": 6}, "bags_emptied": 2})
    findings = judge_path(folder)
    assert one(findings, "6 refused (no_caption 6)").level == "warning"
    assert one(findings, "balancing emptied 2 of 4 bags").command.startswith(f"fistful words {folder}")


def test_a_folder_of_a_newer_version_is_a_problem(tmp_path: Path):
    write_json(tmp_path, "config.json", {"format": 99, "verb": "count", "config": {}, "inputs": {}, "id": "0"})
    assert one(judge_path(tmp_path), "has format 99").level == "problem"


def test_a_broken_vocabulary_is_a_problem(tmp_path: Path, captioned_tar: Callable[..., Path]):
    folder = make_bags(tmp_path, captioned_tar)
    (folder / "vocabulary.parquet").write_bytes(b"no parquet")
    assert one(judge_path(folder), "not a readable parquet file").level == "problem"


def test_an_unfinished_run_says_where_it_would_go_on(tmp_path: Path):
    assert one(judge_path(make_run(tmp_path / "a", 20, 40)), "last checkpoint at step 40 of 100").level == "note"
    run = make_run(tmp_path / "b")
    (run / "logs").mkdir(exist_ok=True)
    (run / "logs" / "replaced.jsonl").write_text("{}\n{}\n")
    findings = judge_path(run)
    assert one(findings, "no checkpoint yet").level == "note"
    assert one(findings, "2 broken pictures replaced in training").level == "warning"


def test_model_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)  # no transformers here
    config = tmp_path / "open_clip_config.json"
    config.write_text(json.dumps({"model_cfg": {"embed_dim": 8, "vision_cfg": {}, "text_cfg": {"hf_tokenizer_name": "bert"}}}))
    assert one(judge_path(tmp_path), "has no weights that open_clip reads").level == "problem"
    (tmp_path / "open_clip_model.safetensors").write_bytes(b"")
    findings = judge_path(tmp_path)
    assert one(findings, "model with open_clip_model.safetensors").level == "ok"
    assert one(findings, "one of transformers', which is not installed").command == "pip install transformers"
    assert one(findings, "does not lie beside it (tokenizer.json)").level == "warning"
    config.write_text("{}")
    assert one(judge_path(tmp_path), "has no model_cfg").level == "problem"
