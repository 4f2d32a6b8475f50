"""Names of the 1000 ImageNet classes, in the spelling of Keras."""

from __future__ import annotations

from functools import cache


@cache
def imagenet_classes() -> tuple[tuple[str, str], ...]:
    """The classes in the order of the logits: (WordNet id, name), as ("n02124075", "Egyptian_cat")
    at place 285.
    """
    from importlib import resources

    text = (resources.files("keras_torch_convert") / "data"
            / "imagenet_classes.txt").read_text("utf-8")
    classes = []
    for line in text.splitlines():
        identifier, name = line.split(" ")
        classes.append((identifier, name))
    return tuple(classes)


def class_name(index: int, count: int) -> str:
    """Name of class `index` of a model with `count` classes, "" when the order of the classes is
    not known.

    1000 classes are ImageNet's; 1001 are ImageNet's behind a background class, as in TensorFlow's
    early models.
    """
    if count == 1000:
        return imagenet_classes()[index][1]
    if count == 1001:
        return imagenet_classes()[index - 1][1] if index else "background"
    return ""
