//! [`Emulator`]: requests and their answers.

use std::path::PathBuf;

use pollux::{Action, Mismatch, Program};
use pollux_isa::GemminiConfig;
use pollux_labs::{Seed, Work};
use pollux_session::script::Line;
use pollux_session::{Options, Session};
use serde::Deserialize;
use serde_json::{Value, json};
use wasm_bindgen::prelude::wasm_bindgen;

use crate::files::PageFiles;
use crate::program::{Fault, SetupText, assemble, configuration};

/// Bytes that snapshots may take: a tab has room for many pages.
const SNAPSHOT_BYTES: usize = 64 << 20;
/// Bytes of assembly text that an editor takes without trouble.
const MOST_TEXT: usize = 1 << 20;
/// Items of a program that are sent as text: of a longer one the first.
const MOST_ITEMS: usize = 20_000;

/// What can be asked for.
#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Which Pollux this is, its configurations, and the labs.
    About,
    /// Assembles a text, and throws the program away.
    Assemble {
        /// Name of the text.
        name: String,
        /// The text.
        text: String,
        /// Configuration of a text that names none: a name, or the contents of a file.
        #[serde(default)]
        config: String,
    },
    /// Begins a session at cycle 0.
    Load {
        /// Name of the text, or of a file that the page has brought along.
        name: String,
        /// The text; without one the file's contents.
        text: Option<String>,
        /// As above.
        #[serde(default)]
        config: String,
        /// How it runs.
        #[serde(default)]
        setup: SetupText,
    },
    /// Goes forward by so many cycles at most.
    Advance {
        /// Cycles.
        cycles: u64,
    },
    /// Does what a line of `pollux debug --script` says.
    Line {
        /// The line.
        text: String,
    },
    /// All that there is to see in the present cycle.
    Frame {
        /// Cycles before the present one that heat is counted in; 0 for none.
        #[serde(default)]
        heat: u64,
    },
    /// Some cycles at a glance.
    Overview {
        /// The first.
        from: u64,
        /// The one after the last.
        to: u64,
        /// Pieces at most.
        buckets: usize,
        /// Commands at most.
        commands: usize,
    },
    /// A lab's task, and what one begins with.
    Lab {
        /// Its number.
        number: u32,
        /// What a program is made from that is another one for everybody.
        #[serde(default)]
        seed: u64,
    },
    /// Grades a lab's solution.
    Check {
        /// Its number.
        number: u32,
        /// The solution.
        text: String,
        /// What the cases are made from.
        seeds: Vec<u64>,
    },
}

/// What a page is about. See the crate.
#[wasm_bindgen]
#[derive(Debug, Default)]
pub struct Emulator {
    files: PageFiles,
    session: Option<Session>,
}

#[wasm_bindgen]
impl Emulator {
    /// Without a program.
    #[wasm_bindgen(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    /// Brings a file along, under the path by which programs ask for it.
    pub fn file(&mut self, path: &str, contents: Vec<u8>) {
        self.files.0.insert(PathBuf::from(path), contents);
    }

    /// Answers a request: an object with what was asked for, or with `error`.
    pub fn request(&mut self, request: &str) -> String {
        let answer = match serde_json::from_str(request) {
            Ok(request) => self.answer(request),
            Err(error) => Err(Fault::of(format!("this is no request: {error}"))),
        };
        answer.unwrap_or_else(|fault| json!({ "error": fault })).to_string()
    }
}

