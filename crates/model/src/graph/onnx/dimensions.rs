//! Sizes of the inputs: those of the file, and for those that it leaves open the given ones.
//!
//! An open size has the name of its dimension (`batch`), or none (-1, 0, or nothing at all); `INPUT.AXIS` names it in any
//! case, and `AXIS` if there is one input only.

use std::collections::{BTreeMap, BTreeSet};

use super::error::{OnnxError, OpenDimension};
use super::proto::{DimensionProto, ValueInfoProto};

/// Choices of an import.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImportOptions {
    /// Sizes of what the file leaves open: by the dimension's name, such as `batch`, or as `INPUT.AXIS`, which also names a
    /// size that is -1 or has no name; `AXIS` is enough if the network has one input. A name that the network does not have
    /// is an error.
    pub dimensions: BTreeMap<String, usize>,
    /// Inputs that have one value everywhere, such as an attention mask of 1: they are constants, and what follows from them is
    /// computed at import.
    pub inputs: BTreeMap<String, f64>,
    /// Leaves out formats of activations that the accelerator does not have (uint8, zero points): their ranges are measured anew.
    /// Otherwise such a file is refused.
    pub requantise: bool,
}

/// `TensorProto.DataType` of what is no real number: STRING, COMPLEX64, COMPLEX128.
const NOT_REAL: [i32; 3] = [8, 14, 15];
/// Most dimensions of a tensor.
pub(super) const MAX_RANK: usize = 16;

/// The shape of each input, in their order.
///
/// # Errors
/// All sizes that are open, a given one that the network does not have, and inputs that are no tensors of real numbers.
pub(super) fn shapes(inputs: &[&ValueInfoProto], options: &ImportOptions) -> Result<Vec<Vec<usize>>, OnnxError> {
    let mut sizes = Sizes { given: &options.dimensions, used: BTreeSet::new(), open: Vec::new(), missing: Vec::new() };
    let only = inputs.len() == 1;
    let shapes = inputs.iter().map(|input| sizes.shape(input, only)).collect::<Result<Vec<_>, _>>()?;
    if let Some(name) = options.dimensions.keys().find(|name| !sizes.used.contains(name.as_str())) {
        return Err(OnnxError::UnknownDimension { name: name.clone(), known: sizes.open });
    }
    if sizes.missing.is_empty() { Ok(shapes) } else { Err(OnnxError::Dimensions { dimensions: sizes.missing }) }
}

struct Sizes<'a> {
    given: &'a BTreeMap<String, usize>,
    used: BTreeSet<&'a str>,
    /// Names of all open sizes.
    open: Vec<String>,
    /// Those for which none is given.
    missing: Vec<OpenDimension>,
}

impl Sizes<'_> {
    fn shape(&mut self, input: &ValueInfoProto, only: bool) -> Result<Vec<usize>, OnnxError> {
        let fail = |reason: String| OnnxError::Input { input: input.name.clone(), reason };
        let tensor = input.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
        let tensor = tensor.ok_or_else(|| fail("it is no tensor; only tensors can be read".into()))?;
        if NOT_REAL.contains(&tensor.elem_type) {
            return Err(fail(format!("element type {} is no real number; give it one of these", tensor.elem_type)));
        }
        let dims = tensor.shape.as_ref().map_or(&[][..], |shape| shape.dim.as_slice());
        if dims.len() > MAX_RANK {
            let found = dims.len();
            return Err(fail(format!(
                "it has {found} dimensions; export the model with at most {MAX_RANK} for each input"
            )));
        }
        dims.iter().enumerate().map(|(axis, dim)| self.size(input, axis, dim, only)).collect()
    }

    /// The size of an axis; 1 in place of one that is missing.
    fn size(
        &mut self,
        input: &ValueInfoProto,
        axis: usize,
        dim: &DimensionProto,
        only: bool,
    ) -> Result<usize, OnnxError> {
        if let Some(fixed) = usize::try_from(dim.dim_value).ok().filter(|&size| size > 0) {
            return Ok(fixed);
        }
        let place = format!("{}.{axis}", input.name);
        let own = (!dim.dim_param.is_empty()).then(|| dim.dim_param.clone());
        let name = own.clone().unwrap_or_else(|| place.clone());
        if !self.open.contains(&name) {
            self.open.push(name.clone());
        }
        let names = own.into_iter().chain([place]).chain(only.then(|| axis.to_string()));
        let given: Vec<(&str, usize)> = names
            .filter_map(|name| self.given.get_key_value(&name))
            .map(|(name, &size)| (name.as_str(), size))
            .collect();
        self.used.extend(given.iter().map(|(name, _)| *name));
        let fail = |reason: String| Err(OnnxError::Input { input: input.name.clone(), reason });
        match given[..] {
            [] => {
                self.missing.push(OpenDimension { input: input.name.clone(), axis, name });
                Ok(1)
            }
            [(name, 0), ..] => fail(format!("axis {axis}: `{name}` is 0; give a size of at least 1")),
            [(first, size), (second, other), ..] if size != other => {
                fail(format!("axis {axis} is {size} by `{first}` and {other} by `{second}`; give one of them"))
            }
            [(_, size), ..] => Ok(size),
        }
    }
}
