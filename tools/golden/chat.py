"""Makes packages/models/test/fixtures/chat-templates.json: how transformers renders conversations with templates of
known models.

    python3 -m venv /tmp/golden && /tmp/golden/bin/pip install transformers==5.24.0 jinja2==3.1.6
    /tmp/golden/bin/python tools/golden/chat.py && npx prettier --write packages/models/test/fixtures/chat-templates.json

The file records the versions that made it. The templates follow those of the models that they are named after. They
differ in what matters: whether the template writes the first token, whether a system message is separate or part of the
first question, the names of roles, trimming of contents, and conversations that are refused.
"""

import sys

sys.path.append(sys.path.pop(0))  # safetensors.py next to this script would hide the library

import json

import jinja2
import transformers
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

OUT = "packages/models/test/fixtures/chat-templates.json"

TEMPLATES = {
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
}

SYSTEM = {"role": "system", "content": "Answer in one word."}
QUESTION = {"role": "user", "content": "What is “red”?\n"}
ANSWER = {"role": "assistant", "content": " a colour"}
SECOND = {"role": "user", "content": "And {{ two }}?"}
CONVERSATIONS = [
    [QUESTION],
    [QUESTION, ANSWER],
    [QUESTION, ANSWER, SECOND],
    [SYSTEM, QUESTION],
    [SYSTEM, QUESTION, ANSWER, SECOND, ANSWER],
]


def written(tokenizer, messages, add_generation_prompt):
    try:
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=add_generation_prompt)
        return {"text": text}
    except jinja2.exceptions.TemplateError as error:
        return {"refused": str(error)}


def main():
    templates = []
    for name, made in TEMPLATES.items():
        tokenizer = transformers.PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer(WordLevel({"a": 0}, unk_token="a")), **made["tokens"]
        )
        tokenizer.chat_template = made["template"]
        cases = [
            {"messages": messages, "addGenerationPrompt": prompt, **written(tokenizer, messages, prompt)}
            for messages in CONVERSATIONS
            for prompt in (False, True)
        ]
        templates.append({"name": name, **made, "cases": cases})
    versions = {"transformers": transformers.__version__, "jinja2": jinja2.__version__}
    with open(OUT, "w", encoding="utf8") as file:
        json.dump({"versions": versions, "templates": templates}, file, ensure_ascii=False)


if __name__ == "__main__":
    main()
