"""Strict validation: of Kubernetes' own kinds by its schemas, of the others by their resource definitions."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate

DEFINITIONS = Path(__file__).parent / "crds"


def violations(found: dict[str, Any]) -> list[str]:
    """What is wrong with an object; a key that the schema does not know is wrong."""
    return list(_violations(json.dumps(found)))


@cache
def _violations(text: str) -> tuple[str, ...]:
    # The overlays have most objects in common.
    found = json.loads(text)
    definition = DEFINITIONS / f"{found['kind']}.json"
    if definition.exists():
        validator = _validator(definition)
        return tuple(f"{error.json_path}: {error.message}" for error in validator.iter_errors(found))
    try:
        kubernetes_validate.validate(found, kubernetes_validate.latest_version(), strict=True)
    except kubernetes_validate.ValidationError as error:
        return (f"{'.'.join(map(str, error.path))}: {error.message}",)
    return ()


@cache
def _validator(path: Path) -> jsonschema.Draft202012Validator:
    definition = json.loads(path.read_text())
    schema = _closed(definition["schema"])
    schema["properties"] |= {
        "apiVersion": {"const": f"{definition['group']}/{definition['version']}"},
        "kind": {"const": definition["kind"]},
        "metadata": {"type": "object", "required": ["name"]},
    }
    return jsonschema.Draft202012Validator(schema)


def _closed(schema: Any) -> Any:
    """The schema, with objects whose properties are named taking no others."""
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    if isinstance(closed.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        closed.setdefault("additionalProperties", False)
    return closed
