"""The service under more load than it can take: what `/health` takes meanwhile, what is lost, and how much memory it is.

    cargo build --release
    python3 benches/serve.py [--requests 10000] [--factor 4] [--model model/sample] [--image FILE] [flags of serve]

`clipcap serve` is started on a free port of 127.0.0.1. Its capacity is measured first: captions a second for CLIENTS that each ask
again once answered. Then SILENT connections are opened, which send nothing and are opened again when the service closes them, and
requests begin at FACTOR times the capacity, each on a connection of its own and whether earlier ones are answered or not. They
come from a process of their own, so that the one that asks for `/health` is not slowed by them.

An answer is 200 with a caption, or 503 with Retry-After where the queue is full; anything else is lost.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
CLIPCAP = Path(os.environ.get("CLIPCAP", TARGET / "release/clipcap"))
# Fewer than the service's queue is long, so that none is refused.
CLIENTS = 64
WARM_UP = 100
CAPACITY_SECONDS = 10
TIMEOUT = 120


class Service:
    """The running service."""

    def __init__(self, model, more):
        command = [CLIPCAP, "serve", "--model", model, "--port", "0", "--log", "none", *more]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        said = []
        # Drivers may have something to say before.
        for line in self.process.stderr:
            if address := re.search(r"http://([^:]+):(\d+)", line):
                self.address = address[1], int(address[2])
                return
            said.append(line)
        sys.exit(f"the service did not start: {''.join(said)}")

    def memory(self, kind):
        """Resident memory in MB: VmRSS now, VmHWM the most so far."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return round(int(re.search(rf"{kind}:\s+(\d+)", status)[1]) / 1024)

    def stop(self):
        self.process.terminate()
        return self.process.wait()


async def ask(address, method, target, body=b""):
    """Status, head and body of an answer, on a connection of its own."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        head = f"{method} {target} HTTP/1.1\r\nHost: {address[0]}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + body)
        head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
        return int(head.split(b" ", 2)[1]), head.decode().lower(), body
    finally:
        writer.close()


async def caption(address, image):
    """How a request was answered: `200`, `503`, or what was wrong with it."""
    try:
        status, head, body = await asyncio.wait_for(ask(address, "POST", "/caption", image), TIMEOUT)
        if status == 200 and json.loads(body)["captions"][0]["caption"]:
            return "200"
        if status == 503 and "\r\nretry-after: " in head:
            return "503"
        return f"{status} {body[:80]}"
    except Exception as error:
        return type(error).__name__


async def capacity(address, image, seconds=None, requests=None):
    """Captions a second, for CLIENTS at once."""
    answers, begin = Counter(), time.monotonic()

    def goes_on():
        if requests:
            return answers.total() < requests
        return time.monotonic() - begin < seconds

    async def client():
        while goes_on():
            answers[await caption(address, image)] += 1

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    if set(answers) != {"200"}:
        sys.exit(f"within its capacity the service answers {dict(answers)}")
    return answers["200"] / (time.monotonic() - begin)


async def flood(address, image, requests, rate):
    """How so many requests at this rate were answered, and the seconds that they took to begin and to end."""
    begin, tasks = time.monotonic(), []
    for place in range(requests):
        await asyncio.sleep(max(begin + place / rate - time.monotonic(), 0))
        tasks.append(asyncio.create_task(caption(address, image)))
    sent = time.monotonic() - begin
    answers = Counter(await asyncio.gather(*tasks))
    return answers, sent, time.monotonic() - begin


def flood_process(pipe, *args):
    pipe.send(asyncio.run(flood(*args)))


async def silent(address, opened):
    """Keeps a connection open that sends nothing, and opens it again whenever it is closed."""
    while True:
        try:
            reader, writer = await asyncio.open_connection(*address)
            opened["silent"] += 1
            await reader.read(1)
            writer.close()
        except OSError:
            opened["refused"] += 1
            await asyncio.sleep(0.05)


async def health(address, seconds, failed):
    """Asks for `/health` again and again."""
    while True:
        begin = time.monotonic()
        try:
            status, _, _ = await asyncio.wait_for(ask(address, "GET", "/health"), TIMEOUT)
            failed += [status] * (status != 200)
        except Exception as error:
            failed.append(type(error).__name__)
        seconds.append(time.monotonic() - begin)
        await asyncio.sleep(0.02)


def percentile(seconds, percent):
    ordered = sorted(seconds)
    return round(ordered[min(len(ordered) * percent // 100, len(ordered) - 1)] * 1000, 1)


async def measure(args, service):
    image = Path(args.image).read_bytes()
    address = service.address
    await capacity(address, image, requests=WARM_UP)
    most = await capacity(address, image, seconds=CAPACITY_SECONDS)
    before = service.memory("VmRSS")
    opened, seconds, failed = Counter(), [], []
    beside = [asyncio.create_task(silent(address, opened)) for _ in range(args.silent)]
    beside.append(asyncio.create_task(health(address, seconds, failed)))
    here, there = multiprocessing.Pipe()
    rate = most * args.factor
    process = multiprocessing.Process(target=flood_process, args=(there, address, image, args.requests, rate))
    process.start()
    while not here.poll():
        await asyncio.sleep(0.05)
    answers, sent, ended = here.recv()
    process.join()
    for task in beside:
        task.cancel()
    return {
        "cores": os.cpu_count(),
        "capacity_per_second": round(most, 1),
        "sent": args.requests,
        "sent_per_second": round(args.requests / sent, 1),
        "captions_per_second": round(answers["200"] / ended, 1),
        "answers": dict(answers),
        "lost": args.requests - answers["200"] - answers["503"],
        "health_asked": len(seconds),
        "health_failed": failed,
        "health_ms_p50": percentile(seconds, 50),
        "health_ms_p99": percentile(seconds, 99),
        "health_ms_max": percentile(seconds, 100),
        "silent_opened": opened["silent"],
        "silent_refused": opened["refused"],
        "memory_mb_before": before,
        "memory_mb_after": service.memory("VmRSS"),
        "memory_mb_most": service.memory("VmHWM"),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--factor", type=float, default=4)
    parser.add_argument("--silent", type=int, default=300)
    parser.add_argument("--model", default=str(ROOT / "model/sample"))
    parser.add_argument("--image", default=str(ROOT / "tests/fixtures/preprocess/wide.png"))
    args, more = parser.parse_known_args()
    service = Service(args.model, more)
    try:
        print(json.dumps(asyncio.run(measure(args, service)), indent=2))
    finally:
        code = service.stop()
        print(f"the service ended with {code}", file=sys.stderr)


if __name__ == "__main__":
    main()
