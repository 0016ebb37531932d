"""An entrypoint whose module is never done importing."""

import time

time.sleep(600)


def run() -> None:
    """Never reached."""
