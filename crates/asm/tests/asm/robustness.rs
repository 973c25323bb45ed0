//! A short, seeded run of what the fuzz targets do.

use std::fs;

use pollux_asm::{assemble_file, binary, fuzz};
use pollux_isa::table::INSTRUCTIONS;
use proptest::prelude::*;
use proptest::sample::select;

use crate::support::{example_programs, seeded};

/// Pieces from which text close to a program is made.
fn pieces() -> Vec<String> {
    let words = "config small4 include \"main.pasm\" const buffer expect spad acc macro repeat if else end fence wait mark \
        write raw in step at overlay fill each npy hex toml i8 i32 A a x y 0 1 4 -1 0x10 1.5 99999999999 \"00\" garbage \
        DIM norm( accumulate( full( local( f32bits( max ( ) [ ] = == .. , : ? + - * / % << ` \" \"\"\" # \\ .";
    let mnemonics = INSTRUCTIONS.iter().map(|spec| spec.mnemonic);
    let operands = INSTRUCTIONS.iter().flat_map(|spec| spec.fields).map(|field| field.name);
    let newlines = std::iter::repeat_n("\n", 20);
    words.split(' ').chain(mnemonics).chain(operands).chain(newlines).map(str::to_owned).collect()
}

fn sources() -> Vec<String> {
    example_programs().iter().map(|path| fs::read_to_string(path).unwrap()).collect()
}

fn files() -> Vec<Vec<u8>> {
    example_programs().iter().map(|path| binary::write(&assemble_file(path).unwrap()).unwrap()).collect()
}

/// Replaces a range (in thousandths of the length) of something by something else.
fn splice<T: Clone>(whole: &[T], (from, len): (usize, usize), other: &[T]) -> Vec<T> {
    let start = whole.len() * from / 1000;
    let end = (start + len).min(whole.len());
    [&whole[..start], other, &whole[end..]].concat()
}

proptest! {
    #![proptest_config(seeded(256))]

    #[test]
    fn any_text_is_assembled_or_refused(text in any::<String>()) {
        fuzz::check_text(&text);
    }

    #[test]
    fn text_of_known_words_is_assembled_or_refused(words in prop::collection::vec(select(pieces()), 0..60)) {
        fuzz::check_text(&words.join(" "));
    }

    #[test]
    fn changed_programs_are_assembled_or_refused(
        source in select(sources()),
        place in (0usize..=1000, 0usize..40),
        words in prop::collection::vec(select(pieces()), 0..3),
    ) {
        let characters: Vec<char> = source.chars().collect();
        let inserted: Vec<char> = words.join(" ").chars().collect();
        fuzz::check_text(&splice(&characters, place, &inserted).into_iter().collect::<String>());
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        fuzz::check_binary(&bytes);
        fuzz::check_binary(&[&binary::MAGIC[..], &[1, 0], &bytes].concat());
    }

    #[test]
    fn changed_files_are_read_or_refused(
        file in select(files()),
        place in (0usize..=1000, 0usize..10),
        bytes in prop::collection::vec(any::<u8>(), 0..10),
    ) {
        fuzz::check_binary(&splice(&file, place, &bytes));
    }
}
