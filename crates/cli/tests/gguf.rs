//! Decoders from GGUF files on the command line, with the small one of the model crate's tests.

mod common;

use common::Workspace;

const TINY: &str = "crates/model/tests/gguf/tiny-llama.gguf";

#[test]
fn a_text_is_continued_alike_by_both_models_and_every_tensor_equals_the_reference() {
    let workspace = Workspace::new();
    let run = |options: &str| {
        let run =
            workspace.pollux(&format!("model generate {TINY} --text 'the array adds 2' --tokens 4 {options} --json"));
        assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
        run.json()
    };
    let (functional, cycles, simulated) = (run("--functional"), run(""), run("--no-replay"));
    assert_eq!(functional["tokens"], cycles["tokens"]);
    assert_eq!(functional["text"], cycles["text"]);
    assert_eq!((&cycles["match"], &functional["match"]), (&true.into(), &true.into()));
    assert!(functional["prefill"]["cycles"].is_null());
    let further = cycles["further"].as_array().expect("passes");
    assert_eq!(further.len() + 1, cycles["tokens"].as_array().expect("tokens").len());
    for (pass, simulated) in further.iter().zip(simulated["further"].as_array().expect("passes")) {
        // Replay changes no cycle; the host has a part.
        assert_eq!(pass["cycles"], simulated["cycles"]);
        assert!(pass["host_cycles"].as_u64().expect("cycles") > 0);
        // The results of each block, its caches, and the ends.
        assert!(pass["tensors"].as_u64().expect("tensors") > 30, "{pass}");
    }
    assert!(cycles["cosine"].as_f64().expect("a cosine") > 0.98, "{}", cycles["cosine"]);
}

#[test]
fn a_text_is_predicted_in_float32_and_in_int8() {
    let workspace = Workspace::new();
    workspace.write("words.txt", "the array adds 2 + 2 and the array adds 4 + 4 and on ".repeat(3));
    let run = workspace.pollux(&format!("model perplexity {TINY} words.txt --window 16 --windows 2 --json"));
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    let perplexity = &run.json()["perplexity"];
    let [float, int8] = ["float", "int8"].map(|form| perplexity[form].as_f64().expect("a number"));
    assert!((int8 / float - 1.0).abs() < 0.25, "{perplexity}");
    assert_eq!(perplexity["tokens"].as_u64(), Some(30));
}

#[test]
fn what_a_gguf_file_cannot_have_is_explained() {
    let workspace = Workspace::new();
    workspace.write("damaged.gguf", "GGUF");
    workspace.write("short.txt", "the");
    let cases = [
        ("model generate damaged.gguf --text a".into(), 3, "damaged.gguf: not a valid GGUF file: it ends at byte 4"),
        (format!("model generate {TINY} --text a --early-exit 0.5"), 2, "--early-exit has no effect on it"),
        (format!("model generate {TINY} --text a --outlier-channels 16"), 2, "--outlier-channels has no effect on it"),
        (format!("model generate {TINY} --text a --tokens 90"), 3, "do not fit the model's context of 64"),
        (format!("model run {TINY} --text a"), 2, "is a decoder in GGUF: use `pollux model generate"),
        (format!("model perplexity {TINY} short.txt --window 16"), 3, "less than a window"),
        (format!("model perplexity {TINY} short.txt --window 100"), 2, "the model's context is 64"),
        ("model perplexity crates/model/tests/tiny-bert short.txt".into(), 2, "perplexity is measured of GGUF files"),
    ];
    for (command, code, message) in cases {
        let run = workspace.pollux(&command);
        assert_eq!(run.code, code, "{command}: {}{}", run.stdout, run.stderr);
        assert!(run.stderr.contains(message), "{command}: {}", run.stderr);
    }
}
