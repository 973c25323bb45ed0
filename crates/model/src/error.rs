//! Everything that can go wrong between a model directory and a quantised layer.

use std::path::PathBuf;

/// An error of this crate: the place, what is wrong, and what would be right.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// A JSON file does not hold what its role asks for.
    #[error("{}: not a valid {what}: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The role of the file.
        what: &'static str,
        /// Line, column and reason.
        source: serde_json::Error,
    },
    /// A safetensors file is truncated or damaged.
    #[error("{}: not a valid safetensors file: {reason}; it may be truncated, fetch it again", path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// The reader's reason.
        reason: String,
    },
    /// A GGUF file is truncated, damaged or contradicts itself.
    #[error("{}: not a valid GGUF file: {reason}; it may be damaged, fetch it again", path.display())]
    Gguf {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
    /// The weights lack a tensor that the configuration promises.
    #[error("{}: tensor `{tensor}` is missing (the configuration asks for it; the file has {present} tensors)", path.display())]
    MissingTensor {
        /// The weights file.
        path: PathBuf,
        /// The tensor's full name.
        tensor: String,
        /// Number of tensors the file has.
        present: usize,
    },
    /// A tensor's shape disagrees with the configuration.
    #[error("{}: tensor `{tensor}` has shape {found:?}, but the configuration implies {expected:?}", path.display())]
    WrongShape {
        /// The weights file.
        path: PathBuf,
        /// The tensor's full name.
        tensor: String,
        /// Shape implied by config.json.
        expected: Vec<usize>,
        /// Shape in the file.
        found: Vec<usize>,
    },
    /// A tensor's element type cannot be read.
    #[error("{}: tensor `{tensor}` has element type {found}; {expected} can be read", path.display())]
    WrongType {
        /// The weights file.
        path: PathBuf,
        /// The tensor's full name.
        tensor: String,
        /// Type in the file.
        found: String,
        /// What would do.
        expected: &'static str,
    },
    /// A tensor has a NaN or an infinity.
    #[error(
        "{}: tensor `{tensor}` has a NaN or an infinity at element {index}; all values must be finite numbers",
        path.display()
    )]
    NotFinite {
        /// The weights file.
        path: PathBuf,
        /// The tensor's full name.
        tensor: String,
        /// Flat index of the first such element.
        index: usize,
    },
    /// The model is of a kind that is not handled.
    #[error("{}: {what} is not supported; {remedy}", path.display())]
    Unsupported {
        /// The file that says so.
        path: PathBuf,
        /// The field and its value.
        what: String,
        /// What would work.
        remedy: String,
    },
    /// The tokenizer could not be built or used.
    #[error("{}: tokenizer: {reason}", path.display())]
    Tokenizer {
        /// The tokenizer's file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// A token id is outside the vocabulary.
    #[error("token id {id} is outside the vocabulary of {vocabulary} entries")]
    TokenOutOfRange {
        /// The id.
        id: u32,
        /// Size of the word embedding table.
        vocabulary: usize,
    },
    /// Too few or too many tokens.
    #[error("{tokens} tokens; this model takes 1 to {limit}")]
    TokenCount {
        /// Number given.
        tokens: usize,
        /// Largest number allowed.
        limit: usize,
    },
    /// An activation matrix has the wrong width.
    #[error("{what}: {found} columns, but the layer is {expected} wide")]
    Width {
        /// Which matrix.
        what: &'static str,
        /// Columns given.
        found: usize,
        /// Columns needed.
        expected: usize,
    },
    /// No layer of that number.
    #[error("layer {index} does not exist; the model has layers 0 to {}", count.saturating_sub(1))]
    NoSuchLayer {
        /// The number asked for.
        index: usize,
        /// Number of layers.
        count: usize,
    },
    /// Calibration saw no tokens or images.
    #[error("calibration needs at least one sample: a sentence with at least one token, or an input of the graph")]
    NothingToCalibrate,
    /// A quantisation option is out of range.
    #[error("quantisation option `{option}` = {value}: {rule}")]
    Option {
        /// Name of the option.
        option: &'static str,
        /// Its value.
        value: String,
        /// What it must satisfy.
        rule: &'static str,
    },
    /// A value does not fit the hardware's field for it.
    #[error("{tensor}, channel {channel}: {value:e} does not fit {field}")]
    DoesNotFit {
        /// The tensor being quantised.
        tensor: &'static str,
        /// Channel within the tensor.
        channel: usize,
        /// The real value.
        value: f64,
        /// The field of the hardware.
        field: &'static str,
    },
    /// A graph is malformed, or its operands do not fit.
    #[error(transparent)]
    Graph(#[from] crate::graph::error::GraphError),
    /// An ONNX file cannot be imported.
    #[error("{}: {source}", path.display())]
    Onnx {
        /// The file.
        path: PathBuf,
        /// The reason, with the node.
        source: crate::graph::onnx::error::OnnxError,
    },
    /// A quantised model file has no float32 layers to run.
    #[error("the float32 layers are not in a quantised model file; load the model's directory to compare with them")]
    NoFloatLayers,
    /// A quantised model file is inconsistent.
    #[error("quantised model {origin}: {reason}")]
    ModelFile {
        /// File name.
        origin: String,
        /// What is inconsistent.
        reason: String,
    },
    /// A quantised-layer container is inconsistent.
    #[error("quantised layer {origin}: {reason}")]
    Container {
        /// File name or "embedded default".
        origin: String,
        /// What is inconsistent.
        reason: String,
    },
}

impl ModelError {
    /// Wraps an operating system error with its path.
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}
