"""Writes tiny-llama.gguf: a decoder of two blocks with pseudo-random weights, and tiny-llama.json: its float32 logarithms of
probabilities by llama.cpp. Needs PyPI gguf 0.19.0 (the writer) and xllamacpp 2026.10.11549 (llama.cpp)."""
import json
import sys
import numpy as np
from gguf import GGMLQuantizationType as Kind, GGUFWriter, TokenType, quants

WIDTH, HEADS, KEY_HEADS, FFN, LAYERS, CONTEXT = 32, 4, 2, 64, 2, 64
SIZE = WIDTH // HEADS
PROMPT = "the array adds 2 + 2"


def byte_tokens():
    """GPT-2's visible characters for the bytes of ASCII: llama.cpp's server holds back what is no whole character."""
    shown = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    codes, extra = {b: b for b in shown}, 0
    for b in range(256):
        if b not in codes:
            codes[b] = 256 + extra
            extra += 1
    return [chr(codes[b]) for b in range(128)]


def vocabulary():
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"] + byte_tokens()
    merges = ["t h", "th e", "Ġ a", "r r", "Ġa rr", "a y", "Ġarr ay", "d d", "Ġa dd", "Ġ +", "Ġ t", "o n"]
    return tokens + [merge.replace(" ", "") for merge in merges], merges


def tensors(words):
    rng = np.random.default_rng(18)
    make = lambda *shape: (rng.standard_normal(shape) * 1.5 / np.sqrt(shape[-1])).astype(np.float32)
    norm = lambda: (1 + 0.2 * rng.standard_normal(WIDTH)).astype(np.float32)
    yield "token_embd.weight", make(words, WIDTH), Kind.Q8_0
    for layer in range(LAYERS):
        name = f"blk.{layer}.%s.weight"
        yield name % "attn_norm", norm(), Kind.F32
        yield name % "attn_q", make(WIDTH, WIDTH), Kind.Q4_1
        yield name % "attn_k", make(KEY_HEADS * SIZE, WIDTH), Kind.Q5_0
        yield name % "attn_v", make(KEY_HEADS * SIZE, WIDTH), Kind.Q8_0
        yield name % "attn_output", make(WIDTH, WIDTH), Kind.Q4_0
        yield name % "ffn_norm", norm(), Kind.F32
        yield name % "ffn_gate", make(FFN, WIDTH), Kind.Q5_1
        yield name % "ffn_up", make(FFN, WIDTH), Kind.F16
        yield name % "ffn_down", make(WIDTH, FFN), Kind.BF16
    yield "output_norm.weight", norm(), Kind.F32
    yield "output.weight", make(words, WIDTH), Kind.Q8_0


def write(path, whole):
    tokens, merges = vocabulary()
    w = GGUFWriter(path, "llama")
    w.add_name("tiny-llama")
    w.add_context_length(CONTEXT)
    w.add_embedding_length(WIDTH)
    w.add_block_count(LAYERS)
    w.add_feed_forward_length(FFN)
    w.add_head_count(HEADS)
    w.add_head_count_kv(KEY_HEADS)
    w.add_rope_dimension_count(SIZE)
    w.add_rope_freq_base(1000.0)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_vocab_size(len(tokens))
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("smollm")
    w.add_token_list(tokens)
    w.add_token_types([TokenType.CONTROL] * 3 + [TokenType.NORMAL] * (len(tokens) - 3))
    w.add_token_merges(merges)
    w.add_bos_token_id(1)
    w.add_eos_token_id(0)
    w.add_add_bos_token(False)
    for name, values, kind in tensors(len(tokens)):
        packed = quants.quantize(values, kind)
        if whole:
            w.add_tensor(name, np.ascontiguousarray(quants.dequantize(packed, kind).astype(np.float32)))
        else:
            w.add_tensor(name, packed, raw_dtype=kind)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return tokens


def reference(path, words):
    import xllamacpp

    p = xllamacpp.CommonParams()
    p.model.path, p.n_ctx = path, CONTEXT
    p.cache_type_k = p.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    p.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    server = xllamacpp.Server(p)
    answer = server.handle_completions({"prompt": PROMPT, "n_predict": 6, "temperature": 0.0, "n_probs": words})
    choices = answer["choices"][0]["logprobs"]["content"]
    first = {entry["id"]: entry["logprob"] for entry in choices[0]["top_logprobs"]}
    return [choice["id"] for choice in choices], [first[word] for word in range(words)]


if __name__ == "__main__":
    folder = sys.argv[1]
    tokens = write(f"{folder}/tiny-llama.gguf", whole=False)
    write(f"{folder}/whole.gguf", whole=True)
    following, first = reference(f"{folder}/whole.gguf", len(tokens))
    with open(f"{folder}/tiny-llama.json", "w") as file:
        json.dump({"prompt": PROMPT, "following": following, "log_probabilities": [round(p, 6) for p in first]}, file)
