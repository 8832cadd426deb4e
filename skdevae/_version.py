"""Version of the installed package, as its metadata has it: pyproject.toml is the only place where it is written."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("skdevae")
except PackageNotFoundError:  # a source tree that has not been installed
    __version__ = "0+unknown"
