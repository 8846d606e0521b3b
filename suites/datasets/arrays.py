"""NumPy, TIFF and HDF5 files, read so that what is broken is said in a sentence.

It must know nothing of data sets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import tifffile

from models.errors import UserError
from suites.datasets.lzw import needs_lzw, read_lzw

_AGAIN = "fetch it again, or replace it"


def read_npy(path: Path) -> npt.NDArray[Any]:
    """The array of a ``.npy`` file; a pickled one is not opened. `UserError` naming the file."""
    try:
        found: npt.NDArray[Any] = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise UserError(f"{path} is missing; {_AGAIN}.") from None
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path} is not a readable NumPy array ({error}); {_AGAIN}.") from None
    return found


def read_tiff(path: Path) -> npt.NDArray[Any]:
    """The image of a TIFF, axes as stored. `UserError` naming the file."""
    try:
        return _first_that_can(path, tifffile.imread)
    except FileNotFoundError:
        raise UserError(f"{path} is missing; {_AGAIN}.") from None
    except UserError:
        raise
    except Exception as error:  # zlib, struct and tifffile's own: all mean a broken file
        raise UserError(
            f"{path} is not a readable TIFF ({error}): it is damaged or truncated; {_AGAIN}."
        ) from None


def lacks_decoder(error: BaseException) -> bool:
    """Whether the library could not unpack a TIFF for want of a package, or of a newer Python."""
    return isinstance(error, ImportError) or "imagecodecs" in str(error)


NO_DATA = 42113
"""The tag in which GDAL says which value of a TIFF stands for no data, as text."""


def no_data_of(page: Any) -> float | None:
    """The value that a page of a TIFF marks as no data, which may be NaN; None without a mark.

    The library's own answer is 0 without a mark, and for the lowest float32 too.
    """
    tag = page.tags.get(NO_DATA)
    try:
        return float(str(tag.value).strip(" \0")) if tag is not None else None
    except ValueError:
        return None


def no_data_in(path: Path) -> float | None:
    """`no_data_of` the first page of a TIFF that was read already."""
    with tifffile.TiffFile(path) as tiff:
        return no_data_of(tiff.pages.first)


def read_page(path: Path) -> npt.NDArray[Any]:
    """The first page of a TIFF, as `read_tiff` reads an image; what is damaged raises as it may."""
    return _first_that_can(path, lambda path: tifffile.imread(path, key=0))


def _first_that_can(path: Path, library: Callable[[Path], Any]) -> npt.NDArray[Any]:
    for read in (library, read_lzw):
        try:
            return np.asarray(read(path))
        except (ValueError, ImportError) as error:
            if not lacks_decoder(error):
                raise
            if not needs_lzw(path):
                break
    raise UserError(
        f"{path} is compressed in a way that needs the package imagecodecs: run pip install "
        "imagecodecs, or store the images deflated."
    )


@contextmanager
def open_hdf5(path: Path) -> Iterator[Any]:
    """An HDF5 file, open for reading. `UserError` naming it if it, or what is read, is broken."""
    try:
        with h5py.File(path, "r") as file:
            yield file
    except FileNotFoundError:
        raise UserError(f"{path} is missing; {_AGAIN}.") from None
    except (OSError, RuntimeError, KeyError) as error:  # h5py's for damage, by where it lies
        raise UserError(
            f"{path} is not a readable HDF5 file: it is damaged or truncated "
            f"({str(error).splitlines()[0]}); {_AGAIN}."
        ) from None


def stored_in(file: Any, name: str, path: Path) -> Any:
    """A data set of numbers in an open HDF5 file, not read yet. `UserError` if it is none."""
    try:
        found = file[name]  # twice as fast as asking first, in files of 100,000 arrays
    except KeyError:
        found = None
    if not isinstance(found, h5py.Dataset):
        raise UserError(f'{path} has no array "{name}", or it is damaged; {_AGAIN}.')
    if found.dtype.kind not in "iufb":
        raise UserError(f'{path}: array "{name}" holds {found.dtype} values, not numbers.')
    return found
