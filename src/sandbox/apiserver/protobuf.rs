//! Protobuf bodies: kubectl sends them when it makes an object itself (`create configmap`, `auth can-i`).
//! They are read into JSON along the recorded fields of each message; answers are always JSON.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::registry::split_api_version;
use crate::sandbox::openapi;

/// Before the envelope of every protobuf body.
const MAGIC: &[u8] = b"k8s\0";
/// Deeper nesting is no object of any kind.
const MAX_DEPTH: usize = 64;

/// Number, name in JSON (empty where inlined), kind (`optional`, `repeated`, `map`), type, whether a zero is
/// kept, because it was set.
#[derive(Deserialize)]
struct Field(u64, String, String, String, bool);

static MESSAGES: LazyLock<BTreeMap<String, Vec<Field>>> = LazyLock::new(|| {
    serde_json::from_slice(&openapi::messages()).expect("the recorded messages are well-formed")
});

/// One value on the wire.
enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// Reads a body. Nothing where it is no protobuf or of a kind that is not known.
pub fn decode(body: &[u8]) -> Option<Value> {
    let envelope = body.strip_prefix(MAGIC)?;
    let (mut types, mut raw) = (None, None);
    for (number, wire) in fields(envelope)? {
        match (number, wire) {
            (1, Wire::Bytes(bytes)) => types = Some(fields(bytes)?),
            (2, Wire::Bytes(bytes)) => raw = Some(bytes),
            _ => {}
        }
    }
    let text = |wanted: u64| {
        types.as_ref()?.iter().find_map(|(number, wire)| match wire {
            Wire::Bytes(bytes) if *number == wanted => std::str::from_utf8(bytes).ok(),
            _ => None,
        })
    };
    let (api_version, kind) = (text(1)?, text(2)?);
    let mut object = message(&message_of(api_version, kind)?, raw?, 0)?;
    object["apiVersion"] = api_version.into();
    object["kind"] = kind.into();
    Some(object)
}

/// The message of a kind: `apps/v1` is written in `k8s.io.api.apps.v1`.
fn message_of(api_version: &str, kind: &str) -> Option<String> {
    let (group, version) = split_api_version(api_version);
    let folder = if group.is_empty() { "core" } else { group.split('.').next()? };
    let own = format!("k8s.io.api.{folder}.{version}.{kind}");
    let shared = format!("k8s.io.apimachinery.pkg.apis.meta.v1.{kind}");
    [own, shared].into_iter().find(|name| MESSAGES.contains_key(name))
}

/// The fields on the wire, in order.
fn fields(mut bytes: &[u8]) -> Option<Vec<(u64, Wire<'_>)>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let wire = match tag & 7 {
            0 => Wire::Number(varint(&mut bytes)?),
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                let (content, rest) = bytes.split_at_checked(length)?;
                bytes = rest;
                Wire::Bytes(content)
            }
            // No served kind has fixed-width numbers.
            _ => return None,
        };
        found.push((tag >> 3, wire));
    }
    Some(found)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn message(name: &str, bytes: &[u8], depth: usize) -> Option<Value> {
    let known = MESSAGES.get(name)?;
    let mut object = Map::new();
    for (number, wire) in fields(bytes)? {
        // What a newer client sends is dropped, as Go does.
        let Some(Field(_, json_name, kind, type_name, keeps_zero)) =
            known.iter().find(|field| field.0 == number)
        else {
            continue;
        };
        match kind.as_str() {
            "map" => {
                let (key, value) = entry(type_name, &wire, depth)?;
                object.entry(json_name.as_str()).or_insert_with(|| Value::Object(Map::new()))[key] = value;
            }
            "repeated" => {
                let value = scalar_or_message(type_name, &wire, depth)?;
                let list = object.entry(json_name.as_str()).or_insert_with(|| Value::Array(Vec::new()));
                list.as_array_mut()?.push(value);
            }
            _ => {
                let value = scalar_or_message(type_name, &wire, depth)?;
                if json_name.is_empty() {
                    object.extend(value.as_object().cloned().unwrap_or_default());
                } else if *keeps_zero || !is_zero(&value) {
                    object.insert(json_name.clone(), value);
                }
            }
        }
    }
    Some(Value::Object(object))
}

/// Go writes values that are not pointers even when nobody set them.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

