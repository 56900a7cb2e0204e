//! What names say: an order that counts, and a capture's name without its endings.

use std::cmp::Ordering;
use std::path::Path;

/// Endings of captures and of compressions.
const ENDINGS: [&str; 7] = ["gz", "zst", "pcap", "pcapng", "cap", "dmp", "ntar"];

/// Compares paths as people sort them: runs of digits count as numbers, so `cap.pcap2` stands
/// before `cap.pcap10`, and `cap.pcap` before both.
#[must_use]
pub fn natural_order(a: &Path, b: &Path) -> Ordering {
    let (left, right) = (a.as_os_str().as_encoded_bytes(), b.as_os_str().as_encoded_bytes());
    let (mut a_rest, mut b_rest) = (left, right);
    loop {
        let (Some(&x), Some(&y)) = (a_rest.first(), b_rest.first()) else {
            return a_rest.len().cmp(&b_rest.len()).then_with(|| left.cmp(right));
        };
        if x.is_ascii_digit() && y.is_ascii_digit() {
            let ((a_digits, a_behind), (b_digits, b_behind)) = (digits(a_rest), digits(b_rest));
            let by_value = a_digits.len().cmp(&b_digits.len()).then(a_digits.cmp(b_digits));
            if by_value.is_ne() {
                return by_value;
            }
            (a_rest, b_rest) = (a_behind, b_behind);
        } else if x == y {
            (a_rest, b_rest) = (&a_rest[1..], &b_rest[1..]);
        } else {
            return x.cmp(&y);
        }
    }
}

/// The number that bytes begin with, without leading zeros, and what stands behind it.
fn digits(bytes: &[u8]) -> (&[u8], &[u8]) {
    let len = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, behind) = bytes.split_at(len);
    let zeros = number.iter().take_while(|&&byte| byte == b'0').count();
    (&number[zeros..], behind)
}

/// A capture's file name without what says that it is a capture: endings of formats and
/// compressions in any case, and the number of a rotated file (`cap.pcap3`, `cap.pcap.3`) or of a
/// part (`dns.p3.pcap`).
#[must_use]
pub fn capture_name(file_name: &str) -> &str {
    let mut name = file_name;
    let mut had_ending = false;
    while let Some((front, ending)) = name.rsplit_once('.') {
        let is_known = is_ending(ending)
            || is_rotated(ending)
            || (is_number(ending) && ends_as_capture(front))
            || (had_ending && ending.strip_prefix(['p', 'P']).is_some_and(is_number));
        if !is_known || front.is_empty() {
            break;
        }
        had_ending = true;
        name = front;
    }
    name
}

/// Whether a file is named as captures are.
#[must_use]
pub fn is_named_as_capture(path: &Path) -> bool {
    path.file_name().is_some_and(|name| {
        let name = name.to_string_lossy();
        capture_name(&name).len() < name.len()
    })
}

fn is_ending(ending: &str) -> bool {
    ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known))
}

/// Whether an ending is a format's with a number behind it, as tcpdump names the files of `-C`.
fn is_rotated(ending: &str) -> bool {
    let format = ending.trim_end_matches(|c: char| c.is_ascii_digit());
    format.len() < ending.len() && is_ending(format)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn ends_as_capture(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, ending)| is_ending(ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_names_count_as_numbers() {
        let sorted = [
            "a/cap.pcap",
            "a/cap.pcap1",
            "a/cap.pcap2",
            "a/cap.pcap10",
            "a/cap.pcap11",
            "a/x",
            "b1/9",
            "b01/8",
            "b2",
            "b02",
            "b10",
            "c",
        ];
        let mut shuffled = sorted;
        shuffled.reverse();
        shuffled.sort_by(|a, b| natural_order(Path::new(a), Path::new(b)));
        // Where numbers are equal, what stands behind them decides, and at last the spelling.
        let expected = [
            "a/cap.pcap",
            "a/cap.pcap1",
            "a/cap.pcap2",
            "a/cap.pcap10",
            "a/cap.pcap11",
            "a/x",
            "b01/8",
            "b1/9",
            "b02",
            "b2",
            "b10",
            "c",
        ];
        assert_eq!(shuffled, expected);
    }

    #[test]
    fn a_name_loses_what_says_that_it_is_a_capture_and_nothing_else() {
        let cases = [
            ("google.com.pcap", "google.com"),
            ("google.maps.pcap", "google.maps"),
            ("file transfer.pcap", "file transfer"),
            ("dns.PCAP", "dns"),
            ("dns.pcap.gz", "dns"),
            ("dns.p1.pcap.zst", "dns"),
            ("dns.pcap1", "dns"),
            ("dns.pcap.1", "dns"),
            ("dns.pcap12.gz", "dns"),
            ("v1.2", "v1.2"),
            ("dns.p1", "dns.p1"),
            ("dns", "dns"),
            (".pcap", ".pcap"),
        ];
        for (file, name) in cases {
            assert_eq!(capture_name(file), name, "{file}");
            let is_named = file != name;
            assert_eq!(is_named_as_capture(Path::new(file)), is_named, "{file}");
        }
    }
}
