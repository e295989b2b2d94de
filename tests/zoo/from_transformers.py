"""Networks of transformers: small configurations, with random weights."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import Tensor, nn

from tests.zoo import from_timm  # noqa: F401 - makes torchvision importable, which transformers tries
from tests.zoo.network import Network, images

_TANH_GELU = "is a product with tanh of a cubic for ATen: its tanh is no activation of the network"


def _tokens(generator: torch.Generator) -> dict[str, Tensor]:
    ids = torch.randint(50, (3, 9), generator=generator)
    mask = torch.ones_like(ids)
    mask[0, 6:] = 0
    return {"input_ids": ids, "attention_mask": mask}


def _labelled(generator: torch.Generator) -> dict[str, Tensor]:
    return {**_tokens(generator), "labels": torch.randint(4, (3,), generator=generator)}


def _language(generator: torch.Generator) -> dict[str, Tensor]:
    batch = _tokens(generator)
    return {**batch, "labels": batch["input_ids"].clone()}


def _pair(generator: torch.Generator) -> dict[str, Tensor]:
    return {**_tokens(generator), "labels": torch.randint(50, (3, 7), generator=generator)}


def _pictures(generator: torch.Generator) -> dict[str, Tensor]:
    x, y = images(generator, size=16)
    return {"pixel_values": x, "labels": y}


def _loss(model: nn.Module, batch: dict[str, Any]) -> Tensor:
    return model(**batch).loss


def _bert() -> nn.Module:
    config = transformers.BertConfig(
        vocab_size=50,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=40,
        max_position_embeddings=16,
        num_labels=4,
    )
    return transformers.BertForSequenceClassification(config)


def _gpt2() -> nn.Module:
    config = transformers.GPT2Config(
        vocab_size=50, n_positions=16, n_embd=24, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
    )
    return transformers.GPT2LMHeadModel(config)


def _t5(feed_forward: str = "relu") -> nn.Module:
    config = transformers.T5Config(
        vocab_size=50,
        d_model=24,
        d_kv=12,
        d_ff=40,
        num_layers=2,
        num_heads=2,
        decoder_start_token_id=0,
        feed_forward_proj=feed_forward,
    )
    return transformers.T5ForConditionalGeneration(config)


def _llama() -> nn.Module:
    config = transformers.LlamaConfig(
        vocab_size=50,
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=16,
        use_cache=False,
    )
    return transformers.LlamaForCausalLM(config)


def _checkpointed_llama() -> nn.Module:
    model = _llama()
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable()
    return model


def _vit() -> nn.Module:
    config = transformers.ViTConfig(
        image_size=16,
        patch_size=4,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=40,
        num_labels=5,
        hidden_dropout_prob=0.1,
    )
    return transformers.ViTForImageClassification(config)


NETWORKS = (
    Network("hf_bert", _bert, _labelled, _loss),
    Network("hf_gpt2", _gpt2, _language, _loss, composites={"NewGELUActivation": _TANH_GELU}),
    Network("hf_t5", _t5, _pair, _loss),
    Network(
        "hf_t5_gated_gelu",
        lambda: _t5("gated-gelu"),
        _pair,
        _loss,
        composites={"NewGELUActivation": _TANH_GELU},
    ),
    Network("hf_llama", _llama, _language, _loss),
    Network("hf_llama_checkpointed", _checkpointed_llama, _language, _loss),
    Network("hf_vit", _vit, _pictures, _loss),
)
