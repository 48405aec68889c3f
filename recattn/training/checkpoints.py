"""Checkpoints that are written whole or not at all."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins import TorchCheckpointIO

from recattn.errors import ArtefactError


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside its place, flushes it to the disk and renames it; until then the one before stays.

    Lightning writes to the system's folder for temporary files and moves the file from there. Where that is another
    disk the move is a copy, and a process killed in the middle of it leaves half a checkpoint; and it holds all of the
    file in memory first, which for a large catalogue is as much again as weights and moments take.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     WholeCheckpoints().save_checkpoint({"epoch": 3}, f"{folder}/last.ckpt")
    ...     torch.load(f"{folder}/last.ckpt")
    {'epoch': 3}
    """

    def save_checkpoint(
        self,
        checkpoint: Mapping[str, Any],
        path: str | Path,
        storage_options: Any | None = None,  # noqa: ANN401, ARG002 - Lightning's signature; there are none for a file
    ) -> None:
        """Raises ArtefactError where it cannot be written, on a full disk say."""
        path = Path(path)
        fresh = path.with_name(f".{path.name}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with fresh.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
        except (OSError, RuntimeError) as error:
            # torch's writer closes its file on the way out, and what it then says of its size hides the cause.
            cause = error if isinstance(error, OSError) else error.__context__
            if not isinstance(cause, OSError):
                raise
            raise ArtefactError(
                f"{path} could not be written: {cause}; what earlier epochs reached is kept: make room and resume"
            ) from error
        finally:
            fresh.unlink(missing_ok=True)
