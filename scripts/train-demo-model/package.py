"""Turn a checkpoint into the committed model package, and the tests' reference numbers.

    python package.py --checkpoint /tmp/demo-model --package ../../enclave/models/demo \
        --reference ../../test/inference/reference.json

Writes model.onnx, tokenizer.json, tokenizer_config.json, MODEL_CARD.md and manifest.json; expects chat_template.jinja
and LICENSE to be there already. Refuses to write a package whose graph disagrees with PyTorch.
"""

import argparse
import hashlib
import json
import random
import shutil
from pathlib import Path

import jinja2
import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer

import corpus
from model import DemoModel, Shape
from train import SEED, render

END_OF_TURN = 2
TOLERANCE = 1e-4
ROLES = {
    "LICENSE": "license", "MODEL_CARD.md": "card", "chat_template.jinja": "template", "model.onnx": "graph",
    "tokenizer.json": "tokenizer", "tokenizer_config.json": "tokenizer",
}


def build_graph(model):
    """input_ids [b,s], seqlens_k [b], total_seq [], past.* [b,kv,p,d] -> of the last position logits [b,1,v] and
    hidden_state [b,1,h], what they are computed from; present.*"""
    shape = model.shape
    nodes, weights = [], []

    def weight(name, tensor):
        weights.append(numpy_helper.from_array(np.ascontiguousarray(tensor.detach().numpy()), name))
        return name

    def node(op, inputs, outputs, domain="", **attributes):
        nodes.append(helper.make_node(op, inputs, outputs, name="/".join([outputs[0], op]), domain=domain, **attributes))
        return outputs[0]

    def linear(name, x, module):
        return node("MatMul", [x, weight(f"{name}.weight", module.weight.T)], [name])

    def norm(name, x, gain):
        return node("SimplifiedLayerNormalization", [x, weight(f"{name}.weight", gain)], [name],
                    axis=-1, epsilon=shape.norm_epsilon, stash_type=1)

    weight("rope.cos", model.cos)
    weight("rope.sin", model.sin)
    x = node("Gather", [weight("embedding", model.embedding), "input_ids"], ["embedded"], axis=0)
    for i, block in enumerate(model.blocks):
        p = f"layer{i}"
        h = norm(f"{p}.attention.norm", x, block.norm_attention)
        q, k, v = (linear(f"{p}.attention.{n}", h, getattr(block, n)) for n in "qkv")
        attended = node(
            "GroupQueryAttention",
            [q, k, v, f"past_key_values.{i}.key", f"past_key_values.{i}.value", "seqlens_k", "total_seq", "rope.cos", "rope.sin"],
            [f"{p}.attention", f"present.{i}.key", f"present.{i}.value"], domain="com.microsoft",
            num_heads=shape.heads, kv_num_heads=shape.kv_heads, do_rotary=1, rotary_interleaved=0)
        x = node("Add", [x, linear(f"{p}.attention.o", attended, block.o)], [f"{p}.middle"])
        h = norm(f"{p}.mlp.norm", x, block.norm_mlp)
        gate, up = linear(f"{p}.mlp.gate", h, block.gate), linear(f"{p}.mlp.up", h, block.up)
        gated = node("Mul", [gate, node("Sigmoid", [gate], [f"{p}.mlp.sigmoid"])], [f"{p}.mlp.silu"])
        product = node("Mul", [gated, up], [f"{p}.mlp.product"])
        x = node("Add", [x, linear(f"{p}.mlp.down", product, block.down)], [f"{p}.out"])
    x = norm("final.norm", x, model.norm_final)
    weights.append(numpy_helper.from_array(np.array([-1], dtype=np.int64), "last"))
    x = node("Gather", [x, "last"], ["hidden_state"], axis=1)
    node("MatMul", [x, node("Transpose", ["embedding"], ["head"], perm=[1, 0])], ["logits"])

    def cache(prefix, length):
        return [helper.make_tensor_value_info(f"{prefix}.{i}.{part}", TensorProto.FLOAT,
                                              ["batch", shape.kv_heads, length, shape.head_dim])
                for i in range(shape.layers) for part in ("key", "value")]

    graph = helper.make_graph(
        nodes, "subrosa-demo",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"]),
         helper.make_tensor_value_info("seqlens_k", TensorProto.INT32, ["batch"]),
         helper.make_tensor_value_info("total_seq", TensorProto.INT32, []), *cache("past_key_values", "past")],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 1, shape.vocabulary]),
         helper.make_tensor_value_info("hidden_state", TensorProto.FLOAT, ["batch", 1, shape.hidden]),
         *cache("present", "total")], weights)
    return helper.make_model(graph, producer_name="subrosa", ir_version=9,
                             opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)])


