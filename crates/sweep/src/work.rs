//! The axis of work: operations, programs, lists of operations.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pollux::Config;
use pollux_compiler::list::OperationList;
use pollux_compiler::synthetic::Shape;
use pollux_kernels::{ConvShape, Pool};
use pollux_mapper::{ConvProblem, MatmulProblem, Problem, ReadOut};
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};

use crate::error::SweepError;
use crate::source::{Fields, Section, Source};
use crate::table::{Value, hex};

/// What is run.
#[derive(Clone, Debug)]
pub enum Subject {
    /// A product or a convolution, by the point's mapping.
    Problem(Problem),
    /// Encoder layers of a shape with pseudo-random weights.
    Transformer {
        /// The shape, with its layers.
        shape: Shape,
        /// Tokens.
        tokens: usize,
    },
    /// A program.
    Program {
        /// Its file, which other files of an assembly text are relative to.
        path: PathBuf,
        /// What the file holds.
        contents: Vec<u8>,
        /// Digest of its binary form, with everything that the text includes.
        digest: String,
    },
    /// A list of operations.
    List {
        /// The list.
        list: Box<OperationList>,
        /// Digest of its text.
        digest: String,
    },
}

/// An entry of the axis.
#[derive(Clone, Debug)]
pub struct Work {
    /// Name in the table.
    pub name: String,
    /// Its parameters.
    pub fields: Vec<(String, Value)>,
    /// What is run.
    pub subject: Subject,
}

const MATMUL: [&str; 5] = ["m", "n", "k", "bias", "relu"];
const CONV: [&str; 11] =
    ["batch", "rows", "cols", "channels", "out_channels", "kernel", "stride", "padding", "pool", "depthwise", "bias"];
const TRANSFORMER: [&str; 3] = ["shape", "layers", "tokens"];
/// The operands must fit the address space that programs have.
const MOST_BYTES: u64 = 1 << 30;
const KINDS: &str = "write operation = \"matmul\", \"conv\" or \"transformer\", program = \"FILE\", or list = \"FILE\"";

impl Work {
    /// What a point's id is made of: what is run, not what it is called.
    pub fn canonical(&self) -> Json {
        match &self.subject {
            Subject::Problem(problem) => json!(problem),
            Subject::Transformer { shape: Shape { hidden, layers, heads, ffn, .. }, tokens } => {
                json!({ "transformer": { "hidden": hidden, "layers": layers, "heads": heads, "ffn": ffn, "tokens": tokens } })
            }
            Subject::Program { digest, .. } => json!({ "program": digest }),
            Subject::List { digest, .. } => json!({ "list": digest }),
        }
    }

    /// What is mapped, if it is something that has mappings.
    pub fn problem(&self) -> Option<&Problem> {
        match &self.subject {
            Subject::Problem(problem) => Some(problem),
            _ => None,
        }
    }
}

/// All work of a manifest. `config` is for texts that name none.
pub fn read(source: &Source, folder: &Path, config: &Config) -> Result<Vec<Arc<Work>>, SweepError> {
    let mut all: Vec<Arc<Work>> = Vec::new();
    for section in source.sections("work") {
        for work in of_section(section, folder, config)? {
            if all.iter().any(|other| other.name == work.name) {
                let message = format!("there is `{}` already: give it another name", work.name);
                return Err(section.error("name", message));
            }
            all.push(Arc::new(work));
        }
    }
    match all.is_empty() {
        true => Err(source.top.error("work", format!("there is nothing to run: add [[work]] sections; {KINDS}"))),
        false => Ok(all),
    }
}

/// Reads one combination of the parameters of an operation.
type Reader = fn(&Fields<'_>, &Path, &Config) -> Result<Subject, SweepError>;

fn of_section(section: &Section, folder: &Path, config: &Config) -> Result<Vec<Work>, SweepError> {
    let name = section.text("name")?;
    let kinds = ["operation", "program", "list"].map(|kind| section.get(kind).map(|_| kind));
    let [kind] = kinds.into_iter().flatten().collect::<Vec<_>>()[..] else {
        return Err(section.error("", KINDS));
    };
    let operation = if kind == "operation" { section.text(kind)?.unwrap_or_default() } else { kind.to_owned() };
    let (keys, subject): (&[&str], Reader) = match operation.as_str() {
        "matmul" => (&MATMUL, |fields, _, _| matmul(fields)),
        "conv" => (&CONV, |fields, _, _| conv(fields)),
        "transformer" => (&TRANSFORMER, |fields, _, _| transformer(fields)),
        "program" => (&["program"], program),
        "list" => (&["list"], |fields, folder, _| list(fields, folder)),
        other => return Err(section.error(kind, format!("`{other}` is no operation: {KINDS}"))),
    };
    let combinations = section.combinations(keys);
    section.finish()?;
    let work = |fields: Fields<'_>| {
        let label = match (&name, kind) {
            (Some(name), _) => format!("{name} {}", fields.label(true)),
            (None, "operation") => format!("{operation} {}", fields.label(false)),
            (None, _) => fields.fields.first().map(|(_, value)| value.to_string()).unwrap_or_default(),
        };
        let subject = subject(&fields, folder, config)?;
        let parameters = if kind == "operation" { fields.fields } else { Vec::new() };
        Ok(Work { name: label.trim_end().to_owned(), fields: parameters, subject })
    };
    combinations.into_iter().map(work).collect()
}

