"""Prompt-tuning methods, one per module. Most are small reparameterisations that collapse to a plain prompt [P, H]."""

from training.config.choices import Basis, MethodName, TokenSampling, WeightsInit
from training.methods.attempt import Attempt
from training.methods.fine_tuning import FineTuning
from training.methods.intrinsic import Intrinsic
from training.methods.low_rank import LowRank
from training.methods.multitask import Multitask
from training.methods.no_prompt import NoPrompt
from training.methods.one_shot import OneShot
from training.methods.protocol import InputDependent, Method, OwnModel, ParameterGroup, has_no_prompt
from training.methods.residual import Residual
from training.methods.simple import Simple, transfer
from training.methods.superpos import SuperPos, sampled_columns
from training.methods.tokens import FIRST_SAMPLED_ID, NUM_COMMON_IDS, NUM_ORDINARY_IDS, sample_token_ids

__all__ = [
    "FIRST_SAMPLED_ID",
    "NUM_COMMON_IDS",
    "NUM_ORDINARY_IDS",
    "Attempt",
    "Basis",
    "FineTuning",
    "InputDependent",
    "Intrinsic",
    "LowRank",
    "Method",
    "MethodName",
    "Multitask",
    "NoPrompt",
    "OneShot",
    "OwnModel",
    "ParameterGroup",
    "Residual",
    "Simple",
    "SuperPos",
    "TokenSampling",
    "WeightsInit",
    "has_no_prompt",
    "sample_token_ids",
    "sampled_columns",
    "transfer",
]
