"""Workers, processes that are timed as a whole, and what else the machine did meanwhile."""

import json
import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

BENCHES = Path(__file__).parent.parent
TICK = os.sysconf("SC_CLK_TCK")
THREADS = os.cpu_count() or 1


def environment(folder: Path) -> dict[str, str]:
    """As many threads in every library, and nothing fetched."""
    threads = ("BENCH_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {
        **{key: value for key, value in os.environ.items() if not key.startswith("OPENBLAS")},
        **{name: str(THREADS) for name in threads},
        "BENCH_FOLDER": str(folder.absolute()),
        "CT2_VERBOSE": "-1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TORCHINDUCTOR_CACHE_DIR": str(folder.absolute() / "inductor"),
        "TRANSFORMERS_VERBOSITY": "error",
    }


class Worker:
    """A process that does one piece of work a line; see `peers/common.py`. What it says besides is appended to a log."""

    def __init__(self, command: Sequence, folder: Path):
        self.log = folder / "workers.log"
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                list(map(str, command)), cwd=BENCHES, env=environment(folder), text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip

    def ask(self, work: dict) -> dict:
        """The answer, with `seconds` or `error`."""
        try:
            self.process.stdin.write(json.dumps(work) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            return {"error": f"the worker ended with status {self.process.wait()}; see {self.log}"}
        # Threads spin for a while after their last work.
        time.sleep(0.25)
        return json.loads(line)

    def close(self):
        """An end of its own, after the end of its input."""
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        self.process.wait()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_):
        self.close()


class Run(NamedTuple):
    """A whole process: seconds to its first byte of output, seconds in all, and MB of memory at its peak."""

    first: float
    seconds: float
    memory: float


def run(command: Sequence, folder: Path, cache: Path | None = None) -> Run:
    """`cache` is where OpenVINO may keep what it compiled. Raises CalledProcessError."""
    variables = environment(folder) | ({"BENCH_OPENVINO_CACHE": str(cache)} if cache else {})
    with (folder / "workers.log").open("a") as log:
        start = time.perf_counter()
        process = subprocess.Popen(list(map(str, command)), cwd=BENCHES, env=variables, stdout=subprocess.PIPE, stderr=log)
        process.stdout.read(1)
        first = time.perf_counter() - start
        process.stdout.read()
        _, process.returncode, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return Run(first, seconds, usage.ru_maxrss / 1024)


class Others:
    """The share of the cores, in percent, that processes other than the workers and this one take from its making on. Linux tells."""

    def __init__(self, workers: Sequence[Worker]):
        self.pids = [os.getpid(), *(worker.process.pid for worker in workers)]
        self.start = time.monotonic(), self.ticks()

    def ticks(self) -> float:
        try:
            counts = [int(x) for x in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
        except OSError:
            return float("nan")
        idle, waiting = counts[3:5]
        return sum(counts) - idle - waiting - sum(map(ticks_of, self.pids))

    def percent(self) -> float:
        seconds = max(0.01, time.monotonic() - self.start[0])
        return max(0.0, 100 * (self.ticks() - self.start[1]) / TICK / THREADS / seconds)


def ticks_of(pid: int) -> int:
    """Of a process, and of its children that have ended, as compilers do."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0
    return sum(map(int, fields[11:15]))
