"""The `trana` command: words for people and JSON for programs, over the client.

Nothing heavy is imported before a command needs it: help and wrong usage answer at once.
"""

from trana.client.command.app import main

__all__ = ["main"]
