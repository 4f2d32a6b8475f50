"""The names a pickle may use to rebuild tensors and plain data, and what each stands for here.

A name on the list is answered by a function of our own that only describes; no name is ever
imported, and no attribute of anything is looked up. Every other name becomes a placeholder; names
that only an attack would use end the reading.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import SourceError, UnsafeFileError
from ..spec.dtypes import NUMPY_TYPES
from .pickle_values import (MOST_AXES, EncodedText, Name, NumpyArray, NumpyType, PickledTensor,
                            Placeholder, Storage, StorageType, TorchType, UnreadableTensor,
                            are_sizes, is_shape)

_ATTACK_MODULES = frozenset([
    "_ctypes", "_pickle", "_posixsubprocess", "bdb", "cProfile", "code", "codeop", "commands",
    "ctypes", "dill._dill", "imp", "importlib", "marshal", "nt", "os", "pdb", "pickle", "pip",
    "popen2", "posix", "profile", "pty", "pydoc", "runpy", "shutil", "socket", "subprocess", "sys",
    "timeit", "trace", "webbrowser"
])
_ATTACK_BUILTINS = frozenset([
    "__import__", "apply", "breakpoint", "compile", "delattr", "eval", "exec", "execfile", "exit",
    "globals", "input", "locals", "open", "quit", "reload", "setattr", "vars"
])
# These inside a dotted name ("torch.serialization.os.system") reach the same functions by a detour.
_ATTACK_PARTS = frozenset([
    "__builtins__", "__globals__", "__subclasses__", "builtins", "os", "posix", "runpy",
    "subprocess", "sys"
])

_STORAGES = {
    "Double": "float64", "Float": "float32", "Half": "float16", "Long": "int64", "Int": "int32",
    "Short": "int16", "Char": "int8", "Byte": "uint8", "Bool": "bool", "BFloat16": "bfloat16",
    "ComplexFloat": "complex64", "ComplexDouble": "complex128", "QInt8": "qint8",
    "QUInt8": "quint8", "QInt32": "qint32", "QUInt4x2": "quint4x2", "QUInt2x4": "quint2x4"
}
_OTHER_TORCH_TYPES = (*_STORAGES.values(), "complex32", "float4_e2m1fn_x2", "bits8", "bits16",
                      "bits1x8", "bits2x4", "bits4x2")
_PLAIN_TENSOR_CLASSES = ("torch.Tensor", "torch._tensor.Tensor", "torch.nn.parameter.Parameter",
                         "torch.nn.Parameter", "torch.nn.parameter.Buffer")
_ENCODINGS = ("latin1", "latin-1")
_META = "is a meta tensor, which has no values; save the model after loading its weights"

Rebuild = Callable[..., Any]


def known_value(path: str) -> Any:
    """Return what a pickle gets for the name "module.name", None if it is foreign."""
    if path in _VALUES:
        return _VALUES[path]
    return Name(path) if path in REBUILDS or path in _PLAIN_TENSOR_CLASSES else None


def refuse_attack(module: str, name: str, where: str) -> None:
    """Raise UnsafeFileError when a name can only be there to run something."""
    parts = f"{module}.{name}".split(".")
    # "__builtin__" is what Python 2 and protocol 2 call "builtins".
    in_builtins = module in ("builtins", "__builtin__")
    attack = (any(".".join(parts[:length]) in _ATTACK_MODULES for length in (1, 2))
              or (in_builtins and parts[1] in _ATTACK_BUILTINS)
              or any(part in _ATTACK_PARTS for part in parts[1:]))
    if attack:
        raise UnsafeFileError(
            f"{where}: the pickle names {module}.{name}, which no weights need and an attack "
            "would use: refused, and nothing in the file was run; get the weights from a source "
            "you trust, best as .safetensors")


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, dtype: str | None,
            metadata: Any = None) -> Any:
    if not isinstance(storage, Storage) or type(offset) is not int or offset < 0:
        raise SourceError("a tensor is described without its storage")
    if are_sizes(shape) and len(shape) > MOST_AXES:
        raise SourceError(f"a tensor has {len(shape)} axes, expected at most {MOST_AXES}")
    if not is_shape(shape) or not are_sizes(strides) or len(shape) != len(strides):
        raise SourceError("a tensor is described by an impossible shape or strides")
    dtype = dtype or storage.dtype or "uint8"
    if storage.location == "meta":
        return UnreadableTensor(_META)
    flags = metadata if isinstance(metadata, dict) else {}
    return PickledTensor(storage, offset, shape, strides, dtype, conjugate=flags.get("conj")
                         is True, negative=flags.get("neg") is True)


def _tensor_v1(storage: Any, offset: Any, shape: Any, strides: Any) -> Any:
    return _tensor(storage, offset, shape, strides, None)


def _tensor_v2(storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> Any:
    # The rest: requires_grad, hooks, and in newer files the metadata.
    return _tensor(storage, offset, shape, strides, None, rest[2] if len(rest) > 2 else None)


def _tensor_v3(storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> Any:
    # The rest: requires_grad, hooks, the type, and in newer files the metadata.
    dtype = rest[2]
    if not isinstance(dtype, TorchType):
        raise SourceError("a tensor is described without its type")
    return _tensor(storage, offset, shape, strides, dtype.name, rest[3] if len(rest) > 3 else None)


def _parameter(data: Any, requires_grad: Any, hooks: Any, state: Any = None) -> Any:
    if isinstance(data, PickledTensor):
        data.kind = "parameter"
    return data


def _from_type(function: Any, tensor_class: Any, arguments: Any, state: Any) -> Any:
    # Python attributes of a tensor are left out; one of a subclass of its own is foreign.
    class_path = tensor_class.path if isinstance(tensor_class, Name) else "a foreign class"
    known = isinstance(function, Name) and function.path in REBUILDS
    if not known or not isinstance(arguments, tuple):
        return Placeholder(function.path if isinstance(function, Name) else "a foreign function",
                           [arguments, state], True)
    tensor = REBUILDS[function.path](*arguments)
    return tensor if class_path in _PLAIN_TENSOR_CLASSES else Placeholder(
        class_path, [tensor, state], True)


def _device_tensor(data: Any, dtype: Any, device: Any, requires_grad: Any) -> Any:
    same = isinstance(data, NumpyArray) or (isinstance(data, PickledTensor)
                                            and TorchType(data.dtype) == dtype)
    return data if same else UnreadableTensor(
        "was saved from a device with a conversion of type; save it from the CPU")


def _unreadable(reason: str) -> Rebuild:
    return lambda *arguments: UnreadableTensor(reason)


def _encode(text: Any, encoding: Any = "") -> Any:
    if not isinstance(text, str) or encoding not in _ENCODINGS:
        raise SourceError("bytes are written in an unknown encoding")
    return EncodedText(text)


def _numpy_type(code: Any, *rest: Any) -> Any:
    if not isinstance(code, str) or not code:
        raise SourceError("a NumPy type is described without its code")
    return NumpyType(code)


def _numpy_scalar(dtype: Any, values: Any = None) -> NumpyArray:
    return NumpyArray(dtype, (), values, scalar=True)


def _numpy_from_buffer(values: Any, dtype: Any, shape: Any, order: Any) -> NumpyArray:
    return NumpyArray(dtype, shape, values, fortran=order == "F")


def _object(made_class: Any, *rest: Any) -> Placeholder:
    """copyreg's way of making an object of a class, used by protocols 0 and 1."""
    return Placeholder(made_class.path if isinstance(made_class, Name) else "object", list(rest),
                       False)


