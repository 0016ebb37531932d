"""The nodes of Ray and what is shared between pods: memory, storage, GPUs, upgrades, and how often all is scraped."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
import yaml
from trana.jobs.cluster.joining import OBJECT_STORE_BYTES
from trana.jobs.metrics.live import GRACE
from unit.deploy.manifests import OVERLAYS, ROOT, helpers, named, only, pods, service_pod

pytestmark = pytest.mark.parametrize("overlay", OVERLAYS)
GPU = "nvidia.com/gpu"
MIB = 2**20


def seconds(text: str) -> timedelta:
    """A duration of Prometheus in seconds."""
    return timedelta(seconds=int(text.removesuffix("s")))


def test_object_stores_are_as_large_as_the_control_planes_and_fit_their_memory(overlay: str) -> None:
    spec = only(overlay, "RayCluster")["spec"]
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        assert int(group["rayStartParams"]["object-store-memory"]) == OBJECT_STORE_BYTES
    # KubeRay gives its pods /dev/shm; ours is our own to give, or Ray would put the store on a disk.
    (shm,) = (volume for volume in service_pod(overlay).spec["volumes"] if volume["name"] == "shm")
    assert shm["emptyDir"]["medium"] == "Memory"
    assert int(shm["emptyDir"]["sizeLimit"].removesuffix("Mi")) * MIB > OBJECT_STORE_BYTES


def test_storage_that_pods_of_several_machines_share_may_be_mounted_by_them(overlay: str) -> None:
    claims = named(overlay, "PersistentVolumeClaim")
    # The others are of one machine.
    expected = ["ReadWriteMany"] if overlay == "production" else ["ReadWriteOnce"]
    for name in ("trana-shared", "trana-data"):
        assert claims[name]["spec"]["accessModes"] == expected


def test_a_new_image_replaces_the_cluster_and_v2_of_the_autoscaler_counts_what_is_asked_for(overlay: str) -> None:
    spec = only(overlay, "RayCluster")["spec"]
    assert spec["upgradeStrategy"] == {"type": "Recreate"}
    assert spec.get("autoscalerOptions", {}).get("version", "v2") == "v2"
    assert ("autoscalerOptions" in spec) == spec["enableInTreeAutoscaling"]


def test_dashboard_of_ray_is_for_who_forwards_its_port(overlay: str) -> None:
    assert only(overlay, "RayCluster")["spec"]["headGroupSpec"]["rayStartParams"]["dashboard-host"] == "127.0.0.1"


def test_workers_with_cuda_have_a_gpu_and_a_machine_that_has_one_takes_them(overlay: str) -> None:
    found = [pod for pod in pods(overlay) if "cuda" in pod.spec["containers"][0]["image"]]
    assert [pod.owner for pod in found] == ([] if overlay == "kind" else ["gpu"])
    for pod in found:
        assert int(pod.spec["containers"][0]["resources"]["limits"][GPU]) >= 1
        assert {"key": GPU, "operator": "Exists", "effect": "NoSchedule"} in pod.spec["tolerations"]


def test_no_pod_is_told_of_services_in_its_environment(overlay: str) -> None:
    # The Service trana-jobs would set TRANA_JOBS_PORT, and whatever settings come to be called so.
    for pod in [*pods(overlay), *helpers()]:
        assert pod.spec["enableServiceLinks"] is False, pod.owner


def test_all_is_scraped_as_often_as_the_dashboards_take_it_to_be(overlay: str) -> None:
    source = yaml.safe_load((ROOT / "deploy/grafana/provisioning/datasources/trana.yaml").read_text())
    interval = source["datasources"][0]["jsonData"]["timeInterval"]
    assert 2 * seconds(interval) <= GRACE
    monitors = [*named(overlay, "ServiceMonitor").values(), *named(overlay, "PodMonitor").values()]
    assert len(monitors) == (2 if overlay == "production" else 0)
    assert set(re.findall(r"'interval': '(\w+)'", str(monitors))) <= {interval}
