"""Where files of runs lie: on a disk, or in an object store that fsspec speaks to (``s3://``, ``gs://``, ``memory://``).

A path is a `pathlib.Path` on a disk and a `upath.UPath` elsewhere, which has the same interface; `places.as_path` makes
both. What differs between the two is behind `protocol.Storage`, and `chosen.storage_of` gives that of a path.
"""
