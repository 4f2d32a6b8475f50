"""Models of collections by their names, such as timm:resnet50: what makes one, and what is known.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable, Mapping
from inspect import signature
from typing import Any, NamedTuple

from ..util.text import did_you_mean
from .main import InputError

Make = Callable[[Any, str, bool, Mapping[str, Any]], Any]


class Zoo(NamedTuple):
    """A collection of models.

    - `module`: what is imported
    - `package`: what is installed
    - `names`: the models that the module knows; None where there may be others, on a hub
    - `make`: makes one from the module, its name, whether it gets published weights, and arguments
    """

    module: str
    package: str
    names: Callable[[Any], Iterable[str]] | None
    make: Make


def zoo_of(name: str) -> str:
    """Return the collection that a name begins with, "" without one."""
    prefix, colon, rest = name.partition(":")
    return prefix if colon and rest and prefix in ZOOS else ""


def model_of_zoo(name: str, published: bool, arguments: Mapping[str, Any]) -> Any:
    """Make a model of a collection.

    Args:
        name: Such as "timm:resnet50".
        published: Load the weights that its makers published, else random ones without a download.
        arguments: Further ones for what makes the model; they override.
    """
    prefix, _, model = name.partition(":")
    zoo = ZOOS[prefix]
    try:
        module = importlib.import_module(zoo.module)
    except ModuleNotFoundError as error:
        raise InputError(f"{name} needs {error.name}: pip install {zoo.package}") from error
    except Exception as error:
        raise InputError(
            f"{zoo.module} cannot be imported: {type(error).__name__}: {error}") from error
    # With another colon timm looks elsewhere, as in "timm:hf-hub:owner/name".
    known = zoo.names(module) if zoo.names is not None and ":" not in model else [model]
    if model not in known:
        raise InputError(f"{zoo.package} has no model {model!r}{did_you_mean(model, known)}")
    try:
        return zoo.make(module, model, published, arguments)
    except Exception as error:
        given = "".join(f", {key}={value!r}" for key, value in arguments.items())
        offline = ("; without a network try --random-weights, or --weights with a checkpoint"
                   if published else "")
        raise InputError(f"{name}{given and f' ({given[2:]})'} cannot be made: "
                         f"{type(error).__name__}: {error}{offline}") from error


def _timm(timm: Any, name: str, published: bool, arguments: Mapping[str, Any]) -> Any:
    return timm.create_model(name, **{"pretrained": published} | dict(arguments))


def _torchvision(models: Any, name: str, published: bool, arguments: Mapping[str, Any]) -> Any:
    weights: dict[str, Any] = {"weights": "DEFAULT" if published else None}
    # The backbone of a detector would be downloaded even so.
    if not published and "weights_backbone" in signature(models.get_model_builder(name)).parameters:
        weights["weights_backbone"] = None
    return models.get_model(name, **weights | dict(arguments))


def _keras_function(models: Any, name: str, published: bool, arguments: Mapping[str, Any]) -> Any:
    """Make a model without layers that prepare pictures: PyTorch has them outside its models."""
    make = getattr(models, name)
    given: dict[str, Any] = {"weights": "imagenet" if published else None}
    if "include_preprocessing" in signature(make).parameters:
        given["include_preprocessing"] = False
    return make(**given | dict(arguments))


def _keras_hub(models: Any, name: str, published: bool, arguments: Mapping[str, Any]) -> Any:
    """Make a backbone, or with "ImageClassifier/PRESET" a task with its head."""
    model_class, preset = _class_and_name(models, name)
    made_by = model_class or models.Backbone
    return made_by.from_preset(preset, **{"load_weights": published} | dict(arguments))


def _transformers(transformers: Any, name: str, published: bool, arguments: Mapping[str,
                                                                                    Any]) -> Any:
    """Make the class that the checkpoint was saved from, or with "CLASS/NAME" another one.

    Without published weights a name may also be a type, such as "bert", in its default size.
    """
    model_class, name = _class_and_name(transformers, name)
    configs, types = transformers.AutoConfig, transformers.CONFIG_MAPPING
    # The oldest names on the Hub have no owner: "bert-base-uncased".
    is_on_the_hub = name not in types and ("/" in name or "-" in name)
    if os.path.isdir(name) or is_on_the_hub or published:
        config = configs.from_pretrained(name, **arguments)
    else:
        config = configs.for_model(_known(name, types), **arguments)
    saved_from = [getattr(transformers, one, None) for one in config.architectures or ()]
    made_by = model_class or next(filter(None, saved_from), transformers.AutoModel)
    if published:
        return made_by.from_pretrained(name, config=config)
    return made_by.from_config(config) if hasattr(made_by, "from_config") else made_by(config)


def _known(name: str, names: Iterable[str]) -> str:
    """Return a name that is known. Raises ValueError, with those that are spelled alike."""
    names = list(names)
    if name not in names:
        raise ValueError(f"there is no type {name!r}{did_you_mean(name, names)}")
    return name


def _class_and_name(module: Any, name: str) -> tuple[Any, str]:
    """Return the class of "CLASS/NAME", None for another name, and the rest."""
    first, slash, rest = name.partition("/")
    found = getattr(module, first, None) if slash else None
    return (found, rest) if isinstance(found, type) else (None, name)


def _functions(models: Any) -> list[str]:
    """Return what makes a model of Keras with or without published weights."""
    made = ((name, getattr(models, name)) for name in dir(models) if name[0].isupper())
    return [
        name for name, make in made if callable(make) and "weights" in signature(make).parameters
    ]


ZOOS = {
    "timm":
        Zoo("timm", "timm", lambda timm: timm.list_models() + timm.list_pretrained(), _timm),
    "torchvision":
        Zoo("torchvision.models", "torchvision", lambda models: models.list_models(),
            _torchvision), "hf":
                Zoo("transformers", "transformers", None, _transformers), "keras.applications":
                    Zoo("keras.applications", "keras", _functions, _keras_function), "keras-hub":
                        Zoo("keras_hub.models", "keras-hub", None, _keras_hub), "kimm":
                            Zoo("kimm.models", "kimm", _functions, _keras_function),
}
