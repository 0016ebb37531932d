from __future__ import annotations

import json
from pathlib import Path

import pytest
from trana.jobs.cluster.agent_process import MAX_DELAY_SECONDS, delay_seconds
from trana.jobs.cluster.contract import AttemptRequest, Check, ClusterSettings, Poll
from trana.jobs.cluster.environment import MARK, agent_environment, mark_of
from trana.jobs.cluster.launch import Launch
from trana.jobs.domain.attempt import AttemptKey, Ending
from trana.jobs.scheduling.ledger import Gang
from trana.v1.cause_pb2 import Cause


def test_a_request_survives_the_way_to_the_agent() -> None:
    request = AttemptRequest(
        key=AttemptKey("iris", 3),
        spec=bytes(range(256)),
        gang=Gang(2, 1.0, 0.5),
        folder="/jobs/iris",
        entrypoint="m:f",
        start_timeout_seconds=1.5,
        install_timeout_seconds=60.0,
        code="/bundles/0a.zip",
        pip=("lightning>=2.6", "keras"),
    )
    assert AttemptRequest.from_json(json.loads(json.dumps(request.to_json()))) == request


@pytest.mark.parametrize(
    "poll",
    [
        Poll(),
        Poll(reports=((7, b"\xff\x00"), (8, b"")), started=True),
        Poll(started=True, ending=Ending(Cause.CAUSE_HUNG, "slow")),
        Poll(ending=Ending()),
    ],
)
def test_a_poll_survives_the_way_from_the_agent(poll: Poll) -> None:
    assert Poll.from_json(json.loads(json.dumps(poll.to_json()))) == poll


@pytest.mark.parametrize("check", [Check(), Check(warnings=("many", "é")), Check(Ending(Cause.CAUSE_DATA_ERROR, "x"))])
def test_a_check_survives_the_way_from_the_agent(check: Check) -> None:
    assert Check.from_json(json.loads(json.dumps(check.to_json()))) == check


def test_a_launch_survives_the_command_line() -> None:
    launch = Launch.of(
        ClusterSettings(folder=Path("/f"), num_cpus=2),
        installation="a1b2c3d4",
        ray_folder=Path("/tmp/r"),
        socket_fd=7,
    )
    assert Launch.from_argument(launch.to_argument()) == launch


def test_joining_without_a_token_is_refused() -> None:
    with pytest.raises(ValueError, match="give the path of the file that holds its token"):
        ClusterSettings(folder=Path("/f"), address="head:6379")


def test_the_delay_grows_to_a_bound() -> None:
    delays = [delay_seconds(failures) for failures in range(1, 12)]
    assert delays[:4] == pytest.approx([0.2, 0.4, 0.8, 1.6])
    assert delays == sorted(delays)
    assert delays[-1] == delay_seconds(10**9) == MAX_DELAY_SECONDS


def test_token_authentication_is_on_whatever_was_inherited() -> None:
    inherited = {"PATH": "/bin", "RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": "theirs", "RAY_ADDRESS": "auto"}
    environment = agent_environment(ClusterSettings(folder=Path("/f")), inherited=inherited)
    assert environment["RAY_AUTH_MODE"] == "token"
    assert environment["RAY_AUTH_TOKEN_PATH"] == "/f/token"
    assert environment["PATH"] == "/bin"
    assert {"RAY_AUTH_TOKEN", "RAY_ADDRESS"}.isdisjoint(environment)


def test_a_joined_ray_is_shown_its_own_token_and_is_not_bound_to_loopback() -> None:
    settings = ClusterSettings(folder=Path("/f"), address="head:6379", auth_token_path=Path("/secret/token"))
    environment = agent_environment(settings, inherited={})
    assert environment["RAY_AUTH_TOKEN_PATH"] == "/secret/token"
    assert "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER" not in environment


def test_the_mark_is_the_same_after_a_restart(tmp_path: Path) -> None:
    environment = agent_environment(ClusterSettings(folder=tmp_path / "x" / ".."), inherited={})
    assert environment[MARK] == mark_of(tmp_path)
