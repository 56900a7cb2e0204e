//! The rules of ARCHITECTURE.md that a machine can hold. Each rule names every place that breaks
//! it, and has a test of its own that shows it can fail.

/// The list that the tests of the help use too.
#[path = "../src/commands/house_words.rs"]
mod house_words;

mod tidy {
    pub(crate) mod code_rules;
    pub(crate) mod house_rules;
    pub(crate) mod manifest_rules;
    pub(crate) mod scan;
    pub(crate) mod text_rules;
    pub(crate) mod tree;

    mod scan_tests;
}

use tidy::tree::Tree;
use tidy::{code_rules, house_rules, manifest_rules, text_rules};

fn hold(found: &[String]) {
    assert!(found.is_empty(), "{} findings:\n{}", found.len(), found.join("\n"));
}

#[test]
fn the_rules_look_at_something() {
    let tree = Tree::here();
    assert!(tree.rust().len() > 5, "the crates' sources are found");
    assert!(tree.manifests().len() >= 10, "the crates' manifests are found");
}

#[test]
fn crates_depend_on_each_other_as_drawn() {
    hold(&manifest_rules::wrong_arrows(&Tree::here().manifests()));
}

#[test]
fn the_runtime_can_be_embedded_without_the_command_line() {
    hold(&manifest_rules::heavy_runtime(&Tree::here().manifests()));
}

#[test]
fn every_crate_shares_the_lints() {
    hold(&manifest_rules::missing_lints(&Tree::here().manifests()));
}

#[test]
fn files_are_short() {
    hold(&code_rules::long_files(&Tree::here().rust()));
}

#[test]
fn functions_are_short() {
    hold(&code_rules::long_functions(&Tree::here().rust()));
}

#[test]
fn lines_are_short() {
    let tree = Tree::here();
    let sources = tree.texts(text_rules::is_source);
    assert!(sources.len() > 500, "Rust, Python, TOML and scripts: {}", sources.len());
    hold(&text_rules::long_lines(&sources));
}

#[test]
fn public_types_have_names_of_their_own() {
    hold(&code_rules::twin_types(&Tree::here().rust()));
}

#[test]
fn users_read_words_of_the_field() {
    let tree = Tree::here();
    hold(&house_rules::in_strings(&tree.rust()));
    let documents = tree.texts(house_rules::is_document);
    assert!(documents.len() > 10, "the documents are found: {}", documents.len());
    hold(&house_rules::in_documents(&documents));
}

#[test]
fn unsafe_stays_in_io() {
    hold(&code_rules::stray_unsafe(&Tree::here().rust()));
}

#[test]
fn no_clock_is_read_below_the_worker() {
    hold(&code_rules::clock_calls(&Tree::here().rust()));
}

#[test]
fn the_core_only_computes() {
    hold(&code_rules::core_calls(&Tree::here().rust()));
}

#[test]
fn no_thread_is_taken_for_granted() {
    hold(&code_rules::panicking_spawns(&Tree::here().rust()));
}

#[test]
fn links_in_documents_lead_somewhere() {
    let tree = Tree::here();
    let documents = tree.texts(|path| path.ends_with(".md"));
    hold(&text_rules::dead_links(&documents, &tree.entries));
}

#[test]
fn no_file_names_one_machine() {
    let tree = Tree::here();
    hold(&text_rules::machine_names(&tree.texts(|_| true)));
}

#[test]
fn data_is_small() {
    hold(&text_rules::too_much_data(&Tree::here().entries));
}

#[test]
fn data_has_an_origin_and_a_licence() {
    let tree = Tree::here();
    let notes = tree.texts(|path| path.ends_with("README.md") || path.ends_with("ORIGIN"));
    hold(&text_rules::data_without_origin(&tree.entries, &notes));
}
