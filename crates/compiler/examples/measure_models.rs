//! The figures of the book's chapter *Whole models*.
//!
//! ```text
//! cargo run --release -p pollux-compiler --example measure_models -- minilm MODEL_DIR
//! cargo run --release -p pollux-compiler --example measure_models -- techniques MODEL_DIR
//! cargo run --release -p pollux-compiler --example measure_models -- shape bert-base 128 [LAYERS]
//! cargo run --release -p pollux-compiler --example measure_models -- lower bert-large 4096
//! cargo run --release -p pollux-compiler --example measure_models -- decoder
//! cargo run --release -p pollux-compiler --example measure_models -- gpt2 32 4
//! ```

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use pollux_compiler::blockwise::TileMap;
use pollux_compiler::decoder::{BigLittle, Decoder, EarlyExit, compile_prompt, generate, generate_big_little};
use pollux_compiler::encoder::{TokenCounts, compile_parameters};
use pollux_compiler::execute::{CycleSetup, Position, mismatches, run_cycles, time_cycles};
use pollux_compiler::parameters;
use pollux_compiler::pipeline::{Accuracy, CALIBRATION, Lowered, Model, OUTLIER_CHANNELS, SENTENCES};
use pollux_compiler::plan::{Placement, Plan};
use pollux_compiler::report::Report;
use pollux_compiler::synthetic::{self, Shape};
use pollux_compiler::techniques::Techniques;
use pollux_isa::GemminiConfig;
use pollux_kernels::Mask;
use pollux_model::decoder::QuantisedDecoder;
use pollux_model::quantise::QuantiseOptions;

type Outcome = Result<(), Box<dyn Error>>;

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["minilm", directory] => minilm(Path::new(directory)),
        ["techniques", directory] => measure_techniques(Path::new(directory)),
        ["shape", name, tokens] => shape(name, tokens.parse()?, None),
        ["shape", name, tokens, layers] => shape(name, tokens.parse()?, Some(layers.parse()?)),
        ["lower", name, tokens] => lower(name, tokens.parse()?),
        ["decoder"] => decoder(),
        ["gpt2", prompt, tokens] => gpt2(prompt.parse()?, tokens.parse()?),
        _ => Err("usage: see the top of the example".into()),
    }
}

fn load(directory: &Path) -> Result<Model, Box<dyn Error>> {
    let options = QuantiseOptions { outlier_channels: OUTLIER_CHANNELS, ..Default::default() };
    Ok(Model::load(directory, CALIBRATION, &options)?)
}

fn minilm(directory: &Path) -> Outcome {
    let model = load(directory)?;
    let (config, setup) = (GemminiConfig::norm16(), CycleSetup::default());
    for text in SENTENCES.lines() {
        let run =
            model.run(text, config.clone(), &Plan::default(), &Techniques::default(), Some(&setup), &mut |_| ())?;
        let report = run.report.as_ref().ok_or("no report")?;
        let layers: Vec<u64> = report.layers.iter().map(|layer| layer.cycles).collect();
        println!(
            "{:2} tokens  cosine {:.4}  {} cycles  {layers:?}  {} of {} tensors differ",
            run.tokens,
            run.cosine.unwrap_or_default(),
            report.total.cycles,
            run.mismatches.len(),
            run.tensors
        );
    }
    let accuracy = model.accuracy(&model.quantised.layers, SENTENCES)?;
    println!("mean {:.4}, min {:.4}, ranking kept {}", accuracy.mean(), accuracy.min(), accuracy.ranking_kept);
    for (name, normalization) in [("accelerator", Placement::Auto), ("host", Placement::Host)] {
        let plan = Plan { normalization, ..Plan::default() };
        let run = model.run(&long_text(), config.clone(), &plan, &Techniques::default(), Some(&setup), &mut |_| ())?;
        println!("normalization on {name}: {} mismatches", run.mismatches.len());
        println!("{}", run.report.ok_or("no report")?.table(false));
    }
    Ok(())
}

/// All sentences as one text: long enough for several blocks of tokens.
fn long_text() -> String {
    SENTENCES.lines().collect::<Vec<_>>().join(" ")
}

