"""Ray against one process, with whatever may die: `prove.py PROGRAM FOLDER`, a minute or two on Linux.

16 shards with good, bad and hostile members are captioned by one process, then on Ray, and compared byte for byte, while
a worker, a node's raylet and the script itself are killed, the disk is full, and a shard is truncated.
"""

import io
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import time
import zlib
from pathlib import Path

from ray.cluster_utils import Cluster

SHARDS, IMAGES = 16, int(os.environ.get("IMAGES", "150"))
HERE = Path(__file__).resolve().parent


def png(rng):
    """A small image with a colored square on a gray ground."""
    size, color, gray = 64, [rng.randrange(256) for _ in range(3)], rng.randrange(256)
    left, top, side = rng.randrange(30), rng.randrange(30), rng.randrange(10, 30)
    rows = b""
    for y in range(size):
        inside = [top <= y < top + side and left <= x < left + side for x in range(size)]
        rows += b"\0" + b"".join(bytes(color) if here else bytes([gray] * 3) for here in inside)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def write_shard(path, seed):
    rng = random.Random(seed)
    hostile = ["../../evil.png", "/etc/evil.png", "a\nb\x1b[2J.png", "twice.png", "twice.png", "caf\udce9.png"]
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for number in range(IMAGES):
            name = hostile[number] if number < len(hostile) else f"{seed:02}{number:05}.png"
            data = png(rng)
            if number % 17 == 9:
                data = data[: len(data) // 2]
            elif number % 17 == 11:
                data = b"words"
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def records(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.jsonl"))}


def leftovers(folder):
    return [path.name for path in folder.iterdir() if path.name.endswith((".partial", ".lock"))]


def parent(pid):
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0


def runs(pid):
    """Whether a process is there, and more than an entry that nobody has waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def descendants(pid, word):
    """Processes below `pid` with a word in their command line."""
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            line = Path(f"/proc/{entry}/cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        above = int(entry)
        while above not in (0, 1, pid):
            above = parent(above)
        if word in line and above == pid and int(entry) != pid:
            found.append(int(entry))
    return found


class Place:
    def __init__(self, program, folder):
        self.program, self.folder = program, folder
        self.shards = folder / "shards"

    def start(self, output, *more, shards=None, address=None):
        """The script as a user starts it."""
        command = [sys.executable, "-m", "clipcap_ray", shards or self.shards, "--output", output, "--model", "sample"]
        command += ["--program", self.program, "--local-cpus", "2", "--every", "1"]
        if address:
            command = [word for word in command if word not in ("--local-cpus", "2")] + ["--address", address]
        command += [*more, "--", "--device", "cpu"]
        return subprocess.Popen(
            list(map(str, command)), cwd=HERE.parent, stderr=subprocess.PIPE, text=True, stdout=subprocess.DEVNULL
        )

    def wait_for(self, output, count, process):
        """Until so many shards are finished."""
        while len(list(output.glob("*.jsonl"))) < count:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)


def ended(process, code):
    said = process.communicate()[1]
    assert process.returncode == code, said
    return said


def last_line(said):
    return [line for line in said.splitlines() if " shards (" in line][-1]


def one_process(place):
    output = place.folder / "one"
    begun = time.monotonic()
    command = [place.program, "infer", "--model", "sample", "--device", "cpu", "--output", output, place.shards]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    print(f"one process: {said.splitlines()[-1]}, {time.monotonic() - begun:.1f} s in all")
    made = records(output)
    assert len(made) == SHARDS and all(data.count(b"\n") == IMAGES for data in made.values())
    return made


def worker_killed(place, wanted):
    output = place.folder / "worker"
    process = place.start(output)
    place.wait_for(output, 3, process)
    workers = descendants(process.pid, "ray::run_share")
    assert workers, "no worker is found"
    children = descendants(workers[0], "infer")
    os.kill(workers[0], signal.SIGKILL)
    time.sleep(0.5)
    assert not any(map(runs, children)), "the program outlives its worker"
    said = ended(process, 0)
    assert records(output) == wanted and not leftovers(output), (leftovers(output), said)
    print(f"a worker killed: the same bytes; {last_line(said)}")


def node_killed(place, wanted):
    output = place.folder / "node"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    process = place.start(output, address=cluster.address)
    place.wait_for(output, 3, process)
    raylet = nodes[1].all_processes["raylet"][0].process
    os.kill(raylet.pid, signal.SIGKILL)
    said = ended(process, 0)
    assert records(output) == wanted and not leftovers(output), (leftovers(output), said)
    cluster.shutdown()
    print(f"a node's raylet killed: the same bytes; {last_line(said)}")


def script_killed(place, wanted):
    output = place.folder / "script"
    process = place.start(output)
    place.wait_for(output, 4, process)
    process.kill()
    process.communicate()
    before = {path.name: path.stat().st_mtime_ns for path in output.glob("*.jsonl")}
    while any(descendants(1, str(output))):  # what it had started ends with it
        time.sleep(0.1)
    before = {path.name: path.stat().st_mtime_ns for path in output.glob("*.jsonl")} | before
    said = ended(place.start(output), 0)
    after = {path.name: path.stat().st_mtime_ns for path in output.glob("*.jsonl")}
    assert records(output) == wanted and all(after[name] == changed for name, changed in before.items())
    assert f"({len(before)} finished before" in said, said
    print(f"the script killed and started again: {len(before)} shards were left alone, the same bytes; {last_line(said)}")


def full_disk(place, wanted):
    output = place.folder / "full"
    output.mkdir()
    size = 6 * max(map(len, wanted.values()))
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", output]).returncode != 0:
        print("a full disk: not tried, since nothing can be mounted here")
        return
    try:
        said = ended(place.start(output), 1)
        made = records(output)
        assert 0 < len(made) < SHARDS and all(wanted[name] == data for name, data in made.items())
        failed = [line for line in said.splitlines() if line.startswith("failed: ")]
        assert len(failed) == SHARDS - len(made) and all("cannot write" in line for line in failed), said
        print(f"a full disk: {len(made)} shards finished, {len(failed)} reported: {failed[0]}")
        subprocess.run(["mount", "-o", "remount,size=64m", output], check=True)
        ended(place.start(output), 0)
        assert records(output) == wanted and not leftovers(output)
        print("  with room again: the rest, the same bytes")
    finally:
        subprocess.run(["umount", output], check=True)


def truncated_shard(place, wanted):
    shards, output = place.folder / "truncated-shards", place.folder / "truncated"
    shutil.copytree(place.shards, shards)
    bad = shards / "00005.tar"
    bad.write_bytes(bad.read_bytes()[: bad.stat().st_size // 2])
    said = ended(place.start(output, shards=shards), 1)
    wanted = {name: data for name, data in wanted.items() if name != "00005.jsonl"}
    assert records(output) == wanted and f"failed: {bad}: the shard cannot be read" in said, said
    print(f"a truncated shard: {next(line for line in said.splitlines() if line.startswith('failed: '))}")


def main(program, folder):
    folder.mkdir(parents=True)
    place = Place(Path(program).resolve(), folder.resolve())
    place.shards.mkdir()
    for number in range(SHARDS):
        write_shard(place.shards / f"{number:05}.tar", number)
    wanted = one_process(place)
    for prove in (worker_killed, node_killed, script_killed, full_disk, truncated_shard):
        prove(place, wanted)
    print("all is as it should be")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
