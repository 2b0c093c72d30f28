//! Which interop stories a name means. A name that means none is a mistake: running nothing would pass.

use crate::shell::Cmd;

/// Where the stories with foreign clients are in the test binary.
const FOLDER: &str = "interop::";

/// What selects the stories whose name contains `name`, or all of them: arguments for the test binary.
///
/// # Errors
/// When there is none, or the test binary does not build.
pub(crate) fn named(name: Option<&str>) -> Result<Vec<String>, String> {
    let Some(name) = name else { return Ok(vec![FOLDER.to_owned()]) };
    // Built apart from being listed, so that what the compiler says is seen.
    Cmd::cargo("test --workspace --test it --no-run").run()?;
    let listing = Cmd::cargo("test --workspace --test it -- --list").quiet()?;
    among(&listing, name)
}

/// Picks from what the test binary lists, a `path::of::the_story: test` a line.
fn among(listing: &str, name: &str) -> Result<Vec<String>, String> {
    let tests = listing.lines().filter_map(|line| line.strip_suffix(": test"));
    let stories: Vec<&str> = tests.filter(|test| test.starts_with(FOLDER)).collect();
    let meant: Vec<String> = stories.iter().filter(|story| story.contains(name)).map(|&story| story.into()).collect();
    if meant.is_empty() {
        return Err(format!("no story's name contains {name:?}; there are:\n  {}", stories.join("\n  ")));
    }
    Ok(meant)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: &str = "interop::they_seed::aria2_seeds: test\ninterop::we_seed::aria2_fetches: test\n\
                           stories::get::aria2_is_not_foreign_here: test\n\n3 tests, 0 benchmarks\n";

    #[test]
    fn a_name_means_the_stories_that_contain_it_and_none_but_those_with_foreign_clients() {
        assert_eq!(among(LISTING, "they").unwrap(), ["interop::they_seed::aria2_seeds"]);
        assert_eq!(among(LISTING, "aria2").unwrap().len(), 2);
    }

    #[test]
    fn a_name_without_a_story_is_a_mistake_that_names_the_stories() {
        for name in ["deluge", "not_foreign"] {
            let mistake = among(LISTING, name).unwrap_err();
            assert!(mistake.contains(name) && mistake.contains("interop::we_seed::aria2_fetches"), "{mistake}");
            assert!(!mistake.contains("stories::get"), "{mistake}");
        }
    }
}
