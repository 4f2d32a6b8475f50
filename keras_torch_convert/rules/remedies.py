"""What to try when the tensors of a torch layer do not fit the variables of a Keras layer."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import PairError
from ..spec.layer_groups import TorchLayer, last_part
from ..spec.roles import is_position_table, role_of
from ..spec.source import SourceTensor
from ..spec.target import TargetLayer
from ..spec.tensor_spec import Shape
from ..util.text import plural

LISTS = "when the layers are in another order, do_convert=False prints the two lists side by side"


def pair_in_words(torch_layer: str, tensors: Sequence[SourceTensor], layer: TargetLayer) -> str:
    """Both sides with all names and shapes."""
    torch_side = ", ".join(
        f"{last_part(tensor.name)} {tensor.shape}" for tensor in tensors) or "no tensors"
    keras_side = ", ".join(f"{variable.name} {variable.shape}" for variable in layer.variables)
    return (f"Keras layer '{layer.display_name}' ({layer.class_name}: {keras_side}) and torch "
            f"layer '{torch_layer}' ({torch_side})")


def refusal(stack: TorchLayer, layer: TargetLayer, problem: str, remedy: str) -> PairError:
    """The error that a pair does not fit, with both sides, the problem and what to do."""
    message = f"{pair_in_words(stack.layer, stack.tensors, layer)} do not fit: {problem}; {remedy}"
    return PairError(message, problem)


def counts(tensors: Sequence[SourceTensor], layer: TargetLayer) -> str:
    """How many tensors there are for how many variables: "1 tensor for 4 variables"."""
    return f"{plural(len(tensors), 'tensor')} for {plural(len(layer.variables), 'variable')}"


def on_strangers(wanted: Shape, layer: TargetLayer) -> str:
    """No tensor of the torch layer could be the main weight of the Keras layer: hardly a pair that
    anyone means.
    """
    return (f"none of the tensors has the shape {wanted} that {layer.variables[0].name} needs, so "
            "look at the order of the layers first")


def on_count(tensors: Sequence[SourceTensor], layer: TargetLayer,
             unplaced: Sequence[SourceTensor]) -> str:
    """Too many or too few tensors."""
    if len(tensors) < len(layer.variables):
        return ("build the Keras layer without what PyTorch lacks (use_bias=False, scale=False, "
                "center=False), or give the missing "
                f"arrays with additional_transfer={{'{layer.name}': ...}}")
    names = sorted({last_part(tensor.name) for tensor in unplaced})
    options = {"scale": "gamma", "center": "beta", "use_bias": "bias"}
    known = {role_of(variable.name) for variable in layer.variables}
    without = [
        option for option, name in options.items()
        if layer.settings.get(option) is False and role_of(name) not in known
    ]
    built = (f"the Keras layer is built with {', '.join(f'{option}=False' for option in without)}: "
             "build it without, or " if without else "")
    return (f"{built}leave {names} out by skip_weights={names}, give them an entry of their own by "
            f"unstack_weights={names}, "
            f"or change the list of arrays with additional_transfer={{'{layer.name}': ...}}")


def on_other_classes(torch_layer: str, keras_layer: str) -> str:
    """A pair of layers that differ in their number of outputs only, as the heads of two class
    counts do.
    """
    return ("a head for another number of classes is left out by name, with "
            f"skip_layers=['{torch_layer}'] and keep_layers=['{keras_layer}'], "
            "and keeps its own values; or build both models with one number of classes")


def on_shape(  # # one branch for each likely cause
        torch_layer: str, tensor: SourceTensor, expected: Shape | None, keras_shape: Shape,
        layer: TargetLayer) -> str:
    """One tensor of another shape than the variable needs."""
    got = tensor.shape
    if len(got) > 1 and len(keras_shape) > 1 and got[-1] == keras_shape[-1] and is_position_table(
            tensor.name):
        return (f"'{tensor.name}' is a table of positions for another image size: build the Keras "
                "model for that size, "
                "or resize the table by resize='bicubic' (or 'bilinear')")
    own_transfer = f"additional_transfer={{'{layer.name}': ...}}"
    if expected and got and len(got) == len(
            expected) and got[0] == 3 * expected[0] and got[1:] == expected[1:]:
        return (
            f"'{tensor.name}' has three times the rows, as a fused query, key and value: give it "
            "an entry of its own by "
            f"unstack_weights=['{last_part(tensor.name)}'] or split it with {own_transfer}")
    if expected and got and got[0] != expected[0] and got[1:] == expected[1:]:
        return (f"'{tensor.name}' has {got[0]} outputs where the Keras layer has {expected[0]}; "
                f"{on_other_classes(torch_layer, layer.name)}")
    if expected is not None and len(got) == 2 and len(
            expected) > 2 and expected == got + (1,) * (len(expected) - 2):
        return (f"'{tensor.name}' is the matrix of a linear layer: use a Dense layer, or add its "
                "axes of size 1 to the torch tensor")
    if expected is not None and got == keras_shape:
        return (f"'{tensor.name}' already is in Keras's layout: store it in PyTorch's, "
                f"{expected}, or move it with {own_transfer}")
    if len(got) > 1 and sorted(got) == sorted(keras_shape):
        return f"the axes are in another order: move them with {own_transfer}"
    return f"when the pair is meant, move the values with {own_transfer}"
