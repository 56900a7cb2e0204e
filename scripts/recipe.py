#!/usr/bin/env python3
"""Goes the way of examples/README.md: from captures to a table, to a model in Python, to a bundle,
to figures.

    python scripts/recipe.py PYTHON-WITH-TORCH [--keep DIR]

For LightGBM, XGBoost, scikit-learn and a CNN of PyTorch it must hold that

1. `serveflow evaluate` finds on the test flows the accuracy and the macro-F1 that Python finds with
the same model on the table: the columns that are served are those that were trained on. 2. The CNN
goes behind the shipped bundle's fast stages, and joins the candidates of the planner. 3. A model
whose columns are not the stage's is refused with a sentence that names the column. 4. Each import
holds to the library's own probabilities (`--expect`), and one in another order of classes does not.
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples/python"
TASK = ROOT / "data/app_protocol"
LABELLED = ["--captures", TASK, "--labels", TASK / "labels.csv"]
sys.path.insert(0, str(EXAMPLES))

from table import Table, macro_f1  # noqa: E402


def run(*words, fails=False):
    """What a command says; it must succeed, or fail."""
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    if (done.returncode != 0) != fails:
        sys.exit(
            f"recipe.py: {' '.join(map(str, words))}: exit code"
            f" {done.returncode}\n{done.stdout}{done.stderr}"
        )
    return done.stdout + done.stderr


def build():
    run(
        "cargo", "build", "-q", "--release", "--locked", "-p", "serveflow", "--manifest-path",
        ROOT / "Cargo.toml",
    )
    target = json.loads(
        run(
            "cargo", "metadata", "--format-version=1", "--no-deps", "--manifest-path",
            ROOT / "Cargo.toml",
        )
    )
    return pathlib.Path(target["target_directory"]) / "release/serveflow"


def answers(name, model, x, labels):
    """Class numbers that Python finds with the model."""
    if name == "lightgbm":
        import lightgbm

        return lightgbm.Booster(model_file=model).predict(x).argmax(axis=1)
    if name == "xgboost":
        import xgboost

        booster = xgboost.Booster(model_file=model)
        names = booster.feature_names
        # Of a model that was stopped early, the best trees count.
        best = (0, booster.best_iteration + 1)
        return booster.predict(
            xgboost.DMatrix(x, feature_names=names), iteration_range=best
        ).argmax(axis=1)
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    found = session.run(None, {"X": x})
    if name == "sklearn":
        return np.array([labels.index(label) for label in found[0]])
    return found[-1].argmax(axis=1)


def evaluated(serveflow, bundle, work):
    out = work / "evaluation.json"
    run(serveflow, "evaluate", "-q", "--bundle", bundle, *LABELLED, "--json", out)
    return json.loads(out.read_text())


def one(serveflow, name, python, ending, table, work):
    """Trains a model, makes a bundle of it, and holds its figures to Python's."""
    model, bundle = work / f"{name}.{ending}", work / f"bundle-{name}"
    expected = work / f"{name}.expected.parquet"
    run(python, EXAMPLES / f"train_{name}.py", table, model, expected)
    add = [
        "bundle", "add", bundle, "--stage", f"{name}@10", "--model", model, "--packets", 10,
        "--expect", expected, *LABELLED,
    ]
    rows = Table(table)
    labels = list(rows.labels)
    if name == "sklearn":
        # A forest of scikit-learn has the classes of its training flows alone.
        labels = [labels[at] for at in sorted(set(rows.of("train")[1]))]
    turned = ",".join(reversed(labels))
    said = run(serveflow, *add, "--classes", turned, "--accept", fails=True)
    if "exceeds --tolerance" not in said:
        sys.exit(
            f"recipe.py: {name}: expected a refusal of other classes by --expect, found {said}"
        )
    said = run(serveflow, *add)
    print("  " + next(line for line in said.splitlines() if line.startswith("compared with")))
    run(serveflow, "bundle", "check", bundle)
    told = evaluated(serveflow, bundle, work)
    data = Table(table)
    x, y = data.of("test")
    found = answers(name, str(model), x, data.labels)
    accuracy, f1 = float((found == y).mean()), macro_f1(y, found, len(data.labels))
    print(
        f"  {name:<10} accuracy {told['accuracy']:.4f} (Python {accuracy:.4f}), macro-F1"
        f" {told['macro_f1']:.4f} (Python {f1:.4f})"
    )
    if abs(told["accuracy"] - accuracy) > 1e-9 or abs(told["macro_f1"] - f1) > 1e-9:
        sys.exit(f"recipe.py: {name}: the figures differ")
    return model, bundle


