"""Attention: however PyTorch keeps query, key, value and output, Keras has one dense layer for
each.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from ...plan.derived_tensors import DerivedTensor, derive, in_source_terms
from ...plan.expressions import Fill, Reshape, Slice, Tensor
from ...plan.recipe import Assignment
from ...spec.layer_groups import TorchLayer, last_part
from ...spec.source import SourceTensor
from ...spec.target import TargetLayer
from .. import remedies
from ..assign_tensors import assign_tensors
from ..rule import Rule
from .linear import linear_rule

CLASS_NAMES = ("MultiHeadAttention", "GroupedQueryAttention", "GroupQueryAttention")
PARTS = ("query", "key", "value", "attention_output")
_CHILD_NAMES = {
    "query": ("query", "query_dense", "q", "q_proj"), "key": ("key", "key_dense", "k", "k_proj"),
    "value": ("value", "value_dense", "v", "v_proj"),
    "attention_output": ("attention_output", "output", "output_dense", "out", "o_proj", "out_proj")
}
# Last parts of names, of PyTorch layers and of single tensors (without "_weight" and "_bias"), by
# what they hold.
_NAMES = {
    ("query",):
        "query q q_proj to_q q_lin wq", ("key",):
        "key k k_proj to_k k_lin wk", ("value",):
        "value v v_proj to_v v_lin wv", ("key", "value"):
        "kv to_kv kv_proj", ("query", "key", "value"):
        "in_proj qkv to_qkv qkv_proj wqkv query_key_value",
    ("attention_output",): ("out_proj proj o_proj to_out out_lin out output attention_output "
                            "dense wo o"),
}
_HOLDS = {name: parts for parts, names in _NAMES.items() for name in names.split()}
# The rows of these are (head, query or key or value, head size): transformers' GPT-NeoX and BLOOM.
_HEADS_FIRST = ("query_key_value",)

# Tensors of one kind, weights or biases, by the parts that each stands for.
_ByParts = dict[tuple[str, ...], SourceTensor]


def assign_attention(torch_layer: TorchLayer, layer: TargetLayer) -> tuple[Assignment, ...]:
    """Assign query, key, value and output one by one.

    Raises:
        TransferError: By names or sizes the torch layer is no attention, or it holds what the Keras
            layer has no variable for.
    """
    assignments: dict[str, Assignment] = {}
    for part, child in _parts(torch_layer, layer):
        found = assign_tensors(part, child, linear_rule(child))
        for one in in_source_terms(found, part.tensors):
            assignments[one.key] = one
    return tuple(assignments[variable.key] for variable in layer.variables)


def _parts(torch_layer: TorchLayer,
           layer: TargetLayer) -> tuple[tuple[TorchLayer, TargetLayer], ...]:
    """Return the dense children, each with a torch layer of its own weight and bias."""
    children = _children(layer)
    if children is None:
        raise remedies.refusal(
            torch_layer, layer,
            f"a {layer.class_name} is expected to hold {', '.join(PARTS)}, it holds "
            f"{[child.name for child in layer.children]}",
            "list its leaf layers one by one with expand_nested=True, or use "
            f"{remedies.own_transfer(layer)}")
    _refuse_what_keras_lacks(torch_layer, layer)
    weights, biases = _by_part(torch_layer, layer)
    result = []
    for part, child in children.items():
        tensors = []
        for last, found in (("weight", weights), ("bias", biases)):
            held = next((parts for parts in found if part in parts), None)
            if held is None:
                has_bias = any(variable.name == "bias" for variable in child.variables)
                if last == "bias" and found and has_bias and part != "attention_output":
                    # Where others have a bias and one has none (BEiT's key), it is zero.
                    tensors.append(
                        derive(f"{torch_layer.name}.bias[{part}]", Fill(0.0, (_rows(child),)),
                               torch_layer.tensors[:1],
                               f"attention: no bias for {part}, which is one of zeros"))
            else:
                tensors.append(_part_of(torch_layer, layer, children, found[held], held, part))
        display_name = f"{torch_layer.name} ({part.replace('_', ' ')})"
        result.append((TorchLayer(display_name, tuple(tensors), torch_layer.modules), child))
    return tuple(result)


def is_attention(layer: TargetLayer) -> bool:
    """Return True for a Keras attention of query, key, value and output.

    It stays one layer when others are taken apart.
    """
    return bool(set(CLASS_NAMES) & set(layer.class_names)) and _children(layer) is not None


def _children(layer: TargetLayer) -> dict[str, TargetLayer] | None:
    """Return the dense children by part in Keras's order, None unless these are all."""
    found: dict[str, TargetLayer] = {}
    for child in layer.children:
        part = next((part for part, names in _CHILD_NAMES.items() if child.name in names), None)
        if part is None or part in found:
            return None
        found[part] = child
    return found if set(found) == set(PARTS) else None


