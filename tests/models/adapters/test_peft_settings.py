"""Settings of an adapter from elsewhere: plain LoRA is loaded, all else is refused by name."""

from __future__ import annotations

import json

import pytest
from peft import LoraConfig

from pdtrain.models.adapters.peft_settings import SETTINGS, read_settings

REMEDY = "train it again"


def written(folder, **changes):
    """Write the settings of a plain adapter with some changes, and return the folder."""
    LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM").save_pretrained(str(folder))
    path = folder / SETTINGS
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


@pytest.mark.parametrize(
    "changes",
    [{}, {"base_model_name_or_path": "/elsewhere/x"}, {"revision": "main"}, {"lora_dropout": 0.1}],
)
def test_plain_lora_is_read(tmp_path, changes):
    assert read_settings(written(tmp_path, **changes), REMEDY)["r"] == 4


@pytest.mark.parametrize(
    "changes",
    [
        {"modules_to_save": ["lm_head"]},
        {"trainable_token_indices": [1, 2]},
        {"layer_replication": [[0, 4], [2, 5]]},
        {"megatron_config": {"a": 1}},
        {"megatron_core": "os"},
        {"auto_mapping": {"base_model_class": "X", "parent_library": "os"}},
        {"peft_type": "IA3"},
        {"peft_type": "PREFIX_TUNING"},
        {"task_type": "SEQ_CLS"},
        {"use_dora": True},
        {"use_rslora": True},
        {"bias": "all"},
        {"lora_bias": True},
        {"alpha_pattern": {"q": 1}},
        {"rank_pattern": {"q": 64}},
        {"layers_to_transform": [1]},
        {"eva_config": {"rho": 2}},
        {"corda_config": {"cache_file": "x.pt"}},
        {"loftq_config": {"loftq_bits": 4}},
        {"init_lora_weights": "pissa"},
        {"alora_invocation_tokens": [1]},
        {"a_setting_of_tomorrow": {"url": "http://x"}},
        {"r": "4"},
        {"lora_alpha": True},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_would_change_the_base_is_refused_by_name(tmp_path, changes):
    (name,) = changes
    with pytest.raises(ValueError, match=rf"{SETTINGS} has {name}=.*{REMEDY}"):
        read_settings(written(tmp_path, **changes), REMEDY)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000])
def test_damaged_settings_are_refused(tmp_path, text):
    (tmp_path / SETTINGS).write_text(text)
    with pytest.raises(ValueError, match=r"is damaged: expected a JSON object"):
        read_settings(tmp_path, REMEDY)
