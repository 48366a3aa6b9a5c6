"""Captioning and training on this CPU beside the strongest peers at the same precision: PyTorch, ONNX Runtime, OpenVINO and CTranslate2.

    python benches/speed.py [ROW ...] [--precision P] [--peers NAMES] [--pairs N] [--json FILE] [--markdown FILE]

Everything that this takes is made where it is missing: environments and models in FOLDER (20 GB), our binaries by cargo. A ROW is the beginning
of a row's name, such as `greedy`. Both sides have the same full-size models with random weights (CLIP ViT-B/32, GPT-2 small, mappers for prefixes
of 40 and 10 positions), the same images, and a thread for each core. They work in turn, ours and then each way of a peer, N times after a first
that does not count but is compared; the ratio is the median of those of neighbors. Nothing else may run meanwhile.
"""

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from compare import limits, rows, setup
from compare.processes import THREADS, Others, Run, Worker, run
from compare.rows import PEERS, PRECISIONS, Row
from compare.table import Measurement, Results, agreement

# Percent of the cores that other processes may take before a measurement is made again.
QUIET = 3.0


class Comparison:
    def __init__(self, folder: Path, pairs: int, binaries: setup.Binaries, results: Results, peaks: limits.Peaks):
        self.folder, self.pairs, self.binaries, self.results, self.peaks = folder, pairs, binaries, results, peaks
        self.python = setup.peers_python(folder)

    def peer_worker(self, peer: str) -> Worker:
        return Worker([self.python, "-m", f"peers.{peer}_peer"], self.folder)

    def family(self, precision: str, peer: str, family: Sequence[Row]):
        """Rows whose models stay loaded, beside one peer."""
        command = [self.binaries.worker, self.folder / family[0].model, self.folder, "cpu", precision]
        with Worker(command, self.folder) as ours, self.peer_worker(peer) as theirs:
            for row in family:
                first = ours.ask({**row.work, "dump": True})
                if "error" in first:
                    sys.exit(f"ours failed, {row.name}: {first['error']}")
                ways = row.ways[precision][peer]
                alone = row.work["work"] in rows.ONE_MODEL_AT_A_TIME
                for some in [[way] for way in ways] if alone else [ways]:
                    self.row(precision, row, peer, some, first["out"], ours, theirs)

    def row(self, precision: str, row: Row, peer: str, ways: list[str], reference, ours: Worker, theirs: Worker):
        limit = self.peaks.seconds(limits.phases(row.work), precision)
        found = {way: Measurement(precision, row.name, f"{peer} {way}", limit=limit) for way in ways}
        for way, measurement in found.items():
            first = theirs.ask({**row.work, "way": way, "dump": True})
            measurement.error = first.get("error")
            # CTranslate2 has another prompt.
            if not measurement.error and peer != "ctranslate2":
                measurement.agreement = agreement(row.work, precision, reference, first["out"])
            # Compilers look at a second run, too.
            if not measurement.error and ("compile" in way or peer == "openvino"):
                theirs.ask({**row.work, "way": way})
        ways = [way for way, measurement in found.items() if not measurement.error]

        def pairs() -> dict[str, list[float]]:
            times = {way: [] for way in ["ours", *ways]}
            for _ in range(min(self.pairs, row.most_pairs)):
                times["ours"].append(ours.ask(row.work)["seconds"])
                for way in ways:
                    times[way].append(theirs.ask({**row.work, "way": way})["seconds"])
            return times

        times, percent = quietest(pairs, [ours, theirs])
        for way, measurement in found.items():
            if not measurement.error:
                measurement.ours, measurement.theirs, measurement.others = times["ours"], times[way], percent
            self.results.add(measurement)

    def processes(self, precision: str, peers: Sequence[str], wanted: Callable[[str], bool]):
        """Rows for which whole processes are started."""
        images, cache = self.folder / "images", self.folder / "openvino/cache"
        one = images / "000.jpg"
        ours = [self.binaries.program, "infer", "--model", self.folder / "model", "--device", "cpu", "--precision", precision]
        ours += ["--max-length", rows.TOKENS]
        limit = self.peaks.seconds([phase for work in rows.FOLDER_WORK for phase in limits.phases(work)], precision)
        for peer, way in [(peer, way) for peer in peers for way in rows.PROCESS_WAYS[precision].get(peer, [])]:
            theirs = [self.python, "-m", "peers.caption_files", peer, way]

            def measure(paths: list[Path], count: int, figures: dict[str, Callable[[Run], float]], limit: float | None = None):
                def pairs() -> list[tuple[Run, Run]]:
                    return [(run([*ours, *paths], self.folder), run([*theirs, *paths], self.folder, cache)) for _ in range(count)]

                found = {name: Measurement(precision, name, f"{peer} {way}", limit=limit) for name in figures if wanted(name)}
                if not found:
                    return
                try:
                    run([*theirs, one], self.folder, cache)
                    runs, percent = quietest(pairs, [])
                except subprocess.CalledProcessError as error:
                    for measurement in found.values():
                        measurement.error = f"{error}; see {self.folder}/workers.log"
                else:
                    for name, measurement in found.items():
                        measurement.ours, measurement.theirs = ([figures[name](side) for side in sides] for sides in zip(*runs))
                        measurement.others = percent
                for measurement in found.values():
                    self.results.add(measurement)

            measure([one], self.pairs, {rows.START: lambda r: r.first, rows.MEMORY: lambda r: r.memory})
            measure([images], min(2, self.pairs), {rows.IMAGE_FOLDER: lambda r: r.seconds}, limit)


