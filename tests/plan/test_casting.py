"""Types: torch's into Keras's policies and back, exact to the bit, rounded to nearest even,
overflow counted.
"""

import struct

import numpy as np
import pytest

import keras_torch_convert as ktc
from keras_torch_convert.errors import TransferError
from keras_torch_convert.plan.executor import check_plan
from keras_torch_convert.plan.expressions import Add, Concat, Tensor
from keras_torch_convert.plan.plan import Plan
from keras_torch_convert.plan.recipe import Assignment
from tests.helpers.transfer import layer, source_of, target_of, tensor, values_by_label

TORCH_TYPES = [
    "float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8"
]
POLICIES = ["float32", "float16", "bfloat16", "mixed_float16", "mixed_bfloat16"]
# Of each: exact in every type; needs more than 8 bits; a tie between two bfloat16 (odd, even); a
# tie between two float16.
VALUES = [1.0, -2.5, 0.1, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-11, 1 + 3 * 2**-11, 1e-3, -96.0]


def rounded(value, dtype):
    """The nearest value of the type, ties to even, by other means than the ones under test."""
    if dtype == "float64":
        return value
    if dtype in ("float32", "float16"):
        return struct.unpack("f" if dtype == "float32" else "e",
                             struct.pack("f" if dtype == "float32" else "e", value))[0]
    mantissa, exponent = np.frexp(value)
    return float(np.ldexp(round(float(mantissa) * 256),
                          int(exponent) - 8))  # 8 bits; round() takes ties to even


def variable_type(policy):
    return "float32" if policy.startswith("mixed") else policy


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("dtype", TORCH_TYPES)
def test_a_torch_type_under_a_keras_policy(dtype, policy):
    import keras
    import torch

    values = torch.tensor(VALUES, dtype=torch.float64).to(getattr(torch, dtype)).reshape(3, 3)
    model = keras.Sequential(
        [keras.Input((3,)),
         keras.layers.Dense(3, use_bias=False, dtype=policy, name="d")])
    source = {"d.weight": values}

    ktc.convert(source, model, plan=ktc.align(source, model, mapping={"d": "d"}), verify=False)

    kernel = model.layers[-1].kernel
    assert keras.backend.standardize_dtype(kernel.dtype) == variable_type(policy)
    got = keras.ops.convert_to_numpy(kernel).astype("float64").T
    expected = [
        rounded(value, variable_type(policy)) for value in values.double().reshape(-1).tolist()
    ]
    assert got.reshape(-1).tolist() == expected


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
def test_a_torch_type_comes_back_bit_for_bit_from_a_type_that_holds_it(dtype):
    import keras
    import torch

    bits = torch.tensor(VALUES, dtype=torch.float64).to(getattr(torch, dtype)).reshape(3, 3)
    module = torch.nn.ModuleDict(
        {"d": torch.nn.Linear(3, 3, bias=False, dtype=getattr(torch, dtype))})
    with torch.no_grad():
        module["d"].weight.copy_(bits)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3, use_bias=False, name="d")])
    plan = ktc.align(module, model, mapping={"d": "d"})
    ktc.convert(module, model, plan=plan, verify=False)
    with torch.no_grad():
        module["d"].weight.zero_()

    report = ktc.convert(model, module, plan=plan, verify=False)

    assert plan.lossless == (dtype != "float64")
    assert torch.equal(module["d"].weight, bits if dtype != "float64" else bits.float().double())
    assert module["d"].weight.dtype == getattr(torch, dtype)
    narrowing = [warning for warning in report.warnings if "does not hold all" in warning]
    assert bool(narrowing) == (dtype in ("float16", "bfloat16"))


def test_overflow_is_counted_and_nothing_is_written():
    import keras
    import torch

    source = {"d.weight": torch.tensor([[1e5, 1.0], [-7e4, 65504.0]])}
    model = keras.Sequential(
        [keras.Input((2,)),
         keras.layers.Dense(2, use_bias=False, dtype="float16", name="d")])
    before = model.get_weights()[0].tobytes()

    with pytest.raises(TransferError, match="2 of 4 values are outside the range of float16"):
        ktc.convert(source, model, plan=ktc.align(source, model, mapping={"d": "d"}), verify=False)

    assert model.get_weights()[0].tobytes() == before


def test_rounding_is_reported_by_pair_of_types():
    source = source_of({"w": np.array([1.0, 0.1, 65504.0])})

    prepared = check_plan(Plan((Assignment("d/0", Tensor("w"), ""),)), source,
                          target_of(layer("d", "Layer", {"w": (3,)}, "bfloat16")))

    assert prepared.warnings == ("float64 to bfloat16: 2 of 3 values rounded, in 'd/w'",)


def test_half_types_are_added_in_float32_and_float64_in_float64():
    small, large = 2.0**-11, 1.0
    for dtype, expected in (("float16", 1 + 2.0**-11), ("float64", 1 + 2.0**-11)):
        source = source_of({"a": np.array([large], dtype), "b": np.array([small], dtype)})
        plan = Plan((Assignment("d/0", Add((Tensor("a"), Tensor("b"))), ""),))

        assert values_by_label(plan, source,
                               target_of(layer("d", "Layer",
                                               {"w": (1,)})))["d/w"].tolist() == [expected]
    wide = source_of({"a": np.array([1.0]), "b": np.array([2.0**-40])})
    plan = Plan((Assignment("d/0", Add((Tensor("a"), Tensor("b"))), ""),))
    target = target_of(layer("d", "Layer", {"w": (1,)}, "float64"))
    assert values_by_label(plan, wide, target)["d/w"].tolist() == [1 + 2.0**-40]


def test_sums_that_overflow_are_refused():
    source = source_of({"a": np.array([3e38, 1], "float32"), "b": np.array([3e38, 1], "float32")})
    plan = Plan((Assignment("d/0", Add((Tensor("a"), Tensor("b"))), ""),))

    with pytest.raises(TransferError, match="Add of finite numbers gives 1 of 2 infinite"):
        check_plan(plan, source, target_of(layer("d", "Layer", {"w": (2,)})))


def test_bfloat16_beside_other_types_keeps_its_values():
    source = source_of([
        tensor("a", np.array([0x3FC0], "uint16"), dtype="bfloat16"),
        tensor("b", np.array([2], "int64"))
    ])
    plan = Plan((Assignment("d/0", Concat((Tensor("a"), Tensor("b")), 0), ""),))

    for dtype in ("float32", "bfloat16", "float16"):
        values = values_by_label(plan, source, target_of(layer("d", "Layer", {"w": (2,)},
                                                               dtype)))["d/w"]
        assert values.astype("float32").tolist() == [1.5, 2.0]
        assert values.dtype.name == dtype


def test_complex_values_are_refused():
    plan = Plan((Assignment("d/0", Add((Tensor("a"), Tensor("a"))), ""),))

    with pytest.raises(TransferError, match="complex64 values cannot become"):
        check_plan(plan, source_of({"a": np.ones(2, "complex64")}),
                   target_of(layer("d", "Layer", {"w": (2,)})))