impl Emulator {
    fn answer(&mut self, request: Request) -> Result<Value, Fault> {
        match request {
            Request::About => Ok(about()),
            Request::Assemble { name, text, config } => self.assemble(&name, text, &config),
            Request::Load { name, text, config, setup } => self.load(&name, text, &config, &setup),
            Request::Advance { cycles } => {
                let session = self.session()?;
                session.step(cycles).map_err(Fault::of)?;
                Ok(place(session))
            }
            Request::Line { text } => {
                let session = self.session()?;
                let line = Line::parse(&text).map_err(Fault::of)?;
                let line = line.ok_or_else(|| Fault::of("the line is empty: write a command, such as `step 10`"))?;
                session.execute(&line).map_err(Fault::of)
            }
            Request::Frame { heat } => frame(self.session()?, heat),
            Request::Overview { from, to, buckets, commands } => {
                let overview = self.session()?.overview(from..to, buckets, commands).map_err(Fault::of)?;
                serde_json::to_value(overview).map_err(Fault::of)
            }
            Request::Lab { number, seed } => lab(number, seed),
            Request::Check { number, text, seeds } => {
                let lab = pollux_labs::lab(number).ok_or_else(|| no_lab(number))?;
                let seed = Seed::New(seeds.first().copied().unwrap_or_default());
                let grade = pollux_labs::check(&lab, "solution", text.as_bytes(), seed, seeds.len());
                serde_json::to_value(grade).map_err(Fault::of)
            }
        }
    }

    fn session(&mut self) -> Result<&mut Session, Fault> {
        self.session.as_mut().ok_or_else(|| Fault::of("no program is loaded: load one first"))
    }

    fn assemble(&self, name: &str, text: String, config: &str) -> Result<Value, Fault> {
        let program = assemble(name, text.into_bytes(), configuration(config)?.as_ref(), &self.files)?;
        Ok(json!({ "commands": program.commands().count(), "warnings": checked(&program)? }))
    }

    fn load(&mut self, name: &str, text: Option<String>, config: &str, setup: &SetupText) -> Result<Value, Fault> {
        let contents =
            match text {
                Some(text) => text.into_bytes(),
                None => self.files.0.get(&PathBuf::from(name)).cloned().ok_or_else(|| {
                    Fault::of(format!("the page has no file `{name}`: make it again by `pollux page`"))
                })?,
            };
        let is_binary = Program::is_binary(&contents);
        let program = assemble(name, contents, configuration(config)?.as_ref(), &self.files)?;
        let warnings = checked(&program)?;
        // An editor shows a binary as the text that assembles to it.
        let text = is_binary.then(|| program.to_text()).filter(|text| text.len() <= MOST_TEXT);
        let options = Options { setup: setup.setup()?, snapshot_bytes: SNAPSHOT_BYTES };
        let description = describe(&program);
        self.session = Some(Session::new(program.into_inner(), options).map_err(Fault::of)?);
        Ok(json!({ "program": description, "warnings": warnings, "binary": is_binary, "text": text }))
    }
}

/// What the hardware defines only in part.
fn checked(program: &Program) -> Result<Vec<String>, Fault> {
    pollux::check(program, Action::Error).map_err(Fault::of)
}

fn about() -> Value {
    let labs = pollux_labs::all();
    let labs = labs.iter().map(|lab| json!({ "number": lab.number, "title": lab.title, "goal": lab.goal }));
    json!({ "version": env!("CARGO_PKG_VERSION"), "configurations": GemminiConfig::NAMES, "labs": labs.collect::<Vec<_>>() })
}

fn describe(program: &Program) -> Value {
    let config = &program.config;
    let buffers = program.buffers.iter().map(|buffer| {
        json!({
            "name": buffer.name, "address": format!("{:#x}", buffer.address), "element": buffer.element.name(),
            "shape": buffer.shape, "bytes": buffer.len(),
        })
    });
    let regions = program.regions.iter().map(|region| {
        json!({ "name": region.name, "accumulator": region.accumulator, "row": region.row, "rows": region.rows })
    });
    let disassembler = pollux_asm::Disassembler::new(program);
    json!({
        "config": config.name, "dim": config.dim(), "sp_rows": config.sp_rows(), "acc_rows": config.acc_rows(),
        "commands": program.commands().count(), "buffers": buffers.collect::<Vec<_>>(), "regions": regions.collect::<Vec<_>>(),
        "items": program.items.iter().take(MOST_ITEMS).map(|item| disassembler.item(item)).collect::<Vec<_>>(),
    })
}

