"""Everything that the spec alone shows to be wrong, before anything starts."""

from google.protobuf.message import Message

from trana.spec.fit import check_fit
from trana.spec.limits import find_excess
from trana.spec.parts import check_parts
from trana.spec.rules import check_rules
from trana.spec.violation import Violation
from trana.v1 import job_pb2, job_service_pb2, network_pb2, training_pb2

# What travels in the trailers of a gRPC call, which are limited to 8 KiB, and what a person reads at a time.
MAX_VIOLATIONS = 20


def validate(message: Message) -> list[Violation]:
    """Returns what is wrong with a message: nothing, or one violation for each wrong field.

    The rules declared in the contract come first, then which parts the training needs; then, where network, dataset
    and loss keep them, whether these fit together.

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
        rest = _check_each(_with_small_network(message))
        # Whether a layer of the network that was left out needs code is not known.
        return [_under(prefix, excess), *(found for found in rest if found.field != f"{prefix}code")]
    violations = _check_each(message)
    parts = tuple(f"{prefix}{part}" for part in ("network", "dataset", "loss"))
    # A training whose network is wrong by itself has no shapes to speak of.
    if any(violation.field.startswith(parts) for violation in violations):
        return violations
    return violations + [_under(prefix, violation) for violation in check_fit(training)]


def _check_each(message: Message) -> list[Violation]:
    """Checks the declared rules, and which parts there are."""
    violations = check_rules(message)
    training, prefix = _find_training(message)
    wrong = {violation.field for violation in violations}
    missing = [] if training is None else [_under(prefix, violation) for violation in check_parts(training)]
    # A part that is wrong by itself needs no second word.
    return violations + [
        found for found in missing if not any(f"{field}.".startswith(f"{found.field}.") for field in wrong)
    ]


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
