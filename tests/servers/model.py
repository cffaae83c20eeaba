#!/usr/bin/env python3
# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A tiny language model for the tests: real to Ollama in every way but sense.

    model.py make FILE                      writes it: random weights, the same bytes every time (needs gguf)
    model.py add NAME FILE [--url URL]      imports it into a running Ollama
    model.py remove NAME [--url URL]

`add` and `remove` need only the standard library, so that they run on the host itself, and print `changed` or `ok`.
"""

import argparse
import hashlib
import json
import os
import sys
import urllib.error
import urllib.request

WIDTH, LAYERS, HEADS, FEED_FORWARD, CONTEXT = 64, 2, 4, 128, 512


def make(path):
    import gguf
    import numpy

    random = numpy.random.Generator(numpy.random.PCG64(20260101))

    def weights(*shape):
        return (random.standard_normal(shape) * 0.02).astype(numpy.float32)

    # A token for each byte, three special ones, and spare ones up to a multiple of 32.
    special = ["<unk>", "<s>", "</s>"]
    tokens = special + [f"<0x{byte:02X}>" for byte in range(256)]
    kinds = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL]
    kinds += [gguf.TokenType.BYTE] * 256
    spare = -len(tokens) % 32
    tokens += [f"<spare{number}>" for number in range(spare)]
    kinds += [gguf.TokenType.UNUSED] * spare

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny random llama")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types([int(kind) for kind in kinds])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)

    writer.add_tensor("token_embd.weight", weights(len(tokens), WIDTH))
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"{block}{name}.weight", numpy.ones(WIDTH, numpy.float32))
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            writer.add_tensor(f"{block}{name}.weight", weights(WIDTH, WIDTH))
        for name in ("ffn_gate", "ffn_up"):
            writer.add_tensor(f"{block}{name}.weight", weights(FEED_FORWARD, WIDTH))
        writer.add_tensor(f"{block}ffn_down.weight", weights(WIDTH, FEED_FORWARD))
    writer.add_tensor("output_norm.weight", numpy.ones(WIDTH, numpy.float32))
    writer.add_tensor("output.weight", weights(len(tokens), WIDTH))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def call(method, url, body=None):
    """The status and the JSON of an answer; a refusal is an answer, too."""
    data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, method=method), timeout=60) as answer:
            return answer.status, json.loads(answer.read() or b"{}")
    except urllib.error.HTTPError as error:
        return error.code, {"error": error.read().decode(errors="replace")}


def names(url):
    return [one["name"] for one in call("GET", url + "/api/tags")[1].get("models", [])]


def full(name):
    return name if ":" in name else name + ":latest"


def expect(answer, *statuses):
    if answer[0] not in statuses:
        sys.exit(f"Ollama refused ({answer[0]}): {answer[1].get('error')}")


def add(name, path, url):
    if full(name) in names(url):
        return False
    with open(path, "rb") as handle:
        content = handle.read()
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    if call("HEAD", f"{url}/api/blobs/{digest}")[0] != 200:
        expect(call("POST", f"{url}/api/blobs/{digest}", content), 200, 201)
    wanted = {"model": name, "files": {os.path.basename(path): digest}, "template": "{{ .Prompt }}", "stream": False}
    expect(call("POST", url + "/api/create", dict(wanted, parameters={"num_predict": 8})), 200)
    return True


def remove(name, url):
    if full(name) not in names(url):
        return False
    expect(call("DELETE", url + "/api/delete", {"model": name}), 200)
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("make").add_argument("file")
    for command in ("add", "remove"):
        one = commands.add_parser(command)
        one.add_argument("name")
        one.add_argument("--url", default="http://127.0.0.1:11434")
        if command == "add":
            one.add_argument("file")
    args = parser.parse_args()
    if args.command == "make":
        make(args.file)
        return
    changed = add(args.name, args.file, args.url) if args.command == "add" else remove(args.name, args.url)
    print("changed" if changed else "ok")


if __name__ == "__main__":
    main()
