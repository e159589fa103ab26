"""What several commands take alike."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path


def add_labels(parser: argparse.ArgumentParser) -> None:
    """``--labels LABELS TEXTS``, which may be given more than once; see ``dataset.join``."""
    parser.add_argument(
        "--labels", type=Path, nargs=2, action="append", default=[], metavar=("LABELS", "TEXTS"), help="labels by id, and the texts by id"
    )


def command(module: str, argv: Sequence[str] | None) -> str:
    """The command line as a person would repeat it."""
    return shlex.join(["python", "-m", module, *(sys.argv[1:] if argv is None else argv)])