def quietest(measure: Callable[[], Any], workers: Sequence[Worker]) -> tuple[Any, float]:
    """What was measured while other processes took little, and the share that they took: the best of three times, or the first that is quiet."""
    found = []
    for _ in range(3):
        others = Others(workers)
        found.append((measure(), others.percent()))
        if not found[-1][1] > QUIET:
            break
    return min(found, key=lambda pair: pair[1])


def torch_peaks(python: Path, folder: Path) -> dict[str, float | str]:
    """10^9 operations a second of a large product by PyTorch, and 10^9 bytes a second that it reads."""
    with Worker([python, "-m", "peers.torch_peer"], folder) as torch:
        answers = {way: torch.ask({"work": "peak", "way": way, "dump": True}) for way in ("f32", "bf16", "int8", "bandwidth")}
    return {way: round(answer["out"], 1) if "out" in answer else answer["error"] for way, answer in answers.items()}


def about(python: Path) -> dict:
    """The machine, this commit, and the peers' versions."""
    names = ["torch", "transformers", "onnxruntime", "openvino", "ctranslate2"]
    code = f"from importlib.metadata import version; print(*map(version, {names}))"
    versions = subprocess.run([python, "-c", code], check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=setup.ROOT, stdout=subprocess.PIPE, text=True).stdout.strip()
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return {"cpu": cpu, "threads": THREADS, "time": time.strftime("%F %T"), "commit": commit, "versions": dict(zip(names, versions))}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"beginnings of: {', '.join(rows.NAMES)}")
    parser.add_argument("--precision", choices=[*PRECISIONS, "all"], default="all")
    parser.add_argument("--peers", default=",".join(PEERS), help="with commas between [default: %(default)s]")
    parser.add_argument("--pairs", type=int, default=5, help="measurements of each, fewer where one takes long [default: %(default)s]")
    parser.add_argument("--folder", type=Path, default=Path("/tmp/clipcap-bench"), help="environments and models [default: %(default)s]")
    parser.add_argument("--json", type=Path, help="every measurement")
    parser.add_argument("--markdown", type=Path, help="the tables")
    found = parser.parse_args()
    found.peers = found.peers.split(",")
    for peer in set(found.peers) - set(PEERS):
        parser.error(f"unknown peer: {peer}; there are {', '.join(PEERS)}")
    for row in found.rows:
        if not any(name.startswith(row) for name in rows.NAMES):
            parser.error(f"no row begins with: {row}; there are {', '.join(rows.NAMES)}")
    found.folder = found.folder.absolute()
    return found


def main():
    args = arguments()
    args.folder.mkdir(parents=True, exist_ok=True)
    binaries = setup.build()
    setup.models(args.folder, binaries.program)
    python = setup.peers_python(args.folder)
    peaks = binaries.peaks()
    known = about(python) | {"peaks": asdict(peaks), "peaks of PyTorch": torch_peaks(python, args.folder)}
    print(json.dumps(known), flush=True)
    results = Results(args.json, known)
    comparison = Comparison(args.folder, args.pairs, binaries, results, peaks)

    def wanted(name: str) -> bool:
        return not args.rows or name.startswith(tuple(args.rows))

    chosen = [row for row in rows.ROWS if wanted(row.name)]
    for precision in PRECISIONS if args.precision == "all" else [args.precision]:
        for family in dict.fromkeys(row.family for row in chosen):
            for peer in args.peers:
                some = [row for row in chosen if row.family == family and peer in row.ways.get(precision, {})]
                if some:
                    comparison.family(precision, peer, some)
        comparison.processes(precision, args.peers, wanted)
    print(f"\n{results.markdown()}")
    if args.markdown:
        args.markdown.write_text(results.markdown())


if __name__ == "__main__":
    main()
