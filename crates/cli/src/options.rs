//! What the options of a command line mean together: the files that they name, and whether each has an effect.
//!
//! An option that does nothing is refused. Where that follows from other options, the arguments' declarations say so
//! (`requires`, `conflicts_with`); where it follows from what a model is, the table [`EFFECTS`] does.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};

use crate::commands::run::Dump;
use crate::failure::Failure;
use crate::files::{InputPath, NamedPath, OutputPath, STANDARD_STREAM, Target, Temporaries, folder, is_same, is_stdin};

/// Identifiers of the arguments that were given, as against those that have their defaults.
#[derive(Clone, Debug, Default)]
pub struct Given(Vec<String>);

impl FromArgMatches for Given {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = matches.ids().filter(|id| matches.value_source(id.as_str()) == Some(ValueSource::CommandLine));
        Ok(Self(given.map(ToString::to_string).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Given {
    /// Refuses these arguments, for a reason.
    ///
    /// # Errors
    /// Those of them that are given.
    pub fn refuse(&self, arguments: &[&str], reason: &str) -> Result<(), Failure> {
        let flags = self.flags(arguments);
        if flags.is_empty() { Ok(()) } else { Err(Failure::Usage(format!("{}: {reason}", flags.join(", ")))) }
    }

    /// An argument is given.
    pub fn has(&self, argument: &str) -> bool {
        self.0.iter().any(|id| id == argument)
    }

    /// The flags of those of the arguments that are given.
    fn flags(&self, arguments: &[&str]) -> Vec<String> {
        let given = arguments.iter().filter(|argument| self.0.iter().any(|id| id == *argument));
        given.map(|argument| format!("--{}", argument.replace('_', "-"))).collect()
    }
}

/// Flattened into a command's arguments it adds none, and knows all that come after it: those before it have been taken from
/// the matches. So it is the first field.
impl Args for Given {
    fn augment_args(command: Command) -> Command {
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        command
    }
}

/// What the commands about whole models work on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A directory of the BERT or GPT-2 family.
    TransformerDirectory,
    /// A quantised Transformer.
    TransformerFile,
    /// A decoder as GGUF.
    GgufFile,
    /// A network as ONNX.
    OnnxFile,
    /// A network as a directory of weights.
    ResnetDirectory,
    /// A quantised network.
    NetworkFile,
    /// A Transformer's shape with pseudo-random weights.
    TransformerShape,
    /// ResNet-50's shape with pseudo-random weights.
    ResnetShape,
    /// A list of operations.
    List,
}

use Subject::{
    GgufFile, List, NetworkFile, OnnxFile, ResnetDirectory, ResnetShape, TransformerDirectory, TransformerFile,
    TransformerShape,
};

/// Options, the subjects on which they have an effect, and why not on others. An option that is not here has an effect on
/// every subject.
const EFFECTS: &[(&[&str], &[Subject], &str)] = &[
    (&["calibration"], &[TransformerDirectory, GgufFile], "only a Transformer in float32 is quantised with it"),
    (
        &["outlier_channels"],
        &[TransformerDirectory, OnnxFile],
        "only layers of a Transformer in float32 are quantised with it",
    ),
    (&["weight_planes"], &[TransformerDirectory], "only a Transformer's directory is quantised with it"),
    (
        &["reference"],
        &[TransformerFile],
        "it is for the file of a quantised Transformer; a model directory is its own reference",
    ),
    (
        &["text"],
        &[TransformerDirectory, TransformerFile, GgufFile],
        "only a Transformer that has a tokenizer reads a text",
    ),
    (
        &["input", "random_input"],
        &[OnnxFile, ResnetDirectory, NetworkFile, ResnetShape],
        "it is the input of a network; a Transformer has --text",
    ),
    (
        &["range"],
        &[TransformerDirectory, OnnxFile, ResnetDirectory, ResnetShape, GgufFile],
        "only a model in float32 is quantised with it",
    ),
    (
        &["channels_per_scale", "read_out"],
        &[OnnxFile, ResnetDirectory, ResnetShape, GgufFile],
        "only a network or a GGUF file is quantised with it",
    ),
    (&["smooth"], &[GgufFile], "only a GGUF file's ranges are moved"),
    (
        &["calibration_input"],
        &[OnnxFile, ResnetDirectory, ResnetShape],
        "only a network in float32 is quantised with it",
    ),
    (
        &["early_exit", "little", "confidence"],
        &[TransformerDirectory, TransformerFile, TransformerShape],
        "it leaves out blocks of the GPT-2 family's decoders",
    ),
    (&["image"], &[ResnetDirectory, ResnetShape], "only a ResNet's image can have several sizes"),
    (&["dimension"], &[OnnxFile], "only an ONNX file has dimensions with a name"),
    (&["fix"], &[OnnxFile], "only an ONNX file has inputs that can be fixed"),
    (&["requantise"], &[OnnxFile], "only an ONNX file brings number formats of its own"),
    (
        &["require_accelerator"],
        &[OnnxFile, ResnetDirectory, NetworkFile, ResnetShape],
        "what is left to the host is listed for networks only",
    ),
    (
        &["prune_heads", "prune_ffn", "prune_blocks", "prune_weights", "keep_tokens"],
        &[TransformerDirectory, TransformerFile],
        "pruning is for Transformers with weights of their own",
    ),
];

impl Subject {
    /// Whether it is a convolutional network, as against a Transformer or a list.
    pub fn is_network(self) -> bool {
        matches!(self, OnnxFile | ResnetDirectory | NetworkFile | ResnetShape)
    }

    /// The predicate of a sentence about it.
    fn predicate(self) -> &'static str {
        match self {
            TransformerDirectory => "is a Transformer's directory",
            TransformerFile => "is quantised already, a Transformer",
            GgufFile => "is a decoder in GGUF",
            OnnxFile => "is a network in ONNX",
            ResnetDirectory => "is a ResNet's directory",
            NetworkFile => "is quantised already, a network",
            TransformerShape => "is a Transformer's shape",
            ResnetShape => "is a ResNet's shape",
            List => "is a list of operations",
        }
    }

    /// Refuses what is given without having an effect on this subject, which the user knows by its name.
    ///
    /// # Errors
    /// All such options at once.
    pub fn check(self, name: &str, given: &Given) -> Result<(), Failure> {
        let useless = |(options, subjects, reason): &(&[&str], &[Self], &'static str)| {
            let flags = given.flags(options);
            let is_useless = !flags.is_empty() && !subjects.contains(&self);
            is_useless.then(|| format!("{} has no effect on it, {reason}: leave it out", flags.join(", ")))
        };
        let useless: Vec<String> = EFFECTS.iter().filter_map(useless).collect();
        if useless.is_empty() {
            return Ok(());
        }
        Err(Failure::Usage(format!("{name} {}: {}", self.predicate(), useless.join("; "))))
    }
}

/// Where an argument stands in messages: `--plan`, or nothing for one without a flag.
fn option(argument: &Arg) -> Option<String> {
    argument.get_long().map(|long| format!("--{long}"))
}

/// `--plan: ` in front of a message.
fn prefix(option: Option<&String>) -> String {
    option.map(|option| format!("{option}: ")).unwrap_or_default()
}

/// The files that a command line names.
#[derive(Debug, Default)]
struct Files {
    /// With their options.
    inputs: Vec<(Option<String>, PathBuf)>,
    outputs: Vec<(Option<String>, PathBuf)>,
}

/// Values of an argument if they have this type.
fn values<'m, T: Clone + Send + Sync + 'static>(matches: &'m ArgMatches, argument: &Arg) -> Vec<&'m T> {
    matches.try_get_many(argument.get_id().as_str()).ok().flatten().map(Iterator::collect).unwrap_or_default()
}

impl Files {
    fn new(command: &Command, matches: &ArgMatches) -> Self {
        let mut files = Self::default();
        let mut level = Some((command, matches));
        while let Some((command, matches)) = level {
            command.get_arguments().for_each(|argument| files.add(argument, matches));
            level = matches.subcommand().and_then(|(name, below)| Some((command.find_subcommand(name)?, below)));
        }
        files
    }

    fn add(&mut self, argument: &Arg, matches: &ArgMatches) {
        let option = option(argument);
        let mut input = |path: &Path| self.inputs.push((option.clone(), path.to_path_buf()));
        values::<InputPath>(matches, argument).into_iter().for_each(|path| input(path));
        values::<NamedPath>(matches, argument).into_iter().for_each(|path| input(path));
        if ["config", "energy", "energy_table", "table"].contains(&argument.get_id().as_str()) {
            // A name or a file.
            let files = values::<String>(matches, argument).into_iter().map(Path::new);
            files.filter(|path| path.is_file() || path.as_os_str() == STANDARD_STREAM).for_each(input);
        }
        let outputs = values::<OutputPath>(matches, argument).into_iter();
        let dumps = values::<Dump>(matches, argument).into_iter().filter_map(|dump| dump.file.as_ref());
        self.outputs.extend(outputs.chain(dumps).map(|path| (option.clone(), path.to_path_buf())));
    }
}

/// Checks the files of a command line before the command begins: inputs of options can be read, outputs can be written,
/// and no output is another one or an input. Whether one is the standard output.
///
/// # Errors
/// The first file with which something is wrong.
pub fn check_files(
    command: &Command,
    matches: &ArgMatches,
    json: bool,
    temporaries: &Temporaries,
) -> Result<bool, Failure> {
    let files = Files::new(command, matches);
    check_inputs(&files.inputs)?;
    let mut targets: Vec<(Target, &Path)> = Vec::new();
    for (option, path) in &files.outputs {
        let (at, shown) = (prefix(option.as_ref()), path.display());
        let unwritable = |error| Failure::Input(format!("{at}cannot write `{shown}`: {error}"));
        let target = Target::of(path).map_err(unwritable)?;
        if let Some((_, other)) = targets.iter().find(|(other, _)| other.is_same(&target)) {
            let other = other.display();
            return Err(Failure::Usage(format!(
                "{at}`{shown}` and `{other}` are the same file: give each output its own"
            )));
        }
        if json && target == Target::Stdout {
            return Err(Failure::Usage(format!(
                "{at}the standard output gets the JSON document: give a file, or leave out --json"
            )));
        }
        if let Some((_, input)) = files.inputs.iter().find(|(_, input)| replaces(&target, input)) {
            let input = input.display();
            return Err(Failure::Usage(format!("{at}`{shown}` would replace the input `{input}`: give another name")));
        }
        target.probe(temporaries).map_err(unwritable)?;
        targets.push((target, path));
    }
    Ok(targets.iter().any(|(target, _)| *target == Target::Stdout))
}

/// Files of options can be opened; those without an option say what they are when they are read. The standard input can be
/// read once.
fn check_inputs(inputs: &[(Option<String>, PathBuf)]) -> Result<(), Failure> {
    if inputs.iter().filter(|(_, path)| path.as_os_str() == STANDARD_STREAM).count() > 1 {
        return Err(Failure::Usage("the standard input (`-`) can be read only once: give a file".to_owned()));
    }
    for (option, path) in inputs.iter().filter(|(option, path)| option.is_some() && path.as_os_str() != STANDARD_STREAM)
    {
        let readable = fs::metadata(path).and_then(|metadata| match metadata.is_file() {
            true => File::open(path).map(drop),
            false => Ok(()),
        });
        readable.map_err(|error| {
            Failure::Input(format!("{}cannot read `{}`: {error}", prefix(option.as_ref()), path.display()))
        })?;
    }
    Ok(())
}

/// Whether an output would replace an input, or a file in an input's folder that was there before.
fn replaces(target: &Target, input: &Path) -> bool {
    let Target::Regular(output) = target else { return false };
    if input.as_os_str() == STANDARD_STREAM {
        return is_stdin(output);
    }
    is_same(output, input) || (input.is_dir() && output.exists() && is_same(folder(output), input))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    /// When an option has an effect.
    #[derive(Clone, Copy, Debug)]
    enum Effect {
        /// In every mode of the command.
        Always,
        /// Only with another one.
        Needs(&'static str),
        /// Not with another one.
        Not(&'static str),
        /// On the subjects of [`EFFECTS`].
        Subjects,
        /// The command finds out itself, and refuses it: an end-to-end test shows it.
        Refused,
    }

    use Effect::{Always, Needs, Not, Refused, Subjects};

    type Options = &'static [(&'static str, Effect)];

    const CYCLES: Options = &[
        ("memory", Needs("--cycles")),
        ("interval", Needs("--cycles")),
        ("processor", Needs("--cycles")),
        ("page-walk", Needs("--cycles")),
        ("limit", Needs("--cycles")),
        ("trace", Needs("--cycles")),
        ("commands", Needs("--cycles")),
    ];
    const TIMELINE: Options = &[
        ("perfetto", Needs("--cycles")),
        ("perfetto-level", Needs("--cycles --perfetto=x")),
        ("kanata", Needs("--cycles")),
        ("fst", Needs("--cycles")),
        ("vcd", Needs("--cycles")),
        ("from", Needs("--cycles")),
        ("to", Needs("--cycles")),
        ("budget", Needs("--cycles")),
    ];
    const REPLAY: Options = &[
        ("no-replay", Refused),
        ("check-replay", Refused),
        ("check-replay", Not("--no-replay")),
        ("replay-table-size", Refused),
        ("replay-table-size", Not("--no-replay")),
        ("replay-tables", Refused),
        ("replay-tables", Not("--no-replay")),
    ];
    const OUTPUT: Options = &[("config", Always), ("output", Always)];
    const QUANTISATION: Options = &[
        ("calibration", Subjects),
        ("outlier-channels", Subjects),
        ("weight-planes", Subjects),
        ("reference", Subjects),
    ];
    const NETWORK: Options = &[
        ("input", Subjects),
        ("random-input", Subjects),
        ("random-input", Not("--input=1")),
        ("calibration-input", Subjects),
        ("range", Subjects),
        ("channels-per-scale", Subjects),
        ("read-out", Subjects),
        ("image", Subjects),
        ("dimension", Subjects),
        ("fix", Subjects),
        ("requantise", Subjects),
        ("require-accelerator", Subjects),
    ];
    const LOWERING: Options = &[("config", Always), ("plan", Always)];
    const TECHNIQUES: Options = &[
        ("prune-heads", Subjects),
        ("prune-ffn", Subjects),
        ("prune-blocks", Subjects),
        ("prune-weights", Subjects),
        ("keep-tokens", Subjects),
    ];
    const PLAN_SEARCH: Options = &[
        ("config", Always),
        ("plan", Always),
        ("memory", Always),
        ("interval", Always),
        ("objective", Always),
        ("candidates", Always),
        ("budget", Always),
        ("evaluations", Always),
        ("seed", Always),
        ("energy-table", Always),
        ("clock", Always),
        ("jobs", Always),
        ("output", Always),
    ];
    const SEARCH: Options = &[
        ("config", Always),
        ("memory", Always),
        ("interval", Always),
        ("objective", Always),
        ("search", Always),
        ("budget", Always),
        ("evaluations", Always),
        ("seed", Always),
        ("factors", Always),
        ("emission", Always),
        ("dataflow", Always),
        ("energy-table", Always),
        ("clock", Always),
        ("jobs", Always),
        ("warm", Refused),
        ("output", Always),
    ];
    const ENERGY: Options = &[("energy", Not("--functional")), ("clock", Needs("--energy=x"))];
    const FUNCTIONAL: Options = &[
        ("functional", Always),
        ("memory", Not("--functional")),
        ("interval", Not("--functional")),
        ("limit", Not("--functional")),
    ];

    /// A line that is complete, and all options, of every command without subcommands.
    const COMMANDS: &[(&str, &[Options])] = &[
        ("demo", &[&[("cycles", Always), ("layer", Always)], OUTPUT, CYCLES]),
        ("asm x", &[OUTPUT]),
        ("dis x", &[&[("output", Always), ("executed", Refused), ("config", Refused)]]),
        (
            "run x",
            &[
                &[("cycles", Always), ("expect", Always), ("dump", Refused), ("policy", Always), ("config", Always)],
                &[
                    ("report", Needs("--cycles")),
                    ("no-values", Needs("--cycles")),
                    ("energy", Needs("--cycles")),
                    ("clock", Needs("--cycles --energy=x")),
                ],
                &[("commit-log", Not("--cycles --no-values"))],
                &[("instructions", Refused), ("symbols", Refused), ("spike-log", Refused)],
                &[("ram", Refused), ("misaligned", Refused)],
                TIMELINE,
                CYCLES,
                REPLAY,
            ],
        ),
        (
            "lower matmul --m 1 --n 1 --k 1",
            &[
                &[
                    ("dataflow", Not("--schedule=x")),
                    ("emission", Not("--schedule=x")),
                    ("schedule", Always),
                    ("activation", Always),
                    ("bias", Always),
                    ("scale", Always),
                ],
                &[("a-transpose", Always), ("b-transpose", Always), ("seed", Always)],
                OUTPUT,
            ],
        ),
        ("lower encoder-layer", &[&[("layer", Always)], OUTPUT]),
        ("lower list x", &[OUTPUT, &[("schedule", Always)]]),
        (
            "quantize x --calibration x",
            &[
                &[("layer", Needs("--output=x")), ("license", Needs("--output=x")), ("output", Always)],
                &[("text", Always), ("range", Always), ("outlier-channels", Always)],
            ],
        ),
        ("model quantize x", &[QUANTISATION, NETWORK, &[("text", Subjects), ("output", Always)]]),
        ("model lower x --output x", &[QUANTISATION, NETWORK, LOWERING, TECHNIQUES, &[("text", Subjects)]]),
        ("model run x", &[QUANTISATION, NETWORK, LOWERING, TECHNIQUES, FUNCTIONAL, ENERGY, &[("text", Subjects)]]),
        (
            "model generate",
            &[
                &[("calibration", Needs("x --text=x")), ("outlier-channels", Needs("x --text=x"))],
                &[("weight-planes", Needs("x --text=x")), ("reference", Needs("x --text=x")), ("text", Needs("x"))],
                &[("shape", Not("x --text=x")), ("layers", Not("x --text=x")), ("vocabulary", Not("x --text=x"))],
                &[("prompt", Not("x --text=x")), ("seed", Not("x --text=x")), ("tokens", Always), ("config", Always)],
                &[("early-exit", Not("--little=1")), ("little", Always), ("confidence", Needs("--little=1"))],
                &[("no-values", Not("--functional"))],
                &[("range", Needs("x --text=x")), ("channels-per-scale", Needs("x.gguf --text=x"))],
                &[("smooth", Needs("x.gguf --text=x")), ("read-out", Needs("x.gguf --text=x"))],
                &[("no-replay", Not("--functional")), ("check-replay", Not("--functional"))],
                &[("replay-table-size", Not("--functional")), ("replay-tables", Not("--functional"))],
                FUNCTIONAL,
                REPLAY,
                ENERGY,
            ],
        ),
        ("model embed x x", &[QUANTISATION, TECHNIQUES, &[("range", Subjects)]]),
        (
            "model perplexity x.gguf x",
            &[
                &[("window", Always), ("windows", Always), ("range", Subjects), ("channels-per-scale", Subjects)],
                &[("smooth", Subjects), ("read-out", Subjects)],
                QUANTISATION,
            ],
        ),
        (
            "report --list x",
            &[
                &[("model", Not("--list=x")), ("shape", Not("--list=x")), ("text", Subjects)],
                &[("tokens", Not("--list=x")), ("layers", Not("--list=x")), ("every", Refused), ("html", Always)],
                &[("memory", Always), ("interval", Always), ("limit", Always), ("no-values", Refused)],
                &[("schedule", Always)],
                &[("energy", Always), ("clock", Needs("--energy=x"))],
                REPLAY,
                NETWORK,
                LOWERING,
                TECHNIQUES,
            ],
        ),
        (
            "map matmul --m 1 --n 1 --k 1",
            &[&[("bias", Always), ("relu", Always), ("resume", Always), ("html", Always)], SEARCH],
        ),
        (
            "map conv --rows 4 --cols 4 --channels 4 --out-channels 4 --kernel 1",
            &[
                &[("batch", Always), ("stride", Always), ("padding", Always), ("pool", Always), ("bias", Always)],
                &[("depthwise", Not("--out-channels=4")), ("resume", Always), ("html", Always)],
                SEARCH,
            ],
        ),
        ("map layer --hidden 1 --heads 1 --ffn 1", &[&[("tokens", Always), ("decoder", Always)], PLAN_SEARCH]),
        (
            "map network x",
            &[
                &[("text", Subjects), ("shape", Not("x")), ("tokens", Not("x")), ("layers", Not("x"))],
                NETWORK,
                PLAN_SEARCH,
            ],
        ),
        (
            "map train --output x",
            &[&[("samples", Always), ("config", Always), ("memory", Always), ("seed", Always), ("jobs", Always)]],
        ),
        (
            "survey workload",
            &[&[("reduced", Always), ("html", Always), ("paper", Always), ("seed", Refused), ("jobs", Always)]],
        ),
        ("map import x", &[OUTPUT, &[("problem", Always), ("memory", Always)]]),
        (
            "map evaluate",
            &[
                &[("samples", Always), ("operation", Always), ("config", Always), ("memory", Always)],
                &[("emission", Always), ("seed", Always), ("jobs", Always)],
                &[("learned", Always), ("searches", Always), ("whole-spaces", Always)],
            ],
        ),
        (
            "map gains",
            &[
                &[("config", Always), ("memory", Always), ("budget", Always), ("evaluations", Always)],
                &[("emission", Always), ("only", Always), ("seed", Always), ("jobs", Always)],
            ],
        ),
        ("sweep merge x", &[&[("output", Always)]]),
        ("energy tables", &[]),
        ("energy show x", &[&[("config", Always), ("output", Always)]]),
        ("energy export x --ert x", &[&[("config", Always), ("art", Always)]]),
        (
            "energy import x --node 45nm --output x",
            &[&[("art", Always), ("name", Always), ("width", Always), ("ignore", Always)]],
        ),
        ("isa", &[&[("config", Refused), ("markdown", Not("mvin")), ("header", Not("mvin"))]]),
        (
            "config",
            &[&[("check", Not("--output=x")), ("list", Not("--check")), ("list", Not("x")), ("output", Not("--list"))]],
        ),
        ("import x", &[OUTPUT]),
        ("verify x", &[&[("jobs", Always), ("case", Always)]]),
        (
            "debug x",
            &[
                &[
                    ("script", Always),
                    ("break", Not("--script=x")),
                    ("at", Always),
                    ("policy", Always),
                    ("config", Always),
                ],
                &[("memory", Always), ("interval", Always), ("processor", Always), ("page-walk", Always)],
                &[("snapshots", Always)],
            ],
        ),
        (
            "page x --output x",
            &[
                &[("cycle", Always), ("config", Always)],
                &[("memory", Always), ("interval", Always), ("processor", Always), ("page-walk", Always)],
            ],
        ),
        ("lab list", &[]),
        ("lab show 1", &[&[("starter", Always), ("seed", Refused)]]),
        ("lab check 1 x", &[&[("seed", Always), ("cases", Refused)]]),
        ("completions bash", &[]),
        ("man", &[]),
        ("spike x", &[]),
    ];

    /// The option with a value that it can have.
    fn with_value(command: &Command, option: &str) -> String {
        let argument = command.get_arguments().find(|a| a.get_long() == Some(option)).expect("an option");
        if !argument.get_action().takes_values() {
            return format!("--{option}");
        }
        let possible = argument.get_possible_values().first().map(|value| value.get_name().to_owned());
        let value = possible.unwrap_or_else(|| {
            match option {
                "memory" => "dram",
                "range" => "mse",
                "read-out" => "int32",
                "keep-tokens" => "0=0.5",
                "dimension" | "fix" => "a=1",
                "clock" => "1GHz",
                "processor" => "rocket",
                "width" => "DRAM=64",
                "snapshots" => "64",
                "window" => "16",
                "prune-blocks" | "prune-weights" => "0.5",
                _ => "1",
            }
            .to_owned()
        });
        format!("--{option}={value}")
    }

    fn parse(line: &str) -> Result<ArgMatches, ErrorKind> {
        let words = std::iter::once("pollux").chain(line.split(' ').filter(|word| !word.is_empty()));
        crate::Arguments::command().try_get_matches_from(words).map_err(|error| error.kind())
    }

    /// The command of a line.
    fn find<'c>(root: &'c Command, line: &str) -> &'c Command {
        line.split(' ').fold(root, |command, word| command.find_subcommand(word).unwrap_or(command))
    }

