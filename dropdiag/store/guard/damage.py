"""What makes a segment one that is left out."""

from __future__ import annotations

from dropdiag.errors import RunError


class SegmentError(RunError):
    """A segment is not as dropdiag writes it; the message says what is wrong, and is put behind its path."""
