"""The folder of an export: which files are its own, and how they are replaced."""

import json
from pathlib import Path
import re
from zipfile import ZipFile

import numpy as np
from stream_agent.commands.export_models import Export, ExportError

MANIFEST, INITIAL = 'manifest.json', 'initial.npz'
OWN_FILES = re.compile(r'manifest\.json|initial\.npz|(respond|settle)(_[0-9]+)?\.onnx')


def earlier_export(folder: Path) -> list[Path]:
    """Return the files in a folder that have the names of an export's."""
    return sorted(path for path in folder.iterdir() if OWN_FILES.fullmatch(path.name))


def open_folder(folder: Path, force: bool) -> None:
    """
    Make the folder, before work is done for it.

    :raises ExportError: If an export is there that may not be replaced.
    """
    if folder.exists() and not folder.is_dir():
        raise ExportError(f"--output: '{folder}' is a file; name a folder")
    folder.mkdir(parents=True, exist_ok=True)
    names = [path.name for path in earlier_export(folder)]
    if names and not force:
        raise ExportError(f"--output: '{folder}' holds {', '.join(names)} already; replace them "
                          'with --force, or name another folder')


def write(folder: Path, export: Export) -> None:
    """Replace what the folder holds of an export; the manifest comes last, when all is there."""
    for path in earlier_export(folder):
        path.unlink()
    for name, model in export.models.items():
        (folder / name).write_bytes(model)
    # As np.savez does it, which cannot take a node that is called 'file'.
    with ZipFile(folder / INITIAL, 'w') as archive:
        for name, value in export.initial.items():
            with archive.open(f'{name}.npy', 'w') as file:
                np.save(file, value)
    (folder / MANIFEST).write_text(json.dumps(export.manifest, indent=2) + '\n')
