//! A QR code of half blocks, for a telephone to read from the terminal.

use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};

/// The code for `text`, its quiet zone included, or `None` if it would not fit into `columns` by `rows`.
///
/// Light modules are drawn as full blocks: terminals are mostly dark, and readers want dark on light.
pub(crate) fn render(text: &str, columns: usize, rows: usize) -> Option<String> {
    // The lowest level of error correction gives the smallest code, and a screen has no scratches.
    let code = QrCode::with_error_correction_level(text.as_bytes(), EcLevel::L).ok()?;
    let picture = code
        .render::<Dense1x2>()
        .dark_color(Dense1x2::Light)
        .light_color(Dense1x2::Dark)
        .quiet_zone(true)
        .build();
    let width = picture.lines().map(|line| line.chars().count()).max()?;
    (width <= columns && picture.lines().count() <= rows).then_some(picture)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_url_fits_a_terminal_of_80_by_24() {
        let picture = render("https://tenant.eu.auth0.com/activate?user_code=ABCD-EFGH", 80, 24).unwrap();
        assert!(picture.lines().count() > 10);
        assert!(picture.chars().all(|c| matches!(c, ' ' | '▀' | '▄' | '█' | '\n')), "only half blocks");
        // The quiet zone is light, and light is drawn.
        assert!(picture.lines().next().unwrap().chars().all(|c| c == '█'));
    }

    #[test]
    fn what_does_not_fit_is_not_drawn() {
        assert_eq!(render("https://tenant.eu.auth0.com/activate?user_code=ABCD-EFGH", 20, 24), None);
        assert_eq!(render("https://tenant.eu.auth0.com/activate?user_code=ABCD-EFGH", 80, 8), None);
        assert_eq!(render(&"x".repeat(5000), 1000, 1000), None);
    }
}
