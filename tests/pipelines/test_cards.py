"""Cards of data folders: README.md in the hub's form, made of what the folder says of itself."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.measure import CACHE, overlay
from fistful.bow.store import manifest
from fistful.bow.store.kinds import PassedOver
from fistful.bow.store.shard import tar_bytes
from fistful.pipelines.bags import BagOptions, BagsConfig, bags
from fistful.pipelines.count import CountConfig, count
from fistful.pipelines.embed import embed
from fistful.pipelines.engine.stage import Running
from fistful.pipelines.pseudo.label import LabelConfig, LabelOptions, label
from fistful.pipelines.read.plan import PlanOptions, plan_units
from tests.support.data_folder import make_data
from tests.support.folders import REPOSITORY, contents, environment
from tests.support.pages import blocks
from tests.support.pictures import picture

QUIET = Running(progress=False, max_bad_fraction=0.6)
DATASETS = ("datasets==5.2.0", "dill==0.4.1", "multiprocess==0.70.19", "pandas==3.1.1", "xxhash==4.1.0")
PAGE = REPOSITORY / "docs" / "how-to" / "share-on-the-hub.md"


def front(folder: Path) -> dict[str, Any]:
    """The part of a card between the dashes."""
    _, found, _ = (folder / "README.md").read_text("utf-8").split("---\n", 2)
    return yaml.safe_load(found)


def photos(folder: Path, n: int, *, captions: bool = True) -> str:
    """Two tars of pictures: PNG in the first, JPEG in the second, whose last picture is broken."""
    folder.mkdir(parents=True)
    for part, (kind, name) in enumerate([("png", "PNG"), ("jpg", "JPEG")]):
        files: dict[str, bytes] = {}
        for i in range(n):
            colour = ("red", "green", "blue")[i % 3]
            channel = [230 if j == i % 3 else (20 + i % 20 + part) for j in range(3)]
            files[f"{i:04d}.{kind}"] = picture((channel[0], channel[1] + i // 60, channel[2]), format=name)
            if captions:
                files[f"{i:04d}.txt"] = f"a {colour} thing".encode()
        files[f"9999.{kind}"] = b"broken" if part else picture()
        files["9999.txt"] = b"a red thing"
        (folder / f"{part}.tar").write_bytes(tar_bytes(files))
    return str(folder)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of bags and one of labels, from PNG and JPEG files."""
    root = tmp_path_factory.mktemp("cards")
    source = photos(root / "photos", 450)
    counts = count(source, out=root / "counts", config=CountConfig(running=QUIET))
    data = bags(source, counts=counts, out=root / "bags", config=BagsConfig(running=QUIET))
    words = json.dumps({"words": ["thing", "red", "blue", "green"]})
    options = LabelConfig(label=LabelOptions(by="knn", k=5), running=QUIET)
    label(
        photos(root / "bare", 30, captions=False),
        model=f"tests.support.label_encoder:Labeller {words}",
        like=data,
        out=root / "labels",
        config=options,
    )
    embed(source, model="tests.support.colours:ColourEncoder", out=root / "vectors")
    return root


def test_the_card_says_what_lies_there_where_and_of_which_types(made: Path) -> None:
    card = front(made / "bags")
    (where,) = card["configs"]
    assert (where["config_name"], where["data_files"]) == ("default", [{"split": "train", "path": "shards/*.tar"}])
    assert front(made / "bags/shards")["configs"][0]["data_files"] == [{"split": "train", "path": "*.tar"}]
    assert (card["language"], card["size_categories"]) == (["en"], ["n<1K"])
    features = {feature["name"]: feature for feature in card["dataset_info"]["features"]}
    assert [*features] == ["jpg", "png", "json", "txt", "__key__", "__url__"]
    assert {field["name"]: field.get("list") or field["dtype"] for field in features["json"]["struct"]} == {
        "bag": "string",
        "caption": "string",
        "captions": "string",
        "extra": "string",
        "pseudo": "bool",
        "scores": "float64",
        "source": "string",
        "source_key": "string",
    }
    text = (made / "bags/README.md").read_text("utf-8")
    assert "| pictures | 450 jpg, 451 png |" in text
    assert "Refused rows: bad_image 1;" in text
    assert "| right on held-out pictures | " in (made / "labels/README.md").read_text("utf-8")
    assert front(made / "vectors")["configs"][0]["data_files"] == [{"split": "train", "path": "embeddings/*.parquet"}]
    assert all(manifest.verify(made / name) == [] for name in ("bags", "labels", "vectors"))


def test_no_place_time_or_machine_is_in_a_card(made: Path) -> None:
    for name in ("bags", "bags/shards", "labels", "labels/shards", "vectors"):
        text = (made / name / "README.md").read_text("utf-8")
        assert [word for word in (str(made), platform.node(), "/tmp", os.path.expanduser("~"), "20:") if word in text] == []


