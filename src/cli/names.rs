//! What Kubernetes takes as names of namespaces and accounts, so that a slip is told before anything is asked or printed.

/// The longest name of a namespace.
const MAX_LABEL: usize = 63;
/// The longest name of an account.
const MAX_SUBDOMAIN: usize = 253;

/// The name of a namespace, a DNS label.
pub fn namespace(name: &str) -> Result<String, String> {
    match is_label(name) && name.len() <= MAX_LABEL {
        true => Ok(name.to_owned()),
        false => Err(format!(
            "{name:?} cannot be a namespace: use at most {MAX_LABEL} lowercase letters, digits and hyphens, \
             with a letter or digit at each end"
        )),
    }
}

/// The name of an account, a DNS subdomain.
pub fn account(name: &str) -> Result<String, String> {
    match name.split('.').all(is_label) && name.len() <= MAX_SUBDOMAIN {
        true => Ok(name.to_owned()),
        false => Err(format!(
            "{name:?} cannot be a ServiceAccount: use at most {MAX_SUBDOMAIN} lowercase letters, digits, hyphens and dots, \
             with a letter or digit at each end and beside each dot"
        )),
    }
}

fn is_label(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.starts_with(is_plain) && text.ends_with(is_plain) && text.chars().all(|c| is_plain(c) || c == '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_kubernetes_takes() {
        let long = |length: usize| "x".repeat(length);
        for (name, is_namespace, is_account) in [
            ("payments", true, true),
            ("7", true, true),
            ("a--b", true, true),
            ("web.healer", false, true),
            (&long(63), true, true),
            (&long(64), false, true),
            (&long(253), false, true),
            (&long(254), false, false),
            ("", false, false),
            ("Bad Name", false, false),
            ("Payments", false, false),
            ("-a", false, false),
            ("a-", false, false),
            ("a..b", false, false),
            ("a.-b", false, false),
            (".a", false, false),
            ("a/b", false, false),
            ("a\n", false, false),
            ("é", false, false),
        ] {
            assert_eq!(namespace(name).is_ok(), is_namespace, "{name:?}");
            assert_eq!(account(name).is_ok(), is_account, "{name:?}");
        }
        assert_eq!(account("web.healer"), Ok("web.healer".to_owned()));
    }
}
