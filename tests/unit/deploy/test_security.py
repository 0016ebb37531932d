"""Pod security `restricted`, no token where none is needed, and no door open that need not be."""

from __future__ import annotations

import pytest
from unit.deploy.manifests import OVERLAYS, helpers, named, only, pods

pytestmark = pytest.mark.parametrize("overlay", OVERLAYS)
USER = 10001
ALLOWED_VOLUMES = {"persistentVolumeClaim", "emptyDir", "secret", "configMap", "projected", "downwardAPI"}


def test_namespace_enforces_the_restricted_standard(overlay: str) -> None:
    labels = only(overlay, "Namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_pods_are_restricted(overlay: str) -> None:
    for pod in [*pods(overlay), *helpers()]:
        context = pod.spec["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["runAsUser"] == context["runAsGroup"] == context["fsGroup"] == USER
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod.spec)
        for volume in pod.spec["volumes"]:
            assert set(volume) - {"name"} <= ALLOWED_VOLUMES


def test_containers_are_restricted(overlay: str) -> None:
    for pod in [*pods(overlay), *helpers()]:
        for container in pod.containers:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert context["runAsNonRoot"] is True
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert "privileged" not in context
            assert not any("hostPort" in port for port in container.get("ports", []))


def test_read_only_root_leaves_a_place_for_what_is_written(overlay: str) -> None:
    for pod in [*pods(overlay), *helpers()]:
        for container in pod.containers:
            mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
            (volume,) = (volume for volume in pod.spec["volumes"] if volume["name"] == mounts["/tmp"])
            # Without a limit one pod could fill its node's disk.
            assert volume["emptyDir"]["sizeLimit"]


def test_every_container_says_what_it_needs(overlay: str) -> None:
    for pod in [*pods(overlay), *helpers()]:
        for container in pod.containers:
            assert {"cpu", "memory"} <= set(container["resources"]["requests"])
            assert "memory" in container["resources"]["limits"]


def test_kubernetes_api_is_for_the_autoscaler_alone(overlay: str) -> None:
    accounts = named(overlay, "ServiceAccount")
    assert all(account["automountServiceAccountToken"] is False for account in accounts.values())
    for pod in pods(overlay):
        if not pod.added:
            assert pod.spec["serviceAccountName"] in accounts
            assert pod.spec["automountServiceAccountToken"] is False
        else:
            # KubeRay's account, with KubeRay's role.
            assert pod.owner == "head"
            assert "serviceAccountName" not in pod.spec
    assert not any(named(overlay, kind) for kind in ("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"))


def test_doors_are_closed_but_for_those_that_lead_somewhere(overlay: str) -> None:
    policies = named(overlay, "NetworkPolicy")
    if overlay != "production":
        assert not policies
        return
    assert policies["trana-closed"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    declared = {
        port["containerPort"]
        for pod in pods(overlay)
        for container in pod.containers
        for port in container.get("ports", [])
    }
    doors = {name: _ports(policy["spec"].get("ingress", [])) for name, policy in policies.items()}
    assert doors["trana-clients"] == {50051}
    assert doors["trana-scraping"] == {9464, 8080, 44217, 44227}
    assert set().union(*doors.values()) <= declared
    # Only Ray's nodes reach one another at any port, and nobody else is let in without one being named.
    assert [name for name, policy in policies.items() if policy["spec"].get("ingress") and not doors[name]] == [
        "trana-ray"
    ]


def _ports(rules: list[dict[str, list[dict[str, int]]]]) -> set[int]:
    return {port["port"] for rule in rules for port in rule.get("ports", [])}
