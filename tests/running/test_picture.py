"""The picture and its rescaling."""

import numpy as np
import pytest
from PIL import Image

from keras_torch_convert.errors import PredictionError
from keras_torch_convert.running.picture import load_picture, rescaling


def test_bundled_cat_is_resized_whole_and_bicubic():
    picture, words = load_picture(None, (224, 224))
    own_size, _ = load_picture()

    assert own_size.shape == (300, 451, 3)
    expected = Image.fromarray(own_size.astype("uint8")).resize((224, 224),
                                                                Image.Resampling.BICUBIC)
    assert picture.dtype == np.float32
    assert np.array_equal(picture, np.asarray(expected, np.float32))
    assert words == "the bundled cat (chelsea.png)"


def test_picture_is_taken_from_a_path_an_array_or_an_image(tmp_path):
    values = np.arange(4 * 6 * 3, dtype="uint8").reshape(4, 6, 3)
    Image.fromarray(values).save(tmp_path / "small.png")

    for image in (tmp_path / "small.png", str(tmp_path / "small.png"), values, values / 255,
                  Image.fromarray(values)):
        assert np.array_equal(load_picture(image)[0], values)


def test_gray_and_transparent_pictures_become_rgb():
    assert load_picture(np.full((4, 4), 7, "uint8"))[0].tolist() == np.full((4, 4, 3), 7).tolist()
    assert load_picture(np.full((4, 4, 4), 255, "uint8"))[0].shape == (4, 4, 3)


@pytest.mark.parametrize(
    ("image", "message"), [(np.zeros(
        (3, 8, 8), "uint8"), r"shape \(height, width, 3\), got shape \(3, 8, 8\)"),
                           (np.zeros((0, 4, 3), "uint8"), "got shape"),
                           (np.full((4, 4, 3), -2.5), "before any normalization"),
                           (np.full((4, 4, 3), np.nan), "before any normalization"),
                           ("no such picture.png", "no such picture.png cannot be read"),
                           (__file__, "cannot be read")],
    ids=["channels first", "empty", "normalized", "NaN", "no file", "no picture"])
def test_what_is_no_picture_is_refused_with_the_reason(image, message):
    with pytest.raises(PredictionError, match=message):
        load_picture(image)


def test_missing_pillow_is_an_error_with_the_remedy(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)

    with pytest.raises(PredictionError, match="pip install pillow"):
        load_picture()


@pytest.mark.parametrize(("mode", "black", "white"),
                         [("torch", [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225
                                    ], [0.515 / 0.229, 0.544 / 0.224, 0.594 / 0.225]),
                          ("tf", [-1, -1, -1], [1, 1, 1]), ("lite", [-127 / 128] * 3, [1, 1, 1]),
                          ("raw", [0, 0, 0], [255, 255, 255]), ("raw01", [0, 0, 0], [1, 1, 1]),
                          ("tf128", [-1, -1, -1], [127 / 128] * 3),
                          ((127, 128), [-127 / 128] * 3, [1, 1, 1]),
                          (([1, 2, 3], [10, 10, 10]), [-0.1, -0.2, -0.3], [25.4, 25.3, 25.2]),
                          (lambda x: x / 5, [0, 0, 0], [51, 51, 51]),
                          (None, [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225
                                 ], [0.515 / 0.229, 0.544 / 0.224, 0.594 / 0.225])], ids=[
                                     "torch", "tf", "lite", "raw", "raw01", "tf128", "pair",
                                     "pair per channel", "function", "default"
                                 ])
def test_rescale_modes_map_black_and_white(mode, black, white):
    rescale = rescaling(mode)

    picture = np.stack([np.zeros((1, 3)), np.full((1, 3), 255)]).astype("float32")

    np.testing.assert_allclose(rescale(picture)[:, 0], [black, white], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("mode", "message"),
    [("caffe", "unknown rescale_mode 'caffe': use one of 'torch', 'tf', 'lite', 'raw'"),
     ((1, 2, 3), "must be the pair"), (([1, 2], 1), "one number or three"),
     ((127, 0), "std without zeros")])
def test_unknown_rescale_mode_is_refused_with_the_choices(mode, message):
    with pytest.raises(ValueError, match=message):
        rescaling(mode)


def test_mean_and_std_of_the_wrong_scale_are_pointed_out():
    assert "multiply both by 255" in rescaling(
        ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))).notes[0]
    assert rescaling((127.5, 127.5)).notes == ()


def test_function_that_changes_the_shape_is_refused():
    with pytest.raises(
            ValueError,
            match=r"must keep the shape of the picture: expected \(4, 4, 3\), got \(3, 4, 4\)"):
        rescaling(lambda x: x.transpose(2, 0, 1))(np.zeros((4, 4, 3), "float32"))