    fn check(command: &Command, line: &str, option: &str, effect: Effect) {
        let given = with_value(command, option);
        let plain = parse(&format!("{line} {given}"));
        let with = |other: &str| parse(&format!("{line} {given} {other}"));
        let subjects = || EFFECTS.iter().any(|(options, ..)| options.contains(&option.replace('-', "_").as_str()));
        match effect {
            Always | Refused => assert!(plain.is_ok(), "{line} {given}: {plain:?}"),
            Subjects => assert!(plain.is_ok() && subjects(), "{line} {given}: {plain:?}"),
            Needs(other) => {
                assert_eq!(plain.err(), Some(ErrorKind::MissingRequiredArgument), "{line} {given}");
                assert!(with(other).is_ok(), "{line} {given} {other}");
            }
            // The line itself may have the other one.
            Not(other) if line.contains(&other.replace('=', " ")) => {
                assert_eq!(plain.err(), Some(ErrorKind::ArgumentConflict), "{line} {given}");
            }
            Not(other) => {
                assert!(plain.is_ok(), "{line} {given}: {plain:?}");
                assert_eq!(with(other).err(), Some(ErrorKind::ArgumentConflict), "{line} {given} {other}");
            }
        }
    }

    /// Commands without subcommands, by their names.
    fn leaves(command: &Command, path: &str, found: &mut Vec<String>) {
        let below: Vec<&Command> = command.get_subcommands().filter(|c| c.get_name() != "help").collect();
        if below.is_empty() {
            found.push(path.trim().to_owned());
        }
        below.iter().for_each(|command| leaves(command, &format!("{path} {}", command.get_name()), found));
    }

