//! The order of labels, which decides the number of each class.
//!
//! Labels that are all numbers are ordered as numbers: every library that trains on numbers has
//! them so, and in the order of their text 10 would stand before 2.

/// Puts labels in order: as numbers if all of them are numbers, else as text.
pub fn sort_labels(labels: &mut [String]) {
    labels.sort();
    // Equal numbers stay in the order of their text, and whole ones are told apart to the last
    // digit.
    if labels.iter().all(|label| label.parse::<i128>().is_ok()) {
        labels.sort_by_key(|label| label.parse::<i128>().unwrap_or_default());
    } else if labels.iter().all(|label| number(label).is_some()) {
        let value = |label: &String| number(label).unwrap_or_default();
        labels.sort_by(|a, b| value(a).total_cmp(&value(b)));
    }
}

/// The labels in the order of their text, if they are all numbers and the order of these is
/// another.
#[must_use]
pub fn other_order(labels: &[String]) -> Option<Vec<String>> {
    let (mut text, mut number) = (labels.to_vec(), labels.to_vec());
    text.sort();
    sort_labels(&mut number);
    (text != number).then_some(text)
}

/// A number as tables and data frames spell it: no name of anything else reads as one.
fn number(label: &str) -> Option<f64> {
    let plain = |byte: u8| byte.is_ascii_digit() || b"+-.eE".contains(&byte);
    let has_digit = label.bytes().any(|byte| byte.is_ascii_digit());
    let value: f64 = label.parse().ok().filter(|_| has_digit && label.bytes().all(plain))?;
    value.is_finite().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sorted(labels: &[&str]) -> Vec<String> {
        let mut labels: Vec<String> = labels.iter().map(|&label| label.to_owned()).collect();
        sort_labels(&mut labels);
        labels
    }

    #[test]
    fn numbers_are_ordered_as_numbers_and_all_else_as_text() {
        assert_eq!(sorted(&["10", "9", "-1", "1", "2"]), ["-1", "1", "2", "9", "10"]);
        assert_eq!(sorted(&["10.0", "9.0", "1e1", "-1.5"]), ["-1.5", "9.0", "10.0", "1e1"]);
        assert_eq!(sorted(&["10", "9", "dns"]), ["10", "9", "dns"]);
        assert_eq!(sorted(&["inf", "10", "9"]), ["10", "9", "inf"]);
        assert_eq!(sorted(&["10", "9", ""]), ["", "10", "9"]);
        assert_eq!(sorted(&["e", "-", "10", "9"]), ["-", "10", "9", "e"]);
        let big =
            ["170141183460469231731687303715884105727", "9007199254740993", "9007199254740992"];
        assert_eq!(sorted(&big), [big[2], big[1], big[0]]);
    }

    #[test]
    fn another_order_is_told_where_text_has_one() {
        let other = |labels: &[&str]| other_order(&sorted(labels));
        assert_eq!(other(&["0", "1", "9"]), None);
        assert_eq!(other(&["dns", "10", "9"]), None);
        assert_eq!(other(&["9", "10"]), Some(vec!["10".to_owned(), "9".to_owned()]));
        assert_eq!(other(&["-1", "-2"]), Some(vec!["-1".to_owned(), "-2".to_owned()]));
    }

    proptest! {
        /// Whatever whole numbers there are, their order is that of a data frame's column.
        #[test]
        fn the_order_is_that_of_the_numbers(
            mut numbers in proptest::collection::btree_set(any::<i64>(), 0..40),
        ) {
            numbers.extend([3, 20]);
            for suffix in ["", ".0"] {
                let written: Vec<String> = numbers.iter().map(|n| format!("{n}{suffix}")).collect();
                let mut labels = written.clone();
                labels.sort();
                sort_labels(&mut labels);
                // As 64-bit floats some large ones are the same number.
                let own = |labels: &[String]| -> Vec<f64> {
                    labels.iter().map(|label| label.parse().unwrap()).collect()
                };
                prop_assert_eq!(own(&labels), own(&written));
                prop_assert!(other_order(&labels).is_some());
            }
        }
    }
}