fn measure_techniques(directory: &Path) -> Outcome {
    let model = load(directory)?;
    let config = GemminiConfig::norm16();
    let measure = |techniques: &Techniques| -> Result<(u64, Accuracy), Box<dyn Error>> {
        let Lowered { encoder, .. } = model.lower(&long_text(), config.clone(), &Plan::default(), techniques)?;
        let program = &encoder.compiled.program;
        let run = run_cycles(&encoder.compiled, program.initial_memory(), &CycleSetup::default(), &mut |_| ())?;
        let (wrong, compared) = mismatches(program, &run.memory);
        println!("  {} of {compared} tensors differ from the reference", wrong.len());
        Ok((run.cycles, model.technique_accuracy(techniques, SENTENCES)?))
    };
    let (base, accuracy) = measure(&Techniques::default())?;
    println!("{base} cycles, cosine mean {:.4} min {:.4}", accuracy.mean(), accuracy.min());
    let none = Techniques::default;
    let mut variants = Vec::new();
    for (heads, ffn_groups) in [(1, 0), (3, 0), (0, 6), (0, 12), (0, 24)] {
        variants.push(Techniques { heads, ffn_groups, ..none() });
    }
    variants.extend([0.05, 0.1, 0.2, 0.3].map(|blocks| Techniques { blocks, ..none() }));
    variants.extend([0.3, 0.5, 0.7].map(|weights| Techniques { weights, ..none() }));
    variants.extend(
        [vec![(2, 0.75)], vec![(4, 0.5)], vec![(1, 0.75), (3, 0.67)]].map(|keep| Techniques { keep, ..none() }),
    );
    for techniques in variants {
        let (zeroed, _) = techniques.apply(&model.quantised.layers, 16)?;
        let (mut zero, mut all) = (0, 0);
        for (_, linear) in zeroed.iter().flat_map(|layer| layer.linears()) {
            let map = TileMap::new(&parameters::weights(linear).linear, &linear.repeats, 16);
            (zero, all) = (zero + map.zero_tiles(), all + map.tiles());
        }
        let (cycles, accuracy) = measure(&techniques)?;
        println!(
            "{techniques:?} ({zero} of {all} blocks zero): {cycles} cycles ({:+.1} %), cosine mean {:.4} min {:.4}, ranking kept {}",
            100.0 * (cycles as f64 / base as f64 - 1.0),
            accuracy.mean(),
            accuracy.min(),
            accuracy.ranking_kept
        );
    }
    Ok(())
}

fn shape(name: &str, tokens: usize, layers: Option<usize>) -> Outcome {
    let mut shape = Shape::by_name(name)?;
    shape.layers = layers.unwrap_or(shape.layers);
    let weights = synthetic::encoder(&shape, tokens, 1)?;
    let start = Instant::now();
    let input = synthetic::input(&shape, tokens, 2);
    let config = GemminiConfig::norm16();
    let encoder = compile_parameters(config, &Plan::default(), &weights, &input, Mask::Full, &TokenCounts::new())?;
    println!("{name}, {} layers, {tokens} tokens: lowered in {:.2?}", shape.layers, start.elapsed());
    let start = Instant::now();
    let mut progress = |p: Position| {
        if p.cycle % (1 << 22) < (1 << 17) {
            eprintln!("cycle {} in operation {} of {}", p.cycle, p.operation, p.operations);
        }
    };
    let memory = encoder.compiled.program.initial_memory();
    let run = time_cycles(&encoder.compiled, memory, &CycleSetup::default(), &mut progress)?;
    println!("{} cycles simulated in {:.1?}", run.cycles, start.elapsed());
    println!("{}", Report::new(name, &encoder.compiled, &run).table(false));
    Ok(())
}

fn lower(name: &str, tokens: usize) -> Outcome {
    let shape = Shape::by_name(name)?;
    let weights = synthetic::encoder(&shape, tokens, 1)?;
    let start = Instant::now();
    let input = synthetic::input(&shape, tokens, 2);
    let config = GemminiConfig::norm16();
    let encoder = compile_parameters(config, &Plan::default(), &weights, &input, Mask::Full, &TokenCounts::new())?;
    let commands: u64 = encoder.compiled.operations.iter().map(|operation| operation.work.commands).sum();
    let macs: u64 = encoder.compiled.operations.iter().map(|operation| operation.work.macs).sum();
    let host = encoder.compiled.operations.iter().filter(|operation| operation.host.is_some()).count();
    println!(
        "{name}, {tokens} tokens: {commands} commands, {macs} MACs, {host} host steps, lowered in {:.2?}",
        start.elapsed()
    );
    Ok(())
}

