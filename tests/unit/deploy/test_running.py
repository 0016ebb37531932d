"""What the manifests say agrees with what the programs do."""

from __future__ import annotations

import re
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from trana.jobs.api.server import BUNDLE_SERVICE, SERVICE
from trana.jobs.cluster.agent_process import LEAVE_SECONDS
from trana.jobs.cluster.contract import ClusterSettings
from trana.jobs.cluster.environment import MARK, agent_environment
from trana.jobs.settings import Settings
from unit.deploy.manifests import HOME, OVERLAYS, Pod, named, only, pods, service_pod, settings_of

pytestmark = pytest.mark.parametrize("overlay", OVERLAYS)


@pytest.fixture
def settings(overlay: str) -> Settings:
    """As the control plane reads them in its pod."""
    return read(overlay)


@cache
def read(overlay: str) -> Settings:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings_of(overlay).items():
            patch.setenv(name, value)
        return Settings(_cli_parse_args=False)  # type: ignore[call-arg]


def ports(pod: Pod) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for port in pod.spec["containers"][0]["ports"]}


def mounts(pod: Pod) -> dict[str, dict[str, Any]]:
    return {mount["mountPath"]: mount for mount in pod.spec["containers"][0]["volumeMounts"]}


def claim(pod: Pod, mount: dict[str, Any]) -> str:
    (volume,) = (volume for volume in pod.spec["volumes"] if volume["name"] == mount["name"])
    name: str = volume["persistentVolumeClaim"]["claimName"]
    return name


def ray_source(path: str) -> str:
    """A file of the installed Ray, unimported: that would take a second."""
    return Path(str(metadata.distribution("ray").locate_file(f"ray/{path}"))).read_text()


def test_every_variable_is_a_setting(overlay: str, settings: Settings) -> None:
    names = {name.removeprefix("TRANA_").lower() for name in settings_of(overlay)}
    assert names <= set(Settings.model_fields)
    assert settings.model_fields_set == names


def test_ports_are_those_that_are_listened_on(overlay: str, settings: Settings) -> None:
    served = {"grpc": settings.listen, "metrics": settings.metrics_listen}
    assert {name: f"0.0.0.0:{port}" for name, port in ports(service_pod(overlay)).items()} == served
    for port in only(overlay, "Service")["spec"]["ports"]:
        assert port["port"] == ports(service_pod(overlay))[port["targetPort"]]


def test_probes_ask_what_is_served(overlay: str) -> None:
    pod = service_pod(overlay)
    container = pod.spec["containers"][0]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["grpc"]["port"] == ports(pod)["grpc"]
        assert container[probe]["grpc"].get("service", "") in ("", SERVICE, BUNDLE_SERVICE)


def test_probes_of_ray_ask_what_every_node_serves_without_a_token(overlay: str) -> None:
    agent = ray_source("dashboard/http_server_agent.py")
    public = re.findall(r'"(/\S+)"', agent.partition("PUBLIC_EXACT_PATHS = [")[2].partition("]")[0])
    (port,) = re.findall(r"DEFAULT_DASHBOARD_AGENT_LISTEN_PORT = (\d+)", ray_source("_private/ray_constants.py"))
    for pod in pods(overlay):
        if pod.owner == "trana-jobs":
            continue
        for probe in ("readinessProbe", "livenessProbe"):
            asked = pod.spec["containers"][0][probe]["httpGet"]
            assert asked["path"] in public
            assert asked["port"] == int(port)


def test_control_plane_joins_the_ray_cluster_that_is_there(overlay: str, settings: Settings) -> None:
    cluster = only(overlay, "RayCluster")
    (head,) = (pod for pod in pods(overlay) if pod.owner == "head")
    assert settings.ray_address == f"{cluster['metadata']['name']}-head-svc:{ports(head)['gcs-server']}"
    assert cluster["spec"]["rayVersion"] == metadata.version("ray")


def test_control_plane_shows_the_token_that_ray_asks_for(overlay: str, settings: Settings) -> None:
    pod = service_pod(overlay)
    options = only(overlay, "RayCluster")["spec"]["authOptions"]
    assert settings.ray_token_path is not None
    mount = mounts(pod)[str(settings.ray_token_path.parent)]
    (volume,) = (volume for volume in pod.spec["volumes"] if volume["name"] == mount["name"])
    # The key is KubeRay's.
    assert (options["mode"], settings.ray_token_path.name) == ("token", "auth_token")
    assert volume["secret"]["secretName"] == options["secretName"]


