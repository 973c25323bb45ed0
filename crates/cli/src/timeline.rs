//! The files of a run for the viewers of other people: their options, and writing them.

use std::ops::Range;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use pollux_asm::{Disassembler, Program};
use pollux_isa::StreamItem;
use pollux_sim::observer::{Activity, Cycle, Event, Links, Observer, Span};
use pollux_sim::simulation::{Moment, RunSummary};
use pollux_trace::timeline::files::{Files, Subject, Viewer, window};
use pollux_trace::timeline::perfetto::Level;
use pollux_trace::timeline::{DEFAULT_BUDGET, Describe};

use crate::failure::Failure;
use crate::files::{OutputFile, OutputPath, scratch};
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
    /// And the host's commands.
    Host,
    /// And commands in the station.
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
        window(self.from.as_deref(), self.to.as_deref(), &marks(program))
            .map_err(|reason| Failure::Usage(format!("--{reason}")))
    }
}

/// The files that are being written.
pub struct Timelines<'p> {
    files: Files<'p, OutputFile>,
    paths: Vec<PathBuf>,
}

impl<'p> Timelines<'p> {
    /// Begins the files.
    ///
    /// # Errors
    /// A file that cannot be written, or a budget in which its header has no room.
    pub fn create(arguments: &TimelineArguments, program: &'p Program, out: &Output) -> Result<Option<Self>, Failure> {
        let wanted = [
            (Viewer::Perfetto, &arguments.perfetto),
            (Viewer::Kanata, &arguments.kanata),
            (Viewer::Fst, &arguments.fst),
            (Viewer::Vcd, &arguments.vcd),
        ];
        let wanted: Vec<(Viewer, OutputPath)> =
            wanted.into_iter().filter_map(|(viewer, path)| Some((viewer, path.clone()?))).collect();
        let Some((_, beside)) = wanted.first().cloned() else { return Ok(None) };
        let describe = || -> Describe<'p> {
            let disassembler = Disassembler::new(program);
            Box::new(move |command| disassembler.command(command))
        };
        let subject = Subject {
            config: &program.config,
            marks: marks(program),
            describe: Box::new(describe),
            budget: arguments.budget.map_or(DEFAULT_BUDGET, |mib| u64::from(mib) << 20),
        };
        let mut files = Files::with_scratch(subject, Box::new(move || Ok(Box::new(scratch(&beside)?))));
        let level = arguments.perfetto_level.map(|level| match level {
            LevelName::Ops => Level::Operations,
            LevelName::Host => Level::Host,
            LevelName::Commands => Level::Commands,
            LevelName::All => Level::All,
        });
        for (viewer, path) in &wanted {
            files.begin(*viewer, level, out.create(path)?).map_err(Failure::writing(path))?;
        }
        let paths = wanted.into_iter().map(|(_, path)| path.to_path_buf()).collect();
        Ok(Some(Self { files, paths }))
    }

    /// Ends the files. A line for each that does not show everything.
    ///
    /// # Errors
    /// A file that cannot be written, or a window that the run never came to.
    pub fn finish(self, summary: &RunSummary) -> Result<Vec<String>, Failure> {
        if !self.files.begun() {
            return Err(Failure::Usage(format!(
                "--from is behind the end of the run, which takes {} cycles: nothing was written",
                summary.cycles
            )));
        }
        let mut notes = Vec::new();
        // The files end in the order in which they began.
        for (finished, path) in self.files.finish().into_iter().zip(&self.paths) {
            let (file, note) = finished.result.map_err(Failure::writing(path))?;
            file.finish()?;
            notes.extend(note.map(|note| format!("note: {}: {note}", path.display())));
        }
        Ok(notes)
    }
}

fn marks(program: &Program) -> Vec<String> {
    let name = |item: &StreamItem| if let StreamItem::Mark(name) = item { Some(name.clone()) } else { None };
    program.items.iter().filter_map(name).collect()
}

impl Observer for Timelines<'_> {
    const ACTIVITY: bool = true;
    const LINKS: bool = true;

    fn event(&mut self, _: Cycle, _: &Event) {}

    fn linked(&mut self, cycle: Cycle, event: &Event, links: &Links) {
        self.files.linked(cycle, event, links);
    }

    fn cycles(&mut self, span: Span, activity: &Activity) {
        self.files.cycles(span, activity);
    }
}