def _mapping(*arguments: Any) -> Any:
    """A dictionary from nothing, another one, or a list of pairs."""
    items = arguments[0] if arguments else ()
    if isinstance(items, dict):
        return dict(items)
    mapping: dict[Any, Any] = {}
    for pair in items if isinstance(items, (list, tuple)) else (None,):
        if not isinstance(pair, (list, tuple)) or len(pair) != 2 or not isinstance(pair[0], str):
            return Placeholder("collections.OrderedDict", list(arguments), True)
        mapping[pair[0]] = pair[1]
    return mapping


def _bytes(value: Any = b"", *rest: Any) -> Any:
    return value


def _same(value: Any = None, *rest: Any) -> Any:
    return value


def _beside(path: str) -> Rebuild:
    """Plain values that are no weights: kept as the arguments they were made of."""
    return lambda *arguments: Placeholder(path, list(arguments), False)


_QUANTIZED = "is quantized; call dequantize() on it with PyTorch and save the result"
_SPARSE = "is sparse; call to_dense() on it with PyTorch and save the result"
_NESTED = "is a nested tensor of unequal rows; save its rows one by one"
_TORCH_REBUILDS: dict[str, Rebuild] = {
    "tensor": _tensor_v1, "tensor_v2": _tensor_v2, "tensor_v3": _tensor_v3, "parameter": _parameter,
    "parameter_with_state": _parameter, "device_tensor_from_numpy": _device_tensor,
    "device_tensor_from_cpu_tensor": _device_tensor, "xla_tensor": _device_tensor,
    "qtensor": _unreadable(_QUANTIZED), "sparse_tensor": _unreadable(_SPARSE),
    "sparse_csr_tensor": _unreadable(_SPARSE), "nested_tensor": _unreadable(_NESTED),
    "meta_tensor_no_storage": _unreadable(_META),
}
_NUMPY_REBUILDS: dict[str, Rebuild] = {
    "multiarray._reconstruct": lambda *arguments: NumpyArray(), "multiarray.scalar": _numpy_scalar,
    "numeric._frombuffer": _numpy_from_buffer,
}
_PLAIN_BUILTINS = ("complex", "float", "frozenset", "int", "list", "long", "object", "range", "set",
                   "slice", "str", "tuple", "unicode", "xrange")
