"""What to try when the tensors of a torch layer do not fit the variables of a Keras layer."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import PairError
from ..spec.layer_groups import TorchLayer, last_part
from ..spec.roles import is_position_table, role_of
from ..spec.source import SourceTensor
from ..spec.target import TargetLayer, TargetVariable
from ..spec.tensor_spec import Shape
from ..util.text import plural

LISTS = "when the layers are in another order, do_convert=False prints the two lists side by side"
_OPTION_OF_VARIABLE = {"gamma": "scale", "beta": "center", "bias": "use_bias"}


def refusal(torch_layer: TorchLayer, layer: TargetLayer, problem: str, remedy: str) -> PairError:
    """Return the error that a pair does not fit: both sides, the problem, and what to do."""
    torch_side = ", ".join(f"{last_part(tensor.name)} {tensor.shape}"
                           for tensor in torch_layer.tensors) or "no tensors"
    keras_side = ", ".join(f"{variable.name} {variable.shape}" for variable in layer.variables)
    return PairError(
        f"Keras layer '{layer.display_name}' ({layer.class_name}: {keras_side}) and torch layer "
        f"'{torch_layer.display_name}' ({torch_side}) do not fit: {problem}; {remedy}", problem)


def own_transfer(layer: TargetLayer) -> str:
    """Return the argument by which the user gives the arrays of a layer."""
    return f"additional_transfer={{'{layer.name}': ...}}"


def count_refusal(torch_layer: TorchLayer, layer: TargetLayer, unplaced: Sequence[SourceTensor],
                  besides: str = "", remedy: str = "") -> PairError:
    """Return the error for too many or too few tensors."""
    counts = (f"{plural(len(torch_layer.tensors), 'tensor')} for "
              f"{plural(len(layer.variables), 'variable')}{besides}")
    return refusal(torch_layer, layer, counts, remedy or on_count(torch_layer, layer, unplaced))


def kind_refusal(torch_layer: TorchLayer, layer: TargetLayer) -> PairError | None:
    """Return the error for a layer of vectors, as a norm, and one of matrices, as a convolution.

    None when both are of one kind, and when they hold equally many arrays, whose shapes tell more.
    """
    tensors, variables = torch_layer.tensors, layer.variables
    has_matrix = [
        any(sum(extent > 1 for extent in array.shape) > 1 for array in side)
        for side in (tensors, variables)
    ]
    if has_matrix[0] == has_matrix[1] or len(tensors) == len(variables):
        return None
    remedy = "hardly a pair that anyone means, so look at the order of the layers first"
    return count_refusal(torch_layer, layer, (), remedy=remedy)


def on_count(torch_layer: TorchLayer, layer: TargetLayer, unplaced: Sequence[SourceTensor]) -> str:
    """Say what to do about tensors or variables that are left over."""
    if len(torch_layer.tensors) < len(layer.variables):
        return ("build the Keras layer without what PyTorch lacks (use_bias=False, scale=False, "
                f"center=False), or give the missing arrays with {own_transfer(layer)}")
    names = sorted({last_part(tensor.name) for tensor in unplaced})
    known = {role_of(variable.name) for variable in layer.variables}
    without = ", ".join(f"{option}=False" for name, option in _OPTION_OF_VARIABLE.items()
                        if layer.settings.get(option) is False and role_of(name) not in known)
    built = f"the Keras layer is built with {without}: build it without, or " if without else ""
    return (f"{built}leave {names} out by skip_weights={names}, give them an entry of their own by "
            f"unstack_weights={names}, or change the list of arrays with {own_transfer(layer)}")


def on_no_fit(wanted: Shape, layer: TargetLayer) -> str:
    """Say what to do when no tensor could be the main weight: hardly a pair that anyone means."""
    return (f"none of the tensors has the shape {wanted} that {layer.variables[0].name} needs, so "
            "look at the order of the layers first")


def shape_refusal(torch_layer: TorchLayer, layer: TargetLayer, tensor: SourceTensor,
                  variable: TargetVariable, expected: Shape | None = None,
                  wanted: str = "") -> PairError:
    """Return the error for a tensor of another shape than the variable needs.

    `expected` is the shape in PyTorch's layout, where a rule knows one, `wanted` the same in words.
    """
    return refusal(
        torch_layer, layer,
        f"{variable.name} needs a torch tensor of shape {wanted or expected or variable.shape}, "
        f"got '{tensor.name}' of shape {tensor.shape}",
        _on_shape(torch_layer, layer, tensor, expected, variable.shape))


def _on_shape(torch_layer: TorchLayer, layer: TargetLayer, tensor: SourceTensor,
              expected: Shape | None, keras_shape: Shape) -> str:
    got, name, transfer = tensor.shape, tensor.name, own_transfer(layer)
    if len(got) > 1 and len(keras_shape) > 1 and got[-1] == keras_shape[-1] and is_position_table(
            name):
        return (f"'{name}' is a table of positions for another image size: build the Keras model "
                "for that size, or resize the table by resize='bicubic' (or 'bilinear')")
    if expected and got and got[0] != expected[0] and got[1:] == expected[1:]:
        if got[0] == 3 * expected[0]:
            return (f"'{name}' has three times the rows, as a fused query, key and value: give it "
                    f"an entry of its own by unstack_weights=['{last_part(name)}'] or split it "
                    f"with {transfer}")
        return (f"'{name}' has {got[0]} outputs where the Keras layer has {expected[0]}; a head "
                "for another number of classes is left out by name, with "
                f"skip_layers=['{torch_layer.name}'] and keep_layers=['{layer.name}'], and keeps "
                "its own values; or build both models with one number of classes")
    if expected and len(got) == 2 < len(expected) and expected == got + (1,) * (len(expected) - 2):
        return (f"'{name}' is the matrix of a linear layer: use a Dense layer, or add its axes of "
                "size 1 to the torch tensor")
    if expected is not None and got == keras_shape:
        return (f"'{name}' already is in Keras's layout: store it in PyTorch's, {expected}, or "
                f"move it with {transfer}")
    if len(got) > 1 and sorted(got) == sorted(keras_shape):
        return f"the axes are in another order: move them with {transfer}"
    return f"when the pair is meant, move the values with {transfer}"