def test_ray_has_the_environment_that_the_control_plane_counts_on(overlay: str) -> None:
    joined = ClusterSettings(folder=Path("/home"), address="head:6379", auth_token_path=Path("/token"))
    needed = agent_environment(joined, inherited={})
    for name in (MARK, "RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH"):
        del needed[name]
    assert named(overlay, "ConfigMap")["trana-ray-environment"]["data"] == needed
    for pod in pods(overlay):
        if pod.owner != "trana-jobs":
            assert pod.spec["containers"][0]["envFrom"] == [{"configMapRef": {"name": "trana-ray-environment"}}]


def test_workers_see_what_the_control_plane_sees_under_the_same_paths(overlay: str, settings: Settings) -> None:
    service = service_pod(overlay)
    assert str(settings.home) == HOME
    for pod in pods(overlay):
        if pod.owner in ("trana-jobs", "head"):
            continue
        for path in (f"{HOME}/jobs", f"{HOME}/bundles", "/data"):
            ours, theirs = mounts(service)[path], mounts(pod)[path]
            assert claim(service, ours) == claim(pod, theirs)
            assert ours.get("subPath") == theirs.get("subPath")
        assert mounts(pod)[f"{HOME}/bundles"]["readOnly"]
        # The database and the installation's id are nobody else's.
        assert HOME not in mounts(pod)
        assert "trana-home" not in str(pod.template)


def test_old_pod_is_gone_before_the_new_one_opens_the_database(overlay: str) -> None:
    spec = only(overlay, "Deployment")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    assert named(overlay, "PersistentVolumeClaim")["trana-home"]["spec"]["accessModes"] == ["ReadWriteOnce"]


def test_pod_is_given_the_time_that_a_stop_takes(overlay: str, settings: Settings) -> None:
    needed = settings.drain_seconds + LEAVE_SECONDS
    assert service_pod(overlay).spec["terminationGracePeriodSeconds"] >= needed + 15


def test_queue_tells_the_autoscaler_where_there_is_one(overlay: str, settings: Settings) -> None:
    assert settings.autoscaling == only(overlay, "RayCluster")["spec"]["enableInTreeAutoscaling"]


def test_nothing_is_trained_beside_the_head_and_somewhere_datasets_are_checked(overlay: str) -> None:
    spec = only(overlay, "RayCluster")["spec"]
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert sum(group["minReplicas"] for group in spec["workerGroupSpecs"]) >= 1
    for group in spec["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        # Ray counts the CPUs and GPUs of a worker by its limits.
        assert "cpu" in group["template"]["spec"]["containers"][0]["resources"]["limits"]


def test_monitors_find_ports_that_are_there(overlay: str) -> None:
    if overlay != "production":
        assert not named(overlay, "ServiceMonitor")
        return
    endpoints = only(overlay, "ServiceMonitor")["spec"]["endpoints"]
    assert {endpoint["port"] for endpoint in endpoints} <= {
        port["name"] for port in only(overlay, "Service")["spec"]["ports"]
    }
    assert (
        only(overlay, "ServiceMonitor")["spec"]["selector"]["matchLabels"].items()
        <= only(overlay, "Service")["metadata"]["labels"].items()
    )
    monitor = only(overlay, "PodMonitor")["spec"]
    assert monitor["selector"]["matchLabels"] == {"ray.io/cluster": only(overlay, "RayCluster")["metadata"]["name"]}
    (head,) = (pod for pod in pods(overlay) if pod.owner == "head")
    for endpoint in monitor["podMetricsEndpoints"]:
        assert endpoint["port"] in ports(head)


def test_metrics_ports_of_ray_are_rays(overlay: str) -> None:
    (head,) = (pod for pod in pods(overlay) if pod.owner == "head")
    (autoscaler,) = re.findall(
        r"AUTOSCALER_METRIC_PORT = env_integer\(.*?(\d+)\)", ray_source("autoscaler/_private/constants.py")
    )
    (dashboard,) = re.findall(r"DASHBOARD_METRIC_PORT = env_integer\(.*?(\d+)\)", ray_source("dashboard/consts.py"))
    assert ports(head)["as-metrics"] == int(autoscaler)
    assert ports(head)["dash-metrics"] == int(dashboard)
