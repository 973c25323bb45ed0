//! The files of a run for the viewers of other people: their options, and writing them.

use std::ops::Range;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use pollux_asm::{Disassembler, Program};
use pollux_isa::StreamItem;
use pollux_sim::observer::{Activity, Cycle, Event, Links, Observer, Span};
use pollux_sim::simulation::{Moment, RunSummary};
use pollux_trace::timeline::kanata::Kanata;
use pollux_trace::timeline::perfetto::{Level, Perfetto};
use pollux_trace::timeline::waves::{self, Fst, Vcd, Waves};
use pollux_trace::timeline::{DEFAULT_BUDGET, Describe, LeftOut};

use crate::failure::Failure;
use crate::files::{OutputFile, OutputPath};
use crate::output::Output;

/// Files of a run for other people's viewers.
#[derive(Args, Clone, Debug, Default)]
pub struct TimelineArguments {
    /// Write a timeline for ui.perfetto.dev: operations, commands, blocks, counters.
    #[arg(long, value_name = "OUT.pftrace", requires = "cycles")]
    pub perfetto: Option<OutputPath>,
    /// What the timeline shows; by default as much as fits.
    #[arg(long, value_name = "LEVEL", requires = "perfetto")]
    perfetto_level: Option<LevelName>,
    /// Write the commands with their stages for Konata.
    #[arg(long, value_name = "OUT.kanata", requires = "cycles")]
    pub kanata: Option<OutputPath>,
    /// Write waves for GTKWave and Surfer, compressed.
    #[arg(long, value_name = "OUT.fst", requires = "cycles")]
    pub fst: Option<OutputPath>,
    /// Write waves as text.
    #[arg(long, value_name = "OUT.vcd", requires = "cycles")]
    pub vcd: Option<OutputPath>,
    /// Begin these files at a cycle, or as the host comes to an operation (its name).
    #[arg(long, value_name = "CYCLE|MARK", requires = "cycles", conflicts_with_all = OTHERS)]
    from: Option<String>,
    /// End them before a cycle, or before the host comes to an operation.
    #[arg(long, value_name = "CYCLE|MARK", requires = "cycles", conflicts_with_all = OTHERS)]
    to: Option<String>,
    /// Bytes of each of these files at most, in MiB: what does not fit is left out, which the file and a note say.
    #[arg(long, value_name = "MIB", requires = "cycles", value_parser = clap::value_parser!(u32).range(1..))]
    budget: Option<u32>,
}

/// What looks at the whole run, and cannot have a window.
const OTHERS: [&str; 4] = ["report", "energy", "trace", "commands"];

/// What a Perfetto file shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LevelName {
    /// Operations and counters.
    Ops,
    /// And commands.
    Commands,
    /// And blocks.
    All,
}

impl TimelineArguments {
    /// The options that name a file, and whether they are given.
    fn files(&self) -> [(&'static str, bool); 4] {
        [
            ("--perfetto", self.perfetto.is_some()),
            ("--kanata", self.kanata.is_some()),
            ("--fst", self.fst.is_some()),
            ("--vcd", self.vcd.is_some()),
        ]
    }

    /// The first option that names a file, if any is given.
    pub fn given(&self) -> Option<&'static str> {
        self.files().into_iter().find_map(|(flag, given)| given.then_some(flag))
    }

    /// The part of the run that is written.
    ///
    /// # Errors
    /// Options without a file, and a window that is none.
    pub fn window(&self, program: &Program) -> Result<Option<Range<Moment>>, Failure> {
        let useless =
            [("--from", self.from.is_some()), ("--to", self.to.is_some()), ("--budget", self.budget.is_some())];
        if let (None, Some((flag, _))) = (self.given(), useless.into_iter().find(|(_, given)| *given)) {
            return Err(Failure::Usage(format!(
                "{flag} has no effect without a file: give --perfetto, --kanata, --fst or --vcd"
            )));
        }
        if self.from.is_none() && self.to.is_none() {
            return Ok(None);
        }
        let start = self.from.as_ref().map_or(Ok(Moment::Cycle(0)), |text| moment("--from", text, program))?;
        let end = self.to.as_ref().map_or(Ok(Moment::Cycle(Cycle::MAX)), |text| moment("--to", text, program))?;
        let empty = match (start, end) {
            (Moment::Cycle(start), Moment::Cycle(end)) => start >= end,
            (Moment::Mark(start), Moment::Mark(end)) => start >= end,
            _ => false,
        };
        if empty {
            return Err(Failure::Usage("--to is not behind --from: nothing would be written".to_owned()));
        }
        Ok(Some(start..end))
    }
}

