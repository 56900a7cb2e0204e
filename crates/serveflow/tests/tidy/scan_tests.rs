//! What the reader of Rust source takes for code.

use super::scan::{code_of, functions, imports, strings, without_tests};

#[test]
fn comments_and_literals_are_blanked_and_nothing_else() {
    // The parts in brackets must go, the rest must stay.
    let cases = [
        "a ⟦// b {⟧\nc",
        "a ⟦/* b /* c */ d */⟧ e",
        "a ⟦\"b \\\" { // c\"⟧ d",
        "a ⟦r#\"b \" { \"#⟧ c",
        "b⟦r\"\\\"⟧ + ⟦\"x\"⟧",
        "r#type + 1",
        "⟦'{'⟧ + ⟦'\\''⟧ + ⟦'\\u{7b}'⟧ + ⟦'ü'⟧ + ⟦'\\\\'⟧",
        "fn f<'a>(x: &'a u8) {}",
        "for_r⟦\"x\\\"\"⟧",
    ];
    for case in cases {
        let source = case.replace(['⟦', '⟧'], "");
        let parts = case.split('⟦').enumerate();
        let parts = parts.map(|(number, part)| match part.split_once('⟧') {
            Some((gone, stays)) => " ".repeat(gone.len()) + stays,
            None => {
                assert_eq!(number, 0, "{case}");
                part.to_owned()
            }
        });
        assert_eq!(code_of(&source), parts.collect::<String>(), "{source}");
    }
}

#[test]
fn strings_are_found_with_their_quotes() {
    let source = "a(\"b\", 'c', \"d \\\" e\"); // \"f\"\nr#\"g\"#;";
    let found: Vec<&str> = strings(source).into_iter().map(|at| &source[at]).collect();
    assert_eq!(found, ["\"b\"", "\"d \\\" e\"", "r#\"g\"#"]);
}

#[test]
fn functions_are_found_with_their_bodies() {
    let source = "fn a();\nfn b(f: fn(u8) -> u8) -> [u8; { 2 }] where u8: Copy { fn c() {} }\nlet \
                  d: fn();\n";
    let code = code_of(source);
    let found: Vec<(String, &str)> =
        functions(&code).into_iter().map(|(name, range)| (name, &source[range])).collect();
    let b = "fn b(f: fn(u8) -> u8) -> [u8; { 2 }] where u8: Copy { fn c() {} }";
    assert_eq!(found, [("b".to_owned(), b), ("c".to_owned(), "fn c() {}")]);
}

#[test]
fn imports_are_written_out() {
    let code = "pub(crate) use a::{b, c::{self, d as e}, f::*};\nuse g;\nuse h::i as j;";
    let names: Vec<String> = imports(code).into_iter().map(|(name, _)| name).collect();
    for wanted in ["a::b", "a::c::self", "a::c::d", "a::f::*", "g", "h::i"] {
        assert!(names.iter().any(|name| name == wanted), "{wanted} is not among {names:?}");
    }
}

#[test]
fn items_for_tests_are_left_out() {
    let code = "a;\n#[cfg(test)]\nmod t {\n { b }\n}\nc;\n#[cfg(test)]\nuse d;\ne;\n";
    assert_eq!(without_tests(code).split_whitespace().collect::<Vec<_>>(), ["a;", "c;", "e;"]);
    assert_eq!(without_tests(code).lines().count(), code.lines().count());
}
