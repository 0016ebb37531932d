"""What is done to the features, in a form that other programs and people read."""

import math
from typing import Any

from trana.trainer.data.preprocessing import Category, Number, Preprocessor


def to_recipe(preprocessor: Preprocessor) -> dict[str, Any]:
    """Says how features are made of raw columns, in JSON's own values: numbers are decimals that read back exactly.

    A number becomes (value - offset) / divisor in float64, then float32; 0 where the divisor is None. A category
    becomes one feature for each of its values, 1 for the value that it has and 0 for the others; all are 0 for a
    value that the training has not seen. A missing value is the `fill` first; where that is None none may be missing.

    Returns:
        The `columns` in order (of an array its channels, or one entry for all of them), the names of the `features`
        that they become, in order, and the `input_shape` that these are brought to (empty: as they come).
    """
    names = preprocessor.names if preprocessor.tabular else preprocessor.names * len(preprocessor.parts)
    return {
        "columns": [_column(name, part) for name, part in zip(names, preprocessor.parts, strict=True)],
        "features": list(preprocessor.feature_names),
        "input_shape": list(preprocessor.input_shape),
    }


def _column(name: str, part: Number | Category) -> dict[str, Any]:
    if isinstance(part, Category):
        return {"name": name, "kind": "category", "values": list(part.values), "fill": part.fill}
    # An infinite divisor is of numbers that do not vary; JSON has no such number.
    divisor = part.divisor if math.isfinite(part.divisor) else None
    return {"name": name, "kind": "number", "offset": part.offset, "divisor": divisor, "fill": part.fill}