/// A cycle, or an operation by its name.
fn moment(flag: &str, text: &str, program: &Program) -> Result<Moment, Failure> {
    let marks =
        || program.items.iter().filter_map(|item| if let StreamItem::Mark(name) = item { Some(name) } else { None });
    if let Some(mark) = marks().position(|name| name == text) {
        return Ok(Moment::Mark(mark));
    }
    if let Ok(cycle) = text.parse() {
        return Ok(Moment::Cycle(cycle));
    }
    let names: Vec<&str> = marks().take(8).map(String::as_str).collect();
    let names = if names.is_empty() {
        "the program has no operations".to_owned()
    } else {
        format!("there are {}", names.join(", "))
    };
    Err(Failure::Usage(format!("{flag} {text}: neither a cycle nor the name of an operation ({names})")))
}

/// The files that are being written.
pub struct Timelines<'p> {
    /// One for each level that is tried, the finest last.
    perfetto: Vec<(Perfetto<'p, Vec<u8>>, Level)>,
    perfetto_file: Option<(PathBuf, OutputFile)>,
    kanata: Option<(PathBuf, Kanata<'p, OutputFile>)>,
    fst: Option<(PathBuf, Waves<Fst<OutputFile>>)>,
    vcd: Option<(PathBuf, Waves<Vcd<OutputFile>>)>,
    /// Something was seen.
    begun: bool,
}

impl<'p> Timelines<'p> {
    /// Begins the files.
    ///
    /// # Errors
    /// A file that cannot be written, or a budget in which its header has no room.
    pub fn create(arguments: &TimelineArguments, program: &'p Program, out: &Output) -> Result<Option<Self>, Failure> {
        if arguments.given().is_none() {
            return Ok(None);
        }
        let budget = arguments.budget.map_or(DEFAULT_BUDGET, |mib| u64::from(mib) << 20);
        let config = &program.config;
        let open = |path: &Option<OutputPath>| {
            path.as_ref().map(|path| Ok::<_, Failure>((path.to_path_buf(), out.create(path)?))).transpose()
        };
        let describe = || -> Describe<'p> {
            let disassembler = Disassembler::new(program);
            Box::new(move |command| disassembler.command(command))
        };
        let levels: &[Level] = match arguments.perfetto_level {
            _ if arguments.perfetto.is_none() => &[],
            None => &[Level::Operations, Level::Commands, Level::All],
            Some(LevelName::Ops) => &[Level::Operations],
            Some(LevelName::Commands) => &[Level::Commands],
            Some(LevelName::All) => &[Level::All],
        };
        let marks: Vec<String> = program
            .items
            .iter()
            .filter_map(|item| if let StreamItem::Mark(name) = item { Some(name.clone()) } else { None })
            .collect();
        let perfetto =
            levels.iter().map(|&level| (Perfetto::new(Vec::new(), level, describe(), marks.clone(), budget), level));
        let fst = open(&arguments.fst)?.map(|(path, file)| {
            let waves = waves::fst(file, config, 0, budget).map_err(Failure::writing(&path))?;
            Ok::<_, Failure>((path, waves))
        });
        Ok(Some(Self {
            perfetto: perfetto.collect(),
            perfetto_file: open(&arguments.perfetto)?,
            kanata: open(&arguments.kanata)?.map(|(path, file)| (path, Kanata::new(file, describe(), budget))),
            fst: fst.transpose()?,
            vcd: open(&arguments.vcd)?.map(|(path, file)| (path, waves::vcd(file, config, budget))),
            begun: false,
        }))
    }

    /// Ends the files. A line for each that does not show everything.
    ///
    /// # Errors
    /// A file that cannot be written, or a window that the run never came to.
    pub fn finish(mut self, summary: &RunSummary) -> Result<Vec<String>, Failure> {
        if !self.begun {
            return Err(Failure::Usage(format!(
                "--from is behind the end of the run, which takes {} cycles: nothing was written",
                summary.cycles
            )));
        }
        let mut notes = Vec::new();
        let mut note = |path: &Path, left_out: Option<LeftOut>| {
            notes.extend(left_out.map(|left_out| format!("note: {}: {left_out}", path.display())));
        };
        if let Some((path, mut file)) = self.perfetto_file.take() {
            let (bytes, level, left_out) = finest(self.perfetto).map_err(Failure::writing(&path))?;
            std::io::Write::write_all(&mut file, &bytes).map_err(Failure::writing(&path))?;
            file.finish()?;
            note(&path, left_out);
            if level != Level::All && left_out.is_none() {
                let shown =
                    if level == Level::Commands { "commands, not blocks" } else { "operations and counters only" };
                notes.push(format!(
                    "note: {}: {shown}, as all would not fit; a window (--from, --to) shows all",
                    path.display()
                ));
            }
        }
        if let Some((path, kanata)) = self.kanata {
            let (file, left_out) = kanata.finish().map_err(Failure::writing(&path))?;
            file.finish()?;
            notes.extend(left_out.map(|left_out| format!("note: {}: {left_out}", path.display())));
        }
        if let Some((path, waves)) = self.fst {
            let (file, left_out) = waves.finish().map_err(Failure::writing(&path))?;
            file.finish()?;
            notes.extend(left_out.map(|left_out| format!("note: {}: {left_out}", path.display())));
        }
        if let Some((path, waves)) = self.vcd {
            let (file, left_out) = waves.finish().map_err(Failure::writing(&path))?;
            file.finish()?;
            notes.extend(left_out.map(|left_out| format!("note: {}: {left_out}", path.display())));
        }
        Ok(notes)
    }
}

