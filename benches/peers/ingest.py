"""The work of stages/benches/ingest.rs with polars or pandas: SMD text of one machine to a normalised Parquet file.

Train and test text and labels are read, mean and deviation are taken from the first 70 % of the training rows, all
rows are scaled by them (a constant channel by 1), and everything is written as uncompressed Parquet. Imports are not
timed. Usage: ingest.py polars|pandas FOLDER MACHINE REPETITIONS. Prints one JSON line.
"""

import json
import resource
import sys
import tempfile
import time

CHANNELS = [f"metric_{index}" for index in range(1, 39)]


def with_polars(train, test, labels, target):
    import polars as pl

    schema = {name: pl.Float32 for name in CHANNELS}

    def run():
        head = pl.read_csv(train, has_header=False, schema=schema)
        tail = pl.read_csv(test, has_header=False, schema=schema)
        label = pl.read_csv(labels, has_header=False, schema={"label": pl.UInt8})
        fit = head.head(int(0.7 * head.height)).cast(pl.Float64)
        mean = fit.mean().row(0)
        deviation = [value or 1.0 for value in fit.std(ddof=0).row(0)]
        scaled = pl.concat([head, tail]).select(
            ((pl.col(name).cast(pl.Float64) - mean[index]) / deviation[index]).cast(pl.Float32)
            for index, name in enumerate(CHANNELS)
        )
        zeros = pl.zeros(head.height, dtype=pl.UInt8, eager=True).rename("label")
        column = pl.concat([zeros, label.get_column("label")])
        scaled.with_columns(column).write_parquet(target, compression="uncompressed", statistics=False)

    return run


def with_pandas(train, test, labels, target):
    import numpy as np
    import pandas as pd

    def run():
        head = pd.read_csv(train, header=None, names=CHANNELS, dtype=np.float32)
        tail = pd.read_csv(test, header=None, names=CHANNELS, dtype=np.float32)
        label = pd.read_csv(labels, header=None, names=["label"], dtype=np.uint8)
        fit = head.iloc[: int(0.7 * len(head))].to_numpy(dtype=np.float64)
        mean, deviation = fit.mean(axis=0), fit.std(axis=0)
        deviation[deviation == 0] = 1.0
        values = np.concatenate([head.to_numpy(), tail.to_numpy()])
        scaled = pd.DataFrame(((values - mean) / deviation).astype(np.float32), columns=CHANNELS)
        scaled["label"] = np.concatenate([np.zeros(len(head), np.uint8), label["label"].to_numpy()])
        scaled.to_parquet(target, engine="pyarrow", compression=None, index=False)

    return run


def main():
    name, folder, machine, repetitions = sys.argv[1:]
    files = [f"{folder}/ServerMachineDataset/{part}/{machine}.txt" for part in ("train", "test", "test_label")]
    with tempfile.TemporaryDirectory() as scratch:
        run = {"polars": with_polars, "pandas": with_pandas}[name](*files, f"{scratch}/series.parquet")
        idle = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        times = []
        for _ in range(int(repetitions)):
            start = time.perf_counter()
            run()
            times.append((time.perf_counter() - start) * 1e3)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"milliseconds": times, "peak_kilobytes": peak, "idle_kilobytes": idle}))


main()
