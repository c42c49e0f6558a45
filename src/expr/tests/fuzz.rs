//! Whatever is written: no panic, spans inside the source, the same answer twice.

use super::{bindings, sample, scope};
use crate::expr::{Expression, Template};
use proptest::prelude::*;
use proptest::sample::select;

/// Pieces of the language, put together blindly.
const PIECES: &[&str] = &[
    "object",
    "target",
    "now",
    "zebra",
    "x",
    ".spec",
    ".replicas",
    ".?kind",
    ".metadata.labels",
    "['app']",
    "[?0]",
    ".containers",
    ".map(x, ",
    ".exists(x, ",
    ".filter(x, ",
    ".sortBy(x, ",
    ".all(x, y, ",
    ".transformList(x, y, ",
    ".transformMap(y, x, ",
    ".transformMapEntry(y, x, ",
    "cel.bind(x, ",
    ".first()",
    ".sum()",
    "y",
    "semver(",
    "url(",
    "ip(",
    "cidr(",
    "notReadyFor(",
    "has(",
    "size(",
    "quantity(",
    "duration(",
    "timestamp(",
    "crashLooping(",
    "oomKilled(",
    "rolledOutWithin(",
    "condition(",
    ".matches(",
    ".replace(",
    ".join(",
    ".orValue(",
    "math.greatest(",
    "sets.contains(",
    "lists.range(",
    ")",
    ")",
    "(",
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    "?",
    " + ",
    " - ",
    " == ",
    " > ",
    " && ",
    " || ",
    "!",
    " in ",
    " / ",
    "1",
    "0",
    "-1",
    "2.5",
    "7u",
    "'a'",
    "'10m'",
    "'é'",
    "\"500Mi\"",
    "true",
    "null",
    "b'x'",
    "\n",
    "${{ ",
    " }}",
    "'",
    "// c",
];

fn pieces() -> impl Strategy<Value = String> {
    prop::collection::vec(select(PIECES), 0..24).prop_map(|pieces| pieces.concat())
}

/// Values at the ends of their types, from which arithmetic goes wrong first.
const LEAVES: &[&str] = &[
    "object",
    "object.spec",
    "object.spec.replicas",
    "object.spec.containers",
    "object.metadata.labels",
    "now",
    "object.nope",
    "oldObject",
    "x",
    "0",
    "-1",
    "9223372036854775807",
    "(-9223372036854775807 - 1)",
    "0u",
    "18446744073709551615u",
    "0.0",
    "1e308",
    "(0.0 / 0.0)",
    "-1.0 / 0.0",
    "''",
    "'é'",
    "'%s%d'",
    "b'\\xff'",
    "[]",
    "{}",
    "null",
    "true",
    "duration('2562047h')",
    "duration('-2562047h')",
    "duration('1ns')",
    "int",
    "optional.none()",
    "timestamp('9999-12-31T23:59:59Z')",
    "timestamp('0001-01-01T00:00:00Z')",
    "quantity('9223372036854775807')",
    "quantity('-1n')",
    "[1, 'a', null, [2]]",
    "{1: 2, 'a': {}, true: 3u}",
];