class Runner:
    """The graph under ONNX Runtime, one thread."""

    def __init__(self, graph, shape):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self.shape = shape

    def empty(self, batch=1):
        return {f"past_key_values.{i}.{part}": np.zeros((batch, self.shape.kv_heads, 0, self.shape.head_dim), np.float32)
                for i in range(self.shape.layers) for part in ("key", "value")}

    def run(self, rows, past, totals):
        names = [o.name for o in self.session.get_outputs()]
        values = self.session.run(names, {
            "input_ids": np.array(rows, np.int64), "seqlens_k": np.array([t - 1 for t in totals], np.int32),
            "total_seq": np.array(max(totals), np.int32), **past})
        out = dict(zip(names, values))
        return out["logits"][:, -1], {k.replace("present", "past_key_values"): v for k, v in out.items() if k.startswith("present.")}


def batch_invariant(runner, prompts):
    """Whether a decode step gives the same bits for a row alone and next to shorter and longer neighbours."""
    longest = max(map(len, prompts))
    alone, pasts = [], []
    for prompt in prompts:
        _, past = runner.run([prompt], runner.empty(), [len(prompt)])
        pasts.append(past)
        alone.append(runner.run([[5]], past, [len(prompt) + 1])[0][0])
    padded = {name: np.concatenate([np.pad(p[name], ((0, 0), (0, 0), (0, longest - p[name].shape[2]), (0, 0)))
                                    for p in pasts]) for name in pasts[0]}
    together, _ = runner.run([[5]] * len(prompts), padded, [len(p) + 1 for p in prompts])
    return all(np.array_equal(together[row], alone[row]) for row in range(len(prompts)))


def reference(model, tokenizer):
    """Logits and greedy answers by PyTorch: what the engine must reproduce."""
    chats = [
        [("user", "What does remote attestation prove?")],
        [("user", "What is 17 + 8?")],
        [("system", "You are a helpful assistant."), ("user", "Who can read my prompt?")],
        [("user", "My name is Zoe."), ("assistant", "Nice to meet you, Zoe."), ("user", "What is my name?")],
        [("user", "Repeat after me: velvet rose under water")],
        [("user", "What is a nonce for?")],
        [("user", "Who won the last election?")],
        [("user", "Count to 12.")],
    ]
    result = {"tolerance": TOLERANCE, "logits": [], "transcripts": []}
    for chat in chats:
        ids = tokenizer.encode(render(chat, generation_prompt=True)).ids
        answer = model.greedy(ids, END_OF_TURN)
        messages = [{"role": role, "content": content} for role, content in chat]
        result["transcripts"].append({"messages": messages, "promptIds": ids, "answerIds": answer,
                                      "answer": tokenizer.decode(answer)})
    # Logits after the prompt, and after each of the first two answer tokens: prefill and decode.
    for transcript in result["transcripts"][:4]:
        prompt, answer = transcript["promptIds"], transcript["answerIds"]
        with torch.no_grad():
            rows = model(torch.tensor([prompt + answer[:2]]))[0, -3:]
        result["logits"].append({"promptIds": prompt, "nextIds": answer[:2],
                                 "rows": [[float(f"{x:.7g}") for x in row.tolist()] for row in rows]})
    return result


def check_graph(runner, expected):
    worst = 0.0
    for item in expected["logits"]:
        total = len(item["promptIds"])
        logits, past = runner.run([item["promptIds"]], runner.empty(), [total])
        worst = max(worst, float(np.abs(logits[0] - item["rows"][0]).max()))
        for token, row in zip(item["nextIds"], item["rows"][1:]):
            total += 1
            logits, past = runner.run([[token]], past, [total])
            worst = max(worst, float(np.abs(logits[0] - row).max()))
    if worst > TOLERANCE:
        raise SystemExit(f"graph and PyTorch differ by {worst}")
    return worst


def score(model, tokenizer):
    """Share of answers that match word for word, by kind of question."""
    result, misses = {}, []
    for kind, items in corpus.evaluation(random.Random(SEED + 2)).items():
        right = 0
        for question, answer in items:
            ids = tokenizer.encode(render([("user", question)], generation_prompt=True)).ids
            given = tokenizer.decode(model.greedy(ids, END_OF_TURN))
            right += given == answer
            if given != answer:
                misses.append((kind, question, given))
        result[kind] = (right, len(items))
    return result, misses


def check_template(path):
    """The template the enclave renders says the same as the text the model was trained on."""
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(path.read_text())
    chat = [("system", "Be brief."), ("user", "Hi\n"), ("assistant", "Hello."), ("user", "Bye")]
    messages = [{"role": role, "content": content} for role, content in chat]
    if template.render(messages=messages, add_generation_prompt=True) != render(chat, generation_prompt=True):
        raise SystemExit("chat_template.jinja and training text differ")


