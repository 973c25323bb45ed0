//! `pollux import`

use std::path::Path;

use pollux_asm::{Buffer, ElementType, Program, disassemble, import_commands};
use pollux_isa::ValidConfig;
use pollux_memory::Memory;
use pollux_trace::GoldenCase;
use pollux_trace::case::Region;
use pollux_trace::verify::config_of;
use serde_json::json;

use crate::arguments::{configuration, optional_configuration};
use crate::elf;
use crate::failure::{Failure, Outcome};
use crate::files::{InputPath, OutputPath};
use crate::output::{Output, counted};
use crate::program_file;

const EXAMPLES: &str = "\
Examples:
  pollux import tests/golden/directed/loop_ws_24x24x24        a golden case, as assembly text
  pollux import tests/golden/software/matmul_ws -o m.pbin      the same, as a binary
  pollux import commands.txt --config small4 -o stream.pasm   a list of commands, one a line: FUNCT RS1 RS2
  pollux import programs/riscv/matmul.elf -o matmul.pbin      the commands that a RISC-V program sends";

/// Longest region that a case can compare.
const MAX_DUMP_BYTES: u64 = 1 << 30;

/// Make a program of a golden case, a list of commands, or a run of an ELF file.
///
/// A golden case is a folder with program.txt, memory_in.txt and summary.json (or .gz). Its initial memory becomes
/// buffers in_0, in_1, ..., the regions that it compares become buffers out_0, out_1, ... with expected contents, and
/// all the rest, which the bench has as well, is buffer memory.
/// A list has a command a line: the function number (decimal) and the two registers (hexadecimal); `fence`,
/// `wait CYCLES` and remarks behind `#` are also understood.
/// An ELF file is run on the functional model. Its commands become the stream, with the core's fences, its writes between
/// the commands, and a wait of one cycle for each of its instructions; the memory that the commands touch becomes buffers
/// memory_0, memory_1, ... with their contents at the first command, and those that are written have expected contents.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Folder of a golden case, list of commands (`-`: standard input), or ELF file.
    path: InputPath,
    /// Configuration: a name or a file. By default the one that the case names, or default16.
    #[arg(long, value_name = "NAME|FILE", visible_alias = "params")]
    config: Option<String>,
    /// File to write: assembly text if it is called `*.pasm`, binary otherwise (`-`: standard
    /// output). By default text is printed.
    #[arg(short, long, value_name = "FILE")]
    output: Option<OutputPath>,
}

/// Runs the command.
pub fn execute(arguments: &Arguments, out: &Output) -> Result<Outcome, Failure> {
    let config = optional_configuration(arguments.config.as_ref())?;
    let (program, bench) = if arguments.path.is_dir() {
        golden_case(&arguments.path, config)?
    } else if let Some(program) = elf::open(&arguments.path)? {
        (elf::recording::record(&program, &arguments.path, config, out)?, None)
    } else {
        (list(&arguments.path, config)?, None)
    };
    let text = match &arguments.output {
        Some(path) => {
            program_file::save(path, &program, out)?;
            out.text(&format!("{}: {}\n", path.display(), counted(program.commands().count() as u64, "command")))?;
            None
        }
        None => Some(disassemble(&program)),
    };
    if let Some(text) = &text {
        out.text(text)?;
    }
    if let Some(bench) = &bench {
        out.note(&format!("recorded with: pollux run --cycles --memory {bench}"));
    }
    out.json(&json!({
        "config": program.config.name, "commands": program.commands().count(), "buffers": program.buffers.len(),
        "output": arguments.output, "memory": bench, "text": text,
    }))?;
    Ok(Outcome::Agrees)
}

fn list(path: &Path, config: Option<ValidConfig>) -> Result<Program, Failure> {
    let config = config.map_or_else(|| configuration("default16"), Ok)?;
    let text = program_file::read_text(path)?;
    import_commands(config, &text).map_err(|errors| {
        let lines = errors.iter().map(|error| format!("{}: {error}", path.display()));
        Failure::Input(lines.collect::<Vec<_>>().join("\n"))
    })
}

/// The case as a program, and the memory system that it was recorded with.
fn golden_case(dir: &Path, config: Option<ValidConfig>) -> Result<(Program, Option<String>), Failure> {
    let case = GoldenCase::read(dir).map_err(Failure::input)?;
    let config = config.map_or_else(|| config_of(&case).map_err(Failure::input), Ok)?;
    let mut program = Program::new(config);
    let mut names = 0..;
    for Region { address, bytes } in joined(&case.memory_in) {
        let name = format!("in_{}", names.next().unwrap_or(0));
        program.buffers.push(byte_buffer(name, address, bytes.len() as u64, Some(bytes), None));
    }
    let expected = case.memory_out.as_ref().map(|regions| {
        let mut memory = Memory::new();
        regions.iter().for_each(|region| memory.write(region.address, &region.bytes));
        memory
    });
    for (index, (address, length)) in case.dumps.iter().enumerate() {
        if *length > MAX_DUMP_BYTES {
            return Err(Failure::Input(format!("{}: a dump of {length} bytes is too long", dir.display())));
        }
        let expected = expected.as_ref().map(|memory| memory.read_vec(*address, *length as usize));
        program.buffers.push(byte_buffer(format!("out_{index}"), *address, *length, None, expected));
    }
    program.buffers.push(byte_buffer("memory".to_owned(), 0, 1 << program.config.paddr_bits, None, None));
    program.items = case.items;
    program.check().map_err(Failure::input)?;
    let GoldenCase { latency, a_period, d_period, .. } = case;
    Ok((program, Some(format!("bench:latency={latency},a_period={a_period},d_period={d_period}"))))
}

/// Regions that follow each other without a gap as one.
fn joined(regions: &[Region]) -> Vec<Region> {
    let mut out: Vec<Region> = Vec::new();
    for region in regions {
        match out.last_mut() {
            Some(last) if last.address.checked_add(last.bytes.len() as u64) == Some(region.address) => {
                last.bytes.extend_from_slice(&region.bytes);
            }
            _ => out.push(region.clone()),
        }
    }
    out
}

fn byte_buffer(name: String, address: u64, length: u64, data: Option<Vec<u8>>, expected: Option<Vec<u8>>) -> Buffer {
    Buffer { name, address, element: ElementType::I8, shape: vec![length], data, expected }
}
