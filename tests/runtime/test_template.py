"""Chat templates rendered without transformers, against transformers."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.runtime.chat_templates import CHATML, TEXT_ONLY, WITH_PICTURES
from topovlm.errors import InputError
from topovlm.runtime.template import adds_special_tokens, messages, render, special_tokens

ALL = {**WITH_PICTURES, **TEXT_ONLY}
ODD_WORDS = (
    "",
    "What is it?",
    "  two  blanks\tand\n\na line\n",
    "{{ bos_token }} {% for x in y %} {# no #}",
    "\"quoted\" 'twice' \\n \\ {}[]<>&",
    "naïve – 価格 🙂 \u202e\x00",
    "<|im_end|></s><image><|image_pad|><end_of_turn>[/INST]<think>a</think>",
)


def oracle(template: str, chat: list[dict[str, Any]], tokens: dict[str, str], prompt: bool = True) -> str:
    """What transformers makes of it."""
    from transformers.utils.chat_template_utils import render_jinja_template

    rendered, _ = render_jinja_template(
        [chat], chat_template=template, add_generation_prompt=prompt, **tokens
    )
    return str(rendered[0])


@pytest.mark.parametrize("name", ALL)
def test_published_templates_render_as_in_transformers(name: str) -> None:
    """No, one and two pictures, words that could be taken for code or markers, with and without a reply."""
    template, tokens = ALL[name]
    parts = name in WITH_PICTURES
    for pictures in range(3):
        for words in ODD_WORDS:
            chat = messages(pictures, words, parts=parts)
            for prompt in (True, False):
                want = oracle(template, chat, tokens, prompt)
                got = render(template, chat, tokens=tokens, add_generation_prompt=prompt)
                assert got == want
                assert words.strip() in got


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=25, deadline=None)
@given(words=st.text(max_size=60), pictures=st.integers(0, 4), system=st.none() | st.text(max_size=20))
def test_any_words(name: str, words: str, pictures: int, system: str | None) -> None:
    """Random words, with a system turn in front where the template takes one."""
    template, tokens = ALL[name]
    chat = messages(pictures, words, parts=name in WITH_PICTURES)
    if system is not None:
        content = [{"type": "text", "text": system}] if name in WITH_PICTURES else system
        chat = [{"role": "system", "content": content}, *chat]
    try:
        want = oracle(template, chat, tokens)
    except Exception:
        with pytest.raises(InputError, match="chat_template"):
            render(template, chat, tokens=tokens)
        return
    assert render(template, chat, tokens=tokens) == want


@pytest.mark.parametrize("name", ["llava-1.5", "smollm3", "qwen3", "gemma3"])
def test_a_conversation_with_answers(name: str) -> None:
    """Three turns: the answer comes through generation blocks and reasoning as in transformers."""
    template, tokens = ALL[name]
    parts = name in WITH_PICTURES
    said = "<think>\nso\n</think>\n\nred"
    answer = {"role": "assistant", "content": [{"type": "text", "text": said}] if parts else said}
    chat = [*messages(1, "What?", parts=parts), answer, *messages(0, "Why?", parts=parts)]
    assert render(template, chat, tokens=tokens) == oracle(template, chat, tokens)
    assert render(template, chat[:2], tokens=tokens) == oracle(template, chat[:2], tokens)


# Constructs of the language that templates use, one each.
CONSTRUCTS = {
    "json": "{{ messages | tojson }} {{ messages | tojson(indent=2) }}"
    "{{ {'b': 'é<', 'a': 1} | tojson(sort_keys=true) }}",
    "loop controls": "{% for i in range(9) %}{% if i == 2 %}{% continue %}{% endif %}"
    "{% if i == 5 %}{% break %}{% endif %}{{ i }}"
    "{{ loop.length }}{{ loop.last }}{{ loop.revindex }}{% endfor %}",
    "macro": "{% macro turn(m, n=2) %}[{{ m.role }}{{ n }}{{ caller() if caller }}]{% endmacro %}"
    "{% for m in messages %}{{ turn(m) }}{% call turn(m, 3) %}x{% endcall %}{% endfor %}",
    "recursion": "{% for i in [1, [2, [3]]] recursive %}"
    "{% if i is iterable %}<{{ loop(i) }}>{% else %}{{ i }}"
    "{% endif %}{% endfor %}",
    "namespace": "{% set ns = namespace(a=1, b='x') %}"
    "{% for m in [1, 2] %}{% set ns.a = ns.a + m %}{% endfor %}"
    "{{ ns.a }}{{ ns.b }}",
    "dictionary": "{% set d = dict(a=1, b=2) %}{{ d }}{{ dict.fromkeys('ab', 0) }}{{ d.items() | list }}",
    "block set": "{% set x %}a{{ messages[0].role }}{% endset %}{{ x }}"
    "{% set y | upper %}b{% endset %}{{ y }}",
    "generation": "{% set x = 1 %}{% generation %}{% set x = 2 %}in {{ x }}{% endgeneration %} out {{ x }}",
    "white space": "  {% if true %}  \n  a\n  {% endif %}\n b {%- if true -%} c {% endif +%}\nd\n\n",
    "strings": "{{ 'a,b'.split(',') }}{{ '%s-%d' % ('x', 3) }}{{ '{:>5}'.format('é') }}"
    "{{ 'ab' * 3 ~ 4 ~ none }}"
    "{{ 'x' | center(7) }}{{ 'abc'[::-1] }}{{ messages | length * 2 ** 5 % 7 }}",
    "absent": "{{ nothing }}{{ messages[0].nothing }}{{ nothing is defined }}{{ nothing | default('d') }}"
    "{{ tools }}{{ documents }}",
    "filters": "{{ messages | map(attribute='role') | join('+') }}{{ [3, 1] | sort | first }}"
    "{{ messages | selectattr('role', 'equalto', 'user') | list | count }}{{ 'a<b' | e }}",
    "values": "{{ 1.50 }}{{ true }}{{ none }}{{ [1, 'a'] }}{{ 1 if false }}{{ 3 / 2 }}{{ 7 // 2 }}",
}


@pytest.mark.parametrize("name", CONSTRUCTS)
def test_constructs_of_the_language(name: str) -> None:
    """The bounds change nothing of what a template within them writes."""
    chat = messages(2, 'say "é" <b>')
    want = oracle(CONSTRUCTS[name], chat, CHATML)
    assert render(CONSTRUCTS[name], chat, tokens=CHATML) == want


def test_pictures_in_the_messages_are_not_shown_to_the_template() -> None:
    """Images and arrays reach a template as in transformers: as the names of their types."""
    chat = messages(0, "x")
    chat[0]["content"].append({"type": "image", "image": Image.new("RGB", (2, 2)), "array": np.zeros(2)})
    template = "{{ messages }}"
    assert render(template, chat, tokens={}) == oracle(template, chat, {})
    assert render(template, [{**chat[0], "name": None}], tokens={}) == render(template, chat, tokens={})


HOSTILE = {
    "loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "loops within loops": "{% for i in [1] recursive %}{{ loop(range(50)) }}{% endfor %}",
    "macros": "{% macro m(n) %}{{ m(n - 1) + m(n - 1) if n }}{% endmacro %}{{ m(60) }}",
    "recursion": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "filters": "{% for i in range(99999) %}{{ (range(99999) | list | sum) and '' }}{% endfor %}",
    "repeat": "{{ 'x' * 10 ** 9 }}",
    "repeat a list": "{{ (['x'] * 10 ** 9) | length }}",
    "doubling": "{% set ns = namespace(x='xx') %}"
    "{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "adding": "{% set ns = namespace(x='xx') %}"
    "{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "block": "{% set x = 'xxxxxxxxxx' %}" + "{% set x %}{{ x }}{{ x }}{{ x }}{{ x }}{% endset %}" * 30,
    "power": "{{ 9 ** (9 ** 9) }}",
    "squares": "{% set ns = namespace(x=7) %}"
    "{% for i in range(60) %}{% set ns.x = ns.x * ns.x %}{% endfor %}",
    "width": "{{ 'x' | center(10 ** 10) }}",
    "padding": "{{ 'x'.ljust(9999999999) }}",
    "format": "{{ '{:>9999999999}'.format('x') }}",
    "percent": "{{ '%9999999999d' % 3 }}",
    "percent filter": "{{ '%9999999999d' | format(3) }}",
    "replace": "{% set x = 'x' * 900000 %}{{ x.replace('x', x) | length }}",
    "output": "{% for i in range(99999) %}" + "x" * 1000 + "{{ '' }}{% endfor %}",
    "internals": "{{ ''.__class__.__mro__ }}{{ ().__class__.__base__.__subclasses__() }}",
    "formatted internals": "{{ '{0.__class__.__mro__}'.format(1) + '{x.__class__}' | format(x=1) }}",
    "namespace internals": "{% set ns = namespace(__class__=1) %}",
    "mutation": "{{ messages.append(1) }}",
    "syntax": "{% for %}",
    "unknown filter": "{{ 1 | nope }}",
    "own words": "{{ raise_exception('Roles\nmust alternate') }}",
    "type": "{{ 1 + 'a' }}",
    "absent": "{{ nothing.more }}",
    "zero": "{{ 1 // 0 }}",
    "lines": "{{ lipsum(n=100000) }}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_template_that_is_broken_or_hostile_is_one_sentence(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No hang, no flood, no look at Python: an `InputError` of one line within seconds."""
    from topovlm.runtime import sandbox

    monkeypatch.setattr(sandbox, "MAX_SECONDS", 2.0)
    start = time.monotonic()
    with pytest.raises(InputError, match="chat_template") as error:
        render(HOSTILE[name], messages(1, "x"), tokens={})
    assert time.monotonic() - start < 8
    assert len(str(error.value)) < 600
    assert "\n" not in str(error.value)


