use super::*;
use proptest::prelude::*;
use std::fmt::Write;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Root,
    Model,
    Usage,
    Input,
    Said,
    Item,
    Deep,
}

static MODEL: Node<Field> = Node::leaf(Field::Model, Text::Keep(16));
static INPUT: Node<Field> = Node::leaf(Field::Input, Text::Skip);
static USAGE: Node<Field> = Node::object(&[("input", &INPUT)]).named(Field::Usage);
static SAID: Node<Field> = Node::leaf(Field::Said, Text::Count);
static ITEM: Node<Field> =
    Node::object(&[("model", &MODEL), ("deep", &DEEP)]).named(Field::Item).or_array(&ITEM);
static DEEP: Node<Field> = Node::leaf(Field::Deep, Text::Keep(4)).or_array(&ITEM);
static ITEMS: Node<Field> = Node::array(&ITEM);
static ROOT: Node<Field> =
    Node::object(&[("model", &MODEL), ("usage", &USAGE), ("said", &SAID), ("items", &ITEMS)])
        .named(Field::Root);

#[derive(Default)]
struct Log {
    lines: String,
    said: u64,
    members: Vec<(Field, Member)>,
}

impl Sink<Field> for Log {
    fn value(&mut self, field: Field, value: Value<'_>, _: Span) {
        writeln!(self.lines, "{field:?} {value:?}").unwrap();
    }
    fn end(&mut self, field: Field, empty: bool) {
        writeln!(self.lines, "end {field:?} {empty}").unwrap();
    }
    fn member(&mut self, field: Field, member: Member) {
        self.members.push((field, member));
    }
    fn text_seen(&mut self, _: Field, bytes: u64) {
        self.said += bytes;
    }
}

fn scan(json: &[u8]) -> Result<Log, Fault> {
    scan_in(json, json.len().max(1))
}

fn scan_in(json: &[u8], chunk: usize) -> Result<Log, Fault> {
    let mut scanner = Scanner::strict(&ROOT);
    let mut log = Log::default();
    for piece in json.chunks(chunk) {
        scanner.feed(piece, &mut log)?;
    }
    scanner.finish(&mut log)?;
    assert_eq!(scanner.offset(), json.len() as u64);
    Ok(log)
}

#[test]
fn only_the_exact_path_is_reported() {
    let json =
        br#"{"x":{"model":"decoy","usage":{"input":1}},"items":[{"usage":{"input":2},"model":"a"},[],"text"],
        "usage":{"input":-1.5e3,"other":{"input":9}},"said":"\"model\":\"decoy\"","m\u006fdel":"real"}"#;
    let log = scan(json).unwrap();
    let expected = "Root Object\nItem Object\nModel Text(\"a\")\nend Item false\nItem Array\nend Item true\n\
        Item SkippedText\nUsage Object\nInput Number(\"-1.5e3\")\nend Usage false\nSaid SkippedText\n\
        Model Text(\"real\")\nend Root false\n";
    assert_eq!(log.lines, expected);
    assert_eq!(log.said, 15);
}

#[test]
fn a_cut_anywhere_changes_nothing() {
    let json = r#"{"said":"é\u00e9 𝄞 \ud834\udd1e \ud834 x\n","model":"naïve \"q\"","usage":{"input":12.5e-3},"items":[null,true,false,{"deep":[{"deep":"long text"}]}]}"#;
    let whole = scan(json.as_bytes()).unwrap();
    for chunk in 1..json.len() {
        let cut = scan_in(json.as_bytes(), chunk).unwrap();
        assert_eq!((&cut.lines, cut.said), (&whole.lines, whole.said), "chunks of {chunk}");
        assert_eq!(cut.members, whole.members);
    }
    assert_eq!(whole.said, "éé 𝄞 𝄞 \u{fffd} x\n".len() as u64);
    assert!(whole.lines.contains("Deep LongText"));
}

#[test]
fn spans_and_commas_say_what_to_cut() {
    let json = r#"{ "a":1 , "model" : "x" ,"usage":{},"said":12}"#;
    let log = scan(json.as_bytes()).unwrap();
    let at = |text: &str| json.find(text).unwrap() as u64;
    let model = Member {
        start: at("\"model\""),
        end: at(" ,\"usage"),
        comma_before: Some(at(", \"model")),
        comma_after: Some(at(",\"usage")),
    };
    let said = Member {
        start: at("\"said"),
        end: at("}\0".trim_end_matches('\0')).max(json.len() as u64 - 1),
        comma_before: Some(at(",\"said")),
        comma_after: None,
    };
    assert_eq!(log.members[0], (Field::Model, model));
    assert_eq!(log.members[2], (Field::Said, said));
}

