//! The body of a request: a JSON object whose fields are taken one by one, each from the text it was written in, so that
//! no amount passes through a float and every error names its field.

use super::App;
use super::error::ApiError;
use crate::store::Store;
use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use tollgate_domain::money::Nanodollars;

/// Bytes of the longest name, alias or id.
const TEXT_BYTES_MAX: usize = 256;

/// What a body says of one field: nothing, `null`, or a value.
pub(crate) type Patch<T> = Option<Option<T>>;

/// The fields of a body that nobody has taken yet.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    entries: Vec<(String, Box<RawValue>)>,
}

/// Whatever the content type says: `curl -d` sends a form's, and so do the commands that people copy.
impl<S: Store> FromRequest<Arc<App<S>>> for Fields {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App<S>>) -> Result<Self, ApiError> {
        let body = Bytes::from_request(request, app).await.map_err(|rejection| {
            if rejection.status().as_u16() == 413 {
                ApiError::too_large()
            } else {
                ApiError::bad("The body could not be read.")
            }
        })?;
        Self::parse(&body)
    }
}

impl Fields {
    /// Reads a body. No body at all is an empty object.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, ApiError> {
        if body.trim_ascii().is_empty() {
            return Ok(Self::default());
        }
        let fields = Self { entries: object("The body", body)? };
        let mut names = BTreeSet::new();
        match fields.entries.iter().find(|(name, _)| !names.insert(name)) {
            Some((name, _)) => Err(ApiError::field(name, "is given twice")),
            None => Ok(fields),
        }
    }

    /// Takes a field as it was written.
    pub(crate) fn take(&mut self, name: &str) -> Option<Box<RawValue>> {
        let index = self.entries.iter().position(|(entry, _)| entry == name)?;
        Some(self.entries.swap_remove(index).1)
    }

    /// Takes a field and reads it with `read`.
    pub(crate) fn patch<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&str, &RawValue) -> Result<T, ApiError>,
    ) -> Result<Patch<T>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(raw) if raw.get() == "null" => Ok(Some(None)),
            Some(raw) => read(name, &raw).map(|value| Some(Some(value))),
        }
    }

    /// Takes a field where `null` and absence mean the same.
    pub(crate) fn optional<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&str, &RawValue) -> Result<T, ApiError>,
    ) -> Result<Option<T>, ApiError> {
        self.patch(name, read).map(Option::flatten)
    }

    /// Takes a field that must be there.
    pub(crate) fn required<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&str, &RawValue) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        self.optional(name, read)?.ok_or_else(|| ApiError::field(name, "is missing"))
    }

    /// Whether a field is there and not `null`.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.entries.iter().any(|(entry, raw)| entry == name && raw.get() != "null")
    }

    /// Refuses the absence of a field that somebody takes later.
    pub(crate) fn needs(&self, name: &str) -> Result<(), ApiError> {
        if self.has(name) { Ok(()) } else { Err(ApiError::field(name, "is missing")) }
    }

    /// Gives a field its usual name.
    pub(crate) fn rename(&mut self, name: &str, usual: &str) -> Result<(), ApiError> {
        let Some(raw) = self.take(name) else { return Ok(()) };
        if self.has(usual) {
            return Err(ApiError::field(name, format!("says the same as {usual}")));
        }
        self.take(usual);
        self.entries.push((usual.to_owned(), raw));
        Ok(())
    }

    /// Refuses what is left.
    pub(crate) fn finish(self) -> Result<(), ApiError> {
        match self.entries.first() {
            Some((name, _)) => Err(ApiError::field(name, "is not a field of this request")),
            None => Ok(()),
        }
    }

    /// Takes the fields of these names as a body of their own.
    pub(crate) fn part(&mut self, names: &[&str]) -> Self {
        let (part, rest) = std::mem::take(&mut self.entries)
            .into_iter()
            .partition(|(name, _)| names.contains(&name.as_str()));
        self.entries = rest;
        Self { entries: part }
    }

    /// What is left.
    pub(crate) fn rest(self) -> Vec<(String, Box<RawValue>)> {
        self.entries
    }
}

/// A text without control characters; may be empty.
pub(crate) fn text(name: &str, raw: &RawValue) -> Result<String, ApiError> {
    let text: String =
        serde_json::from_str(raw.get()).map_err(|_| ApiError::field(name, "must be a text"))?;
    if text.len() > TEXT_BYTES_MAX {
        return Err(ApiError::field(name, format!("is longer than {TEXT_BYTES_MAX} bytes")));
    }
    if text.chars().any(char::is_control) {
        return Err(ApiError::field(name, "must not contain control characters"));
    }
    Ok(text)
}

/// A list of texts, none of them empty.
pub(crate) fn texts(name: &str, raw: &RawValue) -> Result<Vec<String>, ApiError> {
    let wrong = || ApiError::field(name, "must be a list of texts that are not empty");
    let items: Vec<Box<RawValue>> = serde_json::from_str(raw.get()).map_err(|_| wrong())?;
    let item = |item: Box<RawValue>| match text(name, &item) {
        Ok(text) if text.trim().is_empty() => Err(wrong()),
        Err(_) if !item.get().starts_with('"') => Err(wrong()),
        text => text,
    };
    items.into_iter().map(item).collect()
}

