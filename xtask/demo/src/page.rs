//! How it looks. Colour on a terminal alone.

use std::io::IsTerminal as _;

fn paint(style: &str, text: &str) -> String {
    let plain =
        !std::io::stdout().is_terminal() || std::env::var_os("NO_COLOR").is_some_and(|set| !set.is_empty());
    if plain { text.to_owned() } else { format!("\x1b[{style}m{text}\x1b[0m") }
}

/// A new step.
pub(crate) fn heading(number: usize, text: &str) {
    println!("\n{} {}", paint("1;36", &format!("{number:>2}")), paint("1", text));
}

/// What is typed.
pub(crate) fn typed(text: &str) {
    println!("   {} {text}", paint("36", "$"));
}

/// What the command printed.
pub(crate) fn printed(text: &str) {
    text.lines()
        .filter(|line| !line.trim().is_empty())
        .for_each(|line| println!("     {}", paint("2", line)));
}

/// What happens elsewhere.
pub(crate) fn meanwhile(text: &str) {
    println!("   {} {text}", paint("35", "·"));
}

/// What was claimed and holds.
pub(crate) fn holds(text: &str) {
    println!("   {} {text}", paint("32", "✓"));
}

/// The vault file before and after.
pub(crate) fn vault(text: &str) {
    println!("   {} {text}", paint("33", "vault"));
}

/// The line that ends a demo in which something did not hold.
pub(crate) fn failed(text: &str) {
    println!("\n{} {text}", paint("1;31", "demo failed:"));
}
