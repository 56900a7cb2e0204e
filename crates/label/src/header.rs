//! The header of a label table: its separator, its columns, and which other program wrote it.

use super::LabelError;
use csv::StringRecord;
use std::path::Path;

/// The columns that are read; any others are ignored.
pub(super) const COLUMNS: [&str; 9] =
    ["file", "split", "label", "proto", "src_ip", "src_port", "dst_ip", "dst_port", "first_ts_us"];

/// The one of [`COLUMNS`] that a table need not have: without it, flows are split by time.
pub(super) const SPLIT: usize = 1;

/// The columns that say which capture a flow was cut from, where that is not its file; the second
/// is read beside the first alone. Flows of one capture resemble each other, so what is said of how
/// sure a figure is goes by captures.
const SOURCE: [&str; 2] = ["source_capture", "source_repo"];

/// Separators of fields; the first one is the usual one.
const SEPARATORS: [char; 3] = [',', ';', '\t'];

/// Columns of a missing-column message that are quoted from the header.
const QUOTED: usize = 12;

/// Where the columns of a table stand.
#[derive(Debug)]
pub(super) struct Header {
    /// Positions of [`COLUMNS`]; `None` for a column that the table lacks and need not have.
    pub(super) positions: [Option<usize>; COLUMNS.len()],
    /// Positions of [`SOURCE`], which a table need not have.
    pub(super) source: [Option<usize>; 2],
}

impl Header {
    pub(super) fn new(path: &Path, header: &StringRecord) -> Result<Self, LabelError> {
        let positions = COLUMNS.map(|column| position(header, column));
        let is_missing = |&at: &usize| at != SPLIT && positions[at].is_none();
        let missing: Vec<usize> = (0..COLUMNS.len()).filter(is_missing).collect();
        if missing.is_empty() {
            return Ok(Self { positions, source: SOURCE.map(|column| position(header, column)) });
        }
        let found = header.iter().map(|name| name.trim().to_owned());
        Err(LabelError::MissingColumns {
            path: path.to_owned(),
            missing: missing.iter().map(|&at| COLUMNS[at]).collect(),
            found: found.filter(|name| !name.is_empty()).take(QUOTED).collect(),
            hint: hint(header),
        })
    }
}

/// Where a column stands: under its own name, or under the same in other letters.
fn position(header: &StringRecord, column: &str) -> Option<usize> {
    let exact = header.iter().position(|name| name.trim() == column);
    exact.or_else(|| header.iter().position(|name| name.trim().eq_ignore_ascii_case(column)))
}

/// The separator of a table: the one that splits its first line into most of the known columns.
/// Where that does not decide, the table is refused anyway, and the one that gives most fields
/// shows best which columns it has; of equals the comma.
pub(super) fn separator(bytes: &[u8]) -> u8 {
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let is_full = |line: &&[u8]| !line.iter().all(u8::is_ascii_whitespace);
    let first = text.split(|&byte| byte == b'\n' || byte == b'\r').find(is_full);
    let line = String::from_utf8_lossy(first.unwrap_or_default());
    let columns = |separator: &char| {
        let names = line.split(*separator).map(|name| name.trim().trim_matches('"').trim());
        let is_known = |name: &&str| COLUMNS.iter().any(|column| name.eq_ignore_ascii_case(column));
        (names.clone().filter(is_known).count(), names.count())
    };
    // Of equals the last one is the greatest.
    SEPARATORS.into_iter().rev().max_by_key(columns).unwrap_or(',') as u8
}

/// A program whose tables of flows are often tried as label tables.
struct Foreign {
    name: &'static str,
    /// Its column, ours, and what must be done to its values, if anything.
    columns: &'static [(&'static str, &'static str, &'static str)],
}

const SECONDS: &str = "seconds: multiply by 1,000,000";
const MILLISECONDS: &str = "milliseconds: multiply by 1,000, and better export microseconds";

const FOREIGN: [Foreign; 5] = [
    Foreign {
        name: "Zeek's conn.log",
        columns: &[
            ("id.orig_h", "src_ip", ""),
            ("id.orig_p", "src_port", ""),
            ("id.resp_h", "dst_ip", ""),
            ("id.resp_p", "dst_port", ""),
            ("ts", "first_ts_us", SECONDS),
        ],
    },
    Foreign {
        name: "nfstream",
        columns: &[
            ("protocol", "proto", ""),
            ("bidirectional_first_seen_ms", "first_ts_us", MILLISECONDS),
            ("application_name", "label", ""),
        ],
    },
    Foreign {
        name: "CICFlowMeter",
        columns: &[
            ("Src IP", "src_ip", ""),
            ("Source IP", "src_ip", ""),
            ("Src Port", "src_port", ""),
            ("Source Port", "src_port", ""),
            ("Dst IP", "dst_ip", ""),
            ("Destination IP", "dst_ip", ""),
            ("Dst Port", "dst_port", ""),
            ("Destination Port", "dst_port", ""),
            ("Protocol", "proto", ""),
            ("Timestamp", "first_ts_us", "a date in local time, often without seconds"),
        ],
    },
    Foreign {
        name: "tshark",
        columns: &[
            ("ip.src", "src_ip", ""),
            ("ip.dst", "dst_ip", ""),
            ("ip.proto", "proto", ""),
            ("frame.time_epoch", "first_ts_us", SECONDS),
        ],
    },
    Foreign {
        name: "`serveflow features` or `run`",
        columns: &[
            ("src", "src_ip", ""),
            ("dst", "dst_ip", ""),
            ("first_ts", "first_ts_us", SECONDS),
        ],
    },
];

