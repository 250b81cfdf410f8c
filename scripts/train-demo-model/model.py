"""The network: a small Llama block stack in plain PyTorch, and its fixed shape.

RMSNorm, rotary positions (half-split pairs), grouped-query attention, SwiGLU, tied embeddings.
The ONNX graph in package.py computes the same function; reference.json holds this file's numbers.
"""

from dataclasses import asdict, dataclass

import torch
from torch import nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Shape:
    vocabulary: int = 1024
    hidden: int = 128
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 32
    feed_forward: int = 384
    context: int = 1024
    rope_theta: float = 10000.0
    norm_epsilon: float = 1e-5

    def as_dict(self):
        return asdict(self)


def rope_tables(shape):
    """cos and sin, each [context, head_dim / 2]; computed once, so that graph and reference share the bits."""
    inverse = shape.rope_theta ** (-torch.arange(0, shape.head_dim, 2, dtype=torch.float64) / shape.head_dim)
    angles = torch.arange(shape.context, dtype=torch.float64)[:, None] * inverse[None]
    return angles.cos().float(), angles.sin().float()


def rotate(x, cos, sin):
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def rms_norm(x, weight, epsilon):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + epsilon) * weight


class Block(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.shape = shape
        self.norm_attention = nn.Parameter(torch.ones(shape.hidden))
        self.norm_mlp = nn.Parameter(torch.ones(shape.hidden))
        wide, narrow = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        for name, rows, columns in [
            ("q", shape.hidden, wide), ("k", shape.hidden, narrow), ("v", shape.hidden, narrow), ("o", wide, shape.hidden),
            ("gate", shape.hidden, shape.feed_forward), ("up", shape.hidden, shape.feed_forward),
            ("down", shape.feed_forward, shape.hidden),
        ]:
            linear = nn.Linear(rows, columns, bias=False)
            nn.init.normal_(linear.weight, std=0.05)
            setattr(self, name, linear)

    def forward(self, x, cos, sin):
        s = self.shape
        batch, length, _ = x.shape
        h = rms_norm(x, self.norm_attention, s.norm_epsilon)
        q = rotate(self.q(h).view(batch, length, s.heads, s.head_dim).transpose(1, 2), cos, sin)
        k = rotate(self.k(h).view(batch, length, s.kv_heads, s.head_dim).transpose(1, 2), cos, sin)
        v = self.v(h).view(batch, length, s.kv_heads, s.head_dim).transpose(1, 2)
        group = s.heads // s.kv_heads
        attended = F.scaled_dot_product_attention(
            q, k.repeat_interleave(group, 1), v.repeat_interleave(group, 1), is_causal=True)
        x = x + self.o(attended.transpose(1, 2).reshape(batch, length, s.heads * s.head_dim))
        h = rms_norm(x, self.norm_mlp, s.norm_epsilon)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class DemoModel(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.shape = shape
        self.embedding = nn.Parameter(torch.randn(shape.vocabulary, shape.hidden) * 0.05)
        self.blocks = nn.ModuleList([Block(shape) for _ in range(shape.layers)])
        self.norm_final = nn.Parameter(torch.ones(shape.hidden))
        cos, sin = rope_tables(shape)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, ids):
        length = ids.shape[1]
        x = self.embedding[ids]
        for block in self.blocks:
            x = block(x, self.cos[:length], self.sin[:length])
        return rms_norm(x, self.norm_final, self.shape.norm_epsilon) @ self.embedding.T

    @torch.no_grad()
    def greedy(self, prompt, stop_id, limit=100):
        """Token ids after the prompt, without the stop token. Recomputes everything: slow, simple, the reference."""
        ids = list(prompt)
        while len(ids) < len(prompt) + limit and len(ids) < self.shape.context:
            best = int(self(torch.tensor([ids]))[0, -1].argmax())
            if best == stop_id:
                break
            ids.append(best)
        return ids[len(prompt):]
