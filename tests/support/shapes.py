"""The shapes in which captioned pictures lie on people's disks: the same pictures and captions, written as other tools write them."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

Pictures = dict[str, tuple[bytes, list[str]]]
"""Of each picture's stem its JPEG and its captions."""


def real_pictures(tar: Path, n: int) -> Pictures:
    """The first n pictures of a captioned tar that have captions."""
    found: dict[str, dict[str, bytes]] = {}
    with tarfile.open(tar) as archive:
        for member in archive:
            stem, _, extension = member.name.partition(".")
            file = archive.extractfile(member)
            found.setdefault(stem, {})[extension] = file.read() if file else b""
            if len(found) > n:
                break
    return {stem: (parts["jpg"], json.loads(parts["json"])["captions"]) for stem, parts in list(found.items())[:n]}


def _images(folder: Path, pictures: Pictures) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for stem, (image, _) in pictures.items():
        (folder / f"{stem}.jpg").write_bytes(image)


def _table(path: Path, header: list[str], rows: list[list[str]], delimiter: str = ",") -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows([header, *rows])


def _lines(pictures: Pictures, name: Callable[[str], str]) -> list[list[str]]:
    return [[name(stem), caption] for stem, (_, captions) in pictures.items() for caption in captions]


def csv_of_paths(root: Path, pictures: Pictures) -> None:
    _images(root / "pics", pictures)
    _table(root / "data.csv", ["image_path", "caption"], _lines(pictures, "pics/{}.jpg".format))


def tsv_of_paths(root: Path, pictures: Pictures) -> None:
    _images(root / "img", pictures)
    _table(root / "data.tsv", ["filename", "text"], _lines(pictures, "{}.jpg".format), "\t")


def jsonl_of_paths(root: Path, pictures: Pictures) -> None:
    _images(root / "images", pictures)
    lines = [json.dumps({"filepath": f"images/{stem}.jpg", "captions": captions}) for stem, (_, captions) in pictures.items()]
    (root / "data.jsonl").write_text("\n".join(lines))


def parquet_of_paths(root: Path, pictures: Pictures) -> None:
    _images(root / "images", pictures)
    names = [f"{stem}.jpg" for stem in pictures]
    pq.write_table(pa.table({"image": names, "caption": [captions for _, captions in pictures.values()]}), root / "data.parquet")


def parquet_of_bytes(root: Path, pictures: Pictures) -> None:
    """As the hub's datasets write them."""
    (root / "data").mkdir()
    images = pa.array([{"bytes": image, "path": f"{stem}.jpg"} for stem, (image, _) in pictures.items()])
    table = pa.table({"image": images, "text": [captions for _, captions in pictures.values()]})
    pq.write_table(table, root / "data/train-00000-of-00001.parquet", row_group_size=50)


def coco(root: Path, pictures: Pictures) -> None:
    _images(root / "val2017", pictures)
    (root / "annotations").mkdir()
    images = [{"id": number, "file_name": f"{stem}.jpg", "height": 1, "width": 1} for number, stem in enumerate(pictures)]
    annotations = [
        {"id": 10 * number + k, "image_id": number, "caption": caption}
        for k in range(5)  # COCO's stand in no order
        for number, (_, captions) in enumerate(pictures.values())
        for caption in captions[k : k + 1]
    ]
    document = {"info": {}, "licenses": [], "images": images, "annotations": annotations}
    (root / "annotations/captions_val2017.json").write_text(json.dumps(document))


def karpathy(root: Path, pictures: Pictures) -> None:
    _images(root / "images", pictures)
    images = [
        {"filename": f"{stem}.jpg", "imgid": n, "split": "train", "sentences": [{"raw": text, "tokens": text.split()} for text in captions]}
        for n, (stem, (_, captions)) in enumerate(pictures.items())
    ]
    (root / "dataset.json").write_text(json.dumps({"images": images, "dataset": "flickr8k"}))


def kaggle(root: Path, pictures: Pictures) -> None:
    _images(root / "Images", pictures)
    _table(root / "captions.txt", ["image", "caption"], _lines(pictures, "{}.jpg".format))


def image_folder(root: Path, pictures: Pictures) -> None:
    """The hub's image folder."""
    _images(root / "train", pictures)
    lines = [json.dumps({"file_name": f"{stem}.jpg", "text": captions}) for stem, (_, captions) in pictures.items()]
    (root / "train/metadata.jsonl").write_text("\n".join(lines))


def flickr30k(root: Path, pictures: Pictures) -> None:
    _images(root / "flickr30k_images", pictures)
    rows = [f"{stem}.jpg| {k}| {text}" for stem, (_, captions) in pictures.items() for k, text in enumerate(captions)]
    (root / "results.csv").write_text("\n".join(["image_name| comment_number| comment", *rows]) + "\n")


def open_clip_csv(root: Path, pictures: Pictures) -> None:
    _images(root / "images", pictures)
    _table(root / "train.csv", ["filepath", "title"], _lines(pictures, "images/{}.jpg".format), "\t")


def caption_files(root: Path, pictures: Pictures) -> None:
    """As trainers of diffusion models like them."""
    _images(root, pictures)
    for stem, (_, captions) in pictures.items():
        (root / f"{stem}.caption").write_text("\n".join(captions))


def json_files(root: Path, pictures: Pictures) -> None:
    _images(root, pictures)
    for stem, (_, captions) in pictures.items():
        (root / f"{stem}.json").write_text(json.dumps({"captions": captions}))


def folder_of_texts(root: Path, pictures: Pictures) -> None:
    _images(root / "images", pictures)
    (root / "captions").mkdir()
    for stem, (_, captions) in pictures.items():
        (root / f"captions/{stem}.txt").write_text("\n".join(captions))


def text_files(root: Path, pictures: Pictures) -> None:
    _images(root, pictures)
    for stem, (_, captions) in pictures.items():
        (root / f"{stem}.txt").write_text("\n".join(captions))


def shards(root: Path, pictures: Pictures) -> None:
    with tarfile.open(root / "00000.tar", "w") as tar:
        for stem, (image, captions) in pictures.items():
            for name, data in ((f"{stem}.jpg", image), (f"{stem}.json", json.dumps({"captions": captions}).encode())):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


def list_of_objects(root: Path, pictures: Pictures) -> None:
    _images(root / "images", pictures)
    entries = [{"image": f"images/{stem}.jpg", "caption": captions} for stem, (_, captions) in pictures.items()]
    (root / "train.json").write_text(json.dumps(entries))


SHAPES: tuple[Callable[[Path, Pictures], None], ...] = (
    csv_of_paths,
    tsv_of_paths,
    jsonl_of_paths,
    parquet_of_paths,
    parquet_of_bytes,
    coco,
    karpathy,
    kaggle,
    image_folder,
    flickr30k,
    open_clip_csv,
    caption_files,
    json_files,
    folder_of_texts,
    list_of_objects,
    text_files,
    shards,
)
