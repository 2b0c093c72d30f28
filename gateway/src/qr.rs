//! A text as a QR code (ISO/IEC 18004): a picture for pages, and letters for a terminal.
//!
//! Both have the least redundancy there is (level L): a code on a screen gets no stains, and fewer modules are larger ones.

use qrcode::render::svg;
use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};

/// Longest text drawn, in bytes. A code holds 2953, but one of more than this is too fine for the camera of a phone.
pub const MAX_TEXT_BYTES: usize = 1024;

/// A text that is too long to be drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a QR code is made of {MAX_TEXT_BYTES} bytes at most, not of {0}")]
pub struct TooLong(usize);

/// The code as an SVG: black on white, with the margin that readers want, no style and no script.
///
/// # Errors
/// [`TooLong`].
pub fn picture(text: &str) -> Result<String, TooLong> {
    Ok(code(text)?.render::<svg::Color<'_>>().build())
}

/// The code as lines of block elements, two modules in each, with its margin. What is light is drawn, so it is for light
/// letters on a dark ground; most readers take it the other way round too.
///
/// # Errors
/// [`TooLong`].
pub fn letters(text: &str) -> Result<String, TooLong> {
    Ok(code(text)?.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build())
}

fn code(text: &str) -> Result<QrCode, TooLong> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(TooLong(text.len()));
    }
    QrCode::with_error_correction_level(text, EcLevel::L).map_err(|_| TooLong(text.len()))
}

/// Reads codes back with another program's eyes, for tests.
#[cfg(test)]
pub(crate) mod reading {
    /// Modules of the margin on each side.
    const MARGIN: usize = 4;
    /// Pixels of a module in a picture.
    const MODULE: usize = 8;

    /// What a picture says.
    pub(crate) fn picture(svg: &str) -> String {
        let width = svg.split(" width=\"").nth(1).unwrap().split('"').next().unwrap();
        let size = width.parse::<usize>().unwrap() / MODULE;
        let mut dark = vec![vec![false; size]; size];
        for square in svg.rsplit(" d=\"").next().unwrap().split('M').skip(1) {
            let (left, below) = square.split_once(' ').unwrap();
            let top = below.split('h').next().unwrap();
            dark[top.parse::<usize>().unwrap() / MODULE][left.parse::<usize>().unwrap() / MODULE] = true;
        }
        decoded(&dark)
    }

    /// What lines of block elements say on a dark ground.
    pub(crate) fn letters(lines: &str) -> String {
        let row = |line: &str, drawn: [char; 2]| line.chars().map(|it| !drawn.contains(&it)).collect::<Vec<_>>();
        let dark: Vec<_> = lines.lines().flat_map(|line| [row(line, ['▀', '█']), row(line, ['▄', '█'])]).collect();
        decoded(&dark)
    }

    fn decoded(dark: &[Vec<bool>]) -> String {
        let size = dark[0].len() - 2 * MARGIN;
        let (before, after) = (&dark[..MARGIN], &dark[size + MARGIN..][..MARGIN]);
        assert!(before.iter().chain(after).all(|row| !row[MARGIN..size].contains(&true)), "the margin is light");
        let grid = rqrr::SimpleGrid::from_func(size, |x, y| dark[y + MARGIN][x + MARGIN]);
        rqrr::Grid::new(grid).decode().unwrap().1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_reader_finds_the_text_in_both() {
        for text in [
            "http://127.0.0.1:8420/".to_owned(),
            "https://media.example.org/bt/abababababababababababababababababababab/film.mkv?exp=1&sig=x_-".to_owned(),
            format!("https://media.example.org/{}", "aB%C3%BC".repeat(40)),
        ] {
            assert_eq!(reading::picture(&picture(&text).unwrap()), text);
            assert_eq!(reading::letters(&letters(&text).unwrap()), text);
        }
    }

    #[test]
    fn a_text_of_the_greatest_length_is_drawn_and_a_longer_one_is_not() {
        let longest = "x".repeat(MAX_TEXT_BYTES);
        assert!(picture(&longest).is_ok() && letters(&longest).is_ok());
        assert_eq!(picture(&format!("{longest}x")), Err(TooLong(MAX_TEXT_BYTES + 1)));
        assert_eq!(letters(&format!("{longest}x")), Err(TooLong(MAX_TEXT_BYTES + 1)));
    }
}
