"""Makes packages/models/test/fixtures/chat-templates.json.gz and chat-drawn.json.gz: how transformers renders
conversations with templates of known models, and with templates that are drawn.

    python3 -m venv /tmp/golden && /tmp/golden/bin/pip install transformers==5.24.0 jinja2==3.1.6
    /tmp/golden/bin/pip download --no-deps --no-binary llama-cpp-python llama-cpp-python==0.3.36 && tar xzf llama_cpp_python-0.3.36.tar.gz
    /tmp/golden/bin/python tools/golden/chat.py llama_cpp_python-0.3.36/vendor/llama.cpp/models/templates

The files record the versions that made them. The templates in REAL are those of the models, as llama.cpp (MIT licence)
collects them for its tests; the licence of each is that of its model. Those in FOLLOWING are our own, and follow the
models that they are named after, whose licences do not let us copy them: they differ in what matters, e.g. whether the
template writes the first token, whether a system message is separate or part of the first question, the names of roles,
trimming of contents, the form of tools, and conversations that are refused.
"""

import sys

sys.path.append(sys.path.pop(0))  # safetensors.py next to this script would hide the library

import datetime
import gzip
import json
import random
from collections import Counter
from pathlib import Path

import jinja2
import transformers
import transformers.utils.chat_template_utils as chat_template_utils
from chat_drawn import conversation, draw

FIXTURES = "packages/models/test/fixtures"

REAL = {
    # file: (model, licence)
    "Qwen-Qwen2.5-7B-Instruct": ("Qwen/Qwen2.5-7B-Instruct", "Apache-2.0"),
    "Qwen-Qwen3-0.6B": ("Qwen/Qwen3-0.6B", "Apache-2.0"),
    "Qwen-QwQ-32B": ("Qwen/QwQ-32B", "Apache-2.0"),
    "Qwen3-Coder": ("Qwen/Qwen3-Coder-30B-A3B-Instruct", "Apache-2.0"),
    "mistralai-Mistral-Nemo-Instruct-2407": ("mistralai/Mistral-Nemo-Instruct-2407", "Apache-2.0"),
    "Mistral-Small-3.2-24B-Instruct-2506": ("mistralai/Mistral-Small-3.2-24B-Instruct-2506", "Apache-2.0"),
    "HuggingFaceTB-SmolLM3-3B": ("HuggingFaceTB/SmolLM3-3B", "Apache-2.0"),
    "ibm-granite-granite-3.3-2B-Instruct": ("ibm-granite/granite-3.3-2b-instruct", "Apache-2.0"),
    "ibm-granite-granite-4.0": ("ibm-granite/granite-4.0-tiny-preview", "Apache-2.0"),
    "microsoft-Phi-3.5-mini-instruct": ("microsoft/Phi-3.5-mini-instruct", "MIT"),
    "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B": ("deepseek-ai/DeepSeek-R1-Distill-Qwen-32B", "MIT"),
    "Apertus-8B-Instruct": ("swiss-ai/Apertus-8B-Instruct-2509", "Apache-2.0"),
    "openai-gpt-oss-120b": ("openai/gpt-oss-120b", "Apache-2.0"),
    "GLM-4.6": ("zai-org/GLM-4.6", "MIT"),
}

FOLLOWING = {
    "qwen": {
        "tokens": {"eos_token": "<|im_end|>"},
        "template": """{%- if messages[0]['role'] == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
{%- else %}
    {{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
""",
    },
    "llama-2": {
        "tokens": {"bos_token": "<s>", "eos_token": "</s>"},
        "template": "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}{% for message in loop_messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}{% if loop.index0 == 0 and system_message != false %}{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}",
    },
    "gemma": {
        "tokens": {"bos_token": "<bos>", "eos_token": "<eos>"},
        "template": """{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}{% for message in messages %}{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '
' + message['content'] | trim + '<end_of_turn>
' }}{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model
'}}{% endif %}""",
    },
    "llama-3": {
        "tokens": {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"},
        "template": "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}",
    },
    "llama-3.1": {
        "tokens": {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"},
        "template": """{{- bos_token }}
{%- if not date_string is defined %}{% set date_string = strftime_now("%d %b %Y") %}{% endif %}
{%- set first = messages[0]['content']|trim if messages[0]['role'] == 'system' else "" %}
{%- set rest = messages[1:] if messages[0]['role'] == 'system' else messages %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\nToday Date: " + date_string + "\\n\\n" + first + "<|eot_id|>" }}
{%- if tools is not none %}
    {%- set question = rest[0]['content']|trim %}
    {%- set rest = rest[1:] %}
    {{- '<|start_header_id|>user<|end_header_id|>\\n\\n' }}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
    {{- question + "<|eot_id|>" }}
{%- endif %}
{%- for message in rest %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("one call at a time") }}
        {%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n{"name": "' + tool_call.name + '", "parameters": ' }}
        {{- tool_call.arguments | tojson }}
        {{- "}<|eot_id|>" }}
    {%- else %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" }}
        {%- if message.content is mapping or message.content is iterable %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
""",
    },
    "gemma-3": {
        "tokens": {"bos_token": "<bos>", "eos_token": "<eos>"},
        "template": """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- set prefix = messages[0]['content'] + '\\n\\n' -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set prefix = "" -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("Conversation roles must alternate user/assistant/user/assistant/...") }}
    {%- endif -%}
    {%- set role = "model" if message['role'] == 'assistant' else message['role'] -%}
    {{ '<start_of_turn>' + role + '\\n' + (prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}
            {%- if item['type'] == 'text' -%}{{ item['text'] | trim }}{%- endif -%}
        {%- endfor -%}
    {%- endif -%}
    {{ '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{'<start_of_turn>model\\n'}}
{%- endif -%}
""",
    },
}

SYSTEM = {"role": "system", "content": "Answer in one word."}
QUESTION = {"role": "user", "content": "\ufeffWhat is “red”?\n\x1f"}
ANSWER = {"role": "assistant", "content": " a colour"}
SECOND = {"role": "user", "content": "And {{ two }}?"}
THOUGHT = {"role": "assistant", "content": "<think>\nhm\n</think>\n\n    four"}
REASONED = {"role": "assistant", "content": "so", "reasoning_content": "because\n"}
CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"id": "call00001", "type": "function", "function": {"name": "get_weather", "arguments": {"city": "Köln", "days": [1, 2.5], "ok": True, "no": None}}}
    ],
}
RESULT = {"role": "tool", "tool_call_id": "call00001", "name": "get_weather", "content": '{"sky": "<blue>"}'}
STOP = {"role": "assistant", "content": "calling", "tool_calls": [{"id": "call00002", "type": "function", "function": {"name": "stop", "arguments": {}}}]}
STOPPED = {"role": "tool", "tool_call_id": "call00002", "name": "stop", "content": "done"}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": 'The weather in "a city" & now',
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string", "description": "e.g. Köln", "enum": ["Köln", "Paris"]}, "days": {"type": "array", "items": {"type": "integer"}, "default": None}},
                "required": ["city"],
            },
            "return": {"type": "string"},
        },
    },
    {"type": "function", "function": {"name": "stop", "description": "Ends", "parameters": {"type": "object", "properties": {}}}},
]
CONVERSATIONS = [
    ([QUESTION], None),
    ([QUESTION, ANSWER], None),
    ([QUESTION, ANSWER, SECOND], None),
    ([SYSTEM, QUESTION], None),
    ([SYSTEM, QUESTION, ANSWER, SECOND, ANSWER], None),
    ([QUESTION, THOUGHT], None),
    ([QUESTION, THOUGHT, SECOND, REASONED], None),
    ([SYSTEM, QUESTION], TOOLS),
    ([QUESTION, CALL, RESULT], TOOLS),
    ([SYSTEM, QUESTION, CALL, RESULT, ANSWER, SECOND], TOOLS),
    ([QUESTION, CALL, RESULT, STOP, STOPPED, ANSWER], TOOLS[:1]),
]
DRAWN = 1000
LEAST = 20


