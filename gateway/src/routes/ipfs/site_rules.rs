//! `_redirects`: what a website does with paths that it does not have
//! (<https://specs.ipfs.tech/http-gateways/web-redirects-file/>).
//!
//! A rule is `from to [status]`, one a line. `from` has literal names, `:placeholders` for one name each, and a `*` at its
//! end for all that is left, which `to` calls `:splat`. The first rule that matches decides.

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use url::form_urlencoded;

use crate::links;

/// Longest file, in bytes, as the specification bounds it.
pub const MAX_FILE_BYTES: u64 = 64 * 1024;

/// The name under which a website has its rules.
pub const FILE_NAME: &str = "_redirects";

/// What cannot stand in a header as it is.
const NOT_IN_HEADERS: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>');

/// The rules of a website.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteRules(Vec<Rule>);

/// Why a file cannot be read as rules.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RulesError {
    /// Longer than [`MAX_FILE_BYTES`].
    #[error("redirects file size cannot exceed {MAX_FILE_BYTES} bytes")]
    TooLong,
    /// Not text.
    #[error("the file is not UTF-8")]
    Encoding,
    /// A line is no rule.
    #[error("line {line}: {why}")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// What a rule does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Serve what is at this path of the website, percent-encoded, with this status: 200, 404, 410 or 451.
    Serve(String, u16),
    /// Send the client to this URL with this status.
    Redirect(String, u16),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    from: Vec<Part>,
    to: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Name(String),
    Placeholder(String),
    /// All that is left.
    Splat,
}

impl SiteRules {
    /// Reads a file.
    ///
    /// # Errors
    /// [`RulesError`] when any line of it is wrong: the specification wants its author to know.
    pub fn parse(file: &[u8]) -> Result<Self, RulesError> {
        if file.len() as u64 > MAX_FILE_BYTES {
            return Err(RulesError::TooLong);
        }
        let text = std::str::from_utf8(file).map_err(|_| RulesError::Encoding)?;
        let lines = text.lines().map(str::trim).enumerate();
        let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let rule = |(index, line)| Rule::parse(line).map_err(|why| RulesError::Line { line: index + 1, why });
        lines.map(rule).collect::<Result<_, _>>().map(Self)
    }

    /// What to do with a path that the website does not have, still percent-encoded, and its query.
    #[must_use]
    pub fn decide(&self, path: &str, query: Option<&str>) -> Option<Verdict> {
        let names: Vec<_> = path.split('/').filter(|name| !name.is_empty()).collect();
        self.0.iter().find_map(|rule| {
            let found = rule.matches(&names)?;
            Some(rule.verdict(&found, query))
        })
    }
}

/// What the placeholders of a rule stand for, percent-encoded.
type Bindings<'a> = Vec<(&'a str, String)>;