/// Where a session is.
fn place(session: &Session) -> Value {
    let error = session.end_error().filter(|_| session.ended()).map(ToString::to_string);
    let differs = if session.ended() { differing(session) } else { Vec::new() };
    let summary = session.summary();
    json!({
        "cycle": session.cycle(), "ended": session.ended(), "end": session.end(), "error": error, "differs": differs,
        "totals": {
            "cycles": summary.cycles, "busy_falls": summary.busy_falls, "busy_cycles": summary.busy_cycles,
            "commands": summary.commands, "traffic": summary.traffic,
        },
    })
}

/// What is not as the program expects, a line for each buffer.
fn differing(session: &Session) -> Vec<String> {
    let program = session.program();
    let compared = pollux::compare(program, session.memory()).into_iter();
    compared.filter_map(|of| Some(line(program, &of.buffer, of.mismatches, &of.first?))).collect()
}

fn line(program: &pollux_asm::Program, buffer: &str, mismatches: u64, first: &Mismatch) -> String {
    let Mismatch { index, expected, actual } = first;
    let place = program.buffers.iter().find(|of| of.name == buffer).map_or(0, |of| {
        let position = index.iter().zip(&of.shape).fold(0, |position, (index, extent)| position * extent + index);
        of.address + position * of.element.size()
    });
    let more = if mismatches > 1 { format!(", the first of {mismatches} that differ") } else { String::new() };
    let index: Vec<String> = index.iter().map(u64::to_string).collect();
    format!("{buffer}[{}] at {place:#x} is {actual}, expected {expected}{more}", index.join(", "))
}

fn frame(session: &mut Session, heat: u64) -> Result<Value, Fault> {
    let view = session.view().map_err(Fault::of)?;
    let array = session.array().map_err(Fault::of)?;
    let heat = if heat == 0 { None } else { Some(session.heat(heat).map_err(Fault::of)?) };
    Ok(json!({ "place": place(session), "view": view, "array": array, "heat": heat }))
}

fn no_lab(number: u32) -> Fault {
    let numbers: Vec<String> = pollux_labs::all().iter().map(|lab| lab.number.to_string()).collect();
    Fault::of(format!("there is no lab {number}: there are {}", numbers.join(", ")))
}

