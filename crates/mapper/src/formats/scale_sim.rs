//! SCALE-Sim's topology files: a convolution or a product a row.

use pollux_kernels::ConvShape;

use super::FormatError;
use crate::problem::Problem;

/// Columns of a convolution's row behind its name.
const CONV: [&str; 7] =
    ["IFMAP height", "IFMAP width", "filter height", "filter width", "channels", "filters", "strides"];
/// Columns of a product's row behind its name.
const PRODUCT: [&str; 3] = ["M", "N", "K"];

/// Reads a topology: names and problems. A heading with M, N and K makes it one of products, any other one of convolutions. Images are as the
/// file says, without further padding: SCALE-Sim's heights include it.
///
/// # Errors
/// A row with the wrong number of columns, a number that is none, or a filter that Gemmini has not, with its line and column.
pub fn parse(text: &str) -> Result<Vec<(String, Problem)>, FormatError> {
    let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let (_, heading) =
        lines.next().ok_or_else(|| FormatError::new("the file is empty: expected a heading and a row a layer"))?;
    let columns: Vec<String> = heading.split(',').map(|column| column.trim().to_uppercase()).collect();
    let products = ["M", "N", "K"].iter().all(|name| columns.iter().any(|column| column == name));
    let mut problems = Vec::new();
    for (index, line) in lines {
        let cells: Vec<&str> = line.trim().trim_end_matches(',').split(',').map(str::trim).collect();
        let names: &[&str] = if products { &PRODUCT } else { &CONV };
        if cells.len() != names.len() + 1 {
            return Err(FormatError::at(
                index + 1,
                format!("{} columns: expected a name, {}", cells.len(), names.join(", ")),
            ));
        }
        let numbers = names
            .iter()
            .zip(&cells[1..])
            .map(|(name, cell)| match cell.parse::<usize>() {
                Ok(number) if number > 0 => Ok(number),
                _ => Err(FormatError::at(index + 1, format!("{name}: `{cell}` is not a number above 0"))),
            })
            .collect::<Result<Vec<_>, _>>()?;
        let problem = match numbers[..] {
            [m, n, k] => Problem::matmul(m, n, k),
            [rows, cols, filter_rows, filter_cols, channels, filters, stride] => {
                if filter_rows != filter_cols {
                    let what =
                        format!("filter height {filter_rows} and width {filter_cols}: Gemmini's kernels are square");
                    return Err(FormatError::at(index + 1, what));
                }
                if filter_rows > rows.min(cols) {
                    let what = format!("filter height {filter_rows} of an image of {rows} x {cols}: it does not fit");
                    return Err(FormatError::at(index + 1, what));
                }
                let shape = ConvShape { stride, ..ConvShape::new(1, [rows, cols, channels], filters, filter_rows) };
                Problem::conv(shape)
            }
            _ => return Err(FormatError::at(index + 1, "no row of a convolution or a product")),
        };
        problems.push((cells[0].to_owned(), problem));
    }
    Ok(problems)
}
