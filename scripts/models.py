#!/usr/bin/env python3
"""Holds the readers of foreign models against the libraries that write them.

    python scripts/models.py            # trains fresh models of every library and compares
    python scripts/models.py REFERENCE  # and a directory of reference models with expected answers
    python scripts/models.py --seeds    # writes small models as the corpus of the fuzzer of readers

Each library trains on three tables: columns of 0 and 1, header bits of -1, 0 and 1, and numbers
with missing values and zeros. The model file is read by ours, which scores rows that training never
saw (and missing values where training saw none), and every probability must be within 1e-6 of the
library's own.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import warnings

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOLERANCE = 1e-6
COLUMNS = 40
CLASSES = 5
# Rounds of boosting, trees of a forest, leaves of a tree, levels.
ROUNDS, TREES, LEAVES, LEVELS = 12, 20, 31, 8

warnings.filterwarnings("ignore")


def build():
    """The scorer, as cargo builds it."""
    command = [
        "cargo", "build", "--release", "--locked", "-p", "serveflow-model", "--example", "score",
    ]
    subprocess.run(command + ["--message-format=short"], cwd=ROOT, check=True)
    target = subprocess.run(
        ["cargo", "metadata", "--format-version=1", "--no-deps"], cwd=ROOT, check=True,
        capture_output=True,
    )
    return pathlib.Path(json.loads(target.stdout)["target_directory"]) / "release/examples/score"


def table(kind, rows, rng):
    """Columns of a kind, and labels that hang on some of them."""
    if kind == "bits":
        x = rng.integers(0, 2, (rows, COLUMNS)).astype(np.float32)
    elif kind == "ternary":
        x = rng.integers(-1, 2, (rows, COLUMNS)).astype(np.float32)
    else:
        x = rng.normal(0, 3, (rows, COLUMNS)).astype(np.float32)
        x[:, :10] = np.round(x[:, :10])
        x[rng.random(x.shape) < 0.1] = 0
        x[:, 30:] = np.abs(x[:, 30:]) * 1000
        x[:, 20:25][rng.random((rows, 5)) < 0.2] = np.nan
    weights = np.random.default_rng(7).normal(0, 1, (6, CLASSES))
    filled = np.nan_to_num(x, nan=-2)
    raw = filled[:, [0, 3, 11, 21, 23, 33]] / np.array(
        [1, 1, 1, 1, 1, 1 if kind != "numbers" else 1000]
    )
    raw = raw @ weights + (filled[:, 5] * filled[:, 6])[:, None] * weights[0]
    return x, (raw + rng.gumbel(0, 1, raw.shape)).argmax(axis=1)


def holes(x, rng):
    """The same rows, with missing values everywhere."""
    x = x.copy()
    x[rng.random(x.shape) < 0.15] = np.nan
    return x


def lightgbm_models(kind, x, y, folder):
    import lightgbm

    common = {
        "num_leaves": LEAVES, "verbose": -1, "num_threads": 1, "deterministic": True, "seed": 1,
        "min_data_in_leaf": 5,
    }
    cases = {
        "multiclass": {"objective": "multiclass", "num_class": CLASSES},
        "ova": {"objective": "multiclassova", "num_class": CLASSES, "sigmoid": 0.7},
        "binary": {"objective": "binary", "sigmoid": 1.3},
        "entropy": {"objective": "cross_entropy"},
        "rf": {
            "objective": "multiclass", "num_class": CLASSES, "boosting": "rf", "bagging_freq": 1,
            "bagging_fraction": 0.6,
        },
        "rf-binary": {
            "objective": "binary", "boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.6,
        },
        "dart": {"objective": "multiclass", "num_class": CLASSES, "boosting": "dart"},
        "zero": {"objective": "multiclass", "num_class": CLASSES, "zero_as_missing": True},
        "categories": {
            "objective": "multiclass", "num_class": CLASSES, "max_cat_to_onehot": 1,
            "min_data_per_group": 5, "cat_smooth": 1,
        },
        "one-hot": {"objective": "binary", "max_cat_to_onehot": 50, "min_data_per_group": 5},
    }
    for name, own in cases.items():
        target = y if own.get("num_class") else y % 2
        categories = list(range(10)) if name in ("categories", "one-hot") else "auto"
        own_x = np.abs(x) if name in ("categories", "one-hot") and kind == "numbers" else x
        data = lightgbm.Dataset(
            own_x, target, categorical_feature=categories,
            params={"zero_as_missing": own.get("zero_as_missing", False), "verbose": -1},
        )
        model = lightgbm.train({**common, **own}, data, num_boost_round=ROUNDS)
        text, dump = folder / f"lgb-{name}.txt", folder / f"lgb-{name}.json"
        model.save_model(text)
        dump.write_text(json.dumps(model.dump_model()))

        def answers(rows, model=model):
            found = model.predict(rows)
            return found if found.ndim == 2 else np.stack([1 - found, found], axis=1)

        yield f"lightgbm {name}", "lightgbm", text, answers
        yield f"lightgbm {name} json", "lightgbm-json", dump, answers


def xgboost_models(kind, x, y, folder):
    import scipy.sparse
    import xgboost

    common = {"max_depth": LEVELS - 2, "nthread": 1, "seed": 1, "learning_rate": 0.3}
    cases = {
        "softprob": {"objective": "multi:softprob", "num_class": CLASSES},
        "binary": {"objective": "binary:logistic"},
        "base": {"objective": "binary:logistic", "base_score": 0.2},
        "dart": {
            "objective": "multi:softprob", "num_class": CLASSES, "booster": "dart",
            "rate_drop": 0.3,
        },
        "forest": {
            "objective": "multi:softprob", "num_class": CLASSES, "num_parallel_tree": 4,
            "subsample": 0.6,
        },
        "lossguide": {
            "objective": "multi:softprob", "num_class": CLASSES, "grow_policy": "lossguide",
            "max_leaves": 20, "max_depth": 0, "tree_method": "hist",
        },
    }
    for name, own in cases.items():
        target = y if own.get("num_class") else y % 2
        model = xgboost.train(
            {**common, **own}, xgboost.DMatrix(x, target), num_boost_round=ROUNDS - 2
        )

        def answers(rows, model=model):
            found = model.predict(xgboost.DMatrix(rows))
            return found if found.ndim == 2 else np.stack([1 - found, found], axis=1)

        for suffix, form in ((".json", "xgboost"), (".ubj", "xgboost-ubj")):
            path = folder / f"xgb-{name}{suffix}"
            model.save_model(path)
            yield f"xgboost {name}{suffix}", form, path, answers
    # What was missing does not stand in the file, and zeros of a sparse matrix are.
    for name, value, sparse in (("zero", 0, False), ("minus one", -1, False), ("sparse", 0, True)):
        def matrix(rows, value=value, sparse=sparse):
            if not sparse:
                return xgboost.DMatrix(rows, missing=value)
            return xgboost.DMatrix(scipy.sparse.csr_matrix(rows))

        train = matrix(np.nan_to_num(x, nan=value))
        train.set_label(y)
        model = xgboost.train(
            {**common, "objective": "multi:softprob", "num_class": CLASSES}, train,
            num_boost_round=ROUNDS - 2,
        )
        path = folder / f"xgb-missing-{name.replace(' ', '-')}.json"
        model.save_model(path)

        def answers(rows, model=model, matrix=matrix, value=value):
            return model.predict(matrix(np.nan_to_num(rows, nan=value)))

        answers.missing = value
        yield f"xgboost missing {name}", "xgboost", path, answers
    early = xgboost.XGBClassifier(
        n_estimators=60, early_stopping_rounds=2, n_jobs=1, learning_rate=1.0
    )
    half = len(x) // 2
    early.fit(x[:half], y[:half], eval_set=[(x[half:], y[half:])], verbose=False)
    assert (
        early.best_iteration < len(early.get_booster().get_dump()) // early.n_classes_ - 1
    ), "it ran to its end"
    path = folder / "xgb-early.json"
    early.save_model(path)
    yield "xgboost stopped early", "xgboost", path, early.predict_proba


def sklearn_models(kind, x, y, folder):
    import skl2onnx
    from sklearn import ensemble, tree
    from skl2onnx.common.data_types import FloatTensorType

    names = np.array(["dns", "http", "quic", "ssh", "tls"])
    cases = {
        "tree": tree.DecisionTreeClassifier(max_depth=LEVELS, random_state=1),
        "forest": ensemble.RandomForestClassifier(TREES, max_depth=LEVELS, random_state=1),
        "extra": ensemble.ExtraTreesClassifier(TREES, max_depth=LEVELS, random_state=1),
        "gradient": ensemble.GradientBoostingClassifier(n_estimators=ROUNDS, random_state=1),
        "histogram": ensemble.HistGradientBoostingClassifier(max_iter=ROUNDS, random_state=1),
    }
    for name, model in cases.items():
        for ending, target in (("", names[y]), (" binary", y % 2)):
            if name in ("gradient", "extra", "forest", "tree") and np.isnan(x).any():
                fit_x = np.nan_to_num(x, nan=-2)
            else:
                fit_x = x
            model.fit(fit_x, target)
            options = {id(model): {"zipmap": False}} if name != "" else None
            onnx = skl2onnx.to_onnx(
                model, initial_types=[("X", FloatTensorType([None, COLUMNS]))], options=options
            )
            path = folder / f"sklearn-{name}{ending.strip()}.onnx"
            path.write_bytes(onnx.SerializeToString())

            def answers(rows, model=__import__("copy").deepcopy(model), filled=fit_x is not x):
                return model.predict_proba(np.nan_to_num(rows, nan=-2) if filled else rows)

            answers.filled = fit_x is not x
            yield f"scikit-learn {name}{ending}", "onnx", path, answers


def catboost_models(kind, x, y, folder):
    import catboost

    cases = {
        "multiclass": {"loss_function": "MultiClass"},
        "ova": {"loss_function": "MultiClassOneVsAll"},
        "logloss": {"loss_function": "Logloss"},
        "lossguide": {"loss_function": "MultiClass", "grow_policy": "Lossguide", "max_leaves": 20},
        "max": {"loss_function": "Logloss", "nan_mode": "Max"},
    }
    for name, own in cases.items():
        target = y if own["loss_function"].startswith("Multi") else y % 2
        model = catboost.CatBoostClassifier(
            iterations=ROUNDS, depth=LEVELS - 3, random_seed=1, thread_count=1, verbose=False,
            allow_writing_files=False, learning_rate=0.3, **own,
        )
        model.fit(x, target)
        path = folder / f"catboost-{name}.json"
        model.save_model(str(path), format="json")
        yield f"catboost {name}", "catboost", path, model.predict_proba


def scored(score, form, path, kind, rows, missing=None):
    command = [score, form, path, kind, str(rows.shape[1])] + (
        [] if missing is None else [str(missing)]
    )
    done = subprocess.run(
        command, input=np.ascontiguousarray(rows, "<f4").tobytes(), capture_output=True
    )
    if done.returncode:
        raise SystemExit(f"models.py: {path.name}: {done.stderr.decode()}")
    return np.frombuffer(done.stdout, "<f4").reshape(len(rows), -1)


def compare(score, name, form, path, kind, rows, answers):
    """The largest difference; prints it, and is false when it is too large."""
    missing = getattr(answers, "missing", None)
    found, expected = scored(score, form, path, kind, rows, missing), np.asarray(answers(rows))
    if found.shape != expected.shape:
        print(f"  {name:<34} {found.shape} answers instead of {expected.shape}")
        return False
    difference = np.abs(found - expected).max()
    print(f"  {name:<34} {difference:.1e}" + ("" if difference <= TOLERANCE else "   TOO LARGE"))
    return difference <= TOLERANCE


def fresh(score, folder):
    good = True
    for kind in ("bits", "ternary", "numbers"):
        print(f"columns of {kind}:")
        rng = np.random.default_rng(3)
        x, y = table(kind, 2000, rng)
        rows, _ = table(kind, 1000, rng)
        for makers in (lightgbm_models, xgboost_models, sklearn_models, catboost_models):
            for name, form, path, answers in makers(kind, x, y, folder):
                own = (
                    np.abs(rows)
                    if kind == "numbers"
                    and "categor" in name
                    or "one-hot" in name
                    and kind == "numbers"
                    else rows
                )
                if kind == "numbers" and getattr(answers, "filled", False):
                    own = np.nan_to_num(rows, nan=-2)
                good &= compare(score, name, form, path, kind, own, answers)
                if (
                    kind == "numbers"
                    and not getattr(answers, "filled", False)
                    and "catboost" not in name
                ):
                    good &= compare(
                        score, f"{name}, holes", form, path, kind, holes(own, rng), answers
                    )
    return good


def reference(score, folder, directory):
    """Models of a directory with rows and expected answers, all compressed by zstd."""
    import zstandard

    def read(name):
        with open(directory / f"{name}.zst", "rb") as file:
            return zstandard.ZstdDecompressor().stream_reader(file).read()

    print(f"reference models of {directory}:")
    files = {
        "lgb_small_1024.txt": "lightgbm", "lgb_small_10240.txt": "lightgbm",
        "lgb_large_1024.txt": "lightgbm", "xgb_small_1024.json": "xgboost",
        "xgb_small_10240.json": "xgboost", "xgb_small_1024.ubj": "xgboost-ubj",
        "dt_1024.tree.json": "sklearn-tree", "dt_10240.tree.json": "sklearn-tree",
        "dt_1024.onnx": "onnx", "rf_10240.onnx": "onnx", "lgb_small_1024.onnx": "onnx",
        "xgb_small_1024.onnx": "onnx",
    }
    good = True
    for file, form in files.items():
        name = file.split(".")[0]
        columns = int(name.rsplit("_", 1)[1])
        path = folder / file
        path.write_bytes(read(file))
        bits = np.frombuffer(read(f"test_X_{columns}.bits.bin"), np.uint8).reshape(-1, columns // 8)
        rows = np.unpackbits(bits, axis=1).astype(np.float32)
        expected = np.frombuffer(read(f"expected_{name}.f64.bin"), "<f8").reshape(len(rows), -1)
        good &= compare(score, file, form, path, "bits", rows, lambda _: expected)
    return good


FUZZED = ["lightgbm", "lightgbm-json", "xgboost", "xgboost-ubj", "catboost", "onnx", "sklearn-tree"]


def seeds(folder):
    """Small models of each library and format, behind a byte that says which."""
    global COLUMNS, CLASSES, ROUNDS, TREES, LEAVES, LEVELS
    COLUMNS, CLASSES, ROUNDS, TREES, LEAVES, LEVELS = 34, 3, 3, 2, 4, 4
    corpus = ROOT / "fuzz/corpus/import"
    corpus.mkdir(parents=True, exist_ok=True)
    x, y = table("numbers", 300, np.random.default_rng(3))
    for makers in (lightgbm_models, xgboost_models, sklearn_models, catboost_models):
        for name, form, path, _ in makers("numbers", x, y, folder):
            if len(path.read_bytes()) < 24_000:
                seed = bytes([FUZZED.index(form)]) + path.read_bytes()
                (corpus / name.replace(" ", "-").replace(".", "-")).write_bytes(seed)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("reference", nargs="?", type=pathlib.Path)
    parser.add_argument("--seeds", action="store_true")
    parser.add_argument("--score", type=pathlib.Path,
                        help="the example `score` of serveflow-model, instead of building it")
    args = parser.parse_args()
    if args.seeds:
        with tempfile.TemporaryDirectory() as folder:
            return seeds(pathlib.Path(folder))
    score = args.score or build()
    with tempfile.TemporaryDirectory() as folder:
        good = fresh(score, pathlib.Path(folder))
        if args.reference:
            good &= reference(score, pathlib.Path(folder), args.reference)
    if not good:
        sys.exit(f"models.py: a difference is larger than {TOLERANCE}")
    print("models.py: all within", TOLERANCE)


if __name__ == "__main__":
    main()