#[test]
fn faults_have_names() {
    use Fault::*;
    let deep = |n: usize| [b"[".repeat(n), b"]".repeat(n)].concat();
    let table: Vec<(Vec<u8>, Option<Fault>)> = vec![
        (deep(128), None),
        (deep(129), Some(Depth)),
        (b"".to_vec(), Some(Truncated)),
        (b"{".to_vec(), Some(Truncated)),
        (b"\xef\xbb\xbf{}".to_vec(), Some(Syntax(0))),
        (b"{} x".to_vec(), Some(Syntax(3))),
        (b"{} \r\n\t".to_vec(), None),
        (b"{\"a\":\"\xff\"}".to_vec(), Some(Utf8(6))),
        (b"{\"a\":\"\xc0\x80\"}".to_vec(), Some(Utf8(6))),
        (b"{\"a\":\"\xed\xa0\x80\"}".to_vec(), Some(Utf8(7))),
        (b"{\"a\":\"\xe2\x82\"}".to_vec(), Some(Utf8(8))),
        (b"{\"a\":\"\n\"}".to_vec(), Some(Syntax(6))),
        (b"{\"a\":01}".to_vec(), Some(Syntax(6))),
        (b"{\"a\":1.}".to_vec(), Some(Syntax(7))),
        (b"{\"a\":+1}".to_vec(), Some(Syntax(5))),
        (b"{\"a\":NaN}".to_vec(), Some(Syntax(5))),
        (b"{\"a\":1,}".to_vec(), Some(Syntax(7))),
        (b"[1,]".to_vec(), Some(Syntax(3))),
        (b"{'a':1}".to_vec(), Some(Syntax(1))),
        (b"{\"a\" 1}".to_vec(), Some(Syntax(5))),
        (b"[1}".to_vec(), Some(Syntax(2))),
        (b"{\"a\":\"\\x\"}".to_vec(), Some(Syntax(7))),
        (b"{\"a\":\"\\u12g4\"}".to_vec(), Some(Syntax(10))),
        (b"{\"a\":tru}".to_vec(), Some(Syntax(8))),
        (b"{\"model\":1,\"mod\\u0065l\":2}".to_vec(), Some(Duplicate("model"))),
        (b"{\"a\":1,\"a\":2}".to_vec(), None),
        (b"{\"usage\":{\"input\":1},\"items\":[{\"model\":1},{\"model\":2}]}".to_vec(), None),
        (b"7".to_vec(), None),
        (b"-".to_vec(), Some(Syntax(1))),
    ];
    for (json, expected) in table {
        assert_eq!(scan(&json).err(), expected, "{}", String::from_utf8_lossy(&json));
    }
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        any::<String>().prop_map(Into::into),
    ];
    let name = prop_oneof![Just("items".to_owned()), Just("deep".to_owned()), any::<String>()];
    leaf.prop_recursive(6, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Into::into),
            prop::collection::vec((name.clone(), inner), 0..8)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_serde_writes_is_accepted(value in json(), chunk in 1_usize..40, pretty: bool) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
        prop_assert!(scan_in(text.unwrap().as_bytes(), chunk).is_ok());
    }

    #[test]
    fn a_spoiled_text_is_judged_as_serde_judges_it(value in json(), at: prop::sample::Index, byte: u8, chunk in 1_usize..40) {
        let mut text = serde_json::to_vec(&value).unwrap();
        let at = at.index(text.len());
        text[at] = byte;
        let ours = scan_in(&text, chunk);
        // serde_json refuses lone surrogates and numbers beyond f64; JSON's grammar does not, and neither do providers.
        match serde_json::from_slice::<serde_json::Value>(&text) {
            Ok(_) => prop_assert!(ours.is_ok(), "{}", String::from_utf8_lossy(&text)),
            Err(error) => {
                let lenient = error.to_string().contains("surrogate") || error.to_string().contains("number out of range")
                    || error.to_string().contains("unexpected end of hex escape");
                prop_assert!(lenient || ours.is_err(), "{error}: {}", String::from_utf8_lossy(&text));
            }
        }
    }

    #[test]
    fn plain_runs_stop_at_the_first_special_byte(bytes: Vec<u8>) {
        let is_plain = |b: &&u8| (0x20..0x80).contains(*b) && **b != b'"' && **b != b'\\';
        let expected = bytes.iter().take_while(is_plain).count();
        // A run may stop early at a word's edge, and must never go too far or stand still before a plain byte.
        let run = text::plain_run(&bytes);
        prop_assert!(run <= expected);
        prop_assert_eq!(run == 0, expected == 0);
    }
}
