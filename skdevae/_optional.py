"""Optional libraries: imported only where they are needed, from the extras that ``pyproject.toml`` declares."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType


def import_optional(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import a module that only an optional extra installs.

    Parameters
    ----------
    module : str
        Full name of the module, such as "matplotlib.pyplot".

    extra : str
        The extra of this package that installs it.

    purpose : str
        Beginning of the error: what needs the library, and how to do without it, if that is possible. It has no final
        full stop, as in "LatentDisplay draws with matplotlib".

    Returns
    -------
    imported : module
        The module.

    Raises
    ------
    ImportError
        If the module cannot be imported. The message names the extra to install, and the reason where the module is
        there but fails to load.
    """
    try:
        return import_module(module)
    except ImportError as error:
        advice = f'{purpose}: pip install "skdevae[{extra}]".'
        is_missing = isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}.")
        raise ImportError(advice if is_missing else f"{advice} (Importing {module} failed: {error})") from error
