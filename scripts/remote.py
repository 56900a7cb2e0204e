#!/usr/bin/env python3
"""Holds remote stages against MLServer: right answers, and no flow lost while servers come and go.

    python scripts/remote.py

Two MLServers on loopback serve a small model (remote_model.py). The bundle of data/app_protocol
gets it as its last stage. Then four things must hold:

1. Answers. Over gRPC and over HTTP, each verdict of the remote stage is what numpy says of the row
   that `serveflow features` writes, within 1e-5, and no flow is shed.
2. Speed, told and not judged: flows a second through a batch of 64.
3. Loss of a server. While a long run goes on, the first server is killed and started again, then
   the second is killed: every flow has exactly one verdict, and none is shed.
4. Loss of all. Both are killed in the middle of a run: every flow has exactly one verdict, those
   that the remote stage could not be asked about keep the answer of an earlier stage, and the run
   ends in time.
"""

import argparse
import collections
import csv
import hashlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

import numpy as np
import pyarrow.parquet

import remote_model

ROOT = pathlib.Path(__file__).resolve().parent.parent
TASK = ROOT / "data/app_protocol"
STAGE = "boosted@10"
KEYS = [
    "src", "src_port", "dst", "dst_port", "proto", "first_ts", "packets", "vlan", "file", "label",
    "split",
]
TOLERANCE = 1e-5
# Of a run that goes on while servers are killed; four things happen in it.
LONG_S = 20


def fail(why):
    sys.exit(f"scripts/remote.py: {why}")


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


class Server:
    """An MLServer process that can be killed and started again."""

    def __init__(self, work, name):
        self.dir = work / name
        self.dir.mkdir()
        self.http, self.grpc = free_ports(2)
        settings = {
            "host": "127.0.0.1", "http_port": self.http, "grpc_port": self.grpc,
            "metrics_endpoint": None, "parallel_workers": 0, "debug": False,
        }
        (self.dir / "settings.json").write_text(json.dumps(settings))
        model = {"name": "linear", "implementation": "remote_model.Linear"}
        (self.dir / "model-settings.json").write_text(json.dumps(model))
        self.process = None

    def start(self):
        environment = {
            **os.environ, "PYTHONPATH": str(ROOT / "scripts"), "MLSERVER_HTTP_PORT": str(self.http),
            "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
        }
        main = (
            "import sys; from mlserver.cli import main; sys.argv = ['mlserver', 'start', '.'];"
            " main()"
        )
        log = open(self.dir / "log", "a")
        # A group of its own, so that whatever it starts ends with it.
        self.process = subprocess.Popen(
            [sys.executable, "-c", main], cwd=self.dir, env=environment, stdout=log, stderr=log,
            start_new_session=True,
        )

    def wait(self):
        """Waits until the model is ready."""
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(
                    f"http://127.0.0.1:{self.http}/v2/models/linear/ready", timeout=5
                ).close()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    fail(f"MLServer does not start:\n{(self.dir / 'log').read_text()[-3000:]}")
                time.sleep(0.1)

    def kill(self):
        if self.process is not None:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.process.wait()
            self.process = None


def make_bundle(work):
    """The sample's bundle with a remote last stage."""
    bundle = work / "bundle"
    (bundle / "models").mkdir(parents=True)
    for model in ["tree_1.json", "boosted_1.json"]:
        shutil.copy(TASK / "bundle/models" / model, bundle / "models")
    plan = (TASK / "bundle/plan.toml").read_text()
    local = 'file = "models/boosted_10.json"\nformat = "forest"\nkind = "gradient-boosted trees"'
    if plan.count(local) != 1:
        fail("the plan of the sample has another last stage than expected")
    plan = plan.replace(local, 'file = "models/linear.toml"\nformat = "remote"\nkind = "linear"')
    head, tail = plan.rsplit('lane = "inline"', 1)
    (bundle / "plan.toml").write_text(f'{head}lane = "thread"{tail}')
    spec = (
        'model = "linear"\ninput = "X"\noutput = "probabilities"\nclasses ='
        f' {remote_model.CLASSES}\nmax_rows = 64\n'
    )
    (bundle / "models/linear.toml").write_text(spec)
    files = sorted(path for path in bundle.rglob("*") if path.is_file())
    sums = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(bundle)}\n"
        for path in files
    ]
    (bundle / "SHA256SUMS").write_text("".join(sums))
    return bundle