/// How larger expressions are made of one (`#`) or two (`#`, `@`) smaller ones.
const SHAPES: &[&str] = &[
    "# + @",
    "# - @",
    "# * @",
    "# / @",
    "# % @",
    "# == @",
    "# < @",
    "# in @",
    "# && @",
    "# || @",
    "-(#)",
    "!(#)",
    "# ? @ : 1",
    "[#, @]",
    "{#: @}",
    "{'k': #, ?'o': @}",
    "(#)[@]",
    "(#)[?@]",
    "(#).a",
    "(#).?a",
    "has((#).a)",
    "(#).map(x, @)",
    "(#).filter(x, @)",
    "(#).exists(x, @)",
    "(#).all(x, @)",
    "(#).exists_one(x, @)",
    "(#).sortBy(x, @)",
    "(#).optMap(x, @)",
    "(#).orValue(@)",
    "size(#)",
    "string(#)",
    "int(#)",
    "uint(#)",
    "double(#)",
    "bytes(#)",
    "bool(#)",
    "type(#)",
    "dyn(#)",
    "timestamp(#)",
    "duration(#)",
    "quantity(#)",
    "isQuantity(#)",
    "(#).add(@)",
    "(#).sub(@)",
    "(#).compareTo(@)",
    "(#).asInteger()",
    "(#).asApproximateFloat()",
    "(#).charAt(@)",
    "(#).indexOf(@)",
    "(#).indexOf(@, 1)",
    "(#).lastIndexOf(@, 1)",
    "(#).substring(@)",
    "(#).substring(@, 3)",
    "(#).replace(@, 'b')",
    "(#).replace('', @)",
    "(#).split(@)",
    "(#).split('', @)",
    "(#).join(@)",
    "(#).format([@])",
    "'%s %d %x %f %e %b %o'.format([#, @, #, @, #, @, #])",
    "strings.quote(#)",
    "(#).matches(@)",
    "(#).find(@)",
    "(#).findAll('.', @)",
    "(#).trim()",
    "(#).reverse()",
    "(#).sort()",
    "(#).distinct()",
    "(#).flatten()",
    "(#).flatten(@)",
    "(#).slice(@, 3)",
    "lists.range(#)",
    "sets.contains(#, @)",
    "sets.equivalent(#, @)",
    "math.abs(#)",
    "math.greatest(#, @)",
    "math.bitShiftLeft(#, @)",
    "math.round(#)",
    "math.sqrt(#)",
    "math.bitShiftRight(#, @)",
    "base64.decode(#)",
    "base64.encode(#)",
    "(#).getHours()",
    "(#).getFullYear(@)",
    "(#).getDayOfYear('Europe/London')",
    "(#).getMilliseconds()",
    "(#).getSeconds('-23:59')",
    "crashLooping(#, 1, @)",
    "crashLooping(object, #, @)",
    "oomKilled(#)",
    "rolloutComplete(#)",
    "rolledOutWithin(#, @)",
    "condition(#, @)",
    "optional.of(#)",
    "optional.ofNonZeroValue(#).or(@)",
    "(#).value()",
];

/// Expressions that parse, of all types and mostly of the wrong ones.
fn expressions() -> impl Strategy<Value = String> {
    let leaf = select(LEAVES).prop_map(str::to_owned);
    leaf.prop_recursive(4, 24, 2, |inner| {
        (select(SHAPES), inner.clone(), inner)
            .prop_map(|(shape, a, b)| shape.replace('#', "\u{1}").replace('@', &b).replace('\u{1}', &a))
    })
}

fn check_expression(source: &str) -> Result<(), TestCaseError> {
    let compiled = Expression::compile(source, &scope());
    let again = Expression::compile(source, &scope());
    prop_assert_eq!(compiled.as_ref().err(), again.as_ref().err());
    match compiled {
        Err(errors) => {
            prop_assert!(!errors.is_empty());
            for error in errors {
                prop_assert!(source.get(error.span.clone()).is_some(), "{error:?}");
                prop_assert!(!error.message.contains('\n'), "{error:?}");
                for leak in ["expecting", "EOF", "@meter", "NUM_INT", "Incomplete", "Context", "Some("] {
                    prop_assert!(source.contains(leak) || !error.message.contains(leak), "{error:?}");
                }
            }
        }
        Ok(expression) => {
            let values = bindings(&sample());
            let result = expression.evaluate(&values);
            prop_assert_eq!(&result, &expression.evaluate(&values));
            if let Err(error) = result {
                prop_assert!(source.get(error.span.clone()).is_some(), "{error:?}");
                for leak in ["@", "Some(", "Ok(", "CelInt", "dyn Val", "cannot be evaluated"] {
                    prop_assert!(source.contains(leak) || !error.message.contains(leak), "{error:?}");
                }
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_answered(source in "\\PC{0,60}") {
        check_expression(&source)?;
    }

    #[test]
    fn anything_like_the_language_is_answered(source in pieces()) {
        check_expression(&source)?;
    }

    #[test]
    fn any_expression_is_answered(source in expressions()) {
        check_expression(&source)?;
    }

    #[test]
    fn any_template_is_answered(source in pieces()) {
        match Template::compile(&source, &scope()) {
            Err(errors) => {
                for error in errors {
                    prop_assert!(source.get(error.span.clone()).is_some(), "{error:?}");
                }
            }
            Ok(template) => {
                let values = bindings(&sample());
                if let Err(error) = template.render(&values) {
                    prop_assert!(source.get(error.span.clone()).is_some(), "{error:?}");
                }
            }
        }
    }
}
