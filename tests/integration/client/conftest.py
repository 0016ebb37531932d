"""The service that the tests of the command's process speak to."""

from unit.client.conftest import fail, host, service, spec, spec_file, wait_for

__all__ = ["fail", "host", "service", "spec", "spec_file", "wait_for"]
