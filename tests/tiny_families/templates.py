"""Chat templates in the forms that are published; capital words are filled in by who uses them."""

from __future__ import annotations

_IMAGES = "message['content'] | selectattr('type', 'equalto', 'image')"
_VIDEOS = "message['content'] | selectattr('type', 'equalto', 'video')"
_TEXTS = "message['content'] | selectattr('type', 'equalto', 'text')"

LLAVA = (
    "{% for message in messages %}{% if message['role'] != 'system' %}{{ message['role'].upper() + ': '}}"
    f"{{% endif %}}{{% for content in {_IMAGES} %}}{{{{ '<image>\\n' }}}}{{% endfor %}}"
    "{% if message['role'] != 'assistant' %}"
    f"{{% for content in {_TEXTS} %}}{{{{ content['text'] + ' '}}}}{{% endfor %}}{{% else %}}"
    f"{{% for content in {_TEXTS} %}}{{% generation %}}{{{{ content['text'] + ' '}}}}{{% endgeneration %}}"
    "{% endfor %}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
LLAVA_VIDEO = LLAVA.replace(
    "{% if message['role'] != 'assistant' %}",
    f"{{% for content in {_VIDEOS} %}}{{{{ '<video>\\n' }}}}{{% endfor %}}"
    "{% if message['role'] != 'assistant' %}",
)
# llava-interleave and OneVision: a newline stands before the words.
INTERLEAVE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + ' '}}"
    f"{{% for content in {_IMAGES} %}}{{{{ '<image>' }}}}{{% endfor %}}"
    f"{{% for content in {_VIDEOS} %}}{{{{ '<video>' }}}}{{% endfor %}}"
    "{% if message['role'] != 'assistant' %}"
    f"{{% for content in {_TEXTS} %}}{{{{ '\\n' + content['text'] }}}}{{% endfor %}}{{% else %}}"
    f"{{% for content in {_TEXTS} %}}{{% generation %}}{{{{ '\\n' + content['text'] }}}}{{% endgeneration %}}"
    "{% endfor %}{% endif %}{{'<|im_end|>'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}"
    "{% if message['content'] is string %}{{ message['content'] | trim }}{% else %}"
    f"{{% for content in {_IMAGES} %}}{{{{ '<image>\\n' }}}}{{% endfor %}}"
    f"{{% for content in {_TEXTS} %}}{{{{ content['text'] | trim }}}}{{% endfor %}}{{% endif %}}"
    "{{ '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)
VIPLLAVA = (
    "{% for message in messages %}{% if message['role'] == 'user' %}###Human: {% else %}###Assistant: "
    f"{{% endif %}}{{% for content in {_IMAGES} %}}{{{{ '<image>\\n' }}}}{{% endfor %}}"
    f"{{% for content in {_TEXTS} %}}{{{{ content['text'] }}}}{{% endfor %}}{{% endfor %}}"
    "{% if add_generation_prompt %}{{ '###Assistant:' }}{% endif %}"
)
MISTRAL = (
    "{{- bos_token }}{%- for message in messages %}{%- if message['role'] == 'system' %}"
    "{{- '[SYSTEM_PROMPT]' + message['content'] + '[/SYSTEM_PROMPT]' }}"
    "{%- elif message['role'] == 'user' %}{{- '[INST]' }}"
    "{%- if message['content'] is string %}{{- message['content'] }}{%- else %}"
    "{%- for block in message['content'] %}{%- if block['type'] == 'text' %}{{- block['text'] }}"
    "{%- elif block['type'] == 'image' %}{{- '[IMG]' }}"
    "{%- else %}{{- raise_exception('Only text and image blocks are supported!') }}{%- endif %}"
    "{%- endfor %}{%- endif %}{{- '[/INST]' }}"
    "{%- else %}{{- message['content'] + eos_token }}{%- endif %}{%- endfor %}"
)
QWEN_PICTURES = (
    "{% set image_count = namespace(value=0) %}{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}SYSTEM{% endif %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n{% else %}"
    "{% for content in message['content'] %}"
    "{% if content['type'] == 'image' or 'image' in content or 'image_url' in content %}"
    "{% set image_count.value = image_count.value + 1 %}"
    "{% if add_vision_id %}Picture {{ image_count.value }}: {% endif %}"
    "<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif content['type'] == 'video' or 'video' in content %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QWEN_SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n'}}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for content in message['content'] %}{% if content['type'] == 'image' %}{{ 'IMAGE\\n' }}"
    "{% elif content['type'] == 'text' %}{{ content['text'] }}{% endif %}{% endfor %}{% endif %}"
    "{{'<|im_end|>\\n'}}{% endfor %}{% if add_generation_prompt %}{{'<|im_start|>assistant\\n' }}{% endif %}"
)
# Of a tokenizer alone, as text-only models have them: a turn is one string.
WORDS_ALONE = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
LLAMA2 = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{% set system = messages[0]['content'] + '\\n\\n' %}"
    "{% set turns = messages[1:] %}{% else %}{% set system = '' %}{% set turns = messages %}{% endif %}"
    "{% for message in turns %}{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + (system if loop.first else '') + message['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + message['content'] + eos_token }}{% endif %}{% endfor %}"
)
IDEFICS = (
    "START{% for message in messages %}{{message['role'] | capitalize}}"
    "{% if message['content'][0]['type'] == 'image' %}{{':'}}{% else %}{{': '}}{% endif %}"
    "{% for line in message['content'] %}{% if line['type'] == 'text' %}{{line['text']}}"
    "{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
# ChatML, a line for each picture and each video.
VISUALS = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for item in message['content'] %}{% if item['type'] == 'image' %}{{ '<|image_pad|>\\n' }}"
    "{% elif item['type'] == 'video' %}{{ '<|video_pad|>\\n' }}"
    "{% else %}{{ item['text'] }}{% endif %}{% endfor %}{% endif %}{{ '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
