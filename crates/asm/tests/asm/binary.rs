//! Files that are not exactly what the writer makes.

use pollux_asm::binary::{self, BinaryError, CHECKSUM_LEN, HEADER, HEADER_LEN};
use pollux_asm::{Program, ProgramError};
use pollux_isa::{GemminiConfig, RoccCommand, StreamItem};

use crate::support::assemble;

fn program() -> Program {
    assemble(
        "buffer A: i8[2, 2] = [1, 2, 3, 4]\nbuffer C: i32[1]\nexpect C = [-1]\nspad a[4]\nacc c[4] at 8\n\
         mvin dram=A local=a cols=2 rows=2\nfence\nwait 7\nwrite A: i8[2] = [5, 6]\nmark \"end\"\n",
    )
}

fn file() -> Vec<u8> {
    binary::write(&program()).unwrap()
}

/// The file with length and checksum made right after a change.
fn sealed(mut file: Vec<u8>) -> Vec<u8> {
    let len = file.len();
    file[16..24].copy_from_slice(&(len as u64).to_le_bytes());
    let checksum = crc32fast::hash(&file[..len - CHECKSUM_LEN]);
    file[len - CHECKSUM_LEN..].copy_from_slice(&checksum.to_le_bytes());
    file
}

/// The offset of bytes in the file.
fn find(file: &[u8], bytes: &[u8]) -> usize {
    file.windows(bytes.len()).position(|window| window == bytes).unwrap()
}

#[test]
fn a_program_is_read_back() {
    assert_eq!(binary::read(&file()), Ok(program()));
    let empty = Program::new(GemminiConfig::by_name("norm16").unwrap());
    assert_eq!(binary::read(&binary::write(&empty).unwrap()), Ok(empty));
}

#[test]
fn every_shortened_file_is_refused_as_truncated() {
    let file = file();
    for len in 1..file.len() {
        assert!(matches!(binary::read(&file[..len]), Err(BinaryError::Truncated { .. })), "{len} bytes");
    }
    assert_eq!(binary::read(&[]), Err(BinaryError::NotAProgram));
}

#[test]
fn every_changed_byte_is_noticed() {
    let file = file();
    for position in 0..file.len() {
        for change in [1, 0x80, 0xff] {
            let mut changed = file.clone();
            changed[position] ^= change;
            assert!(binary::read(&changed).is_err(), "byte {position}");
        }
    }
}

#[test]
fn every_refusal_says_what_is_wrong_and_what_to_do() {
    let change = |position: usize, bytes: &[u8]| {
        let mut file = file();
        file[position..position + bytes.len()].copy_from_slice(bytes);
        file
    };
    let original = file();
    let (a, region, mark) = (find(&original, b"\x01\0\0\0A"), find(&original, b"\x01\0\0\0a"), find(&original, b"end"));
    let cases = [
        ("another kind of file", b"\x7fELF\x02\x01\x01\0".to_vec()),
        ("text conversion", change(5, b"\n")),
        ("another version", change(8, &[2, 0])),
        ("cut short", original[..100].to_vec()),
        ("a byte appended", [&original[..], &[0]].concat()),
        ("a byte changed", change(100, b"?")),
        ("reserved bytes used", sealed(change(10, &[1]))),
        ("another digest", sealed(change(24, &[0; 8]))),
        ("configuration not TOML", sealed(change(HEADER_LEN + 4, b"\0"))),
        ("configuration longer than the file", sealed(change(HEADER_LEN, &[0xff; 4]))),
        ("too many buffers", sealed(change(a - 4, &[0xff; 4]))),
        ("a name that is not UTF-8", sealed(change(a + 4, b"\xff"))),
        ("an element type that does not exist", sealed(change(a + 13, b"\x07"))),
        ("unknown flags", sealed(change(a + 14, b"\xff"))),
        ("too many extents", sealed(change(a + 15, &[0xff; 4]))),
        ("a buffer larger than memory", sealed(change(a + 19, &[0xff; 8]))),
        ("data longer than the file", sealed(change(a + 19, &[0xff, 0xff, 0xff, 0]))),
        ("an address that leaves no room", sealed(change(a + 5, &[0xff; 8]))),
        ("a memory that does not exist", sealed(change(region + 5, b"\x02"))),
        ("a region outside of its memory", sealed(change(region + 6, &[0xff; 4]))),
        ("an item that does not exist", sealed(change(mark - 5, b"\x09"))),
        ("too many items", sealed(change(region + 32, &[0xff; 8]))),
        ("too few items", sealed(change(region + 32, &[4]))),
        ("two equal names", sealed(change(region + 4, b"A"))),
    ];
    let messages = cases.map(|(what, file)| format!("{what}:\n  {}\n", binary::read(&file).unwrap_err()));
    insta::assert_snapshot!(messages.concat());
}

#[test]
fn a_program_for_another_configuration_is_refused() {
    let file = file();
    let renamed = GemminiConfig { name: "renamed".to_owned(), ..program().config.into_inner() };
    assert_eq!(binary::read_for(&file, &renamed), Ok(program()));
    let other = GemminiConfig { num_counter: 4, ..renamed };
    insta::assert_snapshot!(binary::read_for(&file, &other).unwrap_err().to_string());
}

#[test]
fn a_program_that_breaks_a_rule_is_not_written() {
    let change = |change: fn(&mut Program)| {
        let mut program = program();
        change(&mut program);
        match binary::write(&program) {
            Err(BinaryError::Program(error)) => error,
            other => panic!("{other:?}"),
        }
    };
    let errors: [ProgramError; 8] = [
        change(|p| p.regions[0].name = "A".to_owned()),
        change(|p| p.buffers[0].name = String::new()),
        change(|p| p.buffers[0].name = "a`".to_owned()),
        change(|p| p.buffers[0].address = u64::MAX),
        change(|p| p.buffers[0].data = Some(vec![1])),
        change(|p| p.regions[1].row = u32::MAX),
        change(|p| p.items.push(StreamItem::Command(RoccCommand { funct: 128, rs1: 0, rs2: 0 }))),
        change(|p| p.items.push(StreamItem::Write { address: u64::MAX, bytes: vec![0] })),
    ];
    insta::assert_snapshot!(errors.map(|error| error.to_string()).join("\n"));
}

#[test]
fn the_header_is_made_of_its_fields() {
    let mut end = 0;
    for field in HEADER {
        assert_eq!(field.offset, end, "{}", field.name);
        end += field.len;
    }
    assert_eq!(end, HEADER_LEN);
}