/// An amount of dollars: a number, or the same as a text. Exact, or an error.
pub(crate) fn money(name: &str, raw: &RawValue) -> Result<Nanodollars, ApiError> {
    let decimal = decimal(name, raw)?;
    let amount: Nanodollars = decimal.parse().map_err(|why| ApiError::field(name, why))?;
    if amount < Nanodollars::ZERO {
        return Err(ApiError::field(name, "must not be negative"));
    }
    Ok(amount)
}

/// A whole number, not negative.
pub(crate) fn count(name: &str, raw: &RawValue) -> Result<u64, ApiError> {
    const NANOS: i64 = 1_000_000_000;
    let wrong = || ApiError::field(name, "must be a whole number, not negative");
    let decimal = decimal(name, raw)?;
    let count = match decimal.parse::<u64>() {
        Ok(count) => count,
        // `100.0` and `1e2` are whole numbers, too.
        Err(_) => {
            let scaled = decimal.parse::<Nanodollars>().map_err(|_| wrong())?.get();
            u64::try_from(scaled / NANOS)
                .ok()
                .filter(|_| scaled >= 0 && scaled % NANOS == 0)
                .ok_or_else(wrong)?
        }
    };
    // A store keeps it in a signed integer.
    if i64::try_from(count).is_ok() { Ok(count) } else { Err(ApiError::field(name, "is out of range")) }
}

/// A number's own text.
fn decimal(name: &str, raw: &RawValue) -> Result<String, ApiError> {
    match raw.get().as_bytes().first() {
        Some(b'"') => text(name, raw),
        Some(b'-' | b'0'..=b'9') => Ok(raw.get().to_owned()),
        _ => Err(ApiError::field(name, "must be a number")),
    }
}

/// `true` or `false`.
pub(crate) fn flag(name: &str, raw: &RawValue) -> Result<bool, ApiError> {
    serde_json::from_str(raw.get()).map_err(|_| ApiError::field(name, "must be true or false"))
}

/// Any JSON.
pub(crate) fn value(name: &str, raw: &RawValue) -> Result<Value, ApiError> {
    serde_json::from_str(raw.get())
        .map_err(|_| ApiError::field(name, "is nested too deeply, or a number is out of range"))
}

/// A list of objects, each as its fields.
pub(crate) fn objects(name: &str, raw: &RawValue) -> Result<Vec<Fields>, ApiError> {
    let items: Vec<Box<RawValue>> =
        serde_json::from_str(raw.get()).map_err(|_| ApiError::field(name, "must be a list of objects"))?;
    items.iter().map(|item| Ok(Fields { entries: object(name, item.get().as_bytes())? })).collect()
}

/// One object, as its fields.
pub(crate) fn one(name: &str, raw: &RawValue) -> Result<Fields, ApiError> {
    members(name, raw).map(|entries| Fields { entries })
}

/// The members of an object, each once.
pub(crate) fn members(name: &str, raw: &RawValue) -> Result<Vec<(String, Box<RawValue>)>, ApiError> {
    let members: Vec<_> = match raw.get().starts_with('{') {
        true => object(name, raw.get().as_bytes())?,
        false => return Err(ApiError::field(name, "must be an object")),
    };
    let mut names = BTreeSet::new();
    match members.iter().find(|(name, _)| !names.insert(name)) {
        Some((twice, _)) => Err(ApiError::field(name, format!("has {twice:?} twice"))),
        None => Ok(members),
    }
}

/// The same, of at most so many of what they name.
pub(crate) fn members_at_most(
    most: usize,
    what: &str,
    name: &str,
    raw: &RawValue,
) -> Result<Vec<(String, Box<RawValue>)>, ApiError> {
    let members = members(name, raw)?;
    if members.len() > most {
        return Err(ApiError::field(name, format!("names more than {most} {what}")));
    }
    Ok(members)
}

/// The entries of an object, in order. An error names the field in which the text stops being JSON, where there is one.
fn object(name: &str, json: &[u8]) -> Result<Vec<(String, Box<RawValue>)>, ApiError> {
    let mut field = None;
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let read = Entries { field: &mut field }.deserialize(&mut deserializer);
    let read = read.and_then(|entries| deserializer.end().map(|()| entries));
    read.map_err(|why| match field {
        Some(field) => ApiError::field(&field, "is not a JSON value"),
        None if why.is_data() => ApiError::bad(format!("{name} must be a JSON object.")),
        None => {
            ApiError::bad(format!("{name} is not valid JSON (line {}, column {}).", why.line(), why.column()))
        }
    })
}

/// Reads an object and remembers in which field it is.
struct Entries<'a> {
    field: &'a mut Option<String>,
}

impl<'de> DeserializeSeed<'de> for Entries<'_> {
    type Value = Vec<(String, Box<RawValue>)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Entries<'_> {
    type Value = Vec<(String, Box<RawValue>)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            *self.field = Some(name.clone());
            entries.push((name, map.next_value_seed(Raw)?));
            *self.field = None;
        }
        Ok(entries)
    }
}