def cascade(serveflow, cnn, work):
    """The CNN behind the shipped fast stages."""
    bundle = work / "bundle-cascade"
    shutil.copytree(TASK / "bundle", bundle)
    run(
        serveflow, "bundle", "add", bundle, "--stage", "cnn@10", "--model", cnn, "--packets", 10,
        *LABELLED,
    )
    told = evaluated(serveflow, bundle, work)
    last = told["stages"][-1]
    print(f"  shipped stages, then cnn@10: macro-F1 {told['macro_f1']:.4f}, the CNN alone "
          f"{told['slow_only']['macro_f1']:.4f}; it decides {last['share']:.1%} of the flows")
    if last["name"] != "cnn@10" or len(told["stages"]) < 2:
        sys.exit("recipe.py: the CNN is not the last of several stages")


def pool(serveflow, bundle, work):
    """The CNN among the candidates of the planner."""
    out = work / "planned"
    run(serveflow, "train", "-q", *LABELLED, "--out", out, "--external-bundle", bundle,
        "--depths", "1,10", "--rounds", 15, "--no-audit")
    report = json.loads((out / "report.json").read_text())
    own = [candidate for candidate in report["singles"] if candidate["name"] == "cnn@10"]
    if len(own) != 1:
        sys.exit("recipe.py: the CNN is no candidate")
    names = report["chosen"]["stages"]
    print(f"  planned with the CNN among {len(report['singles'])} candidates: {' > '.join(names)}")
    run(serveflow, "bundle", "check", out)


def refused(serveflow, model, work):
    """A model whose columns are others."""
    names = Table(work / "table.parquet").names
    names[7] = "ipv4_teapot"
    (work / "columns.txt").write_text("\n".join(names))
    said = run(
        serveflow, "bundle", "add", work / "none", "--stage", "x", "--model", model, "--packets",
        10, "--columns", work / "columns.txt", *LABELLED, fails=True,
    )
    if "ipv4_teapot" not in said or (work / "none").exists():
        sys.exit(f"recipe.py: expected a refusal that names the column, found {said}")
    said = run(
        serveflow, "bundle", "add", work / "none", "--stage", "x", "--model", model, "--packets", 9,
        *LABELLED, fails=True,
    )
    if "takes" not in said and "none of the stage's features" not in said:
        sys.exit(f"recipe.py: expected a refusal of too many columns, found {said}")
    print("  models of other columns are refused: " + said.strip().splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("torch", help="a Python that has torch")
    parser.add_argument("--keep", type=pathlib.Path, help="leave all files here")
    parser.add_argument("--serveflow", type=pathlib.Path,
                        help="the program, instead of building it")
    args = parser.parse_args()
    serveflow = args.serveflow.resolve() if args.serveflow else build()
    with tempfile.TemporaryDirectory() as scratch:
        work = args.keep or pathlib.Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        table = work / "table.parquet"
        run(
            serveflow, "features", "-q", "--overwrite", "--packets", 10, "--labels",
            TASK / "labels.csv", "--out", table, TASK,
        )
        made = {}
        for name, python, ending in (
            ("lightgbm", sys.executable, "txt"), ("xgboost", sys.executable, "ubj"),
            ("sklearn", sys.executable, "onnx"), ("cnn", args.torch, "onnx"),
        ):
            made[name] = one(serveflow, name, python, ending, table, work)
        cascade(serveflow, made["cnn"][0], work)
        pool(serveflow, made["cnn"][1], work)
        refused(serveflow, made["lightgbm"][0], work)
    print("recipe.py: all as the examples say")


if __name__ == "__main__":
    main()
