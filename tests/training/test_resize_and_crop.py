"""Pictures cut to size, against torchvision."""

from __future__ import annotations

import io

import numpy as np
import pytest
from open_clip.transform import PreprocessCfg, image_transform_v2

from fistful.bow.store.images import decode_image
from fistful.training.resize_and_crop import Fit, crop_draws, decode, fit, fit_of, random_box, random_window, resize
from tests.support.data_folder import picture_bytes


def window(picture, seed=0, number=1, epoch=0):
    return random_window(picture, Fit(64), crop_draws(seed, np.array([number]), np.array([epoch]))[0])


def test_jpegs_are_decoded_as_everywhere_else():
    assert np.array_equal(decode(picture_bytes(1)), np.asarray(decode_image(picture_bytes(1))))
    assert decode(picture_bytes(1), min_side=30).shape == (30, 36, 3)  # 80 x 96 by 3/8


def test_jpegs_are_turned_as_everywhere_else():
    from PIL import Image

    exif, buffer = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    Image.open(io.BytesIO(picture_bytes(1))).save(buffer, "JPEG", exif=exif)
    assert np.array_equal(decode(buffer.getvalue()), np.asarray(decode_image(buffer.getvalue())))
    assert decode(buffer.getvalue(), min_side=30).shape == (36, 30, 3)  # stored 80 x 96


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "random"])
@pytest.mark.parametrize("resize_mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("size", [(64, 64), (65, 64), (64, 65), (63, 200), (301, 77), (20, 31), (97, 333), (1, 40)])
def test_fit_gives_what_open_clips_evaluation_gives(size, resize_mode, interpolation):
    image = decode_image(picture_bytes(1)).resize(size)
    preprocess = {"resize_mode": resize_mode, "interpolation": interpolation, "fill_color": 7}
    transform = image_transform_v2(PreprocessCfg(size=64, **preprocess), is_train=False)
    theirs = image
    for step in transform.transforms[:-2]:  # without ToTensor and Normalize
        theirs = step(theirs)
    assert np.array_equal(np.asarray(theirs), fit(image, fit_of(preprocess, 64)))


@pytest.mark.parametrize("size", [(1, 400), (400, 1)])
def test_a_picture_as_thin_as_a_line_is_fit_too(size):
    image = decode_image(picture_bytes(1)).resize(size)
    assert all(fit(image, Fit(64, mode)).shape == (64, 64, 3) for mode in ("shortest", "longest", "squash"))


def test_windows_differ_by_sample_and_epoch_and_by_nothing_else():
    picture = fit(decode_image(picture_bytes(1)), Fit(64).kept("crop"))
    assert picture.shape == (80, 80, 3)
    first = window(picture)
    assert first.shape == (64, 64, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, window(picture))
    others = [window(picture, *key) for key in [(1, 1, 0), (0, 2, 0), (0, 1, 1)]]
    assert not any(np.array_equal(first, other) for other in others)


def test_windows_reach_every_corner():
    picture = np.zeros((80, 80, 3), np.uint8)
    picture[0, 0] = picture[79, 79] = 255
    windows = [window(picture, 0, number, 0) for number in range(300)]
    assert any(window[0, 0].max() > 0 for window in windows)
    assert any(window[63, 63].max() > 0 for window in windows)


def test_random_boxes_are_distributed_as_torchvisions():
    """Area, shape and place of 4,000 boxes each, by quantiles; torchvision's from its own generator."""
    import torch
    from torchvision.transforms import RandomResizedCrop

    image = torch.empty(3, 80, 107)
    torch.manual_seed(0)
    theirs = np.array([RandomResizedCrop.get_params(image, [0.9, 1.0], [3 / 4, 4 / 3]) for _ in range(4_000)])
    ours = np.array([random_box(107, 80, draws) for draws in crop_draws(0, np.arange(4_000), np.zeros(4_000, int))])[:, [1, 0, 3, 2]]
    quantiles = np.linspace(0.05, 0.95, 10)
    for column in range(4):
        a, b = (np.quantile(part[:, column], quantiles) for part in (theirs, ours))
        np.testing.assert_allclose(a, b, atol=1.5)
    np.testing.assert_allclose((ours[:, 2] * ours[:, 3]).mean(), (theirs[:, 2] * theirs[:, 3]).mean(), rtol=0.01)


@pytest.mark.parametrize("size", [(400, 20), (20, 400)])
def test_a_picture_too_long_for_any_box_gives_the_middle(size):
    width, height = size
    box = random_box(width, height, crop_draws(0, np.array([1]), np.array([0]))[0])
    assert box == {(400, 20): (186, 0, 27, 20), (20, 400): (0, 186, 20, 27)}[size]


@pytest.mark.parametrize("kind", ["BICUBIC", "BILINEAR"])
def test_resizing_differs_from_pillows_by_one_at_most(kind):
    from PIL import Image

    picture = np.asarray(decode_image(picture_bytes(1)))
    theirs = np.asarray(Image.fromarray(picture).resize((64, 64), Image.Resampling[kind])).astype(int)
    assert np.abs(theirs - resize(picture, Fit(64, interpolation=kind.lower()))).max() <= 1
