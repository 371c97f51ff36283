"""What a request says, signal by signal: one definition for live requests and for trace rows.

Rules of this module
- `Facts` has one attribute for every row of `vocabulary.SIGNALS`, of the same name, computed when it is first read.
- None means that the request does not say; the caller then uses the signal's default. Values are not clamped to types here.
- `tokens` and `last_tokens` have bounds that need no tokenizer, so that a comparison is decided without one where they decide it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Generic, TypeVar, overload
from zoneinfo import ZoneInfo

from policyroute.language.policy import NONE, TextSet
from policyroute.language.vocabulary import WEEKDAYS
from policyroute.signals import billing, callers, request, results, tokens
from policyroute.signals.request import Content, Message
from policyroute.signals.text import Scanner

VERSION = f"1/{tokens.ENCODING}"  # what the facts mean; `columns` says when to change it
SEPARATOR = "\n\x1e\n"  # between messages in `prompt`: a line of its own, which no phrase and no run of white space spans
UNNAMED = "unnamed"  # the tool of a result whose call the request does not hold

# A fenced block, or one line that hardly occurs in prose. RE2 syntax.
CODE = r"(?m)^[ \t>]*(?:" + "|".join(
    (
        r"```|~~~",
        r"(?:async )?def \w+\(.*\).*:[ \t]*$|class \w+(?:\(.*\))?:[ \t]*$",
        r"from [\w.]+ import [\w*(]|import [\w.]+(?: as \w+)?;?[ \t]*$|import .+ from ['\"]",
        r"#include[ \t]*[<\"]|#!/|#define [A-Z_]",
        r"(?:public|private|protected|static|export|abstract|final) .*[({;][ \t]*$",
        r"(?:const|let|var) [\w{\[][^.?!]*=|(?:async )?function ?\w*\(|func (?:\(.*\) )?\w+\(|(?:pub )?fn \w+[<(]",
        r"(?:if|for|while|switch|catch|else if) ?\(.*\) ?\{[ \t]*$|\} ?else ?\{",
        r"(?:SELECT .+ FROM|INSERT INTO|UPDATE \w+ SET|CREATE TABLE) ",
        r"[\w.\[\]]+(?: ?[-+*/|&]?= ?|\()[^?]*\);?[ \t]*$|return\b.*;[ \t]*$|\S.*\)[ \t]*[;{][ \t]*$",
        r"[})\]]+[;,][ \t]*$|\}[ \t]*$",
        r">>> \S|\$ (?:cd|ls|git|pip|npm|sudo|python|docker|curl|make)\b",
        r"<(?:!DOCTYPE|html|head|body|div|span|script|style|svg|\?xml|\?php)\b",
        r"(?:@@ -\d|diff --git |\+\+\+ [ab]/)",
    )
) + ")"  # fmt: skip

Value = TypeVar("Value")


class Lazy(Generic[Value]):
    """A value computed on first reading and kept in the instance, without the lock of `functools.cached_property`.

    Two threads may both compute it; the values are equal.
    """

    def __init__(self, compute: Callable[[Any], Value]) -> None:
        self._compute = compute
        self.__doc__ = compute.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Lazy[Value]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> Value: ...
    def __get__(self, instance: object | None, owner: type) -> Lazy[Value] | Value:
        if instance is None:
            return self
        value = instance.__dict__[self._name] = self._compute(instance)
        return value


class Facts:
    """The facts of one request. Make one with `of_body` or `of_row`; every attribute is read-only in spirit and cheap to read twice."""

    def __init__(
        self, content: Content, headers: Mapping[str, str] | None = None, at: datetime | None = None, timezone: str = "UTC"
    ) -> None:
        self.content = content
        self._given_headers = headers
        self._at = at
        self._timezone = timezone

    @classmethod
    def of_body(
        cls,
        body: object,
        headers: Mapping[str, str] | None = None,
        at: datetime | None = None,
        timezone: str = "UTC",
    ) -> Facts:
        """Facts of a live request: its parsed JSON body, its headers (any case), its time (naive is UTC) and the policy's zone."""
        return cls(request.of_body(body), headers, at, timezone)

    @classmethod
    def of_row(
        cls,
        messages: object,
        tools: object = None,
        response_format: object = None,
        metadata: object = None,
        at: datetime | None = None,
        timezone: str = "UTC",
    ) -> Facts:
        """Facts of a trace row: JSON text (or parsed JSON) of its content columns, None where the row has none."""
        return cls(request.of_row(messages, tools, response_format, metadata), None, at, timezone)

    # -- sizes -----------------------------------------------------------------------------------------------------

    @Lazy
    def tokens(self) -> int | None:
        """Input tokens of the whole request, in o200k tokens (`billing` has the recipe)."""
        bill = self._bill
        return None if bill is None else bill.tokens(tokens.counted)

    @Lazy
    def tokens_low(self) -> int | None:
        """`tokens` is at least this; needs no tokenizer."""
        return None if self._bill is None else self._bill.low()

    @Lazy
    def tokens_high(self) -> int | None:
        """`tokens` is at most this; needs no tokenizer."""
        return None if self._bill is None else self._bill.high()

    @Lazy
    def last_tokens(self) -> int | None:
        """Tokens of the last user message: texts and pictures, without framing. 0 where there is no user message."""
        bill = self._last_bill
        return None if bill is None else bill.tokens(tokens.counted)

    @Lazy
    def last_tokens_low(self) -> int | None:
        """`last_tokens` is at least this; needs no tokenizer."""
        return None if self._last_bill is None else self._last_bill.low()

    @Lazy
    def last_tokens_high(self) -> int | None:
        """`last_tokens` is at most this; needs no tokenizer."""
        return None if self._last_bill is None else self._last_bill.high()

    @Lazy
    def max_output(self) -> int | None:
        """The caller's output limit (`max_completion_tokens`, `max_output_tokens` or `max_tokens`)."""
        return self.content.max_output

    # -- conversation ----------------------------------------------------------------------------------------------

    @Lazy
    def turns(self) -> int | None:
        """Messages of the user. Tool results are none, whatever role carries them."""
        messages = self.content.messages
        return None if messages is None else sum(message.role == "user" for message in messages)

    @Lazy
    def steps(self) -> int | None:
        """Assistant messages with tool calls after the last user message."""
        messages = self.content.messages
        if messages is None:
            return None
        steps = 0
        for message in reversed(messages):
            if message.role == "user":
                break
            steps += bool(message.calls)
        return steps

    @Lazy
    def tools(self) -> int | None:
        """Tools offered."""
        return None if self.content.tools is None else len(self.content.tools)

    @Lazy
    def tool(self) -> str | None:
        """The tool whose result ends the request (system messages after it aside), `none` where something else does."""
        messages = self.content.messages
        if messages is None:
            return None
        ending = next((message for message in reversed(messages) if message.role != "system"), None)
        return (ending.results[-1].name or UNNAMED) if ending is not None and ending.results else NONE

    @Lazy
    def tool_failed(self) -> bool | None:
        """The last tool result reports an error (`results` has the rule)."""
        messages = self.content.messages
        if messages is None:
            return None
        last = next((message.results[-1] for message in reversed(messages) if message.results), None)
        return last is not None and results.failed(last)

    @Lazy
    def images(self) -> bool | None:
        """There is a picture in a message or in a tool result."""
        messages = self.content.messages
        return None if messages is None else any(message.pictures for message in messages)

    @Lazy
    def code(self) -> bool | None:
        """There is code in the last user message: a fenced block or a line that `CODE` matches."""
        last = self.last
        return None if last is None else _code().mask(last) != 0

    # -- texts -----------------------------------------------------------------------------------------------------

    @Lazy
    def prompt(self) -> str | None:
        """Texts of all messages and tool results, with SEPARATOR between messages. Calls and tool definitions are no text."""
        messages = self.content.messages
        return None if messages is None else SEPARATOR.join(map(_spoken, messages))

    @Lazy
    def last(self) -> str | None:
        """Text of the last user message; empty where there is none."""
        if self.content.messages is None:
            return None
        return "" if self._last_message is None else "\n".join(self._last_message.texts)

    @Lazy
    def system(self) -> str | None:
        """Texts of the system messages (system, developer, `instructions`); empty where there are none."""
        messages = self.content.messages
        return None if messages is None else SEPARATOR.join(_spoken(message) for message in messages if message.role == "system")

    # -- the call --------------------------------------------------------------------------------------------------

    @Lazy
    def json(self) -> bool | None:
        """Structured output is asked for: `json_object` or `json_schema`, in any of the three shapes."""
        return self.content.structured

    @Lazy
    def stream(self) -> bool | None:
        """Streaming is asked for."""
        return self.content.stream

    @Lazy
    def requested(self) -> str | None:
        """The model that the caller asked for, as written."""
        return self.content.model

    @Lazy
    def hour(self) -> int | None:
        """Hour of the request's time in the policy's zone."""
        return None if self._local is None else self._local.hour

    @Lazy
    def weekday(self) -> str | None:
        """Day of the week of the request's time in the policy's zone: mon to sun."""
        return None if self._local is None else WEEKDAYS[self._local.weekday()]

    @Lazy
    def escalated(self) -> bool | None:
        """The user asked for a better answer: header `x-escalate` or metadata `escalated`."""
        return callers.escalated(self.content, self.headers)

    @Lazy
    def user(self) -> str | None:
        """Who asks (`callers` lists the places)."""
        return callers.user(self.content, self.headers)

    @Lazy
    def team(self) -> str | None:
        """The caller's team."""
        return callers.team(self.content, self.headers)

    @Lazy
    def conversation(self) -> str | None:
        """The conversation that the request belongs to."""
        return callers.conversation(self.content, self.headers)

    # -- shared work -----------------------------------------------------------------------------------------------

    @Lazy
    def headers(self) -> Mapping[str, str]:
        """The request's headers, names in lower case."""
        return {name.lower(): value for name, value in (self._given_headers or {}).items()}

    @Lazy
    def _bill(self) -> billing.Bill | None:
        return None if self.content.messages is None else billing.of_request(self.content)

    @Lazy
    def _last_message(self) -> Message | None:
        return next((message for message in reversed(self.content.messages or ()) if message.role == "user"), None)

    @Lazy
    def _last_bill(self) -> billing.Bill | None:
        if self.content.messages is None:
            return None
        return billing.of_message(self._last_message) if self._last_message else billing.Bill((), 0)

    @Lazy
    def _local(self) -> datetime | None:
        if self._at is None:
            return None
        at = self._at if self._at.tzinfo else self._at.replace(tzinfo=UTC)
        return at.astimezone(UTC if self._timezone == "UTC" else ZoneInfo(self._timezone))


def _spoken(message: Message) -> str:
    if not message.results:
        return "\n".join(message.texts)
    return "\n".join([*(text for result in message.results for text in result.texts), *message.texts])


@lru_cache(maxsize=1)
def _code() -> Scanner:
    return Scanner((TextSet("code", pattern=CODE),))
