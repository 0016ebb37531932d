"""The service that the tests of the command's process speak to."""

from unit.client.conftest import host, service, spec, spec_file, wait_for

__all__ = ["host", "service", "spec", "spec_file", "wait_for"]
