//! Between JSON and CEL: objects become CEL values once, results become JSON again. The library's
//! own conversion makes unsigned integers of positive ones, with which nothing can be added.

use super::analysis::Reads;
use super::functions::{self, Quantity};
use base64::Engine;
use cel::common::types::{
    CelBool, CelBytes, CelDouble, CelDuration, CelInt, CelList, CelMap, CelMapKey, CelNull, CelOptional,
    CelString, CelTimestamp, CelType, CelUInt,
};
use cel::common::value::Val;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use std::collections::HashMap;

/// The parts of a JSON value that are read, as a CEL value. What is not read is left out.
pub(super) fn read<'v>(value: &'v Value, reads: &Reads) -> Box<dyn Val + 'v> {
    let (Value::Object(fields), Reads::Fields(wanted)) = (value, reads) else { return to_cel(value) };
    let entries = wanted.iter().filter_map(|(name, reads)| {
        let (key, field) = fields.get_key_value(name)?;
        Some((CelMapKey::from(key.as_str()), read(field, reads)))
    });
    Box::new(CelMap::from(entries.collect::<HashMap<_, _>>()))
}

/// A JSON value as a CEL value, which borrows its texts: integers are `int`, all others `double`.
pub(super) fn to_cel<'v>(value: &'v Value) -> Box<dyn Val + 'v> {
    match value {
        Value::Null => Box::new(CelNull),
        Value::Bool(value) => Box::new(CelBool::from(*value)),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(int), _) => Box::new(CelInt::from(int)),
            (None, Some(large)) => Box::new(CelUInt::from(large)),
            (None, None) => Box::new(CelDouble::from(number.as_f64().unwrap_or(f64::NAN))),
        },
        Value::String(text) => Box::new(CelString::from(text.as_str())),
        Value::Array(items) => Box::new(CelList::from(items.iter().map(to_cel).collect::<Vec<_>>())),
        Value::Object(fields) => {
            let entries = fields.iter().map(|(key, value)| (CelMapKey::from(key.as_str()), to_cel(value)));
            Box::new(CelMap::from(entries.collect::<HashMap<_, _>>()))
        }
    }
}

/// A CEL value as JSON: times as Kubernetes writes them, durations as `90s`, quantities in their
/// canonical form, bytes in base64, an optional as its value or null. None for what JSON has not.
pub(super) fn to_json(value: &dyn Val) -> Option<Value> {
    if let Some(text) = value.downcast_ref::<CelString>() {
        return Some(text.inner().into());
    }
    if let Some(value) = value.downcast_ref::<CelBool>() {
        return Some((*value.inner()).into());
    }
    if let Some(int) = value.downcast_ref::<CelInt>() {
        return Some((*int.inner()).into());
    }
    if let Some(int) = value.downcast_ref::<CelUInt>() {
        return Some((*int.inner()).into());
    }
    if let Some(double) = value.downcast_ref::<CelDouble>() {
        return serde_json::Number::from_f64(*double.inner()).map(Value::Number);
    }
    if let Some(list) = value.downcast_ref::<CelList>() {
        return list
            .inner()
            .iter()
            .map(|item| to_json(item.as_ref()))
            .collect::<Option<Vec<_>>>()
            .map(Value::Array);
    }
    if let Some(map) = value.downcast_ref::<CelMap>() {
        let fields = map.inner().iter().map(|(key, item)| Some((key_text(key), to_json(item.as_ref())?)));
        return fields.collect::<Option<serde_json::Map<_, _>>>().map(Value::Object);
    }
    if value.downcast_ref::<CelNull>().is_some() {
        return Some(Value::Null);
    }
    rarer_to_json(value)
}

fn rarer_to_json(value: &dyn Val) -> Option<Value> {
    if let Some(timestamp) = value.downcast_ref::<CelTimestamp>() {
        return to_timestamp(timestamp).map(|timestamp| timestamp.to_string().into());
    }
    if let Some(duration) = value.downcast_ref::<CelDuration>() {
        return Some(duration_text(to_duration(duration)).into());
    }
    if let Some(quantity) = value.downcast_ref::<Quantity>() {
        return Some(quantity.to_string().into());
    }
    if let Some(text) = functions::library_text(value) {
        return Some(text.into());
    }
    if let Some(bytes) = value.downcast_ref::<CelBytes>() {
        return Some(base64::engine::general_purpose::STANDARD.encode(bytes.inner()).into());
    }
    if let Some(optional) = value.downcast_ref::<CelOptional>() {
        return optional.option().map_or(Some(Value::Null), to_json);
    }
    value.downcast_ref::<CelType>().map(|name| type_name(name.name()).into())
}

fn key_text(key: &CelMapKey<'_>) -> String {
    match key {
        CelMapKey::Bool(key) => key.inner().to_string(),
        CelMapKey::Int(key) => key.inner().to_string(),
        CelMapKey::UInt(key) => key.inner().to_string(),
        CelMapKey::String(key) => key.inner().to_owned(),
    }
}

/// The name of a type as our messages say it.
pub(super) fn type_name(name: &str) -> &str {
    match name {
        "null_type" => "null",
        "optional_type" => "optional",
        "google.protobuf.Timestamp" => "timestamp",
        "google.protobuf.Duration" => "duration",
        name => name,
    }
}

/// A moment as a CEL value.
pub(super) fn from_timestamp(timestamp: Timestamp) -> Box<dyn Val> {
    // Only years before 0 are written in a way that does not parse, and no clock shows them.
    let moment = cel::Value::Timestamp(timestamp.to_string().parse().unwrap_or_default());
    Box::<dyn Val>::try_from(moment).unwrap_or_else(|_| Box::new(CelNull))
}

/// A CEL timestamp as a moment; none beyond the years that jiff knows.
pub(super) fn to_timestamp(timestamp: &CelTimestamp) -> Option<Timestamp> {
    let time = timestamp.inner();
    Timestamp::new(time.timestamp(), i32::try_from(time.timestamp_subsec_nanos()).ok()?).ok()
}

/// A CEL duration as a signed duration.
pub(super) fn to_duration(duration: &CelDuration) -> SignedDuration {
    SignedDuration::new(duration.inner().num_seconds(), duration.inner().subsec_nanos())
}

/// A duration as CEL writes it: `90s`, `0.5s`.
fn duration_text(duration: SignedDuration) -> String {
    let sign = if duration.is_negative() { "-" } else { "" };
    let duration = duration.unsigned_abs();
    let nanos = format!("{:09}", duration.subsec_nanos());
    match nanos.trim_end_matches('0') {
        "" => format!("{sign}{}s", duration.as_secs()),
        nanos => format!("{sign}{}.{nanos}s", duration.as_secs()),
    }
}
