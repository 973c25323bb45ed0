"""Measures the mapper and writes the tables of the book's chapter (docs/src/mapping.md): models, whole spaces, searches, gains.

    python3 docs/mapper.py run POLLUX [--jobs N] [PART...]   writes docs/mapper.json; some ten minutes on two cores
    python3 docs/mapper.py table                             writes the tables from docs/mapper.json

Every number is one that `pollux map train`, `map evaluate` or `map gains` printed; the commands stand above each table.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).parent
RESULTS, PAGE = HERE / "mapper.json", HERE / "src/mapping.md"
BUILDS, MEMORIES, OPERATIONS = ("default16", "survey_rebalanced"), ("bench", "bandwidth:bytes=8"), ("matmul", "conv")
EMISSIONS = {"unroller": " --emission unroller", "all": ""}
SAMPLES, RUNS, WHOLE_RUNS = 40, 16, 8

TRAIN = "map train --config default16 --config survey_rebalanced --memory bench --memory bandwidth:bytes=8 -o learned.json"
EVALUATE = f"map evaluate --learned learned.json --samples {SAMPLES} --operation {{}} --config {{}} --memory {{}}"
SEARCHES = f"map evaluate --samples 1 --operation matmul --searches {RUNS}{{}}"
WHOLE = f"map evaluate --samples 1 --emission unroller --whole-spaces {WHOLE_RUNS}"
GAINS = "map gains --memory {}"


def run(pollux, jobs, parts):
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    with tempfile.TemporaryDirectory() as folder:

        def measure(command):
            print("pollux", command, file=sys.stderr)
            done = subprocess.run(
                [pathlib.Path(pollux).resolve(), *command.split(), *jobs, "--json"], cwd=folder, check=True, stdout=subprocess.PIPE
            )
            return json.loads(done.stdout)

        def models():
            training = measure(TRAIN)["training"]
            evaluations = [
                {"operation": operation, **measure(EVALUATE.format(operation, build, memory))}
                for operation in OPERATIONS
                for build in BUILDS
                for memory in MEMORIES
            ]
            for evaluation in evaluations:
                del evaluation["training"]
            return {"training": training, "evaluations": evaluations}

        measures = {
            "models": models,
            "searches": lambda: {name: measure(SEARCHES.format(more))["searches"] for name, more in EMISSIONS.items()},
            "whole": lambda: measure(WHOLE)["whole_spaces"],
            "gains": lambda: {memory: measure(GAINS.format(memory)) for memory in MEMORIES},
        }
        for part in parts or measures:
            results[part] = measures[part]()
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")


def grouped(number):
    return f"{number:,}".replace(",", " ")


def rows(heading, body):
    line = lambda cells: "| " + " | ".join(str(cell) for cell in cells) + " |"
    return "\n".join([line(heading), "|" + "---|" * len(heading), *map(line, body)])


def models(results):
    heading = ["operations, build, memory", "runs", "model", "MAPE, %", "p95, %", "signed, %", "Spearman", "within one", "regret, %", "us a mapping"]
    names = {"matmul": "products", "conv": "convolutions"}
    body = [
        [
            f"{names[e['operation']]}, {e['config']}, {e['memory']}", e["samples"], m["model"], f"{m['mape']:.1f}", f"{m['p95']:.1f}",
            f"{m['signed']:+.1f}", f"{m['spearman']:.3f}", f"{m['spearman_within']:.3f}", f"{m['regret']:.1f}", f"{m['microseconds']:.2f}",
        ]
        for e in results["evaluations"]
        for m in e["models"]
    ]
    runs = sum(e["samples"] for e in results["evaluations"])
    mean = lambda n: sum(e["samples"] * e["models"][n]["mape"] for e in results["evaluations"]) / runs
    names = [m["model"] for m in results["evaluations"][0]["models"]]
    overall = f"MAPE over all {grouped(runs)} runs: " + ", ".join(f"{name} {mean(n):.1f} %" for n, name in enumerate(names)) + "."
    training = results["training"]
    digest = f"The learned model: `pollux {TRAIN}`, {grouped(sum(training['samples']))} runs, SHA-256 of the runs `{training['sha256'][:16]}...`."
    return f"`pollux {EVALUATE.format('...', '...', '...')}`:\n\n{rows(heading, body)}\n\n{overall} {digest}"


def searches(results):
    heading = ["search", "unrollers: regret, %", "worst, %", "best of 6", "priced", "run", "all: regret, %", "worst, %", "best of 6", "priced", "run"]
    cells = lambda s: [f"{s['regret']:.2f}", f"{s['worst']:.2f}", s["best"], grouped(round(s["evaluated"])), round(s["simulated"])]
    body = [[a["method"], *cells(a), *cells(b)] for a, b in zip(results["unroller"], results["all"])]
    return f"`pollux {SEARCHES.format('')}`, and with `--emission unroller`:\n\n{rows(heading, body)}"


def whole(results):
    first = results[0]
    heading = ["operation", "mappings", "best", "worst", "Gemmini's rule", *(m for m, _ in first["models"]), *(s for s, *_ in first["searches"])]
    body = [
        [
            s["problem"], s["mappings"], *(grouped(c) for c in (*s["cycles"], s["gemmini"])),
            *(f"{regret:.1f}" for _, regret in s["models"]), *(f"{regret:.1f}" for _, regret, _ in s["searches"]),
        ]
        for s in results
    ]
    return f"`pollux {WHOLE}`:\n\n{rows(heading, body)}"


def gains(results):
    heading = ["operation (I x K x J)", "ideal"]
    for name in ("16 bytes", "8 bytes"):
        heading += [f"Gemmini's rule, {name}", "found", "bound", "gain", "of ideal"]
    body = []
    for pair in zip(*(results[memory]["operations"] for memory in MEMORIES)):
        row = [pair[0]["operation"], grouped(pair[0]["ideal_cycles"])]
        for o in pair:
            row += [grouped(o[key]) for key in ("default_cycles", "cycles", "lower_bound_cycles")]
            row += [f"{o['gain']:.3f}", f"{o['cycles'] / o['ideal_cycles']:.3f}"]
        body.append(row)
    means = [f"{results[memory]['geometric_mean']:.3f}" for memory in MEMORIES]
    body.append(["geometric mean", "", "", "", "", means[0], "", "", "", "", means[1], ""])
    return f"`pollux {GAINS.format('...')}`:\n\n{rows(heading, body)}"


def table():
    results, page = json.loads(RESULTS.read_text()), PAGE.read_text()
    for part in (models, searches, whole, gains):
        begin, end = (f"<!-- {part.__name__}: {edge} -->" for edge in ("begin", "end"))
        before, rest = page.split(begin)
        page = f"{before}{begin}\n{part(results[part.__name__])}\n{end}{rest.split(end)[1]}"
    PAGE.write_text(page)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["run", pollux, "--jobs", jobs, *parts]:
            run(pollux, ["--jobs", jobs], parts)
        case ["run", pollux, *parts]:
            run(pollux, [], parts)
        case ["table"]:
            table()
        case _:
            sys.exit(__doc__)
