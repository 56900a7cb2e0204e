"""How long other libraries take to score the reference models, beside `serveflow bench models`.

    python3 -m venv target/peers/venv
    target/peers/venv/bin/pip install --only-binary :all: -r scripts/peers/requirements.txt
    scripts/dist
    target/peers/venv/bin/python scripts/peers/models.py DIRECTORY

DIRECTORY is what `serveflow bench models` takes: models, test rows and expected scores, compressed
by zstd. Everything runs on one thread of one processor. In each round every engine is measured
once, so that what else the machine does meets all of them, and the table has medians over the
rounds. Other libraries get their rows as matrices of 32-bit floats that are ready in memory, and
processor time is taken; serveflow gets packed bits, and takes its own time off the wall. Where a
library has a C interface, it is called from C. It needs a C compiler.
"""

import argparse
import ctypes
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

import numpy  # noqa: E402
import zstandard  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
ROWS = 4096
CLASSES = 11
BATCHES = (1, 16, 64, 1024)
MODELS = (
    "dt_1024", "lgb_small_1024", "lgb_small_10240", "lgb_large_1024", "xgb_small_1024",
    "xgb_small_10240",
)


def unpack(directory, name):
    """A file of the directory."""
    return (
        zstandard.ZstdDecompressor().stream_reader((directory / f"{name}.zst").read_bytes()).read()
    )


