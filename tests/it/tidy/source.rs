//! A Rust file as tokens: which paths it names, calls and macros it uses, and what of it is test code.
//!
//! Tokens and not a syntax tree, so that what stands inside macros counts too.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// What the rules look at.
#[derive(Default)]
pub struct Source {
    /// Each path of at least two segments and each imported name, from its crate: `crate::api::rule`, `std::fs::read`.
    pub paths: Vec<Name>,
    /// Each called function or method by its last segment; `name()` where there are no arguments.
    pub calls: Vec<Name>,
    /// Each macro and attribute: `todo!`, `#[ignore]`.
    pub marks: Vec<Name>,
}

/// Something named in a file.
#[derive(Debug)]
pub struct Name {
    pub text: String,
    pub line: usize,
    /// Inside `#[cfg(test)]`, or in a file of tests.
    pub in_tests: bool,
}

/// Where the reader stands.
#[derive(Clone)]
struct Place {
    module: Vec<String>,
    in_tests: bool,
}

impl Source {
    pub fn parse(file: &str, content: &str) -> Self {
        let tokens: TokenStream = content.parse().unwrap_or_else(|error| panic!("{file}: {error}"));
        let mut source = Self::default();
        let in_tests = file.starts_with("tests/") || file.ends_with("/tests.rs") || file.contains("/tests/");
        source.read(tokens, &Place { module: module_of(file), in_tests });
        source
    }

    fn read(&mut self, tokens: TokenStream, place: &Place) {
        let tokens: Vec<_> = tokens.into_iter().collect();
        let mut at = 0;
        let mut is_test_item = false;
        while at < tokens.len() {
            match &tokens[at..] {
                [TokenTree::Punct(hash), TokenTree::Group(attribute), ..]
                    if hash.as_char() == '#' && attribute.delimiter() == Delimiter::Bracket =>
                {
                    is_test_item |= attribute.stream().to_string().replace(' ', "") == "cfg(test)";
                    self.read_attribute(attribute, place);
                    at += 2;
                }
                [TokenTree::Ident(keyword), TokenTree::Ident(name), TokenTree::Group(body), ..]
                    if keyword == "mod" && body.delimiter() == Delimiter::Brace =>
                {
                    let mut inside = place.clone();
                    inside.module.push(name.to_string());
                    inside.in_tests |= is_test_item;
                    self.read(body.stream(), &inside);
                    is_test_item = false;
                    at += 3;
                }
                [TokenTree::Ident(keyword), rest @ ..] if keyword == "use" => {
                    let here = Place { in_tests: place.in_tests || is_test_item, ..place.clone() };
                    at += 1 + self.read_use(rest, &[], &here);
                    is_test_item = false;
                }
                [TokenTree::Ident(_), ..] => at += self.read_path(&tokens, at, place),
                [TokenTree::Group(group), ..] => {
                    let here = Place { in_tests: place.in_tests || is_test_item, ..place.clone() };
                    self.read(group.stream(), &here);
                    is_test_item &= group.delimiter() != Delimiter::Brace;
                    at += 1;
                }
                [TokenTree::Punct(end), ..] if end.as_char() == ';' => {
                    is_test_item = false;
                    at += 1;
                }
                _ => at += 1,
            }
        }
    }

    fn read_attribute(&mut self, attribute: &Group, place: &Place) {
        let text = attribute.stream().to_string().replace(' ', "");
        self.marks.push(name(format!("#[{text}]"), attribute.span_open().start().line, place));
        self.read(attribute.stream(), place);
    }

    /// Reads a tree of imports behind `prefix`, and says how many tokens it has.
    fn read_use(&mut self, tokens: &[TokenTree], prefix: &[String], place: &Place) -> usize {
        let mut path = prefix.to_vec();
        let mut line = 0;
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            match token {
                TokenTree::Ident(word) if word == "as" => at += 1,
                TokenTree::Ident(word) => {
                    line = word.span().start().line;
                    path.push(word.to_string());
                }
                TokenTree::Punct(mark) if mark.as_char() == '*' => {
                    line = mark.span().start().line;
                    path.push("*".to_owned());
                }
                TokenTree::Group(group) => {
                    let inside: Vec<_> = group.stream().into_iter().collect();
                    let mut read = 0;
                    while read < inside.len() {
                        read += self.read_use(&inside[read..], &path, place);
                    }
                    path.clear();
                }
                TokenTree::Punct(mark) if matches!(mark.as_char(), ',' | ';') => {
                    at += 1;
                    break;
                }
                _ => {}
            }
            at += 1;
        }
        if path.len() > prefix.len() {
            path.retain(|segment| segment != "self" || prefix.is_empty());
            self.paths.push(name(absolute(&path, place), line, place));
        }
        at
    }

    /// Reads the path, call or macro that begins at `at`, and says how many tokens it has.
    fn read_path(&mut self, tokens: &[TokenTree], at: usize, place: &Place) -> usize {
        let TokenTree::Ident(first) = &tokens[at] else { return 1 };
        let line = first.span().start().line;
        let mut path = vec![first.to_string()];
        let mut end = at + 1;
        while let [TokenTree::Punct(a), TokenTree::Punct(b), TokenTree::Ident(next), ..] = &tokens[end..]
            && (a.as_char(), b.as_char()) == (':', ':')
        {
            path.push(next.to_string());
            end += 3;
        }
        let is_definition = at > 0 && matches!(&tokens[at - 1], TokenTree::Ident(word) if word == "fn");
        let last = path.last().cloned().unwrap_or_default();
        match tokens.get(end) {
            Some(TokenTree::Punct(bang)) if bang.as_char() == '!' => {
                self.marks.push(name(format!("{last}!"), line, place));
            }
            Some(TokenTree::Group(arguments))
                if arguments.delimiter() == Delimiter::Parenthesis && !is_definition =>
            {
                let parentheses = if arguments.stream().is_empty() { "()" } else { "" };
                self.calls.push(name(format!("{last}{parentheses}"), line, place));
            }
            _ => {}
        }
        let is_field = at > 0 && matches!(&tokens[at - 1], TokenTree::Punct(dot) if dot.as_char() == '.');
        if path.len() > 1 && !is_field {
            self.paths.push(name(absolute(&path, place), line, place));
        }
        end - at
    }
}

