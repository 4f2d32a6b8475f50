"""Writing into a live model: all values stay, or none."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")

from keras_torch_convert.errors import TransferError
from keras_torch_convert.keras_io import model_writer as into_model
from keras_torch_convert.keras_io.model import read_target
from keras_torch_convert.keras_io.model_writer import transaction
from keras_torch_convert.keras_io.values import read_values
from keras_torch_convert.spec.dtypes import numpy_dtype
from keras_torch_convert.spec.target import Target
from keras_torch_convert.torch_io.module import read_torch_target
from keras_torch_convert.util import atomic_file
from tests.helpers.keras_runs import models


@pytest.fixture(params=["keras", "tf_keras"])
def keras(request: pytest.FixtureRequest) -> Any:
    return pytest.importorskip(request.param)


@pytest.fixture
def target(keras: Any) -> Target:
    model = models.nested(keras)
    models.freeze_some(model)
    return read_target(model)


def contents(target: Target) -> list[bytes]:
    return [
        read_values(target, variable.variable).tobytes() for variable in target.variables.values()
    ]


def write_then(target: Target, pairs: list[tuple[Any, Any]], action: Callable[[], object]) -> None:
    """Write the pairs in one block and end it with the action, which may raise."""
    with transaction(target) as writer:
        for variable, array in pairs:
            writer.write(variable, array)
        action()


def fail(error: BaseException | None = None) -> None:
    raise error or ZeroDivisionError


def sevens(target: Target) -> list[tuple[Any, Any]]:
    return [(v, np.full(v.shape, 7, numpy_dtype(v.dtype))) for v in target.variables.values()]


def test_values_are_in_the_model_after_the_block(target: Target) -> None:
    with transaction(target) as writer:
        for variable, array in sevens(target):
            writer.write(variable, array)
    assert all(np.all(weights == 7) for weights in target.model.get_weights())


@pytest.mark.parametrize(
    "error",
    [ValueError("a callback of the user"),
     KeyboardInterrupt(), SystemExit(1)])
def test_an_exception_in_the_middle_puts_every_bit_back(target: Target,
                                                        error: BaseException) -> None:
    before = contents(target)
    meanwhile = []

    def look_and_fail() -> None:
        meanwhile.append(contents(target))
        raise error

    with pytest.raises(type(error)) as caught:
        write_then(target, sevens(target)[:9], look_and_fail)
    assert caught.value is error
    assert meanwhile[0] != before
    assert contents(target) == before


def test_bits_that_compare_unequal_or_equal_come_back_as_they_were(keras: Any) -> None:
    model = keras.Sequential([keras.layers.Dense(1, use_bias=False)])
    model.build((None, 4))
    target = read_target(model)
    (kernel,) = target.variables.values()
    odd = np.array([[0x7FC12345], [0x80000000], [0x00000001], [0xFF800000]],
                   np.uint32).view(np.float32)
    with transaction(target) as writer:
        writer.write(kernel, odd)
    with pytest.raises(ZeroDivisionError):
        write_then(target, [(kernel, np.ones((4, 1), np.float32))], fail)
    assert contents(target) == [odd.tobytes()]


def test_a_variable_written_twice_gets_its_first_values_back(target: Target) -> None:
    before = contents(target)
    variable, array = sevens(target)[0]
    with pytest.raises(ZeroDivisionError):
        write_then(target, [(variable, array), (variable, array * 2)], fail)
    assert contents(target) == before


def test_ctrl_c_between_journal_and_change_or_right_after_the_change_loses_nothing(
        target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(target)
    assign = into_model.assign_values
    for early in (True, False):

        def interrupted(*arguments: Any, early: bool = early) -> None:
            monkeypatch.setattr(into_model, "assign_values", assign)
            if early:
                signal.raise_signal(signal.SIGINT)
            assign(*arguments)
            signal.raise_signal(signal.SIGINT)

        monkeypatch.setattr(into_model, "assign_values", interrupted)
        with pytest.raises(KeyboardInterrupt), transaction(target) as writer:
            writer.write(*sevens(target)[0])
        assert contents(target) == before


def test_ctrl_c_while_values_are_put_back_waits_until_all_are_back(
        target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(target)
    assign = into_model.assign_values

    def interrupted(*arguments: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        assign(*arguments)

    def fail_to_be_interrupted() -> None:
        monkeypatch.setattr(into_model, "assign_values", interrupted)
        raise ValueError

    with pytest.raises(KeyboardInterrupt):
        write_then(target, sevens(target), fail_to_be_interrupted)
    assert contents(target) == before


def test_a_second_ctrl_c_does_not_end_the_rollback_after_the_first(
        target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(target)

    class Struck(into_model.ModelWriter):
        def rollback(self) -> None:
            signal.raise_signal(signal.SIGINT)
            super().rollback()

    monkeypatch.setattr(into_model, "ModelWriter", Struck)
    for first in (fail, lambda: signal.raise_signal(signal.SIGINT)):
        with pytest.raises(KeyboardInterrupt):
            write_then(target, sevens(target), first)
        assert contents(target) == before


@pytest.mark.parametrize("early", [True, False])
def test_ctrl_c_around_the_rename_leaves_model_and_file_both_new(target: Target, tmp_path: Path,
                                                                 monkeypatch: pytest.MonkeyPatch,
                                                                 early: bool) -> None:
    path, real = tmp_path / "model.h5", os.replace
    path.write_bytes(b"old")

    def replace(source: Path, destination: Path) -> None:
        if early:
            signal.raise_signal(signal.SIGINT)
        real(source, destination)
        signal.raise_signal(signal.SIGINT)

    def save_all() -> None:
        with transaction(target) as writer:
            for variable, array in sevens(target):
                writer.write(variable, array)
            writer.save(path)
            assert path.read_bytes() == b"old"

    monkeypatch.setattr(atomic_file.os, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        save_all()
    assert all(np.all(weights == 7) for weights in target.model.get_weights())
    assert path.read_bytes() != b"old"
    assert os.listdir(tmp_path) == ["model.h5"]


@pytest.mark.parametrize("fails", ["replace", "finalize", "exception"])
def test_an_error_at_the_end_leaves_model_and_file_both_old(target: Target, tmp_path: Path,
                                                            monkeypatch: pytest.MonkeyPatch,
                                                            fails: str) -> None:
    path, before = tmp_path / "model.h5", contents(target)
    path.write_bytes(b"old")

    def refuse(*_: Any) -> None:
        monkeypatch.undo()
        raise OSError("the disk is gone")

    def save_all() -> None:
        with transaction(target) as writer:
            for variable, array in sevens(target):
                writer.write(variable, array)
            writer.save(path)
            if fails == "exception":
                refuse()

    if fails == "replace":
        monkeypatch.setattr(atomic_file.os, "replace", refuse)
    if fails == "finalize":
        monkeypatch.setattr(into_model.ModelWriter, "finalize_layers", refuse)
    with pytest.raises(OSError, match="the disk is gone"):
        save_all()
    assert contents(target) == before
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["model.h5"]


def test_a_journal_larger_than_its_room_goes_to_a_file_and_comes_back(
        target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(into_model, "KEPT_IN_MEMORY", 100)
    before = contents(target)
    sizes: list[int] = []

    def write_and_fail() -> None:
        with transaction(target) as writer:
            for variable, array in sevens(target):
                writer.write(variable, array)
            sizes.extend([writer.kept_bytes, writer.journal.seek(0, 2)])
            fail()

    with pytest.raises(ZeroDivisionError):
        write_and_fail()
    assert 0 < sizes[0] <= 100 < sizes[1]
    assert sum(sizes) == sum(array.nbytes for _, array in sevens(target))
    assert contents(target) == before


@pytest.mark.parametrize("room", [100, into_model.KEPT_IN_MEMORY])
def test_values_computed_in_the_variables_own_memory_are_undone_too(target: Target,
                                                                    monkeypatch: pytest.MonkeyPatch,
                                                                    room: int) -> None:
    monkeypatch.setattr(into_model, "KEPT_IN_MEMORY", room)
    before, states = contents(target), []

    def values_of(array: Any) -> Callable[[Any], Any]:
        def values(into: Any) -> Any:
            into[...] = array.view(into.dtype)
            return into

        return values

    def stop(into: Any) -> Any:
        into[...] = 1
        raise KeyboardInterrupt

    def fill_and_stop() -> None:
        with transaction(target) as writer:
            for variable, array in sevens(target)[:-1]:
                writer.fill(variable, values_of(array))
                writer.fill(variable, values_of(array))
            states.extend(contents(target))
            writer.fill(list(target.variables.values())[-1], stop)

    with pytest.raises(KeyboardInterrupt):
        fill_and_stop()
    expected = [array.tobytes() for _, array in sevens(target)[:-1]]
    assert states == [*expected, before[-1]]
    assert contents(target) == before


def test_what_cannot_be_put_into_a_variables_memory_is_assigned(target: Target) -> None:
    variable, array = sevens(target)[0]
    with transaction(target) as writer:
        writer.fill(variable, lambda _: array)
    assert read_values(target, variable.variable).tobytes() == array.tobytes()
    with pytest.raises(TransferError, match="expected shape"), transaction(target) as writer:
        writer.fill(variable, lambda _: array[:1])
    assert read_values(target, variable.variable).tobytes() == array.tobytes()


def copies_of(target: Target, value: int = 7) -> list[tuple[Any, Callable[[Any], Any]]]:
    """Return what `copy_all` takes: every variable, to be filled with one value."""
    def of(variable: Any) -> Callable[[Any], Any]:
        return lambda into: [(np.full(variable.shape, value, into.dtype), into)]

    return [(variable, of(variable)) for variable in target.variables.values()]


def module_target() -> Target:
    torch = pytest.importorskip("torch")
    return read_torch_target(torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 5)))


def test_values_that_are_only_copied_arrive_in_one_step_without_a_copy_of_the_old_ones() -> None:
    target = module_target()
    with transaction(target) as writer:
        assert writer.copy_all(copies_of(target))
        assert not writer.changed
    assert contents(target) == [array.tobytes() for _, array in sevens(target)]


def test_nothing_is_copied_where_one_variable_takes_more_than_that() -> None:
    target = module_target()
    before = contents(target)
    *others, (last, _) = copies_of(target)
    with transaction(target) as writer:
        assert not writer.copy_all([*others, (last, lambda _: None)])
    assert contents(target) == before


def test_values_of_a_mapped_file_which_may_be_cut_are_not_copied_in_one_step(
        tmp_path: Path) -> None:
    target = module_target()
    before = contents(target)
    *others, (last, _) = copies_of(target)
    mapped = np.memmap(tmp_path / "file", np.float32, "w+", shape=last.shape)
    with transaction(target) as writer:
        assert not writer.copy_all([*others, (last, lambda into: [(mapped, into)])])
    assert contents(target) == before


def test_layers_that_compute_something_from_their_variables_may_fail_after_the_copies() -> None:
    keras = pytest.importorskip("keras")
    norm = keras.layers.Normalization()
    norm.adapt(np.ones((4, 3)))
    target = read_target(keras.Sequential([keras.Input((3,)), norm, keras.layers.Dense(2)]))
    before = contents(target)
    with transaction(target) as writer:
        assert not writer.copy_all(copies_of(target))
    assert contents(target) == before


def test_gradients_of_an_older_state_are_refused_after_writing() -> None:
    torch = pytest.importorskip("torch")
    module = torch.nn.Linear(3, 2)
    target = read_torch_target(module)
    weight = next(iter(target.variables.values()))
    loss = (module.weight**2).sum()
    with transaction(target) as writer:
        writer.fill(weight, lambda into: np.zeros((2, 3), np.float32))
        writer.fill(weight, lambda into: np.add(into, 1, out=into))
    assert module.weight.tolist() == [[1.0] * 3] * 2
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_wrong_shape_is_refused_and_everything_put_back(target: Target) -> None:
    before = contents(target)
    good, bad = sevens(target)[:2]
    with pytest.raises(TransferError, match=r"body/first/bias: expected shape \(4,\), got \(5,\)"):
        write_then(target, [good, (bad[0], np.zeros(5, np.float32))], fail)
    assert contents(target) == before


def test_a_wrong_type_is_refused(target: Target) -> None:
    variable = sevens(target)[0][0]
    with pytest.raises(TransferError,
                       match="body/first/kernel: expected type float32, got float64"):
        write_then(target, [(variable, np.zeros(variable.shape))], fail)


def test_a_variable_of_another_model_is_refused(keras: Any, target: Target) -> None:
    other = read_target(models.nested(keras))
    with pytest.raises(TransferError, match="does not belong to model 'nested'"):
        write_then(target, sevens(other), fail)


def test_read_only_and_strided_arrays_are_taken_without_a_warning(
        target: Target, recwarn: pytest.WarningsRecorder) -> None:
    variable = next(v for v in target.variables.values() if len(v.shape) == 4)
    values = np.arange(variable.size, dtype=np.float32).reshape(variable.shape[::-1]).T[::-1]
    frozen = values.copy()
    frozen.flags.writeable = False
    for array in (values, frozen):
        with transaction(target) as writer:
            writer.write(variable, array)
        assert np.array_equal(read_values(target, variable.variable), values)
    assert [str(warning.message) for warning in recwarn if "writable" in str(warning.message)] == []


@pytest.mark.parametrize("policy", ["float16", "bfloat16", "mixed_float16"])
def test_two_byte_variables_take_and_get_back_their_own_type(keras: Any, policy: str) -> None:
    vector = keras.Input((4,))
    target = read_target(keras.Model(vector, keras.layers.Dense(3, dtype=policy)(vector)))
    kernel, bias = target.variables.values()
    assert {kernel.dtype, bias.dtype} == {"float32" if policy == "mixed_float16" else policy}
    before = contents(target)
    halves = np.full((4, 3), 1.5, numpy_dtype(kernel.dtype))
    meanwhile: list[list[bytes]] = []
    with pytest.raises(ZeroDivisionError):
        write_then(target, [(kernel, halves)], lambda: (meanwhile.append(contents(target)), fail()))
    assert meanwhile[0][0] == halves.tobytes()
    assert contents(target) == before


def test_constraints_of_training_do_not_touch_written_values(keras: Any) -> None:
    vector = keras.Input((4,))
    target = read_target(
        keras.Model(vector,
                    keras.layers.Dense(3, kernel_constraint="non_neg")(vector)))
    kernel = next(iter(target.variables.values()))
    with transaction(target) as writer:
        writer.write(kernel, np.full((4, 3), -1, np.float32))
    assert np.all(read_values(target, kernel.variable) == -1)


def test_a_normalization_layer_uses_the_written_statistics_at_once(keras: Any) -> None:
    vector = keras.Input((2,))
    model = keras.Model(vector, keras.layers.Normalization()(vector))
    target = read_target(model)
    values = {"mean": 3.0, "variance": 4.0}
    with transaction(target) as writer:
        for variable in target.variables.values():
            if variable.name in values:
                writer.write(variable, np.full(variable.shape, values[variable.name], np.float32))
    output = np.asarray(model(np.array([[5.0, 3.0]], np.float32)))
    assert np.allclose(output, [[1.0, 0.0]])
