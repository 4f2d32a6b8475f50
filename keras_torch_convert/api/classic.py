"""The classic functions that convert, as users of keras_cv_attention_models know them: same names,
same order of parameters, same defaults.

None of them changes its arguments, and what would lose a weight or a name in silence is an error
here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from os import PathLike
from typing import Any

from ..alignment.by_order import PairingOptions, plan_by_order
from ..alignment.classic import MatchFunction
from ..comparison.tolerances import TOLERANCES
from ..errors import SourceError
from ..keras_io.keras_save import check_path
from ..keras_io.model import read_target
from ..plan.executor import Strict
from ..report.layer_table import side_by_side
from ..report.report import Report
from ..rules.families.attention import is_attention
from ..rules.families.position_tables import Resize
from ..running.inputs import InputRequest
from ..running.picture import RescaleMode, load_picture, rescaling
from ..spec.layer_groups import LayerGroups, TorchLayer, group_by_layer
from ..spec.source import Source, SourceTensor
from ..spec.target import Target
from ..torch_io.live_tensor import live_tensor
from ..torch_io.reader import read
from .classic_alignment import AlignmentOptions, ClassicConversion, Moves, Transfer, unused_keys
from .reporting import Stages, timed
from .transfer import TransferOptions, transferred
from .verification import VerifyOptions

# What a zoo's dictionary of pretrained weights wants to know.
_DIGESTS = ("md5",)


# The classic interface: its parameters are fixed.
def keras_reload_stacked_state_dict(model: Any, stacked_state_dict: Mapping[str, Sequence[Any]],
                                    layer_names_matched_torch: Sequence[str],
                                    additional_transfer: Mapping[Any, Transfer] = {},
                                    save_name: str | PathLike[str] | None = None, verbose: int = 1,
                                    *, strict: Strict = True, skip_layers: Sequence[str] = (),
                                    keep_layers: Sequence[str] = (),
                                    expand_nested: bool = False) -> Report:
    """Write stacked tensors into a Keras model, in order, and save it.

    The i-th stack goes into the i-th named layer. Model and files stay as they are after an error.

    Args:
        model: A Keras 3 or tf_keras model.
        stacked_state_dict: What `state_dict_stack_by_layer` returns. It is never changed.
        layer_names_matched_torch: Names of Keras layers, in the order of the stacks.
        additional_transfer: That of `keras_reload_from_torch_model`.
        save_name: The file to write (.h5, .weights.h5 or .keras). None is the model's name with
            ".h5", "" no file.
        verbose: 0 is silent, 1 prints progress and report.
        strict: That of `keras_reload_from_torch_model`.
        skip_layers: That of `keras_reload_from_torch_model`.
        keep_layers: That of `keras_reload_from_torch_model`.
        expand_nested: That of `keras_reload_from_torch_model`.

    Returns:
        The report.

    Raises:
        ConversionError: As `keras_reload_from_torch_model` does, for the same reasons.

    Example:
        >>> stacked = ktc.state_dict_stack_by_layer(torch_model.state_dict())
        >>> names = ["conv", "norm", "head"]
        >>> report = ktc.keras_reload_stacked_state_dict(keras_model, stacked, names, verbose=0)
        >>> report.complete
        True
    """
    seconds: dict[str, float] = {}
    with timed(seconds, "read"):
        source, groups = read_stacks(stacked_state_dict)
        target = read_target(model, expand_nested=expand_nested, whole=is_attention)
    with timed(seconds, "align"):
        pairing = PairingOptions(skip_layers, keep_layers, strict, aligned=True)
        plan = plan_by_order(groups, target, list(layer_names_matched_torch), pairing,
                             additional_transfer)
    stages = Stages(source, target, seconds, warnings=unused_keys(target, additional_transfer))
    save = file_to_save(save_name, ".h5", target)
    options = TransferOptions(strict, save, verbose > 0, _DIGESTS)
    with transferred(stages, plan, options, last=True):
        pass
    return shown(stages.report(), verbose)


# The classic interface: its parameters are fixed.
def keras_reload_from_torch_model(torch_model: Any, keras_model: Any = None,
                                  input_shape: Sequence[int] = (224, 224),
                                  skip_weights: Sequence[str] = ["num_batches_tracked"],
                                  unstack_weights: Sequence[str] = [], tail_align_dict: Moves = {},
                                  full_name_align_dict: Moves = {}, tail_split_position: int
                                  | Sequence[int] = 2, additional_transfer: Mapping[Any,
                                                                                    Transfer] = {},
                                  specific_match_func: MatchFunction | None = None, save_name: str
                                  | PathLike[str] | None = None, do_convert: bool = True,
                                  do_predict: bool = True, verbose: int = 1, *,
                                  strict: Strict = True, skip_layers: Sequence[str] = (),
                                  keep_layers: Sequence[str] = (), expand_nested: bool = False,
                                  wrapper: str | None = None, sample: Any = None, image: Any = None,
                                  rescale_mode: RescaleMode = None, resize: Resize = None,
                                  tolerance: float = TOLERANCES.accepted) -> Report:
    """Convert a PyTorch model or checkpoint into a Keras model, pairing layers by order.

    The torch layers stand as the state dict lists them, the Keras layers as `model.layers` lists
    those with weights, after the alignment arguments have moved the Keras names. The alignment
    arguments are the dictionaries, the function, `skip_layers`, `keep_layers` and `resize`. If none
    of them is given, the source is a module, and the order does not fit (or, with `do_predict`, the
    outputs differ), both models are run to find the alignment, as `convert` does.

    A conversion whose outputs differ is saved all the same, and the report says so. After any other
    error but PredictionError, model, arguments and files are as they were.

    Args:
        torch_model: A torch module, a state dict, or the path of a checkpoint (.pt, .pth, .bin,
            .safetensors, .npz). A module is run in eval mode and restored. Code in a file is never
            run.
        keras_model: The Keras 3 or tf_keras model to fill. None lists the torch side and returns.
        input_shape: Height and width of the picture for the prediction, in pixels, if the model
            leaves them open.
        skip_weights: Tensors to leave out, by the whole last part of their names.
        unstack_weights: Tensors that become a layer of their own, by the whole last part of their
            names.
        tail_align_dict: Tail of a Keras layer name to where the layer goes. A negative int is an
            offset, another int a position, a string the sibling to go before. {stack: {tail: ...}}
            is for one stack only. A list has one dict for each stage.
        full_name_align_dict: The same with whole layer names.
        tail_split_position: After how many "_" the tail of a name begins. A list has one for each
            stage.
        additional_transfer: Ending of a layer name, or layer class, to a function. Each function
            that fits a layer gets, in dictionary order, a list of fresh arrays, the first of them
            after the default transform. It returns the list of the layer's weights.
        specific_match_func: Gets the (moved) list of Keras names and returns it in the torch order.
        save_name: The file to write (.h5, .weights.h5 or .keras). None is the model's name with
            "_imagenet.h5", "" no file.
        do_convert: False shows both lists side by side, with the first misalignment marked, and
            changes nothing.
        do_predict: Run both models on a picture, print the best five classes of both, and compare
            the outputs.
        verbose: 0 is silent, 1 prints the lists, the progress and the report.
        strict: True refuses whatever is left over on either side, "target" only unset variables,
            False neither. The report lists all of it.
        skip_layers: Torch layers to leave out; "*" stands for any text.
        keep_layers: Keras layers that keep their own values; "*" stands for any text. A head for
            another number of classes goes here, the torch head into `skip_layers`.
        expand_nested: Count the leaf layers of nested models, wrappers and composite layers; an
            attention layer is one. A leaf with an automatic name ("conv2d_7" in "block1") is called
            "block1_conv2d", the next "block1_conv2d_1".
        wrapper: The key of a checkpoint that holds the weights, such as "model_ema", if there are
            several.
        sample: Input to build and run the models: one array in the Keras layout, or (torch inputs,
            Keras inputs).
        image: The picture: a path, or an array (height, width, 3) of 0 to 255. None is a cat.
        rescale_mode: "torch", "tf", "lite", "raw", a pair (mean, std), or a function. None asks the
            Keras model, else "torch".
        resize: "bicubic" or "bilinear" resizes position tables that were made for another image
            size. None refuses them.
        tolerance: The largest difference of the outputs, as a fraction of torch's largest one, up
            to which models that are not equal count as close.

    Returns:
        The report.

    Raises:
        SourceError: The torch side cannot be read.
        TargetError: The Keras side cannot be filled.
        AlignmentError: Names cannot be aligned, or layers are left over.
        TransferError: Tensors and variables do not fit; `.problems` lists all bad pairs.
        SaveError: The file cannot be written.
        PredictionError: A model cannot be run. The weights are in the model and the file is saved;
            the error carries the report.

    An exception of a user's function passes through, with a note that says where.

    Example:
        >>> report = ktc.keras_reload_from_torch_model(
        ...     torch_model, keras_model, save_name="model.h5", verbose=0)
        >>> report.equal
        True
    """
    request = InputRequest(sample, picture=True, image=image, rescale_mode=rescale_mode,
                           input_shape=input_shape)
    if do_predict:
        check_picture(image, rescale_mode)
    seconds: dict[str, float] = {}
    with timed(seconds, "read"):
        source = read(torch_model, wrapper=wrapper)
    with timed(seconds, "collect"):
        groups = group_by_layer(source, skip_weights, unstack_weights)
    stages = Stages(source, seconds=seconds)
    if keras_model is None:
        stages.layer_table = side_by_side(groups.layers)
        return shown(stages.report(), verbose)
    with timed(seconds, "read"):
        target = read_target(keras_model, sample=sample, expand_nested=expand_nested,
                             whole=is_attention)
    alignment = AlignmentOptions(tail_align_dict, full_name_align_dict, tail_split_position,
                                 specific_match_func, additional_transfer, unstack_weights,
                                 skip_layers, keep_layers, resize)
    with timed(seconds, "align"):
        names = alignment.aligned(target)
    stages.target, stages.arguments = target, alignment.arguments()
    stages.layer_table = partial(alignment.layer_table, groups, target, names.names)
    stages.warnings = (*names.warnings, *unused_keys(target, additional_transfer))
    stages.notes = names.notes
    if not do_convert:
        return shown(stages.report(), verbose)
    if verbose > 0:
        stages.layer_table = stages.layer_table(())
        print(repr(stages.layer_table), end="\n\n")
    transfer = TransferOptions(strict, file_to_save(save_name, "_imagenet.h5", target), verbose > 0,
                               _DIGESTS)
    verify = VerifyOptions(randomized=False, tolerance=tolerance) if do_predict else None
    conversion = ClassicConversion(stages, groups, names, alignment, request, transfer, verify)
    return shown(conversion.run().report(), verbose)


def check_picture(image: Any, rescale_mode: RescaleMode) -> None:
    """Refuse a picture that cannot be read or an unknown rescaling before any weight is written."""
    if rescale_mode is not None:
        rescaling(rescale_mode)
    if image is not None:
        load_picture(image, (8, 8))


def read_stacks(stacked_state_dict: Mapping[str, Sequence[Any]]) -> tuple[Source, LayerGroups]:
    """Return stacked arrays as a source whose tensors are called "layer[0]", "layer[1]" and so on:
    their own names are gone.
    """
    if not isinstance(stacked_state_dict, Mapping):
        raise SourceError("expected what state_dict_stack_by_layer returns, a dict of lists, got "
                          f"{type(stacked_state_dict).__name__}")
    layers = []
    for name, values in stacked_state_dict.items():
        if isinstance(values, str) or not isinstance(values, Sequence):
            raise SourceError(
                f"layer {name!r}: expected a list of arrays, got {type(values).__name__}")
        stacked = (stacked_tensor(name, index, value) for index, value in enumerate(values))
        layers.append(TorchLayer(name, tuple(stacked)))
    tensors = {tensor.name: tensor for layer in layers for tensor in layer.tensors}
    if not tensors:
        raise SourceError("the stacked state dict holds no arrays")
    return Source(tensors, "stacked state dict"), LayerGroups(tuple(layers), {})


def stacked_tensor(layer: str, index: int, value: Any) -> SourceTensor:
    """Return one value of a stack under a name of its own."""
    tensor = live_tensor(f"{layer}[{index}]", value, "stacked state dict")
    if tensor is None:
        raise SourceError(
            f"layer {layer!r}: expected arrays, got {type(value).__name__} as item {index} of "
            "its list")
    return replace(tensor, from_array=True)


def file_to_save(save_name: str | PathLike[str] | None, ending: str,
                 target: Target) -> str | PathLike[str] | None:
    """Return the file to write: the model's name with this ending for None, None for ""; raise
    SaveError where it cannot be written.
    """
    path = f"{target.name}{ending}" if save_name is None else save_name or None
    if path is not None:
        check_path(path, target)
    return path


def shown(report: Report, verbose: int) -> Report:
    """Print the report unless silence is asked for, of looking only also the lists; return it."""
    if verbose > 0:
        if not report.ledger:
            print(repr(report.layer_table))
        print(repr(report))
    return report