def _refuse_what_keras_lacks(torch_layer: TorchLayer, layer: TargetLayer) -> None:
    parts = [last_part(tensor.name) for tensor in torch_layer.tensors]
    lacking = [part for part in parts if part in ("bias_k", "bias_v")]
    if lacking:
        raise remedies.refusal(
            torch_layer, layer,
            f"{' and '.join(lacking)} add a learned key and value to the sequence "
            "(add_bias_kv=True), for which Keras's attention has no place",
            "concatenate them in a layer of your own in front of it, or leave them out by "
            "skip_weights=['bias_k', 'bias_v'] when they are zero")
    if any(getattr(module, "add_zero_attn", False) for module in torch_layer.modules.values()):
        raise remedies.refusal(
            torch_layer, layer,
            "the torch layer adds a key and value of zeros to the sequence (add_zero_attn=True), "
            "which Keras's attention cannot do",
            "build the torch layer without it, or write the Keras layer yourself")


def _by_part(torch_layer: TorchLayer, layer: TargetLayer) -> tuple[_ByParts, _ByParts]:
    """Return weights and biases by the parts that their names say.

    Four layers without known names are query, key, value, output.
    """
    weights: _ByParts = {}
    biases: _ByParts = {}
    known = {
        _owner(tensor.name): _HOLDS.get(_word(_owner(tensor.name)).lower())
        for tensor in torch_layer.tensors if last_part(tensor.name) == "weight"
    }
    if len(known) == len(PARTS) and None in known.values():
        known = {owner: (part,) for owner, part in zip(known, PARTS, strict=True)}
    for tensor in torch_layer.tensors:
        last = last_part(tensor.name)
        found = biases if last.endswith("bias") else weights
        by_owner = last in ("weight", "bias")
        held = known.get(_owner(tensor.name)) if by_owner else _HOLDS.get(_stem(last))
        if held is None or held in found:
            twice = "is there twice" if held else "is no known part of attention"
            raise remedies.refusal(
                torch_layer, layer, f"'{tensor.name}' {twice}",
                "give the torch layers in the order query, key, value, output, or leave a tensor "
                "out by skip_weights")
        found[held] = tensor
    missing = [part for part in PARTS if not any(part in held for held in weights)]
    if missing:
        raise remedies.refusal(
            torch_layer, layer, f"there is no weight for {', '.join(missing)}",
            "map the Keras layer to all torch layers that belong to it, such as ['attn', "
            "'attn.out_proj'] or ['attn.qkv', 'attn.proj']")
    return weights, biases


