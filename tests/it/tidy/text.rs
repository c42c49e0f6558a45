//! What no file may contain, whatever it imports.

use super::Finding;
use super::source::Source;

/// Longer than this before its tests, a file holds more than one idea.
const MAX_LINES: usize = 600;

/// Where `sleep(` may stand, and why.
const SLEEPERS: &[(&str, &str)] = &[
    ("tests/it/support/wait.rs", "the one place that polls for a state"),
    ("tests/cluster/up.rs", "polls for a cluster, with a deadline after which it cleans up"),
    ("src/cluster/lease.rs", "a Lease is renewed by the clock"),
    ("src/controller/queue.rs", "its tests measure overlap under paused time"),
    ("src/controller/rule/evaluator.rs", "a pause before an evaluator that panicked is started again"),
    ("src/cli/dev/mod.rs", "a pause before a controller that ended is started again"),
    ("src/cli/dev/demo/mod.rs", "polls for states; --timeout is the deadline"),
    ("src/cli/dev/packs.rs", "polls for a condition, with a deadline"),
    ("src/sandbox/apiserver/serve.rs", "a pause when connections cannot be accepted"),
];

/// Attributes and macros that nothing may use.
const REFUSED: &[(&str, &str)] = &[
    ("todo!", "what is not written is left out, not stubbed"),
    ("unimplemented!", "what is not written is left out, not stubbed"),
    ("dbg!", "it is left over from looking for something"),
    ("#[ignore", "a test that does not run says nothing; delete it or mend it"),
    ("#[should_panic", "it passes for any panic; assert on the error"),
    ("#[allow(dead_code", "what nothing uses is deleted"),
];

/// Home folders of somebody's machine; put together here so that this file does not contain them.
fn home_folders() -> [String; 3] {
    ["root", "home", "Users"].map(|folder| format!("/{folder}/"))
}

pub fn check_any(file: &str, content: &str) -> Vec<Finding> {
    let is_personal = |line: &str| home_folders().iter().any(|folder| is_absolute(line, folder));
    let lines = content.lines().enumerate().filter(|(_, line)| is_personal(line));
    lines
        .map(|(at, _)| finding(file, at + 1, "names a folder of one machine; it will not exist on another"))
        .collect()
}

/// Does `line` name `folder` from the root, and not as a part of some other path?
fn is_absolute(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|c| !(c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '}' | ')' | '*' | '~')))
    })
}

pub fn check_rust(file: &str, content: &str, source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !content.starts_with("//!") {
        findings.push(finding(
            file,
            1,
            "opens without `//!`; say what the file does and its place in the flow",
        ));
    }
    // Something else that only tests need may stand before what is none of theirs.
    let begins = |(line, next): (&str, &str)| line == "#[cfg(test)]" && next.contains("mod tests");
    let before_tests = content
        .lines()
        .zip(content.lines().skip(1))
        .position(begins)
        .unwrap_or_else(|| content.lines().count());
    if before_tests > MAX_LINES {
        let message = format!(
            "is {before_tests} lines long before its tests; over {MAX_LINES} it is more than one idea"
        );
        findings.push(finding(file, before_tests, &message));
    }
    for mark in &source.marks {
        let refused = REFUSED.iter().find(|(text, _)| mark.text.starts_with(text));
        findings.extend(refused.map(|(_, why)| finding(file, mark.line, &format!("`{}`: {why}", mark.text))));
    }
    if !SLEEPERS.iter().any(|(sleeper, _)| *sleeper == file) {
        let sleeps = source.calls.iter().filter(|call| call.text == "sleep");
        findings
            .extend(sleeps.map(|call| {
                finding(file, call.line, "sleeps for a time; wait for a state, with a deadline")
            }));
    }
    findings
}

fn finding(file: &str, line: usize, message: &str) -> Finding {
    Finding { file: file.to_owned(), line, message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::super::{check, lines};
    use super::*;

    #[test]
    fn what_is_refused_is_found() {
        let broken = [
            "fn f() { todo!() }",
            "fn f() { std::unimplemented!() }",
            "fn f() { dbg!(1); }",
            "#[ignore = \"slow\"] fn f() {}",
            "#[should_panic(expected = \"x\")] fn f() {}",
            "#[allow(dead_code)] fn f() {}",
            "async fn f() { tokio::time::sleep(d).await }",
        ];
        for code in broken {
            assert_eq!(lines("src/server/mod.rs", code), [2], "{code}");
        }
        assert_eq!(
            lines("src/server/mod.rs", "// todo!() is refused\nconst A: &str = \"dbg!(1)\";"),
            [] as [usize; 0]
        );
        assert_eq!(lines(SLEEPERS[0].0, "fn f() { sleep(d) }"), [] as [usize; 0]);
    }

    #[test]
    fn files_open_with_what_they_do_and_end_in_time() {
        assert_eq!(check("src/server/mod.rs", "fn f() {}\n").len(), 1);
        let code = "const A: u8 = 1;\n".repeat(MAX_LINES - 1);
        assert_eq!(lines("src/server/mod.rs", code.trim_end()), [] as [usize; 0]);
        assert_eq!(lines("src/server/mod.rs", &code), [MAX_LINES + 1]);
        let tested =
            format!("{}#[cfg(test)]\nmod tests {{\n{code}}}", code.replacen("const A: u8 = 1;\n", "", 1));
        assert_eq!(lines("src/server/mod.rs", &tested), [] as [usize; 0]);
    }

    #[test]
    fn paths_of_one_machine_are_found_in_any_file() {
        let [home, ..] = home_folders();
        assert_eq!(check("docs/a.md", &format!("fine\ncd {home}x\n")).len(), 1);
        assert_eq!(check("Makefile", &format!("cp {home}x\n")).len(), 1);
        assert_eq!(check("docs/a.md", &format!("https://example.com{home}x and ${{HOME}}{home}\n")), []);
    }
}
