"""One thing that is wrong with a message."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Violation:
    """A wrong field, and how to mend it.

    Attributes:
        field: Path from the message that was checked, such as `spec.training.network.layers[2].dropout.p`.
        description: A sentence for people that says what would be right.
        rule: Stable id of the rule for programs, such as `double.gt` or `network.shapes`.
    """

    field: str
    description: str
    rule: str
