#!/usr/bin/env python3
"""The list of ten thousand runs in MLflow, beside ours: python3 mlflow_list.py RUNNER MLFLOW [RUNS]

Exports a run of the quickstart as `runner export --format mlflow` does, and copies what was written under other names, as
`runs.py` does with our records. MLflow serves them from the same files, and from the database that it recommends. What is
timed is the request that its page makes for the first hundred runs, without drawing any; for ours, the whole page.
MLFLOW is the program of `scripts/install-mlflow.sh`.
"""

import json
import os
import shutil
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from pathlib import Path


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def search(port, experiment, order):
    body = {"experiment_ids": [experiment], "max_results": 100, "order_by": order}
    address = f"http://127.0.0.1:{port}/ajax-api/2.0/mlflow/runs/search"
    request = urllib.request.Request(address, json.dumps(body).encode(), {"content-type": "application/json"})
    start = time.perf_counter()
    with urllib.request.urlopen(request) as answer:
        found = json.loads(answer.read())
    return time.perf_counter() - start, len(found.get("runs", []))


def command(mlflow, store, port):
    options = ["--workers", "1", "--gunicorn-opts", "--timeout 300 --no-control-socket"]
    return [mlflow, "server", "--backend-store-uri", store, "--port", str(port), *options]


def serve(mlflow, store, experiment, what):
    port = free_port()
    environment = {**os.environ, "MLFLOW_ALLOW_FILE_STORE": "true"}
    server = subprocess.Popen(command(mlflow, store, port), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.1)
        for order in (["attributes.start_time DESC"], ["metrics.`metrics/pot_f1` DESC"]):
            times, counts = zip(*(search(port, experiment, order) for _ in range(6)))
            later = statistics.median(times[1:])
            print(f"MLflow, {what}, by {order[0]}: {counts[0]} runs, first {times[0] * 1000:.0f} ms, later {later * 1000:.0f} ms")
    finally:
        server.terminate()
        server.wait()


def copy_files(exported, count):
    """Further runs in the files that MLflow reads: the name is that of the folder and stands in `meta.yaml`."""
    meta = next(exported.glob("*/*/meta.yaml"))
    first, text = meta.parent, meta.read_text()
    for _ in range(count - 1):
        name = uuid.uuid4().hex
        folder = first.parent / name
        shutil.copytree(first, folder, ignore=shutil.ignore_patterns("artifacts"))
        (folder / "artifacts").mkdir()
        (folder / "meta.yaml").write_text(text.replace(first.name, name))
    return first.parent.name


def copy_rows(database, count):
    """Further runs in MLflow's database: the rows of the first one under other names."""
    with sqlite3.connect(database) as connection:
        (first,) = connection.execute("select run_uuid from runs limit 1").fetchone()
        tables = connection.execute("select name from sqlite_master where type = 'table'").fetchall()
        for (table,) in tables:
            columns = [row[1] for row in connection.execute(f'pragma table_info("{table}")')]
            if "run_uuid" not in columns:
                continue
            rows = connection.execute(f'select * from "{table}" where run_uuid = ?', (first,)).fetchall()
            place = columns.index("run_uuid")
            marks = ", ".join("?" * len(columns))
            for number in range(count - 1):
                name = f"{number:032x}"
                copies = [(*row[:place], name, *row[place + 1 :]) for row in rows]
                connection.executemany(f'insert into "{table}" values ({marks})', copies)
        (experiment,) = connection.execute("select experiment_id from runs limit 1").fetchone()
    return str(experiment)


def main():
    runner, mlflow = (Path(argument).absolute() for argument in sys.argv[1:3])
    count = int(sys.argv[3]) if len(sys.argv) > 3 else 10_000
    pipeline = Path(__file__).resolve().parents[2] / "pipelines/quickstart.yaml"
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        shutil.copy(pipeline, work)
        subprocess.run([runner, "run", "quickstart.yaml", "--quiet"], cwd=work, check=True, stdout=subprocess.DEVNULL)
        export = [runner, "export", "latest", "--format", "mlflow", "--output", "mlruns"]
        subprocess.run(export, cwd=work, check=True, stdout=subprocess.DEVNULL)
        experiment = copy_files(work / "mlruns", count)
        serve(mlflow, f"file://{work}/mlruns", experiment, f"{count} runs in files")

        port = free_port()
        store = f"sqlite:///{work}/mlflow.db"
        server = subprocess.Popen(command(mlflow, store, port), cwd=work, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            export = [runner, "export", "latest", "--format", "mlflow", "--to", f"http://127.0.0.1:{port}"]
            for _ in range(60):
                time.sleep(1)
                if subprocess.run(export, cwd=work, capture_output=True).returncode == 0:
                    break
        finally:
            server.terminate()
            server.wait()
        experiment = copy_rows(work / "mlflow.db", count)
        serve(mlflow, store, experiment, f"{count} runs in SQLite")


main()
