"""Everything that the spec alone shows to be wrong, before anything starts."""

from google.protobuf.message import Message

from trana.spec.fit import check_fit
from trana.spec.limits import find_excess
from trana.spec.rules import check_rules
from trana.spec.violation import Violation
from trana.v1 import job_pb2, job_service_pb2, network_pb2, training_pb2

# What travels in the trailers of a gRPC call, which are limited to 8 KiB, and what a person reads at a time.
MAX_VIOLATIONS = 20


def validate(message: Message) -> list[Violation]:
    """Returns what is wrong with a message: nothing, or one violation for each wrong field.

    The rules declared in the contract come first; then, where network, dataset and loss keep them, whether
    these fit together.

    Args:
        message: A `JobSpec`, a `TrainingSpec`, or any request of the service; it is not changed.

    Returns:
        At most `MAX_VIOLATIONS`, with paths from the message, such as `spec.training.epochs` for a
        `CreateJobRequest`.
    """
    return _find_all(message)[:MAX_VIOLATIONS]


def _find_all(message: Message) -> list[Violation]:
    training, prefix = _find_training(message)
    if training is None:
        return check_rules(message)
    excess = find_excess(training.network)
    if excess is not None:
        return [_under(prefix, excess), *check_rules(_with_small_network(message))]
    violations = check_rules(message)
    parts = tuple(f"{prefix}{part}" for part in ("network", "dataset", "loss"))
    # An absent training, or one whose network is wrong by itself, has no shapes to speak of.
    if prefix.rstrip(".") in {violation.field for violation in violations} or any(
        violation.field.startswith(parts) for violation in violations
    ):
        return violations
    return violations + [_under(prefix, violation) for violation in check_fit(training)]


def _find_training(message: Message) -> tuple[training_pb2.TrainingSpec | None, str]:
    match message:
        case job_service_pb2.CreateJobRequest() if message.spec.HasField("training"):
            return message.spec.training, "spec.training."
        case job_pb2.JobSpec() if message.HasField("training"):
            return message.training, "training."
        case training_pb2.TrainingSpec():
            return message, ""
    return None, ""


def _with_small_network(message: Message) -> Message:
    copy = type(message)()
    copy.CopyFrom(message)
    training, _ = _find_training(copy)
    if training is not None:
        training.network.CopyFrom(network_pb2.Network(layers=[network_pb2.Layer(relu=network_pb2.ReLU())]))
    return copy


def _under(prefix: str, violation: Violation) -> Violation:
    return Violation(f"{prefix}{violation.field}", violation.description, violation.rule)
