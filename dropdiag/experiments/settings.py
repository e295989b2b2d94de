"""Settings of a run that go into its ``run.json`` and come out of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

S = TypeVar("S", bound="KeptSettings")


@dataclass(frozen=True)
class KeptSettings:
    """Base of the dataclasses that decide a run."""

    def config(self) -> dict[str, Any]:
        """Return the settings as a dict that JSON keeps as it is."""
        config: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return config

    @classmethod
    def from_config(cls: type[S], config: Mapping[str, Any]) -> S:
        """Return the settings that `config` was written from; what it does not know is ignored."""
        known = {f.name for f in fields(cls)}
        return cls(**{name: value for name, value in config.items() if name in known})
