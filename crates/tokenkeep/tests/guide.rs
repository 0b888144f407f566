//! The guide shows the example that the crate's documentation runs.

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