fn matmul(fields: &Fields<'_>) -> Result<Subject, SweepError> {
    let [m, n, k] = ["m", "n", "k"].map(|key| fields.size(key, None));
    let read_out = if fields.flag("relu")? { ReadOut::Relu } else { ReadOut::Plain };
    checked(fields, Problem::Matmul(MatmulProblem { m: m?, n: n?, k: k?, bias: fields.flag("bias")?, read_out }))
}

fn conv(fields: &Fields<'_>) -> Result<Subject, SweepError> {
    let [rows, cols, channels, kernel] = ["rows", "cols", "channels", "kernel"].map(|key| fields.size(key, None));
    let (rows, cols, channels, kernel) = (rows?, cols?, channels?, kernel?);
    let depthwise = fields.flag("depthwise")?;
    let out_channels = fields.size("out_channels", depthwise.then_some(channels))?;
    if depthwise && out_channels != channels {
        return Err(fields
            .section
            .error("out_channels", "a depthwise convolution has those of the input: leave it out"));
    }
    let pool = fields.get("pool").is_some().then(|| fields.size("pool", None)).transpose()?;
    let shape = ConvShape {
        stride: fields.size("stride", Some(1))?,
        padding: fields.extent("padding", Some(0), 0)? as isize,
        pool: pool.map(|size| Pool { size, stride: size, padding: 0 }),
        depthwise,
        ..ConvShape::new(fields.size("batch", Some(1))?, [rows, cols, channels], out_channels, kernel)
    };
    if shape.pooled_pixels().contains(&0) {
        return Err(fields.section.error("kernel", "the image has no output for this kernel, padding and pool"));
    }
    checked(fields, Problem::Conv(ConvProblem { shape, bias: fields.flag("bias")? }))
}

fn checked(fields: &Fields<'_>, problem: Problem) -> Result<Subject, SweepError> {
    let bytes = problem.compulsory_bytes();
    match bytes > MOST_BYTES {
        true => Err(fields.section.error("", format!("{problem} has {bytes} bytes of operands: at most {MOST_BYTES}"))),
        false => Ok(Subject::Problem(problem)),
    }
}

fn transformer(fields: &Fields<'_>) -> Result<Subject, SweepError> {
    let name = fields.text("shape")?.ok_or_else(|| fields.section.error("", "`shape` is missing"))?;
    let mut shape = Shape::by_name(name).map_err(|error| fields.section.error("shape", error.to_string()))?;
    if shape.decoder {
        return Err(fields
            .section
            .error("shape", format!("`{name}` is a decoder: choose an encoder, such as bert-base")));
    }
    shape.layers = fields.size("layers", Some(1))?;
    Ok(Subject::Transformer { shape, tokens: fields.size("tokens", None)? })
}

fn program(fields: &Fields<'_>, folder: &Path, config: &Config) -> Result<Subject, SweepError> {
    let (path, contents) = file(fields, "program", folder)?;
    let name = path.display().to_string();
    let own = pollux::Program::from_bytes(&name, contents.clone(), None);
    // A text that names no configuration may be possible on those of the sweep alone.
    let program = own.or_else(|_| pollux::Program::from_bytes(&name, contents.clone(), Some(config)));
    let bytes = program.and_then(|program| program.to_bytes());
    let bytes = bytes.map_err(|error| fields.section.error("program", error.to_string()))?;
    Ok(Subject::Program { path, contents, digest: hex(&Sha256::digest(&bytes)) })
}

fn list(fields: &Fields<'_>, folder: &Path) -> Result<Subject, SweepError> {
    let (path, contents) = file(fields, "list", folder)?;
    let error = |error: &dyn std::fmt::Display| fields.section.error("list", format!("{}: {error}", path.display()));
    let text = String::from_utf8(contents).map_err(|utf8| error(&utf8))?;
    let list = OperationList::from_toml(&text).map_err(|list| error(&list))?;
    Ok(Subject::List { list: Box::new(list), digest: hex(&Sha256::digest(text.as_bytes())) })
}

fn file(fields: &Fields<'_>, key: &str, folder: &Path) -> Result<(PathBuf, Vec<u8>), SweepError> {
    let path = folder.join(fields.text(key)?.unwrap_or_default());
    let contents = fs::read(&path);
    let contents =
        contents.map_err(|error| fields.section.error(key, format!("cannot read `{}`: {error}", path.display())))?;
    Ok((path, contents))
}
