"""Trains the byte-level Llama of this folder on the source text of Python's standard library.

    python train.py --steps 9000 --decay 3000 --out .

Needs torch (2.13 was used) and safetensors. The same seed, Python and torch versions give the same batches; the weights may
differ in the last bits between processors. Training can be stopped and run again: it goes on from the last state in `--state`.
"""

import argparse
import importlib
import json
import math
import platform
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 256, "hidden_size": 128,
    "intermediate_size": 384, "num_hidden_layers": 5, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32,
    "max_position_embeddings": 256, "rope_theta": 10000.0, "rms_norm_eps": 1e-5, "hidden_act": "silu",
    "tie_word_embeddings": True, "attention_bias": False, "mlp_bias": False, "bos_token_id": 0, "eos_token_id": 0,
    "torch_dtype": "float32",
}
CONTEXT = CONFIG["max_position_embeddings"]

sys.path.append(str(Path(__file__).resolve().parents[2]))       # so that this runs from a clone, without an installation
texts = importlib.import_module("sw.models.python_text").texts  # which files, and which are held out; standard library only


class Norm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(CONFIG["hidden_size"]))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), self.weight, CONFIG["rms_norm_eps"])


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate pairs (i, i + d/2), as Hugging Face does."""
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        d, f, hd = CONFIG["hidden_size"], CONFIG["intermediate_size"], CONFIG["head_dim"]
        self.h, self.kv, self.hd = CONFIG["num_attention_heads"], CONFIG["num_key_value_heads"], hd
        q, kv = self.h * hd, self.kv * hd
        linear = {"q_proj": (d, q), "k_proj": (d, kv), "v_proj": (d, kv), "o_proj": (q, d)}
        self.self_attn = nn.ModuleDict({name: nn.Linear(*size, bias=False) for name, size in linear.items()})
        self.mlp = nn.ModuleDict({name: nn.Linear(*size, bias=False) for name, size in
                                  {"gate_proj": (d, f), "up_proj": (d, f), "down_proj": (f, d)}.items()})
        self.input_layernorm, self.post_attention_layernorm = Norm(), Norm()

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, length, _ = x.shape
        y, a = self.input_layernorm(x), self.self_attn
        q, k, v = (a[name](y).view(batch, length, -1, self.hd).transpose(1, 2) for name in ("q_proj", "k_proj", "v_proj"))
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        k, v = (t.repeat_interleave(self.h // self.kv, 1) for t in (k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(batch, length, -1)
        x = x + a["o_proj"](y)
        y, m = self.post_attention_layernorm(x), self.mlp
        return x + m["down_proj"](F.silu(m["gate_proj"](y)) * m["up_proj"](y))


class Llama(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(CONFIG["vocab_size"], CONFIG["hidden_size"])
        self.layers = nn.ModuleList(Layer() for _ in range(CONFIG["num_hidden_layers"]))
        self.norm = Norm()
        half = CONFIG["head_dim"] // 2
        angle = torch.arange(CONTEXT)[:, None] * CONFIG["rope_theta"] ** (-torch.arange(half) / half)
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)
        for name, p in self.named_parameters():
            if p.ndim == 2:
                scale = 1 / math.sqrt(2 * len(self.layers)) if "o_proj" in name or "down_proj" in name else 1.0
                nn.init.normal_(p, std=0.02 if "embed" in name else scale / math.sqrt(p.shape[1]))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed_tokens(tokens)
        cos, sin = self.cos[:tokens.shape[1]].to(x.dtype), self.sin[:tokens.shape[1]].to(x.dtype)
        for layer in self.layers:
            x = layer(x, cos, sin)
        return F.linear(self.norm(x), self.embed_tokens.weight)


@torch.no_grad()
def bits_per_byte(model: Llama, text: bytes, limit: int | None = None) -> float:
    """Return bits per byte over windows of the context that overlap by half; of each but the first, the second half counts."""
    data, stride, total, count = torch.frombuffer(bytearray(text), dtype=torch.uint8).long(), CONTEXT // 2, 0.0, 0
    starts = list(range(0, len(data) - CONTEXT, stride))
    starts = starts[::max(1, len(starts) // limit)] if limit else starts
    for i in range(0, len(starts), 32):
        rows = torch.stack([data[s:s + CONTEXT + 1] for s in starts[i:i + 32]])
        with torch.autocast("cpu", torch.bfloat16, enabled=limit is not None):
            logits = model(rows[:, :-1]).float()
        loss = F.cross_entropy(logits.transpose(1, 2), rows[:, 1:], reduction="none")
        for part in (loss[:, stride:], loss[:1, :stride] if i == 0 else loss[:0]):
            total, count = total + part.sum().item(), count + part.numel()
    return total / count / math.log(2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=9000, help="all steps, the decay included")
    parser.add_argument("--decay", type=int, default=3000, help="last steps, over which the learning rate falls to 0")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path())
    parser.add_argument("--state", type=Path, default=Path("train_state.pt"))
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    train, held_out = texts()
    data = torch.frombuffer(bytearray(train), dtype=torch.uint8).long()
    model = Llama()
    hidden = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    optimizers = [torch.optim.Muon(hidden, lr=0.02, momentum=0.95, weight_decay=0.01),
                  torch.optim.AdamW(others, lr=3e-3, betas=(0.9, 0.98), weight_decay=0.0)]
    rates = [group["lr"] for optimizer in optimizers for group in optimizer.param_groups]
    step = 0
    if args.state.exists():
        saved = torch.load(args.state)
        model.load_state_dict(saved["model"])
        for optimizer, state in zip(optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        step = saved["step"]
    began, first = time.time(), step
    while step < args.steps:
        rate = min(1.0, (step + 1) / 100, (args.steps - step) / args.decay)
        for group, base in zip((g for o in optimizers for g in o.param_groups), rates, strict=True):
            group["lr"] = base * rate
        generator = torch.Generator().manual_seed(args.seed * 1_000_003 + step)
        starts = torch.randint(len(data) - CONTEXT - 1, (args.batch,), generator=generator)
        rows = torch.stack([data[s:s + CONTEXT + 1] for s in starts.tolist()])
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(rows[:, :-1])
        loss = F.cross_entropy(logits.float().reshape(-1, 256), rows[:, 1:].reshape(-1))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        step += 1
        if step % 250 == 0 or step == args.steps:
            state = {"model": model.state_dict(), "optimizers": [o.state_dict() for o in optimizers], "step": step}
            torch.save(state, args.state.with_suffix(".new"))
            args.state.with_suffix(".new").replace(args.state)
            print(f"step {step}  train {loss.item() / math.log(2):.3f}  held out {bits_per_byte(model, held_out, 128):.3f} bits "
                  f"per byte  {(time.time() - began) / (step - first):.2f} s a step", flush=True)
    (args.out / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")
    save_file({f"model.{name}": p.detach().contiguous() for name, p in model.named_parameters()}, args.out / "model.safetensors",
              metadata={"format": "pt"})
    print(json.dumps({"parameters": sum(p.numel() for p in model.parameters()), "training_bytes": len(train),
                      "held_out_bytes": len(held_out), "bits_per_byte": bits_per_byte(model, held_out),
                      "python": platform.python_version(), "torch": torch.__version__,
                      **{name: str(value) for name, value in vars(args).items()}}))


if __name__ == "__main__":
    main()