/// The finest level that shows everything, or the coarsest.
fn finest(levels: Vec<(Perfetto<'_, Vec<u8>>, Level)>) -> std::io::Result<(Vec<u8>, Level, Option<LeftOut>)> {
    let mut best = None;
    for (perfetto, level) in levels {
        let (bytes, left_out) = perfetto.finish()?;
        if best.is_none() || left_out.is_none() {
            best = Some((bytes, level, left_out));
        }
    }
    Ok(best.unwrap_or((Vec::new(), Level::Operations, None)))
}

impl Observer for Timelines<'_> {
    const ACTIVITY: bool = true;
    const LINKS: bool = true;

    fn event(&mut self, _: Cycle, _: &Event) {}

    fn linked(&mut self, cycle: Cycle, event: &Event, links: &Links) {
        self.perfetto.iter_mut().for_each(|(perfetto, _)| perfetto.linked(cycle, event, links));
        if let Some((_, kanata)) = &mut self.kanata {
            kanata.linked(cycle, event, links);
        }
    }

    fn cycles(&mut self, span: Span, activity: &Activity) {
        self.begun = true;
        // A level that has become too large is given up, unless it is the only one.
        if self.perfetto.len() > 1 && self.perfetto.last().is_some_and(|(perfetto, _)| perfetto.left_out().is_some()) {
            self.perfetto.pop();
        }
        self.perfetto.iter_mut().for_each(|(perfetto, _)| perfetto.cycles(span, activity));
        if let Some((_, kanata)) = &mut self.kanata {
            kanata.cycles(span, activity);
        }
        if let Some((_, waves)) = &mut self.fst {
            waves.cycles(span, activity);
        }
        if let Some((_, waves)) = &mut self.vcd {
            waves.cycles(span, activity);
        }
    }
}
