"""Many checkpoints at once: what a manifest may say, and what comes of it on a cluster of processes
whose workers die.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keras_torch_convert as ktc
from keras_torch_convert.api.batch.manifest import Job, read_manifest
from keras_torch_convert.api.batch.results import Finished, ResultsFile, Row
from keras_torch_convert.api.batch.run import _ConnectionLostError, _Here, _Run, _tasks, _write_all
from keras_torch_convert.api.batch.tasks import (WorkerPlan, count_shards, is_intact, run_index,
                                                 run_job, run_shard)
from keras_torch_convert.errors import ManifestError, PlanError
from keras_torch_convert.keras_io import sharded, weights_file
from keras_torch_convert.plan.expressions import Permute, Tensor
from keras_torch_convert.plan.plan import Plan
from keras_torch_convert.plan.recipe import Assignment
from keras_torch_convert.spec.file_layout import FileLayout, StoredArray, TargetLayout
from keras_torch_convert.spec.tensor_spec import TensorSpec
from tests.api.test_file_conversion import small_plan, small_source
from tests.helpers.range_server import serving

LAYERS = 6


def layered_plan(layers: int = LAYERS) -> Plan:
    """As many transposed matrices as there are to be shards."""
    keys = [f"dense{index}/0" for index in range(layers)]
    arrays = tuple(
        StoredArray(f"/layers/dense{i}/vars/0", (40, 30), "<f4", keys[i]) for i in range(layers))
    return Plan(
        tuple(
            Assignment(key, Permute(Tensor(f"w{i}"), (1, 0)), "kernel")
            for i, key in enumerate(keys)),
        targets={key: TensorSpec((40, 30), "float32", key) for key in keys},
        layout=TargetLayout("keras", "3", weights=FileLayout((), arrays)))


def layered_source(folder: Path, layers: int = LAYERS) -> Path:
    random = np.random.default_rng(0)
    path = folder / "layered.npz"
    np.savez(path,
             **{f"w{i}": random.normal(size=(30, 40)).astype(np.float32) for i in range(layers)})
    return path


# In GB; so much for two matrices.
SHARD_SIZE = 1.5 * 40 * 30 * 4 / sharded.GIGABYTE


def shards_manifest(folder: Path, shards: int) -> Path:
    """A model of so many shards; `alone` has what is to come of it."""
    layered_plan(shards).save(folder / "layered.plan.json")
    layered_source(folder, shards)
    (folder / "alone").mkdir()
    (folder / "many.toml").write_text(
        'plan = "layered.plan.json"\n[[file]]\nsource = "layered.npz"\n'
        f'output = "big.weights.json"\nmax_shard_size = {SHARD_SIZE!r}\n')
    ktc.apply_many([{
        "plan": layered_plan(shards), "source": folder / "layered.npz",
        "output": folder / "alone" / "big.weights.json", "max_shard_size": SHARD_SIZE
    }], workers=0)
    return folder / "many.toml"


def check_shards(folder: Path, shards: int) -> None:
    """The set is what one run makes, and the file of results has each shard and the index once."""
    expected = {path.name: path.read_bytes() for path in (folder / "alone").glob("[!.]*")}
    assert len(expected) == shards + 2
    found = {path.name: path.read_bytes() for path in folder.glob("big*")}
    assert found == expected
    lines = (folder / "many.results.jsonl").read_text().splitlines()
    names = sorted(json.loads(line)["output"].rpartition("/")[2] for line in lines)
    assert names == sorted(
        ["big.weights.json", *(f"big.weights.json#{part}" for part in range(shards))])
    assert {path.name for path in folder.glob(".*")} == {".big.weights.json.lock"}


def manifest_text(folder: Path, count: int) -> str:
    small_plan().save(folder / "small.plan.json")
    for index in range(count):
        small_source(folder, index)
    files = [
        f'[[file]]\nsource = "source{index}.npz"\noutput = "out{index}.h5"\n'
        for index in range(count)
    ]
    return 'plan = "small.plan.json"\n' + "\n".join(files)


class TestManifest:
    def test_the_head_counts_for_all_and_paths_are_relative_to_the_file(self,
                                                                        tmp_path: Path) -> None:
        (tmp_path / "many.toml").write_text(
            'plan = "a.plan.json"\nverify = false\n'
            '[[file]]\nsource = "a.pth"\noutput = "a.h5"\nwithout = ["head"]\n'
            '[[file]]\nplan = "b.plan.json"\nsource = "/b.pth"\noutput = '
            '"b.weights.json"\nmax_shard_size = 2\n')
        first, second = read_manifest(tmp_path / "many.toml")
        assert first == Job(tmp_path / "a.plan.json", tmp_path / "a.pth", tmp_path / "a.h5",
                            without=("head",), verify=False)
        assert (second.plan, second.source, second.max_shard_size) == (tmp_path / "b.plan.json",
                                                                       Path("/b.pth"), 2)

    def test_names_in_a_list_may_have_any_number_of_dots(self, tmp_path: Path) -> None:
        names = [f"blocks.{number}.conv.weight" for number in range(100)]
        text = f'[[file]]\nplan = "a"\nsource = "b"\noutput = "c"\nwithout = {names}\n'
        (tmp_path / "many.toml").write_text(text)
        assert read_manifest(tmp_path / "many.toml")[0].without == tuple(names)

    @pytest.mark.parametrize(("text", "message"), [
        ("plan = ", "is not valid TOML"),
        ('plan = "a"', r"nothing to do: it has no \[\[file\]\] table"),
        ('file = "a"', r"expected \[\[file\]\] tables"),
        ('sauce = "a"\n[[file]]\n', "unknown option 'sauce'"),
        ('[[file]]\nsource = "a"\nouput = "b"',
         "entry 1: unknown option 'ouput'; did you mean 'output'"),
        ('[[file]]\nsource = "a"', "entry 1: plan and output missing"),
        ('[[file]]\nsource = "a"\noutput = "b"\n' * 60_000, "at most 2097152 are read"),
        ("a." * 100_000 + "b = 1", "a key has more than 10 dots"),
        (f"[{'a.' * 100_000}b]", "a key has more than 10 dots"),
        ('a = """\\""""" # "\n' + "a." * 11 + "b = 1", "a key has more than 10 dots"),
        (f"a = {{ {'a.' * 100_000}b = 1 }}", "a key has more than 10 dots"),
        ('plan = "p"\n[[file]]\nsource = "a"\noutput = "b"\nmax_shard_size = true',
         "max_shard_size = True is not"),
        ('plan = "p"\n[[file]]\nsource = "a"\noutput = "b"\nstrict = "some"',
         "strict = 'some' must be"),
        ('plan = "p"\n[[file]]\nsource = "a"\noutput = "b"\nwithout = [1]',
         "must be a list of names"),
        ('plan = "p"\n[[file]]\nsource = "a"\noutput = "b"\n[[file]]\nsource = "c"\noutput = "./b"',
         "entries 1 and 2 both write")
    ])
    def test_what_is_not_sound_is_refused_before_any_work(self, tmp_path: Path, text: str,
                                                          message: str) -> None:
        (tmp_path / "many.toml").write_text(text)
        with pytest.raises(ManifestError, match=message):
            ktc.apply_many(tmp_path / "many.toml")
        assert [path.name for path in tmp_path.iterdir()] == ["many.toml"]

    def test_the_fingerprint_changes_with_all_that_the_output_depends_on(self,
                                                                         tmp_path: Path) -> None:
        from dataclasses import replace

        small_plan().save(tmp_path / "small.plan.json")
        job = Job(tmp_path / "small.plan.json", small_source(tmp_path), tmp_path / "out.h5")
        found = [job.fingerprint(), replace(job, without=("x",)).fingerprint()]
        os.utime(job.source, (1, 1))
        found.append(job.fingerprint())
        (tmp_path / "small.plan.json").write_text("{}")
        found.append(job.fingerprint())
        assert len(set(found)) == 4


class TestTasks:
    def test_a_finished_file_is_skipped_and_a_changed_one_written_again(self,
                                                                        tmp_path: Path) -> None:
        small_plan().save(tmp_path / "small.plan.json")
        job = Job(tmp_path / "small.plan.json", small_source(tmp_path), tmp_path / "out.h5")
        row = run_job(job, WorkerPlan(small_plan()), None)
        known = Finished(row.output, job.fingerprint(), row.sha256, row.md5, row.size)
        assert row.state == "written"
        assert run_job(job, WorkerPlan(small_plan()), known).state == "skipped"
        data = bytearray(job.output.read_bytes())
        data[-1] ^= 1
        job.output.write_bytes(data)
        again = run_job(job, WorkerPlan(small_plan()), known)
        assert (again.state, again.sha256) == ("written", row.sha256)

    def test_a_set_of_shards_is_intact_only_with_every_shard(self, tmp_path: Path) -> None:
        path = tmp_path / "model.weights.json"
        report = ktc.apply(layered_plan(), layered_source(tmp_path), path,
                           max_shard_size=SHARD_SIZE)
        assert report.sha256 is not None
        assert is_intact(path, report.sha256)
        (tmp_path / weights_file.shard_names(path)[2]).write_bytes(b"")
        assert not is_intact(path, report.sha256)

    def test_a_changed_shard_is_found_and_made_anew(self, tmp_path: Path) -> None:
        plan = WorkerPlan(layered_plan())
        job = Job(plan.plan, layered_source(tmp_path), tmp_path / "model.weights.json",
                  max_shard_size=SHARD_SIZE)
        shard = run_shard(job, plan, 1, None).shard
        assert shard is not None
        path, known = tmp_path / shard.name, Finished("", "", name=shard.name,
                                                      checksum=shard.checksum)
        whole = path.read_bytes()
        assert not run_shard(job, plan, 1, known).written
        middle = len(whole) // 2
        flipped = bytes([whole[middle] ^ 1])
        for changed in (whole[:middle] + flipped + whole[middle + 1:], whole + bytes(8), whole[:-8],
                        whole[:4] + whole[8:12] + whole[4:8] + whole[12:], None):
            path.unlink()
            if changed is not None:
                path.write_bytes(changed)
            again = run_shard(job, plan, 1, known)
            assert again.written
            assert again.shard == shard
            assert path.read_bytes() == whole

    def test_the_time_of_a_sharded_output_is_that_of_its_shards(self, tmp_path: Path) -> None:
        plan = WorkerPlan(layered_plan())
        job = Job(plan.plan, layered_source(tmp_path), tmp_path / "model.weights.json",
                  max_shard_size=SHARD_SIZE)
        shards = [run_shard(job, plan, part, None) for part in range(count_shards(job, plan.plan))]
        row = run_index(job, shards, None)
        assert row.state == "written"
        assert all(shard.seconds > 0 for shard in shards)
        assert row.seconds > sum(shard.seconds for shard in shards)

    def test_a_cut_line_of_the_results_is_passed_over(self, tmp_path: Path) -> None:
        results = ResultsFile(tmp_path / "x.jsonl")
        results.add(Finished("a", "1", "sha"))
        results.close()
        with (tmp_path / "x.jsonl").open("a") as file:
            file.write('{"output": "b", "inp')
        results = ResultsFile(tmp_path / "x.jsonl")
        results.add(Finished("c", "2", "sha"))
        results.close()
        assert set(ResultsFile(tmp_path / "x.jsonl").finished) == {"a", "c"}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is asked for in /proc")
def test_the_first_shards_of_138_gb_take_little_memory(tmp_path: Path) -> None:
    bench = pytest.importorskip("benchmarks.bench_shards")
    goals = bench.Goals()
    bench.memory(tmp_path, goals)
    assert not goals.missed, goals.lines


class TestInThisProcess:
    def test_dask_is_not_needed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "distributed", None)
        (tmp_path / "many.toml").write_text(
            manifest_text(tmp_path, 2) + '\n[[file]]\nsource = "no.npz"\noutput = "no.h5"\n')
        with pytest.raises(ManifestError, match="or give workers=0"):
            ktc.apply_many(tmp_path / "many.toml")
        results = ktc.apply_many(tmp_path / "many.toml", workers=0)
        assert [row.state for row in results.rows] == ["written", "written", "failed"]
        results = ktc.apply_many(tmp_path / "many.toml", workers=0)
        assert [row.state for row in results.rows] == ["skipped", "skipped", "failed"]

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
    def test_a_run_that_was_killed_is_gone_on_with(self, tmp_path: Path) -> None:
        kills = int(os.environ.get("KTC_KILLS", "4"))
        shards = 2 * kills + 2
        manifest = shards_manifest(tmp_path, shards)
        results = tmp_path / "many.results.jsonl"
        generator = np.random.default_rng(int(os.environ.get("KTC_KILL_SEED", "0")))
        killed = 0
        while True:
            done = results.read_bytes().count(b"\n") if results.exists() else 0
            child = os.fork()
            if child == 0:
                try:
                    os._exit(not ktc.apply_many(manifest, workers=0))
                finally:
                    os._exit(2)
            # After one shard more, whatever time that takes, and at any moment of the next ones.
            while (ended := os.waitpid(child, os.WNOHANG if killed < kills else 0)) == (0, 0):
                if results.exists() and results.read_bytes().count(b"\n") > done:
                    time.sleep(generator.uniform(0, 0.01))
                    os.kill(child, signal.SIGKILL)
                    killed += 1
                    os.waitpid(child, 0)
                    break
                time.sleep(0.001)
            else:
                assert ended == (child, 0)
                break
        assert killed
        check_shards(tmp_path, shards)


# A task that holds its worker until a file appears tells its process; the test kills it once and
# lets it go on afterward.
HELD = """
import os, sys, time
from pathlib import Path
from keras_torch_convert.keras_io import write_from_layout as from_plan
folder = Path(os.environ["KTC_TEST_FOLDER"])
def held(file, path, *rest, real=from_plan._written):
    if path.name.startswith(".out3.") and not (folder / "go").exists():
        (folder / "worker.tmp").write_text(f"{os.getpid()} {path.name}")
        os.replace(folder / "worker.tmp", folder / "worker")
        time.sleep(600)
    return real(file, path, *rest)