fn entry(type_name: &str, wire: &Wire<'_>, depth: usize) -> Option<(String, Value)> {
    let Wire::Bytes(bytes) = wire else { return None };
    let (mut key, mut value) = (String::new(), None);
    for (number, wire) in fields(bytes)? {
        match (number, &wire) {
            (1, Wire::Bytes(bytes)) => std::str::from_utf8(bytes).ok()?.clone_into(&mut key),
            (2, _) => value = Some(scalar_or_message(type_name, &wire, depth)?),
            _ => {}
        }
    }
    Some((key, value.unwrap_or_else(|| "".into())))
}

fn scalar_or_message(type_name: &str, wire: &Wire<'_>, depth: usize) -> Option<Value> {
    if depth > MAX_DEPTH {
        return None;
    }
    match (type_name, wire) {
        ("bool", Wire::Number(number)) => Some((*number != 0).into()),
        // Negative numbers are written as 64 bits in two's complement.
        ("int32" | "int64", Wire::Number(number)) => Some(number.cast_signed().into()),
        ("string", Wire::Bytes(bytes)) => Some(std::str::from_utf8(bytes).ok()?.into()),
        ("bytes", Wire::Bytes(bytes)) => Some(STANDARD.encode(bytes).into()),
        (name, Wire::Bytes(bytes)) if is_special(name) => special(name, bytes),
        (name, Wire::Bytes(bytes)) => message(name, bytes, depth + 1),
        _ => None,
    }
}

/// The last part of a message's name.
fn short(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or_default()
}

/// Whether a message's JSON form is something else than an object of its fields.
fn is_special(name: &str) -> bool {
    const SPECIAL: [&str; 7] =
        ["Time", "MicroTime", "Quantity", "IntOrString", "FieldsV1", "RawExtension", "ExtraValue"];
    SPECIAL.contains(&short(name))
}

fn special(name: &str, bytes: &[u8]) -> Option<Value> {
    let number = |wanted: u64| -> Option<i64> {
        let found = fields(bytes)?.into_iter().find(|(number, _)| *number == wanted);
        Some(match found {
            Some((_, Wire::Number(value))) => value.cast_signed(),
            _ => 0,
        })
    };
    let content = |wanted: u64| -> Option<&[u8]> {
        let found = fields(bytes)?.into_iter().find(|(number, _)| *number == wanted);
        Some(match found {
            Some((_, Wire::Bytes(content))) => content,
            _ => &[],
        })
    };
    let text = |wanted: u64| std::str::from_utf8(content(wanted)?).ok();
    let json = |wanted: u64| serde_json::from_slice(content(wanted)?).ok();
    let time = || {
        if bytes.is_empty() {
            return Some(Value::Null);
        }
        let nanoseconds = i32::try_from(number(2)?).ok()?;
        Some(Timestamp::new(number(1)?, nanoseconds).ok()?.to_string().into())
    };
    match short(name) {
        "Time" | "MicroTime" => time(),
        "Quantity" => text(1).map(Value::from),
        "IntOrString" if number(1) == Some(0) => number(2).map(Value::from),
        "IntOrString" => text(3).map(Value::from),
        "FieldsV1" | "RawExtension" => json(1),
        "ExtraValue" => fields(bytes).map(|items| {
            let texts = items.into_iter().filter_map(|(_, wire)| match wire {
                Wire::Bytes(bytes) => std::str::from_utf8(bytes).ok().map(Value::from),
                Wire::Number(_) => None,
            });
            texts.collect()
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A field that holds bytes.
    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, u8::try_from(content.len()).unwrap()], content].concat()
    }

    fn body(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
        let types = [field(1, api_version.as_bytes()), field(2, kind.as_bytes())].concat();
        [MAGIC, &field(1, &types), &field(2, raw)].concat()
    }

    #[test]
    fn objects_are_read() {
        let metadata = field(1, &[field(1, b"a"), field(2, b""), field(8, b"")].concat());
        let data = field(2, &[field(1, b"k"), field(2, b"v")].concat());
        let map = body("v1", "ConfigMap", &[metadata.clone(), data].concat());
        let expected =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}});
        assert_eq!(decode(&map), Some(expected));

        // Zero replicas were asked for, zero minReadySeconds only written.
        let spec = field(2, &[8, 0, 5 << 3, 0]);
        let deployment = body("apps/v1", "Deployment", &[metadata, spec].concat());
        assert_eq!(decode(&deployment).unwrap()["spec"], json!({"replicas": 0}));
    }

    #[test]
    fn what_is_no_object_is_refused() {
        let whole = body("v1", "ConfigMap", &field(1, &field(1, b"a")));
        for broken in [&whole[..whole.len() - 1], b"k8s\0", b"{}", &body("v1", "Nonesuch", b"")] {
            assert_eq!(decode(broken), None);
        }
    }
}
