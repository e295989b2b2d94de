"""Which dimension counts nodes, site by site: followed from the layer before, given by the user, or by rule."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from dataclasses import replace

from dropdiag.errors import ArgumentError
from dropdiag.functional.producers import Trail
from dropdiag.model.order import Place
from dropdiag.model.sites import ACTIVATION, OUTPUT, Site
from dropdiag.probes.base import SiteInfo

BY_HAND = "by node_axis="


class NodeAxes:
    """What is known of the dimension that counts nodes.

    Where functions are intercepted it is followed in every pass. It is learned as well, for the passes of most models
    in which nothing is intercepted.

    Parameters
    ----------
    given : mapping
        Pattern of a site's name -> dimension: the Recorder's ``node_axis=``.

    Attributes
    ----------
    learned : dict
        (layer, call) -> the site with its dimension, and the number of dimensions of its tensor.
    varies : bool
        Whether a call of a site has had different ones: what was learned is then of no use.
    """

    def __init__(self, given: Mapping[str, int]) -> None:
        self._given = dict(given)
        self._unmatched = set(given)
        self.learned: dict[Place, tuple[SiteInfo, int]] = {}
        self.varies = False
        self._located: dict[tuple[str, Trail], SiteInfo] = {}

    def given(self, site: Site, *names: str) -> Site:
        """Return a site with the dimension that the user gives for one of its names, if there is one."""
        for pattern, dim in self._given.items():
            if any(fnmatch.fnmatchcase(name, pattern) for name in (site.layer, *site.aliases, *names)):
                self._unmatched.discard(pattern)
                return replace(site, node_dims=(dim,), after=BY_HAND)
        return site

    @property
    def unmatched(self) -> list[str]:
        """Patterns that have matched no site so far."""
        return sorted(self._unmatched)

    def check(self, sites: Iterable[Site]) -> None:
        """Raise `ArgumentError` where a pattern matches no site (functional calls, ``*:*``, are found later)."""
        names = [n for s in sites if s.kind in (ACTIVATION, OUTPUT) for n in (s.layer, *s.aliases)]
        for pattern in self._given:
            if ":" not in pattern and not fnmatch.filter(names, pattern):
                raise ArgumentError(
                    f"node_axis= has the pattern {pattern!r}, which matches no activation; they are "
                    f"{', '.join(names) or 'functions alone'}, and calls of functions as in 'conv1:relu'"
                )

    def located(self, info: SiteInfo, trail: Trail | None) -> SiteInfo:
        """Return a site with the dimension that counts nodes in a tensor, of which this is known."""
        if trail is None or trail.dims is None or info.site.after is not None:
            return info
        key = info.site.layer, trail
        if key not in self._located:
            layer = "layers that agree" if trail.layer is None else trail.layer.inside
            site = replace(info.site, node_dims=trail.dims, after=f"after {layer}")
            self._located[key] = SiteInfo(site, info.activation)
        return self._located[key]

    def learn(self, info: SiteInfo, call: int, ndim: int) -> None:
        """Keep what a pass has shown for passes in which nothing is followed."""
        place = info.site.layer, call
        before = self.learned.get(place)
        if before is None or before[0] is not info:
            self.learned[place] = info, ndim
            if before is not None and before[0].site.node_dims != info.site.node_dims:
                self.varies = True

    def words(self, site: Site, call: int) -> str | None:
        """Return which dimension counts nodes at a site and why; None where it was never seen."""
        known = self.learned.get((site.layer, call))
        return None if known is None else known[0].site.nodes(known[1])