/// A value as it was written.
struct Raw;

impl<'de> DeserializeSeed<'de> for Raw {
    type Value = Box<RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        Box::<RawValue>::deserialize(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    fn why<T: std::fmt::Debug>(result: Result<T, ApiError>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn a_body_is_an_object_or_the_error_says_where_it_is_not() {
        let table = [
            ("[]", "The body must be a JSON object."),
            ("5", "The body must be a JSON object."),
            ("{\"a\": 1", "The body is not valid JSON (line 1, column 7)."),
            ("{\"a\": 1} x", "The body is not valid JSON (line 1, column 10)."),
            ("max_budget=5", "The body is not valid JSON (line 1, column 1)."),
            ("{\"max_budget\": NaN}", "max_budget is not a JSON value"),
            ("{\"max_budget\": -Infinity}", "max_budget is not a JSON value"),
            ("{\"max_budget\": }", "max_budget is not a JSON value"),
            ("{\"a\": 1, \"b\": 2, \"a\": 1}", "a is given twice"),
            ("{\"a\": 1, \"\\u0061\": 1}", "a is given twice"),
            ("\u{feff}{}", "The body is not valid JSON (line 1, column 1)."),
        ];
        for (body, expected) in table {
            assert_eq!(why(Fields::parse(body.as_bytes())), expected, "{body}");
        }
        for body in ["", " \n", "{}"] {
            assert!(Fields::parse(body.as_bytes()).unwrap().rest().is_empty(), "{body:?}");
        }
        assert!(Fields::parse(b"{\"a\": \"\xff\"}").is_err());
    }

    #[test]
    fn amounts_are_exact_or_refused() {
        let table = [
            ("5000", Ok(5_000_000_000_000)),
            ("5000.0", Ok(5_000_000_000_000)),
            ("\"5000\"", Ok(5_000_000_000_000)),
            ("5e3", Ok(5_000_000_000_000)),
            ("0", Ok(0)),
            ("0.1", Ok(100_000_000)),
            ("0.000000001", Ok(1)),
            ("9007199254.740993001", Ok(9_007_199_254_740_993_001)),
            ("-1", Err("max_budget must not be negative")),
            ("-0.000000001", Err("max_budget must not be negative")),
            ("1e400", Err("max_budget is out of range")),
            ("9223372036.854775808", Err("max_budget is out of range")),
            ("0.0000000001", Err("max_budget has more decimal places than the smallest unit")),
            ("\"abc\"", Err("max_budget is not a decimal number")),
            ("\"NaN\"", Err("max_budget is not a decimal number")),
            ("\"\"", Err("max_budget is not a decimal number")),
            ("\"$5\"", Err("max_budget is not a decimal number")),
            ("true", Err("max_budget must be a number")),
            ("[5]", Err("max_budget must be a number")),
            ("{}", Err("max_budget must be a number")),
        ];
        for (json, expected) in table {
            let read = money("max_budget", &raw(json)).map(Nanodollars::get).map_err(|why| why.to_string());
            assert_eq!(read, expected.map_err(str::to_owned), "{json}");
        }
    }

    #[test]
    fn counts_are_whole() {
        let wrong = "rpm_limit must be a whole number, not negative";
        let table = [
            ("100", Ok(100)),
            ("0", Ok(0)),
            ("\"100\"", Ok(100)),
            ("100.0", Ok(100)),
            ("1e2", Ok(100)),
            ("9223372036854775807", Ok(i64::MAX.unsigned_abs())),
            ("9223372036854775808", Err("rpm_limit is out of range")),
            ("1.5", Err(wrong)),
            ("-1", Err(wrong)),
            ("-0.5", Err(wrong)),
            ("\"many\"", Err(wrong)),
            ("null", Err("rpm_limit must be a number")),
        ];
        for (json, expected) in table {
            let read = count("rpm_limit", &raw(json)).map_err(|why| why.to_string());
            assert_eq!(read, expected.map_err(str::to_owned), "{json}");
        }
    }

    #[test]
    fn lists_hold_texts() {
        assert_eq!(texts("models", &raw("[\"a\", \"b\"]")).unwrap(), ["a", "b"]);
        let wrong = "models must be a list of texts that are not empty";
        for json in ["\"a\"", "[1]", "[\"\"]", "[\" \"]", "[null]", "{}"] {
            assert_eq!(why(texts("models", &raw(json))), wrong, "{json}");
        }
        assert_eq!(
            why(text("key_alias", &raw("\"a\\u0000\""))),
            "key_alias must not contain control characters"
        );
        assert_eq!(why(text("key_alias", &raw("5"))), "key_alias must be a text");
    }

    #[test]
    fn null_is_not_absence() {
        let mut fields = Fields::parse(b"{\"a\": null, \"b\": 5}").unwrap();
        assert_eq!(fields.patch("a", count).unwrap(), Some(None));
        assert_eq!(fields.patch("b", count).unwrap(), Some(Some(5)));
        assert_eq!(fields.patch("c", count).unwrap(), None);
    }
}
