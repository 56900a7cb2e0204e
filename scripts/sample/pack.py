#!/usr/bin/env python3
"""Packs the part of a task that the program carries: bundle, test captures and their labels.

    pack.py [TASK_DIR] [ARCHIVE]    # data/app_protocol, and the program's archive of it

The same inputs give the same archive. A test of the program compares the archive with the task, so
run this after a change of the task's bundle, test captures, labels or licence. To look into the
archive: `tar --zstd -tvf crates/serveflow/src/sample/app_protocol.tar.zst`.

Needs the package `zstandard`.
"""

import io
import pathlib
import sys
import tarfile

import zstandard

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
LEVEL = 22


def contents(task):
    """Name and bytes of each file, in the order of the names."""
    kept = [task / "LICENSE-UPSTREAM"]
    kept += [path for folder in ("bundle", "test") for path in (task / folder).rglob("*")]
    files = {str(path.relative_to(task)): path.read_bytes() for path in kept if path.is_file()}
    head, *rows = (task / "labels.csv").read_bytes().splitlines(keepends=True)
    is_test = [row for row in rows if row.split(b",")[1] == b"test"]
    files["labels.csv"] = b"".join([head, *is_test])
    return sorted(files.items())


def archive(files):
    """A plain tar archive without owners, times and other traces of a machine."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in files:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def main():
    if len(sys.argv) > 3:
        sys.exit(__doc__)
    task, target = (*sys.argv[1:], None, None)[:2]
    task = pathlib.Path(task or ROOT / "data/app_protocol")
    target = pathlib.Path(target or ROOT / "crates/serveflow/src/sample/app_protocol.tar.zst")
    packed = zstandard.ZstdCompressor(level=LEVEL).compress(archive(contents(task)))
    target.write_bytes(packed)
    print(f"{target}: {len(packed)} bytes")


if __name__ == "__main__":
    main()