impl Rule {
    fn parse(line: &str) -> Result<Self, &'static str> {
        let mut fields = line.split_ascii_whitespace();
        let from = fields.next().ok_or("it is empty")?;
        let to = fields.next().ok_or("a rule is: from to [status]")?;
        let status = fields.next().map_or(Ok(301), read_status)?;
        if fields.next().is_some() {
            return Err("a rule is: from to [status]");
        }
        let is_url = to.starts_with("https://") || to.starts_with("http://");
        let redirects = is_url && (301..=308).contains(&status);
        if !to.starts_with('/') && !redirects {
            return Err("a rule leads to a path from the root, or redirects to an http or https URL");
        }
        Ok(Self { from: read_from(from)?, to: to.to_owned(), status })
    }

    fn matches(&self, names: &[&str]) -> Option<Bindings<'_>> {
        let mut found = Vec::new();
        let mut rest = names.iter();
        for part in &self.from {
            match part {
                Part::Splat => {
                    let left: Vec<_> = rest.map(|name| encoded(name)).collect();
                    found.push(("splat", left.join("/")));
                    return Some(found);
                }
                Part::Placeholder(name) => found.push((name.as_str(), encoded(rest.next()?))),
                Part::Name(name) if *name == decoded(rest.next()?) => {}
                Part::Name(_) => return None,
            }
        }
        rest.next().is_none().then_some(found)
    }

    fn verdict(&self, found: &Bindings<'_>, query: Option<&str>) -> Verdict {
        let to = self.fill(found);
        match self.status {
            200 | 404 | 410 | 451 => {
                let path = to.split(['?', '#']).next().unwrap_or_default();
                Verdict::Serve(path.to_owned(), self.status)
            }
            status => Verdict::Redirect(with_query(&to, query.unwrap_or_default()), status),
        }
    }

    /// The target with every placeholder replaced; a colon before anything else is itself.
    fn fill(&self, found: &Bindings<'_>) -> String {
        let mut filled = String::new();
        let mut rest = self.to.as_str();
        while let Some((before, after)) = rest.split_once(':') {
            let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-').unwrap_or(after.len());
            let (name, behind) = after.split_at(end);
            filled.push_str(before);
            match found.iter().find(|(its, _)| *its == name) {
                Some((_, value)) => filled.push_str(value),
                None => filled.extend([":", name]),
            }
            rest = behind;
        }
        filled.push_str(rest);
        utf8_percent_encode(&filled, NOT_IN_HEADERS).to_string()
    }
}

fn read_status(text: &str) -> Result<u16, &'static str> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(status @ (200 | 301 | 302 | 303 | 307 | 308 | 404 | 410 | 451)) if digits => Ok(status),
        _ => Err("the status is one of 200, 301, 302, 303, 307, 308, 404, 410 and 451"),
    }
}

fn read_from(from: &str) -> Result<Vec<Part>, &'static str> {
    let path = from.strip_prefix('/').ok_or("a rule begins with a path from the root")?;
    let mut parts = Vec::new();
    for name in path.split('/').filter(|name| !name.is_empty()) {
        let part = match name.strip_prefix(':') {
            Some(placeholder) if !placeholder.is_empty() => Part::Placeholder(placeholder.to_owned()),
            Some(_) | None if name == "*" => Part::Splat,
            Some(_) | None => Part::Name(decoded(name)),
        };
        if parts.last() == Some(&Part::Splat) {
            return Err("a * stands at the end");
        }
        if matches!(part, Part::Placeholder(_)) && parts.contains(&part) {
            return Err("a placeholder stands twice in what a rule matches");
        }
        parts.push(part);
    }
    Ok(parts)
}

fn decoded(name: &str) -> String {
    percent_decode_str(name).decode_utf8_lossy().into_owned()
}

/// One spelling of a name, whatever the client's was.
fn encoded(name: &str) -> String {
    links::encode(&decoded(name))
}

