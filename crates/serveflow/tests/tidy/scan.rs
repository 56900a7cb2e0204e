//! A reader of Rust source that knows just enough for the rules: what is code, what is not, where
//! functions and imports stand. It is no parser; what it does not understand it leaves alone.

use std::ops::Range;

/// The line of a byte, counted from 1.
pub(crate) fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()[..at].iter().filter(|&&byte| byte == b'\n').count() + 1
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// The source with comments and the insides of string and character literals blanked: same length,
/// same lines.
pub(crate) fn code_of(source: &str) -> String {
    let mut out = source.as_bytes().to_vec();
    for (piece, _) in pieces(source) {
        for byte in &mut out[piece] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
    }
    String::from_utf8(out)
        .expect("whole literals and comments are blanked, so what is left is UTF-8")
}

/// The string literals of a source, with their quotes.
pub(crate) fn strings(source: &str) -> Vec<Range<usize>> {
    let all = pieces(source).into_iter().filter(|&(_, is_string)| is_string);
    all.map(|(piece, _)| piece).collect()
}

/// Comments and literals, and whether each is a string.
fn pieces(source: &str) -> Vec<(Range<usize>, bool)> {
    let bytes = source.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let (end, is_string) = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => (line_end(bytes, at), false),
            b'/' if bytes[at..].starts_with(b"/*") => (block_comment_end(bytes, at), false),
            b'"' => (string_end(bytes, at), true),
            b'r' => (raw_string_end(bytes, at).unwrap_or(at), true),
            b'\'' => (char_end(bytes, at).unwrap_or(at), false),
            _ => (at, false),
        };
        if end > at {
            found.push((at..end, is_string));
        }
        at = end.max(at + 1);
    }
    found
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    at + rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len())
}

fn block_comment_end(bytes: &[u8], mut at: usize) -> usize {
    let mut depth = 0;
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
        } else {
            at += 1;
        }
        if depth == 0 {
            return at;
        }
    }
    bytes.len()
}

fn string_end(bytes: &[u8], quote: usize) -> usize {
    let mut at = quote + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The end of `r"..."`, `br#"..."#` and the like, when the `r` at this place opens one.
fn raw_string_end(bytes: &[u8], r: usize) -> Option<usize> {
    let before = bytes[..r].iter().rev().take_while(|&&byte| is_word(byte)).count();
    let prefix_fits = before == 0 || (before == 1 && matches!(bytes[r - 1], b'b' | b'c'));
    let hashes = bytes[r + 1..].iter().take_while(|&&byte| byte == b'#').count();
    let quote = r + 1 + hashes;
    if !prefix_fits || bytes.get(quote) != Some(&b'"') {
        return None;
    }
    let mut closing = vec![b'"'];
    closing.resize(1 + hashes, b'#');
    let found = bytes[quote + 1..].windows(closing.len()).position(|part| part == closing);
    Some(found.map_or(bytes.len(), |inside| quote + 1 + inside + closing.len()))
}

/// The end of a character literal; `None` when the quote opens a lifetime.
fn char_end(bytes: &[u8], quote: usize) -> Option<usize> {
    let first = *bytes.get(quote + 1)?;
    if first == b'\\' {
        // The character after the backslash may itself be a quote.
        let rest = bytes.get(quote + 3..)?;
        return Some(quote + 4 + rest.iter().position(|&byte| byte == b'\'')?);
    }
    let width = match first {
        0..=0x7f => 1,
        0x80..=0xdf => 2,
        0xe0..=0xef => 3,
        _ => 4,
    };
    (bytes.get(quote + 1 + width) == Some(&b'\'')).then_some(quote + 2 + width)
}

/// The code with each item under `#[cfg(test)]` blanked.
pub(crate) fn without_tests(code: &str) -> String {
    let mut out = code.as_bytes().to_vec();
    for item in items_under(code, "#[cfg(test)]") {
        out[item].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
    }
    String::from_utf8(out).expect("whole items are blanked, so what is left is UTF-8")
}

/// The items that begin with an attribute, from it to their ends. The attribute may be cut short.
pub(crate) fn items_under(code: &str, attribute: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(start) = code[from..].find(attribute).map(|at| from + at) {
        let after = start + attribute.len();
        let end = match code[after..].find(['{', ';']).map(|at| after + at) {
            Some(open) if code.as_bytes()[open] == b'{' => block_end(code, open),
            Some(semicolon) => semicolon + 1,
            None => code.len(),
        };
        found.push(start..end);
        from = end;
    }
    found
}

/// The byte after the brace that closes the one at `open`.
fn block_end(code: &str, open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    code.len()
}

/// Every place where `word` stands as a whole word; it may itself hold `::`, or end in `!`.
pub(crate) fn words(code: &str, word: &str) -> Vec<usize> {
    let bytes = code.as_bytes();
    let starts = code.match_indices(word).map(|(at, _)| at);
    starts
        .filter(|&at| {
            let after = bytes.get(at + word.len()).copied().unwrap_or(b' ');
            let ends = !is_word(word.as_bytes()[word.len() - 1]) || !is_word(after);
            ends && (at == 0 || !is_word(bytes[at - 1]))
        })
        .collect()
}

/// Each function with a body: its name, and its bytes from `fn` to the closing brace.
pub(crate) fn functions(code: &str) -> Vec<(String, Range<usize>)> {
    let mut found = Vec::new();
    for start in words(code, "fn") {
        let rest = code[start + 2..].trim_start();
        let name: String =
            rest.chars().take_while(|&c| c == '$' || c == '_' || c.is_alphanumeric()).collect();
        // `fn(` is a type, not a function.
        if name.is_empty() {
            continue;
        }
        if let Some(open) = body_open(code, start) {
            found.push((name, start..block_end(code, open)));
        }
    }
    found
}

/// The brace that opens a function's body; `None` for a declaration without one.
fn body_open(code: &str, start: usize) -> Option<usize> {
    let mut depth = 0_i32;
    for (at, byte) in code.bytes().enumerate().skip(start) {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth -= 1,
            b'{' if depth == 0 => return Some(at),
            b';' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

/// Every path that a `use` brings in, written out in full, with the byte where its last part
/// stands.
pub(crate) fn imports(code: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for start in words(code, "use") {
        let from = start + 3;
        let end = code[from..].find(';').map_or(code.len(), |at| from + at);
        import_tree(code, from..end, &mut found);
    }
    found
}

fn import_tree(code: &str, range: Range<usize>, found: &mut Vec<(String, usize)>) {
    let bytes = code.as_bytes();
    let mut parts: Vec<&str> = Vec::new();
    let mut groups: Vec<usize> = vec![0];
    let mut last = range.start;
    let mut at = range.start;
    while at <= range.end {
        let byte = if at < range.end { bytes[at] } else { b',' };
        let group = groups.last().copied().unwrap_or(0);
        if is_word(byte) || byte == b'*' {
            let width =
                code[at..range.end].bytes().take_while(|&b| is_word(b) || b == b'*').count();
            parts.push(&code[at..at + width]);
            last = at;
            at += width;
            continue;
        }
        if matches!(byte, b',' | b'}') {
            if parts.len() > group {
                let named = parts.iter().position(|&part| part == "as").unwrap_or(parts.len());
                found.push((parts[..named].join("::"), last));
            }
            parts.truncate(group);
        }
        if byte == b'}' && groups.len() > 1 {
            groups.pop();
        } else if byte == b'{' {
            groups.push(parts.len());
        }
        at += 1;
    }
}
