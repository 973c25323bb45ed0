//! A model's tokenizer: from text to token ids and back.
//!
//! It needs the feature `text`, which is on by default. Without it (for targets that have no source of random numbers, as
//! `wasm32-unknown-unknown`) models are read and run on token ids; a tokenizer is kept as it was read, and using it is an
//! error that says so.

pub(crate) use implementation::Text;

#[cfg(feature = "text")]
mod implementation {
    use std::path::Path;

    use tokenizers::models::bpe::{BPE, Vocab};
    use tokenizers::models::wordpiece::WordPiece;
    use tokenizers::pre_tokenizers::digits::Digits;
    use tokenizers::pre_tokenizers::sequence::Sequence;
    use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
    use tokenizers::pre_tokenizers::{PreTokenizerWrapper, bert::BertPreTokenizer, byte_level::ByteLevel};
    use tokenizers::{AddedToken, Model, SplitDelimiterBehavior, Tokenizer};
    use tokenizers::{normalizers::BertNormalizer, processors::bert::BertProcessing};

    use crate::error::ModelError;

    /// The tokenizer.
    #[derive(Clone, Debug)]
    pub(crate) struct Text(Tokenizer);

    fn fail<E: ToString>(path: &Path) -> impl Fn(E) -> ModelError {
        move |error| ModelError::Tokenizer { path: path.into(), reason: error.to_string() }
    }

    impl Text {
        /// That of `tokenizer.json`, or an uncased WordPiece one over `vocab.txt`.
        pub(crate) fn word_pieces(directory: &Path, max_tokens: usize) -> Result<Option<Self>, ModelError> {
            let (json, vocabulary) = (directory.join("tokenizer.json"), directory.join("vocab.txt"));
            let tokenizer = if json.exists() {
                Tokenizer::from_file(&json).map_err(fail(&json))?
            } else if vocabulary.exists() {
                let words = WordPiece::from_file(&vocabulary.to_string_lossy()).unk_token("[UNK]".into()).build();
                word_piece_tokenizer(words.map_err(fail(&vocabulary))?, &vocabulary)?
            } else {
                return Err(fail(directory)("neither tokenizer.json nor vocab.txt is in the model directory"));
            };
            Self::limited(tokenizer, max_tokens).map(Some).map_err(fail(&json))
        }

        /// That of `tokenizer.json`, or byte-level BPE over `vocab.json` and `merges.txt`.
        pub(crate) fn byte_pairs(directory: &Path, max_tokens: usize) -> Result<Option<Self>, ModelError> {
            let [json, vocabulary, merges] =
                ["tokenizer.json", "vocab.json", "merges.txt"].map(|name| directory.join(name));
            let tokenizer = if json.exists() {
                Tokenizer::from_file(&json).map_err(fail(&json))?
            } else if vocabulary.exists() && merges.exists() {
                let bpe = BPE::from_file(&vocabulary.to_string_lossy(), &merges.to_string_lossy()).build();
                let bytes = ByteLevel::default().add_prefix_space(false);
                let mut tokenizer = Tokenizer::new(bpe.map_err(fail(&vocabulary))?);
                tokenizer.with_pre_tokenizer(Some(bytes)).with_decoder(Some(bytes));
                tokenizer
            } else {
                let reason = "neither tokenizer.json nor vocab.json with merges.txt is in the model directory";
                return Err(fail(directory)(reason));
            };
            Self::limited(tokenizer, max_tokens).map(Some).map_err(fail(&json))
        }

        /// Byte-level BPE over tokens in the order of their ids and merges (`LEFT RIGHT`), as GGUF files have them; `special` ones
        /// stand in texts as they are. `pre` names how a text is cut before (llama.cpp's `llama-vocab.cpp`).
        pub(crate) fn from_byte_pairs(
            tokens: &[String],
            merges: &[String],
            special: &[String],
            pre: &str,
        ) -> Result<Self, String> {
            let bytes = ByteLevel::default().add_prefix_space(false);
            let cut = cut(pre)?;
            let ids = tokens.iter().zip(0u32..).map(|(token, id)| (token.clone(), id));
            let pair = |merge: &String| {
                let pair = merge.split_once(' ').map(|(left, right)| (left.to_owned(), right.to_owned()));
                pair.ok_or_else(|| format!("the merge `{merge}` is no pair"))
            };
            let merges = merges.iter().map(pair).collect::<Result<Vec<_>, _>>()?;
            let ids: Vocab = ids.collect();
            if ids.len() != tokens.len() {
                return Err("a token is there twice".into());
            }
            let text = |error: tokenizers::Error| error.to_string();
            let bpe = BPE::builder().vocab_and_merges(ids, merges).build().map_err(text)?;
            let mut tokenizer = Tokenizer::new(bpe);
            tokenizer.with_pre_tokenizer(Some(Sequence::new(cut))).with_decoder(Some(bytes));
            let special: Vec<AddedToken> = special.iter().map(|token| AddedToken::from(token, true)).collect();
            tokenizer.add_special_tokens(special).map_err(text)?;
            Ok(Self(tokenizer))
        }

