"""The rules that are declared in the contract, with one violation per wrong field and messages for people."""

import functools
import math
import operator
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from google.protobuf.message import Message

from trana.spec.violation import Violation

if TYPE_CHECKING:
    from protovalidate import Validator

# Rules over several fields: the field they speak of, and those they read, from where it is declared.
_CROSSED: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "job.batch_over_workers": (
        "training.global_batch_size",
        ("training.global_batch_size", "resources.num_workers"),
    ),
    "split.fractions.sum": ("", ("validation", "test")),
    "sgd.nesterov": ("nesterov", ("momentum",)),
}

_MESSAGES: Mapping[str, str] = {
    "double.finite": "must be a finite number",
    "repeated.unique": "must not have the same value twice",
    "required": "is required",
    "string.uuid": "must be a UUID, such as 6b8cfc4e-3f0a-4c8b-9e0a-0d7e1f5a2c11",
}

# The texts that must be given, by the message and the field: what is missing says what to write.
_MISSING: Mapping[str, str] = {
    "trana.v1.ColumnSplit.name": "is missing: name the column that says how samples are split",
}

_MAX_KEY = 80

_PATTERNS: Mapping[str, str] = {
    "^bundles/[0-9a-f]{64}$": "must be bundles/ and the SHA-256 of the archive in hexadecimal",
    "^[A-Za-z_][A-Za-z0-9_]*(\\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*$": (
        "must be a module and a name in it, such as model:Net"
    ),
    "^[^\\s-][^\\n\\r]{0,499}$": "must be a package as pip takes it, such as lightning>=2.6, and no option",
    "^jobs/[a-z0-9-]{1,63}$": "must be jobs/ and the job's id, such as jobs/iris",
    "^jobs/[a-z0-9-]{1,63}/checkpoints/(best|last)$": (
        "must be a job's best or last checkpoint, such as jobs/iris/checkpoints/best"
    ),
    "^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$": (
        "must have at most 63 lower-case letters, digits and hyphens, "
        "beginning with a letter and not ending with a hyphen"
    ),
    "^[a-z]([a-z0-9_.-]{0,61}[a-z0-9])?$": (
        "is not a label's name: at most 63 lower-case letters, digits, '_', '.' and '-', "
        "beginning with a letter and ending with a letter or digit"
    ),
}


@functools.cache
def _validator() -> "Validator":
    # Imported late: a quarter of a second that nobody pays who only asks for --help.
    from protovalidate import Validator

    return Validator()


def check_rules(message: Message) -> list[Violation]:
    """Returns the breaches of the declared rules, one for each wrong field, in the order of the contract."""
    found: dict[str, Violation] = {}
    crossed: list[tuple[Any, str]] = []
    for breach in _validator().collect_violations(message):
        path = _path(_elements(breach))
        if breach.proto.rule_id in _CROSSED:
            crossed.append((breach, path))
            continue
        violation = _violation(breach, path, message.DESCRIPTOR)
        found.setdefault(violation.field, violation)
    for breach, path in crossed:
        field, reads = _CROSSED[breach.proto.rule_id]
        # A rule over several fields says nothing more where one of them is wrong by itself.
        if not any(_join(path, name) in found for name in reads):
            name = _join(path, field)
            found.setdefault(name, Violation(name, _crossed(breach, path, message), breach.proto.rule_id))
    return list(found.values())


def _crossed(breach: Any, path: str, message: Message) -> str:
    """Says the values where a rule over several fields is about numbers; else what the contract says."""
    if breach.proto.rule_id != "job.batch_over_workers":
        return str(breach.proto.message)
    spec: Any = operator.attrgetter(path)(message) if path else message
    batch, workers = spec.training.global_batch_size, spec.resources.num_workers
    return (
        f"must be at least resources.num_workers, which is {workers}, so that each worker has a sample in each step, "
        f"not {batch}"
    )


def _violation(breach: Any, path: str, descriptor: Any) -> Violation:
    rule, message = breach.proto.rule_id, breach.proto.message
    elements = _elements(breach)
    if rule == "required" and message.endswith("oneof"):
        names = [field.name for field in _owner(elements, descriptor).oneofs_by_name[path.split(".")[-1]].fields]
        return Violation(path, f"needs one of {', '.join(names)}", "oneof.required")
    if rule == "string.pattern":
        message = _PATTERNS.get(str(breach.rule_value), message)
    elif rule == "string.min_len" and breach.rule_value == 1:
        message = _MISSING.get(_name_of(elements, descriptor), "must not be empty")
    elif rule == "repeated.min_items":
        message = f"needs at least {breach.rule_value}"
    elif rule == "enum.defined_only":
        enum = _owner(elements, descriptor).fields_by_name[elements[-1].field_name].enum_type
        message = f"must be one of {', '.join(value.name for value in enum.values if value.number)}"
    else:
        message = _MESSAGES.get(rule, message).replace("greater than or equal to", "at least")
        message = message.replace("less than or equal to", "at most")
        if rule.startswith("double.") and not math.isfinite(breach.field_value):
            message = _of_finite(message)
    return Violation(path, message + _what_it_is(breach.field_value), rule)


def _of_finite(message: str) -> str:
    """Says of a bound that the number must be finite too: what is no number at all breaches whichever comes first."""
    return message if "finite" in message else message.replace("must be", "must be a finite number", 1)


def _name_of(elements: list[Any], descriptor: Any) -> str:
    """Returns the full name of the field at the end of a path; of the list, for one of its elements."""
    return str(_owner(elements, descriptor).fields_by_name[elements[-1].field_name].full_name)


def _what_it_is(value: Any) -> str:
    """Says the wrong value where it is a number: a text may be long, or a secret."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return f", not {value:g}" if isinstance(value, float) else f", not {value}" if is_number else ""


def _elements(breach: Any) -> list[Any]:
    """Returns the path as the library has it: none for a rule over the whole message."""
    return list(breach.proto.field.elements) if breach.proto.field else []


def _path(elements: Iterable[Any]) -> str:
    path = ""
    for element in elements:
        path = _join(path, element.field_name)
        if element.subscript is not None:
            value = element.subscript.value
            # A wrong key may be of any length; the path must stay one that can be sent and read.
            path += f'["{value[:_MAX_KEY]}"]' if isinstance(value, str) else f"[{value}]"
    return path


def _join(path: str, name: str) -> str:
    return ".".join(part for part in (path, name) if part)


def _owner(elements: list[Any], descriptor: Any) -> Any:
    """Returns the descriptor of the message that holds the last element of a path."""
    for element in elements[:-1]:
        descriptor = descriptor.fields_by_name[element.field_name].message_type
    return descriptor