class Runs:
    """Runs of the command line with the bundle."""

    def __init__(self, tool, work):
        self.tool = tool
        self.work, self.bundle, self.count = work, make_bundle(work), 0
        with open(TASK / "labels.csv", newline="") as file:
            self.captures = sorted({str(TASK / row["file"]) for row in csv.DictReader(file)})

    def start(self, endpoints, passes=1, timeout_ms=10000):
        """Starts a run over the captures, so many times one after the other."""
        self.count += 1
        base = self.work / f"run{self.count}"
        base.with_suffix(".toml").write_text(
            f"[remote]\nendpoints = {json.dumps(endpoints)}\ntimeout_ms = {timeout_ms}\nhealth_ms ="
            " 200\n[limits]\nbatch_rows = 64\nworkers = 1\n"
        )
        # A capture that is named twice is read once, so each pass has copies, and its own tables.
        captures, tables = self.captures, ["--per-capture"] if passes > 1 else []
        for at in range(1, passes):
            copies = self.work / f"copies{at}"
            copies.mkdir(exist_ok=True)
            captures = captures + [
                shutil.copy(path, copies / f"{number:03}-{pathlib.Path(path).name}")
                for number, path in enumerate(self.captures)
            ]
        command = [
            self.tool, "run", *captures, *tables, "--bundle", self.bundle, "--format", "csv",
            "--out", base.with_suffix(".csv"), "--config", base.with_suffix(".toml"),
        ]
        log = open(base.with_suffix(".log"), "w")
        process = subprocess.Popen(command, stdout=log, stderr=log)
        process.base, process.started = base, time.monotonic()
        return process

    def finish(self, run, within_s, expected_code=0):
        """Waits for a run; its verdicts, each of another flow, and how long it took."""
        try:
            code = run.wait(within_s)
        except subprocess.TimeoutExpired:
            run.kill()
            fail(f"a run did not end within {within_s} s")
        took = time.monotonic() - run.started
        told = run.base.with_suffix(".log").read_text()
        if code != expected_code:
            fail(f"a run ended with {code}, expected {expected_code}:\n{told}")
        with open(run.base.with_suffix(".csv"), newline="") as file:
            verdicts = list(csv.DictReader(file))
        flows = {verdict["flow"] for verdict in verdicts}
        if (
            len(flows) != len(verdicts)
            or f"{len(flows)} seen = {len(flows)} verdicts + 0 collecting" not in told
        ):
            fail(f"{len(verdicts)} verdicts of {len(flows)} flows:\n{told}")
        run.base.with_suffix(".csv").unlink()
        return verdicts, took, told


def shed(verdicts):
    return sum(verdict["reason"] in ("shed", "failed") for verdict in verdicts)


def expected(runs):
    """What numpy says of each flow, in the order of the flows, and the flows' keys."""
    table = runs.work / "rows.parquet"
    subprocess.run(
        [
            runs.tool, "-q", "features", *runs.captures, "--packets", "10", "--format", "parquet",
            "--out", table,
        ],
        check=True,
    )
    table = pyarrow.parquet.read_table(table)
    names = [name for name in table.column_names if name not in KEYS]
    x = np.stack([table[name].to_numpy() for name in names], 1).astype(np.float32)
    keys = list(
        zip(
            *(
                map(str, table[name].to_pylist())
                for name in ["src", "src_port", "dst", "dst_port", "packets"]
            )
        )
    )
    return remote_model.probabilities(x), keys, len(names)


def answers(runs, endpoints, truth):
    """Checks 1 and 2."""
    scores, keys, columns = truth
    labels = [
        line
        for line in (runs.bundle / "plan.toml").read_text().splitlines()
        if line.startswith("labels = ")
    ]
    labels = json.loads(labels[0].removeprefix("labels = "))
    verdicts, took, told = runs.finish(runs.start(endpoints), 300)
    verdicts.sort(key=lambda verdict: int(verdict["flow"]))
    if shed(verdicts) or len(verdicts) != len(keys):
        fail(f"{shed(verdicts)} of {len(verdicts)} flows shed, {len(keys)} rows:\n{told}")
    worst, count = 0.0, 0
    for verdict, row, key in zip(verdicts, scores, keys):
        if verdict["stage"] != STAGE:
            continue
        if (
            tuple(verdict[name] for name in ["src", "src_port", "dst", "dst_port", "packets"])
            != key
        ):
            fail(f"verdict {verdict} and row {key} are of different flows")
        wrong = max(
            row.max() - row[labels.index(verdict["label"])],
            abs(row.max() - float(verdict["confidence"])),
        )
        worst, count = max(worst, wrong), count + 1
    latencies = [
        float(verdict["compute_us"]) / 1000 for verdict in verdicts if verdict["stage"] == STAGE
    ]
    print(
        f"  {endpoints[0].split(':')[0]}: {count} verdicts of {columns} columns differ by at most"
        f" {worst:.1e}; {count / took:.0f} flows/s, from asking to answer"
        f" {np.median(latencies):.0f} ms (median)"
    )
    met = {verdict["label"] for verdict in verdicts if verdict["stage"] == STAGE}
    if worst > TOLERANCE or count < 1000 or len(met) < 3:
        fail(f"{count} verdicts of the labels {met} differ by up to {worst}")
    return took


