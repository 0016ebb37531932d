"""A job's spec as one writes it: YAML that reads back as the same job, and parts of it on a line."""

from typing import Any

import yaml
from google.protobuf import json_format
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct

from trana.v1 import job_pb2


def to_yaml(spec: job_pb2.JobSpec) -> str:
    """Writes a spec as YAML, without what was left unset; `trana.spec.read.parse_job` makes the same spec of it."""
    text: str = yaml.safe_dump(plain(spec), sort_keys=False, allow_unicode=True, width=100)
    return text


def plain(message: Message) -> dict[str, Any]:
    """Returns what is set in a message as dicts, lists and plain values, enums by the names that people write."""
    if isinstance(message, Struct):
        values: dict[str, Any] = _whole(json_format.MessageToDict(message))
        return values
    return {field.name: _field(field, value) for field, value in message.ListFields()}


def brief(message: Message) -> str:
    """Writes a part of a spec on a line: adamw (learning_rate 0.005, weight_decay 0.01)."""
    return _brief(plain(message))


def _field(field: Any, value: Any) -> Any:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return dict(sorted(value.items()))
    if field.is_repeated:
        return [_value(field, item) for item in value]
    return _value(field, value)


def _value(field: Any, value: Any) -> Any:
    if field.message_type is not None:
        return plain(value)
    if field.enum_type is not None:
        prefix = field.enum_type.values_by_number[0].name.removesuffix("UNSPECIFIED")
        known = field.enum_type.values_by_number.get(value)
        return known.name.removeprefix(prefix).lower() if known else value
    return value


def _whole(value: Any) -> Any:
    """Returns free values with whole numbers as such: protobuf keeps all of them as floats."""
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _brief(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(_pair(key, item) for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(_brief, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _pair(key: str, value: Any) -> str:
    inner = _brief(value)
    if isinstance(value, dict):
        return f"{key} ({inner})" if inner else key
    return f"{key} {inner}"
