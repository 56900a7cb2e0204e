#!/usr/bin/env python3
"""Checks what a program without optional features says of configurations that need them.

    python scripts/features.py [PROGRAM]    # target/release/serveflow

All other tests build all features at once, to compile the code a single time. So this checks the
default program from outside: `serveflow check` must end with exit code 1 and name the key and the
missing feature.
"""

import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUNDLE = ROOT / "data/app_protocol/bundle"
# Feature, configuration, key that the sentence begins with.
CASES = [
    ("ort", '[models]\nonnxruntime = "no/such.so"\n', "models.onnxruntime"),
    ("remote", '[remote]\nendpoints = ["grpc://127.0.0.1:1"]\n', "remote"),
    ("xdp", '[live]\ninterfaces = ["lo"]\nsource = "xdp"\n', "live.source"),
]


def wrong(program, work, feature, text, key):
    """What is wrong with the answer, if anything."""
    config = work / f"{feature}.toml"
    config.write_text(text)
    command = [program, "check", "--config", config, "--bundle", BUNDLE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    said = done.stdout + done.stderr
    if done.returncode != 1 or key not in said or f"feature `{feature}`" not in said:
        return (f"{feature}: expected exit code 1, `{key}` and `feature `{feature}``, "
                f"found {done.returncode} and {said.strip()!r}")
    print(f"  {feature}: {said.strip().splitlines()[-1]}")
    return None


def main():
    program = pathlib.Path(sys.argv[1] if sys.argv[1:] else ROOT / "target/release/serveflow")
    if not program.is_file():
        sys.exit(f"scripts/features.py: expected a program at {program}, found none")
    with tempfile.TemporaryDirectory() as work:
        found = [wrong(program.resolve(), pathlib.Path(work), *case) for case in CASES]
    failed = [sentence for sentence in found if sentence]
    for sentence in failed:
        print(f"FAILED {sentence}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