        /// No padding, and long texts cut at `max_tokens`.
        fn limited(mut tokenizer: Tokenizer, max_tokens: usize) -> Result<Self, tokenizers::Error> {
            tokenizer.with_padding(None);
            let truncation = tokenizers::TruncationParams { max_length: max_tokens, ..Default::default() };
            tokenizer.with_truncation(Some(truncation))?;
            Ok(Self(tokenizer))
        }

        /// As in `tokenizer.json`.
        pub(crate) fn from_json(json: Vec<u8>) -> Result<Self, String> {
            Tokenizer::from_bytes(json).map(Self).map_err(|error| error.to_string())
        }

        /// As in `tokenizer.json`.
        pub(crate) fn to_json(&self) -> Result<Vec<u8>, String> {
            self.0.to_string(false).map(String::into_bytes).map_err(|error| error.to_string())
        }

        /// Token ids, the special ones included.
        pub(crate) fn encode(&self, text: &str) -> Result<Vec<u32>, String> {
            self.0.encode(text, true).map(|encoding| encoding.get_ids().to_vec()).map_err(|error| error.to_string())
        }

        /// Number of tokens of a text that is not cut.
        pub(crate) fn length(&self, text: &str) -> Result<usize, String> {
            let mut tokenizer = self.0.clone();
            tokenizer.with_truncation(None).map_err(|error| error.to_string())?;
            tokenizer.encode(text, true).map(|encoding| encoding.len()).map_err(|error| error.to_string())
        }

        /// The text of token ids, the special ones included.
        pub(crate) fn decode(&self, ids: &[u32]) -> Result<String, String> {
            self.0.decode(ids, false).map_err(|error| error.to_string())
        }
    }

    /// How texts are cut before their bytes are paired.
    fn cut(pre: &str) -> Result<Vec<PreTokenizerWrapper>, String> {
        /// Llama 3's words: endings, words, up to three digits, signs, spaces.
        const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
        let bytes = ByteLevel::default().add_prefix_space(false);
        match pre {
            "default" | "gpt-2" => Ok(vec![bytes.into()]),
            // Every digit is a word.
            "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" | "exaone" => {
                Ok(vec![Digits::new(true).into(), bytes.into()])
            }
            "llama-bpe" | "llama3" | "llama-v3" => {
                let words = Split::new(SplitPattern::Regex(LLAMA_3.into()), SplitDelimiterBehavior::Isolated, false);
                let words = words.map_err(|error| error.to_string())?;
                Ok(vec![words.into(), bytes.use_regex(false).into()])
            }
            other => Err(format!("texts are cut by the rule `{other}`; gpt-2, smollm and llama-bpe are known")),
        }
    }

    fn word_piece_tokenizer(words: WordPiece, path: &Path) -> Result<Tokenizer, ModelError> {
        let special = |token: &str| {
            let id = words.token_to_id(token).map(|id| (token.to_string(), id));
            id.ok_or_else(|| fail(path)(format!("the vocabulary lacks `{token}`")))
        };
        let processing = BertProcessing::new(special("[SEP]")?, special("[CLS]")?);
        let mut tokenizer = Tokenizer::new(words);
        tokenizer
            .with_normalizer(Some(BertNormalizer::default()))
            .map_err(fail(path))?
            .with_pre_tokenizer(Some(BertPreTokenizer))
            .with_post_processor(Some(processing));
        Ok(tokenizer)
    }
}

#[cfg(not(feature = "text"))]
mod implementation {
    use std::path::Path;

    use crate::error::ModelError;

    /// Why there are no words.
    const ABSENT: &str = "this build has no tokenizers (the feature `text` is off); give token ids";

    /// A tokenizer that is kept as JSON.
    #[derive(Clone, Debug)]
    pub(crate) struct Text(Vec<u8>);

    impl Text {
        /// That of `tokenizer.json`, if there is one.
        pub(crate) fn word_pieces(directory: &Path, _max_tokens: usize) -> Result<Option<Self>, ModelError> {
            let path = directory.join("tokenizer.json");
            path.exists().then(|| std::fs::read(&path).map(Self).map_err(ModelError::io(&path))).transpose()
        }

        /// As [`Text::word_pieces`].
        pub(crate) fn byte_pairs(directory: &Path, max_tokens: usize) -> Result<Option<Self>, ModelError> {
            Self::word_pieces(directory, max_tokens)
        }

        /// Nothing that could be used.
        pub(crate) fn from_byte_pairs(
            _tokens: &[String],
            _merges: &[String],
            _special: &[String],
            _pre: &str,
        ) -> Result<Self, String> {
            Ok(Self(Vec::new()))
        }

        /// As in `tokenizer.json`.
        pub(crate) fn from_json(json: Vec<u8>) -> Result<Self, String> {
            Ok(Self(json))
        }

        /// As in `tokenizer.json`.
        pub(crate) fn to_json(&self) -> Result<Vec<u8>, String> {
            Ok(self.0.clone())
        }

        pub(crate) fn encode(&self, _text: &str) -> Result<Vec<u32>, String> {
            Err(ABSENT.to_owned())
        }

        pub(crate) fn length(&self, _text: &str) -> Result<usize, String> {
            Err(ABSENT.to_owned())
        }

        pub(crate) fn decode(&self, _ids: &[u32]) -> Result<String, String> {
            Err(ABSENT.to_owned())
        }
    }
}
