"""Quantized weights: the tensors of a file that are codes, scales and zeros become the weight that
the module has, decoded when it is read.

Which tensors belong together is told by their names, how they are packed by the quantization_config
of the folder. Names are those of transformers, AutoGPTQ, GPTQModel and AutoAWQ.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

from ..errors import SourceError
from ..plan.evaluation import Decoded, Evaluation, shape_of
from ..plan.expressions import Dequantize, Expression, Permute, Tensor
from ..spec.source import Source, SourceTensor
from ..util.text import join_names, plural, shorten
from .folder import read_config
from .mapped_file import FilePath

_FLOAT8 = ("float8_e4m3fn", "float8_e5m2")
_SCALES = ("_scale_inv", "_scale")
_OF_ACTIVATIONS = re.compile(r"\.(activation_scale|input_scale|input_scale_ub)$")
_FLOATS = ("bfloat16", "float16", "float32")
_USUAL_BLOCK = (128, 128)
# Other files that say how weights were quantized, with what they are about.
_OWN_FILES = (("quantize_config.json", "gptq"), ("quant_config.json", "awq"))
_METHODS = {
    "FP8": ("", "fp8", "fbgemm_fp8"), "MXFP4": ("", "mxfp4"), "GPTQ or AWQ": ("gptq", "awq")
}
ADVICE = ("load it in its own library, dequantize it there (model.dequantize() in transformers), "
          "and give that module or the file that it saves")


def decoded(tensors: Sequence[SourceTensor], origin: str,
            folder: FilePath | None) -> tuple[Sequence[SourceTensor], list[str]]:
    """Return tensors with weights in the places of their codes, and notes about them.

    Args:
        tensors: The tensors as they are stored.
        origin: Where they come from, for messages.
        folder: Where to look for the configuration; None for a state dict.

    Raises:
        SourceError: Parts are missing, do not fit each other, or are packed in a way that is not
            known.
    """
    return _Quantization({one.name: one for one in tensors}, origin, folder).decoded()


@dataclass(frozen=True)
class _Quantization:
    """The tensors of a source by name, some of which may be codes."""

    tensors: Mapping[str, SourceTensor]
    origin: str
    folder: FilePath | None

    def decoded(self) -> tuple[Sequence[SourceTensor], list[str]]:
        """Return the tensors, and notes; see above."""
        weights: dict[str, SourceTensor] = {}
        used: set[str] = set()
        schemes: Counter[str] = Counter()
        evaluation = Evaluation(Source(self.tensors, self.origin))
        for name in self.tensors:
            found = self._float8(name) or self._mxfp4(name) or self._packed(name)
            if found is None:
                continue
            own_name, node, perm = found
            expression: Expression = node if perm is None else Permute(node, perm)
            try:
                node.check_types([self.tensors[one].dtype for one in _names(node)])
                shapes = {one: self.tensors[one].shape for one in _names(node)}
                shape = shape_of(expression, shapes)
            except ValueError as error:
                raise self._error(own_name, str(error)) from error
            weights[name] = SourceTensor(own_name, shape, node.dtype,
                                         Decoded(evaluation, expression, node.dtype, own_name),
                                         kind=self.tensors[name].kind)
            used |= {*_names(node)}
            schemes[f"{node.scheme} to {node.dtype}"] += 1
        if not weights:
            return list(self.tensors.values()), []
        dropped = [name for name in self.tensors if _OF_ACTIVATIONS.search(name)]
        notes = [f"{plural(count, 'quantized weight')} decoded, from {scheme}"
                 for scheme, count in schemes.items()]  # yapf: disable
        if dropped:
            notes.append(f"{plural(len(dropped), 'scale')} of activations left out, such as "
                         f"'{dropped[0]}'")
        kept = [weights.get(name, one) for name, one in self.tensors.items()
                if name in weights or name not in {*used, *dropped}]  # yapf: disable
        return kept, notes

    def _float8(self, name: str) -> tuple[str, Dequantize, None] | None:
        codes = self.tensors[name]
        scale = next((one for end in _SCALES if (one := name + end) in self.tensors), None)
        if scale is None or codes.dtype not in _FLOAT8:
            return None
        self._check_method("FP8", name)
        block = self._block(name, codes.shape, self.tensors[scale].shape)
        parts = (Tensor(name), Tensor(scale))
        scheme: Any = codes.dtype
        return name, Dequantize(parts, scheme, self.dtype, 8, block), None

    def _block(self, name: str, shape: tuple[int, ...], scales: tuple[int, ...]) -> tuple[int, int]:
        """Return the rows and columns that share a scale."""
        given = self.config.get("weight_block_size")
        if len(shape) < 2 or not (given is None or
                                  (isinstance(given, list) and len(given) == 2
                                   and all(type(one) is int and one > 0 for one in given))):
            raise self._error(
                name, f"weight_block_size {shorten(repr(given), 60)} and codes of "
                f"shape {shape} are not known")
        *leading, rows, columns = shape
        block = (given[0], given[1]) if given else _USUAL_BLOCK
        if scales == (*leading, -(-rows // block[0]), -(-columns // block[1])):
            return block
        if prod(scales) == prod(leading):
            return max(rows, 1), max(columns, 1)
        if scales in ((*leading, rows), (*leading, rows, 1)):
            return 1, max(columns, 1)
        return block

    def _mxfp4(self, name: str) -> tuple[str, Dequantize, tuple[int, ...]] | None:
        own_name = name.removesuffix("_blocks")
        scales = f"{own_name}_scales"
        blocks = self.tensors[name]
        if own_name == name or scales not in self.tensors or blocks.dtype != "uint8":
            return None
        self._check_method("MXFP4", name)
        if len(blocks.shape) != 4:
            raise self._error(
                name, f"blocks of shape {blocks.shape}, expected (experts, outputs, "
                "groups, 16), as gpt-oss has them")
        parts = (Tensor(name), Tensor(scales))
        return own_name, Dequantize(parts, "mxfp4", self.dtype, 4, (1, 32)), (0, 2, 1)

    def _packed(self, name: str) -> tuple[str, Dequantize, tuple[int, ...]] | None:
        module = name.removesuffix("qweight")
        if module == name or self.tensors[name].dtype != "int32":
            return None
        own_name = f"{module}weight"
        self._check_method("GPTQ or AWQ", name)
        names = [name, *(f"{module}{one}" for one in ("qzeros", "scales"))]
        missing = [one for one in names if one not in self.tensors]
        if missing:
            raise self._error(own_name, f"{join_names(missing, quoted=True)} missing")
        scheme, bits, group = self._packing(own_name)
        index = f"{module}g_idx"
        scales = self.tensors[names[2]]
        rows = self.tensors[name].shape[0] if self.tensors[name].shape else 0
        rows *= 1 if scheme == "awq" else 32 // bits
        if scheme != "awq" and index in self.tensors:
            names.append(index)
            found = self.tensors[index]
            values = found.read()
            groups = scales.shape[0] if scales.shape else 0
            if found.dtype != "int32" or ((values < 0) | (values >= groups)).any():
                raise self._error(own_name, f"g_idx names groups that are none of the {groups}")
        elif self.config.get("desc_act"):
            raise self._error(own_name, f"'{index}' missing, and desc_act says that it is needed")
        dtype: Any = scales.dtype
        parts = tuple(map(Tensor, names))
        block = (max(rows, 1) if group == -1 else group, 1)
        return own_name, Dequantize(parts, scheme, dtype, bits, block), (1, 0)

    def _packing(self, name: str) -> tuple[Any, int, int]:
        """Return the scheme, the bits of a code, and the inputs that share a scale (-1: all)."""
        config = self.config
        bits = config.get("bits", config.get("w_bit"))
        group = config.get("group_size", config.get("q_group_size"))
        form = str(config.get("checkpoint_format") or config.get("format") or "").lower()
        is_awq = config["quant_method"] == "awq"
        if is_awq:
            form = str(config.get("version") or form or "gemm").lower()
        known = ("gemm",) if is_awq else ("", "gptq", "gptq_v2")
        if form not in known or config.get("is_marlin_format") or config.get("pack_dtype",
                                                                             "int32") != "int32":
            raise self._error(
                name, f"packed in the form {shorten(form, 40) or 'marlin'!r}, which "
                f"is not known: {ADVICE}")
        if type(bits) is not int or bits not in (4, 8):
            raise self._error(
                name, f"{shorten(repr(bits), 40)} bits are not known, only 4 and 8: "
                f"{ADVICE}")
        if type(group) is not int or (group < 1 and group != -1):
            raise self._error(name, f"group_size {shorten(repr(group), 40)} is no size of groups")
        return "awq" if is_awq else form or "gptq", bits, group

    def _check_method(self, family: str, name: str) -> None:
        method = str(self.config.get("quant_method", ""))
        if method in _METHODS[family]:
            return
        if not method:
            raise self._error(
                name, f"is packed as {family} do it; which of them, and how, stands "
                "in the quantization_config of config.json: give the folder with "
                "both")
        raise self._error(
            name, f"is quantized by {shorten(method, 40)!r}, as config.json says, "
            f"which is not decoded here: {ADVICE}")

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """What the folder says about the quantization."""
        if self.folder is None:
            return {}
        found = self.model_config.get("quantization_config")
        if isinstance(found, dict):
            return found
        for name, method in _OWN_FILES:
            if own := read_config(self.folder, name):
                return {"quant_method": method, **own}
        return {}

    @cached_property
    def model_config(self) -> Mapping[str, Any]:
        """The folder's config.json."""
        return {} if self.folder is None else read_config(self.folder)

    @cached_property
    def dtype(self) -> Any:
        """The type of the module's weights, bfloat16 where nothing says it."""
        inner = self.model_config.get("text_config")
        for config in (self.model_config, inner if isinstance(inner, dict) else {}):
            for key in ("dtype", "torch_dtype"):
                if config.get(key) in _FLOATS:
                    return config[key]
        return "bfloat16"

    def _error(self, name: str, fault: str) -> SourceError:
        return SourceError(f"{self.origin}: '{shorten(name, 100)}': {fault}")


def _names(node: Dequantize) -> list[str]:
    return [one.name for one in node.parts if isinstance(one, Tensor)]
