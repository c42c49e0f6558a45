//! Names of fother's objects.

/// The longest name of a Pack, Rule or Action. An Execution's name adds a hyphen and a hash, and a Job's label
/// value may be no longer than 63.
pub const MAX_NAME: usize = 52;

/// Whether `name` is a DNS-1123 label of at most [`MAX_NAME`] characters.
pub fn is_valid_name(name: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    name.len() <= MAX_NAME
        && edge(name.chars().next())
        && edge(name.chars().last())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

/// Whether `name` can be that of an object, or a part of its address, as it stands. The API server takes more for some kinds,
/// but one with `/`, `?`, `#` or `%` would make another address of that of its object, and so be about another object, or none.
pub fn is_path_segment(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-._~:@!$&'()*+,;=".contains(c);
    !name.is_empty() && name.chars().all(fits) && name != "." && name != ".."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_labels_of_limited_length() {
        for (name, valid) in [
            ("crashloop", true),
            ("a", true),
            ("a-1", true),
            ("", false),
            ("-a", false),
            ("a-", false),
            ("A", false),
            ("a.b", false),
            (&"x".repeat(MAX_NAME), true),
            (&"x".repeat(MAX_NAME + 1), false),
        ] {
            assert_eq!(is_valid_name(name), valid, "{name}");
        }
    }

    #[test]
    fn a_name_is_one_part_of_an_address() {
        for name in ["web", "web.example.com", "system:node", "Admin_1", "..."] {
            assert!(is_path_segment(name), "{name}");
        }
        for name in
            ["", ".", "..", "web/scale", "web?a=b", "web#x", "web%2Fscale", "a b", "{{ x }}", "wéb", "a\n"]
        {
            assert!(!is_path_segment(name), "{name}");
        }
    }
}
