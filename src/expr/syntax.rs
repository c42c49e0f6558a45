//! Parse errors in our own words: the parser's messages name its grammar's tokens, which no user
//! has ever seen. Called by `compile` for a source that does not parse.

use super::errors::ExprError;
use super::limits::MAX_DEPTH;
use super::macros::SAME_NAME;
use cel::{ParseError, ParseErrors};
use std::ops::Range;

/// The one error worth reporting: what follows the first is mostly the parser's recovery from it.
pub(super) fn explain(source: &str, errors: &ParseErrors) -> ExprError {
    let noise = |error: &&ParseError| error.msg.starts_with("Incomplete") || error.msg.starts_with("No `");
    let depth = errors.errors.iter().find(|error| error.msg.contains("Recursion limit"));
    let first = errors.errors.iter().find(|error| !noise(error));
    match depth.or(first).or(errors.errors.first()) {
        Some(error) => rewrite(source, error),
        None => ExprError::new("not an expression", 0..source.len()),
    }
}

fn rewrite(source: &str, error: &ParseError) -> ExprError {
    let offset = offset_of(source, error.pos);
    let token = token_at(source, offset);
    let text = &source[token.clone()];
    let message = error.msg.strip_prefix("Syntax error: ").unwrap_or(&error.msg);
    if message.contains("Recursion limit") {
        return ExprError::new(format!("expression nests deeper than {MAX_DEPTH}"), token);
    }
    if message.contains("<EOF>' expecting") || text.is_empty() {
        return ExprError::new("unexpected end of expression", source.len()..source.len());
    }
    if let Some(refused) = message.strip_prefix("token recognition error at: '") {
        return unreadable(source, offset, refused);
    }
    if let Some(expected) = message.strip_prefix("missing '").and_then(|rest| rest.split('\'').next()) {
        return ExprError::new(format!("expected {expected:?} before {text:?}"), token);
    }
    match message {
        "argument must be a simple name" => {
            let call = call_at(source, offset);
            return ExprError::new("the first argument must be a plain name, such as x", call);
        }
        SAME_NAME => return ExprError::new(SAME_NAME, call_at(source, offset)),
        "invalid argument to has() macro" => {
            return ExprError::new(
                "has() takes a field, such as has(object.status)",
                call_at(source, offset),
            );
        }
        "invalid int literal" => return ExprError::new(format!("{text} does not fit an int"), token),
        "invalid uint literal" => return ExprError::new(format!("{text} does not fit a uint"), token),
        "invalid double literal" => return ExprError::new(format!("{text} does not fit a double"), token),
        "unsupported syntax: '`'" => {
            return ExprError::new("write fields with unusual names as object[\"name\"]", token);
        }
        _ => {}
    }
    if let Some(word) = message.strip_prefix("reserved identifier: ") {
        return ExprError::new(format!("{word:?} is a reserved word"), token);
    }
    if message.starts_with("invalid string literal") || message.starts_with("invalid bytes literal") {
        return ExprError::new("invalid escape in a string", token);
    }
    if message.starts_with("math.") {
        return ExprError::new(message, call_at(source, offset));
    }
    ExprError::new(format!("unexpected {text:?}"), token).suggest(operator_for(text))
}

/// An error of the lexer: a character that starts no token, or a string that never ends.
fn unreadable(source: &str, offset: usize, refused: &str) -> ExprError {
    let Some(first) = source[offset..].chars().next() else {
        return ExprError::new("unexpected end of expression", source.len()..source.len());
    };
    let span = offset..offset + first.len_utf8();
    if matches!(first, '\'' | '"') {
        let end = offset + refused.trim_end_matches('\'').len().max(1);
        let escape = refused.contains('\\') && end < source.len();
        let message = if escape { "invalid escape in a string" } else { "string is not closed" };
        return ExprError::new(message, offset..source.floor_char_boundary(end.min(source.len())));
    }
    if source[offset..].starts_with("${{") {
        return ExprError::new("this is an expression already: write it without ${{ }}", offset..offset + 3);
    }
    ExprError::new(format!("unexpected {:?}", first.to_string()), span)
        .suggest(operator_for(&first.to_string()))
}

/// The operator that other languages spell so.
fn operator_for(text: &str) -> Option<&'static str> {
    match text {
        "=" => Some("=="),
        "&" | "and" | "AND" => Some("&&"),
        "|" | "or" | "OR" => Some("||"),
        "not" | "NOT" => Some("!"),
        _ => None,
    }
}

/// The byte offset of the parser's position: line and column from 1, columns counting characters.
fn offset_of(source: &str, (line, column): (isize, isize)) -> usize {
    let (line, column) = (usize::try_from(line).unwrap_or(1), usize::try_from(column).unwrap_or(1));
    let start: usize = source.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let rest = &source[start..];
    let within = rest.char_indices().nth(column.saturating_sub(1)).map_or(rest.len(), |(at, _)| at);
    start + within
}

/// The word or single character at an offset; empty at the end.
fn token_at(source: &str, offset: usize) -> Range<usize> {
    let rest = &source[offset..];
    let blank = rest.len() - rest.trim_start().len();
    let start = offset + blank;
    let rest = &source[start..];
    let word = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
    let length = if word > 0 { word } else { rest.chars().next().map_or(0, char::len_utf8) };
    start..start + length
}

/// The call whose opening bracket is at or after `offset`, which is where macros report errors.
fn call_at(source: &str, offset: usize) -> Range<usize> {
    let offset = source.floor_char_boundary(offset);
    let is_name = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
    let open = source[..offset].rfind('(').unwrap_or(offset);
    let start = source[..open].rfind(|c: char| !is_name(c)).map_or(0, |at| at + 1);
    let start = source.ceil_char_boundary(start);
    let end = source[offset..].find(')').map_or(source.len(), |at| offset + at + 1);
    start..end
}
