"""Chat templates that show, in few words, what each family of models does about thoughts."""

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
)
# earlier turns lose their thoughts, the last one shows its own, perhaps an empty one
STRIPS_HISTORY = (
    "{% set last = namespace(asked=0) %}{% for message in messages %}"
    "{% if message['role'] == 'user' %}{% set last.asked = loop.index0 %}{% endif %}{% endfor %}"
    "{% for message in messages %}{% set content = message['content'] %}"
    "{% if message['role'] == 'assistant' %}{% set content = content.split('</think>')[-1] %}"
    "{% if loop.index0 > last.asked %}{% set content = '<think>\n' "
    "+ (message['reasoning_content'] or '') + '\n</think>\n\n' + content %}{% endif %}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + content + '<|im_end|>\n' }}{% endfor %}"
)
EMPTY = "{{ '<think>\n\n</think>\n\n' }}"
OFF = "{% if enable_thinking is defined and enable_thinking is false %}"


def with_header(turns: str, *header: str) -> str:
    """Return a template of turns that ends a prompt with these pieces."""
    return f"{turns}{{% if add_generation_prompt %}}{''.join(header)}{{% endif %}}"


ASSISTANT = "{{ '<|im_start|>assistant\n' }}"
QWEN3 = with_header(STRIPS_HISTORY, ASSISTANT, OFF, EMPTY, "{% endif %}")
QWEN3_5 = with_header(
    STRIPS_HISTORY, ASSISTANT, OFF, EMPTY, "{% else %}{{ '<think>\n' }}{% endif %}"
)
QWEN3_5_SMALL = with_header(
    STRIPS_HISTORY,
    ASSISTANT,
    "{% if enable_thinking is defined and enable_thinking %}{{ '<think>\n' }}{% else %}",
    EMPTY,
    "{% endif %}",
)
LEVELS = "{% if reasoning_effort is defined %}{{ '<|im_start|>system\nEffort: ' + reasoning_effort "
LEVELS += "+ '<|im_end|>\n' }}{% endif %}"
QWEN3_8 = LEVELS + QWEN3_5
BARE = with_header(CHATML, ASSISTANT)
NAMES_MARKS = BARE.replace("message['content']", "message['content'].split('</think>')[-1]")
R1 = with_header(
    "{% for message in messages %}{% if message['role'] == 'assistant' %}"
    "{{ '<|Assistant|>' + message['content'].split('</think>')[-1] + eos_token }}"
    "{% elif message['role'] == 'user' %}{{ '<|User|>' + message['content'] }}"
    "{% else %}{{ message['content'] }}{% endif %}{% endfor %}",
    "{{ '<|Assistant|><think>\n' }}",
)
DEEPSEEK_3_1 = R1.replace("<think>\n' }}", "' + ('<think>' if thinking else '</think>') }}")
NEMOTRON_3 = "{% set enable_thinking = enable_thinking if enable_thinking is defined else true %}"
NEMOTRON_3 += with_header(
    CHATML,
    ASSISTANT,
    "{{ '<think>\n' if enable_thinking else '<think></think>' }}",
)
GLM_4 = "[gMASK]<sop>" + with_header(
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\n' }}"
    "{% if message['role'] == 'assistant' %}{{ '<think>' + (message['reasoning_content'] or '') "
    "+ '</think>\n' }}{% endif %}{{ message['content'] }}{% if message['role'] == 'user' %}"
    "{{ '/nothink' if enable_thinking is defined and not enable_thinking else '' }}{% endif %}"
    "{% endfor %}",
    "{{ '<|assistant|>' }}",
    "{{ '\n<think></think>' if enable_thinking is defined and not enable_thinking else '' }}",
)
HARMONY = (
    "{%- macro about() -%}{% if reasoning_effort is not defined %}"
    "{% set reasoning_effort = 'medium' %}{% endif %}{{ 'Today: ' + strftime_now('%Y-%m-%d') "
    "+ '\nReasoning: ' + reasoning_effort }}{%- endmacro -%}"
    "{{ '<|start|>system<|message|>' + about() + '<|end|>' }}"
    + with_header(
        "{% for message in messages %}{% if message['role'] == 'assistant' %}"
        "{% if loop.last and message['thinking'] %}{{ '<|start|>assistant<|channel|>analysis"
        "<|message|>' + message['thinking'] + '<|end|>' }}{% endif %}"
        "{{ '<|start|>assistant<|channel|>final<|message|>' + message['content'] }}"
        "{{ '<|return|>' if loop.last and not add_generation_prompt else '<|end|>' }}"
        "{% else %}{{ '<|start|>' + message['role'] + '<|message|>' + message['content'] "
        "+ '<|end|>' }}{% endif %}{% endfor %}",
        "{{ '<|start|>assistant' }}",
    )
)
RECIPIENTS = "{{ '<|start|>system<|message|>Strength: ' + (reasoning_strength or 'high') "
RECIPIENTS += "+ '<|eot|>' }}" + with_header(
    "{% for message in messages %}{% if message['role'] == 'assistant' %}"
    "{% if message['reasoning_content'] %}{{ '<|start|>assistant to=self<|message|>' "
    "+ message['reasoning_content'] + '<|eom|>' }}{% endif %}"
    "{{ '<|start|>assistant to=user<|message|>' + message['content'] + '<|eot|>' }}"
    "{% else %}{{ '<|start|>' + message['role'] + '<|message|>' + message['content'] + '<|eot|>' }}"
    "{% endif %}{% endfor %}",
    "{{ '<|start|>assistant' }}",
)
COHERE_2 = with_header(
    "{% for message in messages %}{{ '<|START_OF_TURN_TOKEN|><|' + message['role'] + '|>' }}"
    "{{ '<|START_RESPONSE|>' if message['role'] == 'assistant' else '' }}{{ message['content'] }}"
    "{{ '<|END_RESPONSE|>' if message['role'] == 'assistant' else '' }}"
    "{{ '<|END_OF_TURN_TOKEN|>' }}{% endfor %}",
    "{{ '<|START_OF_TURN_TOKEN|><|assistant|><|START_RESPONSE|>' }}",
)
GEMMA_4 = (
    "{%- macro plain(text) -%}{{ text.split('<channel|>')[-1] }}{%- endmacro -%}"
    "{% if enable_thinking %}{{ '<|turn>system\n<|think|><turn|>\n' }}{% endif %}"
    + with_header(
        "{% for message in messages %}{{ '<|turn>' + message['role'] + '\n' "
        "+ plain(message['content']) + '<turn|>\n' }}{% endfor %}",
        "{{ '<|turn>model\n' }}",
    )
)
LFM_2_5 = with_header(
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['thinking'] and loop.last %}{{ '<think>' + message['thinking'] + '</think>' }}"
    "{% endif %}{{ message['content'].split('</think>')[-1] + '<|im_end|>\n' }}{% endfor %}",
    ASSISTANT,
)
SMOLLM_3 = (
    "{% if enable_thinking is not defined %}{% set enable_thinking = true %}{% endif %}"
    "{{ '<|im_start|>system\nToday Date: ' + strftime_now('%d %B %Y') + '\nReasoning Mode: ' "
    "+ ('/think' if enable_thinking else '/no_think') + '<|im_end|>\n' }}"
    + with_header(
        CHATML, ASSISTANT, "{% if not enable_thinking %}{{ '<think>\n\n</think>\n' }}{% endif %}"
    )
)
GRANITE_3 = "{% if thinking %}{{ '<|im_start|>system\nWrite your thoughts first.<|im_end|>\n' }}"
GRANITE_3 += "{% endif %}" + BARE
SEED = (
    "{% if thinking_budget is defined %}{{ 'Budget: ' ~ thinking_budget ~ '\n' }}{% endif %}"
    + with_header(
        CHATML,
        ASSISTANT,
        "{% if thinking_budget is defined and thinking_budget == 0 %}"
        "{{ '<seed:think>I answer at once.</seed:think>' }}{% endif %}",
    )
)
BRACKETS = "{{ '<|im_start|>system\nThink inside [THINK] and [/THINK].<|im_end|>\n' }}" + BARE

