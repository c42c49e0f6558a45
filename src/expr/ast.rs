//! Reading the parsed tree: the children of a node, where a node stands in the source, and how a
//! message names it.

use super::limits;
use cel::IdedExpr;
use cel::common::ast::{CallExpr, EntryExpr, Expr, LiteralValue, MapExpr, SourceInfo, StructExpr, operators};
use std::ops::Range;

/// The longest piece of source that a message quotes.
const MAX_QUOTE: usize = 60;

/// The nodes directly below a node, in the order in which they are evaluated.
pub(super) fn children(node: &IdedExpr) -> Vec<&IdedExpr> {
    match &node.expr {
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => Vec::new(),
        Expr::Select(select) => vec![&select.operand],
        Expr::Call(call) => call.target.as_deref().into_iter().chain(&call.args).collect(),
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Map(map) => map.entries.iter().flat_map(|entry| entry_children(&entry.expr)).collect(),
        Expr::Struct(literal) => {
            literal.entries.iter().flat_map(|entry| entry_children(&entry.expr)).collect()
        }
        Expr::Comprehension(loops) => {
            vec![&loops.accu_init, &loops.iter_range, &loops.loop_cond, &loops.loop_step, &loops.result]
        }
    }
}

fn entry_children(entry: &EntryExpr) -> Vec<&IdedExpr> {
    match entry {
        EntryExpr::StructField(field) => vec![&field.value],
        EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
    }
}

/// The same, to be changed.
pub(super) fn children_mut(node: &mut IdedExpr) -> Vec<&mut IdedExpr> {
    fn entry(entry: &mut EntryExpr) -> Vec<&mut IdedExpr> {
        match entry {
            EntryExpr::StructField(field) => vec![&mut field.value],
            EntryExpr::MapEntry(entry) => vec![&mut entry.key, &mut entry.value],
        }
    }
    match &mut node.expr {
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => Vec::new(),
        Expr::Select(select) => vec![&mut select.operand],
        Expr::Call(call) => call.target.as_deref_mut().into_iter().chain(&mut call.args).collect(),
        Expr::List(list) => list.elements.iter_mut().collect(),
        Expr::Map(MapExpr { entries }) | Expr::Struct(StructExpr { entries, .. }) => {
            entries.iter_mut().flat_map(|found| entry(&mut found.expr)).collect()
        }
        Expr::Comprehension(loops) => vec![
            &mut loops.accu_init,
            &mut loops.iter_range,
            &mut loops.loop_cond,
            &mut loops.loop_step,
            &mut loops.result,
        ],
    }
}

/// The node behind the calls that `instrument` has put around it.
pub(super) fn bare(node: &IdedExpr) -> &IdedExpr {
    match &node.expr {
        Expr::Call(call) if is_wrapper(&call.func_name) => call.args.last().map_or(node, bare),
        Expr::Call(call) if is_tick(call) => call.args.get(1).map_or(node, bare),
        _ => node,
    }
}

/// Whether a choice is the one that counts a turn before a condition is asked.
fn is_tick(call: &CallExpr) -> bool {
    let condition = call.args.first().map(|condition| &condition.expr);
    matches!(condition, Some(Expr::Call(condition)) if condition.func_name == limits::TICK)
}

fn is_wrapper(name: &str) -> bool {
    matches!(
        name,
        limits::CHARGE
            | limits::ELEMENT
            | limits::WORK
            | limits::TIMES
            | limits::RANGE
            | limits::PAIRS
            | limits::PATTERN
    )
}

/// How deep the tree is below a node, itself included.
pub(super) fn depth(node: &IdedExpr) -> usize {
    1 + children(node).into_iter().map(depth).max().unwrap_or(0)
}

/// The fields and literal keys that a node reads from a variable: `object.metadata.labels["app"]`
/// is `[object, metadata, labels, app]`.
pub(super) fn path(node: &IdedExpr) -> Option<Vec<String>> {
    let (operand, last) = match &bare(node).expr {
        Expr::Ident(name) => return Some(vec![name.trim_start_matches('.').to_owned()]),
        Expr::Select(select) => (&*select.operand, select.field.clone()),
        Expr::Call(call)
            if matches!(
                &*call.func_name,
                operators::INDEX | operators::OPT_INDEX | operators::OPT_SELECT
            ) =>
        {
            let [operand, key] = call.args.as_slice() else { return None };
            (operand, literal_text(key)?.to_owned())
        }
        _ => return None,
    };
    let mut path = path(operand)?;
    path.push(last);
    Some(path)
}

