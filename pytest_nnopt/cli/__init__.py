"""The command ``nnopt``: each subcommand has its own room. Only ``bisect`` runs tests."""

from __future__ import annotations

import gc


def program() -> None:
    """Run the command in a process of its own, where looking for garbage among what is imported takes time.

    All of it stays until the end, and is not looked through then either.
    """
    gc.disable()
    try:
        main()
    finally:
        gc.freeze()


def main() -> None:
    """Run the command; an error that a user can mend ends it with status 4 and one line."""
    from rich.console import Console

    from pytest_nnopt.cli.app import app
    from pytest_nnopt.errors import NnoptError

    try:
        app(prog_name="nnopt")  # so that completion knows it, however it was started
    except NnoptError as error:
        Console(stderr=True).print(f"nnopt: {error}", markup=False, highlight=False, soft_wrap=True)
        raise SystemExit(4) from None