# --- Switches and marks of other kinds ---------------------------------------------------------
DISABLES = with_header(STRIPS_HISTORY, ASSISTANT, "{% if disable_thinking %}", EMPTY, "{% endif %}")
SAYS_NO = (
    "{% if no_thoughts_please %}{{ '<|im_start|>system\nDo not think.<|im_end|>\n' }}{% endif %}"
    + NAMES_MARKS
)
MODE_OFF = with_header(
    STRIPS_HISTORY,
    ASSISTANT,
    "{% if thinking_mode | lower == 'off' %}",
    EMPTY,
    "{% else %}{{ '<think>\n' }}{% endif %}",
)
MODE_CHAT = with_header(
    STRIPS_HISTORY,
    ASSISTANT,
    "{% if mode is defined and mode in ['chat', 'plain'] %}{{ '</think>' }}",
    "{% elif mode is not defined or mode == 'thinking' %}{{ '<think>' }}{% endif %}",
)
LEVEL_NONE = (
    "{% if reasoning_effort is not defined %}{% set reasoning_effort = 'high' %}{% endif %}"
    "{% if reasoning_effort not in ['none', 'high'] %}{{ raise_exception('none or high') }}"
    "{% endif %}{{ '[SETTINGS]' + reasoning_effort + '[/SETTINGS]' }}" + BARE
)
ASKED_IN_SYSTEM = with_header(
    CHATML,
    ASSISTANT,
    "{% if '/no_think' in messages[0]['content'] %}{{ '<think></think>' }}",
    "{% else %}{{ '<think>\n' }}{% endif %}",
)
REFLECTS = with_header(STRIPS_HISTORY.replace("think>", "reflection>"), ASSISTANT)
REFLECTS_AT_ONCE = with_header(
    STRIPS_HISTORY.replace("think>", "reflection>"), ASSISTANT, "{{ '<reflection>\n' }}"
)
SCRATCHPAD_AT_ONCE = with_header(CHATML, ASSISTANT, "{{ '<scratchpad>\n' }}")
PIPES_AT_ONCE = with_header(
    CHATML.replace("message['content']", "message['content'].split('<|end_thinking|>')[-1]"),
    ASSISTANT,
    "{{ '<|thinking|>' }}",
)
NO_SCRATCHPAD = with_header(CHATML, ASSISTANT, "{{ '<scratchpad></scratchpad>\n' }}")
LEVEL_ZERO = "{% set thinking_level = thinking_level | default(2) %}" + with_header(
    CHATML,
    ASSISTANT,
    "{{ '<think></think>' if thinking_level == 0 else '<think>' }}",
)