def test_long_words_are_no_attack() -> None:
    """A prompt of half a million characters renders."""
    template, tokens = WITH_PICTURES["gemma3"]
    words = "word " * 100_000
    assert words.strip() in render(template, messages(2, words), tokens=tokens)


@pytest.mark.parametrize("bos", ["<s>", None])
def test_special_tokens_as_the_tokenizer_names_them(bos: str | None, tmp_path: Any) -> None:
    """Special tokens by name, from the saved configuration, are those of the loaded tokenizer."""
    from tokenizers import Tokenizer, models
    from transformers import AddedToken, AutoTokenizer, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, "<s>": 1, "</s>": 2, "<image>": 3}, "<unk>"))
    fast: Any = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=bos,
        eos_token=AddedToken("</s>", special=True),
        unk_token="<unk>",
        extra_special_tokens={"image_token": "<image>"},
    )
    fast.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    loaded: Any = AutoTokenizer.from_pretrained(tmp_path)
    assert special_tokens(config) == loaded.special_tokens_map
    as_published = {**config, "eos_token": {"__type": "AddedToken", "content": "</s>", "special": True}}
    as_published |= {"add_bos_token": True, "pad_token": None}
    assert special_tokens(as_published) == loaded.special_tokens_map


def test_bos_is_not_added_twice() -> None:
    """The tokenizer adds its bos to a rendered text only when the text does not start with it."""
    assert not adds_special_tokens("<s>[INST]", "<s>")
    assert adds_special_tokens("USER: <s>", "<s>")
    assert adds_special_tokens("<s>", None)


def test_jinja_is_imported_with_the_first_template_and_nothing_heavy() -> None:
    """Importing the module brings no Jinja; rendering brings neither torch nor transformers."""
    code = (
        "import sys; from topovlm.runtime.template import render, messages;"
        "assert 'jinja2' not in sys.modules;"
        "assert render('{{ messages[0].content[0].text }}', messages(0, 'hi'), tokens={}) == 'hi';"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