CARD = """# Subrosa demo model

A very small English chat model, trained from scratch by this project's own script. It exists so that sealing,
streaming, receipts and verification can be tried with a model that fits in the repository. It is not useful for anything else.

| | |
|---|---|
| Architecture | Llama block: RMSNorm, rotary positions, grouped-query attention, SwiGLU, tied embeddings |
| Parameters | {parameters:,} (fp32) |
| Shape | {layers} layers, hidden {hidden}, {heads} heads ({kv_heads} for keys and values), feed-forward {feed_forward} |
| Vocabulary | {vocabulary} byte-level BPE entries, digits one by one |
| Context | {context} tokens; training rows had 192, one in eight batches 768 |
| Training | {steps} steps of Muon and AdamW on one CPU thread, in two rounds, from random weights |
| Licence | Apache-2.0: weights, tokenizer, template and training script |

## Data

Synthetic conversations written by this project (`scripts/train-demo-model/corpus.py`): {subjects} subjects around
confidential inference with several phrasings each, a few talents (small sums, capitals, opposites, counting, days and
months, repeating words), greetings, and questions it should decline. No text from the web, no one's messages.

## Measured

Share of greedy answers that match the expected answer word for word, one question a chat:

| kind | exact match |
|---|---|
{scores}

The largest difference between the graph's logits and PyTorch's was {difference:.1e} (ONNX Runtime {runtime}, CPU).
{invariance}

## Limits

- It knows what the script says and nothing else. Out-of-scope questions usually get "I don't know that", but phrasings it
  has not met can get a fluent answer to a different question.
- Its answers about attestation are short, fixed and simplified; the specification is right where they differ.
- It can be wrong, cannot reason, and must not be used for decisions. That an answer is attested says which model gave it, not that it is true.
"""


def align(markdown):
    """Pads table cells as the repository's formatter would, so that formatting never changes the card's digest."""
    out, table = [], []
    for line in markdown.split("\n") + [""]:
        if line.startswith("|"):
            table.append([cell.strip() for cell in line.strip("|").split("|")])
            continue
        widths = [max(3, *(len(row[i]) for row in table)) for i in range(len(table[0]))] if table else []
        for row in table:
            cells = ["-" * w if set(c) == {"-"} else c.ljust(w) for c, w in zip(row, widths)]
            out.append("| " + " | ".join(cells) + " |")
        table = []
        out.append(line)
    return "\n".join(out[:-1])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--package", type=Path, required=True)
    parser.add_argument("--reference", type=Path, required=True)
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    saved = torch.load(arguments.checkpoint / "checkpoint.pt", weights_only=True)
    shape = Shape(**saved["shape"])
    model = DemoModel(shape).eval()
    model.load_state_dict(saved["weights"])
    tokenizer = Tokenizer.from_file(str(arguments.checkpoint / "tokenizer.json"))
    package = arguments.package
    check_template(package / "chat_template.jinja")

    graph = build_graph(model).SerializeToString(deterministic=True)
    runner = Runner(graph, shape)
    expected = reference(model, tokenizer)
    difference = check_graph(runner, expected)
    invariant = batch_invariant(runner, [t["promptIds"] for t in expected["transcripts"]])
    scores, misses = score(model, tokenizer)
    for kind, question, given in misses:
        print(f"miss ({kind}): {question!r} -> {given!r}")
    for transcript in expected["transcripts"]:
        print(transcript["messages"][-1]["content"], "->", transcript["answer"])
    print("scores", scores, "difference", difference, "batch-invariant", invariant)

    parameters = sum(p.numel() for p in model.parameters())
    (package / "model.onnx").write_bytes(graph)
    shutil.copyfile(arguments.checkpoint / "tokenizer.json", package / "tokenizer.json")
    (package / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>",
        "clean_up_tokenization_spaces": False, "model_max_length": shape.context}, indent=2) + "\n")
    (package / "MODEL_CARD.md").write_text(align(CARD.format(
        **shape.as_dict(), parameters=parameters, steps=saved["steps"], subjects=len(corpus.SUBJECTS), difference=difference,
        runtime=onnxruntime.__version__,
        scores="\n".join(f"| {kind} | {right} of {total} |" for kind, (right, total) in scores.items()),
        invariance=("A decode step gave the same bits for a row alone and in a batch of eight unequal rows." if invariant
                    else "Rows were not bit-identical between batches: it must run one request at a time."))))
    files = []
    for name in sorted(ROLES):
        data = (package / name).read_bytes()
        files.append({"path": name, "role": ROLES[name], "size": len(data), "sha256": hashlib.sha256(data).hexdigest()})
    (package / "manifest.json").write_text(json.dumps({
        "schema": "subrosa-model/1", "id": "subrosa-demo", "title": "Subrosa demo model", "license": "Apache-2.0",
        "architecture": {"family": "llama", "parameters": parameters, "layers": shape.layers, "hiddenSize": shape.hidden,
                         "vocabularySize": shape.vocabulary, "contextLength": shape.context, "eosTokenIds": [END_OF_TURN]},
        "determinism": "batch-invariant" if invariant else "single", "format": "fp32", "files": files}, indent=2) + "\n")
    arguments.reference.write_text(json.dumps(expected, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
