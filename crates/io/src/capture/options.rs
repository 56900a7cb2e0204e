//! The options at the end of a pcapng block.

use super::order::Order;

/// The value of the first option with this code.
///
/// A malformed list ends where it stops making sense: the frame before it is whole all the same.
pub(crate) fn find(order: Order, mut options: &[u8], code: u16) -> Option<&[u8]> {
    while options.len() >= 4 {
        let found = order.u16(options, 0);
        let len = usize::from(order.u16(options, 2));
        if found == 0 {
            return None;
        }
        let value = options.get(4..4 + len)?;
        if found == code {
            return Some(value);
        }
        options = options.get(4 + len.next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_a_code_is_found_behind_others() {
        let options = [2, 0, 3, 0, 7, 8, 9, 0, 1, 0, 2, 0, b'h', b'i', 0, 0, 1, 0, 0, 0];
        assert_eq!(find(Order::Little, &options, 1), Some(&b"hi"[..]));
        assert_eq!(find(Order::Little, &options, 2), Some(&[7, 8, 9][..]));
        assert_eq!(find(Order::Little, &options, 3), None);
    }

    #[test]
    fn the_list_ends_at_its_end_mark_and_where_it_is_damaged() {
        assert_eq!(find(Order::Big, &[0, 0, 0, 0, 0, 1, 0, 0], 1), None);
        assert_eq!(find(Order::Big, &[0, 1, 0, 5, 1, 2, 3, 4], 1), None);
        assert_eq!(find(Order::Big, &[0, 2, 0, 3, 1, 2, 3], 1), None);
        assert_eq!(find(Order::Big, &[0, 1], 1), None);
    }
}