# Published PaliGemma checkpoints have no template: this one writes what their model card's code writes.
PALIGEMMA = (
    "{% for message in messages %}"
    f"{{% for content in {_IMAGES} %}}{{{{ '<image>' }}}}{{% endfor %}}"
    f"{{% for content in {_TEXTS} %}}{{{{ content['text'] }}}}{{% endfor %}}{{% endfor %}}"
)
GEMMA = (
    "{{ bos_token }}{%- for message in messages -%}"
    "{%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}"
    "{{ '<start_of_turn>' + role + '\\n' }}"
    "{%- if message['content'] is string -%}{{ message['content'] | trim }}{%- else -%}"
    "{%- for item in message['content'] -%}{%- if item['type'] == 'image' -%}{{ '<start_of_image>' }}"
    "{%- elif item['type'] == 'text' -%}{{ item['text'] | trim }}{%- endif -%}{%- endfor -%}{%- endif -%}"
    "{{ '<end_of_turn>\\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<start_of_turn>model\\n' }}{%- endif -%}"
)
PADDLE = (
    "{{- '<|begin_of_sentence|>' -}}{%- for message in messages -%}{%- if message['role'] == 'user' -%}"
    "{{- 'User: ' -}}"
    f"{{%- for content in {_IMAGES} -%}}"
    "{{ '<|IMAGE_START|><|IMAGE_PLACEHOLDER|><|IMAGE_END|>' }}{%- endfor -%}"
    f"{{%- for content in {_TEXTS} -%}}{{{{ content['text'] }}}}{{%- endfor -%}}"
    "{{ '\\n' -}}{%- else -%}{{- 'Assistant:\\n' -}}"
    f"{{%- for content in {_TEXTS} -%}}{{{{ content['text'] }}}}{{%- endfor -%}}"
    "{{ '</s>' }}{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- 'Assistant:\\n' -}}{%- endif -%}"
)
GLM = (
    "[gMASK]<sop>{% for message in messages %}{% if message['role'] == 'user' %}<|user|>\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for item in message['content'] %}{% if item['type'] == 'image' %}"
    "<|begin_of_image|><|image|><|end_of_image|>{% elif item['type'] == 'text' %}{{ item['text'] }}"
    "{% endif %}{% endfor %}{% endif %}{% else %}<|assistant|>\n{{ message['content'] }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>\n<think>{% endif %}"
)
PHI = (
    "{% for message in messages %}{{'<|' + message['role'] + '|>\n' + message['content'] + '<|end|>\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
