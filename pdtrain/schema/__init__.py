"""Define every knob, section by section: frozen dataclasses with their defaults and checks.

Each module holds the knobs of one part of the work; `RunConfig` puts them together.
"""

from __future__ import annotations

from pdtrain.schema.checks import ASKS_MODEL, decides, require
from pdtrain.schema.corpus import CorpusConfig
from pdtrain.schema.engine import EngineConfig
from pdtrain.schema.evaluation import EvaluateConfig, ExportConfig, JudgeConfig
from pdtrain.schema.generation import (
    GenerationConfig,
    RayConfig,
    SamplingConfig,
    ServerConfig,
    VllmConfig,
)
from pdtrain.schema.model import AdapterConfig, ModelConfig
from pdtrain.schema.plan import DataPlanConfig, PlanConfig
from pdtrain.schema.run import RunConfig
from pdtrain.schema.synthesis import AnswerConfig, PromptConfig, QuestionConfig, how_many
from pdtrain.schema.training import (
    LossConfig,
    RawTextConfig,
    RetainConfig,
    RolloutConfig,
    RoundsConfig,
    TeacherConfig,
    TrainConfig,
)

__all__ = [
    "ASKS_MODEL",
    "AdapterConfig",
    "AnswerConfig",
    "CorpusConfig",
    "DataPlanConfig",
    "EngineConfig",
    "EvaluateConfig",
    "ExportConfig",
    "GenerationConfig",
    "JudgeConfig",
    "LossConfig",
    "ModelConfig",
    "PlanConfig",
    "PromptConfig",
    "QuestionConfig",
    "RawTextConfig",
    "RayConfig",
    "RetainConfig",
    "RolloutConfig",
    "RoundsConfig",
    "RunConfig",
    "SamplingConfig",
    "ServerConfig",
    "TeacherConfig",
    "TrainConfig",
    "VllmConfig",
    "decides",
    "how_many",
    "require",
]
