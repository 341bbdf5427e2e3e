"""Pictures cut to size, against torchvision."""

from __future__ import annotations

import numpy as np
import pytest
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

from fistful.bow.store.images import decode_image
from fistful.training.pixels import fit, kept_size, random_window
from tests.training.conftest import picture_bytes


@pytest.mark.parametrize("size", [(64, 64), (65, 64), (64, 65), (63, 200), (301, 77), (20, 31), (97, 333), (1, 400)])
def test_fit_gives_what_open_clips_evaluation_gives(size):
    image = decode_image(picture_bytes(1)).resize(size)
    theirs = Compose([Resize(64, interpolation=InterpolationMode.BICUBIC), CenterCrop(64)])(image)
    assert np.array_equal(np.asarray(theirs), fit(image, 64))


def test_windows_differ_by_sample_and_epoch_and_by_nothing_else():
    picture = fit(decode_image(picture_bytes(1)), kept_size(64, "crop"))
    assert picture.shape == (80, 80, 3)
    first = random_window(picture, 64, 0, 1, 0)
    assert first.shape == (64, 64, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, random_window(picture, 64, 0, 1, 0))
    others = [random_window(picture, 64, *key) for key in [(1, 1, 0), (0, 2, 0), (0, 1, 1)]]
    assert not any(np.array_equal(first, other) for other in others)


def test_windows_reach_every_corner():
    picture = np.zeros((80, 80, 3), np.uint8)
    picture[0, 0] = picture[79, 79] = 255
    windows = [random_window(picture, 64, 0, number, 0) for number in range(300)]
    assert any(window[0, 0].max() > 0 for window in windows)
    assert any(window[63, 63].max() > 0 for window in windows)
