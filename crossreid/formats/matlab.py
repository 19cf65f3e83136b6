"""Reading MATLAB files of version 5, without trust in what they hold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from crossreid.records import UserError


def load(path: Path, names: Sequence[str], **options) -> dict:
    """The named variables of a MATLAB file of version 4 or 5, as ``scipy.io.loadmat`` gives them.

    Raises UserError if the file is missing, is not such a file, or lacks one of the variables.
    """
    from scipy.io import loadmat

    expected = (
        f"a MATLAB file with the variable{'s' if len(names) > 1 else ''} {', '.join(names)} was expected"
    )
    try:
        found = loadmat(path, variable_names=list(names), **options)
    except FileNotFoundError:
        raise UserError(
            f"{path} is missing: {expected}. Copy it there from the data set's archive."
        ) from None
    except NotImplementedError:
        raise UserError(
            f"{path} is a MATLAB file of version 7.3, but {expected} in version 5, as the authors hand it "
            "out."
        ) from None
    # scipy raises almost anything on damaged files: ValueError, TypeError, KeyError, zlib.error, IndexError.
    except Exception as error:
        raise UserError(
            f"{path} cannot be read ({error}): {expected}. The file is damaged or something else; "
            f"copy it again from the data set's archive."
        ) from error
    for name in names:
        if name not in found:
            raise UserError(f"{path} has no variable {name!r}: {expected}. Copy it again from the archive.")
    return found
