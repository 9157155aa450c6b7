#!/usr/bin/env python3
"""The list of ten thousand runs, and fifty readers beside a training: python3 runs.py RUNNER [RUNS]

Copies the record of one run of the quickstart under other names, and times the list of `runner ui`: the first answer after the
start, and later ones. Then a training runs in the same store, with and without fifty readers in turns. A reader
is a browser with the page of the run under way: it asks for news every 1.5 seconds, as the page's script does.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

READERS = 50
TURNS = 5


def get(root, cookie, path, **headers):
    request = urllib.request.Request(root + path, headers={"cookie": cookie, **headers})
    start = time.perf_counter()
    with urllib.request.urlopen(request) as answer:
        answer.read()
    return time.perf_counter() - start


def train(runner, work, seed):
    start = time.perf_counter()
    command = [runner, "run", "quickstart.yaml", "--set", f"seed={seed}", "--set", "epochs=12", "--quiet"]
    subprocess.run(command, cwd=work, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def processor_time(process):
    """Seconds of the processor that a process has had."""
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


def newest(work):
    """The run that began last."""
    return max(path.name for path in (work / "cache/v1/runs").iterdir() if path.name > "2026")


def main():
    runner = Path(sys.argv[1]).resolve()
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 10_000
    pipeline = Path(__file__).resolve().parents[2] / "pipelines/quickstart.yaml"
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        shutil.copy(pipeline, work)
        subprocess.run([runner, "run", "quickstart.yaml", "--quiet"], cwd=work, check=True, stdout=subprocess.DEVNULL)
        runs = work / "cache/v1/runs"
        first = next(path for path in runs.iterdir() if (path / "run.json").is_file())
        record = json.loads((first / "run.json").read_text())
        for number in range(count - 1):
            name = f"2025-0101-{number // 3600 % 24:02}{number // 60 % 60:02}{number % 60:02}-{number:06x}"
            copy = {**record, "run": name, "started": record["started"] - number * 1000}
            (runs / name).mkdir()
            (runs / name / "run.json").write_text(json.dumps(copy))
        server = subprocess.Popen([runner, "ui", "--json"], cwd=work, stdout=subprocess.PIPE, text=True)
        try:
            address = json.loads(server.stdout.readline())["address"]
            root, token = address.split("/?token=")
            cookie = f"runner-{token[:8]}={token}"
            print(f"list of {count} runs, first: {get(root, cookie, '/') * 1000:.0f} ms")
            paths = ["/", "/?filter=f1%3E0.1&sort=-f1", "/?page=50"]
            for path in paths:
                print(f"  {path}: {statistics.median(get(root, cookie, path) for _ in range(5)) * 1000:.0f} ms")
            get(root, cookie, f"/run/{first.name}/")
            alone, beside, served = [], [], []
            for turn in range(TURNS):
                alone.append(train(runner, work, 100 + 2 * turn))
                stop = threading.Event()
                known = newest(work)
                before = processor_time(server.pid)

                def read(delay):
                    stop.wait(delay)
                    run = newest(work)
                    while run != known and not stop.wait(1.5):
                        get(root, cookie, f"/run/{run}/", **{"runner-part": "1"})

                delays = [0.5 + 1.5 * number / READERS for number in range(READERS)]
                readers = [threading.Thread(target=read, args=(delay,)) for delay in delays]
                for reader in readers:
                    reader.start()
                beside.append(train(runner, work, 101 + 2 * turn))
                stop.set()
                served.append(processor_time(server.pid) - before)
                status = Path(f"/proc/{server.pid}/status").read_text()
                for reader in readers:
                    reader.join()
            slower = statistics.median(beside) / statistics.median(alone) - 1
            print(f"training alone {statistics.median(alone):.2f} s, beside {READERS} readers {statistics.median(beside):.2f} s ({slower:+.1%}, the readers themselves included)")
            share = statistics.median(served) / (2 * statistics.median(beside))
            print(f"of that the server took {statistics.median(served):.3f} s of processor time, {share:.2%} of two cores")
            print("server:", [line for line in status.splitlines() if line.startswith(("VmRSS", "VmHWM"))])
        finally:
            server.terminate()
            server.wait()


main()
