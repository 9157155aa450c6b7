#!/usr/bin/env python3
"""The list of ten thousand runs, and fifty readers beside a training: python3 runs.py RUNNER [RUNS]

Copies the record of one run of the quickstart under other names, and times the list of `runner ui`: the first answer after the
start, and later ones. Then fifty readers ask for pages, a request a second each, while a training runs; the training is timed
with and without them, in turns.
"""

import json
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


def get(root, cookie, path):
    request = urllib.request.Request(root + path, headers={"cookie": cookie})
    start = time.perf_counter()
    with urllib.request.urlopen(request) as answer:
        answer.read()
    return time.perf_counter() - start


def train(runner, work, seed):
    start = time.perf_counter()
    command = [runner, "run", "quickstart.yaml", "--set", f"seed={seed}", "--store", "other", "--quiet"]
    subprocess.run(command, cwd=work, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


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
            name = f"20250101-{number // 3600 % 24:02}{number // 60 % 60:02}{number % 60:02}-{number:06x}"
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
            alone, beside = [], []
            for turn in range(TURNS):
                alone.append(train(runner, work, 100 + 2 * turn))
                stop = threading.Event()

                def read():
                    while not stop.wait(1):
                        get(root, cookie, f"/run/{first.name}/")

                readers = [threading.Thread(target=read) for _ in range(READERS)]
                for reader in readers:
                    reader.start()
                beside.append(train(runner, work, 101 + 2 * turn))
                stop.set()
                for reader in readers:
                    reader.join()
            slower = statistics.median(beside) / statistics.median(alone) - 1
            print(f"training alone {statistics.median(alone):.2f} s, beside {READERS} readers {statistics.median(beside):.2f} s ({slower:+.1%})")
            status = Path(f"/proc/{server.pid}/status").read_text()
            print("server:", [line for line in status.splitlines() if line.startswith(("VmRSS", "VmHWM"))])
        finally:
            server.terminate()
            server.wait()


main()
