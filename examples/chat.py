"""Streams an answer through a local `subrosa proxy`, with Python's standard library alone."""
import json
import os
import sys
from urllib.request import Request, urlopen

BASE = os.environ["OPENAI_BASE_URL"]
HEADERS = {"authorization": f"Bearer {os.environ['OPENAI_API_KEY']}", "content-type": "application/json"}


def call(path, body=None):
    return urlopen(Request(BASE + path, json.dumps(body).encode() if body else None, HEADERS))


model = json.load(call("/models"))["data"][0]["id"]
question = sys.argv[1] if len(sys.argv) > 1 else "What is the capital of France?"
body = {"model": model, "messages": [{"role": "user", "content": question}], "stream": True, "temperature": 0}
for line in call("/chat/completions", body):
    if line.startswith(b"data: {"):
        for choice in json.loads(line[len("data: "):])["choices"]:
            print(choice["delta"].get("content") or "", end="", flush=True)
print()
