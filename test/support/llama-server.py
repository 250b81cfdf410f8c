#!/usr/bin/env python3
"""llama-server from the Python package xllamacpp, which carries llama.cpp's own server: same arguments, as far as used."""
import argparse
import signal

import xllamacpp

parser = argparse.ArgumentParser()
parser.add_argument("--model", required=True)
parser.add_argument("--host", required=True)
parser.add_argument("--alias", required=True)
parser.add_argument("--ctx-size", type=int, default=2048)
parser.add_argument("--parallel", type=int, default=1)
parser.add_argument("--cache-ram", type=int, default=8192)
parser.add_argument("--pooling", choices=["mean", "cls", "last"])
for switch in ("--jinja", "--embeddings", "--no-cache-prompt", "--no-slots", "--log-disable"):
    parser.add_argument(switch, action="store_true")
given = parser.parse_args()

params = xllamacpp.CommonParams()
params.model.path = given.model
params.model_alias = {given.alias}
params.hostnames = [given.host]
params.n_ctx = given.ctx_size
params.n_parallel = given.parallel
params.n_gpu_layers = 0
params.use_jinja = given.jinja
params.embedding = given.embeddings
params.cache_prompt = not given.no_cache_prompt
params.cache_ram_mib = given.cache_ram
params.endpoint_slots = not given.no_slots
params.ui = False
if given.pooling:
    params.pooling_type = getattr(xllamacpp.llama_pooling_type, f"LLAMA_POOLING_TYPE_{given.pooling.upper()}")
server = xllamacpp.Server(params)
signal.pause()
