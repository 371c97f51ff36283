"""A single row of a canonical trace as a pydantic model, made from `schema.COLUMNS`.

This is for rows that people write and for checks on samples; readers never build one per row. Nothing on the way of a replay
imports this module.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator
from pydantic.functional_validators import BeforeValidator

from policyroute.replay.traces.schema import CACHE_PARTS, COLUMNS, ROW, Column


def _json_text(value: object) -> object:
    """JSON of any shape as text: a list or an object is written out, text stays as it is."""
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _utc(value: object) -> object:
    """A naive time is UTC, as a TIMESTAMP of DuckDB is."""
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) and value.tzinfo is None else value


_TYPES: dict[str, Any] = {
    "BIGINT": Annotated[int, Field(ge=0, lt=2**63)],
    "INTEGER": Annotated[int, Field(ge=0, lt=2**31)],
    "DOUBLE": Annotated[float, Field(ge=0, allow_inf_nan=False)],
    "BOOLEAN": bool,
    "VARCHAR": str,
    "TIMESTAMP": Annotated[datetime, BeforeValidator(_utc)],
    "DECIMAL(24,12)": Annotated[Decimal, Field(max_digits=24, decimal_places=12)],
    "JSON": Annotated[str, BeforeValidator(_json_text)],
}


class _Checked(BaseModel):
    """What holds between columns."""

    model_config = ConfigDict(extra="allow", frozen=True, coerce_numbers_to_str=True)

    @model_validator(mode="after")
    def _parts_within_total(self) -> _Checked:
        """Cached tokens and cache writes are parts of the input, reasoning is part of the output."""
        values = self.__dict__
        total, parts = values["input_tokens"], sum(values[name] or 0 for name in CACHE_PARTS)
        if total is not None and parts > total:
            raise ValueError(f"cached tokens and cache writes ({parts}) exceed input_tokens ({total}), which is the total")
        output, reasoning = values["output_tokens"], values["reasoning_tokens"] or 0
        if output is not None and reasoning > output:
            raise ValueError(f"reasoning_tokens ({reasoning}) exceed output_tokens ({output})")
        return self

    @model_validator(mode="after")
    def _lists(self) -> _Checked:
        """`messages` and `tools` are lists."""
        for name in ("messages", "tools"):
            text = self.__dict__[name]
            if text is not None and not isinstance(json.loads(text), list):
                raise ValueError(f"{name} must be a JSON list")
        return self


def _field(column: Column) -> Any:
    return (_TYPES[column.type] | None, Field(default=None, description=column.doc))


TraceRow: type[BaseModel] = create_model(
    "TraceRow",
    __base__=_Checked,
    __doc__="One call of a canonical trace.",
    **{column.name: _field(column) for column in (ROW, *COLUMNS)},
)
