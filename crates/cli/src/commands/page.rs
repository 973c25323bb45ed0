//! `pollux page`

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use pollux_asm::{Assembler, Disk, Files, Program};
use pollux_isa::ValidConfig;
use pollux_page::{Page, Setup};
use pollux_session::{Options, Session};
use serde_json::json;

use crate::arguments::{PolicyName, SetupArguments, optional_configuration};
use crate::failure::{Failure, Outcome};
use crate::files::{InputPath, OutputPath, STANDARD_STREAM};
use crate::output::{Output, counted};
use crate::{execution, program_file, progress};

const EXAMPLES: &str = "\
Examples:
  pollux page programs/matmul_ws_tile.pasm -o demo.html
  pollux page programs/softmax.pasm -o softmax.html --cycle 150
  pollux page matmul.pbin -o slow.html --memory bench:latency=200";

/// Write one HTML file that shows a program's run in a browser: the array, blocks, queues, memories, step by step and back.
///
/// The emulator is in the file, compiled for the browser. It works from disk and offline, and nothing is sent anywhere.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Binary or assembly text (`-`: standard input).
    file: InputPath,
    /// The page to write (`-`: standard output).
    #[arg(short, long, value_name = "OUT.html")]
    output: OutputPath,
    /// Open at this cycle.
    #[arg(long, value_name = "CYCLE", default_value_t = 0)]
    cycle: u64,
    /// Configuration of a text that names none, or that a binary must be made for: a name, or a file.
    #[arg(long, value_name = "NAME|FILE")]
    config: Option<String>,
    #[command(flatten)]
    setup: SetupArguments,
}

/// Runs the command.
pub fn execute(arguments: &Arguments, out: &Output) -> Result<Outcome, Failure> {
    let config = optional_configuration(arguments.config.as_ref())?;
    let contents = program_file::read_program(&arguments.file)?;
    let name = arguments.file.display().to_string();
    let program =
        progress::during(out, "reading", || pollux::Program::from_bytes(&name, contents.clone(), config.as_ref()))?;
    let program = program.into_inner();
    let warnings = execution::check(&program, PolicyName::Error)?;
    warnings.iter().for_each(|warning| out.note(&format!("warning: {warning}")));
    let mut page = page(&arguments.file, contents, config.as_ref())?;
    page.setup = setup(&arguments.setup);
    page.cycle = arguments.cycle;
    let (commands, config) = (program.commands().count() as u64, program.config.name.clone());
    check_cycle(program, arguments)?;
    let html = page.html();
    out.write(&arguments.output, html.as_bytes())?;
    let (version, sources) = (pollux_page::version(), pollux_page::sources());
    out.json(&json!({
        "output": arguments.output, "program": page.name, "config": config, "commands": commands, "cycle": page.cycle,
        "files": page.files.keys().collect::<Vec<_>>(), "bytes": html.len(),
        "page": { "version": version, "sources": sources },
    }))?;
    out.text(&format!(
        "{}: {}, {} for {config}, in a page of {}; open it in a browser\n(its emulator: Pollux {version}, sources {sources})\n",
        arguments.output.display(),
        page.name,
        counted(commands, "command"),
        counted(html.len() as u64, "byte"),
    ))?;
    Ok(Outcome::Agrees)
}

/// The cycle is in the run, and the memory can stand behind the configuration.
fn check_cycle(program: Program, arguments: &Arguments) -> Result<(), Failure> {
    let options = Options { setup: arguments.setup.setup(), ..Options::default() };
    let mut session = Session::new(program, options).map_err(Failure::input)?;
    session.goto(arguments.cycle).map_err(|error| Failure::Usage(format!("--cycle: {error}")))
}

fn setup(arguments: &SetupArguments) -> Setup {
    let SetupArguments { memory, interval, processor, page_walk } = arguments;
    Setup {
        memory: memory.to_string(),
        interval: *interval,
        processor: processor.map(|processor| processor.to_string()).unwrap_or_default(),
        page_walk: page_walk.unwrap_or(0),
    }
}

/// The files of a text, which are kept as they are read. Paths are those that the text has for them, from the folder of the program.
struct Recorder<'a> {
    folder: &'a Path,
    read: RefCell<BTreeMap<String, Vec<u8>>>,
}

impl Files for Recorder<'_> {
    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let contents = Disk.read(&self.folder.join(path), limit)?;
        self.read.borrow_mut().insert(path.display().to_string(), contents.clone());
        Ok(contents)
    }
}

/// The page of a program that has no faults.
fn page(path: &Path, contents: Vec<u8>, config: Option<&ValidConfig>) -> Result<Page, Failure> {
    let name = match path.file_name() {
        Some(name) if path.as_os_str() != STANDARD_STREAM => name.to_string_lossy().into_owned(),
        _ => "stdin".to_owned(),
    };
    let toml = config.map(|config| config.to_toml_string().map_err(Failure::input)).transpose()?;
    let page = Page { name, config: toml.unwrap_or_default(), ..Page::default() };
    if pollux::Program::is_binary(&contents) {
        let files = BTreeMap::from([(page.name.clone(), contents)]);
        return Ok(Page { files, ..page });
    }
    let text = pollux_asm::text(contents).map_err(Failure::input)?;
    let recorder = Recorder { folder: path.parent().unwrap_or(Path::new("")), read: RefCell::default() };
    let assembler = Assembler::default().with_files(&recorder);
    let assembler = match config {
        Some(config) => assembler.with_default_config(config.clone()),
        None => assembler,
    };
    assembler.assemble(&page.name, &text).map_err(Failure::Assembly)?;
    Ok(Page { text: Some(text), files: recorder.read.into_inner(), ..page })
}