class Day(datetime.datetime):
    """The date that templates see."""

    @classmethod
    def now(cls):
        return cls(2024, 7, 26)


chat_template_utils.datetime = Day


def rendered(template, tokens, messages, tools, prompt):
    """Renders as `apply_chat_template` does. Returns no result for a template that Python cannot render."""
    try:
        chat = chat_template_utils._normalize_chat_messages(messages)
        [text], _ = chat_template_utils.render_jinja_template([chat], tools=tools, chat_template=template, add_generation_prompt=prompt, **tokens)
        return {"text": text}
    except jinja2.exceptions.UndefinedError as error:
        return {"broken": str(error)}
    except jinja2.exceptions.TemplateError as error:
        return {"refused": str(error)} if type(error) is jinja2.exceptions.TemplateError else {"broken": str(error)}
    except (TypeError, ValueError, ZeroDivisionError, OverflowError) as error:
        return {"broken": str(error)}


def known(folder):
    real = [
        {"name": name, "source": f"{model}, {licence}, from llama.cpp", "tokens": {"bos_token": "<s>", "eos_token": "</s>"}, "template": Path(folder, f"{name}.jinja").read_text("utf8")}
        for name, (model, licence) in REAL.items()
    ]
    templates = [*({"name": name, "source": "own", **made} for name, made in FOLLOWING.items()), *real]
    for one in templates:
        one["cases"] = [
            {"conversation": index, "addGenerationPrompt": prompt, **rendered(one["template"], one["tokens"], messages, tools, prompt)}
            for index, (messages, tools) in enumerate(CONVERSATIONS)
            for prompt in (False, True)
        ]
    return {"conversations": [{"messages": messages, "tools": tools} for messages, tools in CONVERSATIONS], "templates": templates}


def drawn():
    rng = random.Random(7)
    conversations = [conversation(rng) for _ in range(60)]
    tokens = {"bos_token": "<s>"}
    counts, cases, broken = Counter(), [], 0
    while len(cases) < DRAWN:
        template, used = draw(rng)
        index, prompt = rng.randrange(len(conversations)), rng.random() < 0.5
        result = rendered(template, tokens, *conversations[index], prompt)
        if "broken" in result or len(result.get("text", "")) > 1500:
            broken += 1
            continue
        counts.update(used.keys())
        cases.append({"conversation": index, "template": template, "addGenerationPrompt": prompt, **result})
    rare = {name: count for name, count in counts.items() if count < LEAST}
    print(f"{DRAWN} drawn, {broken} not, {len(counts)} constructs, fewest {min(counts.values())}, {rare=}")
    assert not rare, rare
    return {
        "conversations": [{"messages": messages, "tools": tools} for messages, tools in conversations],
        "tokens": tokens,
        "constructs": dict(sorted(counts.items())),
        "cases": cases,
    }


def write(name, content):
    versions = {"transformers": transformers.__version__, "jinja2": jinja2.__version__}
    text = json.dumps({"versions": versions, **content}, ensure_ascii=False)
    with open(f"{FIXTURES}/{name}", "wb") as file:
        file.write(gzip.compress(text.encode("utf8"), mtime=0))


def main():
    write("chat-templates.json.gz", known(sys.argv[1]))
    write("chat-drawn.json.gz", drawn())


if __name__ == "__main__":
    main()