def happen(run, what, seconds):
    """Some time later the run still goes on."""
    time.sleep(seconds)
    if run.poll() is not None:
        fail(f"the run was over before {what}; make it longer")
    print(f"  {time.monotonic() - run.started:5.1f} s: {what}")


def one_lost(runs, servers, endpoints, pass_s):
    """Check 3."""
    first, second = servers
    passes = max(3, int(LONG_S / pass_s) + 1)
    run = runs.start(endpoints, passes)
    try:
        happen(run, "the first server is killed", 3)
        first.kill()
        happen(run, "and started again", 2)
        first.start()
        first.wait()
        happen(run, "the second server is killed", 1)
        second.kill()
        verdicts, took, told = runs.finish(run, 600)
    finally:
        run.kill()
    stages = collections.Counter(verdict["stage"] for verdict in verdicts)
    print(
        f"  {took:5.1f} s: the run is over: {len(verdicts)} verdicts, {stages[STAGE]} of the remote"
        " stage"
    )
    print(
        "".join(f"  {line}\n" for line in told.splitlines() if line.startswith("remote:")), end=""
    )
    if shed(verdicts):
        fail(f"{shed(verdicts)} flows were shed:\n{told}")
    second.start()
    second.wait()


def all_lost(runs, servers, endpoints, pass_s):
    """Check 4."""
    run = runs.start(endpoints, max(3, int(LONG_S / pass_s) + 1), timeout_ms=2000)
    try:
        happen(run, "both servers are killed", 2)
        for server in servers:
            server.kill()
        # All that is left goes to nobody: a timeout, and as long as reading takes.
        # Answers of models were lost, which is exit code 4.
        verdicts, took, told = runs.finish(run, 60, 4)
    finally:
        run.kill()
    stages = collections.Counter(verdict["stage"] for verdict in verdicts)
    print(
        f"  {took:5.1f} s: the run is over: {len(verdicts)} verdicts, {stages[STAGE]} of the remote"
        f" stage, {shed(verdicts)} keep an earlier answer"
    )
    early = [verdict for verdict in verdicts if verdict["reason"] in ("shed", "failed")]
    if not early or any(verdict["stage"] == STAGE or not verdict["label"] for verdict in early):
        fail(f"{len(early)} flows keep an earlier answer, and some have none:\n{told}")


def build():
    command = ["cargo", "build", "-q", "--locked", "-p", "serveflow", "--features", "remote"]
    subprocess.run(command, cwd=ROOT, check=True)
    return pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug/serveflow"


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--serveflow", type=pathlib.Path,
                        help="a program with the feature `remote`, instead of building it")
    args = parser.parse_args()
    tool = args.serveflow.resolve() if args.serveflow else build()
    # What was started ends with this, however it ends.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("scripts/remote.py: told to stop"))
    with tempfile.TemporaryDirectory(prefix="serveflow-remote-") as work:
        work = pathlib.Path(work)
        servers = [Server(work, name) for name in ["first", "second"]]
        try:
            for server in servers:
                server.start()
            runs = Runs(tool, work)
            truth = expected(runs)
            for server in servers:
                server.wait()
            grpc = [f"grpc://127.0.0.1:{server.grpc}" for server in servers]
            http = [f"http://127.0.0.1:{server.http}" for server in servers]
            answers(runs, http, truth)
            pass_s = answers(runs, grpc, truth)
            one_lost(runs, servers, grpc, pass_s)
            all_lost(runs, servers, [grpc[0], http[1]], pass_s)
        finally:
            for server in servers:
                server.kill()
    print("scripts/remote.py: all passed")


if __name__ == "__main__":
    main()