fn name(text: String, line: usize, place: &Place) -> Name {
    Name { text, line, in_tests: place.in_tests }
}

/// `path` without `self` and `super`.
fn absolute(path: &[String], place: &Place) -> String {
    let mut from = match path.first().map(String::as_str) {
        Some("self" | "super") => place.module.clone(),
        _ => Vec::new(),
    };
    for segment in path {
        match segment.as_str() {
            "self" => {}
            "super" => drop(from.pop()),
            _ => from.push(segment.clone()),
        }
    }
    from.join("::")
}

/// `src/decide/guard/mod.rs` is `crate::decide::guard`.
fn module_of(file: &str) -> Vec<String> {
    let file = file.strip_prefix("src/").unwrap_or(file);
    let file = file.strip_suffix(".rs").unwrap_or(file);
    let file = file.strip_suffix("/mod").unwrap_or(file);
    let inside = file.split('/').filter(|part| !matches!(*part, "lib" | "main"));
    std::iter::once("crate").chain(inside).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(file: &str, code: &str) -> Vec<String> {
        Source::parse(file, code).paths.into_iter().map(|path| path.text).collect()
    }

    #[test]
    fn imports_and_paths_are_absolute() {
        let cases = [
            ("use std::fs;", vec!["std::fs"]),
            (
                "use std::{fs, net::{self, TcpStream as T}, io::*};",
                vec!["std::fs", "std::net", "std::net::TcpStream", "std::io::*"],
            ),
            ("use super::job;", vec!["crate::decide::job"]),
            (
                "use super::super::api::rule::{Rule, Mode};",
                vec!["crate::api::rule::Rule", "crate::api::rule::Mode"],
            ),
            ("mod tests { use super::*; }", vec!["crate::decide::guard::*"]),
            ("fn f() { let x = std::env::var(a::b()); }", vec!["std::env::var", "a::b"]),
            ("fn f() { join!(tokio::time::pause()) }", vec!["tokio::time::pause"]),
            ("fn f(x: X) { x.y::<std::net::IpAddr>() }", vec!["std::net::IpAddr"]),
            ("#[derive(kube::CustomResource)] struct S;", vec!["kube::CustomResource"]),
            ("// std::fs\nconst S: &str = \"std::fs\";", vec![]),
        ];
        for (code, expected) in cases {
            assert_eq!(paths("src/decide/guard.rs", code), expected, "{code}");
        }
    }

    #[test]
    fn test_code_is_told_apart() {
        let code =
            "use a::b;\n#[cfg(test)]\nmod tests { use c::d; }\nuse e::f;\n#[cfg(test)]\nuse g::h;\nuse i::j;";
        let source = Source::parse("src/api/x.rs", code);
        let in_tests: Vec<_> = source.paths.iter().filter(|p| p.in_tests).map(|p| p.text.as_str()).collect();
        assert_eq!(in_tests, ["c::d", "g::h"]);
        assert!(Source::parse("src/api/tests.rs", "use a::b;").paths[0].in_tests);
    }

    #[test]
    fn calls_and_marks_are_seen() {
        let source =
            Source::parse("src/a.rs", "#[ignore]\nfn now() {\n clock.now();\n T::sleep(d);\n todo!()\n}");
        let calls: Vec<_> = source.calls.iter().map(|call| (call.text.as_str(), call.line)).collect();
        assert_eq!(calls, [("now()", 3), ("sleep", 4)]);
        let marks: Vec<_> = source.marks.iter().map(|mark| (mark.text.as_str(), mark.line)).collect();
        assert_eq!(marks, [("#[ignore]", 1), ("todo!", 5)]);
    }
}
