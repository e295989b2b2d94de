"""Other people's libraries, which dropdiag does without until they are asked for."""

from __future__ import annotations

from dropdiag.errors import NotInstalledError


def missing(module: str, package: str, error: ImportError) -> NotInstalledError:
    """Return the error of a module whose library cannot be imported.

    Parameters
    ----------
    module : str
        Of dropdiag.
    package : str
        As pip knows it.
    error : ImportError
        What the import said: the library may be there, and lack one of its own.
    """
    return NotInstalledError(
        f"{module} needs {package}, which cannot be imported ({error}); install it with: pip install {package}"
    )