REBUILDS: dict[str, Rebuild] = {
    "torch._tensor._rebuild_from_type": _from_type, "torch._tensor._rebuild_from_type_v2":
        _from_type, "torch.serialization._get_layout": _beside("torch.layout"), "torch.Size": _same,
    "torch.device": _beside("torch.device"), "collections.OrderedDict": _mapping,
    "collections.defaultdict": lambda *arguments: _mapping(*arguments[1:]),
    "collections.Counter": _mapping, "copyreg._reconstructor": _object, "_codecs.encode": _encode,
    "numpy.dtype": _numpy_type, "numpy.ndarray": _beside("numpy.ndarray"),
    "builtins.dict": _mapping, "builtins.bytearray": _bytes, "builtins.bytes": _bytes,
}
for _name, _rebuild in _TORCH_REBUILDS.items():
    REBUILDS[f"torch._utils._rebuild_{_name}"] = _rebuild
for _name, _rebuild in _NUMPY_REBUILDS.items():
    # Before NumPy 2 and since.
    REBUILDS[f"numpy.core.{_name}"] = REBUILDS[f"numpy._core.{_name}"] = _rebuild
for _name in _PLAIN_BUILTINS:
    REBUILDS[f"builtins.{_name}"] = _beside(f"builtins.{_name}")

_VALUES: dict[str, Any] = {
    "torch.storage.UntypedStorage": StorageType(None),
    "torch.storage._UntypedStorage": StorageType(None), "torch.UntypedStorage": StorageType(None)
}
for _class, _dtype in _STORAGES.items():
    _VALUES[f"torch.{_class}Storage"] = _VALUES[f"torch.cuda.{_class}Storage"] = StorageType(_dtype)
for _dtype in (*NUMPY_TYPES, *_OTHER_TORCH_TYPES):
    _VALUES[f"torch.{_dtype}"] = TorchType(_dtype)
