//! How a function's types are written in the table of functions, and how those of a field are written
//! in a schema: `list<A>.(int) -> optional<A>`, `map<string, list<string>>`, `int | string`.

use super::super::schema::ObjectType;
use super::{Letters, Type};

/// One way to call a function.
#[derive(Clone, Debug)]
pub(in super::super) struct Declaration {
    /// What it is called on.
    pub(in super::super) target: Option<Type>,
    /// What it takes.
    pub(in super::super) arguments: Vec<Type>,
    result: Type,
}

impl Declaration {
    /// Reads `(A, B) -> C` or `T.(A, B) -> C`.
    pub(in super::super) fn parse(text: &str) -> Option<Self> {
        let (call, result) = text.split_once(" -> ")?;
        let open = call.find('(')?;
        let (target, arguments) = (call[..open].strip_suffix('.'), call[open + 1..].strip_suffix(')')?);
        let read = |text: &str| Type::parse(text, &|name| ObjectType::of_kind(name));
        let arguments = pieces(arguments, ',').filter(|argument| *argument != "...").map(read);
        Some(Self {
            target: target.map(read).map_or(Some(None), |target| target.map(Some))?,
            arguments: arguments.collect::<Option<_>>()?,
            result: read(result)?,
        })
    }

    /// What a call with these types gives, if it is one.
    pub(super) fn call(&self, target: Option<&Type>, arguments: &[Type]) -> Option<Type> {
        let mut letters = Letters::default();
        let on = match (target, &self.target) {
            (None, None) => true,
            (Some(got), Some(wanted)) => got.fits_with(wanted, &mut letters),
            _ => false,
        };
        let fits = on
            && arguments.len() == self.arguments.len()
            && arguments.iter().zip(&self.arguments).all(|(got, wanted)| got.fits_with(wanted, &mut letters));
        fits.then(|| letters.fill(&self.result))
    }
}

impl Type {
    /// Reads a type; `named` gives the objects, whose names begin with a capital letter.
    pub(in super::super) fn parse(text: &str, named: &dyn Fn(&str) -> ObjectType) -> Option<Self> {
        let text = text.trim();
        let members: Vec<&str> = pieces(text, '|').collect();
        if members.len() > 1 {
            let members: Option<Vec<Type>> = members.into_iter().map(|one| Type::parse(one, named)).collect();
            return Some(members?.iter().fold(Type::NEVER, |all, one| all.or(one)));
        }
        if let Some((outer, inner)) = text.strip_suffix('>').and_then(|text| text.split_once('<')) {
            let mut inner = pieces(inner, ',').map(|one| Type::parse(one, named));
            let first = inner.next()??;
            return match (outer, inner.next()) {
                ("list", None) => Some(Type::list(first)),
                ("optional", None) => Some(Type::optional(first)),
                ("map", Some(values)) => Some(Type::map(first, values?)),
                _ => None,
            };
        }
        let mut letters = text.chars();
        match (letters.next()?, letters.next()) {
            (letter, None) if letter.is_ascii_uppercase() => Some(Type::Letter(letter)),
            (first, Some(_)) if first.is_ascii_uppercase() => Some(Type::Object(named(text))),
            _ => Type::simple(text),
        }
    }

    fn simple(name: &str) -> Option<Self> {
        Some(match name {
            "any" => Type::Any,
            "never" => Type::NEVER,
            "null" => Type::Null,
            "bool" => Type::Bool,
            "int" => Type::Int,
            "uint" => Type::Uint,
            "double" => Type::Double,
            "string" => Type::String,
            "bytes" => Type::Bytes,
            "duration" => Type::Duration,
            "timestamp" => Type::Timestamp,
            "type" => Type::Type,
            "object" => Type::map(Type::String, Type::Any),
            "number" => Type::OneOf(vec![Type::Int, Type::Uint, Type::Double]),
            "quantity" => Type::Library("quantity"),
            "semver" => Type::Library("semver"),
            "url" => Type::Library("url"),
            "ip" => Type::Library("ip"),
            "cidr" => Type::Library("cidr"),
            _ => return None,
        })
    }
}

/// The pieces of a text between separators that stand in no brackets.
fn pieces(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut depth = 0_usize;
    text.split(move |c| {
        match c {
            '<' => depth += 1,
            '>' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == separator && depth == 0
    })
    .map(str::trim)
    .filter(|piece| !piece.is_empty())
}