if from_plan._written.__name__ != "held":  # Dask runs this more than once in a process
    from_plan._written = held
"""

DRIVER = """
import os, sys
from pathlib import Path
import keras_torch_convert as ktc
# No worker may run the script.
(Path(sys.argv[1]).parent / "runs").open("a").write("once ")
results = ktc.apply_many(Path(sys.argv[1]), workers=int(sys.argv[2]))
results.to_json(Path(sys.argv[1]).with_suffix(".json"))
print(results)
sys.exit(0 if results else 1)
"""


def start_driver(folder: Path, *, preload: str = "", workers: int = 2) -> subprocess.Popen[str]:
    """`apply_many` in a process of its own, its workers with `preload` run first."""
    (folder / "driver.py").write_text(DRIVER)
    environment = {**os.environ, "PYTHONPATH": os.getcwd(), "KTC_TEST_FOLDER": str(folder)}
    if preload:
        (folder / "held.py").write_text(preload)
        environment |= {"DASK_DISTRIBUTED__WORKER__PRELOAD": str(folder / "held.py")}
    return subprocess.Popen(
        [sys.executable, folder / "driver.py", folder / "many.toml",
         str(workers)], env=environment, cwd=folder, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, start_new_session=True)


def held_worker(folder: Path, driver: subprocess.Popen[str]) -> tuple[int, str]:
    """The process that is in the middle of out3.h5, and the temporary file that it has begun."""
    for _ in range(1200):
        if (folder / "worker").exists():
            process, name = (folder / "worker").read_text().split()
            return int(process), name
        assert driver.poll() is None, driver.communicate()
        time.sleep(0.05)
    raise AssertionError("no worker came to the file that it was to be held at")


class Later:
    """A task whose worker died after it had ended, so that it runs once more."""
    def __init__(self, outcome: Any) -> None:
        self.outcome, self.statuses = outcome, iter(["lost", "finished"])

    @property
    def status(self) -> str:
        return next(self.statuses, "finished")

    def result(self) -> Any:
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    def release(self) -> None:
        pass


class KilledWorker(Exception):
    """What Dask raises when each worker that had the task died."""


@pytest.mark.parametrize(("outcome", "state", "error"), [
    (Row("a", "b", "written", sha256="0", md5="1"), "written", ""),
    (KilledWorker("task"), "failed", "every worker that tried it died"),
    (PlanError("damaged"), "failed", "PlanError: damaged")
])  # yapf: disable
def test_a_row_is_what_the_task_gave_and_no_status_at_some_moment(outcome: Any, state: str,
                                                                  error: str) -> None:
    run = _Run(None, ResultsFile(None))  # type: ignore[arg-type]
    future: Any = Later(outcome)
    run.waiting[future] = partial(run._take_row, 3, Job(Path("a"), Path("a"), Path("b")), "inputs")
    ((number, row),) = run.rows(iter, lambda count: None)
    assert (number, row.state) == (3, state)
    assert row.error.startswith(error)


@pytest.mark.parametrize(("ends", "written"), [((2, 0, 1, 0, 3), 6), ((2, 0, 0), 2)])
def test_lost_connections_cost_no_row_unless_nothing_ends_between_them(
        tmp_path: Path, ends: tuple[int, ...], written: int) -> None:
    small_plan().save(tmp_path / "small.plan.json")
    jobs = [
        Job(tmp_path / "small.plan.json", small_source(tmp_path, number), tmp_path / f"{number}.h5")
        for number in range(6)
    ]
    connections = iter(ends)

    @contextmanager
    def connected() -> Iterator[Any]:
        """So many tasks end before the connection is lost."""
        count = next(connections)

        def as_they_end(tasks: list[Any]) -> Iterator[Any]:
            yield from tasks[:count]
            if len(tasks) > count:
                raise _ConnectionLostError("the connection was lost")

        yield _Here, as_they_end

    rows: dict[int, Row] = {}
    assert not _write_all(jobs, rows, ResultsFile(None), connected, progress=False)
    assert not list(connections)
    assert [rows[number].state for number in range(6)
           ] == ["written"] * written + ["failed"] * (6 - written)
    assert len(list(tmp_path.glob("*.h5"))) == written
    assert {row.error for row in rows.values()} <= {"", "the connection was lost"}


# The next processes of a cluster die before they can work, as many as the file has letters: "e" by
# an error, of which Dask starts no other one.
DYING = """
import os, signal
from pathlib import Path
left = Path(os.environ["KTC_TEST_FOLDER"]) / "left"
if left.exists() and (text := left.read_text()):
    left.write_text(text[1:])
    if text[0] == "e":
        raise RuntimeError("no start")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def workers_of(process: int) -> list[Any]:
    import psutil

    found = []
    for child in psutil.Process(process).children(recursive=True):
        with suppress(psutil.Error):  # it has just ended
            if "spawn_main" in " ".join(child.cmdline()):
                found.append(child)
    return found