/// The two type names with dots: `type(now) == google.protobuf.Timestamp`.
pub(super) fn is_type_name(node: &IdedExpr) -> bool {
    path(node).is_some_and(|path| {
        matches!(path.join(".").as_str(), "google.protobuf.Timestamp" | "google.protobuf.Duration")
    })
}

/// The text of a string literal.
pub(super) fn literal_text(node: &IdedExpr) -> Option<&str> {
    match &bare(node).expr {
        Expr::Literal(LiteralValue::String(text)) => Some(text.inner()),
        _ => None,
    }
}

/// How a message names a node: as it stands in the source, shortened.
pub(super) fn quote(info: &SourceInfo, node: &IdedExpr) -> String {
    let words: Vec<&str> = info.source[span(info, node)].split_whitespace().collect();
    let text = words.join(" ");
    if text.chars().count() <= MAX_QUOTE {
        return text;
    }
    text.chars().take(MAX_QUOTE - 1).chain(['…']).collect()
}

/// The bytes of the source that a node was parsed from, its brackets included.
pub(super) fn span(info: &SourceInfo, node: &IdedExpr) -> Range<usize> {
    extent(info, node).unwrap_or(0..info.source.len())
}

fn extent(info: &SourceInfo, node: &IdedExpr) -> Option<Range<usize>> {
    let node = bare(node);
    let below = children(node).into_iter().filter_map(|child| extent(info, child));
    let covered = below.chain(token(info, node)).reduce(|a, b| a.start.min(b.start)..a.end.max(b.end))?;
    let start = leading(info, node, covered.start);
    Some(start..closing(&info.source, start, trailing(info, node, covered.end)))
}

/// The span of a called function's name.
pub(super) fn name_span(info: &SourceInfo, node: &IdedExpr, name: &str) -> Range<usize> {
    let Some(bracket) = token(info, node) else { return span(info, node) };
    let end = info.source[..bracket.start].trim_end().len();
    if info.source[..end].ends_with(name) { end - name.len()..end } else { bracket }
}

/// The span of the field's name in a selection; the whole node if it is not written with a dot.
pub(super) fn field_span(info: &SourceInfo, node: &IdedExpr, field: &str) -> Range<usize> {
    let whole = span(info, node);
    let name = info.source[whole.clone()].trim_end_matches(|c: char| c == ')' || c.is_whitespace());
    let end = whole.start + name.len();
    if name.ends_with(field) { end - field.len()..end } else { whole }
}

/// The token that a node was made for: an operator, a bracket, a dot, or the node itself.
fn token(info: &SourceInfo, node: &IdedExpr) -> Option<Range<usize>> {
    let (start, last) = info.offset_for(node.id)?;
    let source = &info.source;
    let start = source.floor_char_boundary(usize::try_from(start).ok()?);
    let end = source.ceil_char_boundary((usize::try_from(last).ok()? + 1).min(source.len()));
    Some(start..end.max(start))
}

/// The start of a node, with the name of the function or the sign before its first token.
fn leading(info: &SourceInfo, node: &IdedExpr, start: usize) -> usize {
    let before = info.source[..start].trim_end();
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    match &node.expr {
        Expr::Literal(LiteralValue::Int(_) | LiteralValue::Double(_)) if before.ends_with('-') => {
            before.len() - 1
        }
        _ if info.source[start..].starts_with('(') && before.ends_with(is_name) => {
            before.trim_end_matches(is_name).len()
        }
        _ => start,
    }
}

/// The end of a node, with the name after its dot.
fn trailing(info: &SourceInfo, node: &IdedExpr, end: usize) -> usize {
    let field = match &node.expr {
        Expr::Select(select) => select.field.as_str(),
        Expr::Call(call) if call.func_name == operators::OPT_SELECT => {
            call.args.get(1).and_then(literal_text).unwrap_or_default()
        }
        _ => return end,
    };
    let after = &info.source[end..];
    let name = after.trim_start_matches(|c: char| c.is_whitespace() || c == '?');
    if name.starts_with(field) { end + (after.len() - name.len()) + field.len() } else { end }
}

/// The end of a node, with the brackets that it opens and does not close.
fn closing(source: &str, start: usize, end: usize) -> usize {
    let (mut open, mut quote) = (0_i32, None);
    let mut escaped = false;
    for (at, c) in source[start..].char_indices() {
        let at = start + at;
        if at >= end && open <= 0 && quote.is_none() {
            return end;
        }
        match (quote, c) {
            _ if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(delimiter), c) if c == delimiter => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, '(' | '[' | '{') => open += 1,
            (None, ')' | ']' | '}') => open -= 1,
            _ => {}
        }
        if at >= end && open == 0 && quote.is_none() {
            return at + c.len_utf8();
        }
    }
    if open > 0 { source.len() } else { end }
}
