"""Batches as the loader makes them, ahead and in threads."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile

import numpy as np
import open_clip
import pytest

from fistful.errors import DataError
from fistful.training.data.features import OPEN_TABLES, Features, Part
from fistful.training.data.loader import Loader
from fistful.training.data.reading import read_samples
from fistful.training.data.samples import read_picture
from fistful.training.job import make_order
from fistful.training.resize_and_crop import Fit
from fistful.training.train_config import train_config
from tests.support.data_folder import picture, picture_bytes, sample

N_SHARDS = 400


@pytest.fixture(scope="module")
def many_shards(tmp_path_factory):
    """Tars of one small picture each."""
    folder = tmp_path_factory.mktemp("many")
    for number in range(N_SHARDS):
        buffer = io.BytesIO()
        picture(*sample(number), number).resize((24, 20)).save(buffer, "PNG")
        with tarfile.open(folder / f"{number:05d}.tar", "w") as tar:
            for name, data in (("jpg", buffer.getvalue()), ("txt", " ".join(sample(number)).encode())):
                member = tarfile.TarInfo(f"{number:05d}.{name}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return read_samples((str(folder),))


def loader_of(samples, size=16, **options):
    config = train_config(**{"text": "bag", "context_length": 16, "world_size": 1, "batch_size": 40, "decoders": 2, **options})
    tokenizer = open_clip.SimpleTokenizer(context_length=config.model.context_length)
    order = make_order(config, samples, np.zeros(len(samples), bool))
    return Loader(config, samples, order, Fit(size), samples.vocabulary, tokenizer)


def test_four_decoders_make_the_same_batches_of_400_shards_every_time(many_shards):
    def digest():
        found = hashlib.sha256()
        for batch in loader_of(many_shards, decoders=4, cache_mb=0).batches(0, 3 * N_SHARDS // 40):
            found.update(batch.rows.tobytes() + batch.images.numpy().tobytes() + batch.text[0].numpy().tobytes())
        return found.hexdigest()

    assert len({digest() for _ in range(3)}) == 1


def test_no_shard_stays_open(many_shards):
    before = len(os.listdir("/proc/self/fd"))
    loader = loader_of(many_shards)
    for row in range(N_SHARDS):
        loader.pictures.get(row)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_shard_that_went_missing_is_named(data, write_data, tmp_path):
    folder = write_data(tmp_path / "bags", n=12)
    samples = read_samples((folder,))
    (tmp_path / "bags" / "shards" / "00001.tar").unlink()
    assert read_picture(samples, 0) == picture_bytes(0)
    with pytest.raises(DataError, match=r"00001\.tar: missing; the index of .*bags names it"):
        read_picture(samples, 6)


def test_features_of_more_units_than_may_be_open_are_read_all_the_same(tmp_path):
    n, before = OPEN_TABLES + 100, len(os.listdir("/proc/self/fd"))
    parts = [Part(rows=np.array([unit]), path=tmp_path / f"{unit}.npy") for unit in range(n)]
    for unit, part in enumerate(parts):
        np.save(part.path, np.array([[unit, 1]], np.float16))
    features = Features(parts, n, None)
    rows, found = features.take(np.arange(n)[::-1].copy())
    assert rows.tolist() == found[:, 0].tolist() == list(range(n))[::-1]
    assert len(os.listdir("/proc/self/fd")) <= before + OPEN_TABLES


def test_shards_that_are_read_one_after_another_are_told_of_before_they_are_read(write_data, tmp_path, monkeypatch):
    told, tell = [], os.posix_fadvise
    monkeypatch.setattr(os, "posix_fadvise", lambda *arguments: (told.append(arguments[1:]), tell(*arguments)))
    samples = read_samples((write_data(tmp_path / "bags", n=48, units=4),))
    shown = [batch.rows for batch in loader_of(samples, batch_size=6, order="shards").batches(0, 16)]
    assert told == [(0, 0, os.POSIX_FADV_WILLNEED)] * 8  # four shards in each of two epochs
    for epoch in (shown[:8], shown[8:]):
        assert sorted(np.concatenate(epoch)) == list(range(48))