KILLS = int(os.environ.get("KTC_KILLS", "2"))


def kill_workers(folder: Path, driver: subprocess.Popen[str], outputs: str, count: int) -> str:
    """Kill workers that are drawn by lot, in the course of so many outputs; what the driver said.
    """
    generator = np.random.default_rng(int(os.environ.get("KTC_KILL_SEED", "0")))
    killed = 0
    while killed < KILLS and driver.poll() is None:
        # After so many files that are done, whatever time that takes.
        wanted = (killed + 1) * count // (KILLS + 2)
        if len(list(folder.glob(outputs))) >= wanted and (found := workers_of(driver.pid)):
            os.kill(generator.choice([one.pid for one in found]), signal.SIGKILL)
            killed += 1
        time.sleep(0.01)
    shown, errors = driver.communicate(timeout=240)
    assert killed, (shown, errors)
    return errors


@pytest.mark.slow
class TestOnALocalCluster:
    @pytest.mark.parametrize(("deaths", "written"), [(1, True), (1000, False)])
    def test_workers_that_die_at_their_start_are_replaced_or_told(self, deaths: int, written: bool,
                                                                  tmp_path: Path) -> None:
        pytest.importorskip("distributed")
        (tmp_path / "many.toml").write_text(manifest_text(tmp_path, 2))
        (tmp_path / "left").write_text("x" * deaths)
        shown, errors = start_driver(tmp_path, preload=DYING).communicate(timeout=240)
        if written:
            assert "2 written, 0 skipped, 0 failed" in shown, errors
        else:
            assert "ManifestError: the Dask cluster did not start, three times" in errors
            assert not list(tmp_path.glob("out*"))

    @pytest.mark.parametrize("deaths", ["xx", "e"])
    def test_a_worker_that_dies_while_it_starts_again_is_replaced(self, deaths: str,
                                                                  tmp_path: Path) -> None:
        pytest.importorskip("distributed")
        (tmp_path / "many.toml").write_text(manifest_text(tmp_path, 4))
        driver = start_driver(tmp_path, preload=HELD + DYING, workers=1)
        process, _ = held_worker(tmp_path, driver)
        (tmp_path / "left").write_text(deaths)
        (tmp_path / "go").touch()
        os.kill(process, signal.SIGKILL)
        shown, errors = driver.communicate(timeout=240)
        assert "4 written, 0 skipped, 0 failed" in shown, errors
        assert not (tmp_path / "left").read_text()

    def test_a_cluster_that_dies_is_replaced_and_what_is_left_goes_there(self,
                                                                         tmp_path: Path) -> None:
        pytest.importorskip("distributed")
        import psutil

        (tmp_path / "many.toml").write_text(manifest_text(tmp_path, 6))
        driver = start_driver(tmp_path, preload=HELD)
        held_worker(tmp_path, driver)
        (cluster,) = psutil.Process(driver.pid).children()
        (tmp_path / "go").touch()
        cluster.kill()
        shown, errors = driver.communicate(timeout=240)
        assert "6 written, 0 skipped, 0 failed" in shown, errors
        for index, row in enumerate(json.loads((tmp_path / "many.json").read_text())):
            assert is_intact(tmp_path / f"out{index}.h5", row["sha256"])
        assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]

    @pytest.mark.skipif(sys.platform != "linux", reason="the option is Linux's")
    def test_no_connection_ends_because_a_busy_machine_lets_nobody_answer(self) -> None:
        distributed = pytest.importorskip("distributed")
        import socket

        def allowed(comm: Any) -> int:
            return comm.stream.socket.getsockopt(socket.SOL_TCP, socket.TCP_USER_TIMEOUT)

        def allowed_by_worker() -> int:
            return allowed(distributed.get_worker().batched_stream.comm)

        with _tasks(None, 1, "1GiB") as (submit, _):
            mine = allowed(distributed.get_client().scheduler_comm.comm)
            assert [mine, submit(allowed_by_worker).result(60)] == [3_600_000] * 2

    def test_every_row_is_true_whenever_workers_die(self, tmp_path: Path) -> None:
        pytest.importorskip("distributed")
        files = int(os.environ.get("KTC_KILL_FILES", "12"))
        (tmp_path / "many.toml").write_text(manifest_text(tmp_path, files))
        errors = kill_workers(tmp_path, start_driver(tmp_path), "out*.h5", files)
        rows = json.loads((tmp_path / "many.json").read_text())
        assert len(rows) == files, errors
        for index, row in enumerate(rows):
            output = tmp_path / f"out{index}.h5"
            if row["state"] == "written":
                assert is_intact(output, row["sha256"])
            else:
                assert row["error"].startswith("every worker that tried it died"), row
        assert sum(row["state"] == "written" for row in rows) >= files - 2 * KILLS
        assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".out")]

    def test_every_shard_is_there_once_whenever_workers_die(self, tmp_path: Path) -> None:
        pytest.importorskip("distributed")
        shards = int(os.environ.get("KTC_KILL_FILES", "12"))
        shards_manifest(tmp_path, shards)
        kill_workers(tmp_path, start_driver(tmp_path, workers=4), "big_*", shards)
        (row,) = json.loads((tmp_path / "many.json").read_text())
        assert row["state"] == "written", row
        check_shards(tmp_path, shards)

    def test_a_killed_worker_is_replaced_a_failure_is_told_and_a_second_run_skips(
            self, tmp_path: Path) -> None:
        pytest.importorskip("distributed")
        count = 8
        text = manifest_text(tmp_path, count)
        text += '\n[[file]]\nsource = "missing.npz"\noutput = "missing.h5"\n'
        layered_plan().save(tmp_path / "layered.plan.json")
        layered_source(tmp_path)
        text += ('\n[[file]]\nplan = "layered.plan.json"\nsource = "layered.npz"\noutput = '
                 '"big.weights.json"\n')
        text += f"max_shard_size = {SHARD_SIZE!r}\n"
        (tmp_path / "many.toml").write_text(text)

        driver = start_driver(tmp_path, preload=HELD)
        process, temporary = held_worker(tmp_path, driver)
        assert (tmp_path / temporary).exists()
        os.kill(process, signal.SIGKILL)
        (tmp_path / "go").touch()
        shown, errors = driver.communicate(timeout=120)
        assert driver.returncode == 1, errors

        rows = json.loads((tmp_path / "many.json").read_text())
        states = {Path(row["output"]).name: row["state"] for row in rows}
        assert states == {
            **{f"out{index}.h5": "written" for index in range(count)}, "missing.h5": "failed",
            "big.weights.json": "written"
        }
        assert "9 written, 0 skipped, 1 failed" in shown
        assert (tmp_path / "runs").read_text() == "once "
        assert "FileNotFoundError" in rows[count]["error"]
        assert len(weights_file.shard_names(tmp_path / "big.weights.json")) == LAYERS
        for index in range(count):
            alone = ktc.apply(small_plan(), tmp_path / f"source{index}.npz", tmp_path / "alone.h5")
            assert rows[index]["md5"] == alone.md5
            assert (tmp_path / f"out{index}.h5").read_bytes() == (tmp_path
                                                                  / "alone.h5").read_bytes()
        hidden = [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]
        assert hidden == [".big.weights.json.lock"]

        (tmp_path / "out1.h5").write_bytes(b"changed")
        (tmp_path / weights_file.shard_names(tmp_path / "big.weights.json")[0]).unlink()
        shown, _ = start_driver(tmp_path).communicate(timeout=120)
        assert "2 written, 7 skipped, 1 failed" in shown
        assert is_intact(tmp_path / "big.weights.json", rows[count + 1]["sha256"])

    def test_ctrl_c_leaves_finished_files_and_nothing_of_others(self, tmp_path: Path) -> None:
        pytest.importorskip("distributed")
        (tmp_path / "many.toml").write_text(manifest_text(tmp_path, 4))
        driver = start_driver(tmp_path, preload=HELD)
        held_worker(tmp_path, driver)
        os.killpg(driver.pid, signal.SIGINT)
        _, errors = driver.communicate(timeout=120)
        assert driver.returncode != 0
        assert "KeyboardInterrupt" in errors
        left = {path.name for path in tmp_path.iterdir() if path.name.startswith((".", "out"))}
        assert left <= {"out0.h5", "out1.h5", "out2.h5"}
        for name in left:
            alone = ktc.apply(small_plan(), tmp_path / f"source{name[3]}.npz",
                              tmp_path / "alone.h5")
            assert (tmp_path
                    / name).read_bytes() == alone.path.read_bytes()  # type: ignore[union-attr]

    def test_an_existing_scheduler_serves_and_plans_may_be_objects(self, tmp_path: Path) -> None:
        distributed = pytest.importorskip("distributed")
        entries: list[dict[str, Any]] = [{
            "plan": small_plan(), "source": small_source(tmp_path, index),
            "output": tmp_path / f"out{index}.keras"
        } for index in range(3)]
        with distributed.LocalCluster(n_workers=1, threads_per_worker=1, processes=False,
                                      dashboard_address=None) as cluster:
            results = ktc.apply_many(entries, scheduler=cluster.scheduler_address)
        assert results.ok
        assert [row.state for row in results.rows] == ["written"] * 3
        assert {path.name for path in tmp_path.iterdir()} == {
            *(f"out{index}.keras" for index in range(3)),
            *(f"source{index}.npz" for index in range(3))
        }


def test_a_source_may_be_an_address(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    plan = layered_plan(2)
    content = layered_source(tmp_path, 2).read_bytes()
    jobs, results = {"plan": plan, "output": tmp_path / "x.weights.h5"}, tmp_path / "r.jsonl"
    with serving({"layered.npz": content}) as server:
        address = f"{server.url}/layered.npz?token=secret"
        row = ktc.apply_many([{**jobs, "source": address}], workers=0, results=results).rows[0]
        assert row.state == "written", row.error
        ktc.apply(plan, tmp_path / "layered.npz", tmp_path / "alone.weights.h5")
        assert (tmp_path / "x.weights.h5").read_bytes() == (tmp_path
                                                            / "alone.weights.h5").read_bytes()
        assert row.source == f"{server.url}/layered.npz"
        row = ktc.apply_many([{**jobs, "source": address}], workers=0, results=results).rows[0]
        assert row.state == "skipped"
        row = ktc.apply_many([{**jobs, "source": f"{server.url}/other.npz"}], workers=0).rows[0]
        assert (row.state, "there is no such file" in row.error) == ("failed", True)
