//! Header words of a packet, read back as the columns that the nPrint tool prints.

use serveflow_core::features::layout::HeaderLayout;
use serveflow_core::parse::Parsed;

/// Names of a layout's columns, in order.
pub fn column_names(layout: &HeaderLayout) -> Vec<String> {
    let mut names = Vec::new();
    layout.each_bit(|field, bit, _, _| names.push(format!("{field}_{bit}")));
    names
}

/// A packet's words, as `HeaderLayout::write` makes them.
pub fn packet_words(layout: &HeaderLayout, frame: &[u8], parsed: &Parsed) -> Vec<u32> {
    let mut words = vec![0; layout.packet_words()];
    layout.write(frame, parsed, &mut words);
    words
}

/// A packet's columns: -1, 0 or 1.
pub fn column_values(layout: &HeaderLayout, words: &[u32]) -> Vec<i8> {
    let mut values = Vec::new();
    layout.each_bit(|_, _, word, bit| {
        let (presence_word, presence_bit) = layout.presence(word);
        let present = words[presence_word] >> presence_bit & 1 == 1;
        let value = (words[word] >> (31 - bit) & 1) as i8;
        assert!(present || value == 0, "what is absent is zero");
        values.push(if present { value } else { -1 });
    });
    values
}