def test_two_folders_of_equal_names_have_other_cards_if_their_content_differs(tmp_path: Path, captioned_tar: Callable[..., Path]) -> None:
    """What `datasets` caches it calls by the folder's name and the card: without a digest it gave one folder's samples for the other's."""
    cards = []
    for name, captions in (("a", ["red dog"] * 3), ("b", ["red cat"] * 3), ("c", ["red dog"] * 3)):
        tar = captioned_tar(f"{name}/photos.tar", captions)
        counts = count(str(tar), out=tmp_path / name / "counts")
        cards.append(front(bags(str(tar), counts=counts, out=tmp_path / name / "data")))
    assert cards[0]["configs"][0]["description"] != cards[1]["configs"][0]["description"]
    assert cards[0] == cards[2]


def test_captions_alone_have_no_picture_in_their_types(tmp_path: Path, captioned_tar: Callable[..., Path]) -> None:
    tar = captioned_tar("a.tar", ["red dog"] * 3)
    counts = count(str(tar), out=tmp_path / "counts")
    data = bags(str(tar), counts=counts, out=tmp_path / "bags", config=BagsConfig(bags=BagOptions(images="none"), running=QUIET))
    assert [feature["name"] for feature in front(data)["dataset_info"]["features"]] == ["json", "txt", "__key__", "__url__"]


def test_folders_that_earlier_versions_finished_still_verify_and_stay_as_they_are(made: Path, tmp_path: Path) -> None:
    data = Path(make_data(tmp_path / "data"))  # writes no card
    assert manifest.verify(data) == []
    counts = count(str(made / "photos"), out=tmp_path / "counts", config=CountConfig(running=QUIET))
    again = bags(str(made / "photos"), counts=counts, out=tmp_path / "bags", config=BagsConfig(running=QUIET))
    for card in (again / "README.md", again / "shards" / "README.md", again / "manifest.json"):
        card.unlink()
    manifest.finish(again, {}, {})
    before = contents(again)
    bags(str(made / "photos"), counts=counts, out=again, config=BagsConfig(running=QUIET))
    assert contents(again) == before
    assert manifest.verify(again) == []


def test_whoever_lists_the_folder_passes_over_its_card(made: Path, tmp_path: Path) -> None:
    passed = PassedOver()
    units, _ = plan_units((str(made / "bags" / "shards"),), PlanOptions(), passed)
    assert ([unit.name for unit in units], passed.lines()) == (["00000.tar", "00001.tar"], [])
    counts = count(str(made / "bags" / "shards"), out=tmp_path / "counts", config=CountConfig(running=QUIET))
    assert json.loads((counts / "stats.json").read_bytes())["kept"] == 901


LOAD = """
import json, sys
import datasets

datasets.disable_progress_bars()
root = sys.argv[1]
calls = {
    "bags": ([f"{root}/bags"], {}), "bags/shards": ([f"{root}/bags/shards"], {}), "data_dir": ([f"{root}/bags"], {"data_dir": "shards"}),
    "labels": ([f"{root}/labels"], {}), "labels/shards": ([f"{root}/labels/shards"], {}), "vectors": ([f"{root}/vectors"], {}),
    "same name": ([f"{root}/other/bags"], {}),
    "both": (["webdataset"], {"data_files": [f"{root}/{name}/shards/00000.tar" for name in ("bags", "labels")]}),
}
found = {}
for name, (given, options) in calls.items():
    data = datasets.load_dataset(*given, split="train", **options)
    scores = data.features["json"]["scores"].feature.dtype if "json" in data.features else None
    found[name] = (len(data), scores, [*data.features], data[0].get("__key__") or data[0]["key"])
joined = datasets.concatenate_datasets([datasets.load_dataset(f"{root}/{n}", split="train") for n in ("bags", "labels")])
streamed = sum(1 for _ in datasets.load_dataset(f"{root}/bags", split="train", streaming=True))
found["joined"], found["picture"] = len(joined), joined[0]["png"].size
found["streamed"] = streamed
print(json.dumps(found))
"""


@pytest.mark.slow
@pytest.mark.xdist_group("datasets")
def test_datasets_loads_every_folder_with_the_same_types(made: Path, tmp_path: Path) -> None:
    packages = overlay(CACHE, "datasets", DATASETS)
    (made / "other").mkdir()
    counts = count(str(made / "photos"), out=tmp_path / "counts", config=CountConfig(running=QUIET))
    bags(str(made / "photos/0.tar"), counts=counts, out=made / "other" / "bags", config=BagsConfig(running=QUIET))
    env = environment(PYTHONPATH=str(packages), HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "hub"), PYTHONWARNINGS="ignore")
    done = subprocess.run([sys.executable, "-c", LOAD, str(made)], env=env, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    pictures = ["jpg", "png", "json", "txt", "__key__", "__url__"]
    assert found["bags"] == found["bags/shards"] == [901, "float64", pictures, "00000_0000000"]
    assert found["labels"] == found["labels/shards"] == [61, "float64", pictures, "00000_0000000"]
    assert found["same name"][:2] == [451, "float64"]
    assert found["data_dir"][:2] == [901, "float64"]
    assert found["both"][:2] == [451 + 31, "float64"]
    assert found["vectors"][:3] == [901, None, ["key", "source_key", "extra", "embedding"]]
    assert (found["joined"], found["picture"], found["streamed"]) == (962, [12, 8], 901)

    (script,) = [block for block in blocks(PAGE, "python") if "load_dataset" in block]
    typed = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=False, cwd=made)
    assert typed.returncode == 0, typed.stderr[-3000:]
