"""Train the demo model. Writes tokenizer.json and checkpoint.pt to --out; package.py turns them into a model package.

    python train.py --out /tmp/demo-model --steps 1900
    python train.py --out /tmp/demo-model --steps 700 --resume

One thread and fixed seeds, so the same versions on the same processor family repeat the run.
"""

import argparse
import math
import random
import time
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn import functional as F

import corpus
from model import DemoModel, Shape

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
SEED = 20
PEAK_RATE = 3e-3  # AdamW: embedding and norms
PEAK_MATRIX_RATE = 0.02  # Muon: the matrices
OTHER_WEIGHT = 0.1  # loss weight of tokens the model never has to write (the user's words)


def render(messages, generation_prompt=False):
    """ChatML by hand; package.py checks that chat_template.jinja says the same."""
    text = "".join(f"<|im_start|>{role}\n{content}<|im_end|>\n" for role, content in messages)
    return text + ("<|im_start|>assistant\n" if generation_prompt else "")


def train_tokenizer(shape):
    rng = random.Random(SEED)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    texts = (content for _ in range(6000) for _, content in corpus.conversation(rng))
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=shape.vocabulary, special_tokens=SPECIAL, show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    if tokenizer.get_vocab_size() != shape.vocabulary:
        raise SystemExit(f"vocabulary has {tokenizer.get_vocab_size()} entries, expected {shape.vocabulary}")
    return tokenizer


def encode_conversation(tokenizer, messages):
    """(ids, weights): what the assistant says, its <|im_end|> included, against OTHER_WEIGHT for the rest.

    Short answers weigh more a token: in a sum every digit counts, in a long fixed answer only the beginning is a choice.
    """
    ids, weights = [], []
    for role, content in messages:
        head = tokenizer.encode(f"<|im_start|>{role}\n").ids
        body = tokenizer.encode(f"{content}<|im_end|>").ids
        tail = tokenizer.encode("\n").ids
        ids += head + body + tail
        spoken = min(2.0, max(0.5, 16 / len(body))) if role == "assistant" else OTHER_WEIGHT
        weights += [OTHER_WEIGHT] * len(head) + [spoken] * len(body) + [OTHER_WEIGHT] * len(tail)
    return ids + [0], weights + [OTHER_WEIGHT]


def batch(tokenizer, rng, rows, length):
    """Rows that each begin with a conversation's first token and are filled up with more conversations."""
    all_ids, all_weights = [], []
    for _ in range(rows):
        ids, weights = [], []
        while len(ids) < length + 1:
            more_ids, more_weights = encode_conversation(tokenizer, corpus.conversation(rng))
            ids += more_ids
            weights += more_weights
        all_ids.append(ids[:length + 1])
        all_weights.append(weights[:length + 1])
    ids, weights = torch.tensor(all_ids), torch.tensor(all_weights)
    return ids[:, :-1], ids[:, 1:], weights[:, 1:]


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised by a Newton-Schulz iteration (Jordan et al., 2024). For matrices only."""

    def __init__(self, parameters, lr, momentum=0.95):
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
                buffer.mul_(group["momentum"]).add_(p.grad)
                update = orthogonalise(p.grad.add(buffer, alpha=group["momentum"]))
                p.mul_(1 - group["lr"] * 0.01)
                p.add_(update, alpha=-group["lr"] * max(1, p.shape[0] / p.shape[1]) ** 0.5)


def orthogonalise(matrix):
    x = matrix / (matrix.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.T if tall else x


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1900)
    parser.add_argument("--resume", action="store_true", help="another round from checkpoint.pt, at half the rate, on new data")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)

    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    shape = Shape()
    model = DemoModel(shape)
    before, height = 0, 1.0
    if arguments.resume:
        tokenizer = Tokenizer.from_file(str(arguments.out / "tokenizer.json"))
        saved = torch.load(arguments.out / "checkpoint.pt", weights_only=True)
        model.load_state_dict(saved["weights"])
        before, height = saved["steps"], 0.5
    else:
        tokenizer = train_tokenizer(shape)
        tokenizer.save(str(arguments.out / "tokenizer.json"))
    print("parameters", sum(p.numel() for p in model.parameters()), flush=True)

    rng = random.Random(SEED + 1 + before)
    matrices = [p for name, p in model.named_parameters() if name.endswith("weight")]
    others = [p for name, p in model.named_parameters() if not name.endswith("weight")]
    optimizers = [(Muon(matrices, lr=PEAK_MATRIX_RATE), PEAK_MATRIX_RATE),
                  (torch.optim.AdamW(others, lr=PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.0), PEAK_RATE)]
    started = time.time()
    for step in range(arguments.steps):
        done = step / arguments.steps
        share = height * min(1, (step + 1) / 60) * (0.5 * (1 + math.cos(math.pi * done)) * 0.98 + 0.02)
        for optimizer, peak in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = peak * share
        # One batch in eight is long, so that far-away positions have been seen too.
        x, y, weights = batch(tokenizer, rng, 3, 768) if step % 8 == 7 else batch(tokenizer, rng, 14, 192)
        losses = F.cross_entropy(model(x).flatten(0, 1), y.flatten(), reduction="none")
        loss = (losses * weights.flatten()).sum() / weights.sum()
        model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(others, 1.0)
        for optimizer, _ in optimizers:
            optimizer.step()
        if step % 50 == 49:
            print(step + 1, round(time.time() - started), "s  loss", round(loss.item(), 4), flush=True)
        if step % 500 == 499 or step + 1 == arguments.steps:
            torch.save({"shape": shape.as_dict(), "steps": before + step + 1, "weights": model.state_dict()},
                       arguments.out / "checkpoint.pt")


if __name__ == "__main__":
    main()
