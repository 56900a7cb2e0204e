//! The parts of a LightGBM text model: its head, its trees, and what stands behind them.
//!
//! A text that was cut short still reads as a model of fewer trees. What tells is what the library writes for its
//! own reader: `tree_sizes` has the bytes of each tree, `end of trees` follows the last one, and the file ends
//! with a line that is known. A text that does not add up is refused.

use super::ImportError;

/// Behind the last tree.
const END_OF_TREES: &str = "end of trees";
/// Behind the parameters, if they are there.
const END_OF_PARAMETERS: &str = "end of parameters";
/// The last line of what the Python package writes: the categories of the data frame's columns.
const PANDAS: &str = "pandas_categorical:";

/// A text model in its parts.
pub(super) struct Parts<'a> {
    /// The lines before the trees.
    pub(super) head: &'a str,
    /// The lines of each tree.
    pub(super) trees: Vec<&'a str>,
    /// The categories of a data frame, if the file says something of them.
    pub(super) pandas: Option<&'a str>,
}

fn damaged(place: String, expected: &str, found: String) -> ImportError {
    ImportError::Damaged { place, expected: expected.to_owned(), found }
}

/// Takes a text apart.
///
/// # Errors
/// When the parts are not as long as the text says, or its end is missing.
pub(super) fn parts(text: &str) -> Result<Parts<'_>, ImportError> {
    let Some(at) = text.find("\n\n") else {
        return Err(damaged(
            "the head".to_owned(),
            "an empty line before the first tree",
            format!("{} bytes without one", text.len()),
        ));
    };
    let (head, mut rest) = (&text[..at], &text[at + 2..]);
    let sizes = head.lines().find_map(|line| line.strip_prefix("tree_sizes="));
    let sizes = sizes.ok_or(ImportError::key("tree_sizes"))?.split_ascii_whitespace();
    let sizes: Result<Vec<usize>, _> = sizes.map(str::parse).collect();
    let sizes = sizes.map_err(|_| ImportError::key("tree_sizes"))?;
    let mut trees = Vec::with_capacity(sizes.len());
    for (number, &size) in sizes.iter().enumerate() {
        let tree = rest.get(..size).ok_or_else(|| {
            let expected = format!("{size} bytes, as `tree_sizes` says");
            damaged(format!("tree {number}"), &expected, format!("{} more", rest.len()))
        })?;
        let is_whole = tree.starts_with("Tree=") && tree.ends_with("\n\n");
        if !is_whole || tree.matches("Tree=").count() != 1 {
            let expected = format!("one tree in {size} bytes, as `tree_sizes` says");
            return Err(damaged(format!("tree {number}"), &expected, "another end".to_owned()));
        }
        trees.push(tree);
        rest = &rest[size..];
    }
    let mut lines = rest.lines();
    let end = lines.next().unwrap_or_default();
    if end != END_OF_TREES {
        let found: String = end.chars().take(60).collect();
        return Err(damaged(
            format!("behind {} trees", trees.len()),
            &format!("`{END_OF_TREES}`"),
            format!("`{found}`"),
        ));
    }
    let pandas = behind(lines)?;
    Ok(Parts { head, trees, pandas })
}

/// What stands behind the trees ends in a line that is known.
fn behind<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Option<&'a str>, ImportError> {
    let last = lines.filter(|line| !line.trim().is_empty()).last();
    match last {
        None | Some(END_OF_PARAMETERS) => Ok(None),
        Some(line) => line.strip_prefix(PANDAS).map(Some).ok_or_else(|| {
            let found: String = line.chars().take(60).collect();
            damaged(
                "the last line".to_owned(),
                &format!("`{END_OF_PARAMETERS}` or `{PANDAS}...`"),
                format!("`{found}`"),
            )
        }),
    }
}
