//! The guide and the README show what is run.

#![allow(missing_docs, reason = "tests")]

#[test]
fn the_guide_shows_the_example_that_is_run() {
    let example = include_str!("../src/example.md");
    let shown: Vec<&str> =
        example.lines().skip(1).take_while(|line| !line.starts_with('#') && *line != "```").collect();
    let shown = shown.join("\n");
    assert!(shown.contains("open_or_make_store") && shown.lines().count() <= 20, "{shown}");
    assert!(include_str!("../../../docs/embedding.md").contains(&format!("```rust\n{shown}\n```\n")));
}

#[test]
fn the_readme_shows_the_first_example_which_is_short() {
    let example = include_str!("../examples/first.rs");
    let shown = &example[example.find("use tokenkeep").unwrap_or_default()..];
    assert!(shown.contains("fn main") && shown.lines().count() < 15, "{shown}");
    assert!(include_str!("../../../README.md").contains(&format!("```rust\n{shown}```\n")));
}
