//! What a check has found, for people and for programs.

use std::fmt::Write as _;

use serde_json::{Value, json};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Severity {
    /// As it should be.
    Good,
    /// It works, but perhaps not as meant.
    Warning,
    /// Something is missing.
    Error,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Finding {
    severity: Severity,
    what: String,
    fix: Option<String>,
}

/// All that was looked at, in order.
#[derive(Debug, Default)]
pub struct Report {
    findings: Vec<Finding>,
}

impl Report {
    /// Something is as it should be.
    pub fn good(&mut self, what: impl Into<String>) {
        self.findings.push(Finding { severity: Severity::Good, what: what.into(), fix: None });
    }

    /// Something is perhaps not as meant.
    pub fn warning(&mut self, what: impl Into<String>, fix: impl Into<String>) {
        let fix = Some(fix.into());
        self.findings.push(Finding { severity: Severity::Warning, what: what.into(), fix });
    }

    /// Something is missing.
    pub fn error(&mut self, what: impl Into<String>, fix: impl Into<String>) {
        let fix = Some(fix.into());
        self.findings.push(Finding { severity: Severity::Error, what: what.into(), fix });
    }

    /// How many things are missing.
    pub fn errors(&self) -> usize {
        self.count(Severity::Error)
    }

    fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }

    /// For people: one line a finding, what to do about it below.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for Finding { severity, what, fix } in &self.findings {
            let mark = match severity {
                Severity::Good => "✓",
                Severity::Warning => "!",
                Severity::Error => "✗",
            };
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{mark} {what}");
            if let Some(fix) = fix {
                let _ = writeln!(text, "    fix: {fix}");
            }
        }
        let plural =
            |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
        let (errors, warnings) = (self.errors(), self.count(Severity::Warning));
        let _ = writeln!(text, "\n{}, {}", plural(errors, "error"), plural(warnings, "warning"));
        text
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let findings: Vec<_> = self
            .findings
            .iter()
            .map(|Finding { severity, what, fix }| {
                let severity = match severity {
                    Severity::Good => "good",
                    Severity::Warning => "warning",
                    Severity::Error => "error",
                };
                json!({"severity": severity, "what": what, "fix": fix})
            })
            .collect();
        json!({"findings": findings, "errors": self.errors(), "warnings": self.count(Severity::Warning)})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_comes_with_its_remedy() {
        let mut report = Report::default();
        report.good("kubernetes 1.36");
        report.error("nothing is installed", "helm install");
        report.warning("policies are off", "helm upgrade");
        let text = "✓ kubernetes 1.36\n✗ nothing is installed\n    fix: helm install\n! policies are off\n    fix: helm upgrade\n\n1 error, 1 warning\n";
        assert_eq!(report.text(), text);
        let json = report.json();
        assert_eq!((&json["errors"], &json["warnings"]), (&json!(1), &json!(1)));
        assert_eq!(json["findings"][1]["fix"], "helm install");
    }
}
