"""Every model of the zoo has one such test."""

from zoo.tiny import WEIGHTS, tiny_keras, tiny_torch


def test_tiny(assert_converted):
    assert_converted(tiny_keras(), tiny_torch(), file=WEIGHTS / "tiny_imagenet.h5", predicts=4,
                     md5="d8ddba470ce3a5b6ce892266596395af")
