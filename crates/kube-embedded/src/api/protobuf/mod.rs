//! Bodies in Protocol Buffers, as kubectl's generators and Go controllers send them for built-in kinds
//! (Kubernetes documentation, "API Concepts": Kubernetes Protobuf encoding). They are read into the same JSON as every other
//! body; answers are always JSON. [`messages`] says which kinds are known.

mod messages;
mod wire;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use messages::{Field, Kind};
use wire::{Item, Reader};

use super::metadata;
use crate::status::Status;

/// The media type.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";
const MAGIC: &[u8] = b"k8s\0";

/// Reads an object of any known kind.
///
/// # Errors
/// 400 for what is not well-formed, 415 for a kind that only JSON can bring here.
pub fn parse(bytes: &[u8]) -> Result<Value, Status> {
    let broken = || Status::bad_request("the body is not a well-formed Kubernetes Protobuf message");
    let envelope = read(bytes.strip_prefix(MAGIC).ok_or_else(broken)?, messages::UNKNOWN).ok_or_else(broken)?;
    let text = |field: &str| envelope["typeMeta"][field].as_str().unwrap_or_default().to_owned();
    let (version, kind) = (text("apiVersion"), text("kind"));
    let Some(message) = messages::message(&version, &kind) else {
        return Err(Status::unsupported_media_type(format!(
            "{kind} in version \"{version}\" is not accepted as {MEDIA_TYPE}, send it as application/json"
        )));
    };
    let raw = envelope["raw"].as_str().and_then(|raw| STANDARD.decode(raw).ok()).unwrap_or_default();
    let mut object = read(&raw, message).ok_or_else(broken)?;
    object["apiVersion"] = version.into();
    object["kind"] = kind.into();
    Ok(object)
}

/// Reads one message. Unknown fields are skipped, as the encoding demands.
fn read(bytes: &[u8], message: &[Field]) -> Option<Value> {
    let mut object = Map::new();
    let mut reader = Reader::new(bytes);
    while let Some(item) = reader.next()? {
        let Some((_, name, kind)) = message.iter().find(|(number, ..)| *number == item.number) else { continue };
        match kind {
            Kind::List(inner) => {
                let value = read_value(&item, inner)?;
                let list = object.entry(*name).or_insert_with(|| Value::Array(Vec::new()));
                list.as_array_mut()?.push(value);
            }
            Kind::Map(inner) => {
                let (key, value) = read_entry(item.bytes()?, inner)?;
                let map = object.entry(*name).or_insert_with(|| Value::Object(Map::new()));
                map.as_object_mut()?.insert(key, value);
            }
            kind => {
                let value = read_value(&item, kind)?;
                // Fields that Go keeps by value are always sent; empty ones say nothing.
                if !value.is_null() && value != "" {
                    object.insert((*name).to_owned(), value);
                }
            }
        }
    }
    Some(Value::Object(object))
}

fn read_value(item: &Item<'_>, kind: &Kind) -> Option<Value> {
    Some(match kind {
        Kind::Text => std::str::from_utf8(item.bytes()?).ok()?.into(),
        Kind::Bool => (item.number()? != 0).into(),
        Kind::Int => item.number()?.cast_signed().into(),
        Kind::Bytes => STANDARD.encode(item.bytes()?).into(),
        Kind::Time | Kind::MicroTime => time(item.bytes()?, matches!(kind, Kind::MicroTime))?,
        Kind::IntOrString => int_or_string(item.bytes()?)?,
        Kind::Message(message) => read(item.bytes()?, message)?,
        // Lists of lists and of maps do not exist in this encoding.
        Kind::List(_) | Kind::Map(_) => return None,
    })
}

fn read_entry(bytes: &[u8], kind: &Kind) -> Option<(String, Value)> {
    let (mut key, mut value) = (String::new(), Value::String(String::new()));
    let mut reader = Reader::new(bytes);
    while let Some(item) = reader.next()? {
        match item.number {
            1 => key = std::str::from_utf8(item.bytes()?).ok()?.to_owned(),
            2 => value = read_value(&item, kind)?,
            _ => {}
        }
    }
    Some((key, value))
}

/// Seconds and nanoseconds; Go's zero time is an empty message.
fn time(bytes: &[u8], precise: bool) -> Option<Value> {
    let (mut seconds, mut nanoseconds) = (0_i64, 0_i32);
    let mut reader = Reader::new(bytes);
    while let Some(item) = reader.next()? {
        match item.number {
            1 => seconds = item.number()?.cast_signed(),
            2 => nanoseconds = i32::try_from(item.number()?.cast_signed()).ok()?,
            _ => {}
        }
    }
    if seconds <= 0 {
        return Some(Value::Null);
    }
    let time = jiff::Timestamp::new(seconds, nanoseconds).ok()?;
    let text = if precise { time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string() } else { metadata::time(time) };
    Some(text.into())
}

fn int_or_string(bytes: &[u8]) -> Option<Value> {
    let (mut is_text, mut number, mut text) = (false, 0, "");
    let mut reader = Reader::new(bytes);
    while let Some(item) = reader.next()? {
        match item.number {
            1 => is_text = item.number()? == 1,
            2 => number = item.number()?.cast_signed(),
            3 => text = std::str::from_utf8(item.bytes()?).ok()?,
            _ => {}
        }
    }
    Some(if is_text { text.into() } else { number.into() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A field with bytes.
    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, u8::try_from(bytes.len()).unwrap()], bytes].concat()
    }

    fn envelope(version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
        let meta = [field(1, version.as_bytes()), field(2, kind.as_bytes())].concat();
        [MAGIC.to_vec(), field(1, &meta), field(2, raw)].concat()
    }

    #[test]
    fn a_config_map_is_read() {
        let meta = [field(1, b"a"), field(2, b""), field(8, b"")].concat();
        let entry = [field(1, b"k"), field(2, b"v")].concat();
        let raw = [field(1, &meta), field(2, &entry), vec![4 << 3, 1]].concat();
        assert_eq!(
            parse(&envelope("v1", "ConfigMap", &raw)).unwrap(),
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}, "immutable": true})
        );
    }

    #[test]
    fn an_event_is_read_in_the_form_of_its_group() {
        let raw = |text: u8| [field(1, &field(1, b"a")), field(text, b"m")].concat();
        for (version, number, name) in [("v1", 4, "message"), ("events.k8s.io/v1", 10, "note")] {
            let event = parse(&envelope(version, "Event", &raw(number))).unwrap();
            assert_eq!((&event[name], &event["metadata"]["name"]), (&json!("m"), &json!("a")));
        }
    }

    #[test]
    fn broken_and_unknown_messages_are_refused() {
        assert_eq!(parse(b"nonsense").unwrap_err().code(), 400);
        assert_eq!(parse(b"k8s\0\x0a\xff").unwrap_err().code(), 400);
        assert_eq!(parse(&envelope("v1", "ConfigMap", &[0xff])).unwrap_err().code(), 400);
        assert_eq!(parse(&envelope("x/v1", "Unheard", &[])).unwrap_err().code(), 415);
    }
}