def _part_of(torch_layer: TorchLayer, layer: TargetLayer, children: dict[str, TargetLayer],
             tensor: SourceTensor, held: tuple[str, ...], part: str) -> DerivedTensor:
    """Return the rows of `tensor` that are `part`, as a tensor of their own."""
    if len(held) == 1:
        return derive(tensor.name, Tensor(tensor.name), (tensor,), "attention")
    rows = {one: _rows(children[one]) for one in held}
    if not tensor.shape or tensor.shape[0] != sum(rows.values()):
        counts = ", ".join(f"{count} for {one}" for one, count in rows.items())
        raise remedies.refusal(
            torch_layer, layer,
            f"'{tensor.name}' needs {sum(rows.values())} rows, {counts}, got {tensor.shape}",
            "check number and size of the heads")
    if _word(_owner(tensor.name)).lower() in _HEADS_FIRST:
        return _from_heads_first(torch_layer, layer, children, tensor, held, part)
    start = sum(rows[one] for one in held[:held.index(part)])
    doubt = ""
    is_torchs_own = last_part(tensor.name).startswith("in_proj")
    if len(set(rows.values())) < len(rows) and not is_torchs_own:
        doubt = (f"'{tensor.name}' is taken as blocks of rows {', '.join(held)}, all heads of one "
                 "after the other: another order would have the same shape, so only equal outputs "
                 "can prove it")
    rule = f"attention: rows {start} to {start + rows[part]} of {', '.join(held)} are {part}"
    return derive(f"{tensor.name}[{part}]", Slice(Tensor(tensor.name), 0, start,
                                                  start + rows[part]), (tensor,), rule, doubt)


def _from_heads_first(torch_layer: TorchLayer, layer: TargetLayer, children: dict[str, TargetLayer],
                      tensor: SourceTensor, held: tuple[str, ...], part: str) -> DerivedTensor:
    heads = children["query"].variables[0].shape[-2]
    if len({_rows(children[one]) for one in held}) > 1:
        raise remedies.refusal(
            torch_layer, layer,
            f"'{tensor.name}' has query, key and value inside each head, for which all must have "
            "as many heads", f"split it with {remedies.own_transfer(layer)}")
    rest = tensor.shape[1:]
    size = _rows(children[part]) // heads
    apart = Reshape(Tensor(tensor.name), (heads, len(held), size, *rest))
    one = Slice(apart, 1, held.index(part), held.index(part) + 1)
    return derive(
        f"{tensor.name}[{part}]", Reshape(one, (heads * size, *rest)), (tensor,),
        f"attention: rows of '{tensor.name}' are (head, {' or '.join(held)}, head size)",
        f"'{tensor.name}' is taken as heads that hold {', '.join(held)} each: only equal outputs "
        "can prove it")


def _rows(child: TargetLayer) -> int:
    """Return the outputs of a dense child: all axes of its kernel but the first, the inputs."""
    return prod(child.variables[0].shape[1:])


def _owner(name: str) -> str:
    return name[:len(name) - len(last_part(name))].rstrip("./")


def _word(owner: str) -> str:
    """Return the last part of a name that is no number: "to_out" of "attn.to_out.0"."""
    words = [word for word in owner.replace("/", ".").split(".") if word and not word.isdigit()]
    return words[-1] if words else ""


def _stem(last: str) -> str:
    """Return "q_proj" of "q_proj_weight", "" of other names."""
    stem, _, ending = last.rpartition("_")
    return stem.lower() if ending in ("weight", "bias") else ""


def joins(torch_layers: Sequence[TorchLayer]) -> int:
    """Return how many torch layers, from the first on, are one attention by their names, else 1."""
    first = torch_layers[0]
    if any(_stem(last_part(tensor.name)) in ("in_proj", "q_proj") for tensor in first.tensors):
        return 2 if len(torch_layers) > 1 and torch_layers[1].name.startswith(
            f"{first.name}.") else 1
    parent = first.name.rpartition(".")[0]
    needed = set(PARTS)
    for count, torch_layer in enumerate(torch_layers[:5], 1):
        inside = torch_layer.name == parent or torch_layer.name.startswith(
            f"{parent}.") or not parent
        held = _HOLDS.get(_word(torch_layer.name).lower(), ())
        if not inside or not held or not set(held) <= needed:
            return 1
        needed -= set(held)
        if not needed:
            return count
    return 1


RULES = (Rule(
    "attention", CLASS_NAMES,
    "torch.nn.MultiheadAttention: in_proj_weight stacks the rows of query, key and value; with "
    "kdim or vdim they are q_proj_weight, k_proj_weight, v_proj_weight. A head is a block of rows. "
    "keras.layers.MultiHeadAttention: query, key and value have kernels (input, head, head size), "
    "the output has (head, head size, output)", assign=assign_attention, unlike_torch="its heads"),)
