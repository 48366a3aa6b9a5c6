"""Captions or embeds WebDataset shards on Ray: `python clipcap_ray.py SHARDS --output DIR --model NAME`.

A task is one run of the program, `clipcap infer SHARDS --output DIR --shard I/N`, which does what is left of its share:
a shard's file is there once it is whole, and shards whose file is there are passed over. So a task that is run again,
because its worker or node died, loses the shard that was under way and nothing else, and this script, killed and
started again, redoes nothing that was done. The shards and DIR are on a file system that all nodes see, and the
program is on each node.

Without a cluster a local Ray is started; with one (RAY_ADDRESS, --address, or `ray start` on this machine) it is joined.
"""

import argparse
import ctypes
import json
import os
import signal
import subprocess
import sys
import time

import ray
import ray.cloudpickle

PR_SET_PDEATHSIG = 1  # linux/prctl.h


class ProgramDied(Exception):
    """The program was killed: worth another try."""


def die_with_parent():
    """Linux ends the program when the worker that started it ends, so that no two write to a shard."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def run_share(command, index, count, threads):
    """Runs the program on the share `index` of `count`. Returns what it said on standard error, and its exit code."""
    environment = dict(os.environ)
    if threads:
        environment["RAYON_NUM_THREADS"] = str(threads)
    ended = subprocess.run(
        [*command, "--shard", f"{index}/{count}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=environment,
        preexec_fn=die_with_parent,
    )
    if ended.returncode < 0:
        raise ProgramDied(f"share {index}/{count}: ended by signal {-ended.returncode}")
    return ended.returncode, ended.stderr


def absolute(name):
    """A path as every node sees it, whatever folder its workers run in; patterns and ranges stay what they are."""
    return os.path.abspath(name)


def list_shards(command):
    """The shards and their files, as the program finds them."""
    listed = subprocess.run([*command, "--list-shards"], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if listed.returncode != 0:
        sys.exit(listed.stderr.strip() or f"{command[0]}: ended with {listed.returncode}")
    return [json.loads(line) for line in listed.stdout.splitlines()]


def read_stats(shard):
    """How a shard went, where the program wrote that."""
    try:
        with open(shard["stats"], encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError):
        return {}


class Progress:
    """Counts shards and images, and says so on standard error."""

    def __init__(self, total, before):
        self.total, self.before = total, before
        self.shards = self.images = self.errors = 0
        self.failed = {}
        self.begun = self.told = time.monotonic()

    def add(self, shards, error):
        """Counts the shards of a share that has ended; `error` is why, where the whole share failed."""
        for shard in shards:
            if not os.path.exists(shard["output"]):
                self.failed[shard["shard"]] = error or read_stats(shard).get("reason") or "was not finished"
                continue
            stats = read_stats(shard)
            self.shards += 1
            self.images += stats.get("images", 0)
            self.errors += sum(stats.get("errors", {}).values())

    def tell(self, every=0):
        if time.monotonic() - self.told < every:
            return
        self.told = time.monotonic()
        seconds = self.told - self.begun
        print(
            f"{self.before + self.shards}/{self.total} shards ({self.before} finished before, {len(self.failed)} failed), "
            f"{self.images} images ({self.errors} with errors), {self.images / max(seconds, 1e-9):.1f} images/s, "
            f"{seconds:.0f} s",
            file=sys.stderr,
            flush=True,
        )


def last_error(text):
    lines = [line for line in text.splitlines() if line.startswith("error: ")]
    return lines[-1].removeprefix("error: ") if lines else text.strip()[-500:]


def slots(args):
    """How many tasks the cluster runs at once."""
    there = ray.cluster_resources()
    by_cpu = there.get("CPU", 1) / args.num_cpus if args.num_cpus else float("inf")
    by_gpu = there.get("GPU", 0) / args.num_gpus if args.num_gpus else float("inf")
    return max(1, int(min(by_cpu, by_gpu, 10_000)))


def run(args):
    """Runs all shares that have something left, and returns the exit code."""
    program = absolute(args.program) if os.sep in args.program else args.program
    command = [program, args.command, *map(absolute, args.shards), "--output", absolute(args.output), *args.more]
    if args.model:
        command += ["--model", absolute(args.model) if os.path.isdir(args.model) else args.model]
    shards = list_shards(command)
    count = max(1, -(-len(shards) // args.shards_per_task))
    left = {index: [shard for shard in shards[index::count] if not shard["finished"]] for index in range(count)}
    waiting = [index for index in range(count) if left[index]]
    progress = Progress(len(shards), sum(shard["finished"] for shard in shards))
    if waiting:
        # Workers need not have this file.
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
        ray.init(address=args.address, num_cpus=args.local_cpus, log_to_driver=False, include_dashboard=False)
        progress.begun = time.monotonic()  # starting Ray is not captioning
        remote = ray.remote(run_share).options(
            num_cpus=args.num_cpus,
            num_gpus=args.num_gpus,
            max_retries=args.retries,
            retry_exceptions=[ProgramDied],
        )
        running = {}
        while waiting or running:
            while waiting and len(running) < 2 * slots(args):
                index = waiting.pop(0)
                running[remote.remote(command, index, count, int(args.num_cpus))] = index
            for task in ray.wait(list(running), timeout=args.every)[0]:
                index, error = running.pop(task), None
                try:
                    code, text = ray.get(task)
                    if code not in (0, 1):  # wrong usage: the next share would fare no better
                        sys.exit(text.strip())
                    error = last_error(text) if code else None
                except (ProgramDied, ray.exceptions.RayError) as raised:
                    error = f"given up after {args.retries + 1} tries: {str(raised).strip().splitlines()[-1]}"
                progress.add(left[index], error if len(left[index]) == 1 else None)
            progress.tell(args.every)
    progress.tell()
    for shard, reason in sorted(progress.failed.items()):
        print(f"failed: {shard}: {reason.removeprefix(shard + ': ')}", file=sys.stderr)
    return 1 if progress.failed else 0


def parse(arguments):
    parser = argparse.ArgumentParser(
        prog="python -m clipcap_ray",
        description="Captions or embeds WebDataset shards on Ray. What follows `--` goes to the program.",
    )
    end = arguments.index("--") if "--" in arguments else len(arguments)
    arguments, more = arguments[:end], arguments[end + 1 :]
    add = parser.add_argument
    add("shards", nargs="+", metavar="SHARDS", help="shards, folders of them, names such as {000..999}.tar")
    add("--output", required=True, metavar="DIR", help="folder for a file a shard, which all nodes see")
    add("--model", metavar="NAME", help="model folder or name, as the program takes it")
    add("--command", choices=["infer", "embed"], default="infer", help="what is made of each image")
    add("--program", default="clipcap", metavar="PATH", help="the program, on every node")
    add("--num-cpus", type=float, default=1, metavar="N", help="CPUs a task, and the threads that it uses")
    add("--num-gpus", type=float, default=0, metavar="N", help="GPUs a task")
    add("--shards-per-task", type=int, default=1, metavar="N", help="shards a task: the model is loaded once for them")
    add("--retries", type=int, default=5, metavar="N", help="times that a task is run again when its worker or node dies")
    add("--address", metavar="ADDRESS", help="Ray cluster to join")
    add("--local-cpus", type=int, metavar="N", help="CPUs of the local Ray that is started [default: all]")
    add("--every", type=float, default=10, metavar="SECONDS", help="time between two lines of progress")
    parsed = parser.parse_args(arguments)
    parsed.more = more
    if parsed.shards_per_task < 1 or parsed.num_cpus < 0:
        parser.error("--shards-per-task must be at least 1, and --num-cpus 0 or more")
    return parsed


if __name__ == "__main__":
    sys.exit(run(parse(sys.argv[1:])))
