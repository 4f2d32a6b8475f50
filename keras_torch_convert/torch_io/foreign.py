"""What is no source of PyTorch weights: recognized, with what to do about it.

Each function returns what to say behind the name of it, such as "is a TensorFlow Lite model; ...",
or "" for what it does not know.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from ..spec.source import SourceTensor
from .mapped_file import FilePath
from .quantized import ADVICE

_GIVE_TORCH = "give the PyTorch checkpoint or module that it was made from"
_TF_CHECKPOINT = ("is a TensorFlow checkpoint; load it with the library that ported the model to "
                  "PyTorch, and give its module")
TORCH_FIRST = ("give the PyTorch side first, the Keras side second; for PyTorch weights from a "
               "Keras file use ktc.to_state_dict(path, plan)")
_BEGINNINGS = {
    b"version https://git-lfs":
        "is a Git LFS pointer, not the weights; fetch the file with git lfs pull",
    b"\x89HDF": f"is an HDF5 file, as Keras writes: {TORCH_FIRST}",
    b"\x1f\x8b": "is compressed with gzip; unpack it first",
    b"\xfd7zXZ": "is compressed with xz; unpack it first",
    b"BZh": "is compressed with bzip2; unpack it first",
    b"7z\xbc\xaf": "is a 7z archive; unpack it first",
    b"GGUF": f"is a GGUF file of llama.cpp; {_GIVE_TORCH}",
    b"\x93NUMPY": "is a single NumPy array without a name; save a .npz with the tensors' names",
    b"PK\x05\x06": "is an empty zip archive; download it again",
    b"model_checkpoint_path:": _TF_CHECKPOINT,
}  # yapf: disable
_ADAPTER = re.compile(
    r"\.lora_[AB]\b|\.lora_(up|down)\.|\.lora_embedding_[AB]|\.hada_w\d|\.lokr_w\d")
# What the names of a quantization's numbers match, the types of its codes, and its name.
_QUANTIZED = (
    (r"\.weight_scale(_inv)?$", ("float8", "int8", "uint8"), "FP8 or INT8 with scales"),
    (r"_scales$", ("uint8",), "MXFP4"),
    (r"\.qzeros$|\.g_idx$", ("int32",), "GPTQ or AWQ"),
    (r"\.absmax$|\.quant_state\.|\.SCB$", ("uint8", "int8"), "bitsandbytes"),
    (r"\.weight_packed$", ("int32", "uint8"), "compressed-tensors"),
    (r"\._packed_params", ("",), "torch.ao"),
)  # yapf: disable
_SSTABLE_END = b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"
_TAR_POSITION, _TAR_MARK = 257, b"ustar"
_TORCH_TAR_MEMBERS = (b"storages", b"tensors", b"pickle")


def foreign_file(path: FilePath, start: bytes, end: bytes) -> str:
    """Recognize a file by its first bytes, its last ones and its name."""
    for beginning, fault in _BEGINNINGS.items():
        if start.startswith(beginning):
            return fault
    if start.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"<":
        return ("is an HTML or XML page, not weights; the download gave an error page: download it "
                "again")
    if start[4:8] == b"TFL3":
        return f"is a TensorFlow Lite model; {_GIVE_TORCH}"
    if path.suffix == ".onnx" or re.match(rb"\x08.\x12.{1,2}pytorch", start, re.DOTALL):
        return f"is an ONNX graph, whose weights have lost their names; {_GIVE_TORCH}"
    if path.name == "saved_model.pb":
        return f"is a TensorFlow SavedModel; {_GIVE_TORCH}"
    if end.endswith(_SSTABLE_END) or re.search(r"\.data-\d{5}-of-\d{5}$", path.name):
        return _TF_CHECKPOINT
    if start[_TAR_POSITION:].startswith(_TAR_MARK):
        if start[:100].rstrip(b"\0") in _TORCH_TAR_MEMBERS:
            return ("is in the tar format of PyTorch before 0.2; load it with torch.load and save "
                    "it again")
        return "is a tar archive; unpack it and name the checkpoint inside"
    return ""


def foreign_path(path: FilePath) -> str:
    """Recognize a folder, and a path that only begins the names of files, on this machine."""
    if not isinstance(path, Path):
        return ""
    if (path / "saved_model.pb").is_file():
        return f"is a TensorFlow SavedModel; {_GIVE_TORCH}"
    is_prefix = path.with_name(f"{path.name}.index").is_file()
    return _TF_CHECKPOINT if is_prefix and not path.exists() else ""


def foreign_object(value: Any) -> str:
    """Recognize a class in place of its instance, and a Keras model in place of a torch module."""
    value_class = value if isinstance(value, type) else type(value)
    name = value_class.__name__
    if any(
            base.__module__.partition(".")[0] in ("keras", "tf_keras")
            for base in value_class.__mro__):
        return f"{name} is of Keras: the PyTorch side comes first, the Keras side second"
    if value_class is value:
        return f"{name} is a class: give an instance of it, such as {name}(...)"
    return ""


def foreign_tensors(tensors: Collection[SourceTensor]) -> str:
    """Recognize an adapter, which only changes the weights of a model, and codes of a quantization,
    whose numbers are no weights.
    """
    # All names at once: name by name takes ten times as long.
    names = "\n".join([tensor.name for tensor in tensors])
    if _ADAPTER.search(names):
        return (
            "is a LoRA adapter, which changes the weights of another model: give that model and "
            "ktc.read(..., adapter=) the folder that PEFT saved, or the model that PEFT merged "
            "(merge_and_unload)")
    for pattern, of_codes, name in _QUANTIZED:
        if not re.search(pattern, names, re.MULTILINE):
            continue
        found = next((one.name for one in tensors if re.search(pattern, one.name)), "")
        if found and any(one.dtype.startswith(of_codes) for one in tensors):
            return (f"is quantized ({name}: '{found}'), so its numbers are codes and no weights: "
                    f"{ADVICE}")
    if "flat_param" in names:
        return ("has the flat parameters of FSDP, a part of them for each process: save a full "
                "state dict there (FullStateDictConfig) and give that")
    return ""
