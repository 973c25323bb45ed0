//! The host's side of a program.

use pollux_memory::Memory;
use pollux_riscv::{HostError, HostWords, Htif};

const WORDS: HostWords = HostWords { tohost: 0x1000, fromhost: 0x1040 };
const BLOCK: u64 = 0x2000;

struct Bench {
    htif: Htif,
    memory: Memory,
}

impl Bench {
    fn new() -> Self {
        Self { htif: Htif::new(Some(WORDS)), memory: Memory::new() }
    }

    fn word(&self, address: u64) -> u64 {
        u64::from_le_bytes(self.memory.read_array(address))
    }

    fn set(&mut self, address: u64, value: u64) {
        self.memory.write(address, &value.to_le_bytes());
    }

    fn tohost(&mut self, value: u64) -> Result<(), HostError> {
        self.set(WORDS.tohost, value);
        self.htif.serve(&mut self.memory)
    }

    fn call(&mut self, words: [u64; 4]) -> Result<u64, HostError> {
        (0..).zip(words).for_each(|(index, word)| self.set(BLOCK + 8 * index, word));
        self.tohost(BLOCK)?;
        Ok(self.word(BLOCK))
    }
}

#[test]
fn an_odd_word_is_the_end() {
    let mut bench = Bench::new();
    assert_eq!(bench.htif.exit_code(), None);
    bench.tohost(1337 << 1 | 1).expect("understood");
    assert_eq!(bench.htif.exit_code(), Some(1337));
    assert_eq!(bench.word(WORDS.tohost), 0);
}

#[test]
fn a_write_is_answered_with_its_length() {
    let mut bench = Bench::new();
    bench.memory.write(0x3000, b"hello");
    assert_eq!(bench.call([64, 1, 0x3000, 5]), Ok(5));
    assert_eq!(bench.word(WORDS.fromhost), 1);
    assert_eq!(bench.htif.take_console(), b"hello");
    assert_eq!(bench.htif.take_console(), b"");
}

#[test]
fn answers_wait_until_the_program_has_taken_the_one_before() {
    let mut bench = Bench::new();
    let put = |byte: u8| 1 << 56 | 1 << 48 | u64::from(byte);
    bench.tohost(put(b'a')).expect("understood");
    bench.tohost(put(b'b')).expect("understood");
    assert_eq!(bench.word(WORDS.fromhost) as u8, b'a');
    bench.set(WORDS.fromhost, 0);
    bench.htif.serve(&mut bench.memory).expect("understood");
    assert_eq!(bench.word(WORDS.fromhost) as u8, b'b');
    assert_eq!(bench.htif.take_console(), b"ab");
}

#[test]
fn arguments_are_written_where_the_program_wants_them() {
    let mut bench = Bench::new();
    bench.htif.arguments = vec!["prog".into(), "-x".into()];
    assert_eq!(bench.call([2011, 0x4000, 256, 0]), Ok(0));
    let pointers = [bench.word(0x4000), bench.word(0x4008), bench.word(0x4010), bench.word(0x4018)];
    assert_eq!((pointers[0], pointers[3]), (2, 0));
    assert_eq!(bench.memory.read_array(pointers[1]), *b"prog\0");
    assert_eq!(bench.memory.read_array(pointers[2]), *b"-x\0");
    assert_eq!(bench.call([2011, 0x4000, 16, 0]), Ok(u64::MAX));
}

#[test]
fn what_no_bare_metal_program_asks_for_is_an_error() {
    assert_eq!(Bench::new().call([56, 0, 0, 0]), Err(HostError::SystemCall(56)));
    assert_eq!(Bench::new().call([64, 7, 0, 0]), Err(HostError::File(7)));
    assert_eq!(Bench::new().call([64, 1, 0, u64::MAX]), Err(HostError::WriteTooLong(u64::MAX)));
    assert_eq!(Bench::new().tohost(9 << 56), Err(HostError::Device(9 << 56)));
}

#[test]
fn stores_beside_the_words_do_not_concern_the_host() {
    let htif = Htif::new(Some(WORDS));
    assert!(
        htif.concerns(0x1000, 8) && htif.concerns(0x1007, 1) && htif.concerns(0x0ff9, 8) && htif.concerns(0x1044, 4)
    );
    assert!(!htif.concerns(0x0ff8, 8) && !htif.concerns(0x1008, 8));
    assert!(!Htif::new(None).concerns(0x1000, 8));
}