/// Adds the client's parameters to a target; where both have one of a name the client's stays.
fn with_query(to: &str, query: &str) -> String {
    if query.is_empty() {
        return to.to_owned();
    }
    let (to, fragment) = to.split_once('#').map_or((to, None), |(to, fragment)| (to, Some(fragment)));
    let (path, own) = to.split_once('?').unwrap_or((to, ""));
    let asked: Vec<_> = form_urlencoded::parse(query.as_bytes()).collect();
    let own = form_urlencoded::parse(own.as_bytes());
    let kept = own.filter(|(name, _)| asked.iter().all(|(its, _)| its != name));
    let mut merged = form_urlencoded::Serializer::new(String::new());
    merged.extend_pairs(kept).extend_pairs(&asked);
    let merged = merged.finish();
    match fragment {
        Some(fragment) => format!("{path}?{merged}#{fragment}"),
        None => format!("{path}?{merged}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The example of the specification.
    const EXAMPLE: &str = "/redirect-one /one.html\n/301-redirect-one /one.html 301\r\n/302-redirect-two /two.html 302\n\
                           # a comment\n  /200-index\t/index.html 200  \n\n\
                           /posts/:year/:month/:day/:title /articles/:year/:month/:day/:title 301\n\
                           /splat/* /redirected-splat/:splat 301\n/not-found/* /404.html 404\n/gone/* /410.html 410\n\
                           /unavail/* /451.html 451\n/* /index.html 200";

    fn decide(rules: &str, path: &str, query: Option<&str>) -> Option<Verdict> {
        SiteRules::parse(rules.as_bytes()).unwrap().decide(path, query)
    }

    fn redirect(to: &str, status: u16) -> Option<Verdict> {
        Some(Verdict::Redirect(to.to_owned(), status))
    }

    fn serve(path: &str, status: u16) -> Option<Verdict> {
        Some(Verdict::Serve(path.to_owned(), status))
    }

    #[test]
    fn the_example_of_the_specification_decides_as_it_says() {
        for (path, expected) in [
            ("/redirect-one", redirect("/one.html", 301)),
            ("/301-redirect-one/", redirect("/one.html", 301)),
            ("/302-redirect-two", redirect("/two.html", 302)),
            ("/200-index", serve("/index.html", 200)),
            ("/posts/2022/01/01/hello-world", redirect("/articles/2022/01/01/hello-world", 301)),
            ("/splat/one.html", redirect("/redirected-splat/one.html", 301)),
            ("/not-found/x/y", serve("/404.html", 404)),
            ("/gone/x", serve("/410.html", 410)),
            ("/unavail/x", serve("/451.html", 451)),
            ("/anything", serve("/index.html", 200)),
        ] {
            assert_eq!(decide(EXAMPLE, path, None), expected, "{path}");
        }
    }

    #[test]
    fn parameters_go_along_and_the_clients_outrank_the_rules() {
        let rules =
            "/a/* /t?x=1&y=2\n/b/:code/:name /t?code=:code&name=:name\n/c/* https://example.net:8080/t/:splat\n";
        assert_eq!(decide(rules, "/a/b", Some("x=3")), redirect("/t?y=2&x=3", 301));
        assert_eq!(decide(rules, "/a/b", None), redirect("/t?x=1&y=2", 301));
        assert_eq!(decide(rules, "/b/7/n%20m", None), redirect("/t?code=7&name=n%20m", 301));
        assert_eq!(decide(rules, "/c/d/e", Some("q=1")), redirect("https://example.net:8080/t/d/e?q=1", 301));
        assert_eq!(decide(rules, "/d", None), None);
    }

    #[test]
    fn names_match_however_they_are_spelled() {
        assert_eq!(decide("/gr\u{fc}n /x", "/gr%C3%BCn", None), redirect("/x", 301));
        assert_eq!(decide("/gr%C3%BCn /y", "/gr%c3%bcn", None), redirect("/y", 301));
        assert_eq!(decide("/x /\u{e4}", "/x", None), redirect("/%C3%A4", 301));
        assert_eq!(decide("/* /:splat", "/%0d%0aSet-Cookie:x", None), redirect("/%0D%0ASet-Cookie%3Ax", 301));
    }

    #[test]
    fn a_wrong_line_is_told_with_its_number() {
        let why = |rules: &str| SiteRules::parse(rules.as_bytes()).unwrap_err().to_string();
        assert!(why("/a /b\n/c /d 301!").starts_with("line 2: the status is one of"));
        for bad in ["/a", "/a /b 301 x", "a /b", "/a b", "/a https://x 200", "/*/b /c", "/:x/:x /c", "/a ftp://x"] {
            assert!(why(bad).starts_with("line 1: "), "{bad}");
        }
        assert_eq!(SiteRules::parse(&[0xff]), Err(RulesError::Encoding));
        assert_eq!(SiteRules::parse(&vec![b'#'; 65537]), Err(RulesError::TooLong));
        assert!(SiteRules::parse(&vec![b'#'; 65536]).is_ok());
    }

    proptest! {
        #[test]
        fn no_file_and_no_path_panics(file in "[ -~\n]{0,80}", path in "[ -~]{0,40}", query in "[ -~]{0,20}") {
            if let Ok(rules) = SiteRules::parse(file.as_bytes()) {
                let _ = rules.decide(&path, Some(&query));
            }
        }
    }
}
