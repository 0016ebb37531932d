import grpc
import pytest
from trana.client.errors import Unreachable, translate


class Away(grpc.RpcError, grpc.Call):
    """What a call raises where nobody answers."""

    def __init__(self, text: str) -> None:
        self._text = text

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNAVAILABLE

    def details(self) -> str:
        return self._text

    def trailing_metadata(self) -> tuple[()]:
        return ()

    def initial_metadata(self) -> tuple[()]:
        return ()

    def is_active(self) -> bool:
        return False

    def time_remaining(self) -> float:
        return 0.0

    def cancel(self) -> bool:
        return False

    def add_callback(self, callback: object) -> bool:
        return False


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("errors resolving foo:1: [A: status is not ARES_SUCCESS: Domain name not found])", "Domain name not found"),
        ("failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: Failed (111)", "Failed (111)"),
        ("Socket closed", "Socket closed"),
    ],
)
def test_the_innermost_cause_of_a_service_that_is_away_is_told(text: str, cause: str) -> None:
    error = translate(Away(text), "foo:1")
    assert isinstance(error, Unreachable)
    assert str(error).endswith(f"TRANA_SERVER ({cause})")
