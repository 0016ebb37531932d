"""What the network policies let through, judged as Kubernetes does: every way that is needed, and no other."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest
from unit.deploy.manifests import Pod, named, pods

OVERLAY = "production"
DNS = {"kubernetes.io/metadata.name": "kube-system"}


@dataclass(frozen=True)
class Peer:
    """One end of a connection; without labels of a namespace it is no pod, but an address outside the cluster."""

    pod: dict[str, str] = field(default_factory=dict)
    namespace: dict[str, str] = field(default_factory=dict)
    ours: bool = False


def of(pod: Pod) -> Peer:
    """A pod of the installation."""
    return Peer(pod.template["metadata"]["labels"], {"kubernetes.io/metadata.name": "trana"}, ours=True)


OWNERS = ("trana-jobs", "head", "cpu", "gpu")
OUTSIDE = Peer()


@cache
def ours() -> dict[str, Peer]:
    """The pods of the installation."""
    found = {pod.owner: of(pod) for pod in pods(OVERLAY)}
    assert set(found) == set(OWNERS)
    return found


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a selector of labels takes these."""
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        labels.get(each["key"]) in each["values"] for each in selector.get("matchExpressions", [])
    )


def admits(rule: dict[str, Any], key: str, other: Peer, port: int, protocol: str) -> bool:
    """Whether a rule lets a connection with `other` through; one that names no peer, or no port, means all."""
    ports = rule.get("ports")
    if ports and not any((each.get("protocol", "TCP"), each["port"]) == (protocol, port) for each in ports):
        return False
    return not rule.get(key) or any(matches(peer, other) for peer in rule[key])


def matches(peer: dict[str, Any], other: Peer) -> bool:
    """Both selectors have to take it; one of pods alone is about this namespace."""
    assert set(peer) <= {"podSelector", "namespaceSelector"}, "this judge knows no other peers"
    near = selects(peer["namespaceSelector"], other.namespace) if "namespaceSelector" in peer else other.ours
    return bool(other.namespace) and near and selects(peer.get("podSelector", {}), other.pod)


def passes(direction: str, mine: Peer, other: Peer, port: int, protocol: str) -> bool:
    """Whether the policies on `mine` let it through; without any of that direction all is open."""
    if not mine.ours:
        return True
    key = {"Ingress": "from", "Egress": "to"}[direction]
    specs = [policy["spec"] for policy in named(OVERLAY, "NetworkPolicy").values()]
    about = [spec for spec in specs if direction in spec["policyTypes"] and selects(spec["podSelector"], mine.pod)]
    rules = [rule for spec in about for rule in spec.get(direction.lower(), [])]
    return not about or any(admits(rule, key, other, port, protocol) for rule in rules)


def open_between(one: Peer, other: Peer, port: int, protocol: str = "TCP") -> bool:
    """Whether `one` may call `other` at a port."""
    return passes("Egress", one, other, port, protocol) and passes("Ingress", other, one, port, protocol)


@pytest.mark.parametrize("name", OWNERS)
def test_every_pod_may_ask_for_names(name: str) -> None:
    for protocol in ("UDP", "TCP"):
        assert open_between(ours()[name], Peer({"k8s-app": "kube-dns"}, DNS), 53, protocol)


@pytest.mark.parametrize("name", OWNERS)
@pytest.mark.parametrize("other", OWNERS)
def test_nodes_of_ray_reach_one_another_at_any_port(name: str, other: str) -> None:
    # The GCS; raylets, workers, object managers and the groups of ranks take any.
    for port in (6379, 10002, 41234, 65535):
        assert open_between(ours()[name], ours()[other], port)


def test_clients_and_prometheus_reach_what_is_theirs_and_no_more() -> None:
    client = Peer({}, {"trana/client": "true"})
    prometheus = Peer({}, {"trana/monitoring": "true"})
    anyone = Peer({}, {"kubernetes.io/metadata.name": "else"})
    assert open_between(client, ours()["trana-jobs"], 50051)
    assert open_between(prometheus, ours()["trana-jobs"], 9464)
    for name in OWNERS:
        if name != "trana-jobs":
            assert open_between(prometheus, ours()[name], 8080)
        for port in (22, 6379, 8265, 10001, 50051, 52365):
            assert not open_between(prometheus, ours()[name], port)
            assert not open_between(anyone, ours()[name], port)
            assert open_between(client, ours()[name], port) == ((name, port) == ("trana-jobs", 50051))
    assert open_between(prometheus, ours()["head"], 44217)


def test_a_pod_of_this_namespace_is_a_client_where_it_says_so() -> None:
    here = {"kubernetes.io/metadata.name": "trana"}
    beside, other = Peer({"trana/client": "true"}, here, ours=True), Peer({}, here, ours=True)
    assert open_between(beside, Peer({"k8s-app": "kube-dns"}, DNS), 53, "UDP")
    for name in OWNERS:
        for port in (6379, 9464, 50051):
            assert open_between(beside, ours()[name], port) == ((name, port) == ("trana-jobs", 50051))
            assert not open_between(other, ours()[name], port)


def test_autoscaler_alone_reaches_the_kubernetes_api_and_nobody_anything_else() -> None:
    for name, pod in ours().items():
        for port in (443, 6443):
            assert open_between(pod, OUTSIDE, port) == (name == "head")
        assert not open_between(pod, OUTSIDE, 80)
