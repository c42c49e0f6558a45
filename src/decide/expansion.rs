//! `$(NAME)` in a container's environment, command and arguments, which the kubelet replaces: what fother gives a
//! container is kept from that, and what an Action writes is not to paste an event's words into a command by it.

/// Variables whose values come from events, objects and people.
const FOREIGN: [&str; 2] = ["FOTHER_PARAM_", "FOTHER_TARGET_"];

/// The text of which the kubelet makes this one: a doubled dollar sign is one that begins nothing.
pub fn literal(text: &str) -> String {
    text.replace('$', "$$")
}

/// The first variable of an event's words that the kubelet would paste into a word of a command.
pub fn pasted(word: &str) -> Option<&str> {
    let mut rest = word;
    while let Some(at) = rest.find('$') {
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            if FOREIGN.iter().any(|prefix| name.starts_with(prefix)) {
                return Some(name);
            }
            rest = after;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_kubelet_would_replace_is_pasted() {
        for (word, expected) in [
            ("$(FOTHER_PARAM_PATH)", Some("FOTHER_PARAM_PATH")),
            ("--path=$(FOTHER_TARGET_NAME)/x", Some("FOTHER_TARGET_NAME")),
            ("$$$(FOTHER_PARAM_PATH)", Some("FOTHER_PARAM_PATH")),
            ("$(HOME)$(FOTHER_PARAM_PATH)", Some("FOTHER_PARAM_PATH")),
            ("$$(FOTHER_PARAM_PATH)", None),
            ("$FOTHER_PARAM_PATH ${FOTHER_PARAM_PATH}", None),
            ("$(FOTHER_OUTPUT)", None),
            ("$(FOTHER_PARAM_PATH", None),
            ("$", None),
        ] {
            assert_eq!(pasted(word), expected, "{word}");
            assert_eq!(pasted(&literal(word)), None, "{word}");
        }
    }
}
