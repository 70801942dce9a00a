"""Orphans: the directories that dead processes left, taken over by the next one to start."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import Final

from muniment.diagnostics import Diagnostics
from muniment.spool.directory import HeldDirectory, is_instance_name
from muniment.spool.segment import Segment, is_of_another_version

_OTHER_VERSION: Final = "left alone: %s is of another version of muniment"
_is_segment_name = re.compile(r"\d{8,}\.segment").fullmatch


def orphans_in(base: Path) -> list[Path]:
    """What may be orphans, oldest first; a living process's directory is among them.

    Raises `OSError` if `base` can't be read; none are in one that does not exist.
    """
    try:
        return sorted(path for path in base.iterdir() if is_instance_name(path.name))
    except FileNotFoundError:
        return []


def adopt(path: Path, diagnostics: Diagnostics) -> list[Segment]:
    """The segments of an orphan, oldest first, held by us from now on.

    None if a living process has it, or another user, or nothing is in it, or it is gone. Raises
    `OSError`.
    """
    try:
        uid = path.lstat().st_uid
    except FileNotFoundError:
        return []
    if uid not in {os.geteuid(), path.parent.stat().st_uid}:
        diagnostics.report(
            logging.WARNING, "user", "left alone: %s belongs to another user, %d", path, uid
        )
        return []
    directory = HeldDirectory.take_over(path)
    if directory is None:
        return []
    segments = []
    try:
        files = [file for file in path.iterdir() if _is_segment_name(file.name)]
        for file in sorted(files, key=_number):
            if is_of_another_version(file):
                diagnostics.report(logging.WARNING, "version", _OTHER_VERSION, file)
                continue
            segments.append(Segment(file, file.stat().st_size, directory))
    except BaseException:
        directory.release()
        raise
    if not segments:
        directory.remove_if_empty()
    return segments


def _number(segment: Path) -> int:
    return int(segment.stem)
