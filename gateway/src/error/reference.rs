//! The page of the documentation about errors, made from the list of their kinds.

use std::fmt::Write as _;

use super::ProblemKind;

const HEAD: &str = "\
# Errors

Every error that a client can see. Its `type` is `urn:swarmgate:problem:` with the word below, which stays the same from
release to release; `title` and `detail` are for people. Where asking again may help, `Retry-After` says when.

| status | type | title | when |
|---|---|---|---|
";

/// The reference of all errors, as Markdown.
#[must_use]
pub fn reference() -> String {
    let mut page = HEAD.to_owned();
    for kind in ProblemKind::ALL {
        let (status, slug) = (kind.status().as_u16(), kind.slug());
        writeln!(page, "| {status} | `{slug}` | {} | {} |", kind.title(), kind.meaning()).expect("a string takes all");
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_error_has_a_row_with_its_meaning() {
        let page = reference();
        assert_eq!(page.lines().filter(|line| line.contains(" | `")).count(), ProblemKind::ALL.len());
        assert!(
            page.contains("| 504 | `timed-out` | No source delivered the content in time | A deadline passed;"),
            "{page}"
        );
    }
}
