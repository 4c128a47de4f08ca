"""Builds the tuning method of a run."""

from collections.abc import Sequence

import torch
from torch import Tensor

from adapters.adapter import PromptAdapter
from backbone import Backbone
from training.config.arguments import TrainArguments
from training.config.choices import OWN_MODEL
from training.errors import InvalidArguments
from training.methods.attempt import Attempt
from training.methods.fine_tuning import FineTuning
from training.methods.intrinsic import Intrinsic
from training.methods.low_rank import LowRank
from training.methods.multitask import Multitask
from training.methods.no_prompt import NoPrompt
from training.methods.one_shot import OneShot
from training.methods.prior import Prior, Source
from training.methods.protocol import Method, check_start
from training.methods.residual import Residual
from training.methods.simple import Simple, transfer
from training.methods.superpos import SuperPos, sampled_columns


def start_method(backbone: Backbone, arguments: TrainArguments, sources: Sequence[Source] = ()) -> Method:
    """Build the method that the arguments name; equal arguments give an equal start.

    Args:
        sources: what `arguments.sources` names (`training.runs.adapter_folder.read_sources`)

    Raises:
        InvalidArguments: full fine-tuning of a backbone that is not in float32, sources that do not fit, or initial
            values out of bounds
    """
    if arguments.method == "head":
        return NoPrompt(backbone.width, device=backbone.device)
    if arguments.method == "one_shot":
        return OneShot(backbone)
    if arguments.method not in OWN_MODEL:
        prompts = [  # each [P_s, H]
            torch.from_numpy(source.prompt.copy()).to(backbone.device)
            for source in sources
            if isinstance(source, PromptAdapter)
        ]
        prior = next((source for source in sources if isinstance(source, Prior)), None)
        method = make_method(arguments, backbone.weights.embedding, sources=prompts, prior=prior)
        check_start(method)
        return method
    if backbone.precision != "fp32":
        raise InvalidArguments(f"method {arguments.method!r} needs fp32, the backbone is in {backbone.precision}")
    from backbone.to_transformers import to_transformers  # noqa: PLC0415 - modelling code: 3 s of processor time

    model = to_transformers(backbone).requires_grad_(True)
    if arguments.method != "full":
        from training.methods.inner import with_bottlenecks, with_lora  # noqa: PLC0415 - imports modelling code too

        if arguments.method == "lora":
            model = with_lora(model, rank=arguments.rank, seed=arguments.seed)
        else:
            model = with_bottlenecks(model, bottleneck=arguments.bottleneck, seed=arguments.seed)
    return FineTuning(model, weight_decay=arguments.weight_decay)


def make_method(
    arguments: TrainArguments, embedding: Tensor, *, sources: Sequence[Tensor] = (), prior: Prior | None = None
) -> Method:
    """Build the prompt-tuning method that the arguments name, initialised from their seed.

    Args:
        embedding: the backbone's token embeddings [V, H]
        sources: the prompts [P_s, H] of the adapters that `arguments.sources` names
        prior: what a method of `PRIORS` starts from instead
    """
    generator = torch.Generator().manual_seed(arguments.seed)
    length, decay, sampling = arguments.num_virtual_tokens, arguments.weight_decay, arguments.token_sampling
    match arguments.method:
        case "superpos" | "mixture":
            return _superposition(arguments, embedding, sources, generator)
        case "simple" | "panda":
            return Simple.of_tokens(
                embedding, num_virtual_tokens=length, weight_decay=decay, generator=generator, sampling=sampling
            )
        case "residual":
            return Residual(
                embedding,
                num_virtual_tokens=length,
                bottleneck=arguments.bottleneck,
                weight_decay=decay,
                generator=generator,
                sampling=sampling,
            )
        case "dpt":
            return LowRank(
                embedding, num_virtual_tokens=length, rank=arguments.rank, weight_decay=decay, generator=generator
            )
        case "spot" | "attempt" | "mpt" | "ipt":
            return _of_others(arguments, embedding, sources, prior, generator)
        case "full" | "lora" | "houlsby" | "one_shot" | "head":
            raise InvalidArguments(f"method {arguments.method!r} has no prompt (start_method)")


def _superposition(
    arguments: TrainArguments, embedding: Tensor, sources: Sequence[Tensor], generator: torch.Generator
) -> SuperPos:
    """Superpose sampled token embeddings, or the prompt vectors of other adapters."""
    if arguments.method == "superpos":
        ids, columns = sampled_columns(
            embedding, arguments.num_sampled_tokens, generator=generator, sampling=arguments.token_sampling
        )
    else:
        ids, columns = (), torch.cat(list(sources))
    return SuperPos(
        columns,
        num_virtual_tokens=arguments.num_virtual_tokens,
        basis=arguments.basis,
        weight_decay=arguments.weight_decay,
        generator=generator,
        softmax=arguments.softmax,
        weights_init=arguments.weights_init,
        sampled_token_ids=ids,
    )


def _of_others(
    arguments: TrainArguments,
    embedding: Tensor,
    sources: Sequence[Tensor],
    prior: Prior | None,
    generator: torch.Generator,
) -> Method:
    """Build a method that starts from other prompts, or from what many of them left."""
    length, decay = arguments.num_virtual_tokens, arguments.weight_decay
    if arguments.method == "spot":
        return transfer(sources[0], num_virtual_tokens=length, weight_decay=decay)
    if arguments.method == "attempt":
        return Attempt(
            embedding,
            sources,
            num_virtual_tokens=length,
            bottleneck=arguments.bottleneck,
            weight_decay=decay,
            generator=generator,
            sampling=arguments.token_sampling,
        )
    assert prior is not None, f"{arguments.method} starts from a prior"
    if arguments.method == "ipt":
        return Intrinsic(
            prior, num_virtual_tokens=length, weight_decay=decay, generator=generator, device=embedding.device
        )
    return Multitask(
        prior,
        num_virtual_tokens=length,
        factor_lr=arguments.factor_lr,
        weight_decay=decay,
        device=embedding.device,
    )
