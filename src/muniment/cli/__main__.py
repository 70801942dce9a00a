"""Runs the command line: `python -m muniment.cli`."""

from __future__ import annotations

from muniment.cli import main

if __name__ == "__main__":
    main(prog_name="muniment")
