//! The functions that expressions may call: CEL's own with its strings, lists and math extensions,
//! Kubernetes' libraries, and predicates over Kubernetes' objects.

mod address;
mod collections;
mod condition;
mod library;
mod lists;
mod object;
mod pods;
mod quantity;
mod regex;
mod rollout;
mod signatures;
mod text;
mod url;
mod version;

pub(super) use condition::WITHOUT_READY;
pub(super) use quantity::Quantity;
pub(super) use regex::{PATTERNS, Patterns, compile as compile_pattern};
pub(super) use signatures::{Kind, Signature, Style, called, greatest, names, namespace, signature};

use super::{limits, macros};
use cel::{DeclarationError, Env, extensions};
use std::sync::{Arc, LazyLock};

/// The environment that every expression is parsed and evaluated in.
pub(super) fn environment() -> &'static Arc<Env> {
    static ENVIRONMENT: LazyLock<Arc<Env>> =
        LazyLock::new(|| Arc::new(build().expect("every function is declared once")));
    &ENVIRONMENT
}

/// How a value of a library that is no type of CEL is written.
pub(super) fn library_text(value: &dyn cel::common::value::Val) -> Option<String> {
    use library::Of;
    let version = value.downcast_ref::<Of<::semver::Version>>().map(|found| found.0.to_string());
    let address = || value.downcast_ref::<Of<core::net::IpAddr>>().map(|found| found.0.to_string());
    let network = || value.downcast_ref::<Of<address::Cidr>>().map(|found| found.0.to_string());
    let url = || value.downcast_ref::<Of<url::Url>>().map(|found| found.0.to_string());
    version.or_else(address).or_else(network).or_else(url)
}

fn build() -> Result<Env, DeclarationError> {
    let mut env = Env::stdlib();
    env.add_extension(extensions::strings)?;
    env.add_extension(extensions::lists)?;
    env.add_extension(extensions::math)?;
    env.add_extension(extensions::encoders)?;
    limits::register(&mut env)?;
    text::register(&mut env)?;
    regex::register(&mut env)?;
    collections::register(&mut env)?;
    quantity::register(&mut env)?;
    pods::register(&mut env)?;
    rollout::register(&mut env)?;
    condition::register(&mut env)?;
    address::register(&mut env)?;
    version::register(&mut env)?;
    url::register(&mut env)?;
    lists::register(&mut env)?;
    macros::register(&mut env)?;
    Ok(env)
}
