//! [`CommandLog`]: when each command was accepted, allocated, issued and completed, written while the run goes on.

use std::collections::VecDeque;
use std::io::{self, Write};

use pollux_sim::observer::{Cycle, Event, Observer, Origin, Unit};
use serde::{Serialize, Serializer};

use super::SCHEMA;
use crate::event_csv;

/// First line of a log in CSV.
const HEADER: &str = "number,seq,origin,queue,entry,funct,rs1,rs2,accepted,allocated,issued,completed";

/// A command. Commands of the host have a `number` and a cycle of acceptance; those that enter the reservation station have
/// a sequence number and the rest. A command that an unroller made has no number, and one that acts in front of the
/// station (configuration of a loop, LOOP_WS, FLUSH, COUNTER) has no more than its acceptance.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Record {
    number: Option<u64>,
    seq: Option<u64>,
    origin: &'static str,
    queue: Option<&'static str>,
    entry: Option<u8>,
    funct: u8,
    #[serde(serialize_with = "hexadecimal")]
    rs1: u64,
    #[serde(serialize_with = "hexadecimal")]
    rs2: u64,
    accepted: Option<Cycle>,
    allocated: Option<Cycle>,
    issued: Option<Cycle>,
    completed: Option<Cycle>,
}

/// A string such as `0x80000000`: many readers of JSON keep no more than 53 bits of a number.
fn hexadecimal<S: Serializer>(register: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{register:#x}"))
}

/// A line of JSON.
#[derive(Serialize)]
struct Line<'a> {
    schema: &'static str,
    #[serde(flatten)]
    record: &'a Record,
}

/// How a record is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Csv,
    JsonLines,
}

/// Writes a line for each command as soon as its last event is known; memory does not grow with the run.
///
/// Lines are in the order of completion. A command that does not enter the station is written when a later one of the host
/// enters it, or at the end.
#[derive(Debug)]
pub struct CommandLog<W: Write> {
    out: W,
    form: Form,
    /// The first error; nothing is written after it.
    error: Option<io::Error>,
    /// Accepted commands that have not been allocated, oldest first.
    accepted: VecDeque<Record>,
    /// Commands in the station, by queue and entry.
    station: [Vec<Record>; 3],
}

impl<W: Write> CommandLog<W> {
    /// A log in CSV with a header line. `rs1` and `rs2` are hexadecimal, all else is decimal.
    pub fn csv(out: W) -> Self {
        let mut log = Self::new(out, Form::Csv);
        log.error = writeln!(log.out, "{HEADER}").err();
        log
    }

    /// A log with a JSON object a line. `rs1` and `rs2` are strings, `0x` and hexadecimal digits.
    pub fn json_lines(out: W) -> Self {
        Self::new(out, Form::JsonLines)
    }

    fn new(out: W, form: Form) -> Self {
        Self { out, form, error: None, accepted: VecDeque::new(), station: Default::default() }
    }

    /// Ends the log with the commands that never completed.
    ///
    /// # Errors
    /// The first error of the writer.
    pub fn finish(mut self) -> io::Result<W> {
        let mut left: Vec<Record> = self.station.iter().flatten().filter(|r| r.allocated.is_some()).copied().collect();
        left.sort_by_key(|record| record.seq);
        for record in left.into_iter().chain(std::mem::take(&mut self.accepted)) {
            self.write(&record);
        }
        match self.error {
            Some(error) => Err(error),
            None => self.out.flush().map(|()| self.out),
        }
    }

    fn write(&mut self, record: &Record) {
        if self.error.is_some() {
            return;
        }
        let written = match self.form {
            Form::Csv => self.out.write_all(csv_line(record).as_bytes()),
            Form::JsonLines => serde_json::to_writer(&mut self.out, &Line { schema: SCHEMA, record })
                .map_err(io::Error::from)
                .and_then(|()| self.out.write_all(b"\n")),
        };
        self.error = written.err();
    }

    /// The host's command that is allocated: those accepted before it that are not it never will be.
    fn allocated(&mut self, funct: u8, rs1: u64, rs2: u64) -> Record {
        while let Some(record) = self.accepted.pop_front() {
            if (record.funct, record.rs1, record.rs2) == (funct, rs1, rs2) {
                return record;
            }
            self.write(&record);
        }
        Record { funct, rs1, rs2, origin: event_csv::origin(Origin::Host), ..Record::default() }
    }

    fn entry(&mut self, unit: Unit, entry: u8) -> &mut Record {
        let entries = &mut self.station[unit as usize];
        if entries.len() <= usize::from(entry) {
            entries.resize(usize::from(entry) + 1, Record::default());
        }
        &mut entries[usize::from(entry)]
    }
}

fn csv_line(record: &Record) -> String {
    fn column<T: ToString>(value: Option<T>) -> String {
        value.map_or_else(String::new, |value| value.to_string())
    }
    let Record { number, seq, origin, queue, entry, funct, rs1, rs2, accepted, allocated, issued, completed } = *record;
    let (number, seq, queue, entry) = (column(number), column(seq), column(queue), column(entry));
    let times = [accepted, allocated, issued, completed].map(column).join(",");
    format!("{number},{seq},{origin},{queue},{entry},{funct},{rs1:x},{rs2:x},{times}\n")
}

impl<W: Write> Observer for CommandLog<W> {
    fn event(&mut self, cycle: Cycle, event: &Event) {
        match *event {
            Event::Accept { number, funct, rs1, rs2 } => self.accepted.push_back(Record {
                number: Some(number),
                origin: event_csv::origin(Origin::Host),
                funct,
                rs1,
                rs2,
                accepted: Some(cycle),
                ..Record::default()
            }),
            Event::Alloc { seq, unit, entry, funct, rs1, rs2, origin } => {
                let record = match origin {
                    Origin::Host => self.allocated(funct, rs1, rs2),
                    _ => Record { funct, rs1, rs2, origin: event_csv::origin(origin), ..Record::default() },
                };
                let queue = Some(event_csv::unit(unit));
                let allocated = Some(cycle);
                *self.entry(unit, entry) = Record { seq: Some(seq), queue, entry: Some(entry), allocated, ..record };
            }
            Event::Issue { unit, entry, .. } => self.entry(unit, entry).issued = Some(cycle),
            Event::Complete { unit, entry, .. } => {
                let record = std::mem::take(self.entry(unit, entry));
                self.write(&Record { completed: Some(cycle), ..record });
            }
            _ => {}
        }
    }
}
