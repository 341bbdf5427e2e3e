"""Evaluation sets: what is found in folders, archives and CLIP_benchmark's layout."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections import Counter
from pathlib import Path

import pytest

from fistful.bow.store.dead_letters import DeadLetter
from fistful.bow.store.shard import tar_bytes
from fistful.errors import DataError, UsageError
from fistful.eval.sets.evaluation_set import Sample
from fistful.eval.sets.layouts import open_set, set_name
from tests.support.evaluation_sets import RED, clip_benchmark_set, make, write_parquet


def seen(spec: Path, names: str | None = None) -> list[tuple[str, str]]:
    opened = open_set(str(spec), names)
    return [(s.name, opened.classes[s.label].name) for s in opened.read() if isinstance(s, Sample)]


def test_class_folders_hold_images_of_any_case_also_one_folder_deeper(tmp_path):
    root = make(tmp_path, "tabby_cat/a.JPG", "tabby_cat/b.webp", "dog/images/c.jpeg", "dog/notes.txt", "dog/.hidden.png")
    assert seen(root) == [("dog/images/c.jpeg", "dog"), ("tabby_cat/a.JPG", "tabby cat"), ("tabby_cat/b.webp", "tabby cat")]


def test_class_folders_are_read_by_the_rule_that_count_reads_by(tmp_path):
    root = make(tmp_path / "set", "cat/a.jfif", "cat/._a.jfif", "cat/b.gif", "dog/.DS_Store", ".cache/x.png")
    make(tmp_path / "elsewhere", "c.png")
    (root / "dog/more").symlink_to("../../elsewhere")
    (root / "bird").symlink_to("../elsewhere")
    found = open_set(str(root), None)
    assert seen(root) == [("bird/c.png", "bird"), ("cat/a.jfif", "cat")]
    assert found.warnings == [
        "class 'dog' has no image",
        "1 .gif files are not read",
        "1 linked folder that leads to what is read already, such as dog/more",
        "2 hidden files and folders, such as .cache: give them by name if they are meant",
    ]


def test_archives_of_classes_are_read_by_the_rule_that_count_reads_by(tmp_path):
    with tarfile.open(tmp_path / "set.tgz", "w:gz") as tar:
        for name in ("./cat/._a.png", "./cat/a.png", "./dog/b.jpe"):
            add(tar, name)
        link = tarfile.TarInfo("./dog/c.png")
        link.type, link.linkname = tarfile.LNKTYPE, "./cat/a.png"
        tar.addfile(link)
    (tmp_path / "._set.tgz").write_bytes(b"\0\5\x16\7")
    assert seen(tmp_path) == [("cat/a.png", "cat"), ("dog/b.jpe", "dog")]
    assert open_set(str(tmp_path), None).warnings == [
        "1 hidden file or folder, such as ./cat/._a.png: give them by name if they are meant",
        "1 links inside are not read, such as ./dog/c.png",
    ]


def add(tar: tarfile.TarFile, name: str) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(RED)
    tar.addfile(info, io.BytesIO(RED))


def test_a_leading_folder_that_all_share_is_no_class(tmp_path):
    assert seen(make(tmp_path, "val/cat/a.jpg", "val/dog/b.jpg")) == [("val/cat/a.jpg", "cat"), ("val/dog/b.jpg", "dog")]


def test_archives_are_read_gzipped_or_not_in_any_order(tmp_path):
    members = {"val/dog/1.jpg": RED, "val/cat/2.PNG": RED, "val/dog/3.jpg": RED}
    (tmp_path / "a.tar").write_bytes(tar_bytes(members))
    with tarfile.open(tmp_path / "b.tar.gz", "w:gz") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    expected = [("val/dog/1.jpg", "dog"), ("val/cat/2.PNG", "cat"), ("val/dog/3.jpg", "dog")]
    assert seen(tmp_path / "a.tar") == seen(tmp_path / "b.tar.gz") == expected


def test_a_folder_with_one_archive_and_a_table_beside_it_is_that_set(tmp_path):
    (tmp_path / "test.tar").write_bytes(tar_bytes({"0/1.jpg": RED, "1/1.jpg": RED}))
    (tmp_path / "classes.tsv").write_text("folder\tname\n1\tdog\n0\tcat\n")
    opened = open_set(str(tmp_path), None)
    assert [entry.name for entry in opened.classes] == ["cat", "dog"]
    assert opened.name == f"{tmp_path.name}-test"


def test_the_real_sets_are_complete(data_root):
    for folder, n_classes, each in (("cifar10", 10, 200), ("tiny-imagenet", 200, 50)):
        opened = open_set(str(data_root / "eval" / folder), None)
        counts = Counter(sample.label for sample in opened.read() if isinstance(sample, Sample))
        assert (len(opened.classes), opened.n_images, set(counts.values())) == (n_classes, n_classes * each, {each})
        assert opened.warnings == []


def test_wordnet_ids_get_the_names_that_open_clip_prompts_with(tmp_path):
    import open_clip
    from timm.data.imagenet_info import ImageNetInfo

    ids = ImageNetInfo("imagenet-1k").label_names()
    make(tmp_path, *(f"val/{wnid}/x.jpg" for wnid in reversed(ids)))
    opened = open_set(str(tmp_path), None)
    assert [entry.name for entry in opened.classes] == list(open_clip.IMAGENET_CLASSNAMES)
    assert [entry.folder for entry in opened.classes] == sorted(ids)
    assert opened.classes[0].synonyms == ("tench", "Tinca tinca")


def test_a_subset_of_wordnet_ids_keeps_its_names_and_knows_the_larger_imagenet(tmp_path):
    opened = open_set(str(make(tmp_path, "n02123045/a.jpg", "n00007846/b.jpg")), None)
    assert [(c.folder, c.name) for c in opened.classes] == [("n00007846", "person"), ("n02123045", "tabby cat")]
    with pytest.raises(UsageError, match="n99999999: looks like a WordNet id but is not one of ImageNet's; give its name with --names"):
        open_set(str(make(tmp_path, "n99999999/a.jpg")), None)


def test_names_come_from_a_table_with_synonyms(tmp_path):
    root = make(tmp_path / "set", "n1/a.jpg", "n2/b.jpg")
    table = tmp_path / "names.tsv"
    table.write_text("wnid\tname\twords\nn2\tdog\tdog, hound\nn1\tcat\t\nn3\tcow\t\n")
    opened = open_set(str(root), str(table))
    assert [(c.folder, c.name, c.synonyms) for c in opened.classes] == [("n1", "cat", ()), ("n2", "dog", ("dog", "hound"))]
    assert opened.classes[1].names(True) == ("dog", "hound")
    table.write_text("\ufeff" + table.read_text("utf-8"), "utf-8")
    assert open_set(str(root), str(table)).classes == opened.classes
    assert opened.warnings == ["names.tsv: names 1 class without a folder ('n3'); they are not among the choices"]


def test_one_name_a_line_is_ambiguous_unless_it_names_the_folders(tmp_path):
    root = make(tmp_path / "set", "tabby_cat/a.jpg", "big-dog/b.jpg")
    (tmp_path / "names.txt").write_text("Tabby cat\nBig dog\n")
    assert [c.name for c in open_set(str(root), str(tmp_path / "names.txt")).classes] == ["Big dog", "Tabby cat"]
    (tmp_path / "names.txt").write_text("kitten\npuppy\n")
    with pytest.raises(UsageError, match="one name a line does not say which of the 2 folders each belongs to; expected a TSV"):
        open_set(str(root), str(tmp_path / "names.txt"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("folder\tname\nn1\tcat\n", "has no row for 'n2' in its column folder"),
        ("folder\tname\nn1\tcat\nn2\t\n", "row 3: found folder 'n2' and name '', expected both"),
        ("folder\tname\nn1\tcat\nn1\tdog\nn2\tcow\n", "row 3: folder 'n1' is there twice"),
    ],
)
def test_a_table_at_fault_names_the_row(tmp_path, text, message):
    root = make(tmp_path / "set", "n1/a.jpg", "n2/b.jpg")
    (tmp_path / "names.tsv").write_text(text)
    with pytest.raises((UsageError, DataError)) as error:
        open_set(str(root), str(tmp_path / "names.tsv"))
    assert message in str(error.value)


def test_equal_names_are_warned_about(tmp_path):
    root = make(tmp_path, "n1/a.jpg", "n2/b.jpg")
    (root / "classes.tsv").write_text("folder\tname\nn1\tmissile\nn2\tmissile\n")
    assert open_set(str(root), None).warnings == ["the name 'missile' is shared by the classes n1, n2"]


def test_splits_are_not_taken_for_classes(tmp_path):
    with pytest.raises(UsageError, match="its folders train, val are splits, not classes; name one of them in --data"):
        open_set(str(make(tmp_path, "train/cat/a.jpg", "val/cat/b.jpg")), None)


def test_a_folder_without_images_says_what_was_expected(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(UsageError, match="no images in class folders; expected ROOT/CLASS/IMAGE with jpg, jpeg, png, webp, jfif, jpe"):
        open_set(str(tmp_path), None)


def test_images_outside_a_class_and_path_tricks_are_refused_by_name(tmp_path):
    (tmp_path / "x.tar").write_bytes(tar_bytes({"loose.jpg": RED, "../up/b.jpg": RED, "/etc/c.jpg": RED, "cat/a.jpg": RED}))
    opened = open_set(str(tmp_path / "x.tar"), None)
    found = list(opened.read())
    assert [(f.reason, f.place) for f in found if isinstance(f, DeadLetter)] == [
        ("bad_name", "loose.jpg"),
        ("bad_name", "../up/b.jpg"),
        ("bad_name", "/etc/c.jpg"),
    ]
    assert len(found) == opened.n_images == 4


@pytest.mark.parametrize("cut", [31_000, 8 * 3_584, 8 * 3_584 + 200], ids=["in an image", "between two", "in a header"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_truncated_archive_is_an_error_not_a_smaller_set(tmp_path, cut, packed):
    whole = tar_bytes({f"cat/{i}.jpg": os.urandom(3000) for i in range(20)})
    (tmp_path / "x.tar").write_bytes(gzip.compress(whole[:cut]) if packed else whole[:cut])
    with pytest.raises(DataError, match=r"x.tar: broken archive .*; fetch or pack it again"):
        open_set(str(tmp_path / "x.tar"), None)


def test_an_archive_with_a_damaged_header_is_broken(tmp_path):
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 12
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        tar.addfile(header, io.BytesIO(b"12 size=abc\n"))
        add(tar, "cat/a.jpg")
    with pytest.raises(DataError, match=r"x.tar: broken archive \(ReadError: a pax header that is none\); fetch or pack it again"):
        open_set(str(tmp_path / "x.tar"), None)


def test_names_in_an_archive_may_start_with_the_folder_that_it_was_packed_in(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name in ("./cat/a.jpg", "./dog/b.jpg"):
            info = tarfile.TarInfo(name)
            info.size = len(RED)
            tar.addfile(info, io.BytesIO(RED))
    assert seen(tmp_path / "x.tar") == [("cat/a.jpg", "cat"), ("dog/b.jpg", "dog")]


def test_a_link_that_leads_nowhere_is_refused_by_name(tmp_path):
    root = make(tmp_path / "set", "cat/a.jpg", "dog/b.jpg")
    (root / "cat" / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    opened = open_set(str(root), None)
    assert [(f.reason, f.place) for f in opened.read() if isinstance(f, DeadLetter)] == [("no_image", "cat/gone.jpg")]
    assert opened.n_images == 3


def test_clip_benchmarks_layout_is_read_with_its_names_and_templates(tmp_path):
    shards = [{"a.jpg": RED, "a.cls": b"1"}, {"b.cls": b"0\n", "b.webp": RED, "b.pyd": b"cos\nsystem\n(S'touch /tmp/x'\ntR."}]
    root = clip_benchmark_set(tmp_path / "set", shards)
    opened = open_set(str(root), None)
    assert opened.templates == ["a photo of a {c}.", "{c}"]
    assert opened.n_images == 2
    assert seen(root) == seen(root / "test") == [("0.tar/a", "dog"), ("1.tar/b", "cat")]


def test_byte_order_marks_in_clip_benchmarks_layout_are_no_part_of_names_numbers_and_templates(tmp_path):
    root = clip_benchmark_set(tmp_path / "set", [{"a.jpg": RED, "a.cls": b"\xef\xbb\xbf1"}], classes="\ufeffcat\ndog\u2028house\n\n")
    for name in ("zeroshot_classification_templates.txt", "test/nshards.txt"):
        (root / name).write_bytes(b"\xef\xbb\xbf" + (root / name).read_bytes())
    opened = open_set(str(root), None)
    assert [entry.name for entry in opened.classes] == ["cat", "dog\u2028house"]
    assert opened.templates == ["a photo of a {c}.", "{c}"]
    assert seen(root) == [("0.tar/a", "dog\u2028house")]


def test_samples_without_label_or_image_or_with_a_label_too_large_are_refused(tmp_path):
    shard = {"a.jpg": RED, "b.jpg": RED, "b.cls": b"2", "c.cls": b"0", "d.jpg": RED, "d.cls": b"cat", "e.jpg": RED, "e.cls": b"0"}
    found = list(open_set(str(clip_benchmark_set(tmp_path / "set", [shard])), None).read())
    assert [(f.reason, f.place, f.detail) for f in found if isinstance(f, DeadLetter)] == [
        ("no_label", "0.tar/a", "has an image and no .cls next to it"),
        ("no_label", "0.tar/b", ".cls holds '2', expected a number below 2"),
        ("no_image", "0.tar/c", "has a label and no image next to it"),
        ("no_label", "0.tar/d", ".cls holds 'cat', expected a number below 2"),
    ]
    assert len(found) == 5


def test_samples_of_shards_whose_names_are_not_utf8_are_refused_and_their_sources_spelt_out(tmp_path):
    root = clip_benchmark_set(tmp_path / "set", [{"a.jpg": RED, "a.cls": b"0", "a.json": b'{"source": "\\ud800"}'}])
    with tarfile.open(root / "test" / "0.tar", "a") as tar:
        for name, data in (("caf\udce9.jpg", RED), ("caf\udce9.cls", b"1")):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    whole, refused = open_set(str(root), None).read()
    assert (whole.name, whole.source) == ("0.tar/a", r"\ud800")
    assert (refused.reason, refused.place, refused.detail) == ("bad_name", r"0.tar/caf\udce9", "name is not UTF-8")


def test_missing_shards_are_an_error_and_surplus_or_empty_ones_a_warning(tmp_path):
    root = clip_benchmark_set(tmp_path / "set", [{"a.jpg": RED, "a.cls": b"1"}] * 3)
    (root / "test" / "1.tar").unlink()
    with pytest.raises(DataError, match=r"1 of 3 shards are missing \(1.tar\); nshards.txt says how many there are"):
        open_set(str(root), None)
    (root / "test" / "1.tar").write_bytes(b"")
    (root / "test" / "7.tar").write_bytes(b"")
    assert open_set(str(root), None).warnings == ["test/7.tar is not read: nshards.txt says 3", "test/1.tar is an empty file"]


def test_broken_shards_and_other_tasks_are_refused(tmp_path):
    root = clip_benchmark_set(tmp_path / "set", [{"a.jpg": os.urandom(20_000), "a.cls": b"1"}])
    whole = (root / "test" / "0.tar").read_bytes()
    for cut in (9_000, 512 + 20_480, 512 + 20_480 + 100):  # in the image, after it, in the next header
        (root / "test" / "0.tar").write_bytes(whole[:cut])
        with pytest.raises(DataError, match=r"0.tar: broken shard"):
            list(open_set(str(root), None).read())
    (root / "dataset_type.txt").write_text("retrieval\n")
    with pytest.raises(UsageError, match="found 'retrieval', expected classification"):
        open_set(str(root), None)
    (root / "dataset_type.txt").unlink()
    (root / "test" / "nshards.txt").unlink()
    with pytest.raises(UsageError, match=r"nshards.txt: no such file; expected the number of shards in it"):
        open_set(str(root), None)


def test_sets_are_named_after_what_says_most():
    assert set_name(Path("/data/imagenet/val")) == "imagenet-val"
    assert set_name(Path("/data/cifar10/test.tar.gz")) == "cifar10-test"
    assert set_name(Path("/data/flowers.tar")) == "flowers"


def test_parquet_with_the_names_that_a_hub_keeps_or_a_table_gives(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", [{"bytes": RED, "path": "x"}, {"bytes": RED, "path": "y"}], [1, 0], ["cat", "big_dog"])
    assert seen(path) == seen(tmp_path) == [("a.parquet/row 0", "big dog"), ("a.parquet/row 1", "cat")]
    path = write_parquet(tmp_path / "a.parquet", [RED, RED], [1, 0])
    with pytest.raises(UsageError, match="its labels are numbers without names; --names with the columns id and name"):
        open_set(str(path), None)
    (tmp_path / "names.tsv").write_text("id\tname\n1\tdog\n0\tcat\n")
    assert [name for _, name in seen(path, str(tmp_path / "names.tsv"))] == ["dog", "cat"]


def test_rows_without_an_image_or_a_label_are_refused(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", [RED, None, RED], ["dog", "cat", None])
    opened = open_set(str(path), None)
    assert [entry.name for entry in opened.classes] == ["cat", "dog"]
    assert [(f.reason, f.place) for f in opened.read() if isinstance(f, DeadLetter)] == [
        ("no_image", "a.parquet/row 1"),
        ("no_label", "a.parquet/row 2"),
    ]


def test_parquet_labels_are_names_in_every_form_that_text_is_written_in(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    labels = ["dog", "cat"]
    texts = [pa.array(labels, kind) for kind in (pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.binary_view())]
    for column in (*texts, pa.array(labels).dictionary_encode(), pa.array(labels, pa.large_string()).dictionary_encode()):
        pq.write_table(pa.table({"image": [RED, RED], "label": column}), tmp_path / "a.parquet")
        assert seen(tmp_path / "a.parquet") == [("a.parquet/row 0", "dog"), ("a.parquet/row 1", "cat")], column.type


def test_parquet_lists_of_labels_are_several_labels_in_every_form(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    inner = (pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string()))
    kinds = [
        form(kind) for form in (pa.list_, pa.large_list, pa.list_view, pa.large_list_view, lambda kind: pa.list_(kind, 2)) for kind in inner
    ]
    for kind in kinds:
        pq.write_table(pa.table({"image": [RED], "labels": pa.array([["dog", "cat"]], kind)}), tmp_path / "a.parquet")
        found = open_set(str(tmp_path / "a.parquet"), None)
        assert found.multilabel, kind
        assert [(entry.folder, entry.name) for entry in found.classes] == [("cat", "cat"), ("dog", "dog")], kind
        assert [sample.labels for sample in found.read() if isinstance(sample, Sample)] == [(0, 1)], kind


def test_parquet_with_a_damaged_footer_is_no_readable_file(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", [RED], ["dog"])
    data = path.read_bytes()
    path.write_bytes(data[:-40] + b"\xff" * 32 + data[-8:])
    with pytest.raises(DataError, match="not a readable parquet file"):
        open_set(str(path), None)


def test_parquet_at_fault_says_what_it_has(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"pixels": [1], "label": [1]}), tmp_path / "a.parquet")
    with pytest.raises(UsageError, match="has no column image or img or jpg or png or webp; found pixels, label"):
        open_set(str(tmp_path), None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="not a readable parquet file"):
        open_set(str(tmp_path), None)


def test_plain_webdataset_tars_need_no_count_and_may_name_sources(tmp_path):
    (tmp_path / "classnames.txt").write_text("cat\ndog\n")
    sample = {"a.jpg": RED, "a.cls": b"1", "a.json": b'{"source": "flickr"}'}
    (tmp_path / "00000.tar").write_bytes(tar_bytes(sample))
    opened = open_set(str(tmp_path), None)
    assert [(s.name, s.label, s.source) for s in opened.read() if isinstance(s, Sample)] == [("00000.tar/a", 1, "flickr")]
    assert opened.warnings == ["nshards.txt is missing, so missing shards would go unnoticed"]


def wds_of(root: Path, labels: bytes, names: str = "cat\ndog\n") -> Path:
    root.mkdir(exist_ok=True)
    (root / "classnames.txt").write_text(names)
    members = {name: data for i in range(2) for name, data in ((f"{i}.jpg", RED), (f"{i}.cls", labels[i : i + 1]))}
    (root / "0.tar").write_bytes(tar_bytes(members))
    return root


def test_a_set_is_known_by_what_is_in_its_files(tmp_path):
    """Every way in which a set can change while no size does."""

    def known(path: Path, names: str | None = None) -> dict[str, object]:
        return open_set(str(path), names).fingerprint()

    tars = known(wds_of(tmp_path / "tars", b"01"))
    assert known(wds_of(tmp_path / "tars", b"01")) == tars
    assert known(wds_of(tmp_path / "tars", b"10")) != tars
    assert known(wds_of(tmp_path / "tars", b"01", "cow\ndog\n")) != tars
    (tmp_path / "tars" / "zeroshot_classification_templates.txt").write_text("a {c}\n")
    assert known(wds_of(tmp_path / "tars", b"01")) != tars
    rows = known(write_parquet(tmp_path / "a.parquet", [RED, RED], ["cat", "dog"]))
    assert known(write_parquet(tmp_path / "a.parquet", [RED, RED], ["dog", "cat"])) != rows
    folders = make(tmp_path / "folders", "cat/a.jpg", "dog/b.jpg")
    before = known(folders)
    (tmp_path / "names.tsv").write_text("folder\tname\ncat\tcow\ndog\tdog\n")
    assert known(folders, str(tmp_path / "names.tsv")) != before
    (folders / "cat" / "a.jpg").rename(folders / "cat" / "c.jpg")
    assert known(folders) != before


def test_a_file_that_cannot_be_read_is_no_end_of_a_set(tmp_path):
    root = make(tmp_path, "cat/a.jpg", "dog/b.jpg")
    (root / "dog" / "c.jpg").symlink_to("nowhere.jpg")
    before = open_set(str(root), None).fingerprint()
    make(root, "dog/nowhere.jpg")
    assert open_set(str(root), None).fingerprint()["content"] != before["content"]
