"""Fine-tuning, the baseline: it trains parameters of a model of its own, and has no prompt to export."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from backbone import LabelTrie, label_log_probs
from training.methods.protocol import ParameterGroup, detached, take_over

if TYPE_CHECKING:
    from transformers import T5ForConditionalGeneration


class FineTuning:
    """A `transformers` T5, scored by the same distribution over the label words as prompts are."""

    sampled_token_ids: tuple[int, ...] = ()

    def __init__(self, model: "T5ForConditionalGeneration", *, weight_decay: float) -> None:
        """Train the parameters that require gradients, of a model that is this method's alone.

        Args:
            model: of `backbone.to_transformers`, all of it trainable, or with small weights inside (`methods.inner`)
        """
        self._model = model
        self._weight_decay = weight_decay

    def prompt(self) -> Tensor:
        """Return an empty prompt, [0, H]."""
        return torch.zeros(0, self._model.config.d_model, device=self._model.device)

    def scores(self, trie: LabelTrie, token_ids: Sequence[Sequence[int]], *, seed: int | None = None) -> Tensor:
        """Return label log-probabilities, [B, K]; with a seed, under dropout."""
        states = self._states([trie] * len(token_ids), token_ids, seed)
        return label_log_probs(states, self._model.lm_head.weight, [trie] * len(token_ids))

    def log_likelihoods(
        self, targets: Sequence[LabelTrie], token_ids: Sequence[Sequence[int]], *, seed: int | None = None
    ) -> Tensor:
        """Return the log-likelihood of every target token, [ΣM_i]; with a seed, under dropout."""
        logits = self._model.lm_head(self._states(targets, token_ids, seed))
        tokens = torch.tensor([token for target in targets for token in target.edge_tokens], device=logits.device)
        return -nn.functional.cross_entropy(logits, tokens, reduction="none")

    def parameter_groups(self) -> list[ParameterGroup]:
        return [{"params": list(self._trained().values()), "weight_decay": self._weight_decay}]

    def state(self) -> dict[str, Tensor]:
        """Return every trained tensor of the model by its `transformers` name."""
        return detached(self._trained())

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        take_over(self._trained(), state)

    def _trained(self) -> dict[str, nn.Parameter]:
        return {name: parameter for name, parameter in self._model.named_parameters() if parameter.requires_grad}

    def _states(self, tries: Sequence[LabelTrie], token_ids: Sequence[Sequence[int]], seed: int | None) -> Tensor:
        """Return the last hidden state of every node of every row's trie, [ΣM_i, H]."""
        model = self._model
        with torch.random.fork_rng():
            if seed is not None:
                torch.manual_seed(seed)
            model.train(seed is not None)
            inputs, mask = _padded(token_ids, pad=model.config.pad_token_id, device=model.device)
            encoded = model.encoder(input_ids=inputs, attention_mask=mask).last_hidden_state  # [B, T, H]
            paths, rows, places = _paths(tries)
            decoder_ids, _ = _padded(paths, pad=model.config.pad_token_id, device=model.device)
            decoded = model.decoder(
                input_ids=decoder_ids, encoder_hidden_states=encoded[rows], encoder_attention_mask=mask[rows]
            ).last_hidden_state  # [paths, S, H]
            model.eval()
        at = torch.tensor(places, device=model.device)  # [ΣM_i, 2]
        states: Tensor = decoded[at[:, 0], at[:, 1]]
        return states


def _paths(tries: Sequence[LabelTrie]) -> tuple[list[list[int]], list[int], list[tuple[int, int]]]:
    """Return the decoder input from the start to each leaf, the row of each, and a (path, depth) per node."""
    paths: list[list[int]] = []
    rows: list[int] = []
    places: list[tuple[int, int]] = []
    for row, trie in enumerate(tries):
        found: dict[int, tuple[int, int]] = {}
        for leaf in sorted(set(range(trie.num_nodes)) - set(trie.node_parents)):
            ancestors = trie.with_ancestors([leaf])
            found |= {node: (len(paths), depth) for depth, node in enumerate(ancestors)}
            paths.append([trie.node_tokens[node] for node in ancestors])
            rows.append(row)
        places += [found[node] for node in range(trie.num_nodes)]
    return paths, rows, places


def _padded(rows: Sequence[Sequence[int]], *, pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return rows padded on the right, [B, L], and their attention mask, [B, L]."""
    longest = max(len(row) for row in rows)
    filled = [[*row, *[pad] * (longest - len(row))] for row in rows]
    mask = [[1] * len(row) + [0] * (longest - len(row)) for row in rows]
    return torch.tensor(filled, device=device), torch.tensor(mask, device=device)
