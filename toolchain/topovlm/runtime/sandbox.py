"""Where a chat template runs: Jinja's sandbox with what transformers gives to templates, and with bounds.

Jinja's own sandbox keeps a template from Python's internals, from changing what it was given and from ranges
of more than 100,000 numbers. It bounds neither time nor memory: loops nest, strings double, `'x' * 10**10`
is one operation. Here every turn of a loop, every macro and every call is counted, every text is measured
when it is made, and an operation that multiplies is looked at before it is done. What stays possible is slow
work inside one filter on texts within the bound (some milliseconds each); the deadline is seen between those.
"""

from __future__ import annotations

import functools
import json
import re
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.filters import do_format
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from topovlm.runtime import clock

MAX_CHARACTERS = 1_000_000  # of any one text or list
MAX_WRITTEN = 10_000_000  # characters, the texts that become part of others counted again
MAX_STEPS = 200_000
MAX_SECONDS = 10.0
_MAX_PRODUCT = 100_000_000  # of the sizes of what one call is given: `replace`, `join`
_MAX_BITS = 4096  # of a number
_LONG_NUMBER = re.compile(r"\d{6}")  # in a format: a width


class Budget:
    """What one rendering has used."""

    def __init__(self) -> None:
        self.steps, self.characters = 0, 0
        self.deadline = time.monotonic() + MAX_SECONDS

    def step(self) -> None:
        self.steps += 1
        if self.steps > MAX_STEPS or time.monotonic() > self.deadline:
            raise SecurityError(f"it works for more than {MAX_STEPS:,} steps or {MAX_SECONDS:g} s")

    def write(self, characters: int) -> None:
        self.characters += characters
        if self.characters > MAX_WRITTEN:
            raise SecurityError(f"it writes more than {MAX_WRITTEN:,} characters")


BUDGET: ContextVar[Budget] = ContextVar("template_budget")


def _size(value: object) -> int:
    return len(value) if isinstance(value, (str, list, tuple, dict)) else 1


def _sized(value: Any) -> Any:
    """The value itself, unless it is too long."""
    if _size(value) > MAX_CHARACTERS:
        raise SecurityError(f"it makes a text or a list of more than {MAX_CHARACTERS:,} entries")
    return value


def _check_given(values: tuple[Any, ...]) -> None:
    """Looks at what a call is given before it can multiply it."""
    BUDGET.get().step()
    *_, second, first = sorted([1, 1, *map(_size, values)])
    large = any(isinstance(value, int) and abs(value) > MAX_CHARACTERS for value in values)
    if large or first * second > _MAX_PRODUCT:
        raise SecurityError("it asks for a text or a list that is too long")


def _check_format(text: str) -> None:
    if _LONG_NUMBER.search(text):
        raise SecurityError("it formats to a width that is too large")


def _check_operands(operator: str, left: Any, right: Any) -> None:
    """Looks at what `*`, `**` and `%` would make."""
    if operator == "%" and isinstance(left, str):
        _check_format(left)
    if isinstance(left, int) and isinstance(right, int):
        bits = {"*": left.bit_length() + right.bit_length(), "**": left.bit_length() * abs(right)}
        if bits.get(operator, 0) > _MAX_BITS:
            raise SecurityError("it asks for a number that is too large")
    elif operator == "*":
        for value, times in ((left, right), (right, left)):
            if isinstance(times, int) and _size(value) * times > MAX_CHARACTERS:
                raise SecurityError("it asks for a text or a list that is too long")


def _checked(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)  # keeps the mark that a filter wants the context
    def filtered(*args: Any, **kwargs: Any) -> Any:
        _check_given((*args, *kwargs.values()))
        return _sized(function(*args, **kwargs))

    return filtered


class _Watched(NodeTransformer):
    """Puts a step into every loop and macro and a measure around every `~`."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        return self._stepping(node)

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:
        return self._stepping(node)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _own_call("sized", [node], node.lineno)

    def _stepping(self, node: nodes.For | nodes.Macro) -> nodes.Node:
        self.generic_visit(node)
        own_text = sum(len(data.data) for data in node.find_all(nodes.TemplateData))
        call = _own_call("step", [nodes.Const(own_text)], node.lineno)
        step = nodes.ExprStmt(call).set_lineno(node.lineno)
        node.body.insert(0, step)
        return node


def _own_call(name: str, args: list[nodes.Expr], lineno: int) -> nodes.Call:
    call = nodes.Call(nodes.EnvironmentAttribute(name), args, [], None, None)
    call.set_lineno(lineno)
    return call


class _Generation(Extension):
    """`{% generation %}`: marks what the assistant says, for training; here only a scope of its own."""

    tags = {"generation"}  # noqa: RUF012 as in Jinja

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body).set_lineno(line)


class _Namespace(Namespace):
    """Jinja's, without names that start with an underscore."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # so that `namespace(self=...)` works as in Jinja
        self, *rest = args
        held = dict(*rest, **kwargs)
        for name in held:
            _check_name(name)
        Namespace.__init__(self, held)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"it stores {name!r}, a name with an underscore in front, on a namespace")


class _Dict:
    """`dict(...)` without the class itself."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Jinja's own filter escapes for HTML; templates of models want plain JSON."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _format(value: Any, *args: Any, **kwargs: Any) -> str:
    """Jinja's filter, with a look at the widths."""
    _check_format(str(value))
    return do_format(value, *args, **kwargs)


def _raise(message: object) -> None:
    raise jinja2.TemplateError(str(message))


class Sandbox(ImmutableSandboxedEnvironment):
    """The environment of chat templates. Rendering needs a `BUDGET`."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[_Generation, loopcontrols],
            finalize=self._written,
        )
        self.filters |= {"tojson": _to_json, "format": _format}
        self.filters = {name: _checked(function) for name, function in self.filters.items()}
        self.globals.update(
            raise_exception=_raise,
            strftime_now=lambda form: clock.now().strftime(form),
            dict=_Dict(),
            namespace=_Namespace,
        )
        del self.globals["lipsum"]

    def step(self, characters: int = 0) -> None:
        """One turn of a loop or macro, whose own text has so many characters."""
        BUDGET.get().step()
        BUDGET.get().write(characters)

    def sized(self, value: Any) -> Any:
        return _sized(value)

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        owner = getattr(getattr(__obj, "__wrapped__", __obj), "__self__", None)
        if isinstance(owner, str) and __obj.__name__.startswith("format"):
            _check_format(owner)
        _check_given((owner, *args, *kwargs.values()))
        return _sized(super().call(__context, __obj, *args, **kwargs))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        self.step()
        _check_operands(operator, left, right)
        return _sized(super().call_binop(context, operator, left, right))

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        return _Watched().visit(tree)  # type: ignore[no-any-return]

    def _written(self, value: Any) -> Any:
        BUDGET.get().write(len(value if isinstance(value, str) else str(value)))
        return value