    #[test]
    fn every_option_of_every_command_is_classified_and_behaves_so() {
        let mut root = crate::Arguments::command();
        root.build();
        let mut commands = Vec::new();
        leaves(&root, "", &mut commands);
        for name in commands {
            let of_command = |(line, _): &&(&str, &[Options])| *line == name || line.starts_with(&format!("{name} "));
            let (line, options) =
                COMMANDS.iter().find(of_command).unwrap_or_else(|| panic!("`{name}` is not classified"));
            let command = find(&root, line);
            assert!(parse(line).is_ok(), "{line}");
            let options: Vec<_> = options.iter().flat_map(|options| options.iter()).collect();
            let declared = command.get_arguments().filter_map(Arg::get_long);
            // What the line itself has is not classified.
            let is_open =
                |long: &&str| !["help", "version", "json"].contains(long) && !line.contains(&format!("--{long} "));
            for option in declared.filter(is_open) {
                assert!(options.iter().any(|(known, _)| *known == option), "{name}: --{option} is not classified");
            }
            options.iter().for_each(|(option, effect)| check(command, line, option, *effect));
        }
    }

    #[test]
    fn all_useless_options_are_named_at_once() {
        let given = Given(["image", "plan", "prune_heads"].map(str::to_owned).to_vec());
        assert!(ResnetDirectory.check("net", &Given(vec!["image".to_owned()])).is_ok());
        let message = List.check("ops.toml", &given).unwrap_err().to_string();
        assert!(message.starts_with("ops.toml is a list of operations: --image has no effect on it, "), "{message}");
        assert!(message.contains("; --prune-heads has no effect") && !message.contains("plan"), "{message}");
    }
}
