"""Times the metrics of TSB-AD and scikit-learn on the input of our own benchmark, and compares the figures.

Only TSB-AD's file of metrics is loaded, which needs NumPy and scikit-learn; the package around it wants PyTorch.
"""

import importlib.util
import json
import pathlib
import sys
import time

import numpy as np
from sklearn import metrics as sklearn_metrics

WINDOW = 100


def load_tsb_ad():
    package = pathlib.Path(importlib.util.find_spec("TSB_AD").submodule_search_locations[0])
    spec = importlib.util.spec_from_file_location("basic_metrics", package / "evaluation" / "basic_metrics.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def timed(name, function, own):
    start = time.perf_counter()
    value = float(function())
    seconds = time.perf_counter() - start
    difference = abs(value - own)
    print(f"{name:22} {seconds * 1e3:12.1f} ms   {value:.12f}   difference {difference:.1e}", flush=True)
    return seconds


def main(folder, with_volume):
    folder = pathlib.Path(folder)
    scores = np.fromfile(folder / "scores.f64", dtype="<f8")
    labels = np.fromfile(folder / "labels.u8", dtype=np.uint8).astype(int)
    own = json.loads((folder / "figures.json").read_text())
    alarms = (scores > own["threshold"]).astype(int)
    tsb = load_tsb_ad()
    metricor = tsb.basic_metricor()
    print(f"{len(scores)} rows, {labels.mean():.3%} anomalous")
    timed("f1", lambda: sklearn_metrics.f1_score(labels, alarms), own["f1"])
    timed("roc_auc", lambda: sklearn_metrics.roc_auc_score(labels, scores), own["roc_auc"])
    timed("average_precision", lambda: sklearn_metrics.average_precision_score(labels, scores), own["average_precision"])
    timed("f1_point_adjusted", lambda: metricor.metric_PointF1PA(labels, scores, preds=alarms), own["f1_point_adjusted"])
    timed("event_f1", lambda: metricor.metric_EventF1PA(labels, scores, preds=alarms), own["event_f1"])
    if with_volume:
        volume = []

        def vus_pr():
            volume.extend(tsb.generate_curve(labels, scores, WINDOW)[-2:])
            return volume[1]

        timed("vus_roc and vus_pr", vus_pr, own["vus_pr"])
        print(f"{'vus_roc':22} {'':15}   {volume[0]:.12f}   difference {abs(volume[0] - own['vus_roc']):.1e}")


if __name__ == "__main__":
    main(sys.argv[1], "--without-volume" not in sys.argv[2:])