fn lab(number: u32, seed: u64) -> Result<Value, Fault> {
    let lab = pollux_labs::lab(number).ok_or_else(|| no_lab(number))?;
    // A design is no program: what is loaded stays.
    let (memory, program) = match &lab.work {
        Work::Program(work) => (work.limits.memories.first().map(|(memory, _)| memory), Some(lab.starter(0))),
        Work::Fault(_) => (None, Some(lab.starter(seed))),
        Work::Design(_) => (None, None),
    };
    Ok(json!({
        "number": lab.number, "title": lab.title, "goal": lab.goal, "task": lab.task, "rules": lab.rules(),
        "config": lab.config(), "starter": program, "answer": lab.answer(seed), "memory": memory,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TILE: &str = include_str!("../../../programs/matmul_ws_tile.pasm");

    fn ask(emulator: &mut Emulator, request: Value) -> Value {
        serde_json::from_str(&emulator.request(&request.to_string())).expect("JSON")
    }

    #[test]
    fn a_program_is_loaded_stepped_and_looked_into() {
        let mut emulator = Emulator::new();
        let loaded = ask(&mut emulator, json!({ "do": "load", "name": "tile.pasm", "text": TILE }));
        assert_eq!((&loaded["program"]["dim"], &loaded["program"]["config"]), (&json!(4), &json!("small4")));
        let end = ask(&mut emulator, json!({ "do": "advance", "cycles": 1_000_000 }));
        assert_eq!(end["ended"], true);
        ask(&mut emulator, json!({ "do": "line", "text": "back 60" }));
        let frame = ask(&mut emulator, json!({ "do": "frame", "heat": 32 }));
        assert_eq!(frame["place"]["cycle"], json!(end["cycle"].as_u64().expect("a cycle") - 60));
        assert_eq!(frame["array"]["c1"].as_array().map(Vec::len), Some(4));
        assert_eq!(frame["heat"]["rows"].as_array().map(Vec::len), Some(4));
        let overview = json!({ "do": "overview", "from": 0, "to": end["cycle"], "buckets": 10, "commands": 100 });
        assert_eq!(ask(&mut emulator, overview)["blocks"][0]["buckets"].as_array().map(Vec::len), Some(10));
    }

    #[test]
    fn faults_have_places_and_remedies() {
        let mut emulator = Emulator::new();
        let text = "config small4\n  mvni\ninclude \"x.pasm\"\n";
        let answer = ask(&mut emulator, json!({ "do": "assemble", "name": "t.pasm", "text": text }));
        let first = &answer["error"]["diagnostics"][0];
        assert_eq!((&first["line"], &first["column"], &first["length"]), (&json!(2), &json!(3), &json!(4)));
        assert!(first["help"].as_str().is_some_and(|help| help.contains("mvin")), "{first}");
        let second = answer["error"]["diagnostics"][1]["message"].as_str().expect("a message");
        assert!(second.contains("a page reads no files but those that it was made with: none"), "{second}");
        emulator.file("x.pasm", b"fence\n".to_vec());
        let text = "config small4\ninclude \"x.pasm\"\n";
        assert_eq!(ask(&mut emulator, json!({ "do": "assemble", "name": "t.pasm", "text": text }))["commands"], 0);
        let message = |answer: Value| answer["error"]["message"].as_str().unwrap_or_default().to_owned();
        assert!(message(ask(&mut emulator, json!({ "do": "frame" }))).contains("load one first"));
        assert!(message(ask(&mut emulator, json!({ "do": "fly" }))).starts_with("this is no request"));
        let load = json!({ "do": "load", "name": "t", "text": TILE, "config": "default16" });
        assert!(message(ask(&mut emulator, load)).contains("small4"));
    }

    #[test]
    fn labs_are_graded() {
        let mut emulator = Emulator::new();
        let lab = ask(&mut emulator, json!({ "do": "lab", "number": 1 }));
        assert!(lab["task"].as_str().is_some_and(|task| !task.is_empty()));
        let grade = json!({ "do": "check", "number": 1, "text": lab["starter"], "seeds": [1, 2] });
        assert_ne!(ask(&mut emulator, grade)["verdict"], "accepted");
        for number in [1, 3, 10] {
            let reference = pollux_labs::lab(number).expect("a lab").reference;
            let grade = json!({ "do": "check", "number": number, "text": reference, "seeds": [1, 2] });
            assert_eq!(ask(&mut emulator, grade)["verdict"], "accepted", "lab {number}");
        }
        let design = ask(&mut emulator, json!({ "do": "lab", "number": 10 }));
        assert!(design["starter"].is_null() && design["answer"].as_str().is_some_and(|text| text.contains("[config]")));
        assert_eq!(ask(&mut emulator, json!({ "do": "about" }))["labs"].as_array().map(Vec::len), Some(10));
    }

    #[test]
    fn the_wrong_element_of_lab_3_is_named_at_the_end() {
        let mut emulator = Emulator::new();
        let lab = ask(&mut emulator, json!({ "do": "lab", "number": 3, "seed": 7 }));
        assert!(lab["answer"].as_str().is_some_and(|answer| answer.starts_with("seed = 7\n")));
        ask(&mut emulator, json!({ "do": "load", "name": "lab3.pasm", "text": lab["starter"] }));
        let end = ask(&mut emulator, json!({ "do": "advance", "cycles": 100_000 }));
        let differs = end["differs"][0].as_str().expect("a line");
        // The reference says so, too.
        assert!(differs.starts_with("C[") && differs.contains(" at 0x8000022c is "), "{differs}");
    }
}
