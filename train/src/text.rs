//! From text to token ids: byte-level byte pairs, learned from the training texts.

use std::path::Path;

use tokenizers::decoders::byte_level::ByteLevel as Decoder;
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::normalizers::Sequence;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer, TokenizerBuilder};

use crate::error::TrainError;

/// What stands between two texts.
pub const END: &str = "<|endoftext|>";

/// Learns a tokenizer of so many tokens. All 256 bytes are among them, so that no text is without tokens.
///
/// # Errors
/// What the library says.
pub fn learn(texts: &[String], vocabulary: usize) -> Result<Tokenizer, TrainError> {
    let failed = |error: tokenizers::Error| TrainError::Tokenizer(error.to_string());
    let bytes = ByteLevel::default().add_prefix_space(false);
    let mut trainer = BpeTrainerBuilder::new()
        .vocab_size(vocabulary)
        .min_frequency(2)
        .show_progress(false)
        .special_tokens(vec![AddedToken::from(END, true)])
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    let mut tokenizer = TokenizerBuilder::<BPE, Sequence, ByteLevel, ByteLevel, Decoder>::new()
        .with_model(BPE::default())
        .with_normalizer(Some(Sequence::new(Vec::new())))
        .with_pre_tokenizer(Some(bytes))
        .with_post_processor(Some(bytes))
        .with_decoder(Some(bytes))
        .build()
        .map_err(failed)?;
    tokenizer.train(&mut trainer, texts.iter()).map_err(failed)?;
    Ok(tokenizer.into())
}

/// Reads a tokenizer.
///
/// # Errors
/// A file that is none.
pub fn read(path: &Path) -> Result<Tokenizer, TrainError> {
    Tokenizer::from_file(path).map_err(TrainError::file(path))
}

/// Tokens of all texts, one behind the other, each followed by [`END`].
///
/// # Errors
/// What the library says.
pub fn tokens(tokenizer: &Tokenizer, texts: &[String]) -> Result<Vec<u32>, TrainError> {
    let end = tokenizer.token_to_id(END).ok_or_else(|| TrainError::Tokenizer(format!("it has no {END}")))?;
    let mut all = Vec::new();
    for text in texts {
        let encoding = tokenizer.encode(text.as_str(), false);
        all.extend(encoding.map_err(|error| TrainError::Tokenizer(error.to_string()))?.get_ids());
        all.push(end);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_learned_gives_any_text_back() {
        let texts = vec!["the cat and the dog and the cat sat\n".repeat(50)];
        let tokenizer = learn(&texts, 300).unwrap();
        let ids = tokens(&tokenizer, &texts).unwrap();
        assert!(ids.len() < texts[0].len() / 2);
        for text in [texts[0].as_str(), "Zoë: 3 % \u{1f600}\n"] {
            let encoding = tokenizer.encode(text, false).unwrap();
            assert_eq!(tokenizer.decode(encoding.get_ids(), false).unwrap(), text);
        }
    }
}
