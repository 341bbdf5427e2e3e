"""Our figures are those of the field's tools, to the digit."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import open_clip
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from fistful.eval.evaluate import evaluate
from fistful.eval.evaluate_config import EvaluateConfig
from fistful.eval.results import read_results, result_name
from tests.support.clip_encoder import OpenClipEncoder, save_tiny_clip

TEMPLATES = {"openai80": open_clip.OPENAI_IMAGENET_TEMPLATES, "simple7": open_clip.SIMPLE_IMAGENET_TEMPLATES, "name": [lambda c: c]}


@pytest.fixture(scope="module")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_clip(tmp_path_factory.mktemp("models") / "tiny-clip")


def open_clip_figures(folder: Path, archive: Path, classes: list[tuple[str, str]], prompts: str) -> tuple[float, float, float, list[int]]:
    """Return top-1, top-5, mean per class recall and the predictions as open_clip's own functions and a plain loop give them."""
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}", require_pretrained=True)
    model.eval()
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    weights = open_clip.build_zero_shot_classifier(model, tokenizer, [name for _, name in classes], TEMPLATES[prompts])
    label_of = {wnid: i for i, (wnid, _) in enumerate(classes)}
    images, labels = [], []
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isfile():
                file = tar.extractfile(member)
                assert file is not None
                images.append(preprocess(Image.open(io.BytesIO(file.read()))))
                labels.append(label_of[member.name.split("/")[-2]])
    with torch.inference_mode():
        logits = torch.cat(
            [100.0 * model.encode_image(torch.stack(images[i : i + 250]), normalize=True) @ weights for i in range(0, len(images), 250)]
        )
    target = torch.tensor(labels)
    pred = logits.topk(5, 1, True, True)[1].t()
    correct = pred.eq(target.view(1, -1).expand_as(pred))
    top1, top5 = (float(correct[:k].reshape(-1).float().sum(0, keepdim=True).numpy()[0]) / len(labels) for k in (1, 5))
    recalls = [(pred[0][target == i] == i).float().mean().item() for i in range(len(classes))]
    return top1, top5, float(np.mean(recalls)), pred[0].tolist()


@pytest.fixture(scope="module")
def tiny_imagenet(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[str, str]]]:
    """A fifth of Tiny-ImageNet's validation images of the first 40 classes."""
    folder = tmp_path_factory.mktemp("tiny-imagenet")
    source = data_root / "eval" / "tiny-imagenet"
    (folder / "classes.tsv").write_bytes((source / "classes.tsv").read_bytes())
    rows = [line.split("\t") for line in (folder / "classes.tsv").read_text().splitlines()[1:]]
    classes = sorted((row[0], row[1]) for row in rows)[:40]
    with tarfile.open(source / "val.tar.gz") as tar, tarfile.open(folder / "val.tar", "w") as small:
        members = [m for m in tar if m.isfile() and m.name.split("/")[1] in dict(classes)]
        for member in members[::5]:
            small.addfile(member, tar.extractfile(member))
    return folder / "val.tar", classes


def test_zero_shot_figures_equal_open_clips_to_the_digit(tiny_clip, tiny_imagenet, tmp_path):
    archive, classes = tiny_imagenet
    config = EvaluateConfig(prompts=("openai80", "simple7", "name"), progress=False)
    out = evaluate(str(tiny_clip), data=(str(archive),), out=tmp_path / "r", config=config)
    for result in read_results(out):
        figures = result["metrics"]
        top1, top5, recall, predictions = open_clip_figures(tiny_clip, archive, classes, result["prompts"])
        assert figures["n"] == 400
        assert len(set(predictions)) >= 8  # a model that always says the same would prove little
        rows = pq.read_table(out / "predictions" / f"{result_name('tiny-clip', result['dataset'], result['prompts'])}.parquet")
        assert [top[0] for top in rows["top"].to_pylist()] == predictions
        assert (figures["acc1"], figures["acc5"]) == (top1, top5)
        assert figures["mean_per_class_recall"] == pytest.approx(recall, abs=1e-7)


def test_classifier_weights_equal_open_clips(tiny_clip):
    from fistful.bow.words import WordOptions
    from fistful.eval.sets.class_names import from_wordnet
    from fistful.eval.tasks.classifier import build_classifiers
    from fistful.eval.tasks.prompts import build_prompts

    classes = from_wordnet(["n01440764", "n02123045", "n04254680"])
    assert [entry.name for entry in classes] == ["tench", "tabby cat", "soccer ball"]
    encoder = OpenClipEncoder(str(tiny_clip))
    prompts = build_prompts("openai80", classes, own=[], options=WordOptions(), synonyms=False)
    (found,) = build_classifiers(encoder, [prompts], classes)
    expected = open_clip.build_zero_shot_classifier(
        encoder.model, encoder.tokenizer, [c.name for c in classes], open_clip.OPENAI_IMAGENET_TEMPLATES
    )
    np.testing.assert_allclose(found.weights, expected.T.numpy(), atol=1e-6)
    assert found.n_texts == 240
