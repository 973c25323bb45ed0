//! The host interface of bare-metal programs (HTIF, as in riscv-isa-sim's `fesvr`): two words in memory, `tohost` and
//! `fromhost`.
//!
//! A program writes `tohost`: device in bits 63 to 56, command in bits 55 to 48, payload below. Device 0 takes `1 | code << 1`
//! as the end of the program, and any other payload as the address of a system call: eight 64-bit words, the number and its
//! arguments; word 0 becomes the result. Device 1 is a console: command 1 writes the payload's low byte. The host clears
//! `tohost`, and answers in `fromhost` once the program has cleared that.

use std::collections::VecDeque;

use pollux_memory::Memory;
use thiserror::Error;

use crate::elf::HostWords;

/// System calls, by the numbers of Linux and of riscv-isa-sim.
const SYS_WRITE: u64 = 64;
const SYS_EXIT: u64 = 93;
const SYS_EXIT_GROUP: u64 = 94;
const SYS_GETMAINVARS: u64 = 2011;

/// Longest text of one call.
const MAX_WRITE: u64 = 1 << 24;

/// What a program asks for and no bare-metal program needs.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HostError {
    /// A system call of an operating system.
    #[error(
        "system call {0} is not supported: bare-metal programs write (64) and exit (93); programs for a proxy kernel must be linked for bare metal"
    )]
    SystemCall(u64),
    /// A write of too many bytes.
    #[error("a write of {0} bytes: at most {MAX_WRITE} are taken in one call")]
    WriteTooLong(u64),
    /// A write to something else than a console.
    #[error("a write to file {0}: only standard output (1) and standard error (2) exist")]
    File(u64),
    /// A device that does not exist.
    #[error("tohost = {0:#x} is for device {device}, command {command}: devices are 0 (exit, system calls) and 1 (console)", device = .0 >> 56, command = .0 >> 48 & 0xff)]
    Device(u64),
}

/// The host's side.
#[derive(Debug, Clone, Default)]
pub struct Htif {
    words: Option<HostWords>,
    /// Arguments of the program, its name first.
    pub arguments: Vec<String>,
    /// Answers that wait for `fromhost` to be cleared.
    answers: VecDeque<u64>,
    /// What the program has written that nobody has taken yet.
    console: Vec<u8>,
    exit_code: Option<u64>,
}

impl Htif {
    /// The host of a program with these words.
    pub fn new(words: Option<HostWords>) -> Self {
        Self { words, ..Self::default() }
    }

    /// Whether a store touches the two words, so that [`Htif::serve`] has something to do.
    #[inline]
    pub fn concerns(&self, address: u64, bytes: u64) -> bool {
        let touches = |word: u64| address < word.wrapping_add(8) && word < address.wrapping_add(bytes);
        self.words.is_some_and(|words| touches(words.tohost) || touches(words.fromhost))
    }

    /// What the program has written, for the first time; the caller shows it.
    pub fn take_console(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.console)
    }

    /// The program's exit code, once it has ended.
    pub fn exit_code(&self) -> Option<u64> {
        self.exit_code
    }

    /// Does what the program asks for.
    ///
    /// # Errors
    /// Requests that a bare-metal environment does not have.
    pub fn serve(&mut self, memory: &mut Memory) -> Result<(), HostError> {
        let Some(HostWords { tohost, fromhost }) = self.words else { return Ok(()) };
        let request = u64::from_le_bytes(memory.read_array(tohost));
        if request != 0 {
            memory.write(tohost, &[0; 8]);
            self.request(request, memory)?;
        }
        if memory.read_array::<8>(fromhost) == [0; 8]
            && let Some(answer) = self.answers.pop_front()
        {
            memory.write(fromhost, &answer.to_le_bytes());
        }
        Ok(())
    }

    fn request(&mut self, request: u64, memory: &mut Memory) -> Result<(), HostError> {
        let (device, command, payload) = (request >> 56, request >> 48 & 0xff, request & ((1 << 48) - 1));
        match (device, command) {
            (0, 0) if payload & 1 != 0 => self.exit_code = Some(payload >> 1),
            (0, 0) => {
                self.system_call(payload, memory)?;
                self.answers.push_back(1);
            }
            (1, 1) => {
                self.console.push(payload as u8);
                self.answers.push_back(1 << 56 | 1 << 48 | 1 << 8 | payload & 0xff);
            }
            // Nobody types: the read stays open.
            (1, 0) => {}
            _ => return Err(HostError::Device(request)),
        }
        Ok(())
    }

    fn system_call(&mut self, block: u64, memory: &mut Memory) -> Result<(), HostError> {
        let bytes: [u8; 64] = memory.read_array(block);
        let word = |index: usize| u64::from_le_bytes(std::array::from_fn(|byte| bytes[8 * index + byte]));
        let (number, a0, a1, a2) = (word(0), word(1), word(2), word(3));
        let result = match number {
            SYS_WRITE if a0 != 1 && a0 != 2 => return Err(HostError::File(a0)),
            SYS_WRITE if a2 > MAX_WRITE => return Err(HostError::WriteTooLong(a2)),
            SYS_WRITE => {
                self.console.extend(memory.read_vec(a1, a2 as usize));
                a2
            }
            SYS_EXIT | SYS_EXIT_GROUP => {
                self.exit_code = Some(a0);
                0
            }
            SYS_GETMAINVARS => self.main_arguments(a0, a1, memory),
            _ => return Err(HostError::SystemCall(number)),
        };
        memory.write(block, &result.to_le_bytes());
        Ok(())
    }

    /// Writes `argc`, the pointers and the strings to a buffer; 0, or -1 if it is too short.
    fn main_arguments(&self, buffer: u64, length: u64, memory: &mut Memory) -> u64 {
        let count = self.arguments.len() as u64;
        // argc, the pointers, their null pointer, and that of an empty environment.
        let mut text = buffer.wrapping_add(8 * (count + 3));
        let mut words = vec![count];
        let mut strings = Vec::new();
        for argument in &self.arguments {
            words.push(text);
            strings.extend_from_slice(argument.as_bytes());
            strings.push(0);
            text = text.wrapping_add(argument.len() as u64 + 1);
        }
        words.extend([0, 0]);
        let image: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).chain(strings).collect();
        if image.len() as u64 > length {
            return u64::MAX;
        }
        memory.write(buffer, &image);
        0
    }
}
