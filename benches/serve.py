"""The service under more load than it can take: what `/health` takes meanwhile, what is lost, and how much memory it is.

    apt-get install hey    # or: go install github.com/rakyll/hey@latest
    cargo build --release
    python3 benches/serve.py [--requests 10000] [--model model/sample] [--image FILE]

`clipcap serve` is started on a free port. Its capacity is measured first: captions a second for as many clients as its queue is
long. Then SILENT connections are opened, which send nothing and are opened again when the service closes them, and requests come
at FACTOR times the capacity. An answer is 200, or 503 with Retry-After where the queue is full; anything else is lost.
"""

import argparse
import csv
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
CLIPCAP = Path(os.environ.get("CLIPCAP", ROOT / "target/release/clipcap"))
CLIENTS = 200


class Service:
    """The running service."""

    def __init__(self, model, more):
        command = [CLIPCAP, "serve", "--model", model, "--port", "0", "--log", "none", *more]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        line = self.process.stderr.readline()
        address = re.search(r"http://([^:]+):(\d+)", line)
        if not address:
            sys.exit(f"the service did not start: {line}{self.process.stderr.read()}")
        self.host, self.port = address[1], int(address[2])
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def memory(self):
        """Largest resident memory so far, in MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024

    def stop(self):
        self.process.terminate()
        return self.process.wait()


def load(service, image, requests, rate=None):
    """Statuses of the answers to so many requests, and the seconds they took together. `rate`: requests a second."""
    each = max(requests // CLIENTS, 1)
    command = ["hey", "-n", str(each * CLIENTS), "-c", str(CLIENTS), "-m", "POST", "-D", image, "-t", "300", "-o", "csv"]
    if rate:
        command += ["-q", str(rate / CLIENTS)]
    begin = time.monotonic()
    done = subprocess.run([*command, f"http://{service.host}:{service.port}/caption"], capture_output=True, text=True, check=True)
    seconds = time.monotonic() - begin
    rows = [row for row in csv.DictReader(done.stdout.splitlines()) if (row.get("status-code") or "").isdigit()]
    statuses = {}
    for row in rows:
        statuses[row["status-code"]] = statuses.get(row["status-code"], 0) + 1
    return each * CLIENTS, statuses, seconds


class Background(threading.Thread):
    """Something that is done again and again until it is stopped."""

    def __init__(self):
        super().__init__(daemon=True)
        self.stopped = threading.Event()
        self.start()

    def run(self):
        while not self.stopped.is_set():
            self.once()

    def stop(self):
        self.stopped.set()
        self.join()


class Silent(Background):
    """Connections that send nothing, and are opened again."""

    def __init__(self, service, count):
        self.service, self.sockets, self.count, self.opened = service, [], count, 0
        super().__init__()

    def once(self):
        while len(self.sockets) < self.count:
            silent = socket.create_connection((self.service.host, self.service.port), timeout=30)
            silent.setblocking(False)
            self.sockets.append(silent)
            self.opened += 1
        for silent in list(self.sockets):
            try:
                if silent.recv(1) == b"":
                    raise ConnectionError
            except BlockingIOError:
                pass
            except OSError:
                silent.close()
                self.sockets.remove(silent)
        time.sleep(0.05)


class Health(Background):
    """Asks for `/health`, each time on a new connection, and notes the seconds."""

    def __init__(self, service):
        self.service, self.seconds, self.failed = service, [], 0
        super().__init__()

    def once(self):
        begin = time.monotonic()
        try:
            connection = http.client.HTTPConnection(self.service.host, self.service.port, timeout=30)
            connection.request("GET", "/health")
            answer = connection.getresponse()
            answer.read()
            connection.close()
            self.failed += answer.status != 200
        except OSError:
            self.failed += 1
        self.seconds.append(time.monotonic() - begin)
        time.sleep(0.02)

    def percentile(self, percent):
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) * percent // 100, len(ordered) - 1)] * 1000


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--factor", type=float, default=4)
    parser.add_argument("--silent", type=int, default=300)
    parser.add_argument("--model", default=str(ROOT / "model/sample"))
    parser.add_argument("--image", default=str(ROOT / "tests/fixtures/preprocess/wide.png"))
    args, more = parser.parse_known_args()
    if not shutil.which("hey"):
        sys.exit("hey is not there: apt-get install hey")
    service = Service(args.model, more)
    try:
        load(service, args.image, CLIENTS)
        sent, statuses, seconds = load(service, args.image, CLIENTS * 10)
        capacity = statuses.get("200", 0) / seconds
        silent, health = Silent(service, args.silent), Health(service)
        sent, statuses, seconds = load(service, args.image, args.requests, capacity * args.factor)
        health.stop()
        silent.stop()
        answered = statuses.get("200", 0) + statuses.get("503", 0)
        print(json.dumps({
            "capacity_per_second": round(capacity, 1),
            "sent": sent,
            "sent_per_second": round(sent / seconds, 1),
            "statuses": statuses,
            "lost": sent - answered,
            "health_asked": len(health.seconds),
            "health_failed": health.failed,
            "health_ms_p50": round(health.percentile(50), 1),
            "health_ms_p99": round(health.percentile(99), 1),
            "health_ms_max": round(max(health.seconds) * 1000, 1),
            "silent_opened": silent.opened,
            "peak_memory_mb": round(service.memory()),
        }, indent=2))
    finally:
        code = service.stop()
        print(f"the service ended with {code}", file=sys.stderr)


if __name__ == "__main__":
    main()
