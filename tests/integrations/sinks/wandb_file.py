"""The records of a W&B file of an offline run, as the log format of LevelDB has them, read by W&B's own protocol."""

from __future__ import annotations

import json
import struct
from pathlib import Path

BLOCK, HEAD, MAGIC = 32_768, 7, 7
FULL, LAST = 1, 4


def records(path: Path):
    from wandb.proto import wandb_internal_pb2

    data, at, whole = path.read_bytes(), MAGIC, b""
    while at + HEAD <= len(data):
        left = BLOCK - at % BLOCK
        if left < HEAD:  # too short for another head: padding
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + HEAD])
        whole += data[at + HEAD : at + HEAD + length]
        at += HEAD + length
        if kind in (FULL, LAST):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(whole)
            whole = b""
            yield record


def history(path: Path):
    """The rows of a run's history: name -> value; of a histogram the dict of its parts."""
    for record in records(path):
        if record.HasField("history"):
            row = {}
            for item in record.history.item:
                keys = list(item.nested_key) or [item.key]
                name, _, part = (
                    keys[0].rpartition("/") if keys[0].endswith(("/bins", "/values", "/_type")) else (keys[0], "", "")
                )
                part = part or (keys[1] if len(keys) > 1 else "")
                value = json.loads(item.value_json)
                if part:
                    row.setdefault(name, {})[part] = value
                else:
                    row[name] = value
            yield row


def files(folder: Path):
    """The files of the offline runs below a folder, in the order in which they were made; all runs are over."""
    import wandb

    wandb.teardown()  # finish() may come back before the last record is in the file
    return sorted(folder.glob("wandb/offline-run-*/*.wandb"), key=lambda path: path.parent.stat().st_mtime_ns)