/// What is to be renamed where the header is that of another program, or what else is odd.
fn hint(header: &StringRecord) -> Option<String> {
    let first = header.get(0).unwrap_or_default();
    if first.starts_with("#separator") {
        return Some(
            "this is a Zeek log as Zeek writes it: make the names behind `#fields` the header, and \
             leave out the other lines that begin with `#`"
                .to_owned(),
        );
    }
    if first.starts_with('#') {
        return Some("a label table has no comment lines".to_owned());
    }
    let at = |name: &str| header.iter().any(|found| found.trim().eq_ignore_ascii_case(name));
    let matching = |foreign: &&Foreign| {
        // Two programs may share a column, so that one that is ours already counts for nobody.
        foreign.columns.iter().filter(|(theirs, ..)| at(theirs)).count()
    };
    let found = FOREIGN.iter().rev().max_by_key(matching).filter(|best| matching(best) > 1)?;
    let rename = |(theirs, ours, note): &(&str, &str, &str)| match *note {
        "" => format!("`{theirs}` to `{ours}`"),
        note => format!("`{theirs}` to `{ours}` ({note})"),
    };
    let renamed = found.columns.iter().filter(|(theirs, ..)| at(theirs));
    let to_add = ["file", "label", "proto"].into_iter().filter(|ours| {
        !at(ours) && !found.columns.iter().any(|(theirs, own, _)| own == ours && at(theirs))
    });
    let to_add: Vec<String> = to_add.map(|column| format!("`{column}`")).collect();
    let adds = match &to_add[..] {
        [] => String::new(),
        columns => format!("; add {}", columns.join(" and ")),
    };
    Some(format!(
        "these look like columns of {}: rename {}{adds}",
        found.name,
        renamed.map(rename).collect::<Vec<_>>().join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(header: &str) -> String {
        let record = StringRecord::from(header.split(',').collect::<Vec<_>>());
        Header::new(Path::new("t.csv"), &record).unwrap_err().to_string()
    }

    #[test]
    fn the_separator_is_the_one_that_finds_the_columns() {
        let plain = COLUMNS.join(",");
        for (text, expected) in [
            (plain.clone(), b','),
            (plain.replace(',', ";"), b';'),
            (format!("\u{feff}\r\n \n{}", plain.replace(',', "\t")), b'\t'),
            (plain.replace(',', "\";\""), b';'),
            (String::new(), b','),
            ("file;label".to_owned(), b';'),
            ("a;b;c;d".to_owned(), b';'),
            ("a,b,c;d".to_owned(), b','),
            // What is in other columns' names does not decide.
            (format!("{plain},a;b;c;d"), b','),
        ] {
            assert_eq!(separator(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn all_missing_columns_are_named_at_once_with_what_to_rename() {
        for (header, words) in [
            ("a,b", &["`file`, `label`, `proto`, `src_ip`", "found `a`, `b`"][..]),
            (
                "ts,uid,id.orig_h,id.orig_p,id.resp_h,id.resp_p,proto,service",
                &[
                    "Zeek's conn.log",
                    "`id.orig_h` to `src_ip`",
                    "`ts` to `first_ts_us`",
                    "add `file`",
                ],
            ),
            (
                "id,src_ip,src_port,dst_ip,dst_port,protocol,bidirectional_first_seen_ms",
                &["nfstream", "`protocol` to `proto`", "multiply by 1,000", "`file` and `label`"],
            ),
            (
                "Flow ID,Src IP,Src Port,Dst IP,Dst Port,Protocol,Timestamp,Label",
                &["CICFlowMeter", "`Dst IP` to `dst_ip`", "add `file`"],
            ),
            (
                "flow,src,src_port,dst,dst_port,proto,first_ts,label",
                &["features", "`src` to `src_ip`"],
            ),
            ("#separator \\x09", &["Zeek log", "#fields"]),
            ("# made by hand", &["comment"]),
        ] {
            let message = refused(header);
            for word in words {
                assert!(message.contains(word), "{header}: no `{word}` in: {message}");
            }
        }
    }

    #[test]
    fn a_column_may_be_written_in_other_letters_but_its_own_name_wins() {
        let header = StringRecord::from(
            COLUMNS
                .iter()
                .map(|name| name.to_uppercase())
                .chain(["label".to_owned()])
                .collect::<Vec<_>>(),
        );
        let found = Header::new(Path::new("t.csv"), &header).expect("all columns are there");
        assert_eq!((found.positions[0], found.positions[2]), (Some(0), Some(COLUMNS.len())));
    }
}