def matrix(directory, columns):
    """The test rows as floats."""
    packed = numpy.frombuffer(unpack(directory, f"test_X_{columns}.bits.bin"), numpy.uint8)
    return numpy.unpackbits(packed.reshape(ROWS, columns // 8), axis=1).astype(numpy.float32)


def in_python(score, rows, seconds):
    """Measures a Python function that scores a batch of rows."""

    def measure(batch):
        batches = [rows[at : at + batch] for at in range(0, ROWS, batch)]
        score(batches[0])
        calls, begun = 0, time.process_time()
        while (spent := time.process_time() - begun) < seconds:
            for _ in range(max(1, 64 // batch)):
                score(batches[calls % len(batches)])
                calls += 1
        return spent / calls / batch * 1e6

    return measure


def in_c(run, seconds):
    """Measures a C loop: first few calls, and then as many as fill the time. The loop keeps its
    `memory`."""

    def measure(batch):
        calls = 4
        once = run(batch, calls) * batch * 1e-6
        return run(batch, max(calls, int(seconds / max(once, 1e-7))))

    return measure


def loops(work):
    """The loops that call C interfaces."""
    library = work / "loops.so"
    source = ROOT / "scripts/peers/loops.c"
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, source], check=True)
    library = ctypes.CDLL(str(library))
    for name in ("lightgbm_single", "lightgbm_matrix", "compiled"):
        getattr(library, name).restype = ctypes.c_double
    return library


def lightgbm(model, rows, work, seconds):
    """LightGBM's C interface: its fast single rows, and matrices."""
    import lightgbm.basic

    api, calls = lightgbm.basic._LIB, loops(work)
    booster, count = ctypes.c_void_p(), ctypes.c_int()
    path = str(model).encode()
    if api.LGBM_BoosterCreateFromModelfile(path, ctypes.byref(count), ctypes.byref(booster)):
        raise RuntimeError(api.LGBM_GetLastError())
    columns, prepared = ctypes.c_long(rows.shape[1]), ctypes.c_void_p()
    float32, normal = 0, 0
    api.LGBM_BoosterPredictForMatSingleRowFastInit(
        booster, normal, 0, -1, float32, int(columns.value), b"num_threads=1",
        ctypes.byref(prepared),
    )
    address = lambda function: ctypes.cast(function, ctypes.c_void_p)  # noqa: E731
    single, many = address(api.LGBM_BoosterPredictForMatSingleRowFast), address(
        api.LGBM_BoosterPredictForMat
    )
    out = numpy.zeros(1024 * CLASSES)
    data, result, long = (
        ctypes.c_void_p(rows.ctypes.data), ctypes.c_void_p(out.ctypes.data), ctypes.c_long,
    )

    def run(batch, times):
        if batch == 1:
            return calls.lightgbm_single(
                single, prepared, data, long(ROWS), columns, long(times), result
            )
        return calls.lightgbm_matrix(
            many, booster, data, long(ROWS), columns, long(batch), long(times), result
        )

    run.memory = rows, out
    return in_c(run, seconds)


def xgboost(model, rows, seconds):
    """XGBoost in place."""
    import xgboost

    booster = xgboost.Booster(model_file=str(model))
    booster.set_param({"nthread": 1})
    return in_python(booster.inplace_predict, rows, seconds)


def onnx(model, rows, seconds):
    """ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    name, out = session.get_inputs()[0].name, session.get_outputs()[-1].name
    return in_python(lambda batch: session.run([out], {name: batch}), rows, seconds)


def read_treelite(model):
    """A model as treelite reads it."""
    import treelite

    if "lgb" in model.name:
        return treelite.frontend.load_lightgbm_model(str(model))
    return treelite.frontend.load_xgboost_model(str(model))


def treelite(model, rows, seconds):
    """Treelite's own interpreter, which wants the model's kind of numbers."""
    import treelite

    loaded = read_treelite(model)
    rows = rows.astype(numpy.float64) if "lgb" in model.name else rows
    return in_python(lambda batch: treelite.gtil.predict(loaded, batch, nthread=1), rows, seconds)


def tl2cgen(model, rows, work, seconds):
    """C code that tl2cgen makes of the model, called from C."""
    import tl2cgen

    path, calls = work / f"{model.stem}.so", loops(work)
    tl2cgen.export_lib(
        read_treelite(model), toolchain="gcc", libpath=path, params={"parallel_comp": 8},
        options=["-O2"],
    )
    score = ctypes.cast(ctypes.CDLL(str(path)).predict, ctypes.c_void_p)
    entries = numpy.ascontiguousarray(rows, numpy.float64 if "lgb" in model.name else numpy.float32)
    out, long = numpy.zeros(CLASSES), ctypes.c_long
    data, result = ctypes.c_void_p(entries.ctypes.data), ctypes.c_void_p(out.ctypes.data)
    width = long(entries.strides[0])

    def run(batch, times):
        return calls.compiled(score, data, long(ROWS), width, long(times * batch), result)

    run.memory = entries, out
    return in_c(run, seconds)


def serveflow(program, directory, name, work, seconds):
    """This project, with a directory in which it finds but one model."""
    own = work / name
    own.mkdir()
    columns = name.rsplit("_", 1)[1]
    for path in directory.glob("*.zst"):
        expected = path.name.startswith(f"expected_{name}.")
        if expected or path.name.startswith((f"{name}.", f"test_X_{columns}.")):
            (own / path.name).symlink_to(path.resolve())

    def measure():
        figures = own / "figures.json"
        command = [
            program, "bench", "models", "--models", own, "--json", figures, "--seconds",
            str(seconds),
        ]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        [model] = json.loads(figures.read_text())
        return [part["ns_per_flow"] / 1e3 for part in model["batches"]]

    return measure


def engines(arguments, name, work):
    """The engines for a model, each as a function that measures all batch sizes."""
    directory, seconds = arguments.directory, arguments.seconds
    stem, columns = name, int(name.rsplit("_", 1)[1])
    rows = matrix(directory, columns)
    kinds = {
        ".txt": [("LightGBM, C interface", lambda m: lightgbm(m, rows, work, seconds))],
        ".onnx": [("ONNX Runtime", lambda m: onnx(m, rows, seconds))],
        ".json": [("XGBoost, in place", lambda m: xgboost(m, rows, seconds))],
        ".tree.json": [],
    }
    for kind in (".txt", ".json"):
        kinds[kind].append(("treelite", lambda m: treelite(m, rows, seconds)))
        if "small" in name:
            kinds[kind].append(("tl2cgen, C interface", lambda m: tl2cgen(m, rows, work, seconds)))
    yield "serveflow", serveflow(arguments.serveflow, directory, name, work, seconds)
    for kind, makers in kinds.items():
        if not (directory / f"{stem}{kind}.zst").exists():
            continue
        path = work / f"{stem}{kind}"
        path.write_bytes(unpack(directory, path.name))
        for label, make in makers:
            try:
                one = make(path)
                [one(batch) for batch in BATCHES[:1]]
            except Exception as error:  # A peer that does not run is named, and the others go on.
                print(f"{name}: {label} does not run: {error}", file=sys.stderr)
                continue
            yield label, (lambda one: lambda: [one(batch) for batch in BATCHES])(one)


def measure(arguments, name):
    """The table's rows for a model: medians over the rounds, and how many times serveflow's they
    are."""
    with tempfile.TemporaryDirectory() as work:
        all_engines = list(engines(arguments, name, Path(work)))
        figures = {label: [] for label, _ in all_engines}
        for _ in range(arguments.rounds):
            for label, one in all_engines:
                figures[label].append(one())
    medians = {
        label: [statistics.median(batch) for batch in zip(*rounds)]
        for label, rounds in figures.items()
    }
    own = medians["serveflow"]
    for label, times in medians.items():
        cells = [
            f"{t:.3f}" if label == "serveflow" else f"{t:.2f} ({t / o:.0f}x)"
            for t, o in zip(times, own)
        ]
        print(f"| {name} | {label} | {' | '.join(cells)} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path, help="reference models")
    parser.add_argument("--serveflow", default=ROOT / "target/dist/serveflow", help="the program")
    parser.add_argument("--models", default=",".join(MODELS), help="which, with commas between")
    parser.add_argument("--rounds", type=int, default=5, help="times that each engine is measured")
    parser.add_argument(
        "--seconds", type=float, default=0.2, help="for an engine and a batch size in a round"
    )
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    heads = [f"batch {batch}" for batch in BATCHES]
    print(f"| model | engine | {' | '.join(heads)} |\n|---|---|{'--:|' * len(BATCHES)}")
    for name in arguments.models.split(","):
        measure(arguments, name)


if __name__ == "__main__":
    main()
