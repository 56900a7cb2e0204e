//! The parts of a LightGBM text model: its head, its trees, and what stands behind them.
//!
//! A text that was cut short still reads as a model of fewer trees. What tells is what the library
//! writes for its own reader: `tree_sizes` has the bytes of each tree, `end of trees` follows the
//! last one, and the file ends with a line that is known. A text that does not add up is refused.

use super::ImportError;

/// Behind the last tree.
const END_OF_TREES: &str = "end of trees";
/// Above the importances of columns, as versions of the library write it.
const IMPORTANCES: [&str; 2] = ["feature_importances:", "feature importances:"];
/// Above the parameters of the training.
const PARAMETERS: &str = "parameters:";
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
            let expected = format!("{size} bytes, as in `tree_sizes`");
            damaged(format!("tree {number}"), &expected, format!("{} more", rest.len()))
        })?;
        let is_whole = tree.starts_with("Tree=") && tree.ends_with("\n\n");
        if !is_whole || tree.matches("Tree=").count() != 1 {
            let expected = format!("one tree in {size} bytes, as in `tree_sizes`");
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

/// Reads what stands behind the trees: importances, parameters and the categories of a data frame,
/// each once at most and in this order, and nothing else. Two files that were joined are not the
/// first of them.
fn behind<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Option<&'a str>, ImportError> {
    let mut behind = Behind::Trees;
    for line in lines {
        let is_empty = line.trim().is_empty();
        behind = match behind {
            Behind::Importances if is_empty => Behind::Trees,
            Behind::Importances if is_importance(line) => Behind::Importances,
            Behind::Parameters if line == END_OF_PARAMETERS => Behind::EndOfParameters,
            Behind::Parameters if is_empty || is_parameter(line) => Behind::Parameters,
            _ if is_empty => behind,
            Behind::Trees if IMPORTANCES.contains(&line) => Behind::Importances,
            Behind::Trees if line == PARAMETERS => Behind::Parameters,
            Behind::Trees | Behind::EndOfParameters if line.starts_with(PANDAS) => {
                Behind::Pandas(&line[PANDAS.len()..])
            }
            _ => {
                let found: String = line.chars().take(60).collect();
                let place = "behind the trees".to_owned();
                return Err(damaged(place, behind.expected(), format!("`{found}`")));
            }
        };
    }
    match behind {
        Behind::Trees | Behind::EndOfParameters => Ok(None),
        Behind::Pandas(categories) => Ok(Some(categories)),
        Behind::Importances | Behind::Parameters => {
            let place = "the last line".to_owned();
            let expected = format!("`{END_OF_PARAMETERS}` or `{PANDAS}...`");
            Err(damaged(place, &expected, "the end of the file".to_owned()))
        }
    }
}

/// How far what stands behind the trees was read.
#[derive(Clone, Copy)]
enum Behind<'a> {
    /// To the end of the trees, or of the importances.
    Trees,
    Importances,
    Parameters,
    EndOfParameters,
    /// To the last line of all, which says this of categories.
    Pandas(&'a str),
}

impl Behind<'_> {
    /// What may come next.
    fn expected(self) -> &'static str {
        match self {
            Self::Trees => "importances, parameters or the end of the file",
            Self::Importances => "`COLUMN=IMPORTANCE`",
            Self::Parameters => "`[PARAMETER: VALUE]` or `end of parameters`",
            Self::EndOfParameters => "`pandas_categorical:...` or the end of the file",
            Self::Pandas(_) => "the end of the file",
        }
    }
}

/// Names of columns may have a `=` of their own.
fn is_importance(line: &str) -> bool {
    line.rsplit_once('=').is_some_and(|(_, value)| value.trim().parse::<f64>().is_ok())
}

fn is_parameter(line: &str) -> bool {
    line.starts_with('[') && line.trim_end().ends_with(']')
}
