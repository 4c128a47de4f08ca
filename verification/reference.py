"""Reference: `transformers` computes one row alone and decodes each label word separately."""

from collections.abc import Callable

import torch
from torch import Tensor
from transformers import T5ForConditionalGeneration

from backbone import LearnedState


def reference_log_probs(
    model: T5ForConditionalGeneration,
    prompt: Tensor,  # [P, H]
    token_ids: tuple[int, ...],  # [T], end-of-sequence included
    labels: list[list[int]],  # K label words as token ids, end-of-sequence included
) -> Tensor:
    """Return [K] label log-probabilities of one row under constrained decoding, computed by `transformers`.

    `prompt` is in the model's precision and on its device.
    """
    embeds = torch.cat([prompt[None], model.shared(torch.tensor([token_ids], device=prompt.device))], dim=1)
    encoded = model.encoder(inputs_embeds=embeds)  # [1, P + T, H]
    return constrained_log_probs(
        labels,
        lambda ids: model(encoder_outputs=encoded, decoder_input_ids=ids.to(prompt.device)).logits[0].float(),
        start_id=model.config.decoder_start_token_id,
    )


def constrained_log_probs(labels: list[list[int]], logits_of: Callable[[Tensor], Tensor], *, start_id: int) -> Tensor:
    """Return [K] log-probabilities: at each step of a label, a softmax over the tokens of all labels at that step.

    Args:
        labels: label words as token ids, end-of-sequence included
        logits_of: maps decoder inputs [1, S] to logits [S, V]
    """
    scores = []
    for words in labels:
        logits = logits_of(torch.tensor([[start_id, *words[:-1]]]))
        total = logits.new_zeros(())
        for step, token in enumerate(words):
            children = sorted({other[step] for other in labels if len(other) > step and other[:step] == words[:step]})
            total = total + logits[step, token] - torch.logsumexp(logits[step, children], 0)
        scores.append(total)
    return torch.stack(scores)


def reference_state(
    model: T5ForConditionalGeneration,
    prompt: Tensor,  # [P, H]
    token_ids: tuple[int, ...],  # [T], end-of-sequence included
    state: LearnedState,
) -> Tensor:
    """Return the state [S·H] that a learned readout's label vectors are multiplied with, computed by `transformers`."""
    embeds = torch.cat([prompt[None], model.shared(torch.tensor([token_ids]))], dim=1)  # [1, P + T, H]
    encoded = model.encoder(inputs_embeds=embeds)
    mean: Tensor = encoded.last_hidden_state[0, len(prompt) :].mean(0)
    if state == "pooled":
        return mean
    start = torch.tensor([[model.config.decoder_start_token_id]])
    decoded = model.decoder(input_ids=start, encoder_hidden_states=encoded.last_hidden_state)
    first: Tensor = decoded.last_hidden_state[0, 0] * (
        model.model_dim**-0.5 if model.config.scale_decoder_outputs else 1.0
    )
    return first if state == "soft" else torch.cat([first, mean])
