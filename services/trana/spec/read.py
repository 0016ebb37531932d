"""Reads a job from YAML (of which JSON is a part) through protobuf's JSON mapping."""

import functools
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from google.protobuf import json_format

from trana.spec.locate import resolve_uris
from trana.spec.naming import nearest, suggest
from trana.v1 import job_pb2

# What a gRPC message may hold.
MAX_BYTES = 4 * 2**20
# No message of the contract is nested deeper; also the limit of protobuf's own parsers.
MAX_DEPTH = 64
# Values in a file: generous for 100,000 feature names, and a stop to YAML's aliases that multiply.
MAX_VALUES = 150_000
_MAX_QUOTE = 60
# Wrong fields that are told at a time, as many as `validate` tells.
_MAX_TOLD = 20
# Enums whose values the documents write so; those of the others they write in lower case.
_IN_UPPER_CASE = frozenset({"trana.v1.StoppingRule"})
# The message whose fields are the user's.
_FREE = "google.protobuf.Struct"

# C's parser is ten times faster, but not built everywhere.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class SpecError(ValueError):
    """A text that is no job; the message names file, line and field, and what would be right."""


class _WrongField(SpecError):
    """What is wrong with one field; those beside it can be read."""


def read_job(path: Path | str) -> job_pb2.JobSpec:
    """Reads a job from a YAML or JSON file; relative paths in it start from the file's folder.

    Raises:
        SpecError: If the file cannot be read or is no job.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise SpecError(f"{path}: larger than {MAX_BYTES // 2**20} MiB, so it cannot be a job's spec")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SpecError(f"{path}: not a text in UTF-8, so it cannot be YAML") from error
    return parse_job(text, base=path.parent, source=str(path))


def parse_job(text: str, *, base: Path, source: str) -> job_pb2.JobSpec:
    """Reads a job from text.

    Over protobuf's JSON mapping it allows what people write: enum values without prefix and in any case
    (`val_loss`), the name of a layer or loss alone (`- relu`), and plain paths for file:// URIs.

    Args:
        text: YAML or JSON.
        base: The folder that relative paths start from.
        source: What to call the text in errors, such as the file's name.

    Raises:
        SpecError: If the text is no job. Whether the job is a valid one is for `validate` to say.
    """
    reader = _Reader(source)
    job = reader.read(text)
    spec = job_pb2.JobSpec()
    try:
        json_format.ParseDict(job, spec)
    except json_format.ParseError as error:
        raise SpecError(f"{source}: {error}") from error
    resolve_uris(spec, base)
    return spec


def job_from_mapping(job: Mapping[str, Any], *, base: Path) -> job_pb2.JobSpec:
    """Reads a job from nested dicts and lists, as `parse_job` does from text.

    Raises:
        SpecError: If it is no job.
    """
    try:
        text = yaml.safe_dump(dict(job), sort_keys=False)
    except (yaml.YAMLError, RecursionError) as error:
        raise SpecError(f"the job holds something that is neither text, number, list nor dict: {error}") from error
    return parse_job(text, base=base, source="the job")


class _Reader:
    """Walks YAML's nodes, which know their lines, along the descriptor of a job."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._values = 0
        self._wrong_fields: list[str] = []
        self._loader: Any

    def read(self, text: str) -> Any:
        try:
            self._measure(text)
            self._loader = _Loader(text)
            root = self._loader.get_single_node()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            raise self._error(f"not YAML: {error.problem or error.context}", mark) from error
        except yaml.YAMLError as error:
            raise SpecError(f"{self._source}: not YAML: {' '.join(str(error).split())}") from error
        if root is None or _is_null(root):
            raise SpecError(f"{self._source}: empty; a job has at least training and resources")
        if not isinstance(root, yaml.MappingNode):
            raise self._error("a job begins with field names, such as 'training:'", root.start_mark)
        job = self._message(root, job_pb2.JobSpec.DESCRIPTOR, "", 0)
        if self._wrong_fields:
            told, more = self._wrong_fields[:_MAX_TOLD], len(self._wrong_fields) - _MAX_TOLD
            raise SpecError("\n".join(told + ([f"{self._source}: and {more:,} more such errors"] if more > 0 else [])))
        return job

    def _kept(self, read: Callable[[], Any]) -> Any:
        """Returns what is read, or None where it is wrong: that is told with all else that is."""
        try:
            return read()
        except _WrongField as error:
            self._wrong_fields.append(str(error))
            return None

    def _measure(self, text: str) -> None:
        """Refuses what is too deep before it becomes nodes: these are built by recursion, a crash in C."""
        depth = 0
        for number, event in enumerate(yaml.parse(text, Loader=_Loader)):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH or number > 2 * MAX_VALUES:
                raise self._error("too many values, or nested too deep, for a job", event.start_mark)

    def _error(self, problem: str, mark: Any) -> SpecError:
        return SpecError(self._located(problem, mark))

    def _located(self, problem: str, mark: Any) -> str:
        return f"{self._source}{f', line {mark.line + 1}' if mark else ''}: {problem}"

    def _wrong(self, node: yaml.Node, path: str, problem: str) -> _WrongField:
        return _WrongField(self._located(f"{path}: {problem}", node.start_mark))

    def _count(self, node: yaml.Node, path: str, depth: int) -> None:
        self._values += 1
        if self._values > MAX_VALUES or depth > MAX_DEPTH:
            raise self._error(f"{path}: too many values, or nested too deep, for a job", node.start_mark)

    def _message(self, node: yaml.Node, descriptor: Any, path: str, depth: int) -> dict[str, Any]:
        self._count(node, path, depth)
        if isinstance(node, yaml.ScalarNode):
            return self._bare_name(node, descriptor, path)
        if not isinstance(node, yaml.MappingNode):
            raise self._wrong(node, path, f"{_needs(descriptor)}, not a list")
        message: dict[str, Any] = {}
        chosen: dict[str, str] = {}
        for key, value in node.value:
            self._kept(functools.partial(self._entry, key, value, descriptor, path, depth, message, chosen))
        return message

    def _entry(
        self,
        key: yaml.Node,
        value: yaml.Node,
        descriptor: Any,
        path: str,
        depth: int,
        message: dict[str, Any],
        chosen: dict[str, str],
    ) -> None:
        """Reads one field into a message, of whose choices `chosen` tells which were made."""
        field = self._field(key, descriptor, path)
        name = _join(path, field.name)
        if field.name in message:
            raise self._wrong(key, name, "is given twice")
        read = self._value(value, field, name, depth + 1)
        if read is None:
            return
        oneof = field.containing_oneof
        if oneof is not None and chosen.setdefault(oneof.name, field.name) != field.name:
            problem = f"only one of {chosen[oneof.name]} and {field.name} can be given"
            raise self._wrong(key, path, problem)
        message[field.name] = read

    def _field(self, key: yaml.Node, descriptor: Any, path: str) -> Any:
        name = str(key.value) if isinstance(key, yaml.ScalarNode) else "(not a name)"
        field = descriptor.fields_by_name.get(name) or descriptor.fields_by_camelcase_name.get(name)
        if field is None:
            raise self._wrong(key, _join(path, name), f"there is no such field; {suggest(name, descriptor)}")
        return field

    def _bare_name(self, node: yaml.ScalarNode, descriptor: Any, path: str) -> dict[str, Any]:
        """Reads `relu` as `relu: {}` where the message is a choice between messages."""
        choices = [field.name for field in descriptor.fields if field.containing_oneof and field.message_type]
        name = node.value.lower()
        if name in choices:
            return {name: {}}
        if choices:
            raise self._wrong(node, path, f"there is no {_quote(node)}; {nearest(name, choices)}")
        raise self._wrong(node, path, f"{_needs(descriptor)}, not {_quote(node)}")

    def _value(self, node: yaml.Node, field: Any, path: str, depth: int) -> Any:
        self._count(node, path, depth)
        if _is_null(node):
            # `relu:` with nothing after it chooses relu; elsewhere it is as if the field were left out.
            return {} if field.containing_oneof and field.message_type else None
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            return self._map(node, field.message_type.fields_by_name["value"], path, depth)
        if not field.is_repeated:
            return self._single(node, field, path, depth)
        if not isinstance(node, yaml.SequenceNode):
            raise self._wrong(node, path, "needs a list, with a line '- ...' for each item")
        return [
            self._kept(functools.partial(self._single, item, field, f"{path}[{index}]", depth + 1))
            for index, item in enumerate(node.value)
        ]

    def _map(self, node: yaml.Node, value: Any, path: str, depth: int) -> dict[str, Any]:
        if not isinstance(node, yaml.MappingNode):
            raise self._wrong(node, path, "needs names and values, such as 'team: vision'")
        entries: dict[str, Any] = {}
        for key, item in node.value:
            name = f'{path}["{key.value}"]' if isinstance(key, yaml.ScalarNode) else path
            if not isinstance(key, yaml.ScalarNode) or key.value in entries:
                raise self._wrong(key, name, "is given twice, or is not a name")
            entries[key.value] = "" if _is_null(item) else self._single(item, value, name, depth + 1)
        return entries

    def _single(self, node: yaml.Node, field: Any, path: str, depth: int) -> Any:
        if field.message_type is not None and field.message_type.full_name == _FREE:
            return self._free(node, path, depth)
        if field.message_type is not None:
            return self._message(node, field.message_type, path, depth)
        self._count(node, path, depth)
        if not isinstance(node, yaml.ScalarNode):
            raise self._wrong(node, path, "needs a single value, not a list or fields")
        if field.enum_type is not None:
            return self._enum(node, field.enum_type, path)
        if field.cpp_type == field.CPPTYPE_STRING:
            # The text as it was written: a column called 2024 or `on` is a name, whatever YAML makes of it.
            return node.value
        if field.cpp_type == field.CPPTYPE_BOOL:
            return self._truth(node, path)
        return self._number(node, field, path)

    def _free(self, node: yaml.Node, path: str, depth: int) -> dict[str, Any]:
        """Reads values of any kind, by name."""
        if not isinstance(node, yaml.MappingNode):
            raise self._wrong(node, path, "needs names and values, such as 'size: 32'")
        return {self._free_name(key, path): self._any(value, path, depth + 1) for key, value in node.value}

    def _free_name(self, key: yaml.Node, path: str) -> str:
        if not isinstance(key, yaml.ScalarNode):
            raise self._wrong(key, path, "needs plain names")
        return str(key.value)

    def _any(self, node: yaml.Node, path: str, depth: int) -> Any:
        self._count(node, path, depth)
        if isinstance(node, yaml.MappingNode):
            return self._free(node, path, depth)
        if isinstance(node, yaml.SequenceNode):
            return [self._any(item, path, depth + 1) for item in node.value]
        assert isinstance(node, yaml.ScalarNode)
        value = self._construct(node, path)
        if isinstance(value, float):
            if not math.isfinite(value):
                raise self._wrong(node, path, f"needs finite numbers, not {_quote(node)}")
            return value
        # Dates and the like have no place in the contract: the text as it was written.
        return value if value is None or isinstance(value, str | bool | int) else node.value

    def _enum(self, node: yaml.ScalarNode, enum: Any, path: str) -> int:
        prefix = "_".join(enum.values[0].name.split("_")[:-1]) + "_"
        numbers = {value.name.removeprefix(prefix).lower(): value.number for value in enum.values}
        name = node.value.lower().removeprefix(prefix.lower())
        if name in numbers:
            return int(numbers[name])
        if name.lstrip("-").isdecimal() and abs(int(name)) < 2**31:
            # A number that the contract may not know: for `validate` to refuse, as the server does.
            return int(name)
        known = [value.upper() if enum.full_name in _IN_UPPER_CASE else value for value in list(numbers)[1:]]
        raise self._wrong(node, path, f"there is no {_quote(node)}; {nearest(name, known)}")

    def _truth(self, node: yaml.ScalarNode, path: str) -> bool:
        value = self._construct(node, path)
        if not isinstance(value, bool):
            raise self._wrong(node, path, f"needs true or false, not {_quote(node)}")
        return value

    def _number(self, node: yaml.ScalarNode, field: Any, path: str) -> int | float | str:
        value = self._construct(node, path)
        try:
            # YAML takes 1e-3, with no point in it, for a text.
            number = float(value) if isinstance(value, str) else value
            if isinstance(value, bool) or not isinstance(number, int | float):
                raise ValueError
        except ValueError as error:
            raise self._wrong(node, path, f"needs a number, not {_quote(node)}") from error
        if field.cpp_type in (field.CPPTYPE_DOUBLE, field.CPPTYPE_FLOAT):
            return _json_float(number)
        return self._whole(node, number, field, path)

    def _whole(self, node: yaml.ScalarNode, number: float, field: Any, path: str) -> int:
        bits = 31 if field.cpp_type == field.CPPTYPE_INT32 else 63
        if not -(2**bits) <= number < 2**bits or number != int(number):
            raise self._wrong(node, path, f"needs a whole number of at most {bits} bits, not {_quote(node)}")
        return int(number)

    def _construct(self, node: yaml.ScalarNode, path: str) -> Any:
        try:
            return self._loader.construct_object(node)
        except (yaml.YAMLError, ValueError, OverflowError) as error:
            raise self._wrong(node, path, f"cannot be read as a value: {_quote(node)}") from error


def _json_float(number: float) -> float | str:
    """Writes what JSON has no numbers for as protobuf's mapping does."""
    try:
        value = float(number)
    except OverflowError:
        value = math.inf if number > 0 else -math.inf
    if math.isnan(value):
        return "NaN"
    return value if math.isfinite(value) else "Infinity" if value > 0 else "-Infinity"


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def _quote(node: yaml.ScalarNode) -> str:
    """Writes a value as the file has it; of a long one the beginning."""
    return repr(node.value) if len(node.value) <= _MAX_QUOTE else f"{node.value[:_MAX_QUOTE]!r}..."


def _needs(descriptor: Any) -> str:
    names = ", ".join(field.name for field in descriptor.fields)
    return f"needs fields ({names})" if names else "takes no settings"


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