fn decoder() -> Outcome {
    let shape = Shape::new("small decoder", 128, 8, 4, 512);
    let model = Arc::new(synthetic::decoder(&shape, 256, 64, 3)?);
    let setup = Some(CycleSetup::default());
    let config = GemminiConfig::norm16();
    let new = |model: &Arc<QuantisedDecoder>| Decoder::new(config.clone(), &Plan::default(), model.clone(), setup);
    let prompt = [3, 14, 15, 92];
    let count = 16;
    let base = generate(&mut new(&model)?, &prompt, count, None, &mut |_, _| ())?;
    println!("greedy: prefill {}, decode {} cycles, {:?}", base.prefill_cycles, base.decode_cycles, base.tokens);
    let agreement = |tokens: &[u32]| tokens.iter().zip(&base.tokens).filter(|(a, b)| a == b).count();
    for confidence in [0.9, 0.6, 0.3] {
        let exit = EarlyExit { every: 2, confidence };
        let run = generate(&mut new(&model)?, &prompt, count, Some(exit), &mut |_, _| ())?;
        println!(
            "early exit at {confidence}: decode {} cycles, {:.2} blocks a token, {} of {count} tokens agree",
            run.decode_cycles,
            run.layers,
            agreement(&run.tokens)
        );
    }
    for (layers, confidence) in [(2, 0.0), (4, 0.0), (4, 0.5), (6, 0.0)] {
        let policy = BigLittle { draft: 4, confidence };
        let (mut big, mut little) = (new(&model)?, new(&Arc::new(model.first_blocks(layers)?))?);
        let run = generate_big_little(&mut big, &mut little, &prompt, count, policy)?;
        println!(
            "little of {layers} blocks, confidence {confidence}: decode {} cycles, {} accepted, {} of {count} agree",
            run.decode_cycles,
            run.accepted,
            agreement(&run.tokens)
        );
    }
    Ok(())
}

/// GPT-2 small with pseudo-random weights: lowering, prefill, generation. Every tensor is compared with the reference.
fn gpt2(prompt: usize, count: usize) -> Outcome {
    let start = Instant::now();
    let model = Arc::new(synthetic::decoder(&Shape::by_name("gpt2")?, 50257, 1024, 3)?);
    let shifts: Vec<u32> = model.blocks.iter().map(|block| block.shift).collect();
    println!("built and quantised in {:.1?}; shifts of the stream {shifts:?}", start.elapsed());
    let prompt: Vec<u32> = (0..prompt as u32).map(|token| token * 37 % 50257).collect();
    let start = Instant::now();
    let lowered = compile_prompt(GemminiConfig::norm16(), &Plan::default(), &model, &prompt)?;
    let commands: u64 = lowered.compiled.operations.iter().map(|operation| operation.work.commands).sum();
    println!("prompt of {}: {commands} commands, lowered in {:.2?}", prompt.len(), start.elapsed());
    drop(lowered);
    let setup = Some(CycleSetup::default());
    let start = Instant::now();
    let mut decoder = Decoder::new(GemminiConfig::norm16(), &Plan::default(), model.clone(), setup)?;
    println!("weights placed in {:.2?}", start.elapsed());
    let mut cache = model.cache();
    let mut tokens = prompt;
    for _ in 0..count {
        let start = Instant::now();
        let pass = decoder.forward(&tokens)?;
        let (tensors, wrong) = decoder.compare(&pass, &model.traces(&tokens, &mut cache)?);
        println!(
            "{} new tokens at {}: {} cycles, {:.1?}; {} of {tensors} tensors differ; next {}",
            tokens.len(),
            decoder.len(),
            pass.cycles,
            start.elapsed(),
            wrong.len(),
            pass.token()
        );
        if let Some(report) = pass.report() {
            println!("{}", report.table(false));
        }
        tokens = vec![pass.token()];
    }
    Ok(())
}
